"""Scenarios over the loopback: what serving costs, in processor time, memory and system calls."""

import json
import re
import signal
import subprocess
import time

from rig import FOREIGN_MAX, Camera, Failure, load_result
from table import Report, number

SYSTEMS = "limit", "pistream", "ustreamer"
MEBI = 1 << 10  # of KiB


def common_rate(bench, report, n, spared=("limit",)):
    """The highest rate at which neither the load's core nor that of the spared systems is the bottleneck."""
    for fps in 30, 15, 10, 5:
        camera = Camera(fps=fps)
        full = []
        for system in SYSTEMS:
            with bench.rig.start(system, camera) as server:
                probe = bench.rig.measure(server, n, 1.5, 0.5, options=["-F"])
            if probe["client_percent"] > 90:
                full.append("the load's core")
            elif system in spared and probe["core_busy"] > 90:
                full.append(f"{system}'s core")
        if not full:
            return fps
        report.note(f"{n} viewers at {fps} frames/s: {full[0]} has little or no time left; less for all.")
    return fps


def systems_at(n):
    """At ten viewers also ustreamer without Nagle's algorithm, for its age."""
    return (*SYSTEMS, "ustreamer_nodelay") if n == 10 else SYSTEMS


def systems_in(round_, rounds, n):
    """The ratio to the limit is near 1: it takes more rounds to know it than that to a peer, and most with a
    crowd, where rounds differ by a tenth."""
    if round_ < rounds:
        return systems_at(n)
    return SYSTEMS[:2] if round_ < (4 if n >= 100 else 2 if n >= 10 else 1) * rounds else ()


def cpu(bench):
    """CPU of the server at 0 to 1000 viewers, 1280x720 pass-through"""
    report = Report("cpu", cpu.__doc__)
    counts = (0, 10, 100) if bench.quick else (0, 1, 10, 100, 500, 1000)
    rates = {n: common_rate(bench, report, n) if n >= 500 else 30 for n in counts}
    for round_ in range(bench.rounds if bench.quick else 4 * bench.rounds):
        for n in counts:
            systems = systems_in(round_, bench.rounds, n)
            # Forth and back, so that what drifts favours nobody.
            for system in systems if round_ % 2 == 0 else systems[::-1]:
                with bench.rig.start(system, Camera(fps=rates[n])) as server:
                    result = bench.rig.measure(server, n, bench.window(3), 1.0, options=["-F"])
                    result["rss"] = server.memory()["rss"]
                if n:
                    bench.rig.check_frames(result, f"{system}, {n} viewers")
                report.add(n, system, round_, result)
    rows = []
    for n in counts:
        for system in systems_at(n):
            def middle(key):
                return report.median(n, system, key)
            full = max(report.of(n, system, "percent")) > 95
            rows.append([
                n, system.replace("ustreamer_", "with "), number(middle("fps_med")) if n else "-",
                number(middle("fps_min")) if n else "-", number(middle("percent")) + (" full" if full else ""),
                number(middle("cpu_per_gb"), 3), number(report.ratio(n, system, "limit", "cpu_per_gb")),
                number(middle("age")) if n else "-", number(middle("rss") / MEBI, 1),
                number(middle("client_percent"), 0)])
    report.table(["viewers", "system", "frames/s", "least", "core %", "s/GB", "x limit", "age ms",
                  "MiB", "load"], rows)
    for n in counts:
        if n >= 10:
            ratio = report.ratio(n, "pistream", "limit", "cpu_per_gb")
            report.target(f"CPU at {n} viewers, x limit", ratio, 1.15 if n >= 100 else 1.3)
    ratio = report.ratio(100, "pistream", "ustreamer", "cpu_per_gb")
    report.target("CPU at 100 viewers, x ustreamer", ratio, 0.3)
    age = [report.median(10, system, "age") for system in ("pistream", "limit")]
    report.target("age at 10 viewers, ms above the limit's", age[0] - age[1], 1)
    if 1000 in counts:
        whole = report.median(1000, "pistream", "fps_min") / 30
        report.target("least rate of 1000 viewers on one core, of 30/s", whole, 0.97, ">=")
    report.note("core %: of the core on which the server is; 'full' when nothing of it was left in a round.")
    report.note("s/GB: CPU seconds per GB delivered. x limit: the median of the ratios within each round.")
    report.note("MiB: RSS. load: percent of the other core that all viewers together use.")
    disturbed = [v for v in report.values if v["foreign"] >= FOREIGN_MAX]
    if disturbed:
        report.note(f"{len(disturbed)} of {len(report.values)} windows had other work on the server's core.")
    return report


