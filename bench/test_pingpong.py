"""Half a round trip of one datagram between two processes that block in their receives, over lo and over a veth pair.

Both ends are of the same kind, each on a processor of its own where the machine has two. The cost is the median of the
turn. "spinning-socket" watches its socket for a while before it sleeps. sockperf does the same with its own programs.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import pytest

from bench import sockperf
from bench.contest import Contestant, Turn
from bench.elsewhere import ROOT
from bench.namespace import Remote
from bench.pingpong import WAYS, Course
from bench.rig import OPENINGS, replayed_time

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.rig import Rig

pytestmark = [pytest.mark.benchmark(timer=replayed_time), pytest.mark.timeout(300)]

SIZE = 256
ROUNDS = 6 * OPENINGS
GROUPS = ("239.1.2.3", "239.1.2.4")
NAMES = [*WAYS, *(["sockperf"] if sockperf.PATH else [])]

_ports = itertools.count(43000)


def _start(stack: ExitStack, remote: Remote | None, end: str, name: str, course: Course) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.pingpong", end, name, json.dumps(asdict(course))]

    def popen() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    process = stack.enter_context(remote.run(popen) if remote else popen())
    stack.callback(process.kill)
    return process


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with exit code {process.wait()}")
    return line


def _pair(rig: Rig, stack: ExitStack, remote: Remote | None, name: str) -> Contestant:
    here = (Remote.here, Remote.address_here) if remote else ("lo", "127.0.0.1")
    there = (Remote.there, Remote.address_there) if remote else here
    processors = sorted(os.sched_getaffinity(0))
    addresses = [(GROUPS[0], next(_ports)), (GROUPS[1], next(_ports))]
    count, library = 20 if rig.smoke else 2000, str(rig.limit.directory)
    ping = Course(addresses[0], addresses[1], *here, SIZE, library, processors[0])
    pong = Course(addresses[1], addresses[0], *there, SIZE, library, processors[-1])
    # They are waited for in the first turn, when the others have been started too.
    starting = [_start(stack, remote, "pong", name, pong), _start(stack, None, "ping", name, ping)]
    process = starting[1]

    def turn() -> Turn:
        while starting:
            _answer(starting.pop())
        print(count, file=process.stdin, flush=True)
        percentiles = json.loads(_answer(process))
        return Turn(percentiles["50"], count, count, 0, percentiles)

    return turn


def _sockperf(rig: Rig, stack: ExitStack, remote: Remote | None) -> Contestant:
    here = Remote.address_here if remote else "127.0.0.1"
    there = Remote.address_there if remote else here
    processors = sorted(os.sched_getaffinity(0))
    run = sockperf.start(stack, remote, (here, there), SIZE, (processors[0], processors[-1]))

    def turn() -> Turn:
        report = run(1)
        percentiles = sockperf.percentiles_in(report)
        sent, received = sockperf.counts_in(report)
        return Turn(percentiles["50"], sent, received, sent - received, percentiles)

    return turn


def _enter(rig: Rig, stack: ExitStack, over: str) -> dict[str, Contestant]:
    remote = rig.remote if over == "veth" else None
    contestants = {name: rig.opened_often(partial(_pair, rig, stack, remote, name)) for name in WAYS}
    if sockperf.PATH:
        contestants["sockperf"] = _sockperf(rig, stack, remote)
    return contestants


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("over", ["lo", "veth"])
def test_half_round_trip(rig: Rig, benchmark: BenchmarkFixture, over: str, name: str) -> None:
    work = f"pingpong-{over}-256B"
    records = rig.contest(work, ROUNDS, lambda stack: _enter(rig, stack, over), warm_up=OPENINGS)
    rig.report(benchmark, work, name, records, limit="c")
