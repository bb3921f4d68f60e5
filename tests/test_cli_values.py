"""How the values of options are written: sizes, numbers, rates, times and endpoints."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastfast.commands import arguments
from mcastfast.commands.endpoints import Unicast, parse_unicast

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1316", 1316),
        ("64K", 65536),
        ("64k", 65536),
        ("8M", 8 << 20),
        ("8MiB", 8 << 20),
        ("8 MB", 8_000_000),
        ("64kB", 64_000),
        ("1.5k", 1536),
        ("1G", 1 << 30),
        ("4G", 4 << 30),
    ],
)
def test_sizes_are_binary_unless_their_unit_is_not(text: str, value: int) -> None:
    assert arguments.size(text) == value


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("10k", 10_000), ("1,000", 1000), ("2M", 2_000_000)])
def test_counts_are_decimal(text: str, value: int) -> None:
    assert arguments.count(text) == value


@pytest.mark.parametrize(("text", "value"), [("2.5", 2.5), ("10s", 10.0)])
def test_times_are_in_seconds(text: str, value: float) -> None:
    assert arguments.seconds(text) == value


@pytest.mark.parametrize("parse", [arguments.size, arguments.count, arguments.rate, arguments.seconds])
@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "k", "nan", "inf", "1e99", "8X", "1 M", "٣x", "8\u212a", pytest.param(5000 * "9", id="long")],
)
def test_what_is_no_value_is_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a "):
        parse(text)


@given(st.text())
def test_no_text_brings_a_parser_down(text: str) -> None:
    for parse in (arguments.size, arguments.count, arguments.rate, arguments.seconds):
        try:
            parse(text)
        except argparse.ArgumentTypeError:
            pass


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.7:5000", Unicast("192.0.2.7", 5000)),
        ("udp://192.0.2.7:5000", Unicast("192.0.2.7", 5000)),
        ("[fd00::7]:5000", Unicast("fd00::7", 5000)),
        ("[fe80::7%eth0]:5000", Unicast("fe80::7%eth0", 5000)),
        (":5000", Unicast("", 5000)),
        ("media-1.example:5000", Unicast("media-1.example", 5000)),
    ],
)
def test_unicast_is_a_host_and_a_port(text: str, endpoint: Unicast) -> None:
    assert parse_unicast(text) == endpoint


@pytest.mark.parametrize(
    "text",
    ["239.1.2.3:5000", "10.0.0.7@232.1.2.3:5000", "[ff15::1%eth0]:5000", "239.1.2.3%eth0:5000", "10.0.0.300:5000",
     "239.1.2.3", "ff15::1", "10.0.0.300", "[fd00::g]:5000", "udp://10.0.0.7:5000?ttl=1"],
)  # fmt: skip
def test_all_else_is_left_to_the_group_grammar(text: str) -> None:
    assert parse_unicast(text) is None


@pytest.mark.parametrize(
    ("text", "remedy"),
    [("10.0.0.7", "10.0.0.7:5000"), ("[fd00::7]", "[fd00::7]:5000"), ("fd00::7:5000", "[fd00::7:5000]:5000")],
)
def test_unicast_without_a_port_is_refused(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text} is an address without a port: write {remedy}")):
        parse_unicast(text)


@pytest.mark.parametrize("text", ["192.0.2.7:0", "192.0.2.7:70000", ":65536"])
def test_unicast_port_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not in 1 to 65535"):
        parse_unicast(text)