def unsaturated(bench):
    """CPU of the server for a crowd, at the highest rate that leaves time on every server's core"""
    report = Report("unsaturated", unsaturated.__doc__)
    counts = (500,) if bench.quick else (500, 1000)
    rates = {n: common_rate(bench, report, n, SYSTEMS) for n in counts}
    for round_ in range(bench.rounds):
        for n in counts:
            for system in SYSTEMS if round_ % 2 == 0 else SYSTEMS[::-1]:
                with bench.rig.start(system, Camera(fps=rates[n])) as server:
                    result = bench.rig.measure(server, n, bench.window(4), 1.0, options=["-F"])
                bench.rig.check_frames(result, f"{system}, {n} viewers")
                report.add(n, system, round_, result)
    rows = []
    for n in counts:
        for system in SYSTEMS:
            keys = ("fps_med", 2), ("fps_min", 2), ("percent", 2), ("cpu_per_gb", 3)
            rows.append([n, f"{rates[n]}", system, *(number(report.median(n, system, key), d) for key, d in keys),
                         number(report.ratio(n, system, "limit", "cpu_per_gb"))])
        ratio = report.ratio(n, "pistream", "ustreamer", "cpu_per_gb")
        report.target(f"CPU at {n} viewers, x ustreamer", ratio, 0.3)
    report.table(["viewers", "rate", "system", "frames/s", "least", "core %", "s/GB", "x limit"], rows)
    return report


def encode(bench):
    """CPU of the server for raw frames that it must encode: YUYV 640x480, quality 80, one viewer"""
    report = Report("encode", encode.__doc__)
    camera = Camera(frames="", format="YUYV", size="640x480")
    systems = "pistream", "ustreamer"
    for round_ in range(2 * bench.rounds):
        for system in systems if round_ % 2 == 0 else systems[::-1]:
            with bench.rig.start(system, camera, ["--quality", "80"]) as server:
                # -D: the stamp is read from the decoded picture, so the frames are whole and the right ones.
                result = bench.rig.measure(server, 1, bench.window(4), 1, options=["-D"])
            bench.rig.check_frames(result, system)
            result["kb_per_frame"] = result["bytes"] / result["frames"] / 1000
            result["ms_per_frame"] = result["cpu"] / result["frames"] * 1000
            report.add(1, system, round_, result)
    rows = []
    for system in systems:
        keys = ("fps_med", 1), ("kb_per_frame", 1), ("percent", 1), ("ms_per_frame", 2), ("age", 1)
        ratio = report.ratio(1, system, "ustreamer", "ms_per_frame")
        rows.append([system, *(number(report.median(1, system, key), digits) for key, digits in keys), number(ratio)])
    report.table(["system", "frames/s", "KB a frame", "core %", "CPU ms a frame", "age ms", "x ustreamer"], rows)
    report.target("CPU a frame, x ustreamer", report.ratio(1, "pistream", "ustreamer", "ms_per_frame"), 0.9)
    report.note("The same number of quality in both. pistream stretches the camera's range of 16 to 235 to that of JPEG, "
                "which makes more contrast and more bytes.")
    return report


def hold(bench, server, kind, count):
    """Viewers that do not read any more: what the kernel holds for each, when the server closes them, and
    what stays behind then."""
    samples, reading = [], STOP_AFTER if kind == "-y" else 0
    seconds = 13 + reading

    def sample():
        began = time.monotonic()
        while time.monotonic() - began < seconds - 0.5:
            sockets = server.sockets()
            alive = [s["queued"] for s in sockets if s["state"] == "ESTAB"]
            rest = sum(s["queued"] for s in sockets if s["state"] != "ESTAB")
            samples.append((time.monotonic() - began, alive, rest))
            time.sleep(0.2)

    bench.rig.viewers(server, 0, seconds, 0, at_start=sample, options=[kind, count, "-z", STOP_AFTER])
    most = max((sum(alive) / len(alive) for _, alive, _ in samples if len(alive) >= count / 2), default=None)
    closed = next((at for at, alive, _ in samples if len(alive) <= count / 2), None)
    return {"kernel_each": most and most / 1024, "closed": closed and closed - reading,
            "left_each": samples[-1][2] / count / 1024}


STOP_AFTER = 2  # seconds that a viewer reads before it stops
HOLDS = {"20 never read": "-x", "20 stop reading": "-y"}


