"""Ways to empty a socket, and to send by one, each in an interpreter of its own.

`python -m bench.peers receive|send WAY DESCRIPTOR LIBRARY SIZE` says "ready" when it may start. Then each line of
standard input says how many datagrams the socket holds or are to be sent, and the answer is a line with the nanoseconds
that moving them took and how many they were. WAY is a key of RECEIVING or SENDING; LIBRARY is where the C limit was
built; SIZE is the payload's.

What a process did before decides what asyncio costs: it offers the kernel a buffer of 256 KiB for each datagram, and
glibc maps and unmaps such a buffer each time (mallopt(3), M_MMAP_THRESHOLD) until the process has once freed a larger
mapping; then it comes from the heap. "asyncio" is a program that does nothing else, "asyncio-grown-heap" one that has
freed a larger block before, as programs with many imports have; the factor between them is five or more.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from bench.climit import SLOT_SIZE, SLOTS, Limit, Ring
from bench.loops import Move, each
from bench.namespace import can_open_packet_socket

if TYPE_CHECKING:
    from collections.abc import Callable

_UDP_GRO = 104
FILLING = 0.05  # seconds that the kernel waits for a block of a ring to be full, as it is wherever the cost counts


@dataclass(frozen=True, slots=True)
class Job:
    """The socket to empty or to send by (then it is connected), and what it carries."""

    sock: socket.socket
    library: Path
    size: int

    @property
    def slot_size(self) -> int:
        return max(self.size, SLOT_SIZE)


class _Protocol(asyncio.DatagramProtocol):
    """Stops its loop after so many datagrams."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.left = 0

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.left -= 1
        if not self.left:
            self._loop.stop()


def _receive_by_protocol(loop: asyncio.AbstractEventLoop, job: Job) -> Move:
    protocol = _Protocol(loop)
    loop.run_until_complete(loop.create_datagram_endpoint(lambda: protocol, sock=job.sock))

    def drain(count: int) -> tuple[int, int]:
        protocol.left = count
        start = perf_counter_ns()
        loop.run_forever()
        return perf_counter_ns() - start, count - protocol.left

    return drain


def _receive_asyncio(job: Job) -> Move:
    return _receive_by_protocol(asyncio.new_event_loop(), job)


def _receive_asyncio_grown_heap(job: Job) -> Move:
    bytearray(4 << 20)
    return _receive_asyncio(job)


def _receive_uvloop(job: Job) -> Move:
    import uvloop

    return _receive_by_protocol(uvloop.new_event_loop(), job)


def _receive_multicast_expert(job: Job) -> Move:
    import multicast_expert

    group, _ = job.sock.getsockname()
    receiver = multicast_expert.McastRxSocket(socket.AF_INET, [group], 0, iface="lo")
    receiver.__enter__()
    # It has no way to ask for a receive buffer, and its own holds fewer datagrams than a turn offers.
    receiver.sockets = [job.sock]
    return each(receiver.recvfrom, job.slot_size)


def _receive_spead2(job: Job) -> Move:
    import spead2.recv

    from bench import spead

    pool = spead2.ThreadPool(1)
    allocator = spead2.MemoryPool(job.size, 2 * job.size, 1024, 1024)

    def stream() -> spead2.recv.Stream:
        # It reads in a thread of its own: this one waits until the socket is full, then it is started.
        made = spead2.recv.Stream(
            pool,
            spead2.recv.StreamConfig(explicit_start=True, memory_allocator=allocator),
            spead2.recv.RingStreamConfig(heaps=1024),
        )
        made.add_udp_reader(job.sock, max_size=spead.HEADER + job.slot_size)
        return made

    waiting = stream()

    def drain(count: int) -> tuple[int, int]:
        nonlocal waiting
        received = 0
        start = perf_counter_ns()
        waiting.start()
        for _ in waiting:
            received += 1
            if received == count:
                break
        elapsed = perf_counter_ns() - start
        waiting.stop()
        waiting = stream()
        return elapsed, received

    return drain


def _receive_recv_into(job: Job) -> Move:
    return each(job.sock.recv_into, bytearray(job.slot_size))


def _receive_recvfrom(job: Job) -> Move:
    return each(job.sock.recvfrom, job.slot_size)


def _receive_by_mcastfast(engine: str, *, each: bool = False, **arguments: Any) -> Callable[[Job], Move]:
    def open_way(job: Job) -> Move:
        import mcastfast
        from bench.drains import batches, datagrams

        receiver = mcastfast.Receiver.from_socket(job.sock, engine=engine, max_datagram=job.slot_size, **arguments)
        return datagrams(receiver) if each else batches(receiver)

    return open_way


def _receive_c(job: Job) -> Move:
    limit = Limit(job.library, job.slot_size)
    return lambda count: limit.drain("recvmmsg_address", job.sock.fileno(), count)


