"""How fast a sender sends: what a user may write for it, and what the C core is told."""

from __future__ import annotations

import operator
import re
from fractions import Fraction
from typing import NamedTuple, SupportsIndex, TypeAlias

from mcastfast import _core
from mcastfast.sizes import MOST_DIGITS

EXAMPLES = "1000, '100_000/s', '10k' (datagrams each second) or '1 Gbit/s'"

COUNTS = {"payload": _core.PACE_PAYLOAD, "wire": _core.PACE_WIRE}
"""Values of rate_counts=: which bits of a datagram a rate in bits counts."""

_UNITS = "/s and pps for datagrams, bit/s, bits/s and bps for bits, with k, M, G or T before them"

_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_TEXT = re.compile(
    r"(?P<number>[0-9]+(?:_[0-9]+)*(?:\.[0-9]+(?:_[0-9]+)*)?)"
    r"(?:[ ]?(?P<prefix>[kKmMgGtT]?)(?P<unit>/s|pps|[Bb]its?/s|bps)|(?P<bare>[kKmMgGtT]?))"
)

# What the C core holds, mcf_pace.h.
_MOST_UNITS = 2**35
_LONGEST_SPAN = 2**45
_NANOSECONDS = 10**9


class Rate(NamedTuple):
    """So many datagrams, or bits, each second."""

    value: Fraction
    in_bits: bool = False

    @classmethod
    def parse(cls, rate: RateLike) -> Rate:
        """What a user wrote for a rate.

        A number, and text without a unit or with `/s` or `pps`, means datagrams each second; `bit/s`, `bits/s` and
        `bps` mean bits. Text may have one of the prefixes k, M, G, T (powers of 1000, in either case), underscores as
        in Python, and a space before the unit. From 0.001 to 10^9 datagrams, 1 to 10^12 bits. ValueError for text that
        says something else, and for a rate out of this range; TypeError for what is neither number nor text.
        """
        if isinstance(rate, Rate):
            return rate
        value, in_bits = _read_text(rate) if isinstance(rate, str) else (_read_number(rate), False)
        if in_bits and not 1 <= value <= 10**12:
            raise ValueError(f"rate={rate!r} is not a rate of 1 bit/s to 1 Tbit/s")
        if not in_bits and not 1 <= value * 1000 <= 10**12:
            raise ValueError(f"rate={rate!r} is not a rate of 0.001 to 1,000,000,000 datagrams each second")
        return cls(value, in_bits)

    def __str__(self) -> str:
        return f"{float(self.value):.15g}{' bit/s' if self.in_bits else '/s'}"

    def datagrams(self, size: int) -> float:
        """Datagrams with `size` bytes of payload each second."""
        return float(self.value / (8 * size) if self.in_bits else self.value)


RateLike: TypeAlias = str | float | SupportsIndex | Fraction | Rate


class Pace(NamedTuple):
    """A rate as the C core keeps it: `units` each `span` nanoseconds, of datagrams or octets as `counts` says."""

    units: int
    span: int
    counts: int
    burst: int


def read_pace(rate: RateLike | None, *, burst: int = 1, rate_counts: str = "payload") -> Pace | None:
    """The pace that a sender's arguments ask for, None without a rate.

    ValueError and TypeError as Rate.parse, for a burst that is not 1 to MAX_BATCH, and for what only goes with a rate
    of another kind.
    """
    if not hasattr(burst, "__index__"):
        raise TypeError(f"burst is a whole number of datagrams, not {burst!r}")
    if not 1 <= operator.index(burst) <= _core.MAX_BATCH:
        raise ValueError(f"burst={burst!r} is not in 1 to {_core.MAX_BATCH} datagrams")
    if rate_counts not in list(COUNTS):  # whatever it is, hashable or not
        raise ValueError(f"rate_counts={rate_counts!r} is not one of: {', '.join(COUNTS)}")
    if rate is None:
        if burst != 1 or rate_counts != "payload":
            given = f"burst={burst!r}" if burst != 1 else f"rate_counts={rate_counts!r}"
            raise ValueError(f"{given} goes with a rate=: {EXAMPLES}")
        return None
    parsed = Rate.parse(rate)
    if rate_counts != "payload" and not parsed.in_bits:
        raise ValueError(f"rate_counts={rate_counts!r} goes with a rate in bits, such as '1 Gbit/s', not {rate}")
    each = parsed.value / (8 * _NANOSECONDS if parsed.in_bits else _NANOSECONDS)
    each = each.limit_denominator(min(_LONGEST_SPAN, int(_MOST_UNITS / each)) - 1)
    counts = COUNTS[rate_counts] if parsed.in_bits else _core.PACE_DATAGRAMS
    return Pace(each.numerator, each.denominator, counts, operator.index(burst))


def _read_text(text: str) -> tuple[Fraction, bool]:
    match = _TEXT.fullmatch(text)
    if not match or len(match["number"]) > MOST_DIGITS:
        raise ValueError(f"rate={text!r} is not a rate, such as {EXAMPLES}; units are {_UNITS}")
    prefix = (match["prefix"] or match["bare"] or "").lower()
    in_bits = "b" in (match["unit"] or "").lower()
    return Fraction(match["number"].replace("_", "")) * _PREFIXES[prefix], in_bits


def _read_number(rate: float | SupportsIndex | Fraction) -> Fraction:
    if isinstance(rate, float):
        try:
            return Fraction(repr(float(rate)))  # what was written: 0.1 is one in ten seconds, to the nanosecond
        except ValueError:
            raise ValueError(f"rate={rate!r} is not a finite number") from None
    if isinstance(rate, Fraction):
        return rate
    if isinstance(rate, bool) or not hasattr(rate, "__index__"):
        raise TypeError(f"rate is a number of datagrams each second or text, such as {EXAMPLES}, not {rate!r}")
    return Fraction(operator.index(rate))
