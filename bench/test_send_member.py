"""Sending to a group that has one member: the sender pays for the system calls, the way through lo and the delivery.

The member is a plain socket, coalescing (UDP_GRO: a train is delivered as one) or not. It is emptied between the timed
parts; the first call after that, where it is not the only one, is not timed, since everybody's caches are full of the
emptying. "received" is what the member got. The limits send one buffer in trains (UDP_SEGMENT), cut as mcastfast cuts
them: up to 128 segments, up to 65,507 bytes; "gathered" is of payloads that lie apart, as those of a list, without a
copy (mcastfast copies those up to 900 bytes, which is faster). "batch64-send-joined" is what a careful user of `socket`
can do: set UDP_SEGMENT once, then send(b"".join(payloads)); "rows64-send" is the same of payloads that lie together
already, which no call from Python to the kernel does for less. asyncio, uvloop, multicast_expert and spead2 (its
framing around the same payload) send from interpreters of their own.
"""

from __future__ import annotations

import ctypes
import socket
from functools import cache, partial
from mmap import mmap
from time import perf_counter_ns
from typing import TYPE_CHECKING

import pytest

from bench import elsewhere, spead
from bench.climit import LARGEST_TRAIN, SLOT_SIZE, SLOTS, Part
from bench.contest import Contestant, Turn
from bench.drains import TIMED_DRAINS
from bench.feed import UDP_SEGMENT, Feed
from bench.loops import Move, batches_sent, distinct_payloads, each
from bench.peers import SENDING, available
from bench.rig import DEEPEST_QUEUE, OPENINGS, replayed_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from pytest_benchmark.fixture import BenchmarkFixture

    import mcastfast
    from bench.rig import Rig

    Way = Callable[[Rig, ExitStack, Feed, int], Move]

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 75
MOST_SEGMENTS = 128  # since Linux 6.9


@cache
def _rows_of(size: int) -> mmap:
    """What the arrays and the limits send, all from one place: where memory lies makes a few hundredths."""
    memory = mmap(-1, DEEPEST_QUEUE * size)
    memory.write(bytes([1]) * len(memory))  # or it were one page of the kernel
    return memory


def _c_trains(height: int) -> Way:
    def open_way(rig: Rig, stack: ExitStack, feed: Feed, depth: int) -> Move:
        rows = (ctypes.c_char * (min(height, depth) * feed.size)).from_buffer(_rows_of(feed.size))
        descriptor = feed.sender.fileno()
        return lambda count: rig.limit.send_trains(descriptor, count, feed.size, rows, MOST_SEGMENTS)

    return open_way


def _c_gathered(rig: Rig, stack: ExitStack, feed: Feed, depth: int) -> Move:
    """By the payloads of a list."""
    payloads = distinct_payloads(feed.size)
    parts = (Part * SLOTS)(*[Part(payload, feed.size) for payload in payloads])
    descriptor = feed.sender.fileno()
    return lambda count: rig.limit.send_gathered(descriptor, count, feed.size, parts, MOST_SEGMENTS)


def _c_loop(loop: str) -> Way:
    def open_way(rig: Rig, stack: ExitStack, feed: Feed, depth: int) -> Move:
        descriptor = feed.sender.fileno()
        limit = rig.open_limit(stack, max(feed.size, SLOT_SIZE))
        return lambda count: limit.send(loop, descriptor, count, feed.size)

    return open_way


def _sender(stack: ExitStack, feed: Feed, engine: str = "socket", *, segment: bool) -> mcastfast.Sender:
    return stack.enter_context(feed.send_by(engine, segment=segment))


def _list(engine: str = "socket", *, segment: bool) -> Way:
    def open_way(rig: Rig, stack: ExitStack, feed: Feed, depth: int) -> Move:
        return batches_sent(_sender(stack, feed, engine, segment=segment).send_batch, distinct_payloads(feed.size))

    return open_way


def _rows(height: int) -> Way:
    def open_way(rig: Rig, stack: ExitStack, feed: Feed, depth: int) -> Move:
        import numpy

        rows = numpy.frombuffer(_rows_of(feed.size), numpy.uint8, min(height, depth) * feed.size).reshape(-1, feed.size)
        return batches_sent(_sender(stack, feed, segment=True).send_batch, rows)

    return open_way


def _socket_send(rig: Rig, stack: ExitStack, feed: Feed, depth: int) -> Move:
    return each(feed.sender.send, bytes(feed.size))


def _parts(feed: Feed) -> list[list[bytes]]:
    """The payloads of one batch by trains, which the socket is told to cut."""
    feed.sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, feed.size)
    payloads, train = distinct_payloads(feed.size), LARGEST_TRAIN // feed.size
    return [payloads[first : first + train] for first in range(0, SLOTS, train)]


