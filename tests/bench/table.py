"""Tables, medians, and the targets that a scenario is held against."""

import statistics
import textwrap


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def number(value, digits=2):
    """A cell; a dash for what was not measured."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.{digits}f}"


class Report:
    """What a scenario has found: tables for people, values for programs."""

    def __init__(self, name, title):
        self.name, self.title = name, title
        self.tables, self.notes, self.targets, self.values, self.ratios = [], [], [], [], {}

    def add(self, case, system, round_, result):
        """A single value, kept as it is."""
        self.values.append({"case": case, "system": system, "round": round_, **result})

    def of(self, case, system, key):
        """One measured quantity of all rounds, in their order."""
        chosen = [v for v in self.values if v["case"] == case and v["system"] == system]
        return [v.get(key) for v in chosen]

    def median(self, case, system, key):
        return median(self.of(case, system, key))

    def ratio(self, case, system, other, key):
        """The median of the ratios within each round."""
        pairs = zip(self.of(case, system, key), self.of(case, other, key))
        value = median([a / b for a, b in pairs if a is not None and b])
        self.ratios[str(case), system, other, key] = value
        return value

    def medians(self):
        """Of everything that was measured."""
        cases = dict.fromkeys((value["case"], value["system"]) for value in self.values)
        found = []
        for case, system in cases:
            mine = [v for v in self.values if (v["case"], v["system"]) == (case, system)]
            numbers = [key for key, value in mine[0].items() if isinstance(value, (int, float))]
            keys = [key for key in numbers if key not in ("case", "round")]
            found.append({"case": case, "system": system} | {key: median([v.get(key) for v in mine]) for key in keys})
        return found

    def table(self, columns, rows, caption=None):
        self.tables.append({"caption": caption, "columns": columns, "rows": rows})

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def target(self, what, value, limit, relation="<=", digits=2):
        """Holds a value, as it is shown, against its limit; a value that was not measured misses it."""
        shown = value if value is None else round(value, digits)
        met = shown is not None and (shown <= limit if relation == "<=" else shown >= limit)
        self.targets.append({"what": what, "value": value, "relation": relation, "limit": limit, "met": met,
                             "digits": digits})

    def text(self):
        lines = [f"## {self.name}: {self.title}", ""]
        for table in self.tables:
            if table["caption"]:
                lines += [table["caption"], ""]
            lines += draw(table["columns"], table["rows"]) + [""]
        if self.targets:
            rows = [[t["what"], number(t["value"], t["digits"]), f"{t['relation']} {t['limit']:g}",
                     "met" if t["met"] else "**MISSED**"] for t in self.targets]
            lines += draw(["target", "measured", "limit", ""], rows) + [""]
        notes = [textwrap.fill(note, 98, initial_indent="- ", subsequent_indent="  ") for note in self.notes]
        return "\n".join(lines + notes + [""] * bool(notes))

    def data(self):
        ratios = [{"case": case, "system": system, "to": other, "of": key, "ratio": value}
                  for (case, system, other, key), value in self.ratios.items()]
        return {"title": self.title, "targets": self.targets, "notes": self.notes, "tables": self.tables,
                "medians": self.medians(), "ratios": ratios, "values": self.values}


def draw(columns, rows):
    """A Markdown table, aligned; numbers to the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]
    right = [all(row[i][:1] in "-0123456789" for row in rows) for i in range(len(columns))]

    def line(cells):
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right)) + "|"
    return [line(columns), rule, *map(line, rows)]
