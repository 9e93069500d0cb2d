"""The trial below the limit: frames that are sent by reference instead of being copied by the kernel."""

import re
import socket
import time

from rig import Camera, Failure, Link
from table import Report, number

WAYS = "writev", "sendfile", "splice", "zerocopy"
STAMP_COM = 4 + 37  # bytes of the segment that stamp.h puts behind SOI


def options_of(way):
    # Each frame is copied once: into its memory file, or into memory of its own.
    return ["--by", way, "--copy"]


def late_reader(bench, options):
    """Asks, does not read for a while, then reads; how many frames came and how many of them were not as
    they had been when they were sent."""
    camera = Camera()
    files = sorted((bench.rig.target / camera.frames).glob("*.jpg"))
    frames = [file.read_bytes()[2:] for file in files]
    with bench.rig.limit(camera, options) as server:
        with socket.create_connection((server.host, server.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            time.sleep(2)
            connection.settimeout(5)
            got, end = b"", time.monotonic() + 0.5
            while time.monotonic() < end:
                got += connection.recv(1 << 20)
    came = wrong = 0
    for part in re.finditer(rb"Content-Length: (\d+)\r\n\r\n", got):
        frame = got[part.end():part.end() + int(part[1])]
        if len(frame) == int(part[1]):
            number_ = int(re.search(rb"BENCH (\d{10})", frame)[1])
            came += 1
            wrong += frame[2 + STAMP_COM:] != frames[number_ % len(frames)]
    if not came:
        raise Failure("the late reader got no frame")
    return came, wrong


def prove(bench, report):
    """That pages must not be written while a socket may hold them, and that ours are not."""
    rows = []
    for way in WAYS:
        came, wrong = late_reader(bench, options_of(way))
        rows.append([f"{way}, as it is done here", came, wrong])
        if wrong:
            raise Failure(f"{way}: {wrong} of {came} frames were changed after they had been sent")
    for way in "sendfile", "splice":
        came, wrong = late_reader(bench, [*options_of(way), "--reuse"])
        rows.append([f"{way}, one memory file rewritten", came, wrong])
        if not wrong:
            raise Failure(f"{way}: rewriting was not seen, so the proof proves nothing")
    report.table(["a reader that begins two seconds late", "frames", "wrong"], rows)


def below(bench):
    """Ways to send a frame: CPU seconds per GB, as ratio to writev"""
    report = Report("below", below.__doc__)
    prove(bench, report)
    loopback = (100,) if bench.quick else (1, 10, 100, 500)
    cases = {f"loopback, {n}": (n, None) for n in loopback}
    cases |= {f"virtual card, {n}": (n, ()) for n in ((10,) if bench.quick else (100,))}
    if not bench.quick:
        cases["50 Mbit/s, 10 ms, 1"] = 1, (50, 10)
    for round_ in range(bench.rounds):
        for case, (n, link) in cases.items():
            for way in WAYS:
                report.add(case, way, round_, one(bench, way, n, link))
    rows = []
    for case in cases:
        for way in WAYS:
            rows.append([case, way, number(report.median(case, way, "fps_med"), 1),
                         number(report.median(case, way, "percent")),
                         number(report.median(case, way, "cpu_per_gb"), 3),
                         number(report.ratio(case, way, "writev", "cpu_per_gb")),
                         number(report.median(case, way, "age"), 1),
                         number(report.median(case, way, "copied_percent"), 0)])
    report.table(["way, viewers", "by", "frames/s", "core %", "s/GB", "x writev", "age ms", "copied %"], rows)
    report.note("Copied: of the sends by MSG_ZEROCOPY, those that the kernel copied all the same, because the "
                "receiver is on this machine.")
    report.note("A virtual card hands packets over as the loopback does; with a real card the gain may be another.")
    return report


def one(bench, way, n, link):
    window = bench.window(4 if n <= 10 else 2.5)
    if link is None:
        return sent(bench, way, n, window, {}, None)
    rate, trip = link or (None, 0)
    with Link(bench.rig, rate, trip) as between:
        place = {"host": between.host, "space": between.server}
        return sent(bench, way, n, window, place, between.viewer)


def sent(bench, way, n, window, place, viewer_space):
    with bench.rig.limit(Camera(), options_of(way), **place) as server:
        result = bench.rig.measure(server, n, window, 1, options=["-F"], space=viewer_space)
        bench.rig.check_frames(result, f"{way}, {n} viewers")
        server.process.terminate()
        server.process.wait(5)
        told = re.search(r"zerocopy (\d+) copied (\d+)", (bench.rig.folder / "limit.log").read_text())
    if told and int(told[1]):
        result["copied_percent"] = 100 * int(told[2]) / int(told[1])
    return result


SCENARIOS = [below]
