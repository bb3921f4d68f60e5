"""Times that a user gives, wherever one is taken."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest

from mcastfast.seconds import parse_seconds


@pytest.mark.parametrize("seconds", [0, 1, 0.5, Fraction(1, 2), Decimal("0.5")])
def test_any_real_number_is_one(seconds: object) -> None:
    assert parse_seconds(seconds, what="delay", least=0, most=1) == float(seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [True, False, "1", b"1", None, 1j, [1]])
def test_what_is_no_number_is_refused(seconds: object) -> None:
    with pytest.raises(TypeError, match=r"^spin=.* is not a number of seconds$"):
        parse_seconds(seconds, what="spin", least=0, most=1)


@pytest.mark.parametrize("seconds", [-0.001, 1.001, math.nan, math.inf, -math.inf, 10**400, Decimal("sNaN")])
def test_what_is_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^ring: delay=.* is not in 0 to 1 seconds$"):
        parse_seconds(seconds, what="ring: delay", least=0, most=1)
