"""Rounds in shuffled order, and what is computed from them."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

_MOST_REPEATS = 3


class LostDatagramsError(Exception):
    """A turn lost datagrams, and so did its repeats: what they measured is not a result."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: its cost in nanoseconds per unit of work (mostly a datagram), and what became of the datagrams."""

    cost: float
    offered: int = 0
    received: int = 0
    dropped: int = 0
    percentiles: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_lossy(self) -> bool:
        return self.received != self.offered or self.dropped > 0


Contestant = Callable[[], Turn]


@dataclass(frozen=True, slots=True)
class Record:
    """The turns of one contestant, one per round; repeated: how many were taken once more since they lost something."""

    turns: tuple[Turn, ...]
    repeated: int = 0

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
        return median(self.ratios_to(other))

    def ratios_to(self, other: Record) -> list[float]:
        """Return this cost divided by the other's, round by round."""
        return [own.cost / its.cost for own, its in zip(self.turns, other.turns, strict=True)]

    def cost_above(self, other: Record) -> float:
        """Return the median over the rounds of this cost minus the other's in the same round."""
        return median(own.cost - its.cost for own, its in zip(self.turns, other.turns, strict=True))


def compete(
    contestants: Mapping[str, Contestant], *, rounds: int, warm_up: int = 1, seed: int = 1, may_lose: bool = False
) -> dict[str, Record]:
    """Give every contestant one turn a round, in an order shuffled anew each round; the warm-up rounds do not count.

    The garbage collector rests meanwhile. A turn that lost something is taken again, since one stray datagram says
    nothing of anybody; LostDatagramsError names the contestant that goes on losing. With may_lose, losses are what the
    contest shows.
    """
    order = list(contestants)
    shuffle = random.Random(seed).shuffle
    turns: dict[str, list[Turn]] = {name: [] for name in order}
    repeated = dict.fromkeys(order, 0)
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(warm_up + rounds):
            shuffle(order)
            for name in order:
                turn, repeats = contestants[name](), 0
                while not may_lose and turn.is_lossy:
                    if repeats == _MOST_REPEATS:
                        raise LostDatagramsError(
                            f"{name}: offered {turn.offered}, received {turn.received}, dropped {turn.dropped}, "
                            f"after {repeats} repeats"
                        )
                    turn, repeats = contestants[name](), repeats + 1
                if number >= warm_up:
                    turns[name].append(turn)
                    repeated[name] += repeats
    finally:
        if collecting:
            gc.enable()
    return {name: Record(tuple(turns[name]), repeated[name]) for name in contestants}
