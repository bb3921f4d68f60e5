"""The machine block: what the figures were taken on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import timeit
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import sockperf

PEERS = ("uvloop", "multicast_expert", "spead2")
_DISTRIBUTIONS = ("mcastfast", "numpy", *PEERS)


@cache
def block(granted_buffer: int) -> dict[str, str]:
    """Return what is to be known of this machine, by name. granted_buffer: bytes, as the kernel counts them."""
    versions = {name: found for name in _DISTRIBUTIONS if (found := _version(name))}
    if sockperf.PATH:
        versions["sockperf"] = _sockperf_version(sockperf.PATH)
    cores = len(os.sched_getaffinity(0))
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {cores} core{'s' * (cores > 1)}",
        "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "slice of bytes in this Python": f"{_slice() * 1e9:.0f} ns",
        "versions": ", ".join(f"{name} {found}" for name, found in versions.items()),
        "receive buffer granted": f"{granted_buffer:,} bytes in the contests on lo",
        "net.core.rmem_max": f"{int(Path('/proc/sys/net/core/rmem_max').read_text()):,} bytes",
    }


def missing() -> dict[str, str]:
    """Return the contestants that this machine lacks, and why."""
    absent = {name: "not installed in this environment" for name in PEERS if _version(name) is None}
    if not sockperf.PATH:
        absent["sockperf"] = "not on PATH (apt install sockperf)"
    return absent


def _slice() -> float:
    """Return what one costs, seconds: no interpreter says by itself whether it was compiled to be fast."""
    count = 100_000
    return min(timeit.repeat("octets[3:9]", "octets = bytes(64)", repeat=10, number=count)) / count


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _sockperf_version(path: str) -> str:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    return said.split("version", 1)[-1].split()[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown processor"
