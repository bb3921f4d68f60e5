"""A feed over a veth pair, received as an ordinary user does, without capabilities.

Sender and receiver have a processor each, where the machine has two. "socket" takes batches, "socket-each" iterates
their datagrams. What was lost stands beside each figure: it is part of the answer here and fails nothing.

- rate: the highest rate without a loss, found by bisection; the sender cuts trains (UDP_SEGMENT), for it would be the
  limit otherwise.
- processor: the receiving process's processor time per datagram at 50 thousand/s, sent one by one.
- oneway: how old a datagram is when the program has it, at 10 thousand/s.
- stall: 100 thousand/s for ten seconds while the program is busy for one second in every two.
- idle: the share of a processor that a receiver's process takes while nothing comes. mcastfast wakes up now and then
  to look for signals, and a virtual machine may charge a millisecond each time a program wakes up, whatever it does.
"""

from __future__ import annotations

from contextlib import ExitStack
from time import sleep
from typing import TYPE_CHECKING

import pytest

from bench.consumers import WAYS
from bench.contest import Contestant, Record, Turn
from bench.load import Listener, largest_receive_buffer
from bench.rig import replayed_time
from bench.search import Probe, find_all
from bench.targets import Verdict

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.load import Outcome
    from bench.rig import Rig

pytestmark = [pytest.mark.benchmark(timer=replayed_time), pytest.mark.timeout(900)]

SEGMENTS = 32
LOWEST, HIGHEST, RESOLUTION = 20_000.0, 6_000_000.0, 1.07
PROBE = 1.0  # seconds
SMALL_BUFFER = 212_992 // 2  # bytes asked for; the kernel doubles them, to what older systems allow at most
IDLE = 5.0  # seconds
MOST_IDLE = 0.001  # of a processor

RATE = [name for name in WAYS if name != "spinning-socket"]
LATENCY = [name for name in WAYS if name not in {"c-trains", "c-ring", "socket-each"}]
STALLING = [name for name in WAYS if name not in {"c", "c-trains", "c-ring", "socket-each", "spinning-socket"}]
IDLING = [name for name in WAYS if name not in {"c", "c-trains", "c-ring", "socket-each"}]


@pytest.fixture(scope="module")
def sender_bound() -> set[str]:
    """Who may have kept up with more than the sender sends."""
    return set()


def _listen(rig: Rig, stack: ExitStack, names: list[str], *, latencies: bool = False) -> list[Listener]:
    return [Listener(stack, rig.limit, rig.remote, name, latencies=latencies) for name in names]


def _turn(outcome: Outcome, cost: float) -> Turn:
    return Turn(cost, outcome.offered, outcome.received, outcome.lost, outcome.percentiles)


def _find_rates(rig: Rig, sender_bound: set[str]) -> dict[str, Record]:
    seconds, highest = (0.01, LOWEST) if rig.smoke else (PROBE, HIGHEST)

    def offer(listener: Listener, rate: float) -> Probe:
        outcome = listener.take(rate=rate, count=max(SEGMENTS, round(rate * seconds)), segments=SEGMENTS)
        return Probe(outcome.rate, outcome.offered, outcome.received)

    with ExitStack() as stack:
        listeners = {listener.way: listener for listener in _listen(rig, stack, RATE)}
        offers = {name: lambda rate, listener=listener: offer(listener, rate) for name, listener in listeners.items()}
        found = find_all(offers, lowest=LOWEST, highest=highest, resolution=RESOLUTION)
    sender_bound.update(name for name, of in found.items() if of.sender_bound)
    # Who lost something at the lowest rate has that rate as a bound, and what it lost there beside it.
    return {
        name: Record((Turn(1e9 / of.best.rate, of.best.offered, of.best.received, of.best.lost),))
        for name, of in found.items()
    }


@pytest.mark.parametrize("name", RATE)
@pytest.mark.parametrize("work", ["rate-veth-256B"])
def test_rate_without_loss(rig: Rig, benchmark: BenchmarkFixture, sender_bound: set[str], work: str, name: str) -> None:
    records = rig.results(work, lambda: _find_rates(rig, sender_bound))
    is_bound = name in sender_bound
    note = "loses already there" if records[name].dropped else "the sender's limit" if is_bound else ""
    limit = None if "c" in sender_bound else "c"
    rig.report(benchmark, work, name, records, limit=limit, unit="/s", note=note, is_bound=is_bound)


def _processor(rig: Rig, listener: Listener) -> Contestant:
    rate, count = 50_000.0, 500 if rig.smoke else 100_000

    def turn() -> Turn:
        outcome = listener.take(rate=rate, count=count)
        return _turn(outcome, outcome.processor / max(1, outcome.received))

    return turn