def memory(bench):
    """Memory of the server, and what the kernel holds for it, MJPG 1280x720"""
    report = Report("memory", memory.__doc__)
    systems = "pistream", "ustreamer"
    counts = (0, 100) if bench.quick else (0, 100, 1000)
    for round_ in range(bench.rounds):
        for system in systems:
            for n in counts:
                with bench.rig.start(system) as server:
                    report.add(str(n), system, round_, memory_at(bench, server, n))
            # These take a while and hardly vary.
            for case, kind in HOLDS.items():
                if round_ or (bench.quick and (system, kind) != ("pistream", "-x")):
                    continue
                with bench.rig.start(system) as server:
                    report.add(case, system, round_, hold(bench, server, kind, 20) | server.memory())
    rows = []
    for case in dict.fromkeys(value["case"] for value in report.values):
        for system in systems:
            def middle(key, unit, digits):
                value = report.median(case, system, key)
                return number(value if value is None else value / unit, digits)
            rows.append([case, system, middle("rss", MEBI, 1), middle("pss", MEBI, 1), middle("anonymous", MEBI, 1),
                         middle("kernel_each", 1, 0), middle("closed", 1, 1), middle("left_each", 1, 0)])
    report.table(["viewers", "system", "RSS MiB", "PSS", "anonymous", "kernel KiB each", "closed after s",
                  "left KiB"], rows)
    for n, limit in (0, 4), (100, 6), (1000, 12):
        if n in counts:
            report.target(f"RSS at {n} viewers, MiB", report.median(str(n), "pistream", "rss") / MEBI, limit)
    never = next(iter(HOLDS))
    report.target("kernel KiB for a viewer that never reads", report.median(never, "pistream", "kernel_each"), 256,
                  digits=0)
    report.target("seconds until it is closed", report.median(never, "pistream", "closed"), 11, digits=1)
    report.note("Without the mappings of the preloaded camera. Kernel: what it holds for sending (w of skmem in "
                "ss), the mean of the viewers, the most that was seen; left: two seconds after the close.")
    return report


def memory_at(bench, server, n):
    """With n viewers that read."""
    seen = {}

    def sample():
        time.sleep(bench.window(2) - 0.5)
        queued = [s["queued"] for s in server.sockets() if s["state"] == "ESTAB"]
        seen.update(server.memory(), kernel_each=sum(queued) / len(queued) / 1024 if queued else None)

    if n:
        load = bench.rig.viewers(server, n, bench.window(2), 1, at_start=sample, options=["-F"])
        bench.rig.check_frames(load_result(load), f"{server.name}, {n} viewers")
    else:
        sample()
    return seen


def traced(bench, server, seconds):
    """System calls of the server's own threads a second, by name."""
    file = bench.rig.folder / "strace"
    threads = [word for tid in server.threads() for word in ("-p", tid)]
    # Being attached interrupts what waits, so the first moments are not of the window.
    lead = 0.5
    command = ["strace", "-q", "-ttt", "-s", "0", "-e", "raw=all", "-o", file, *threads]
    tracer = bench.rig.spawn(command, bench.rig.load_core, stderr=subprocess.DEVNULL)
    begin = time.time() + lead
    time.sleep(lead + seconds)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(5)
    found = {}
    for line in file.read_text().splitlines():
        # "THREAD TIME name(…", or "<... name resumed" of a call that is counted already.
        began = re.match(r"\d+ +(\d+\.\d+) (\w+)\(", line)
        if began and begin <= float(began[1]) < begin + seconds:
            found[began[2]] = found.get(began[2], 0) + 1
    return {name: count / seconds for name, count in found.items()}


def calls(bench):
    """System calls and wake-ups of the server, MJPG 1280x720 at 30 frames a second"""
    report = Report("calls", calls.__doc__)
    counts, systems = (0, 1, 8), ("pistream",) if bench.quick else ("pistream", "ustreamer")
    options = {"pistream": ["--idle-off", "1s"], "ustreamer": []}
    for round_ in range(bench.rounds):
        for n in counts:
            for system in systems:
                with bench.rig.start(system, options=options[system]) as server:
                    report.add(n, system, round_, calls_at(bench, server, n))
    rows = []
    for n in counts:
        for system in systems:
            per_second = report.median(n, system, "calls")
            rows.append([n, system, number(per_second, 1), number(per_second / 30 if n else None),
                         number(report.median(n, system, "switches"), 1)])
    report.table(["viewers", "system", "calls a second", "a frame", "wake-ups a second"], rows)
    one, eight = (report.median(n, "pistream", "calls") / 30 for n in (1, 8))
    report.target("calls a second with nobody watching", report.median(0, "pistream", "calls"), 0, digits=1)
    report.target("calls a frame with one viewer", one, 8, digits=1)
    report.target("calls a frame for each further viewer", (eight - one) / 7, 2, digits=2)
    last = next(v for v in reversed(report.values) if v["case"] == 1 and v["system"] == "pistream")
    names = ", ".join(f"{name} {rate / 30:.1f}" for name, rate in sorted(last["by_name"].items()))
    report.note(f"Of pistream with one viewer, a frame: {names}.")
    report.note("The preloaded camera turns VIDIOC_QBUF into work in memory and VIDIOC_DQBUF into a recvfrom; with a "
                "real camera add one ioctl a frame. Its thread is left out.")
    report.note("Nobody watches: three seconds after the last viewer; pistream with --idle-off 1s.")
    return report


