"""The search for the highest rate without loss: bisection on a logarithmic scale, all contestants step by step."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping


@dataclass(frozen=True, slots=True)
class Probe:
    """What became of an offer at some rate. `rate` is the one that the sender kept, datagrams a second."""

    rate: float
    offered: int
    received: int

    @property
    def lost(self) -> int:
        return self.offered - self.received


@dataclass(frozen=True, slots=True)
class Found:
    """The fastest lossless probe (that of the lowest rate when even there something was lost) and how many it took.

    sender_bound: what kept it from being faster is the sender, or the end of the scale, and no loss.
    """

    best: Probe
    probes: int
    sender_bound: bool


def bisect(lowest: float, highest: float, resolution: float) -> Generator[float, Probe, Found]:
    """Yield the rates to offer, take a probe for each, and return what was found, to within the resolution (1.05: 5 %).

    A machine has its hiccups: a rate is too high when two probes of it lost something, and too high for the sender when
    it fell behind in two.
    """
    best: Probe | None = None
    probes = 0
    rate, too_high, sender_bound = lowest, highest, True
    while True:
        losses = delays = 0
        is_kept = False
        while not is_kept and losses < 2 and delays < 2:
            probe = yield rate
            probes += 1
            if probe.lost:
                losses += 1
                continue
            if best is None or probe.rate > best.rate:
                best = probe
            is_kept = probe.rate >= rate / resolution
            delays += not is_kept
        if best is None:
            return Found(probe, probes, sender_bound=False)
        if is_kept:
            lowest = rate
        else:
            too_high, sender_bound = rate, delays == 2
        if too_high <= lowest * resolution:
            return Found(best, probes, sender_bound=sender_bound)
        rate = sqrt(lowest * too_high)


def find_all(
    offers: Mapping[str, Callable[[float], Probe]], *, lowest: float, highest: float, resolution: float, seed: int = 1
) -> dict[str, Found]:
    """Search for every contestant. Each step of all comes before the next of any, in an order shuffled anew."""
    searches = {name: bisect(lowest, highest, resolution) for name in offers}
    rates = {name: next(search) for name, search in searches.items()}
    found: dict[str, Found] = {}
    shuffle = random.Random(seed).shuffle
    while rates:
        order = list(rates)
        shuffle(order)
        for name in order:
            try:
                rates[name] = searches[name].send(offers[name](rates[name]))
            except StopIteration as end:
                found[name] = end.value
                del rates[name]
    return {name: found[name] for name in offers}
