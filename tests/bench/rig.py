"""The rig: cores, network namespaces, the servers under comparison, the load, and what is measured of them."""

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLONE_NEWNET, PR_SET_PDEATHSIG = 0x40000000, 1
LIBC = ctypes.CDLL(None, use_errno=True)
# What Linux has without anybody's tuning, so that results do not depend on this machine's.
SYSCTLS = {"tcp_rmem": "4096 131072 6291456", "tcp_wmem": "4096 16384 4194304"}
PATIENCE = 15.0
FOREIGN_MAX = 0.1  # of the server's core that others may use in a window


class Failure(Exception):
    """A scenario that could not be run, or that delivered broken frames."""


@dataclass
class Camera:
    """What the preloaded camera shows."""

    frames: str = "720p"  # a folder below target/bench; empty for raw frames
    format: str = "MJPG"
    size: str = "1280x720"
    fps: float = 30

    def environment(self, rig):
        env = {"CAMERA_FORMATS": self.format, "CAMERA_SIZE": self.size, "CAMERA_FPS": str(self.fps)}
        if self.frames:
            env["CAMERA_FRAMES"] = str(rig.target / self.frames)
        return env | {"LD_PRELOAD": str(rig.target / "camera.so")}


class Rig:
    def __init__(self, target, pistream, congestion):
        self.target, self.pistream_bin = Path(target).resolve(), Path(pistream).resolve()
        self.congestion = congestion
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Failure("two cores are needed: one for the server, one for the load")
        self.server_core, self.load_core = cores[0], cores[-1]
        os.sched_setaffinity(0, {self.load_core})
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.running = []
        self.patience = 300.0  # seconds of waiting for others in all
        self.isolated = os.geteuid() == 0 and LIBC.unshare(CLONE_NEWNET) == 0
        if self.isolated:
            self.prepare_network()

    def prepare_network(self):
        """A loopback of our own, with Linux's defaults and the wished congestion control."""
        set_sysctls()
        run("ip", "link", "set", "lo", "up")
        for net in "127.0.0.0/8", "127.0.0.1":
            run("ip", "route", "replace", "table", "local", "local", net, "dev", "lo", "src", "127.0.0.1",
                "congctl", self.congestion)

    def wait_quiet(self):
        """Waits, not for ever, until nobody uses the server's core; call it while nothing of ours runs."""
        while self.patience > 0:
            began, busy = time.monotonic(), busy_time(self.server_core)
            time.sleep(0.2)
            if busy_time(self.server_core) - busy < FOREIGN_MAX * (time.monotonic() - began) + 0.01:
                return
            time.sleep(1)
            self.patience -= 1.2

    def close(self):
        for process in reversed(self.running):
            stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, command, core, space=None, env=None, **options):
        """A child on one core, perhaps in a network namespace; it ends when we do."""
        net = os.open(f"/run/netns/{space}", os.O_RDONLY) if space else -1

        def prepare():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if net >= 0 and LIBC.setns(net, CLONE_NEWNET):
                os._exit(126)
            os.sched_setaffinity(0, {core})

        process = subprocess.Popen([str(word) for word in command], preexec_fn=prepare, cwd=self.folder,
                                   env=os.environ | (env or {}), **options)
        if net >= 0:
            os.close(net)
        self.running = [p for p in self.running if p.poll() is None] + [process]
        return process

    # ---- the servers under comparison ----

    def serve(self, name, command, port, path, env=None, host="127.0.0.1", space=None, wait=True):
        log = open(self.folder / f"{name}.log", "wb")
        process = self.spawn(command, self.server_core, space, env, stdin=subprocess.DEVNULL, stdout=log,
                             stderr=log)
        server = Server(self, name, process, host, port, path, space)
        if wait:
            server.wait_listening()
        return server

    def pistream(self, camera=Camera(), options=(), **place):
        host, port = place.get("host", "127.0.0.1"), free_port()
        formats = {"MJPG": "mjpeg", "YUYV": "yuyv"}
        command = [self.pistream_bin, "--listen", f"{host}:{port}", "--camera", "/dev/video0", "--format",
                   formats[camera.format], "--size", camera.size, "--max-viewers", 2000, *options]
        env = camera.environment(self) | {"RUST_LOG": "warn"}
        return self.serve("pistream", command, port, "/video_feed", env, **place)

    def ustreamer(self, camera=Camera(), options=(), **place):
        host, port = place.get("host", "127.0.0.1"), free_port()
        formats = {"MJPG": ["--format=MJPEG", "--encoder=HW"], "YUYV": ["--format=YUYV", "--encoder=CPU"]}
        command = ["ustreamer", "--device", "/dev/video0", *formats[camera.format], "--resolution", camera.size,
                   "--desired-fps", int(camera.fps), "--host", host, "--port", port, "--log-level", 0, *options]
        return self.serve("ustreamer", command, port, "/stream", camera.environment(self), **place)

    def ustreamer_nodelay(self, camera=Camera(), options=(), **place):
        """With an option that its users are advised to set."""
        return self.ustreamer(camera, ["--tcp-nodelay", *options], **place)

    def limit(self, camera=Camera(), options=(), **place):
        host, port = place.get("host", "127.0.0.1"), free_port()
        command = [self.target / "limit", "--host", host, *options, port, self.target / camera.frames, camera.fps]
        return self.serve("limit", command, port, "/", **place)

    def start(self, system, camera=Camera(), options=(), **place):
        self.wait_quiet()
        return getattr(self, system)(camera, options, **place)

    # ---- the load ----

    def frame_bytes(self, camera):
        """The mean size of the frames that the camera shows."""
        sizes = [file.stat().st_size for file in (self.target / camera.frames).glob("*.jpg")]
        return sum(sizes) / len(sizes)

    def viewers(self, server, n=1, seconds=3.0, warm=1.0, space=None, options=(), at_start=None, at_end=None):
        """Runs viewers.c; the callbacks are called when its window begins and ends."""
        command = [self.target / "viewers", "-h", server.host, "-p", server.port, "-u", server.path, "-n", n,
                   "-t", seconds, "-w", warm, *options]
        process = self.spawn(command, self.load_core, space, stdout=subprocess.PIPE, text=True)
        lines = iter(process.stdout.readline, "")
        try:
            for line in lines:
                if line == "start\n" and at_start:
                    at_start()
                elif line == "end\n" and at_end:
                    at_end()
                elif line.startswith("{"):
                    return json.loads(line)
        finally:
            stop(process)
        raise Failure(f"the viewers of {server.name} failed")

    def measure(self, server, n=1, seconds=3.0, warm=1.0, tries=3, **how):
        """One window of load with the server's CPU time; again when others used the server's core."""
        for _ in range(tries):
            watch = Watch(server, self.server_core)
            load = self.viewers(server, n, seconds, warm, at_start=watch.begin, at_end=watch.end, **how)
            result = watch.result() | load_result(load)
            if result["foreign"] < FOREIGN_MAX:
                break
        gigabytes = result["bytes"] / 1e9
        result["cpu_per_gb"] = result["cpu"] / gigabytes if gigabytes else None
        return result

    def check_frames(self, result, who):
        """Broken frames end the scenario."""
        if result["failed"] or result["bad"] or result["unstamped"] or not result["frames"]:
            found = {key: result[key] for key in ("clients", "failed", "bad", "unstamped", "frames")}
            raise Failure(f"{who}: {found}")


