"""host_memberships() shows what the kernel says that this host has joined."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import pytest

from mcastfast import hostgroups
from mcastfast.errors import Platform, UnsupportedError
from mcastfast.hostgroups import (
    HostMembership,
    SourceFilter,
    host_memberships,
    parse_igmp,
    parse_igmp6,
    parse_mcfilter,
)

if TYPE_CHECKING:
    from netlab import Link, Namespace

IGMP = b"""\
Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
2\tfifteen-letters:     3      V2
\t\t\t\t030201EF     2 1:000000C8\t\t1
\t\t\t\tFB0000E0     1 0:00000000\t\t1
\t\t\t\t010000E0     1 0:00000000\t\t0
3\tquiet     :     1    NONE
\t\t\t\t010000E0     1 0:00000000\t\t0
"""

IGMP6 = b"""\
1    lo              ff020000000000000000000000000001     1 0000000C 0
2    fifteen-letters ff150000000000000000000000000077     3 00000005 250
2    fifteen-letters ff020000000000000000000000000001     1 0000000C 0
"""

MCFILTER = b"""\
Idx Device        MCA        SRC    INC    EXC
  2 fiftee 0xe8010101 0x0a000007      2      0
 17 veth17 0xef010203 0x0a000008      0      1
"""

MCFILTER6 = b"""\
Idx                Device                Multicast Address                   Source Address    INC    EXC
  2 fiftee ff3e0000000000000000000080000001 fd000000000000000000000000000007      1      0