def _receive_c_trains(job: Job) -> Move:
    limit = Limit(job.library)
    job.sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    return lambda count: limit.drain_trains(job.sock.fileno(), count, job.size)


def _receive_c_ring(job: Job) -> Move:
    return Ring(job.library, job.sock.getsockname()[1], job.size, "lo", FILLING).drain


def _receive_packet(job: Job, *, each: bool = False) -> Move:
    import mcastfast
    from bench.drains import batches, datagrams

    group, port = job.sock.getsockname()
    ring = mcastfast.Ring("64 MiB", delay=FILLING)
    receiver = mcastfast.Receiver(
        group, port=port, interface="lo", engine="packet", ring=ring, max_datagram=job.slot_size
    )
    return datagrams(receiver) if each else batches(receiver)


def _send_by_transport(loop: asyncio.AbstractEventLoop, job: Job) -> Move:
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=job.sock))
    payload = bytes(job.size)

    async def send(count: int) -> None:
        for _ in range(count // SLOTS):
            for _ in range(SLOTS):
                transport.sendto(payload)
            await asyncio.sleep(0)

    def run(count: int) -> tuple[int, int]:
        start = perf_counter_ns()
        loop.run_until_complete(send(count))
        return perf_counter_ns() - start, count

    return run


def _send_asyncio(job: Job) -> Move:
    return _send_by_transport(asyncio.new_event_loop(), job)


def _send_uvloop(job: Job) -> Move:
    import uvloop

    return _send_by_transport(uvloop.new_event_loop(), job)


def _send_multicast_expert(job: Job) -> Move:
    import multicast_expert

    destination = job.sock.getpeername()
    sender = multicast_expert.McastTxSocket(socket.AF_INET, [destination[0]], iface="lo")
    sender.__enter__()
    send, payload = sender.sendto, bytes(job.size)

    def run(count: int) -> tuple[int, int]:
        start = perf_counter_ns()
        for _ in range(count):
            send(payload, destination)
        return perf_counter_ns() - start, count

    return run


def _send_spead2(job: Job) -> Move:
    import spead2.send

    from bench import spead

    stream = spead2.send.UdpStream(
        spead2.ThreadPool(1),
        [job.sock.getpeername()],
        spead2.send.StreamConfig(max_packet_size=spead.largest_packet(job.size), max_heaps=2 * SLOTS),
        ttl=1,
        interface_address="127.0.0.1",
    )
    heaps = spead2.send.HeapReferenceList([spead2.send.HeapReference(spead.heap(job.size)) for _ in range(SLOTS)])

    def run(count: int) -> tuple[int, int]:
        start = perf_counter_ns()
        for _ in range(count // SLOTS):
            stream.send_heaps(heaps, spead2.send.GroupMode.SERIAL)
        return perf_counter_ns() - start, count

    return run


RECEIVING: dict[str, Callable[[Job], Move]] = {
    "c": _receive_c,
    "c-trains": _receive_c_trains,
    "socket": _receive_by_mcastfast("socket"),
    "socket-each": _receive_by_mcastfast("socket", each=True),
    "portable": _receive_by_mcastfast("portable"),
    "recv_into": _receive_recv_into,
    "recvfrom": _receive_recvfrom,
    "uvloop": _receive_uvloop,
    "asyncio": _receive_asyncio,
    "asyncio-grown-heap": _receive_asyncio_grown_heap,
    "multicast_expert": _receive_multicast_expert,
    "spead2": _receive_spead2,
    "coalescing-socket": _receive_by_mcastfast("socket", coalesce=True),
    "coalescing-socket-each": _receive_by_mcastfast("socket", each=True, coalesce=True),
}
if can_open_packet_socket():
    RECEIVING["c-ring"] = _receive_c_ring
    RECEIVING["packet"] = _receive_packet
    RECEIVING["packet-each"] = partial(_receive_packet, each=True)
FROM_A_RING = frozenset({"c-ring", "packet", "packet-each"})
SENDING: dict[str, Callable[[Job], Move]] = {
    "asyncio": _send_asyncio,
    "uvloop": _send_uvloop,
    "multicast_expert": _send_multicast_expert,
    "spead2": _send_spead2,
}
OPTIONAL = ("multicast_expert", "spead2", "uvloop")
MISSING = tuple(name for name in OPTIONAL if importlib.util.find_spec(name) is None)


def available(ways: dict[str, Callable[[Job], Move]]) -> list[str]:
    """Return the names of the ways whose library is installed."""
    return [name for name in ways if name not in MISSING]


def main() -> None:
    direction, way, descriptor, library, size = sys.argv[1:]
    ways = {"receive": RECEIVING, "send": SENDING}[direction]
    move = ways[way](Job(socket.socket(fileno=int(descriptor)), Path(library), int(size)))
    # What came before the endpoint stood would be read while it is set up, and nobody would count it.
    print("ready", flush=True)
    for line in sys.stdin:
        print(*move(int(line)), flush=True)


if __name__ == "__main__":
    main()
