"""What mcastfast sets out to reach, by work and contestant. The table says yes or no; nothing fails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.contest import Record


def shown_time(nanoseconds: float) -> str:
    return f"{nanoseconds:,.1f} ns" if abs(nanoseconds) < 1e6 else f"{nanoseconds / 1e6:,.1f} ms"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was to be reached, what was, and whether that is enough."""

    target: str
    figure: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a contestant's cost, or on its relation to another contestant of the same work."""

    measure: Literal["rate", "cost", "difference", "absolute"]
    against: str = ""
    at_least: float = -math.inf
    at_most: float = math.inf

    def judge(self, name: str, records: Mapping[str, Record]) -> Verdict:
        value = self._value(records[name], records)
        figure = self._show(value) + self._spread(records[name], records)
        return Verdict(str(self), figure, self.at_least <= value <= self.at_most)

    def _show(self, value: float) -> str:
        return f"{value:.4g}" if self.measure in {"rate", "cost"} else shown_time(value)

    def _spread(self, own: Record, records: Mapping[str, Record]) -> str:
        """Between what half of the rounds lie; empty where there is no ratio or only one round."""
        if self.measure not in {"rate", "cost"} or len(own.turns) == 1:
            return ""
        other = records[self.against]
        ratios = other.ratios_to(own) if self.measure == "rate" else own.ratios_to(other)
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        return f" ({self._show(low)} to {self._show(high)})"

    def _value(self, own: Record, records: Mapping[str, Record]) -> float:
        match self.measure:
            case "rate":
                return records[self.against].times_the_cost_of(own)
            case "cost":
                return own.times_the_cost_of(records[self.against])
            case "difference":
                return own.cost_above(records[self.against])
            case "absolute":
                return own.cost

    def __str__(self) -> str:
        bound = f">= {self._show(self.at_least)}" if math.isfinite(self.at_least) else f"<= {self._show(self.at_most)}"
        match self.measure:
            case "rate" | "cost":
                return f"{self.measure} {bound} x {self.against}"
            case "difference":
                return f"{bound} over {self.against}"
            case "absolute":
                return bound


def judge(work: str, contestant: str, records: Mapping[str, Record]) -> Verdict | None:
    """Return the verdict on a contestant, None where nothing was set; of several targets all have to be reached."""
    verdicts = [target.judge(contestant, records) for target in _TARGETS.get((work, contestant), ())]
    if not verdicts:
        return None
    return Verdict(
        ", ".join(verdict.target for verdict in verdicts),
        ", ".join(verdict.figure for verdict in verdicts),
        all(verdict.reached for verdict in verdicts),
    )


_TARGETS: dict[tuple[str, str], list[Target]] = {
    ("recv-v4-64B", "batch64-socket"): [Target("rate", "batch64-c", at_least=0.95)],
    ("recv-v4-256B", "batch64-socket"): [Target("rate", "batch64-c", at_least=0.96)],
    ("recv-v4-1400B", "batch64-socket"): [Target("rate", "batch64-c", at_least=0.95)],
    ("recvmeta-v4-256B", "batch64-socket"): [Target("rate", "batch64-c", at_least=0.95)],
    ("held-v4-256B", "iterate-len"): [Target("absolute", at_most=35)],
    ("held-v4-256B", "payloads"): [Target("absolute", at_most=28)],
    ("held-v4-64B", "payloads"): [Target("absolute", at_most=28)],
    ("records-v4-256B", "in-the-loop"): [Target("absolute", at_most=2000)],
    ("lone-v4-256B", "socket"): [Target("rate", "recvfrom_into", at_least=1.15)],
    ("wait-v4-256B-30us-cpu", "socket"): [Target("cost", "recvfrom_into", at_most=1.05)],
    ("wait-v4-256B-60us-cpu", "socket"): [Target("cost", "recvfrom_into", at_most=1.05)],
    ("wait-v4-256B-30us-latency", "socket"): [Target("cost", "recvfrom_into", at_most=1.0)],
    ("wait-v4-256B-60us-latency", "socket"): [Target("cost", "recvfrom_into", at_most=1.0)],
    ("send-v4-256B", "batch64-socket"): [Target("rate", "batch64-c", at_least=0.96)],
    ("send-v4-256B", "batch1-socket"): [Target("rate", "batch1-send", at_least=1.0)],
    ("loops-v4-256B", "asyncio"): [Target("cost", "socket", at_least=28)],
    ("loops-v4-256B", "packet"): [Target("absolute", at_most=50), Target("rate", "recv_into", at_least=14)],
    ("loops-v4-256B", "uvloop"): [Target("cost", "socket", at_least=2.8)],
    ("trains-v4-64B", "coalescing-socket"): [Target("rate", "recv_into", at_least=35)],
    ("trains-v4-256B", "coalescing-socket"): [
        Target("rate", "recv_into", at_least=25),
        Target("rate", "c-trains", at_least=0.75),
    ],
    ("trains-v4-1400B", "coalescing-socket"): [Target("rate", "recv_into", at_least=9)],
    ("apart-v4-256B", "coalescing-socket"): [Target("rate", "socket", at_least=0.94)],
    ("member-v4-256B", "batch64-socket-trains"): [Target("rate", "batch1-send", at_least=35)],
    ("member-v4-1400B", "batch64-socket-trains"): [Target("rate", "batch1-send", at_least=17)],
    ("plainmember-v4-256B", "batch64-socket-trains"): [Target("rate", "batch1-send", at_least=6)],
    ("member-v4-256B", "rows64-socket-trains"): [Target("rate", "batch64-c-trains", at_least=0.88)],
    ("member-v4-256B", "rows512-socket-trains"): [Target("rate", "batch512-c-trains", at_least=0.95)],
    ("pingpong-lo-256B", "socket"): [Target("cost", "c", at_most=1.10)],
    ("pingpong-veth-256B", "socket"): [Target("cost", "c", at_most=1.10)],
    ("pingpong-lo-256B", "spinning-socket"): [Target("cost", "recvfrom_into", at_most=0.6)],
    ("pingpong-veth-256B", "spinning-socket"): [Target("cost", "recvfrom_into", at_most=0.6)],
    ("import", "mcastfast-used"): [Target("difference", "socket", at_most=25e6)],
}
