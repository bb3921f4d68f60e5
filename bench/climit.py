"""The C programs of the benchmarks, built by the system's compiler: the limit, and the senders of feeds."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sysconfig
from ctypes import POINTER, c_char, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, ClassVar

SLOTS = 64  # the batch of every loop in climit.c
SLOT_SIZE = 2048  # as mcastfast's default max_datagram
LARGEST_TRAIN = 65507  # bytes of payload in one IPv4 datagram

_HERE = Path(__file__).parent
_Nanoseconds = POINTER(c_int64)


class Part(ctypes.Structure):
    """A struct iovec."""

    _fields_: ClassVar = [("base", c_char_p), ("length", c_size_t)]


class Limit:
    """The loops of climit.c. Each returns (nanoseconds, datagrams); a failed system call is OSError."""

    def __init__(self, directory: Path, slot_size: int = SLOT_SIZE) -> None:
        """Build what the directory lacks; CalledProcessError when the compiler ($CC, or Python's) refuses.

        slot_size is the longest datagram that is received whole, and the longest that send() sends.
        """
        self.directory = directory
        library = _compile("climit", directory, "-fPIC", "-shared")
        self.paced = _compile("paced", directory)
        self.load = _compile("load", directory)
        _compile("ring", directory, "-fPIC", "-shared")
        self._functions = ctypes.CDLL(str(library))
        self._functions.limit_new.argtypes = [c_size_t]
        self._functions.limit_new.restype = c_void_p
        self._functions.limit_free.argtypes = [c_void_p]
        self._functions.limit_clock_cost.restype = c_int64
        self._functions.limit_fill.argtypes = [c_void_p, c_int, c_int, c_int, c_int, c_void_p]
        for name in ("recv", "recvmmsg", "recvmmsg_address", "recvmmsg_control", "wait", "wait_latency"):
            getattr(self._functions, f"limit_{name}").argtypes = [c_void_p, c_int, c_int, _Nanoseconds]
        self._functions.limit_ping.argtypes = [c_void_p, c_int, c_int, c_int, c_int, _Nanoseconds]
        self._functions.limit_pong.argtypes = [c_void_p, c_int, c_int, c_int]
        self._functions.limit_consume.argtypes = [c_void_p, c_int, _Nanoseconds]
        self._functions.limit_consume_trains.argtypes = [c_void_p, c_int, c_int, _Nanoseconds]
        for name in ("send", "sendmmsg", "recvmmsg_trains"):
            getattr(self._functions, f"limit_{name}").argtypes = [c_void_p, c_int, c_int, c_int, _Nanoseconds]
        for name in ("send_trains", "send_gathered"):
            numbers = [c_int, c_int, c_int]
            types = [c_void_p, *numbers, c_void_p, c_int, c_int, _Nanoseconds]
            getattr(self._functions, f"limit_{name}").argtypes = types
        self._functions.limit_lone.argtypes = [c_void_p, c_int, c_int, c_int, c_int, _Nanoseconds]
        self._state: int | None = self._functions.limit_new(slot_size)
        if self._state is None:
            raise MemoryError("limit_new")
        self._clock_cost: int = self._functions.limit_clock_cost()

    def close(self) -> None:
        self._functions.limit_free(self._state)
        self._state = None

    def fill(
        self, descriptor: int, count: int, size: int, *, segments: int = SLOTS, rows: ctypes.Array[c_char] | None = None
    ) -> None:
        """Offer so many datagrams of so many bytes on a connected socket, in trains of up to that many segments.

        Each starts with its number (u4), or they are the rows.
        """
        filled = self._functions.limit_fill(self._state, descriptor, count, size, segments, rows)
        _checked("limit_fill", filled)

    def drain(self, loop: str, descriptor: int, count: int) -> tuple[int, int]:
        """Receive by "recv", "recvmmsg", "recvmmsg_address" or "recvmmsg_control"."""
        return self._timed(loop, descriptor, count)

    def drain_trains(self, descriptor: int, count: int, size: int) -> tuple[int, int]:
        """Receive datagrams of that size from a socket with UDP_GRO, without splitting the trains."""
        return self._timed("recvmmsg_trains", descriptor, count, size)

    def send(self, loop: str, descriptor: int, count: int, size: int) -> tuple[int, int]:
        """Send by "send" or "sendmmsg", each from a slot of its own."""
        return self._timed(loop, descriptor, count, size)

    def send_trains(
        self, descriptor: int, count: int, size: int, rows: ctypes.Array[c_char], segments: int
    ) -> tuple[int, int]:
        """Send whole batches of rows of that size, each batch in trains of up to that many segments."""
        return self._timed("send_trains", descriptor, count, size, rows, len(rows) // size, segments)

    def send_gathered(
        self, descriptor: int, count: int, size: int, payloads: ctypes.Array[Part], segments: int
    ) -> tuple[int, int]:
        """The same of payloads that lie apart, which the kernel gathers."""
        return self._timed("send_gathered", descriptor, count, size, payloads, len(payloads), segments)

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

    def ping(self, descriptor: int, sender: int, count: int, size: int) -> list[int]:
        """Send a datagram and wait for the answer, so many times; half of each round trip in nanoseconds."""
        latencies = (c_int64 * count)()
        _checked("limit_ping", self._functions.limit_ping(self._state, descriptor, sender, count, size, latencies))
        return list(latencies)

    def pong(self, descriptor: int, sender: int, size: int) -> None:
        """Answer each datagram until the socket fails."""
        _checked("limit_pong", self._functions.limit_pong(self._state, descriptor, sender, size))

    def consume(self, descriptor: int, received: c_int64) -> None:
        """Receive blocking until the socket fails; `received` says how many datagrams came so far."""
        _checked("limit_consume", self._functions.limit_consume(self._state, descriptor, ctypes.byref(received)))

    def consume_trains(self, descriptor: int, size: int, received: c_int64) -> None:
        """Receive datagrams of that size from a socket with UDP_GRO, as consume() does."""
        ended = self._functions.limit_consume_trains(self._state, descriptor, size, ctypes.byref(received))
        _checked("limit_consume_trains", ended)

    def _timed(self, loop: str, *arguments: Any) -> tuple[int, int]:
        elapsed = c_int64()
        moved = getattr(self._functions, f"limit_{loop}")(self._state, *arguments, ctypes.byref(elapsed))
        return elapsed.value, _checked(f"limit_{loop}", moved)


class Ring:
    """The loops of ring.c: what comes by one interface for one UDP port, of one size, read from a packet ring."""

    def __init__(self, directory: Path, port: int, size: int, interface: str, delay: float) -> None:
        """Open the ring, which hands a block over after so many seconds; PermissionError without CAP_NET_RAW."""
        self._functions = ctypes.CDLL(str(_compile("ring", directory, "-fPIC", "-shared")))
        self._functions.ring_open.argtypes = [POINTER(c_void_p), c_int, c_int, c_char_p, c_int]
        self._functions.ring_drain.argtypes = [c_void_p, c_int, _Nanoseconds]
        self._functions.ring_consume.argtypes = [c_void_p, _Nanoseconds]
        self._ring = c_void_p()
        milliseconds = round(delay * 1000)
        opened = self._functions.ring_open(ctypes.byref(self._ring), port, size, interface.encode(), milliseconds)
        _checked("ring_open", opened)

    def drain(self, count: int) -> tuple[int, int]:
        elapsed = c_int64()
        received = self._functions.ring_drain(self._ring, count, ctypes.byref(elapsed))
        return elapsed.value, _checked("ring_drain", received)

    def consume(self, received: c_int64) -> None:
        """Read until a call fails; `received` says how many datagrams came so far."""
        _checked("ring_consume", self._functions.ring_consume(self._ring, ctypes.byref(received)))


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
