"""Event loops: the datagram protocols of asyncio and uvloop beside batches, on the same plain socket.

Each runs in an interpreter of its own (bench.peers says why); the C limit and mcastfast too, so that all have the same
way to go from the process that fills the socket.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import drains
from bench.feed import Feed
from bench.peers import WAYS
from bench.rig import replayed_time

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.contest import Contestant
    from bench.drains import Drain
    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 41
ROOT = Path(__file__).parent.parent
NAMES = [name for name in WAYS if name != "uvloop" or importlib.util.find_spec("uvloop")]


def _drain_elsewhere(rig: Rig, stack: ExitStack, feed: Feed, name: str) -> Drain:
    descriptor = feed.receiver.fileno()
    peer = subprocess.Popen(
        [sys.executable, "-m", "bench.peers", name, str(descriptor), str(rig.limit.directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[descriptor],
        text=True,
    )
    stack.enter_context(peer)
    stack.callback(peer.kill)  # it has nothing to save, and in a lost turn it waits for ever
    assert peer.stdin is not None
    assert peer.stdout is not None
    orders, answers = peer.stdin, peer.stdout

    def answer() -> str:
        line = answers.readline()
        if not line:
            raise RuntimeError(f"bench.peers {name} ended with exit code {peer.wait()}")
        return line

    def drain(count: int) -> tuple[int, int]:
        print(count, file=orders, flush=True)
        elapsed, received = map(int, answer().split())
        return elapsed, received

    answer()

    return drain


def _enter(rig: Rig, stack: ExitStack, size: int) -> dict[str, Contestant]:
    # All on one processor, as if in one process: otherwise the datagrams change caches on their way.
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    stack.callback(os.sched_setaffinity, 0, allowed)
    contestants = {}
    for name in NAMES:
        feed = Feed(rig.limit, size)
        stack.callback(feed.close)
        contestants[name] = drains.contestant(feed, rig.depth(size), _drain_elsewhere(rig, stack, feed, name))
    return contestants


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 256, 1400], ids="{}B".format)
@pytest.mark.parametrize("work", ["loops-v4"])
def test_event_loop(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(work, ROUNDS, lambda stack: _enter(rig, stack, size))
    rig.report(benchmark, work, name, records, limit="c")