"""


def test_igmp_groups_belong_to_the_interface_above_them() -> None:
    rows = list(parse_igmp(IGMP, "little"))
    assert [(row.interface, row.index, str(row.group), row.users) for row in rows] == [
        ("lo", 1, "224.0.0.1", 1),
        ("fifteen-letters", 2, "239.1.2.3", 2),
        ("fifteen-letters", 2, "224.0.0.251", 1),
        ("fifteen-letters", 2, "224.0.0.1", 1),
        ("quiet", 3, "224.0.0.1", 1),
    ]


def test_igmp_tells_the_version_and_the_running_timer() -> None:
    rows = list(parse_igmp(IGMP, "little"))
    assert [row.version for row in rows] == [3, 2, 2, 2, None]
    assert [row.timer for row in rows] == [None, 2.0, None, None, None]


def test_igmp_writes_groups_in_the_hosts_byte_order() -> None:
    text = IGMP.replace(b"030201EF", b"EF010203")
    assert IPv4Address("239.1.2.3") in {row.group for row in parse_igmp(text, "big")}
    assert IPv4Address("239.1.2.3") in {row.group for row in parse_igmp(IGMP, "little")}


def test_igmp6_rows() -> None:
    assert list(parse_igmp6(IGMP6)) == [
        HostMembership("lo", 1, IPv6Address("ff02::1"), 1),
        HostMembership("fifteen-letters", 2, IPv6Address("ff15::77"), 3, timer=2.5),
        HostMembership("fifteen-letters", 2, IPv6Address("ff02::1"), 1),
    ]


def test_mcfilter_rows_of_both_families() -> None:
    assert list(parse_mcfilter(MCFILTER, IPv4Address)) == [
        SourceFilter(2, IPv4Address("232.1.1.1"), IPv4Address("10.0.0.7"), 2, 0),
        SourceFilter(17, IPv4Address("239.1.2.3"), IPv4Address("10.0.0.8"), 0, 1),
    ]
    assert list(parse_mcfilter(MCFILTER6, IPv6Address)) == [
        SourceFilter(2, IPv6Address("ff3e::8000:1"), IPv6Address("fd00::7"), 1, 0)
    ]


def test_a_name_with_a_unicode_space_is_one_name() -> None:
    name = "\N{EM SPACE}wide"
    assert next(row.interface for row in parse_igmp6(IGMP6.replace(b"lo  ", name.encode()))) == name
    assert next(row.interface for row in parse_igmp(IGMP.replace(b"lo   ", name.encode()))) == name


def test_empty_files_are_no_rows() -> None:
    assert not [*parse_igmp(b""), *parse_igmp6(b""), *parse_mcfilter(b"", IPv4Address)]


def test_another_system_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostgroups, "CURRENT", Platform.MACOS)
    with pytest.raises(UnsupportedError, match=r"macos .*netstat -g"):
        host_memberships()


# What Linux' headers say; the socket module lacks them.
MCAST_JOIN_GROUP, MCAST_BLOCK_SOURCE, MCAST_JOIN_SOURCE_GROUP = 42, 43, 46


def _storage(address: str) -> bytes:
    if ":" in address:
        packed = struct.pack("@HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, address), 0)
    else:
        packed = struct.pack("@HH4s", socket.AF_INET, 0, socket.inet_aton(address))
    return packed.ljust(128, b"\0")


def _apply(sock: socket.socket, option: int, link: Link, group: str, *sources: str) -> None:
    level = socket.IPPROTO_IPV6 if ":" in group else socket.IPPROTO_IP
    for source in sources or ("",):
        request = struct.pack("@I4x", link.index) + _storage(group) + (_storage(source) if source else b"")
        sock.setsockopt(level, option, request)


def _of(link: Link, group: str) -> HostMembership | None:
    with link.namespace:
        found = [row for row in host_memberships() if (row.interface, str(row.group)) == (link.name, group)]
    assert len(found) <= 1
    return found[0] if found else None


def _socket(stack: ExitStack, group: str) -> socket.socket:
    return stack.enter_context(socket.socket(socket.AF_INET6 if ":" in group else socket.AF_INET, socket.SOCK_DGRAM))


@pytest.mark.needs("ipv6")
def test_a_fresh_host_has_joined_the_groups_of_all_hosts_only(namespace: Namespace) -> None:
    with namespace:
        groups = {(row.interface, str(row.group)) for row in host_memberships()}
    assert groups == {("lo", "224.0.0.1"), ("lo", "ff02::1"), ("lo", "ff01::1")}


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("group", ["239.1.2.3", "ff15::77"])
def test_users_are_counted_per_membership(loopback: Link, group: str) -> None:
    with ExitStack() as stack:
        for count in (1, 2, 3):
            _apply(_socket(stack, group), MCAST_JOIN_GROUP, loopback, group)
            found = _of(loopback, group)
            assert found is not None
            assert (found.users, found.index) == (count, loopback.index)
    assert _of(loopback, group) is None


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize(
    ("group", "sources"),
    [("232.1.2.3", ("10.0.0.7", "10.0.0.8")), ("ff3e::8000:1", ("fd00::7", "fd00::8"))],
)
def test_included_sources_are_shown(loopback: Link, group: str, sources: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        _apply(_socket(stack, group), MCAST_JOIN_SOURCE_GROUP, loopback, group, *sources)
        found = _of(loopback, group)
    assert found is not None
    assert found.included is not None
    assert {str(source) for source in found.included} == set(sources)
    assert found.excluded == ()


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize(("group", "source"), [("239.1.2.3", "10.0.0.7"), ("ff15::77", "fd00::7")])
def test_excluded_sources_are_shown(loopback: Link, group: str, source: str) -> None:
    with ExitStack() as stack:
        sock = _socket(stack, group)
        _apply(sock, MCAST_JOIN_GROUP, loopback, group)
        _apply(sock, MCAST_BLOCK_SOURCE, loopback, group, source)
        found = _of(loopback, group)
    assert found is not None
    assert found.excluded is not None
    assert (found.included, [str(address) for address in found.excluded]) == ((), [source])


@pytest.mark.needs("namespaces")
def test_sources_belong_to_their_own_interface_also_where_names_begin_alike(namespace: Namespace) -> None:
    from netlab import Link

    namespace.ip.link("add", ifname="interface-a", kind="veth", peer="interface-b")
    group, links = "232.1.2.3", []
    with namespace, ExitStack() as stack:
        for name, source in (("interface-a", "10.0.0.7"), ("interface-b", "10.0.0.8")):
            index = socket.if_nametoindex(name)
            namespace.ip.link("set", index=index, state="up")
            links.append(Link(namespace, name, index, "", "", ""))
            _apply(_socket(stack, group), MCAST_JOIN_SOURCE_GROUP, links[-1], group, source)
        shown = [found.included for link in links if (found := _of(link, group))]
    assert shown == [(IPv4Address("10.0.0.7"),), (IPv4Address("10.0.0.8"),)]


@pytest.mark.needs("namespaces", "ipv6")
@pytest.mark.parametrize(
    ("any_source", "specific", "source"),
    [("239.1.2.3", "232.1.2.3", "10.0.0.7"), ("ff15::77", "ff3e::8000:1", "fd00::7")],
    ids=["ipv4", "ipv6"],
)
def test_sources_are_those_that_the_kernel_has_or_not_told(
    namespace: Namespace, any_source: str, specific: str, source: str
) -> None:
    """It tells all from the first interface on whose last joined group has sources, before that of the last alone."""
    from netlab import connect

    links = [link for subnet in (1, 2) for link in connect(namespace, namespace, subnet=subnet)]
    links.sort(key=lambda link: link.index)  # the kernel's order
    with namespace, ExitStack() as stack:
        untold, last, first_told, told = links
        for link, groups in (
            (untold, (specific, any_source)),
            (last, (any_source,)),
            (first_told, (any_source, specific)),
            (told, (specific, any_source)),
        ):
            for group in groups:
                if group == specific:
                    _apply(_socket(stack, group), MCAST_JOIN_SOURCE_GROUP, link, group, source)
                else:
                    _apply(_socket(stack, group), MCAST_JOIN_GROUP, link, group)
        shown = []
        for link in links:
            found = [_of(link, group) for group in (any_source, specific)]
            shown.append([(row.included, row.excluded) for row in found if row is not None])
    anyone, one, unknown = ((), ()), ((ip_address(source),), ()), (None, None)
    assert shown == [[anyone, unknown], [anyone], [anyone, one], [anyone, one]]


@pytest.mark.needs("namespaces")
def test_the_network_of_the_calling_thread_is_the_one_shown(namespace: Namespace) -> None:
    namespace.ip.link("add", ifname="inside", kind="veth", peer="other")
    namespace.ip.link("set", ifname="inside", state="up")
    seen = []

    def look() -> None:
        with namespace:
            seen.append({row.interface for row in host_memberships()})

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert "inside" in seen[0]
    assert "inside" not in {row.interface for row in host_memberships()}