def calls_at(bench, server, n):
    """With n viewers; wake-ups are counted first, for strace makes more of them."""
    seconds = 2.0 if bench.quick else 10.0 if server.name == "pistream" and not n else 3.0
    seen = {}

    def sample():
        before = server.switches()
        time.sleep(seconds)
        seen["switches"] = (server.switches() - before) / seconds
        seen["by_name"] = traced(bench, server, seconds)
        seen["calls"] = sum(seen["by_name"].values())

    if n:
        load = bench.rig.viewers(server, n, 2 * seconds + 2, 1, at_start=sample, options=["-F"])
        bench.rig.check_frames(load_result(load), f"{server.name}, {n} viewers")
    else:
        bench.rig.viewers(server, 1, 0.5, 0.2)
        time.sleep(3)
        sample()
    return seen


def crowd(bench):
    """Five viewers that read, alone and beside 20 slow, 20 stuck and 100 coming and going a second"""
    report = Report("crowd", crowd.__doc__)
    systems = "pistream", "ustreamer"
    cases = {"alone": [], "in the crowd": ["-s", 20, "-r", 1000, "-x", 20, "-c", 100]}
    for round_ in range(bench.rounds):
        for case, options in cases.items():
            for system in systems:
                with bench.rig.start(system) as server:
                    load = bench.rig.viewers(server, 5, bench.window(6), 1, options=options)
                result = load_result(load)
                bench.rig.check_frames(result, f"{system} {case}")
                result["slow_fps"] = load["slow"]["fps_med"] if options else None
                result["churn_failed"] = load["churn"]["failed"] if options else None
                report.add(case, system, round_, result)
    rows = []
    for case in cases:
        for system in systems:
            failed = report.median(case, system, "churn_failed")
            rows.append([case, system, number(report.median(case, system, "fps_med")),
                         number(report.median(case, system, "fps_min")), number(report.median(case, system, "age"), 1),
                         number(report.median(case, system, "age_p99"), 1),
                         number(report.median(case, system, "slow_fps"), 1), number(failed, 0)])
    report.table(["five viewers", "system", "frames/s", "least", "age ms", "p99", "slow frames/s",
                  "failed visits"], rows)
    alone, beside = (report.median(case, "pistream", "fps_min") for case in cases)
    report.target("least rate in the crowd, x alone", beside / alone, 0.95, ">=")
    return report


def scaled(bench):
    """A viewer of the whole picture, alone and beside viewers of smaller ones, MJPG 1280x720, all on one core"""
    report = Report("scaled", scaled.__doc__)
    cases = {"alone": (), "beside 640": (640,), "beside 160, 320, 640, 960": (160, 320, 640, 960)}
    for round_ in range(bench.rounds):
        for case, widths in cases.items():
            with bench.rig.pistream() as server:
                report.add(case, "pistream", round_, beside(bench, server, widths))
    rows = []
    for case in cases:
        keys = ("fps_med", 2), ("age", 2), ("age_p99", 1), ("percent", 1), ("small_fps", 1)
        rows.append([case, *(number(report.median(case, "pistream", key), digits) for key, digits in keys)])
    report.table(["the viewer is", "frames/s", "age ms", "p99", "core %", "least rate of the small"], rows)
    last = list(cases)[-1]
    rates, ages = ([report.median(case, "pistream", key) for case in ("alone", last)] for key in ("fps_med", "age"))
    report.target("rate beside four sizes, x alone", rates[1] / rates[0], 0.97, ">=")
    report.target("age beside four sizes, ms more than alone", ages[1] - ages[0], 1)
    return report


def beside(bench, server, widths):
    """One viewer's window while others see smaller pictures."""
    window = bench.window(5)
    command = [bench.rig.target / "viewers", "-h", server.host, "-p", server.port, "-n", 1, "-t", window, "-w", 1.5]
    small = [bench.rig.spawn([*command, "-u", f"{server.path}?width={width}"], bench.rig.load_core,
                             stdout=subprocess.PIPE, text=True) for width in widths]
    result = bench.rig.measure(server, 1, window, 1.5, tries=1)
    bench.rig.check_frames(result, f"a viewer beside {widths}")
    loads = [json.loads(process.communicate()[0].splitlines()[-1])["normal"] for process in small]
    if any(load["bad"] or load["failed"] for load in loads):
        raise Failure(f"smaller pictures: {loads}")
    result["small_fps"] = min((load["fps_min"] for load in loads), default=None)
    return result


SCENARIOS = [cpu, unsaturated, encode, memory, calls, crowd, scaled]
