"""Ways to drain a socket, each in an interpreter of its own: `python -m bench.peers WAY DESCRIPTOR LIBRARY`.

It says "ready" when the socket may be filled. Then each line of standard input says how many datagrams the socket
holds, and the answer is a line with the nanoseconds that taking them took and how many they were. WAY is a key of WAYS;
LIBRARY is where the C limit was built.

What a process did before decides what asyncio costs: it offers the kernel a buffer of 256 KiB for each datagram, and
glibc maps and unmaps such a buffer each time (mallopt(3), M_MMAP_THRESHOLD) until the process has once freed a larger
mapping; then it comes from the heap. "asyncio" is a program that does nothing else, "asyncio-grown-heap" one that has
freed a larger block before, as programs with many imports have; the factor between them is five or more.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

Drain = Callable[[int], tuple[int, int]]


class _Protocol(asyncio.DatagramProtocol):
    """Stops its loop after so many datagrams."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.left = 0

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.left -= 1
        if not self.left:
            self._loop.stop()


def _datagram_protocol(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Drain:
    protocol = _Protocol(loop)
    loop.run_until_complete(loop.create_datagram_endpoint(lambda: protocol, sock=sock))

    def drain(count: int) -> tuple[int, int]:
        protocol.left = count
        start = perf_counter_ns()
        loop.run_forever()
        return perf_counter_ns() - start, count - protocol.left

    return drain


def _asyncio(sock: socket.socket, library: Path) -> Drain:
    return _datagram_protocol(asyncio.new_event_loop(), sock)


def _asyncio_grown_heap(sock: socket.socket, library: Path) -> Drain:
    bytearray(4 << 20)
    return _asyncio(sock, library)


def _uvloop(sock: socket.socket, library: Path) -> Drain:
    import uvloop

    return _datagram_protocol(uvloop.new_event_loop(), sock)


def _mcastfast(sock: socket.socket, library: Path) -> Drain:
    import mcastfast
    from bench.drains import batches

    return batches(mcastfast.Receiver.from_socket(sock, engine="socket"))


def _c(sock: socket.socket, library: Path) -> Drain:
    from bench.climit import Limit

    limit = Limit(library)
    return lambda count: limit.drain("recvmmsg_address", sock.fileno(), count)


WAYS: dict[str, Callable[[socket.socket, Path], Drain]] = {
    "c": _c,
    "socket": _mcastfast,
    "uvloop": _uvloop,
    "asyncio": _asyncio,
    "asyncio-grown-heap": _asyncio_grown_heap,
}


def main() -> None:
    way, descriptor, library = sys.argv[1:]
    drain = WAYS[way](socket.socket(fileno=int(descriptor)), Path(library))
    # What came before the endpoint stood would be read while it is set up, and nobody would count it.
    print("ready", flush=True)
    for line in sys.stdin:
        print(*drain(int(line)), flush=True)


if __name__ == "__main__":
    main()
