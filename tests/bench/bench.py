#!/usr/bin/env python3
"""The bench: runs scenarios, prints a table for each, and writes one file with every single value.

Called by scripts/bench, which builds everything and installs the peers.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import below
import distance
import loopback
import visit
from rig import HERE, Failure, Rig

MODULES = loopback, distance, visit, below
SCENARIOS = {scenario.__name__: scenario for module in MODULES for scenario in module.SCENARIOS}


class Bench:
    def __init__(self, rig, quick):
        self.rig, self.quick, self.rounds = rig, quick, 1 if quick else 3

    def window(self, seconds):
        """Length of a measured window."""
        return min(seconds, 2.0) if self.quick else seconds


def output(*command):
    """What a program prints, to know its version; empty if it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()


def machine(rig):
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return {"cpu": model[1] if model else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "architecture": platform.machine(), "server_core": rig.server_core, "load_core": rig.load_core,
            "congestion_control": rig.congestion if rig.isolated else "the system's", "load_average": os.getloadavg()}


def versions(rig):
    return {"pistream": output(rig.pistream_bin, "--version"), "ustreamer": output("ustreamer", "--version"),
            "nginx": output("nginx", "-v"), "gcc": output("gcc", "--version").partition("\n")[0],
            "commit": output("git", "-C", str(HERE), "rev-parse", "--short", "HEAD")}


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round of each, to see that it works")
    parser.add_argument("--json", metavar="FILE", help="where all values go [target/bench/result.json]")
    parser.add_argument("--congestion", default="cubic", metavar="NAME", help="TCP's congestion control [cubic]")
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all")
    given = parser.parse_args()
    unknown = set(given.scenario) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    return given


def attempt(bench, name):
    """One scenario; its report, or why it failed."""
    try:
        return SCENARIOS[name](bench), None
    except Failure as failure:
        return None, str(failure)
    except Exception:
        return None, traceback.format_exc()


def main():
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    target = Path(os.environ.get("BENCH_TARGET", "target/bench")).resolve()
    pistream = os.environ["PISTREAM_BIN"]
    try:
        rig = Rig(target, pistream, given.congestion)
    except Failure as failure:
        sys.exit(f"bench: {failure}")
    file = Path(given.json or target / "result.json")
    result = {"machine": machine(rig), "versions": versions(rig), "quick": given.quick, "scenarios": {}, "failed": {}}
    about = result["machine"]
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, TCP {about['congestion_control']}\n")
    try:
        bench = Bench(rig, given.quick)
        for name in given.scenario or SCENARIOS:
            began = time.monotonic()
            report, failure = attempt(bench, name)
            seconds = time.monotonic() - began
            if failure:
                result["failed"][name] = failure
                print(f"## {name}: FAILED\n\n{failure}\n", flush=True)
            else:
                result["scenarios"][name] = report.data() | {"seconds": round(seconds)}
                print(report.text(), flush=True)
            file.write_text(json.dumps(result, indent=1) + "\n")
    finally:
        rig.close()
    targets = [t for scenario in result["scenarios"].values() for t in scenario["targets"]]
    missed = sum(not t["met"] for t in targets)
    print(f"{len(targets) - missed} targets met, {missed} missed, {len(result['failed'])} scenarios failed; {file}")
    sys.exit(1 if result["failed"] else 0)


if __name__ == "__main__":
    main()
