"""Scenarios over emulated links: how old the picture is, and how many frames a second come through."""

import math
import time
from dataclasses import dataclass

from rig import Camera, Link, load_result
from table import Report, median, number

SMALL, LARGE = Camera(frames="720p"), Camera(frames="large")
SETTLED_FOR = 1.0  # seconds that an age must hold to count as steady


@dataclass(frozen=True)
class Way:
    rate: float  # Mbit/s
    round_trip: float  # ms
    queue: int  # packets
    camera: Camera

    def __str__(self):
        kilobytes = 150 if self.camera is LARGE else 80
        return f"{self.rate:g} Mbit/s, {self.round_trip:g} ms, {kilobytes} KB"


WAYS = {
    "12": Way(12, 10, 300, LARGE),
    "30": Way(30, 10, 300, LARGE),
    "long": Way(30, 100, 600, LARGE),
    "2": Way(2, 10, 100, SMALL),
    "1": Way(1, 10, 100, SMALL),
}


def watch(bench, way, system, seconds, warm, options=(), at_start=None):
    """One viewer at the end of a link of its own; `at_start` gets the link when the window begins."""
    rig = bench.rig
    with Link(rig, way.rate, way.round_trip, way.queue) as link:
        place = {"host": link.host, "space": link.server}
        with rig.start(system, way.camera, **place) as server:
            begin = (lambda: at_start(link)) if at_start else None
            load = rig.viewers(server, 1, seconds, warm, link.viewer, options, begin)
            result = load_result(load)
            # By bytes, for the window has only a few whole frames of a slow link.
            result["rate"] = result["bytes"] / result["seconds"] / rig.frame_bytes(way.camera)
            rig.check_frames(result, f"{system}, {way}")
            return result


def age(bench):
    """Age of the picture and frames a second over emulated links, one viewer"""
    report = Report("age", age.__doc__)
    systems = "pistream", "ustreamer", "limit"
    ways = {key: WAYS[key] for key in (("12", "long") if bench.quick else WAYS)}
    for round_ in range(bench.rounds):
        for key, way in ways.items():
            for system in systems:
                # A slow link takes a while to fill its queues, and gives few frames.
                slow = way.rate <= 2
                result = watch(bench, way, system, bench.window(8 if slow else 5), 5 if slow else 2)
                report.add(key, system, round_, result)
    rows = []
    for key, way in ways.items():
        for system in systems:
            rows.append([str(way), system, number(report.median(key, system, "age"), 0),
                         number(report.median(key, system, "age_p99"), 0),
                         number(report.median(key, system, "rate"), 1),
                         number(report.ratio(key, system, "ustreamer", "age")),
                         number(report.ratio(key, system, "ustreamer", "rate"))])
    report.table(["link, round trip, frame", "system", "age ms", "p99", "frames/s", "age, x ustreamer",
                  "rate"], rows)
    for key, limit in ("12", 160), ("30", 80), ("1", 1400):
        if key in ways:
            report.target(f"age in ms, {ways[key]}", report.median(key, "pistream", "age"), limit, digits=0)
    for key, least in ("12", 0.97), ("30", 0.97), ("long", 0.9):
        if key in ways:
            ratio = report.ratio(key, "pistream", "ustreamer", "rate")
            report.target(f"rate, x ustreamer's, {ways[key]}", ratio, least, ">=")
    if "long" in ways:
        ratio = report.ratio("long", "pistream", "ustreamer", "age")
        report.target(f"age, x ustreamer's, {ways['long']}", ratio, 0.5)
    report.note("Queue of the emulated router: 300 packets, 600 for the long way, 100 for the two slowest. "
                "30 frames/s come from the camera.")
    return report


def settled_after(frames, steady):
    """Seconds until the age is at most 1.5 times its steady value, and stays so for a while."""
    begin, within = None, False
    for at, frame_age in frames:
        good = frame_age <= 1.5 * steady
        if good and not within:
            begin = at
        within = good
        if within and at - begin >= SETTLED_FOR:
            return begin
    return begin if within else None


def phases_of(path, seconds, count):
    """From the viewer's log: what each phase was like."""
    frames = [line.split() for line in open(path)]
    frames = [(float(words[0]), float(words[3])) for words in frames]
    found = []
    for i in range(count):
        mine = [(at - i * seconds, frame_age) for at, frame_age in frames if 0 <= at - i * seconds < seconds]
        late = [frame_age for at, frame_age in mine if at >= seconds / 2]
        steady = median(late)
        found.append({"age": steady, "worst": max((a for _, a in mine), default=None),
                      "fps": len(late) / (seconds / 2), "settled": settled_after(mine, steady) if late else None})
    return found


