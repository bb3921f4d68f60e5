"""What the address alone says: scope, flags, registration block, source-specific range, rendezvous point."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastfast.address import Group
from mcastfast.scope import TTL, GroupFlag, Scope, SSMAllocation


def group(address: str) -> Group:
    return Group.parse(address, strict=False)


# First and last address of every range of RFC 5771 section 3, RFC 6034 and RFC 2365.
BLOCKS = [
    ("224.0.0.0", "224.0.0.255", "Local Network Control Block", Scope.LINK_LOCAL),
    ("224.0.1.0", "224.0.1.255", "Internetwork Control Block", Scope.GLOBAL),
    ("224.0.2.0", "224.0.255.255", "AD-HOC Block I", Scope.GLOBAL),
    ("224.1.0.0", "224.1.255.255", "Reserved", Scope.GLOBAL),
    ("224.2.0.0", "224.2.255.255", "SDP/SAP Block", Scope.GLOBAL),
    ("224.3.0.0", "224.4.255.255", "AD-HOC Block II", Scope.GLOBAL),
    ("224.5.0.0", "231.255.255.255", "Reserved", Scope.GLOBAL),
    ("232.0.0.0", "232.255.255.255", "Source-Specific Multicast Block", Scope.GLOBAL),
    ("233.0.0.0", "233.251.255.255", "GLOP Block", Scope.GLOBAL),
    ("233.252.0.0", "233.255.255.255", "AD-HOC Block III", Scope.GLOBAL),
    ("234.0.0.0", "234.255.255.255", "Unicast-Prefix-Based Block", Scope.GLOBAL),
    ("235.0.0.0", "238.255.255.255", "Reserved", Scope.GLOBAL),
    ("239.0.0.0", "239.191.255.255", "Administratively Scoped Block", Scope.ORGANIZATION_LOCAL),
    (
        "239.192.0.0",
        "239.195.255.255",
        "Administratively Scoped Block, Organization Local Scope",
        Scope.ORGANIZATION_LOCAL,
    ),
    ("239.196.0.0", "239.252.255.255", "Administratively Scoped Block", Scope.ORGANIZATION_LOCAL),
    ("239.253.0.0", "239.254.255.255", "Administratively Scoped Block", Scope.REALM_LOCAL),
    ("239.255.0.0", "239.255.255.255", "Administratively Scoped Block, Local Scope", Scope.REALM_LOCAL),
]


@pytest.mark.parametrize(("first", "last", "block", "scope"), BLOCKS)
def test_an_ipv4_group_has_the_block_and_scope_of_its_range(first: str, last: str, block: str, scope: Scope) -> None:
    for address in (first, last):
        assert (group(address).block, group(address).scope) == (block, scope)
        assert group(address).flags == GroupFlag(0)


def test_the_ipv4_ranges_cover_all_groups_without_gap_or_overlap() -> None:
    ends = [(int(IPv4Address(first)), int(IPv4Address(last))) for first, last, _, _ in BLOCKS]
    assert ends[0][0] == int(IPv4Address("224.0.0.0"))
    assert ends[-1][1] == int(IPv4Address("239.255.255.255"))
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(ends))


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("ff00::1", Scope.RESERVED_0),
        ("ff01::1", Scope.INTERFACE_LOCAL),
        ("ff02::1", Scope.LINK_LOCAL),
        ("ff13::1", Scope.REALM_LOCAL),
        ("ff14::1", Scope.ADMIN_LOCAL),
        ("ff05::1:3", Scope.SITE_LOCAL),
        ("ff18::1", Scope.ORGANIZATION_LOCAL),
        ("ff3e::8000:1", Scope.GLOBAL),
        ("ff0f::1", Scope.RESERVED_F),
        ("ff16::1", Scope.UNASSIGNED_6),
        ("ff1d::1", Scope.UNASSIGNED_D),
    ],
)
def test_an_ipv6_group_has_the_scope_of_rfc_7346(address: str, scope: Scope) -> None:
    assert group(address).scope is scope
    assert group(address).block is None


def test_every_scope_value_of_ipv6_has_a_name() -> None:
    assert [group(f"ff1{value:x}::1").scope for value in range(16)] == list(Scope)


@pytest.mark.parametrize(
    ("address", "flags"),
    [
        ("ff02::1", GroupFlag(0)),
        ("ff12::1", GroupFlag.T),
        ("ff32::8000:1", GroupFlag.P | GroupFlag.T),
        ("ff7e:140:2001:db8:beef:feed::1", GroupFlag.R | GroupFlag.P | GroupFlag.T),
        ("ff8e::1", GroupFlag.X),
    ],
)
def test_an_ipv6_group_shows_its_flag_bits(address: str, flags: GroupFlag) -> None:
    assert group(address).flags == flags


# The examples of RFC 3956, with scope e and RIID 1 or 5 put for its "x" and "y".
@pytest.mark.parametrize(
    ("address", "rendezvous_point"),
    [
        ("ff7e:140:2001:db8:beef:feed::1234", "2001:db8:beef:feed::1"),
        ("ff7e:540:2001:db8:beef:feed:8000:1", "2001:db8:beef:feed::5"),
        ("ff7e:120:2001:db8::1234", "2001:db8::1"),
        ("ff7e:120:2001:db8:dead::1234", "2001:db8::1"),
        ("ff7e:f30:2001:db8:beef::1234", "2001:db8:beef::f"),
        ("fffe:140:2001:db8:beef:feed::1234", "2001:db8:beef:feed::1"),
    ],
)
def test_the_rendezvous_point_is_the_one_that_rfc_3956_embeds(address: str, rendezvous_point: str) -> None:
    assert group(address).rendezvous_point == IPv6Address(rendezvous_point)


@pytest.mark.parametrize(
    "address",
    [
        "239.1.2.3",
        "ff3e:140:2001:db8:beef:feed::1",  # R is not set
        "ff5e:140:2001:db8:beef:feed::1",  # P is not set
        "ff6e:140:2001:db8:beef:feed::1",  # T is not set
        "ff7e:40:2001:db8:beef:feed::1",  # interface identifier 0
        "ff7e:100:2001:db8:beef:feed::1",  # prefix length 0
        "ff7e:141:2001:db8:beef:feed::1",  # prefix length 65
    ],
)
def test_a_group_that_breaks_rfc_3956_has_no_rendezvous_point(address: str) -> None:
    assert group(address).rendezvous_point is None


@given(
    st.integers(0, (1 << 64) - 1),
    st.integers(1, 64),
    st.integers(1, 15),
    st.integers(0, 15),
    st.integers(0, (1 << 32) - 1),
)
def test_the_embedded_point_is_the_prefix_followed_by_the_interface_identifier(
    prefix: int, length: int, interface_id: int, scope: int, group_id: int
) -> None:
    address = IPv6Address(0xFF70 << 112 | scope << 112 | interface_id << 104 | length << 96 | prefix << 32 | group_id)
    network = IPv6Network((prefix << 64, length), strict=False)
    assert Group(address).rendezvous_point == network.network_address + interface_id


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("231.255.255.255", False),
        ("232.0.0.0", True),
        ("232.255.255.255", True),
        ("233.0.0.0", False),
        ("ff3e::8000:1", True),
        ("ff32::8000:1", True),
        ("ff3e:0:1::8000:1", True),
        ("ff3e:1::8000:1", False),
        ("ff3e:40:2001:db8::1", False),
        ("ff1e::8000:1", False),
        ("ff7e::8000:1", False),
    ],
)
def test_the_source_specific_range_is_that_of_rfc_4607(address: str, inside: bool) -> None:
    assert group(address).in_ssm_range is inside


@pytest.mark.parametrize(
    ("address", "allocation"),
    [
        ("239.1.2.3", None),
        ("ff1e::8000:1", None),
        ("232.0.0.0", SSMAllocation.INVALID),
        ("232.0.0.1", SSMAllocation.IANA),
        ("232.0.0.255", SSMAllocation.IANA),
        ("232.0.1.0", SSMAllocation.HOST),
        ("232.255.255.255", SSMAllocation.HOST),
        ("ff3e::", SSMAllocation.INVALID),
        ("ff3e::3fff:ffff", SSMAllocation.INVALID),
        ("ff3e::4000:0", SSMAllocation.INVALID),
        ("ff3e::4000:1", SSMAllocation.IANA),
        ("ff3e::7fff:ffff", SSMAllocation.IANA),
        ("ff3e::8000:0", SSMAllocation.HOST),
        ("ff3e::ffff:ffff", SSMAllocation.HOST),
    ],
)
def test_an_identifier_of_that_range_is_allocated_as_rfc_4607_says(
    address: str, allocation: SSMAllocation | None
) -> None:
    assert group(address).ssm_allocation is allocation


def test_the_family_is_the_socket_modules() -> None:
    assert group("239.1.2.3").family is socket.AF_INET
    assert group("ff15::1").family is socket.AF_INET6


def test_ttl_names_the_customary_thresholds() -> None:
    assert [(each.name, int(each)) for each in TTL] == [
        ("HOST", 0),
        ("SUBNET", 1),
        ("SITE", 32),
        ("REGION", 64),
        ("CONTINENT", 128),
        ("UNRESTRICTED", 255),
    ]
