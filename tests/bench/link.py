#!/usr/bin/env python3
"""A link between two network namespaces with a rate, a delay and a queue, also where the kernel has no netem.

    link.py SERVER_SPACE VIEWER_SPACE RATE_MBIT ONE_WAY_DELAY_MS QUEUE_PACKETS

Makes the two namespaces and a TUN device in each, prints "up ADDRESS_OF_SERVER ADDRESS_OF_VIEWER", and runs
until its standard input ends; then the namespaces are gone. A line with a number sets the rate (Mbit/s) from
then on. Rate and queue apply on the way to the viewer, the delay both ways. A program gets into a namespace
with `ip netns exec SERVER_SPACE PROGRAM`. Needs root and /dev/net/tun.
"""
import collections
import fcntl
import heapq
import os
import select
import signal
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SERVER, VIEWER = "10.98.0.1", "10.98.0.2"
PACKET_MAX = 2000


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def tun(space, address):
    """A TUN device that has the name of its namespace and lives in it."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", space.encode(), IFF_TUN | IFF_NO_PI))
    ip("link", "set", space, "netns", space)
    ip("-n", space, "addr", "add", f"{address}/24", "dev", space)
    ip("-n", space, "link", "set", space, "up")
    ip("-n", space, "link", "set", "lo", "up")
    return fd


class Link:
    def __init__(self, server, viewer, rate, delay, queue_max):
        self.server, self.viewer = server, viewer
        self.rate, self.delay, self.queue_max = rate, delay, queue_max
        self.queue = collections.deque()  # bytes of packets that wait for the wire
        self.sending = None  # the packet on the wire
        self.sent_at = 0.0  # when the wire is free again
        self.in_flight, self.serial = [], 0

    def fly(self, due, to, packet):
        self.serial += 1
        heapq.heappush(self.in_flight, (due, self.serial, to, packet))

    def advance(self, now):
        """Packets leave the queue one after the other, each at the rate that holds when it does."""
        while True:
            if self.sending is not None:
                if self.sent_at > now:
                    break
                self.fly(self.sent_at + self.delay, self.viewer, self.sending)
                self.sending = None
            if not self.queue:
                break
            came, packet = self.queue.popleft()
            self.sending = packet
            self.sent_at = max(came, self.sent_at) + len(packet) * 8 / self.rate
        while self.in_flight and self.in_flight[0][0] <= now:
            _, _, to, packet = heapq.heappop(self.in_flight)
            try:
                os.write(to, packet)
            except OSError:
                pass

    def receive(self, fd, now):
        for _ in range(64):
            try:
                packet = os.read(fd, PACKET_MAX)
            except OSError:
                break
            if fd == self.viewer:
                self.fly(now + self.delay, self.server, packet)
            elif len(self.queue) < self.queue_max:
                self.queue.append((now, packet))

    def wait(self, now):
        due = [self.sent_at] if self.sending is not None else []
        due += [self.in_flight[0][0]] if self.in_flight else []
        return max(0.0, min(due) - now) if due else 1.0

    def run(self):
        """Until standard input ends."""
        while True:
            wait = self.wait(time.monotonic())
            ready = select.select([self.server, self.viewer, 0], [], [], wait)[0]
            now = time.monotonic()
            self.advance(now)
            for fd in ready:
                if fd == 0:
                    lines = os.read(0, 4096).split()
                    if not lines:
                        return
                    self.rate = float(lines[-1]) * 1e6
                else:
                    self.receive(fd, now)
            self.advance(now)


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    server_space, viewer_space = sys.argv[1:3]
    rate, delay, queue_max = float(sys.argv[3]) * 1e6, float(sys.argv[4]) / 1000, int(sys.argv[5])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        ip("netns", "add", server_space)
        ip("netns", "add", viewer_space)
        link = Link(tun(server_space, SERVER), tun(viewer_space, VIEWER), rate, delay, queue_max)
        print("up", SERVER, VIEWER, flush=True)
        link.run()
    finally:
        for space in server_space, viewer_space:
            subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
