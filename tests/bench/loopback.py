"""Scenarios over the loopback: what serving costs, in processor time, memory and system calls."""

from rig import Camera
from table import Report, number

SYSTEMS = "limit", "pistream", "ustreamer"
MEBI = 1 << 10  # of KiB


def common_rate(bench, report, n):
    """The highest rate at which neither the load's core nor the limit's is the bottleneck."""
    for fps in 30, 15, 10, 5:
        camera = Camera(fps=fps)
        full = []
        for system in SYSTEMS:
            with bench.rig.start(system, camera) as server:
                probe = bench.rig.measure(server, n, 1.5, 0.5, options=["-F"])
            if probe["client_percent"] > 90:
                full.append("the load")
            elif system == "limit" and probe["core_busy"] > 95:
                full.append("the limit")
        if not full:
            return fps
        report.note(f"{n} viewers at {fps} frames/s: {full[0]} has no processor time left; less for all.")
    return fps


def cpu(bench):
    """CPU of the server at 0 to 1000 viewers, 1280x720 pass-through"""
    report = Report("cpu", cpu.__doc__)
    counts = (0, 10, 100) if bench.quick else (0, 1, 10, 100, 500, 1000)
    rates = {n: common_rate(bench, report, n) if n >= 500 else 30 for n in counts}
    for round_ in range(bench.rounds):
        for n in counts:
            for system in SYSTEMS:
                with bench.rig.start(system, Camera(fps=rates[n])) as server:
                    result = bench.rig.measure(server, n, bench.window(4), 1.0, options=["-F"])
                    result["rss"] = server.memory()["rss"]
                if n:
                    bench.rig.check_frames(result, f"{system}, {n} viewers")
                report.add(n, system, round_, result)
    rows = []
    for n in counts:
        for system in SYSTEMS:
            def middle(key):
                return report.median(n, system, key)
            full = middle("core_busy") > 97
            rows.append([
                n, rates[n], system, number(middle("fps_med")) if n else "-",
                number(middle("fps_min")) if n else "-", number(middle("percent")) + (" full" if full else ""),
                number(middle("cpu_per_gb"), 3), number(report.ratio(n, system, "limit", "cpu_per_gb")),
                number(middle("age")) if n else "-", number(middle("rss") / MEBI, 1),
                number(middle("client_percent"), 0)])
    report.table(["viewers", "rate", "system", "frames/s", "least", "core %", "s/GB", "x limit", "age ms",
                  "RSS MiB", "load %"], rows)
    for n in counts:
        if n >= 10:
            ratio = report.ratio(n, "pistream", "limit", "cpu_per_gb")
            report.target(f"CPU at {n} viewers, x limit", ratio, 1.15 if n >= 100 else 1.3)
        if n >= 100:
            ratio = report.ratio(n, "pistream", "ustreamer", "cpu_per_gb")
            report.target(f"CPU at {n} viewers, x ustreamer", ratio, 0.3)
    age = [report.median(10, system, "age") for system in ("pistream", "limit")]
    report.target("age at 10 viewers, ms above the limit's", age[0] - age[1], 1)
    if 1000 in counts:
        whole = report.median(1000, "pistream", "fps_min") / 30
        report.target("least rate of 1000 viewers on one core, of 30/s", whole, 0.97, ">=")
    report.note("core %: of one core, on which the server is; 'full' when nothing of it is left. s/GB: CPU "
                "seconds per GB delivered.")
    report.note("load %: of the other core, used by all the viewers together.")
    disturbed = [v for v in report.values if v["foreign"] >= 0.1]
    if disturbed:
        report.note(f"{len(disturbed)} of {len(report.values)} windows had other work on the server's core.")
    return report


SCENARIOS = [cpu]
