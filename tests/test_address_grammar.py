"""The text of a group: what the grammar reads, and that what it reads comes back unchanged."""

from __future__ import annotations

import copy
import pickle
import string
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcastfast.address import Group, InterfaceLike, IPAddress, parse_address, to_mapped

EVERYTHING = {
    "239.1.2.3": ("239.1.2.3", None, None, []),
    "239.1.2.3:5000": ("239.1.2.3", 5000, None, []),
    "239.1.2.3:05000": ("239.1.2.3", 5000, None, []),
    "239.1.2.3%eth0": ("239.1.2.3", None, "eth0", []),
    "239.1.2.3%2:1": ("239.1.2.3", 1, "2", []),
    "239.1.2.3%10.0.0.5:65535": ("239.1.2.3", 65535, "10.0.0.5", []),
    "239.1.2.3%Ethernet 2:5000": ("239.1.2.3", 5000, "Ethernet 2", []),
    "[239.1.2.3%fd00::5]:5000": ("239.1.2.3", 5000, "fd00::5", []),
    "10.0.0.7@232.1.2.3%eth1:5000": ("232.1.2.3", 5000, "eth1", ["10.0.0.7"]),
    "10.0.0.9,10.0.0.7@232.1.2.3:5000": ("232.1.2.3", 5000, None, ["10.0.0.7", "10.0.0.9"]),
    "ff15::1": ("ff15::1", None, None, []),
    "ff15::1%eth0.100": ("ff15::1", None, "eth0.100", []),
    "FF15:0:0:0:0:0:0:1": ("ff15::1", None, None, []),
    "[ff15::1]": ("ff15::1", None, None, []),
    "[ff15::1%eth0]:5000": ("ff15::1", 5000, "eth0", []),
    "[ff15::1%fd00::5]:5000": ("ff15::1", 5000, "fd00::5", []),
    "fd00::7@[ff3e::8000:1%eth0]:5000": ("ff3e::8000:1", 5000, "eth0", ["fd00::7"]),
    "[fd00::7]@[ff3e::8000:1%eth0]:5000": ("ff3e::8000:1", 5000, "eth0", ["fd00::7"]),
    "fd00::7@ff3e::8000:1": ("ff3e::8000:1", None, None, ["fd00::7"]),
    "udp://239.1.2.3:5000": ("239.1.2.3", 5000, None, []),
    "RTP://239.1.2.3:5000": ("239.1.2.3", 5000, None, []),
    "udp://@239.1.2.3:5000": ("239.1.2.3", 5000, None, []),
    "Udp://@[ff15::1%eth0]:5000": ("ff15::1", 5000, "eth0", []),
    "udp://10.0.0.7@232.1.2.3:5000": ("232.1.2.3", 5000, None, ["10.0.0.7"]),
}


@pytest.mark.parametrize("text", EVERYTHING)
def test_each_form_of_the_grammar_yields_its_parts(text: str) -> None:
    address, port, interface, sources = EVERYTHING[text]
    group = Group.parse(text)
    assert group == Group(ip_address(address), port, interface, tuple(map(ip_address, sources)))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("udp://@239.1.2.3:5000", "239.1.2.3:5000"),
        ("10.0.0.9,10.0.0.7@232.1.2.3", "10.0.0.7,10.0.0.9@232.1.2.3"),
        ("ff15::1%eth0", "[ff15::1%eth0]"),
        ("[FD00::7]@[FF3E:0::8000:1%eth0]:5000", "fd00::7@[ff3e::8000:1%eth0]:5000"),
        ("[239.1.2.3%eth0]:5000", "239.1.2.3%eth0:5000"),
        ("[239.1.2.3%fd00::5]:5000", "[239.1.2.3%fd00::5]:5000"),
    ],
)
def test_str_is_the_canonical_text(text: str, canonical: str) -> None:
    assert str(Group.parse(text)) == canonical


IPV4_GROUPS = st.integers(0xE0000000, 0xEFFFFFFF).map(IPv4Address)
IPV4_SOURCES = st.integers(0x01000000, 0xDFFFFFFF).map(IPv4Address)
IPV6_GROUPS = st.integers(0xFF << 120, (1 << 128) - 1).map(IPv6Address)
IPV6_SOURCES = st.integers(0x2000 << 112, 0xFEBF << 112).map(IPv6Address)
NAMES = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=15)
WINDOWS_NAMES = st.sampled_from(["Ethernet 2", "vEthernet (WSL)", "Połączenie 1"])
INTERFACES = st.none() | NAMES | WINDOWS_NAMES | (IPV4_SOURCES | IPV6_SOURCES).map(str)
PORTS = st.none() | st.integers(1, 65535)


def groups(addresses: st.SearchStrategy[IPAddress], sources: st.SearchStrategy[IPAddress]) -> st.SearchStrategy[Group]:
    some_sources = st.lists(sources, max_size=3, unique=True).map(tuple)
    return st.builds(Group, addresses, PORTS, INTERFACES, some_sources)


GROUPS = groups(IPV4_GROUPS, IPV4_SOURCES) | groups(IPV6_GROUPS, IPV6_SOURCES)


@given(GROUPS, st.sampled_from(["", "udp://", "rtp://", "UDP://"]))
def test_any_group_survives_the_way_through_text(group: Group, scheme: str) -> None:
    again = Group.parse(scheme + str(group), strict=False)
    assert again == group
    assert str(again) == str(group)


@given(GROUPS)
def test_a_group_given_as_keywords_equals_the_same_group_as_text(group: Group) -> None:
    keywords = Group.parse(
        group.address,
        port=group.port,
        interface=group.interface,
        source=group.sources or None,
        strict=False,
    )
    assert keywords == Group.parse(str(group), strict=False)