class Server:
    def __init__(self, rig, name, process, host, port, path, space):
        self.rig, self.name, self.process, self.pid = rig, name, process, process.pid
        self.host, self.port, self.path, self.space = host, port, path, space

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)

    def fail(self, what):
        log = (self.rig.folder / f"{self.name}.log").read_text(errors="replace")
        raise Failure(f"{self.name} {what}: {log[-300:].strip()}")

    def wait_listening(self):
        end = time.monotonic() + PATIENCE
        while not self.is_listening():
            if self.process.poll() is not None:
                self.fail("ended")
            if time.monotonic() > end:
                self.fail("does not listen")
            time.sleep(0.002)

    def is_listening(self):
        for family in "tcp", "tcp6":
            for line in read(f"/proc/{self.pid}/net/{family}").splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and words[1].endswith(f":{self.port:04X}"):
                    return True
        return False

    def family(self):
        """The process and its children, for servers that work in a child."""
        children = read(f"/proc/{self.pid}/task/{self.pid}/children").split()
        return [self.pid, *map(int, children)]

    def threads(self):
        """Names of the server's own threads by their number; not the preloaded camera's."""
        found = {}
        for pid in self.family():
            for tid in list_folder(f"/proc/{pid}/task"):
                name = read(f"/proc/{pid}/task/{tid}/comm").strip()
                if name and name != "preload":
                    found[int(tid)] = (pid, name)
        return found

    def cpu(self):
        """Seconds of CPU time of the server's own threads so far."""
        return sum(run_time(f"/proc/{pid}/task/{tid}") for tid, (pid, _) in self.threads().items())

    def cpu_of_camera(self):
        tasks = [f"/proc/{self.pid}/task/{tid}" for tid in list_folder(f"/proc/{self.pid}/task")]
        return sum(run_time(task) for task in tasks if read(f"{task}/comm").strip() == "preload")

    def switches(self):
        """Voluntary context switches of the server's own threads: how often one was woken."""
        total = 0
        for tid, (pid, _) in self.threads().items():
            found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", read(f"/proc/{pid}/task/{tid}/status"), re.M)
            total += int(found[1]) if found else 0
        return total

    def memory(self):
        """KiB by smaps, without the mappings of the preloaded camera, which a real one would not need."""
        total = {"Rss": 0, "Pss": 0, "Anonymous": 0}
        mine = True
        camera = str(self.rig.target), "/memfd:preload", "/dev/zero"
        for line in read(f"/proc/{self.pid}/smaps").splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                mine = not (len(words) > 5 and words[5].startswith(camera))
            elif mine and words[0][:-1] in total:
                total[words[0][:-1]] += int(words[1])
        return {"rss": total["Rss"], "pss": total["Pss"], "anonymous": total["Anonymous"]}

    def sockets(self):
        """The server's ends of its connections: state and what the kernel holds for sending."""
        command = ["ss", "-tmnHOa", f"sport = :{self.port}"]
        if self.space:
            command = ["ip", "netns", "exec", self.space, *command]
        found = []
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
            memory = re.search(r"skmem:\(r(\d+),rb\d+,t(\d+),tb\d+,f(\d+),w(\d+),", line)
            if memory and not line.startswith("LISTEN"):
                received, in_flight, _, queued = map(int, memory.groups())
                found.append({"state": line.split()[0], "peer": line.split()[4], "received": received,
                              "in_flight": in_flight, "queued": queued})
        return found


