"""Programs that receive a feed until they are ended, each in an interpreter of its own, as an ordinary user.

`python -m bench.consumers WAY JSON`, where WAY is a key of WAYS and JSON the fields of Order. It says "ready" when it
has joined. Each line of standard input is then answered by a line of JSON, the fields of State ("anew": latencies are
those from here on), and the end of input ends the program; by a thread of its own, for a signal that comes just before
a blocking call waits for the call's end.
With Order.stall it stalls for a second in every two: a loop in Python, which holds the interpreter's lock as a busy
program does.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any

import mcastfast
from bench.climit import Limit, Ring
from bench.namespace import can_open_packet_socket
from mcastfast.ring import LEAST_DELAY

if TYPE_CHECKING:
    from collections.abc import Callable

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
STALL = 1.0  # seconds, of every two
BACKGROUND = "256 MiB"
RING = "64 MiB"  # as ring.c has
FILLING = 0.01  # seconds, in which 100 thousand datagrams a second fill a block of a ring: who stalls needs all of it
ANEW = "anew\n"

_SLOT_SIZE = 2048
_STALLED_HEAPS = 1 << 18  # more than come during a stall
_SPEAD_ITEM = 0x1000
_UDP_GRO = 104
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class Order:
    """What to receive, and how. buffer: bytes asked for, before the kernel doubles them."""

    group: str
    port: int
    interface: str
    address: str
    buffer: int
    size: int
    library: str
    latencies: bool = False
    stall: bool = False
    processors: list[int] = field(default_factory=list)


@dataclass(slots=True)
class State:
    """What came of it so far. counted: losses that the receiver knows of."""

    received: int = 0
    counted: int | None = None
    percentiles: dict[str, float] = field(default_factory=dict)


class Consumer:
    """What a way works on: the order, and where it counts."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.received = 0
        self.latencies: list[int] = []
        self.count: Callable[[], int] = lambda: self.received
        self.losses: Callable[[], int] | None = None

    def note(self, payload: Any) -> None:
        """Take a datagram of a latency measurement, which starts with the time of its sending."""
        self.latencies.append(monotonic_ns() - _sent(payload)[0])
        self.received += 1

    def state(self) -> State:
        return State(
            received=self.count(),
            counted=self.losses() if self.losses else None,
            percentiles=percentiles(self.latencies),
        )

    def portless(self) -> socket.socket:
        """Return a socket that has joined and has no port."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        request = struct.pack(
            "4s4si",
            socket.inet_aton(self.order.group),
            socket.inet_aton(self.order.address),
            socket.if_nametoindex(self.order.interface),
        )
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        return sock

    def socket(self) -> socket.socket:
        """Return a plain socket that has joined."""
        sock = self.portless()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.order.buffer)
        sock.bind((self.order.group, self.order.port))
        return sock


_sent = struct.Struct("=q").unpack_from


def percentiles(values: list[int]) -> dict[str, float]:
    """Return the nearest-rank percentiles, by name ("99.9")."""
    ordered = sorted(values)
    return {
        f"{p:g}": float(ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))]) for p in PERCENTILES if ordered
    }


def _c(consumer: Consumer) -> None:
    limit, sock = Limit(Path(consumer.order.library)), consumer.socket()
    _say_ready()
    if consumer.order.latencies:
        while True:
            consumer.latencies += limit.wait_latencies(sock.fileno(), 1)
            consumer.received += 1
    received = ctypes.c_int64()
    consumer.count = lambda: received.value
    limit.consume(sock.fileno(), received)


def _c_trains(consumer: Consumer) -> None:
    limit, sock = Limit(Path(consumer.order.library)), consumer.socket()
    sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    received = ctypes.c_int64()
    consumer.count = lambda: received.value
    _say_ready()
    limit.consume_trains(sock.fileno(), consumer.order.size, received)


def _c_ring(consumer: Consumer) -> None:
    order = consumer.order
    ring = Ring(Path(order.library), order.port, order.size, order.interface, LEAST_DELAY)
    member = consumer.portless()  # what comes by the ring comes to no socket
    received = ctypes.c_int64()
    consumer.count = lambda: received.value
    _say_ready()
    with member:
        ring.consume(received)


def _socket(consumer: Consumer) -> None:
    receive, buffer = consumer.socket().recv_into, bytearray(_SLOT_SIZE)
    note = consumer.note
    _say_ready()
    if consumer.order.latencies:
        while True:
            receive(buffer)
            note(buffer)
    while True:
        receive(buffer)
        consumer.received += 1


def _mcastfast(engine: str, *, each: bool = False, **arguments: Any) -> Callable[[Consumer], None]:
    def run(consumer: Consumer) -> None:
        order, note = consumer.order, consumer.note
        receiver = mcastfast.Receiver(
            order.group,
            port=order.port,
            interface=order.interface,
            receive_buffer=order.buffer,
            engine=engine,
            **arguments,
        )

        def losses() -> int:
            stats = receiver.stats
            return stats.kernel_drops + stats.overrun

        consumer.losses = losses
        _say_ready()
        if order.latencies:
            for batch in receiver:
                for datagram in batch:
                    note(datagram)
        elif each:
            for batch in receiver:
                for _ in batch:
                    consumer.received += 1
        else:
            for batch in receiver:
                consumer.received += len(batch)

    return run


def _packet(consumer: Consumer) -> None:
    delay = FILLING if consumer.order.stall else LEAST_DELAY
    _mcastfast("packet", ring=mcastfast.Ring(RING, delay=delay))(consumer)


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._consumer.received += 1


class _NotingProtocol(asyncio.DatagramProtocol):
    def __init__(self, consumer: Consumer) -> None:
        self._note = consumer.note

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._note(data)


def _run_loop(loop: asyncio.AbstractEventLoop, consumer: Consumer) -> None:
    protocol = _NotingProtocol if consumer.order.latencies else _Protocol
    sock = consumer.socket()
    sock.setblocking(False)
    loop.run_until_complete(loop.create_datagram_endpoint(lambda: protocol(consumer), sock=sock))
    _say_ready()
    loop.run_forever()


def _asyncio(consumer: Consumer) -> None:
    _run_loop(asyncio.new_event_loop(), consumer)


def _asyncio_grown_heap(consumer: Consumer) -> None:
    bytearray(4 << 20)
    _asyncio(consumer)


def _uvloop(consumer: Consumer) -> None:
    import uvloop

    _run_loop(uvloop.new_event_loop(), consumer)


def _multicast_expert(consumer: Consumer) -> None:
    import multicast_expert

    order, note = consumer.order, consumer.note
    with multicast_expert.McastRxSocket(socket.AF_INET, [order.group], order.port, iface=order.interface) as receiver:
        # It has no way to ask for a receive buffer.
        receiver.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, order.buffer)
        receive = receiver.recvfrom
        _say_ready()
        if order.latencies:
            while True:
                received = receive(_SLOT_SIZE)
                if received:
                    note(received[0])
        while True:
            receive(_SLOT_SIZE)
            consumer.received += 1


def _spead2(consumer: Consumer) -> None:
    import spead2.recv

    # It says each time that its queue is full; under overload that is all it would do.
    logging.getLogger("spead2").setLevel(logging.ERROR)

    size, note = consumer.order.size, consumer.note
    stream = spead2.recv.Stream(
        spead2.ThreadPool(1),
        spead2.recv.StreamConfig(memory_allocator=spead2.MemoryPool(size, 2 * size, 4096, 4096)),
        spead2.recv.RingStreamConfig(heaps=_STALLED_HEAPS if consumer.order.stall else 4096),
    )
    stream.add_udp_reader(consumer.socket(), max_size=_SLOT_SIZE)
    _say_ready()
    if consumer.order.latencies:
        for heap in stream:
            for item in heap.get_items():
                if item.id == _SPEAD_ITEM:
                    note(memoryview(item))
    for _ in stream:
        consumer.received += 1


WAYS: dict[str, Callable[[Consumer], None]] = {
    "c": _c,
    "c-trains": _c_trains,
    "socket": _mcastfast("socket"),
    "socket-each": _mcastfast("socket", each=True),
    "portable": _mcastfast("portable"),
    "recv_into": _socket,
    "uvloop": _uvloop,
    "asyncio": _asyncio,
    "asyncio-grown-heap": _asyncio_grown_heap,
    "multicast_expert": _multicast_expert,
    "spead2": _spead2,
    "coalescing-socket": _mcastfast("socket", coalesce=True),
    "spinning-socket": _mcastfast("socket", spin=0.001),
    "background-socket": _mcastfast("socket", background=BACKGROUND),
}
if can_open_packet_socket():
    WAYS |= {"c-ring": _c_ring, "packet": _packet}
OPTIONAL = ("multicast_expert", "spead2", "uvloop")
for _name in OPTIONAL:
    if importlib.util.find_spec(_name) is None:
        del WAYS[_name]
NEEDS_CAPABILITIES = frozenset({"c-ring", "packet"})


def _say_ready() -> None:
    os.write(sys.stdout.fileno(), b"ready\n")


def _drop_capabilities() -> None:
    """Become an ordinary user as far as the kernel asks: no capability is left, whoever started this."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def main() -> None:
    way, text = sys.argv[1:]
    consumer = Consumer(Order(**json.loads(text)))
    if way not in NEEDS_CAPABILITIES:
        _drop_capabilities()
    if consumer.order.processors:
        os.sched_setaffinity(0, consumer.order.processors)

    def answer() -> None:
        for line in sys.stdin:
            if line == ANEW:
                consumer.latencies.clear()
            os.write(sys.stdout.fileno(), json.dumps(asdict(consumer.state())).encode() + b"\n")
        os._exit(0)  # who would have ended this is gone

    def stall(number: int, frame: object) -> None:
        end = monotonic() + STALL
        while monotonic() < end:
            pass

    threading.Thread(target=answer, daemon=True).start()
    signal.signal(signal.SIGALRM, stall)
    if consumer.order.stall:
        signal.setitimer(signal.ITIMER_REAL, STALL, 2 * STALL)
    WAYS[way](consumer)


if __name__ == "__main__":
    main()
