"""The search for the highest rate without loss: what it finds, and when it gives up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))  # `python -m pytest` has it there, `pytest` has not
from bench.search import Found, Probe, bisect, find_all

LOWEST, HIGHEST, RESOLUTION = 10_000.0, 1_000_000.0, 1.05


def search(capacity: float, *, sender: float = 1e9, breaks_down_to: float = 1e9, hiccups: int = 0) -> Found:
    """Search where a receiver keeps up with so much, the sender with so much, and the first probes lose one each.

    Of a rate that is too high for it the sender keeps no more than it breaks down to.
    """
    steps = bisect(LOWEST, HIGHEST, RESOLUTION)
    rate = next(steps)
    while True:
        kept = rate if rate <= sender else min(sender, breaks_down_to)
        lost = 1 if hiccups > 0 or kept > capacity else 0
        hiccups -= 1
        try:
            rate = steps.send(Probe(kept, 1000, 1000 - lost))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


@pytest.mark.parametrize("capacity", [10_001.0, 77_777.0, 300_000.0, 940_000.0])
def test_it_finds_the_capacity_to_within_the_resolution(capacity: float) -> None:
    found = search(capacity)
    assert capacity / RESOLUTION <= found.best.rate <= capacity
    assert not found.sender_bound
    assert found.probes < 24


def test_one_hiccup_does_not_count() -> None:
    assert search(300_000.0, hiccups=1).best.rate == search(300_000.0).best.rate


def test_a_receiver_that_loses_at_the_lowest_rate_has_that_probe_with_its_loss() -> None:
    assert search(9_999.0) == Found(Probe(LOWEST, 1000, 999), probes=2, sender_bound=False)


def test_a_sender_that_falls_behind_bounds_the_search_by_what_it_kept() -> None:
    found = search(1e9, sender=50_000.0)
    assert found.best.rate == 50_000.0
    assert found.sender_bound


def test_a_sender_that_breaks_down_when_too_much_is_asked_of_it_is_asked_for_less() -> None:
    found = search(1e9, sender=400_000.0, breaks_down_to=20_000.0)
    assert 400_000 / RESOLUTION <= found.best.rate <= 400_000
    assert found.sender_bound


def test_a_sender_that_falls_behind_once_does_not_end_it() -> None:
    steps = bisect(LOWEST, HIGHEST, RESOLUTION)
    rate = next(steps)
    assert steps.send(Probe(rate / 2, 1000, 1000)) == rate
    assert steps.send(Probe(rate, 1000, 1000)) > rate


def test_a_sender_that_falls_behind_and_a_hiccup_are_neither_twice() -> None:
    """In either order."""
    for lost in ((0, 1), (1, 0)):
        steps = bisect(LOWEST, HIGHEST, RESOLUTION)
        rate = steps.send(Probe(next(steps), 1000, 1000))
        for number in lost:
            assert steps.send(Probe(rate if number else rate / 2, 1000, 1000 - number)) == rate
        assert steps.send(Probe(rate, 1000, 1000)) > rate


def test_nothing_lost_at_any_rate_is_the_senders_limit_too() -> None:
    found = search(1e9)
    assert found.best.rate > HIGHEST / RESOLUTION
    assert found.sender_bound


def test_every_contestant_makes_its_step_before_any_makes_the_next() -> None:
    log: list[str] = []

    def offer(name: str, rate: float) -> Probe:
        log.append(name)
        return Probe(rate, 10, 10 if rate < 100_000 else 9)

    names = ("a", "b", "c")
    offers = {name: lambda rate, name=name: offer(name, rate) for name in names}
    found = find_all(offers, lowest=LOWEST, highest=HIGHEST, resolution=1.5)
    assert list(found) == list(names)
    steps = [sorted(log[start : start + 3]) for start in range(0, len(log), 3)]
    assert all(step == list(names) for step in steps)
    assert len({tuple(log[start : start + 3]) for start in range(0, len(log), 3)}) > 1
