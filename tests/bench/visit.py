"""Scenarios of single visits: the first frame after the start, snapshots, small files."""

import random
import re
import select
import shutil
import socket
import subprocess
import time

from rig import PATIENCE, Failure, Watch, free_port, load_result
from table import Report, number

FRAME_TIME = 1 / 30


def connect(server, request):
    """A connection on which the request is sent, or nothing while nobody listens."""
    try:
        connection = socket.create_connection((server.host, server.port), 1)
    except ConnectionRefusedError:
        return None
    connection.sendall(f"GET {request} HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
    return connection


def start(bench):
    """From exec to the first byte of a frame, camera and all"""
    report = Report("start", start.__doc__)
    systems = "pistream", "ustreamer"
    for round_ in range(3 if bench.quick else 10):
        for system in systems:
            with bench.rig.start(system, wait=False) as server:
                report.add("", system, round_, first_frame(server, time.monotonic()))
    rows = [[system, number(report.median("", system, "listening"), 1), number(report.median("", system, "frame"), 1)]
            for system in systems]
    report.table(["system", "ms to listening", "ms to a frame"], rows)
    report.note("The first frame of the camera comes 33 ms after its start.")
    return report


def first_frame(server, began):
    """Asks again and again from the start on; milliseconds."""
    connection = None
    while not connection:
        connection = connect(server, server.path)
        if time.monotonic() > began + PATIENCE:
            server.fail("does not listen")
        time.sleep(0.0005)
    listening = time.monotonic()
    got = b""
    with connection:
        connection.settimeout(PATIENCE)
        while b"BENCH " not in got:
            piece = connection.recv(65536)
            if not piece:
                server.fail("closes the stream")
            got += piece
    return {"listening": (listening - began) * 1000, "frame": (time.monotonic() - began) * 1000}


def snapshots(bench):
    """Ten snapshots at the same time while one viewer watches: until all are there, in frame periods"""
    report = Report("snapshots", snapshots.__doc__)
    systems = "pistream", "ustreamer"
    chance = random.Random(1)
    times = 5 if bench.quick else 15
    for round_ in range(bench.rounds):
        for system in systems:
            with bench.rig.start(system) as server:
                def ask():
                    for _ in range(times):
                        # At any moment between two frames.
                        time.sleep(0.1 + chance.random() * FRAME_TIME)
                        report.add("", system, round_, parallel(server, 10))
                load = bench.rig.viewers(server, 1, times * 0.3 + 1, 1, at_start=ask)
                bench.rig.check_frames(load_result(load), system)
    rows = []
    for system in systems:
        rows.append([system, *(number(report.median("", system, key), digits) for key, digits in
                               (("periods", 2), ("worst_age", 1), ("different", 0)))])
    report.table(["system", "frame periods", "age ms of the oldest", "different frames"], rows)
    report.note("They are different things: pistream gives the next frame to all, so that none is older than its "
                "request; ustreamer gives the last one at once. Age: when the last byte is there.")
    return report


def parallel(server, n):
    began = time.monotonic()
    waiting = {connect(server, "/snapshot"): b"" for _ in range(n)}
    seen = []
    while waiting:
        ready = select.select(list(waiting), [], [], PATIENCE)[0]
        if not ready:
            raise Failure(f"{server.name}: a snapshot does not come")
        for connection in ready:
            piece = connection.recv(1 << 18)
            waiting[connection] += piece
            if piece and not is_whole(waiting[connection]):
                continue
            stamp = re.search(rb"BENCH (\d{10}) (\d{20})", waiting[connection])
            if not stamp or not is_whole(waiting[connection]):
                raise Failure(f"{server.name}: a snapshot is broken: {waiting[connection][:200]}")
            seen.append((int(stamp[1]), time.monotonic() - int(stamp[2]) / 1e9))
            waiting.pop(connection)
            connection.close()
    took = time.monotonic() - began
    return {"periods": took / FRAME_TIME, "worst_age": max(age for _, age in seen) * 1000,
            "different": len({number_ for number_, _ in seen})}


def is_whole(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.I)
    return len(body) == int(length[1]) if length else body.endswith(b"\xff\xd9")


def nginx(bench, root):
    """A server of our own in the temporary folder; the system's is not touched."""
    port, folder = free_port(), bench.rig.folder / "nginx"
    folder.mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    temporary = "".join(f"{name}_temp_path {folder};" for name in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config.write_text(f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 1024; }}
        http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; {temporary}
                server {{ listen 127.0.0.1:{port}; root {root}; }} }}
        """)
    return bench.rig.serve("nginx", ["nginx", "-p", folder, "-c", config], port, "/")


def static(bench):
    """Small files: requests a second and CPU a request, 16 connections"""
    report = Report("static", static.__doc__)
    if not shutil.which("wrk") or not shutil.which("nginx"):
        raise Failure("wrk and nginx are needed")
    root = bench.rig.folder / "www"
    root.mkdir(exist_ok=True)
    root.chmod(0o755)
    bench.rig.folder.chmod(0o755)  # nginx's worker has a user of its own
    sizes = {"1 KB": 1000, "100 KB": 100_000}
    for name, size in sizes.items():
        (root / f"{size}.bin").write_bytes(random.Random(size).randbytes(size))
    systems = {"pistream": lambda: bench.rig.pistream(options=["--www", root]), "nginx": lambda: nginx(bench, root)}
    cases = [(name, keep) for name in sizes for keep in (True, False)]
    for round_ in range(bench.rounds):
        for name, keep in cases:
            for system, begin in systems.items():
                with begin() as server:
                    report.add((name, keep), system, round_, wrk(bench, server, sizes[name], keep))
    rows = []
    for case in cases:
        for system in systems:
            rows.append([case[0], "yes" if case[1] else "no", system,
                         number(report.median(case, system, "per_second"), 0),
                         number(report.median(case, system, "cpu_us"), 1),
                         number(report.median(case, system, "core_busy"), 0),
                         number(report.ratio(case, system, "nginx", "per_second")),
                         number(report.ratio(case, system, "nginx", "cpu_us"))])
    report.table(["file", "keep-alive", "system", "requests/s", "CPU us each", "core %", "x nginx", "CPU, x nginx"], rows)
    return report


def wrk(bench, server, size, keep_alive):
    seconds = int(bench.window(3))
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", f"http://{server.host}:{server.port}/{size}.bin"]
    command += [] if keep_alive else ["-H", "Connection: close"]
    watch = Watch(server, bench.rig.server_core)
    watch.begin()
    process = bench.rig.spawn(command, bench.rig.load_core, stdout=subprocess.PIPE, text=True)
    text = process.communicate(timeout=seconds + PATIENCE)[0]
    watch.end()
    done = re.search(r"(\d+) requests in", text)
    wrong = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text)
    if not done or wrong:
        raise Failure(f"{server.name}: {wrong[0] if wrong else text}")
    result, requests = watch.result(), int(done[1])
    return result | {"per_second": requests / watch.values["time"], "cpu_us": result["cpu"] / requests * 1e6}


SCENARIOS = [start, snapshots, static]