@given(GROUPS)
def test_a_group_and_keywords_that_repeat_it_agree(group: Group) -> None:
    for first in (group, str(group)):
        again = Group.parse(
            first,
            port=group.port,
            interface=group.interface,
            source=[str(source) for source in reversed(group.sources)] or None,
            strict=False,
        )
        assert again == group


@given(GROUPS)
def test_a_group_is_hashable_and_survives_pickle_and_copy(group: Group) -> None:
    for again in (pickle.loads(pickle.dumps(group)), copy.deepcopy(group)):
        assert again == group
        assert hash(again) == hash(group)


PIECES = st.sampled_from(
    [
        "239.1.2.3",
        "232.0.0.0",
        "ff15::1",
        "10.0.0.7",
        "fd00::7",
        "@",
        "%",
        ":",
        "[",
        "]",
        "udp://",
        ",",
        "5000",
        "eth0",
        "/",
    ]
)


@given(st.text() | st.lists(PIECES, max_size=9).map("".join), st.booleans())
@example("9" * 5000, True)
@example("239.1.2.3:" + "9" * 5000, True)
@example("239.1.2.3:²", True)
@example("239.1.2.\u0663:5000", True)
@example("\ud800", True)
@example("239.1.2.3:5000#\n", True)
@example("239.1.2.3:5000?\n", True)
@example("239.1.2.3:5000/\n", True)
def test_any_text_is_a_group_or_a_value_error_that_names_it(text: str, strict: bool) -> None:
    complaint = None
    try:
        group = Group.parse(text, strict=strict)
    except ValueError as error:
        complaint = str(error)
    if complaint is None:
        assert Group.parse(str(group), strict=strict) == group
    else:
        assert complaint.startswith(f"group {text!r}: ")
        assert "\n" not in complaint


def test_sources_compare_as_a_set_and_stand_in_ascending_order() -> None:
    group = Group.parse("232.1.2.3", source=["10.0.0.9", IPv4Address("10.0.0.7")])
    assert group.sources == (IPv4Address("10.0.0.7"), IPv4Address("10.0.0.9"))
    assert group == Group.parse("232.1.2.3", source=iter(["10.0.0.7", "10.0.0.9"]))


@dataclass
class FakeInterface:
    name: str
    index: int


class Port(IntEnum):
    FEED = 5000


@pytest.mark.parametrize(
    ("keyword", "kept"),
    [
        ("eth0", "eth0"),
        (2, "2"),
        (IPv4Address("10.0.0.5"), "10.0.0.5"),
        (IPv4Interface("10.0.0.5/24"), "10.0.0.5"),
        ("10.0.0.5/24", "10.0.0.5"),
        ("FD00::5", "FD00::5"),
        ("FD00::5/64", "fd00::5"),
        (IPv6Address("fe80::1%eth0"), "eth0"),
        (IPv6Interface("fe80::1%eth0/64"), "eth0"),
        ("fe80::1%eth0", "eth0"),
        ("fe80::1%2", "2"),
        ("fe80::1%tun@0", "fe80::1"),
        (FakeInterface("eth0", 2), "eth0"),
        (FakeInterface("Feed #1", 2), "2"),
    ],
)
def test_an_interface_keyword_is_kept_as_what_a_text_can_hold(keyword: InterfaceLike, kept: str) -> None:
    for group in ("239.1.2.3:5000", "[ff15::1]:5000"):
        parsed = Group.parse(group, interface=keyword)
        assert parsed.interface == kept
        assert Group.parse(str(parsed), interface=keyword) == parsed


@pytest.mark.parametrize("text", ["239.1.2.3%eth0", "239.1.2.3%2"])
def test_an_interface_in_the_text_agrees_with_an_interface_of_that_name_or_index(text: str) -> None:
    assert Group.parse(text, interface=FakeInterface("eth0", 2)) == Group.parse(text)


@pytest.mark.parametrize("text", ["[ff15::1%eth0]", "[ff15::1%fe80::1]"])
def test_an_interface_in_the_text_agrees_with_an_address_that_has_that_zone_or_no_other(text: str) -> None:
    assert Group.parse(text, interface="fe80::1%eth0") == Group.parse(text)


def test_a_port_may_be_any_integer_type() -> None:
    port = Group.parse("239.1.2.3", port=Port.FEED).port
    assert port == 5000
    assert type(port) is int


def test_a_zone_of_an_ipv6_address_object_is_the_interface() -> None:
    assert Group.parse(IPv6Address("ff12::1%eth0"), port=5000) == Group.parse("[ff12::1%eth0]:5000")


@pytest.mark.parametrize(
    "text", ["232.1.2.3:5000", "232.0.0.1:5000", "[ff3e::8000:1%eth0]:5000", "239.1.2.3%eth0:5000"]
)
def test_a_destination_needs_no_source_in_the_source_specific_range(text: str) -> None:
    destination = Group.parse_destination(text)
    assert str(destination) == text
    assert destination.sources == ()


def test_a_destination_takes_port_and_interface_as_keywords() -> None:
    assert str(Group.parse_destination("232.1.2.3", port=5000, interface="eth0")) == "232.1.2.3%eth0:5000"


@pytest.mark.parametrize("text", ["10.0.0.5", "fd00::5", "[fd00::5]", "0.0.0.0", "::"])
def test_parse_address_reads_both_families_with_or_without_brackets(text: str) -> None:
    assert parse_address(text) == ip_address(text.strip("[]"))


def test_to_mapped_gives_sixteen_bytes_for_both_families() -> None:
    assert to_mapped(IPv4Address("10.0.0.5")) == IPv6Address("::ffff:10.0.0.5").packed
    assert to_mapped(IPv6Address("fd00::5")) == IPv6Address("fd00::5").packed
