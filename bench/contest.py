"""Rounds in shuffled order, and what is computed from them."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median


class LostDatagramsError(Exception):
    """A turn lost datagrams: what it measured is not a result."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: its cost in nanoseconds per unit of work (mostly a datagram), and what became of the datagrams."""

    cost: float
    offered: int = 0
    received: int = 0
    dropped: int = 0
    percentiles: Mapping[str, float] = field(default_factory=dict)


Contestant = Callable[[], Turn]


@dataclass(frozen=True, slots=True)
class Record:
    """The turns of one contestant, one per round."""

    turns: tuple[Turn, ...]

    @property
    def cost(self) -> float:
        return median(turn.cost for turn in self.turns)

    @property
    def offered(self) -> int:
        return sum(turn.offered for turn in self.turns)

    @property
    def received(self) -> int:
        return sum(turn.received for turn in self.turns)

    @property
    def dropped(self) -> int:
        return sum(turn.dropped for turn in self.turns)

    @property
    def percentiles(self) -> dict[str, float]:
        """The median over the turns of each percentile."""
        return {name: median(turn.percentiles[name] for turn in self.turns) for name in self.turns[0].percentiles}

    def times_the_cost_of(self, other: Record) -> float:
        """Return the median over the rounds of this cost divided by the other's in the same round."""
        return median(own.cost / its.cost for own, its in zip(self.turns, other.turns, strict=True))

    def cost_above(self, other: Record) -> float:
        """Return the median over the rounds of this cost minus the other's in the same round."""
        return median(own.cost - its.cost for own, its in zip(self.turns, other.turns, strict=True))


def compete(
    contestants: Mapping[str, Contestant], *, rounds: int, warm_up: int = 1, seed: int = 1, may_lose: bool = False
) -> dict[str, Record]:
    """Give every contestant one turn a round, in an order shuffled anew each round; the warm-up rounds do not count.

    The garbage collector rests meanwhile. LostDatagramsError names the contestant whose turn lost something, unless
    losses are what the contest shows.
    """
    order = list(contestants)
    shuffle = random.Random(seed).shuffle
    turns: dict[str, list[Turn]] = {name: [] for name in order}
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(warm_up + rounds):
            shuffle(order)
            for name in order:
                turn = contestants[name]()
                if not may_lose and (turn.received != turn.offered or turn.dropped):
                    raise LostDatagramsError(
                        f"{name}: offered {turn.offered}, received {turn.received}, dropped {turn.dropped}"
                    )
                if number >= warm_up:
                    turns[name].append(turn)
    finally:
        if collecting:
            gc.enable()
    return {name: Record(tuple(turns[name])) for name in contestants}
