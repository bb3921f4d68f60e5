"""What a user would pick instead: the receive cost of each, on the same plain socket, filled the same way.

Each runs in an interpreter of its own (bench.peers says why); the C limit and mcastfast too, so that all have the same
way to go from the process that fills the socket. spead2 gets its own framing around the same payload. The datagrams
for a packet ring are sent one by one, as they come from a network, for trains would stay whole there; and they are
more: a ring is read so fast that of what the others have queued only the start would be measured, when a process that
has waited finds its caches cold. Behind them come as many as a block takes, so that those that are timed are in full
blocks, which the kernel hands over at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import drains, elsewhere, spead
from bench.climit import SLOTS
from bench.feed import Feed
from bench.peers import FILLING, FROM_A_RING, RECEIVING, available
from bench.rig import replayed_time
from mcastfast.ring import BLOCK

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.contest import Contestant
    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 41
RING_DEPTH = 8192  # datagrams of one drain, but not more bytes than
RING_BYTES = 6 << 20
NAMES = available(RECEIVING)


def _enter(rig: Rig, stack: ExitStack, size: int) -> dict[str, Contestant]:
    depths = dict.fromkeys(NAMES, rig.depth(size))
    depths |= dict.fromkeys(FROM_A_RING, min(RING_DEPTH, RING_BYTES // size // SLOTS * SLOTS))
    feeds, peers = {}, {}
    for name in NAMES:
        if name == "spead2":
            feed = Feed(rig.limit, size + spead.HEADER, rows=spead.packets(depths[name], size))
        elif name in FROM_A_RING:
            feed = Feed(rig.limit, size, segments=1, is_member=False)
        else:
            feed = Feed(rig.limit, size)
        stack.callback(feed.close)
        feeds[name] = feed
        peers[name] = elsewhere.Peer(stack, "receive", name, feed.receiver.fileno(), rig.limit.directory, size)
    elsewhere.gather(stack, peers.values())

    def contestant(name: str) -> Contestant:
        feed, depth, move = feeds[name], depths[name], peers[name].move
        if name in FROM_A_RING:
            return drains.ring_contestant(feed, depth, move, behind=BLOCK // size, pause=2 * FILLING)
        return drains.contestant(feed, depth, move)

    return {name: contestant(name) for name in NAMES}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 256, 1400, 8972], ids="{}B".format)
@pytest.mark.parametrize("work", ["loops-v4"])
def test_peers(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(work, ROUNDS, lambda stack: _enter(rig, stack, size))
    rig.report(benchmark, work, name, records, limit="c")
