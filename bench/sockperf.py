"""sockperf(1), the usual tool for latencies of sockets in C++: a ping-pong by multicast, where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from time import sleep
from typing import TYPE_CHECKING

from bench.consumers import PERCENTILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from bench.namespace import Remote

PATH = shutil.which("sockperf")

_GROUP = "239.1.2.4"
_PORT = 42999


def percentiles_in(report: str) -> dict[str, float]:
    """Return the percentiles of half the round trips, in nanoseconds, from what sockperf printed."""
    found = {
        float(percentile): float(microseconds) * 1000
        for percentile, microseconds in re.findall(r"percentile +([0-9.]+) = +([0-9.]+)", report)
    }
    missing = [percentile for percentile in PERCENTILES if percentile not in found]
    if missing:
        raise RuntimeError(f"sockperf printed no percentile {missing[0]:g}:\n{report}")
    return {f"{percentile:g}": found[percentile] for percentile in PERCENTILES}


def counts_in(report: str) -> tuple[int, int]:
    """Return how many messages were sent and received."""
    found = re.search(r"\[Valid Duration\].*SentMessages=([0-9]+); ReceivedMessages=([0-9]+)", report)
    if not found:
        raise RuntimeError(f"sockperf printed no counts:\n{report}")
    return int(found[1]), int(found[2])


def start(
    stack: ExitStack, remote: Remote | None, addresses: tuple[str, str], size: int, processors: tuple[int, int]
) -> Callable[[float], str]:
    """Start the server (at the remote, or here) and return how to run the client for so many seconds: its report.

    addresses and processors are the client's and the server's.
    """
    assert PATH

    def command(mode: str, end: int, *options: str) -> list[str]:
        assert PATH
        interfaces = ["--mc-rx-if", addresses[end], "--mc-tx-if", addresses[end]]
        return [PATH, mode, "-i", _GROUP, "-p", str(_PORT), *interfaces, "--mc-loopback-enable", *options]

    def serve() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command("server", 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    server = stack.enter_context(remote.run(serve) if remote else serve())
    stack.callback(server.kill)
    os.sched_setaffinity(server.pid, {processors[1]})
    client = command("ping-pong", 0, "-m", str(size), "-t")

    def run(seconds: float) -> str:
        # The server does not say when it listens: what is sent before is lost, and the client then measures nothing.
        for _ in range(10):
            process = subprocess.Popen([*client, str(seconds)], stdout=subprocess.PIPE, text=True)
            os.sched_setaffinity(process.pid, {processors[0]})
            report, _ = process.communicate(timeout=30)
            if "percentile" in report:
                return report
            sleep(0.1)
        raise RuntimeError(f"sockperf measured nothing:\n{report}")

    return run
