"""What the C core is told of a rate is that rate, in numbers that it can hold."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastfast import _core
from mcastfast.rate import Pace, Rate, read_pace


@pytest.mark.parametrize(
    ("rate", "pace"),
    [
        (1000, Pace(1, 1_000_000, _core.PACE_DATAGRAMS, 1)),
        (Fraction(1, 3), Pace(1, 3_000_000_000, _core.PACE_DATAGRAMS, 1)),
        ("1 Gbit/s", Pace(1, 8, _core.PACE_PAYLOAD, 1)),
        ("3 bit/s", Pace(3, 8_000_000_000, _core.PACE_PAYLOAD, 1)),
    ],
)
def test_rates_are_exact_where_they_are_round(rate: Any, pace: Pace) -> None:
    assert read_pace(rate) == pace


def test_no_rate_is_no_pace() -> None:
    assert read_pace(None) is None


def test_bits_on_the_wire_are_counted_when_asked_for() -> None:
    pace = read_pace("1 Gbit/s", burst=64, rate_counts="wire")
    assert pace == Pace(1, 8, _core.PACE_WIRE, 64)


datagrams = st.fractions(Fraction(1, 1000), 10**9) | st.floats(1e-3, 1e9).map(lambda number: Fraction(repr(number)))
bits = st.fractions(1, 10**12)


@given(datagrams.map(Rate) | bits.map(lambda value: Rate(value, in_bits=True)))
def test_any_rate_fits_and_keeps_ten_digits(rate: Rate) -> None:
    pace = read_pace(rate)
    assert pace
    assert 1 <= pace.units < 2**35
    assert 1 <= pace.span < 2**45
    exact = rate.value / (8 if rate.in_bits else 1) / 10**9
    assert abs(Fraction(pace.units, pace.span) / exact - 1) < Fraction(1, 10**10)


@pytest.mark.parametrize("burst", [0, -1, 1025, 10**30])
def test_a_burst_out_of_range_is_a_value_error(burst: int) -> None:
    with pytest.raises(ValueError, match=rf"^burst={burst} is not in 1 to 1024 datagrams$"):
        read_pace(1000, burst=burst)


@pytest.mark.parametrize("burst", [1.0, "1", None, [1]])
def test_a_burst_that_is_no_whole_number_is_a_type_error(burst: Any) -> None:
    with pytest.raises(TypeError, match=r"^burst is a whole number of datagrams, not "):
        read_pace(1000, burst=burst)


@pytest.mark.parametrize(
    ("rate", "keywords", "text"),
    [
        (None, {"burst": 64}, r"burst=64 goes with a rate=: 1000, "),
        (None, {"rate_counts": "wire"}, r"rate_counts='wire' goes with a rate=: 1000, "),
        (1000, {"rate_counts": "wire"}, r"rate_counts='wire' goes with a rate in bits, such as '1 Gbit/s', not 1000"),
        ("10", {"rate_counts": "wire"}, r"rate_counts='wire' goes with a rate in bits, .*, not 10$"),
        (Rate.parse("10k"), {"rate_counts": "wire"}, r"rate_counts='wire' goes with a rate in bits, .*, not 10000/s$"),
        ("1 Gbit/s", {"rate_counts": "frames"}, r"rate_counts='frames' is not one of: payload, wire"),
        ("1 Gbit/s", {"rate_counts": None}, r"rate_counts=None is not one of: payload, wire"),
    ],
)
def test_what_does_not_go_with_the_rate_is_a_value_error(rate: Any, keywords: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        read_pace(rate, **keywords)