@pytest.mark.parametrize("name", RATE)
@pytest.mark.parametrize("work", ["processor-veth-256B-50k"])
def test_processor_time(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    def enter(stack: ExitStack) -> dict[str, Contestant]:
        return {listener.way: _processor(rig, listener) for listener in _listen(rig, stack, RATE)}

    records = rig.contest(work, 3, enter, warm_up=0, may_lose=True)
    rig.report(benchmark, work, name, records, limit="c")


def _oneway(rig: Rig, listener: Listener) -> Contestant:
    rate, count = 10_000.0, 100 if rig.smoke else 10_000

    def turn() -> Turn:
        outcome = listener.take(rate=rate, count=count)
        return _turn(outcome, outcome.percentiles["50"])

    return turn


@pytest.mark.parametrize("name", LATENCY)
@pytest.mark.parametrize("work", ["oneway-veth-256B-10k"])
def test_one_way_latency(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    def enter(stack: ExitStack) -> dict[str, Contestant]:
        listeners = _listen(rig, stack, LATENCY, latencies=True)
        return {listener.way: _oneway(rig, listener) for listener in listeners}

    records = rig.contest(work, 5, enter, warm_up=0, may_lose=True)
    rig.report(benchmark, work, name, records, limit="c")


def _stall(rig: Rig, name: str, buffer: int, counted: dict[str, int | None]) -> Contestant:
    rate, count = 100_000.0, 1000 if rig.smoke else 1_000_000

    def turn() -> Turn:
        # In a process that lives for this turn alone: it would stall in the turns of others too.
        with ExitStack() as stack:
            listener = Listener(stack, rig.limit, rig.remote, name, buffer=buffer, stall=True)
            outcome = listener.take(rate=rate, count=count)
        counted[name] = outcome.counted
        return _turn(outcome, outcome.lost / outcome.offered)

    return turn


@pytest.fixture(scope="module")
def counted() -> dict[str, dict[str, int | None]]:
    """What the receivers themselves know of their losses, by work and contestant."""
    return {}


def _judge_stall(record: Record, counted: int | None, *, lossless: bool) -> Verdict:
    if lossless:
        return Verdict("0 lost", f"{record.dropped:,}", not record.dropped)
    figure = f"{counted or 0:,}" if record.dropped else "nothing was lost"
    return Verdict("each loss counted", figure, 0 < record.dropped == counted)


@pytest.mark.parametrize("name", STALLING)
@pytest.mark.parametrize("buffer", ["granted", "small"])
def test_stalls(
    rig: Rig,
    benchmark: BenchmarkFixture,
    counted: dict[str, dict[str, int | None]],
    buffer: str,
    name: str,
) -> None:
    size = SMALL_BUFFER if buffer == "small" else largest_receive_buffer()
    work = f"stall-veth-256B-100k-{2 * size}"
    known = counted.setdefault(work, {})

    def enter(stack: ExitStack) -> dict[str, Contestant]:
        return {who: _stall(rig, who, size, known) for who in STALLING}

    records = rig.contest(work, 1, enter, warm_up=0, may_lose=True)
    verdict = None
    if name == "background-socket":
        verdict = _judge_stall(records[name], known[name], lossless=buffer == "granted")
    note = "" if known[name] is None else f"counted {known[name]:,}"
    rig.report(benchmark, work, name, records, unit="%", verdict=verdict, note=note)


def _idle(rig: Rig) -> dict[str, Record]:
    nanoseconds = 0.1e9 if rig.smoke else IDLE * 1e9
    with ExitStack() as stack:
        listeners = _listen(rig, stack, IDLING)
        for listener in listeners:
            listener.state()  # it has joined, and has an answer behind it
        sleep(nanoseconds / 1e10)
        before = [listener.processor() for listener in listeners]
        sleep(nanoseconds / 1e9)
        after = [listener.processor() for listener in listeners]
    return {
        listener.way: Record((Turn((end - start) / nanoseconds),))
        for listener, start, end in zip(listeners, before, after, strict=True)
    }


@pytest.mark.parametrize("name", IDLING)
@pytest.mark.parametrize("work", ["idle-veth"])
def test_idle(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    records = rig.results(work, lambda: _idle(rig))
    verdict = None
    if name == "background-socket":
        share = records[name].cost
        verdict = Verdict(f"<= {MOST_IDLE:.1%}", f"{share:.3%}", share <= MOST_IDLE)
    rig.report(benchmark, work, name, records, unit="%", verdict=verdict)
