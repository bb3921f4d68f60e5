"""Ways to empty a socket's queue: the C limit's, the standard library's, mcastfast's.

Each takes what the queue holds and returns (nanoseconds, datagrams). What does not belong to the work (opening, looking
methods up) stays outside the timed part.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any

from bench.climit import LARGEST_TRAIN, SLOT_SIZE, SLOTS
from bench.contest import Contestant, Turn
from bench.feed import Feed
from bench.loops import Move, each

if TYPE_CHECKING:
    from contextlib import ExitStack

    import mcastfast
    from bench.rig import Rig

Way = Callable[["Rig", "ExitStack", "Feed"], Move]

CONTROL_SIZE = 256
TIMED_DRAINS = 3  # of one turn


def enter(
    rig: Rig,
    stack: ExitStack,
    ways: Mapping[str, Way],
    size: int,
    family: socket.AddressFamily = socket.AF_INET,
    segments: int = SLOTS,
) -> dict[str, Contestant]:
    """Give every way to drain feeds of its own, which are filled by trains of up to that many segments."""

    def open_one(open_way: Way) -> Contestant:
        feed = Feed(rig.limit, size, family=family, segments=segments)
        stack.callback(feed.close)
        return contestant(feed, rig.depth(size), open_way(rig, stack, feed))

    return {name: rig.opened_often(partial(open_one, open_way)) for name, open_way in ways.items()}


def contestant(feed: Feed, depth: int, drain: Move) -> Contestant:
    """Return the turn that fills the feed's queue and times its drain, several times over.

    The first drain of a turn is not timed: it finds its memory evicted by whoever had the turn before, and evicted the
    further the more there is of it, which a receiver that runs for long does not see.
    """

    def turn() -> Turn:
        dropped = feed.drops
        drained = []
        for _ in range(1 + TIMED_DRAINS):
            feed.fill(depth)
            drained.append(drain(depth))
        elapsed = sum(nanoseconds for nanoseconds, _ in drained[1:])
        received = sum(count for _, count in drained)
        return Turn(elapsed / (TIMED_DRAINS * depth), len(drained) * depth, received, feed.drops - dropped)

    return turn


def ring_contestant(feed: Feed, depth: int, drain: Move, *, behind: int, pause: float) -> Contestant:
    """Return the turn that fills a packet ring and times how it is read by who runs for long.

    All is offered at first, and the first drain is not timed. `behind` are datagrams that follow those that are timed:
    what a ring gets stays out of sight until a block is full, or old. They are taken after a pause, for the next turn.
    """

    def turn() -> Turn:
        dropped = feed.drops
        offered = (1 + TIMED_DRAINS) * depth + behind
        feed.fill(offered)
        _, received = drain(depth)
        elapsed, timed = drain(offered - behind - received)
        received += timed
        sleep(pause)
        _, rest = drain(offered - received)
        return Turn(elapsed / timed, offered, received + rest, feed.drops - dropped)

    return turn


def c_loop(rig: Rig, stack: ExitStack, feed: Feed, loop: str) -> Move:
    limit, descriptor = rig.open_limit(stack), feed.receiver.fileno()
    return lambda count: limit.drain(loop, descriptor, count)


def c_loop_over_trains(rig: Rig, stack: ExitStack, feed: Feed) -> Move:
    feed.coalesce()
    limit, descriptor, size = rig.open_limit(stack), feed.receiver.fileno(), feed.size
    return lambda count: limit.drain_trains(descriptor, count, size)


def recv_into(feed: Feed) -> Move:
    return each(feed.receiver.recv_into, bytearray(SLOT_SIZE))


def recvfrom_into(feed: Feed) -> Move:
    return each(feed.receiver.recvfrom_into, bytearray(SLOT_SIZE))


def recvfrom(feed: Feed) -> Move:
    return each(feed.receiver.recvfrom, SLOT_SIZE)


def recvmsg_into(feed: Feed) -> Move:
    receive, buffers = feed.receiver.recvmsg_into, [bytearray(SLOT_SIZE)]

    def drain(count: int) -> tuple[int, int]:
        start = perf_counter_ns()
        for _ in range(count):
            receive(buffers, CONTROL_SIZE)
        return perf_counter_ns() - start, count

    return drain


def trains_into(feed: Feed) -> Move:
    """By recvmsg_into from a socket with UDP_GRO, as who knows of it does: trains with the size of their datagrams."""
    feed.coalesce()
    receive, buffers = feed.receiver.recvmsg_into, [bytearray(LARGEST_TRAIN)]
    size_of, room = struct.Struct("i").unpack, socket.CMSG_SPACE(4)

    def drain(count: int) -> tuple[int, int]:
        received = 0
        start = perf_counter_ns()
        while received < count:
            length, control, _, _ = receive(buffers, room)
            size = size_of(control[0][2])[0] if control else length
            received += -(-length // size)
        return perf_counter_ns() - start, received

    return drain


def receiver(
    stack: ExitStack, feed: Feed, engine: str, metadata: tuple[str, ...] = (), **arguments: Any
) -> mcastfast.Receiver:
    """Return a receiver in place of the feed's socket, which it closes with the stack."""
    made = feed.receive_by(engine, metadata=metadata, **{"batch_size": SLOTS, **arguments})
    stack.callback(made.close)
    return made


def batches(source: mcastfast.Receiver) -> Move:
    """Iterate a receiver, as its users do."""

    def drain(count: int) -> tuple[int, int]:
        received = 0
        start = perf_counter_ns()
        for batch in source:
            received += len(batch)
            if received >= count:
                break
        return perf_counter_ns() - start, received

    return drain


def datagrams(source: mcastfast.Receiver) -> Move:
    """Iterate a receiver, and the datagrams of each batch."""

    def drain(count: int) -> tuple[int, int]:
        received = 0
        start = perf_counter_ns()
        for batch in source:
            for _ in batch:
                received += 1
            if received >= count:
                break
        return perf_counter_ns() - start, received

    return drain


def batches_polled(source: mcastfast.Receiver) -> Move:
    """Poll a receiver."""
    receive = source.recv_batch

    def drain(count: int) -> tuple[int, int]:
        received = 0
        start = perf_counter_ns()
        while received < count:
            received += len(receive(timeout=0))
        return perf_counter_ns() - start, received

    return drain
