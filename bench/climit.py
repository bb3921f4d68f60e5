"""The C programs of the benchmarks, built by the system's compiler: the limit, and the paced sender of quiet feeds."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sysconfig
from ctypes import POINTER, c_int, c_int64, c_void_p
from pathlib import Path

SLOTS = 64  # the batch of every loop in climit.c

_HERE = Path(__file__).parent
_Nanoseconds = POINTER(c_int64)


class Limit:
    """The loops of climit.c. Each returns (nanoseconds, datagrams); a failed system call is OSError."""

    def __init__(self, directory: Path) -> None:
        """Build what the directory lacks; CalledProcessError when the compiler ($CC, or Python's) refuses."""
        self.directory = directory
        library = _compile("climit", directory, "-fPIC", "-shared")
        self.paced = _compile("paced", directory)
        self._functions = ctypes.CDLL(str(library))
        self._functions.limit_new.restype = c_void_p
        self._functions.limit_free.argtypes = [c_void_p]
        self._functions.limit_clock_cost.restype = c_int64
        self._functions.limit_fill.argtypes = [c_void_p, c_int, c_int, c_int]
        for name in ("recv", "recvmmsg", "recvmmsg_address", "recvmmsg_control", "wait", "wait_latency"):
            getattr(self._functions, f"limit_{name}").argtypes = [c_void_p, c_int, c_int, _Nanoseconds]
        for name in ("send", "sendmmsg"):
            getattr(self._functions, f"limit_{name}").argtypes = [c_void_p, c_int, c_int, c_int, _Nanoseconds]
        self._functions.limit_lone.argtypes = [c_void_p, c_int, c_int, c_int, c_int, _Nanoseconds]
        self._state: int | None = self._functions.limit_new()
        if self._state is None:
            raise MemoryError("limit_new")
        self._clock_cost: int = self._functions.limit_clock_cost()

    def close(self) -> None:
        self._functions.limit_free(self._state)
        self._state = None

    def fill(self, descriptor: int, count: int, size: int) -> None:
        """Offer so many datagrams of so many bytes on a connected socket; each starts with its number (u4)."""
        _checked("limit_fill", self._functions.limit_fill(self._state, descriptor, count, size))

    def drain(self, loop: str, descriptor: int, count: int) -> tuple[int, int]:
        """Receive by "recv", "recvmmsg", "recvmmsg_address" or "recvmmsg_control"."""
        return self._timed(loop, descriptor, count)

    def send(self, loop: str, descriptor: int, count: int, size: int) -> tuple[int, int]:
        """Send by "send" or "sendmmsg"."""
        return self._timed(loop, descriptor, count, size)

    def lone(self, descriptor: int, sender: int, count: int, size: int) -> tuple[int, int]:
        """Send one, time its receive, and so on; the cost of reading the clock is already taken off."""
        elapsed, received = self._timed("lone", descriptor, sender, count, size)
        return elapsed - received * self._clock_cost, received

    def wait(self, descriptor: int, count: int) -> tuple[int, int]:
        """Receive blocking; the nanoseconds are processor time from the first datagram to the last."""
        return self._timed("wait", descriptor, count)

    def wait_latencies(self, descriptor: int, count: int) -> list[int]:
        """Receive blocking; how many nanoseconds each datagram of the paced sender was old on arrival."""
        latencies = (c_int64 * count)()
        _checked("limit_wait_latency", self._functions.limit_wait_latency(self._state, descriptor, count, latencies))
        return list(latencies)

    def _timed(self, loop: str, *arguments: int) -> tuple[int, int]:
        elapsed = c_int64()
        moved = getattr(self._functions, f"limit_{loop}")(self._state, *arguments, ctypes.byref(elapsed))
        return elapsed.value, _checked(f"limit_{loop}", moved)


def _checked(call: str, result: int) -> int:
    if result < 0:
        raise OSError(-result, f"{call}: {os.strerror(-result)}")
    return result


def _compile(name: str, directory: Path, *flags: str) -> Path:
    target = directory / name
    if target.exists():
        return target
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-O3", "-std=gnu11", "-Wall", "-Wextra", *flags, "-o", str(target), str(_HERE / f"{name}.c")]
    subprocess.run(command, check=True)
    return target