def _socket_send_rows(rig: Rig, stack: ExitStack, feed: Feed, depth: int) -> Move:
    send, parts = feed.sender.send, [b"".join(part) for part in _parts(feed)]

    def run(count: int) -> tuple[int, int]:
        start = perf_counter_ns()
        for _ in range(count // SLOTS):
            for part in parts:
                send(part)
        return perf_counter_ns() - start, count

    return run


def _socket_send_joined(rig: Rig, stack: ExitStack, feed: Feed, depth: int) -> Move:
    send, parts = feed.sender.send, _parts(feed)

    def run(count: int) -> tuple[int, int]:
        start = perf_counter_ns()
        for _ in range(count // SLOTS):
            for part in parts:
                send(b"".join(part))
        return perf_counter_ns() - start, count

    return run


WAYS: dict[str, Way] = {
    "batch64-c-trains": _c_trains(SLOTS),
    "batch512-c-trains": _c_trains(DEEPEST_QUEUE),
    "batch64-c-gathered-trains": _c_gathered,
    "batch64-c": _c_loop("sendmmsg"),
    "batch64-socket-trains": _list(segment=True),
    "rows64-socket-trains": _rows(SLOTS),
    "rows512-socket-trains": _rows(DEEPEST_QUEUE),
    "batch64-socket": _list(segment=False),
    "batch64-portable": _list("portable", segment=False),
    "rows64-send": _socket_send_rows,
    "batch64-send-joined": _socket_send_joined,
    "batch1-send": _socket_send,
}
IN_TRAINS = frozenset(name for name in WAYS if name.endswith("-trains")) | {"rows64-send", "batch64-send-joined"}
PEERS = available(SENDING)


def _contestant(rig: Rig, feed: Feed, send: Move, call: int, depth: int, *, coalescing: bool) -> Contestant:
    descriptor, size = feed.receiver.fileno(), feed.size

    def empty(count: int) -> int:
        if coalescing:
            return rig.limit.drain_trains(descriptor, count, size)[1]
        return rig.limit.drain("recvmmsg_address", descriptor, count)[1]

    untimed = call if call < depth else 0

    def turn() -> Turn:
        # As in drains.contestant, the first part warms the caches.
        dropped, parts = feed.drops, []
        received = 0
        for _ in range(1 + TIMED_DRAINS):
            feed.move_on()
            if untimed:
                send(untimed)
            parts.append(send(depth - untimed))
            received += empty(depth)
        elapsed = sum(nanoseconds for nanoseconds, _ in parts[1:])
        sent = sum(count for _, count in parts)
        offered = sent + len(parts) * untimed
        return Turn(elapsed / (TIMED_DRAINS * (depth - untimed)), offered, received, feed.drops - dropped)

    return turn


def _train_depth(rig: Rig, size: int) -> int:
    """How many datagrams in trains are sent in one timed part: so many that a call or two does not make the figure.

    And not so many that their memory does, which no other way's would: what waits for the member stays below 1 MiB.
    """
    depth = rig.depth(size)
    return depth if rig.smoke else depth * max(1, min(8, min(rig.granted // 2, 1 << 20) // (depth * size)))


def _enter(rig: Rig, stack: ExitStack, size: int, *, coalescing: bool) -> dict[str, Contestant]:
    contestants = {}
    peers: list[elsewhere.Peer] = []

    def open_one(name: str) -> Contestant:
        feed = Feed(rig.limit, size + spead.HEADER if name == "spead2" else size)
        stack.callback(feed.close)
        depth = rig.depth(size)
        if coalescing:
            feed.coalesce()
            if name in IN_TRAINS:
                depth = _train_depth(rig, size)
        if name in WAYS:
            send = WAYS[name](rig, stack, feed, depth)
        else:
            peers.append(elsewhere.Peer(stack, "send", name, feed.sender.fileno(), rig.limit.directory, size))
            send = peers[-1].move
        call = DEEPEST_QUEUE if "512" in name else SLOTS
        return _contestant(rig, feed, send, call, depth, coalescing=coalescing)

    for name in WAYS:
        contestants[name] = rig.opened_often(partial(open_one, name))
    for name in PEERS:
        contestants[name] = open_one(name)
    elsewhere.gather(stack, peers)
    return contestants


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [*WAYS, *PEERS])
@pytest.mark.parametrize("size", [64, 256, 1400, 8972], ids="{}B".format)
@pytest.mark.parametrize("work", ["member-v4"])
def test_send_to_a_coalescing_member(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(work, ROUNDS, lambda stack: _enter(rig, stack, size, coalescing=True), warm_up=OPENINGS)
    rig.report(benchmark, work, name, records, limit="batch64-c-trains")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [*WAYS, *PEERS])
@pytest.mark.parametrize("work", ["plainmember-v4-256B"])
def test_send_to_a_plain_member(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    records = rig.contest(work, ROUNDS, lambda stack: _enter(rig, stack, 256, coalescing=False), warm_up=OPENINGS)
    rig.report(benchmark, work, name, records, limit="batch64-c-trains")