@dataclass
class Watch:
    """CPU time over a window, and who else used the server's core meanwhile."""

    server: Server
    core: int
    values: dict = field(default_factory=dict)

    def sample(self):
        return {"time": time.monotonic(), "cpu": self.server.cpu(), "camera": self.server.cpu_of_camera(),
                "softirq": softirq_time(self.core), "busy": busy_time(self.core)}

    def begin(self):
        self.values = self.sample()

    def end(self):
        self.values = {key: value - self.values[key] for key, value in self.sample().items()}

    def result(self):
        v = self.values
        # Work for its sockets that the kernel had put off is the server's too.
        cpu = v["cpu"] + v["softirq"]
        foreign = max(0.0, v["busy"] - cpu - v["camera"])
        return {"cpu": cpu, "percent": 100 * cpu / v["time"], "softirq_percent": 100 * v["softirq"] / v["time"],
                "foreign": foreign / v["time"], "core_busy": 100 * v["busy"] / v["time"]}


def load_result(load):
    normal = load["normal"]
    keys = "clients", "failed", "frames", "bytes", "bad", "gaps", "fps_med", "fps_min"
    return {key: normal[key] for key in keys} | {
        "seconds": load["seconds"], "unstamped": load["unstamped"], "age": load["age_ms"]["p50"],
        "age_p99": load["age_ms"]["p99"], "first_frame": normal["first_frame_ms"]["p50"],
        "client_percent": 100 * load["client_cpu"] / load["seconds"], "closed": load["closed_by_server"]}