def change(bench):
    """A link whose rate changes while it is watched, 10 ms round trip, 80 KB frames"""
    report = Report("change", change.__doc__)
    rates, seconds = (30, 2, 30, 8), 3.0 if bench.quick else 7.0
    systems = "pistream", "ustreamer"
    way = Way(rates[0], 10, 300, SMALL)

    def change_rates(link):
        # The window began just now, and the viewer's log counts from there.
        began = time.monotonic()
        for i, rate in enumerate(rates[1:], 1):
            time.sleep(began + i * seconds - time.monotonic())
            link.set_rate(rate)

    for round_ in range(bench.rounds):
        for system in systems:
            log = bench.rig.folder / f"change-{system}"
            watch(bench, way, system, len(rates) * seconds, 2, ["-l", log], change_rates)
            for i, phase in enumerate(phases_of(log, seconds, len(rates))):
                report.add(i, system, round_, phase)
    rows = []
    for i, rate in enumerate(rates):
        for system in systems:
            settled = number(report.median(i, system, "settled"), 1)
            rows.append([f"{i + 1}: {rate} Mbit/s", system, number(report.median(i, system, "age"), 0),
                         number(report.median(i, system, "fps"), 1),
                         number(report.median(i, system, "worst"), 0), settled])
    report.table(["phase", "system", "age ms", "frames/s", "worst age ms", "s to settle"], rows)
    report.note(f"A phase lasts {seconds:g} s; age and rate are those of its second half. Settled: the age is at "
                f"most 1.5 x that for {SETTLED_FOR:g} s.")
    return report


def curve(bench):
    """The gate's curve: age over the rate of the link (80 KB frames) and its round trip (150 KB)"""
    report = Report("curve", curve.__doc__)
    systems = "pistream", "limit"
    rates = (12,) if bench.quick else (1, 2, 4, 8, 12, 20, 30, 50)
    trips = (100,) if bench.quick else (2, 10, 30, 100, 200)
    ways = [("rate", Way(rate, 10, 100 if rate <= 2 else 300, SMALL)) for rate in rates]
    # With small frames nothing would wait on 30 Mbit/s, and there would be no curve.
    ways += [("trip", Way(30, trip, 600 if trip >= 100 else 300, LARGE)) for trip in trips]
    for round_ in range(bench.rounds):
        for axis, way in ways:
            for system in systems:
                slow = way.rate <= 2
                result = watch(bench, way, system, bench.window(6 if slow else 2), 3 if slow else 1)
                report.add(f"{axis} {way}", system, round_, result)
    rows, points = [], {"rate": [], "trip": []}
    for axis, way in ways:
        case = f"{axis} {way}"
        ages = [report.median(case, system, "age") for system in systems]
        fps = [report.median(case, system, "rate") for system in systems]
        rows.append([way.rate, way.round_trip, *(number(a, 0) for a in ages), *(number(f, 1) for f in fps)])
        points[axis].append((way.rate if axis == "rate" else way.round_trip, *ages))
    report.table(["Mbit/s", "round trip ms", "age ms", "of the limit", "frames/s", "of the limit"],
                 [[number(row[0], 0), number(row[1], 0), *row[2:]] for row in rows])
    file = bench.rig.target / "curve.svg"
    file.write_text(svg(points))
    report.note(f"The limit here has no gate: what the kernel does by itself. Drawn in {file.name} beside the "
                "results.")
    return report


def svg(points):
    """Two drawings side by side: age over rate and over round trip, both axes in powers."""
    labels = {"rate": "Mbit/s (10 ms round trip, 80 KB)", "trip": "round trip in ms (30 Mbit/s, 150 KB)"}
    colours = ("#06c", "pistream"), ("#c60", "no gate")
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="840" height="360" font-family="sans-serif" '
           'font-size="12">', '<rect width="840" height="360" fill="white"/>']
    top = max(max(p[1:]) for drawn in points.values() for p in drawn)
    low = min(min(p[1:]) for drawn in points.values() for p in drawn)

    def place(value, least, most, size):
        return size * math.log(value / least) / math.log(most / least)

    for number_, (axis, drawn) in enumerate(points.items()):
        left, bottom, wide, high = 60 + 420 * number_, 310, 330, 270
        least, most = drawn[0][0], max(drawn[-1][0], drawn[0][0] + 1)
        out.append(f'<path d="M{left} {bottom - high}V{bottom}H{left + wide}" fill="none" stroke="#888"/>')
        out.append(f'<text x="{left + wide / 2}" y="345" text-anchor="middle">{labels[axis]}</text>')
        for mark in (10, 20, 50, 100, 200, 500, 1000, 2000):
            if low <= mark <= top:
                y = bottom - place(mark, low, top, high)
                out.append(f'<path d="M{left} {y:.0f}h{wide}" stroke="#ddd"/>')
                out.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{mark}</text>')
        for x_value, *_ in drawn:
            x = left + place(x_value, least, most, wide)
            out.append(f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{x_value:g}</text>')
        for i, (colour, name) in enumerate(colours, 1):
            line = [f"{left + place(p[0], least, most, wide):.0f},{bottom - place(p[i], low, top, high):.0f}"
                    for p in drawn]
            out.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out.append(f'<text x="{left + wide - 60}" y="{30 + 16 * i}" fill="{colour}">{name}</text>')
        out.append(f'<text x="{left}" y="24">age of the picture in ms</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


SCENARIOS = [age, change, curve]
