"""What may be written for a rate, and what it means."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastfast.rate import Rate


@pytest.mark.parametrize(
    ("written", "datagrams"),
    [
        (1000, 1000),
        (0.1, Fraction(1, 10)),
        (Fraction(1, 3), Fraction(1, 3)),
        (np.int32(7), 7),
        (np.float64(2.5), Fraction(5, 2)),
        ("1000", 1000),
        ("1000/s", 1000),
        ("100_000/s", 100_000),
        ("100 k/s", 100_000),
        ("10k", 10_000),
        ("0.5", Fraction(1, 2)),
        ("3pps", 3),
        ("1.25 Mpps", 1_250_000),
    ],
)
def test_a_number_means_datagrams_each_second(written: Any, datagrams: Fraction) -> None:
    assert Rate.parse(written) == Rate(Fraction(datagrams), in_bits=False)


@pytest.mark.parametrize(
    ("written", "bits"),
    [
        ("1 bit/s", 1),
        ("64 kbit/s", 64_000),
        ("8Mbit/s", 8_000_000),
        ("8 mbits/s", 8_000_000),
        ("1 Gbit/s", 10**9),
        ("1.5gbps", 1_500_000_000),
        ("0.1 Tbit/s", 10**11),
        ("1_000.000_5 kBit/s", Fraction("1000000.5")),
    ],
)
def test_a_unit_of_bits_means_bits_each_second(written: str, bits: Fraction) -> None:
    assert Rate.parse(written) == Rate(Fraction(bits), in_bits=True)


numbers = st.decimals(Decimal("0.001"), Decimal(10**6), places=3)


@given(numbers, st.sampled_from(["", "k", "K"]), st.sampled_from(["", " "]), st.sampled_from(["/s", "pps"]))
def test_text_is_exact(number: Decimal, prefix: str, space: str, unit: str) -> None:
    rate = Rate.parse(f"{number}{space}{prefix}{unit}")
    assert rate == Rate(Fraction(number) * (1000 if prefix else 1))


@given(st.floats(1e-3, 1e9))
def test_a_float_is_the_number_that_python_shows(number: float) -> None:
    assert Rate.parse(number) == Rate.parse(Fraction(repr(number)))


def test_a_rate_is_taken_as_it_is() -> None:
    rate = Rate(Fraction(8), in_bits=True)
    assert Rate.parse(rate) is rate


@pytest.mark.parametrize(
    "written",
    ["", " ", "fast", "k", "/s", "-1", "+1", "1e3", "nan", "inf", "1__0", "_1", "1_", "1.", ".5", "1,000", "1 k",
     "1  /s", " 1", "1 ", "1\n", "8 MBps", "8 Mb/s", "8 MB/s", "1/min", "1 /h", "1 Pbit/s", "٣", "1 bit", "1 bit / s"],
)  # fmt: skip
def test_other_text_is_a_value_error_with_examples(written: str) -> None:
    text = r"^rate=.* is not a rate, such as 1000, '100_000/s', '10k' .* or '1 Gbit/s'; units are /s and pps .*$"
    with pytest.raises(ValueError, match=text):
        Rate.parse(written)


@pytest.mark.parametrize("form", ["{}", "{} bit/s", "0.{}", "0.{}k"])
def test_more_digits_than_python_reads_are_no_rate(form: str) -> None:
    with pytest.raises(ValueError, match=r"^rate='.*9.*' is not a rate, such as 1000, "):
        Rate.parse(form.format("9" * 5000))


@pytest.mark.parametrize(
    "written", [0, -1, 0.0, -0.0, 0.000999, 10**9 + 1, 10**400, "0", "0/s", "2 Tpps", Fraction(-1, 3)]
)
def test_datagrams_out_of_range_are_a_value_error(written: Any) -> None:
    with pytest.raises(ValueError, match=r"^rate=.* is not a rate of 0\.001 to 1,000,000,000 datagrams each second$"):
        Rate.parse(written)


@pytest.mark.parametrize("written", ["0 bit/s", "0.9 bit/s", "1.1 Tbit/s"])
def test_bits_out_of_range_are_a_value_error(written: str) -> None:
    with pytest.raises(ValueError, match=r"^rate=.* is not a rate of 1 bit/s to 1 Tbit/s$"):
        Rate.parse(written)


@pytest.mark.parametrize("written", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_value_error(written: float) -> None:
    with pytest.raises(ValueError, match=r"^rate=.* is not a finite number$"):
        Rate.parse(written)


@pytest.mark.parametrize("written", [True, False, b"1000", [1000], (1000,), object(), 1j, Decimal(1)])
def test_what_is_neither_number_nor_text_is_a_type_error(written: Any) -> None:
    with pytest.raises(TypeError, match=r"^rate is a number of datagrams each second or text, such as 1000,"):
        Rate.parse(written)


@given(st.text() | st.floats() | st.integers() | st.fractions())
def test_whatever_is_written_is_a_rate_or_a_value_error(written: str | float | Fraction) -> None:
    refused = ""
    value = Fraction(1)
    try:
        value = Rate.parse(written).value
    except ValueError as error:
        refused = str(error)
    assert value > 0
    assert not refused or refused.startswith(f"rate={written!r} is not a ")


@given(st.fractions(1, 10**9, max_denominator=1000), st.booleans())
def test_the_text_of_a_rate_reads_as_that_rate(value: Fraction, in_bits: bool) -> None:
    rate = Rate(value, in_bits)
    read = Rate.parse(str(rate))
    assert float(read.value) == pytest.approx(float(value), rel=1e-14)
    assert read.in_bits is in_bits


def test_datagrams_of_a_size() -> None:
    assert Rate(Fraction(8_000_000), in_bits=True).datagrams(1000) == 1000.0
    assert Rate(Fraction(50)).datagrams(1000) == 50.0
