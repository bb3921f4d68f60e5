"""The benchmarks' arithmetic: what is compared with what, in which direction, and that a lossy turn is no result."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.append(str(Path(__file__).parent.parent))  # `python -m pytest` has it there, `pytest` has not
from bench.contest import LostDatagramsError, Record, Turn, compete
from bench.report import is_whole
from bench.targets import Target, judge

if TYPE_CHECKING:
    from collections.abc import Iterator


def record(*costs: float) -> Record:
    return Record(tuple(Turn(cost) for cost in costs))


def test_ratio_is_the_own_cost_over_that_of_the_other() -> None:
    assert record(30.0).times_the_cost_of(record(10.0)) == 3
    assert record(30.0).cost_above(record(10.0)) == 20


def test_comparison_is_the_median_of_those_within_each_round() -> None:
    """A machine that is slow in one round changes both sides; the medians of each alone are 30 and 90."""
    own, other = record(100.0, 20.0, 30.0), record(100.0, 10.0, 90.0)
    assert (own.cost, other.cost) == (30, 90)
    assert own.times_the_cost_of(other) == 1
    assert own.cost_above(other) == 0


def test_records_of_different_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        record(1.0, 2.0).times_the_cost_of(record(1.0))


def test_counts_are_those_of_all_turns() -> None:
    both = Record((Turn(1.0, 10, 9, 1), Turn(2.0, 20, 18, 2)))
    assert (both.cost, both.offered, both.received, both.dropped) == (1.5, 30, 27, 3)


@pytest.mark.parametrize(
    ("turn", "counts"),
    [
        (Turn(1.0, 64, 63, 0), "offered 64, received 63, dropped 0"),
        (Turn(1.0, 64, 65, 0), "offered 64, received 65, dropped 0"),
        (Turn(1.0, 64, 64, 1), "offered 64, received 64, dropped 1"),
    ],
)
@pytest.mark.parametrize("good_turns", [0, 2])
def test_turns_that_go_on_losing_end_it_and_name_the_contestant(turn: Turn, counts: str, good_turns: int) -> None:
    """In the warm-up too."""
    turns = iter([Turn(1.0, 64, 64)] * good_turns + [turn] * 4)
    with pytest.raises(LostDatagramsError, match=f"^leaky: {counts}, after 3 repeats$"):
        compete({"tight": lambda: Turn(1.0, 64, 64), "leaky": lambda: next(turns)}, rounds=3, warm_up=1)
    assert gc.isenabled()


def test_a_turn_that_lost_something_is_taken_again_and_counted() -> None:
    """Not where it was in the warm-up, which counts for nothing."""
    lossy, good = Turn(1.0, 64, 63), [Turn(float(cost), 64, 64) for cost in range(4)]
    turns = iter([lossy, good[0], good[1], lossy, lossy, lossy, good[2], lossy, good[3]])
    records = compete({"leaky": lambda: next(turns), "tight": lambda: Turn(1.0)}, rounds=3, warm_up=1)
    assert records == {"leaky": Record(tuple(good[1:]), 4), "tight": Record((Turn(1.0),) * 3)}


def test_a_contest_of_losses_ends_with_them() -> None:
    records = compete({"leaky": lambda: Turn(1.0, 64, 60, 4)}, rounds=3, may_lose=True)
    assert (records["leaky"].offered, records["leaky"].received, records["leaky"].dropped) == (192, 180, 12)


def test_each_percentile_is_the_median_of_that_of_the_turns() -> None:
    turns = [Turn(1.0, percentiles={"50": half, "99": 10 * half}) for half in (3.0, 1.0, 2.0)]
    assert Record(tuple(turns)).percentiles == {"50": 2.0, "99": 20.0}
    assert record(1.0).percentiles == {}


def test_every_contestant_has_one_turn_a_round_and_the_warm_up_does_not_count() -> None:
    log: list[str] = []
    clock: Iterator[float] = iter(range(1, 1000))

    def enter(name: str) -> Turn:
        log.append(name)
        assert not gc.isenabled()
        return Turn(float(next(clock)))

    names = ["a", "b", "c"]
    records = compete({name: lambda name=name: enter(name) for name in names}, rounds=20, warm_up=2)  # type: ignore[misc]
    rounds = [log[start : start + 3] for start in range(0, len(log), 3)]
    assert len(rounds) == 22
    assert all(sorted(order) == names for order in rounds)
    assert len({tuple(order) for order in rounds}) == 6
    assert list(records) == names
    for name, found in records.items():
        assert [turn.cost for turn in found.turns] == [place + 1 for place, who in enumerate(log) if who == name][2:]


@pytest.mark.parametrize(
    ("target", "figure", "reached"),
    [
        (Target("rate", "limit", at_least=0.5), "0.5", True),
        (Target("rate", "limit", at_least=0.51), "0.5", False),
        (Target("cost", "limit", at_most=2), "2", True),
        (Target("cost", "limit", at_most=1.99), "2", False),
        (Target("difference", "limit", at_most=100), "100.0 ns", True),
        (Target("difference", "limit", at_most=99), "100.0 ns", False),
        (Target("absolute", at_most=200), "200.0 ns", True),
        (Target("absolute", at_most=199), "200.0 ns", False),
    ],
    ids=str,
)
def test_a_contestant_of_twice_the_cost_has_half_the_rate(target: Target, figure: str, reached: bool) -> None:
    verdict = target.judge("own", {"own": record(200.0), "limit": record(100.0)})
    assert (verdict.target, verdict.figure, verdict.reached) == (str(target), figure, reached)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target("rate", "batch64-c", at_least=0.95), "rate >= 0.95 x batch64-c"),
        (Target("cost", "socket", at_most=1.05), "cost <= 1.05 x socket"),
        (Target("difference", "socket", at_most=25e6), "<= 25.0 ms over socket"),
        (Target("absolute", at_most=35), "<= 35.0 ns"),
    ],
)
def test_a_target_says_its_bound_and_what_it_is_against(target: Target, text: str) -> None:
    assert str(target) == text


@pytest.mark.parametrize(("cost", "reached"), [(39.0, True), (41.0, False), (20.0, True)])
def test_of_several_targets_all_have_to_be_reached(cost: float, reached: bool) -> None:
    records = {"coalescing-socket": record(cost), "recv_into": record(1000.0), "c-trains": record(30.0)}
    verdict = judge("trains-v4-256B", "coalescing-socket", records)
    assert verdict is not None
    assert verdict.target == "rate >= 25 x recv_into, rate >= 0.75 x c-trains"
    assert verdict.figure == f"{1000 / cost:.4g}, {30 / cost:.4g}"
    assert verdict.reached is reached


def test_the_target_of_a_contestant_is_that_of_its_work() -> None:
    records = {"batch64-socket": record(100.0), "batch64-c": record(95.9)}
    verdicts = [judge(work, "batch64-socket", records) for work in ("recv-v4-64B", "recv-v4-256B", "recv-v6")]
    assert [verdict and verdict.reached for verdict in verdicts] == [True, False, None]


@pytest.mark.parametrize(
    ("target", "figure"),
    [
        (Target("rate", "limit", at_least=0.5), "0.5 (0.4 to 0.8)"),
        (Target("cost", "limit", at_most=2), "2 (1.25 to 2.5)"),
        (Target("absolute", at_most=20), "20.0 ns"),
    ],
)
def test_a_ratio_shows_between_what_half_of_the_rounds_lie(target: Target, figure: str) -> None:
    records = {"own": record(10.0, 12.5, 20.0, 25.0, 40.0), "limit": record(*[10.0] * 5)}
    assert target.judge("own", records).figure == figure


@pytest.mark.parametrize(
    ("arguments", "left_out", "exitstatus", "whole"),
    [
        (["bench"], False, 0, True),
        (["bench"], True, 0, False),
        (["bench/test_send.py"], False, 0, False),
        (["bench"], False, 1, False),
    ],
)
def test_only_a_whole_run_that_passed_is_one_to_write_of(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], left_out: bool, exitstatus: int, whole: bool
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert is_whole(arguments, exitstatus, left_out=left_out) is whole