class Link:
    """A shaped way (link.py) between two namespaces, or a plain pair of virtual cards without a rate."""

    count = 0

    def __init__(self, rig, rate=None, round_trip=0.0, queue=300):
        if not rig.isolated:
            raise Failure("network namespaces need root")
        Link.count += 1
        self.rig, self.process = rig, None
        self.server, self.viewer = (f"b{os.getpid()}{side}{Link.count}" for side in "sv")
        try:
            self.host = self.shaped(rate, round_trip, queue) if rate else self.pair()
            for space in self.server, self.viewer:
                in_space(space, set_sysctls)
                run("ip", "-n", space, "route", "replace", "10.98.0.0/24", "dev", space, "congctl", rig.congestion)
        except BaseException:
            self.__exit__()
            raise

    def shaped(self, rate, round_trip, queue):
        command = ["python3", HERE / "link.py", self.server, self.viewer, rate, round_trip / 2, queue]
        self.process = self.rig.spawn(command, self.rig.load_core, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        words = self.process.stdout.readline().split()
        if not words or words[0] != b"up":
            raise Failure("the link does not come up")
        return words[1].decode()

    def pair(self):
        for space in self.server, self.viewer:
            run("ip", "netns", "add", space)
        run("ip", "link", "add", self.server, "netns", self.server, "type", "veth", "peer", "name", self.viewer,
            "netns", self.viewer)
        for space, address in (self.server, "10.98.0.1"), (self.viewer, "10.98.0.2"):
            run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", space)
            run("ip", "-n", space, "link", "set", space, "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
        return "10.98.0.1"

    def set_rate(self, rate):
        self.process.stdin.write(f"{rate}\n".encode())
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.stdin.close()
            stop(self.process, politely=True)
        for space in self.server, self.viewer:
            if os.path.exists(f"/run/netns/{space}"):
                run("ip", "netns", "del", space)


# ---- small parts ----

def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip()}")


def set_sysctls():
    for name, value in SYSCTLS.items():
        Path(f"/proc/sys/net/ipv4/{name}").write_text(value)


def in_space(space, action):
    """Calls in a child, for a process cannot come back into its own namespace by name."""
    child = os.fork()
    if child == 0:
        try:
            with open(f"/run/netns/{space}") as net:
                LIBC.setns(net.fileno(), CLONE_NEWNET)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise Failure(f"{space}: cannot be set up")


def stop(process, politely=False):
    """Ends a child that we started, by its number."""
    if process.poll() is None and not politely:
        process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def read(path):
    """A file of /proc, empty when its process has gone."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def list_folder(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def run_time(task):
    """Seconds on a processor, to the nanosecond where the kernel has it."""
    exact = read(f"{task}/schedstat").split()
    if exact:
        return int(exact[0]) / 1e9
    words = read(f"{task}/stat").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") if words else 0.0


def busy_time(core):
    """Seconds that a core was not idle."""
    for line in read("/proc/stat").splitlines():
        words = line.split()
        if words[0] == f"cpu{core}":
            ticks = [int(word) for word in words[1:9]]
            return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return 0.0


_softirq_tasks = {}


def softirq_time(core):
    if core not in _softirq_tasks:
        tasks = [pid for pid in list_folder("/proc") if pid.isdigit()]
        named = [pid for pid in tasks if read(f"/proc/{pid}/comm") == f"ksoftirqd/{core}\n"]
        _softirq_tasks[core] = named[0] if named else None
    return run_time(f"/proc/{_softirq_tasks[core]}") if _softirq_tasks[core] else 0.0
