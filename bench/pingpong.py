"""The ends of a ping-pong, each in an interpreter of its own: `python -m bench.pingpong ping|pong WAY JSON`.

JSON has the fields of Course. Both say "ready" when they have joined. Then the pong answers every datagram with one of
the same size. Each line of the ping's standard input says how many datagrams to send, each after the answer to the one
before; it answers with a line of JSON, the percentiles of half the round trips in nanoseconds.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import mcastfast
from bench.climit import SLOT_SIZE, Limit
from bench.consumers import percentiles

if TYPE_CHECKING:
    from collections.abc import Callable

SPIN = 0.001  # seconds
PATIENCE = 20  # seconds for all the round trips of one line


@dataclass(frozen=True, slots=True)
class Course:
    """Where to listen and where to send, by which interface, and what."""

    listen: tuple[str, int]
    send: tuple[str, int]
    interface: str
    address: str
    size: int
    library: str
    processor: int

    def receiver(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        group, port = self.listen
        sock.bind((group, port))
        request = struct.pack("4s4si", socket.inet_aton(group), socket.inet_aton(self.address), self._index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        return sock

    def sender(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        request = struct.pack("4s4si", b"", socket.inet_aton(self.address), self._index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        sock.connect(self.send)
        return sock

    @property
    def _index(self) -> int:
        return socket.if_nametoindex(self.interface)


class End:
    """One end: ping() gives half of each round trip, pong() never returns."""

    def ping(self, count: int) -> list[int]:
        raise NotImplementedError

    def pong(self) -> None:
        raise NotImplementedError


class _C(End):
    def __init__(self, course: Course) -> None:
        self._limit, self._size = Limit(Path(course.library)), course.size
        self._receiver, self._sender = course.receiver(), course.sender()

    def ping(self, count: int) -> list[int]:
        return self._limit.ping(self._receiver.fileno(), self._sender.fileno(), count, self._size)

    def pong(self) -> None:
        self._limit.pong(self._receiver.fileno(), self._sender.fileno(), self._size)


class _Calls(End):
    """By one call that receives and one that sends."""

    def __init__(self, receive: Callable[[], object], send: Callable[[], object]) -> None:
        self._receive, self._send = receive, send

    def ping(self, count: int) -> list[int]:
        receive, send, latencies = self._receive, self._send, []
        for _ in range(count):
            start = monotonic_ns()
            send()
            receive()
            latencies.append((monotonic_ns() - start) // 2)
        return latencies

    def pong(self) -> None:
        receive, send = self._receive, self._send
        while True:
            receive()
            send()


def _socket(course: Course) -> End:
    receive, buffer = course.receiver().recvfrom_into, bytearray(SLOT_SIZE)
    send, payload = course.sender().send, bytes(course.size)
    return _Calls(partial(receive, buffer), partial(send, payload))


def _mcastfast(engine: str = "socket", **arguments: Any) -> Callable[[Course], End]:
    def open_end(course: Course) -> End:
        group, port = course.listen
        receiver = mcastfast.Receiver(group, port=port, interface=course.interface, engine=engine, **arguments)
        group, port = course.send
        sender = mcastfast.Sender(group, port=port, interface=course.interface, engine=engine)
        send, payload = sender.send, bytes(course.size)
        return _Calls(receiver.recv_batch, partial(send, payload))

    return open_end


def _multicast_expert(course: Course) -> End:
    import multicast_expert

    group, port = course.listen
    receiver = multicast_expert.McastRxSocket(socket.AF_INET, [group], port, iface=course.interface)
    sender = multicast_expert.McastTxSocket(socket.AF_INET, [course.send[0]], iface=course.interface)
    receive, send = receiver.__enter__().recvfrom, sender.__enter__().sendto
    payload, destination = bytes(course.size), course.send
    return _Calls(receive, partial(send, payload, destination))


class _Loop(End, asyncio.DatagramProtocol):
    """By a protocol, in the loop that is given."""

    def __init__(self, loop: asyncio.AbstractEventLoop, course: Course) -> None:
        self._loop, self._payload = loop, bytes(course.size)
        self._latencies: list[int] = []
        self._left = self._start = 0
        receiver, sender = course.receiver(), course.sender()
        receiver.setblocking(False)
        sender.setblocking(False)
        loop.run_until_complete(loop.create_datagram_endpoint(lambda: self, sock=receiver))
        self._sender, _ = loop.run_until_complete(loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sender))

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if not self._left:
            self._sender.sendto(self._payload)
            return
        now = monotonic_ns()
        self._latencies.append((now - self._start) // 2)
        self._left -= 1
        if self._left:
            self._start = monotonic_ns()
            self._sender.sendto(self._payload)
        else:
            self._loop.stop()

    def ping(self, count: int) -> list[int]:
        self._latencies, self._left, self._start = [], count, monotonic_ns()
        self._sender.sendto(self._payload)
        self._loop.run_forever()
        return self._latencies

    def pong(self) -> None:
        self._loop.run_forever()


def _asyncio(course: Course) -> End:
    return _Loop(asyncio.new_event_loop(), course)


def _uvloop(course: Course) -> End:
    import uvloop

    return _Loop(uvloop.new_event_loop(), course)


WAYS: dict[str, Callable[[Course], End]] = {
    "c": _C,
    "socket": _mcastfast(),
    "recvfrom_into": _socket,
    "uvloop": _uvloop,
    "asyncio": _asyncio,
    "multicast_expert": _multicast_expert,
    "spinning-socket": _mcastfast(spin=SPIN),
    "background-socket": _mcastfast(background="1 MiB"),
    "portable": _mcastfast(engine="portable"),
}
for _name in ("multicast_expert", "uvloop"):
    if importlib.util.find_spec(_name) is None:
        del WAYS[_name]


def main() -> None:
    end, way, text = sys.argv[1:]
    fields = json.loads(text)
    course = Course(**{**fields, "listen": tuple(fields["listen"]), "send": tuple(fields["send"])})
    os.sched_setaffinity(0, {course.processor})
    made = WAYS[way](course)
    print("ready", flush=True)
    if end == "pong":
        made.pong()
    for line in sys.stdin:
        signal.alarm(PATIENCE)  # a lost datagram would be waited for in vain
        print(json.dumps(percentiles(made.ping(int(line)))), flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    main()
