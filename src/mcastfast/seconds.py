"""Times that a user gives, in seconds."""

from __future__ import annotations

from math import nan
from typing import SupportsFloat, SupportsIndex


def parse_seconds(seconds: object, *, what: str, least: float, most: float) -> float:
    """The time as a number; `what` names it in errors.

    Raises TypeError for what is no number, True and False among them, ValueError for one out of range.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, SupportsFloat | SupportsIndex):
        raise TypeError(f"{what}={seconds!r} is not a number of seconds")
    try:
        number = float(seconds)
    except (OverflowError, ValueError):  # of what is too large, and Decimal("sNaN")
        number = nan
    if not least <= number <= most:
        raise ValueError(f"{what}={seconds!r} is not in {least} to {most} seconds")
    return number
