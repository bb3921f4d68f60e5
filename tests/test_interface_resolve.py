"""What `interface=` means: a name, an index, an address, an Interface, "all", or None for the route."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import netlab
import numpy as np
import pytest

from mcastfast import Receiver, Sender
from mcastfast.interface import InterfaceLike, interfaces, resolve_interface, resolve_interfaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Link, Namespace

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

IFF_MULTICAST = 0x1000

FAMILIES = [socket.AF_INET, socket.AF_INET6]
IPV4_GROUP = IPv4Address("239.1.2.3")
IPV6_GROUP = IPv6Address("ff15::77")
EITHER_GROUP = [IPV4_GROUP, IPV6_GROUP]


def family_of(address: IPv4Address | IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def routed(destination: IPv4Address | IPv6Address) -> str:
    return resolve_interface(None, family_of(destination), destination).name


@pytest.fixture
def multihomed(isolated: None) -> Iterator[tuple[Link, Link]]:
    """Two interfaces in one namespace; the test runs inside."""
    with netlab.namespaces(2) as (here, there):
        first, _ = netlab.connect(here, there)
        second, _ = netlab.connect(here, there, subnet=2)
        with here:
            yield first, second


def ways_to_name(link: Link) -> list[InterfaceLike]:
    """All of them; the interface itself is one."""
    itself = next(interface for interface in interfaces() if interface.name == link.name)
    return [
        link.name,
        link.index,
        str(link.index),
        itself,
        link.ipv4,
        link.ipv6,
        link.link_local,
        f"{link.ipv4}/24",
        f"{link.link_local}%{link.name}",
        f"{link.link_local}%{link.index}",
        ip_address(link.ipv4),
        ip_address(link.ipv6),
        ip_address(f"{link.link_local}%{link.name}"),
        *itself.addresses,
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_way_to_name_an_interface_finds_it(link: Link, family: int) -> None:
    for way in ways_to_name(link):
        (found,) = resolve_interfaces(way, family)
        assert found == resolve_interface(way, family), way
        assert (found.name, found.index) == (link.name, link.index), way


@pytest.mark.parametrize("group", ["239.1.2.3:5000", "[ff15::77]:5000"])
def test_each_way_to_name_an_interface_opens_by_it_and_joins_and_leaves(link: Link, group: str) -> None:
    for way in ways_to_name(link):
        with Sender(group, interface=way) as sender, Receiver(group, interface=way) as receiver:
            assert sender.interface, way
            receiver.leave(group, interface=way)
            receiver.join(group, interface=way)
            assert [each.index for each in (sender.interface, *receiver.interfaces)] == [link.index] * 2, way


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", ["lo", 1, "1", "127.0.0.1", "::1"])
def test_loopback_is_eligible_when_named_though_it_lacks_the_flag(
    namespace: Namespace, way: str | int, family: int
) -> None:
    with namespace:
        assert resolve_interface(way, family).name == "lo"


def rename(link: Link, name: str) -> None:
    ip = link.namespace.ip
    ip.link("set", index=link.index, state="down")
    ip.link("set", index=link.index, ifname=name)
    ip.link("set", index=link.index, state="up")


def test_a_name_of_digits_wins_over_the_index(link: Link) -> None:
    rename(link, "1")
    assert resolve_interface("1", socket.AF_INET).index == link.index
    assert resolve_interface(1, socket.AF_INET).name == "lo"


def opened(group: str, interface: InterfaceLike) -> list[int | None]:
    """The indexes of the interfaces by which a sender sends and receivers receive."""
    with (
        Sender(group, interface=interface) as sender,
        Receiver(group, interface=interface) as receiver,
        Receiver(group, interface="lo", bind="any") as joiner,
        Receiver("239.9.9.9:5000", interface=interface, bind="any") as remembering,
    ):
        assert sender.interface is not None
        found: list[int | None] = [sender.interface.index]
        receiver.leave(group, interface=interface)
        receiver.join(group)
        joiner.leave(group)
        joiner.join(group, interface=interface)
        remembering.join(group)
        for each in (receiver, joiner, remembering):
            assert each.interface is not None
            found.append(each.interface.index)
        return found


def test_an_index_is_an_index_though_another_interface_has_it_for_a_name(link: Link) -> None:
    rename(link, "1")
    assert opened("239.1.2.3:5000", 1) == [1] * 4
    assert opened("239.1.2.3:5000", np.int64(1)) == [1] * 4
    assert opened("239.1.2.3:5000", "1") == [link.index] * 4


def test_an_interface_is_the_one_of_its_index_though_another_has_its_name_by_now(
    multihomed: tuple[Link, Link],
) -> None:
    first, second = multihomed
    before = resolve_interface(first.name, socket.AF_INET)
    rename(first, "uplink")
    rename(second, first.name)
    assert opened("239.1.2.3:5000", before) == [first.index] * 4
    assert opened("239.1.2.3:5000", before.name) == [second.index] * 4


@pytest.mark.parametrize("name", ["tun@0", "Feed#1", "[0]"])
def test_an_interface_whose_name_no_group_text_can_hold_is_named_by_itself(link: Link, name: str) -> None:
    rename(link, name)
    assert opened("239.1.2.3:5000", resolve_interface(link.index, socket.AF_INET)) == [link.index] * 4
    with Receiver("239.1.2.3:5000", interface=link.index) as receiver:
        assert receiver.interface
        assert receiver.interface.name == name
        receiver.leave("239.1.2.3", interface=receiver.interface)
        assert not receiver.memberships


def test_an_interface_whose_index_is_gone_is_the_one_that_has_its_name_now(link: Link) -> None:
    """As one that was deleted and made again has; an index alone says nothing of it."""
    gone = resolve_interface(link.name, socket.AF_INET)._replace(index=9999)
    assert resolve_interface(gone, socket.AF_INET).index == link.index
    with pytest.raises(ValueError, match="unknown interface 9999: "):
        resolve_interface(gone.index, socket.AF_INET)


def test_of_two_memberships_an_index_means_the_one_of_that_index(link: Link) -> None:
    rename(link, "1")
    for value, left in ((1, link.index), ("1", 1)):
        with Receiver("239.1.2.3:5000", interface="lo", bind="any") as receiver:
            receiver.join("239.1.2.3", interface=link.index)
            receiver.leave("239.1.2.3", interface=value)
            assert [joined.interface.index for joined in receiver.memberships] == [left]


def test_an_alternative_name_is_a_name(link: Link) -> None:
    link.namespace.ip.link("property_add", index=link.index, altname="uplink")
    assert resolve_interface("uplink", socket.AF_INET).name == link.name


def test_a_renamed_interface_is_found_by_its_old_value_and_its_new_name(link: Link) -> None:
    before = resolve_interface(link.name, socket.AF_INET)
    rename(link, "uplink")
    assert resolve_interface(before, socket.AF_INET).name == "uplink"
    assert resolve_interface("uplink", socket.AF_INET).index == link.index
    with pytest.raises(ValueError, match=f"unknown interface '{link.name}'"):
        resolve_interface(link.name, socket.AF_INET)


def test_a_zone_decides_between_interfaces_with_the_same_address(multihomed: tuple[Link, Link]) -> None:
    first, second = multihomed
    assert first.link_local == second.link_local
    assert resolve_interface(f"{first.link_local}%{second.name}", socket.AF_INET6).name == second.name
    with pytest.raises(ValueError, match=f"fe80::1 is ambiguous: {first.name}, {second.name} have this address"):
        resolve_interface(first.link_local, socket.AF_INET6)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_is_every_fit_interface_but_loopback(multihomed: tuple[Link, Link], family: int) -> None:
    multihomed[0].namespace.ip.link("set", index=netlab.LOOPBACK_INDEX, flags=IFF_MULTICAST, mask=IFF_MULTICAST)
    assert resolve_interface("lo", family).is_multicast
    names = [interface.name for interface in resolve_interfaces("all", family)]
    assert names == [link.name for link in multihomed]


def test_all_leaves_out_what_is_down_or_lacks_multicast_or_the_family(multihomed: tuple[Link, Link]) -> None:
    first, second = multihomed
    ip = first.namespace.ip
    ip.addr("del", index=second.index, address=second.ipv4, prefixlen=24)
    assert [i.name for i in resolve_interfaces("all", socket.AF_INET)] == [first.name]
    assert [i.name for i in resolve_interfaces("all", socket.AF_INET6)] == [first.name, second.name]
    ip.link("set", index=first.index, flags=0, mask=IFF_MULTICAST)
    assert [i.name for i in resolve_interfaces("all", socket.AF_INET6)] == [second.name]
    ip.link("set", index=first.index, flags=IFF_MULTICAST, mask=IFF_MULTICAST)
    ip.link("set", index=second.index, state="down")
    assert [i.name for i in resolve_interfaces("all", socket.AF_INET6)] == [first.name]


@pytest.mark.parametrize("group", EITHER_GROUP)
def test_without_a_value_the_route_decides(multihomed: tuple[Link, Link], group: IPv4Address | IPv6Address) -> None:
    first, second = multihomed
    ip = first.namespace.ip
    size = group.max_prefixlen
    for link in (second, first):
        ip.route("add", family=family_of(group), dst=f"{group}/{size}", oif=link.index, table=255)
        assert routed(group) == link.name
        ip.route("del", family=family_of(group), dst=f"{group}/{size}", oif=link.index, table=255)


@pytest.mark.parametrize("group", EITHER_GROUP)
def test_the_route_may_lead_to_loopback(loopback: Link, group: IPv4Address | IPv6Address) -> None:
    assert routed(group) == "lo"


@pytest.mark.parametrize("group", EITHER_GROUP)
def test_the_route_is_the_one_that_the_kernel_takes(
    multihomed: tuple[Link, Link], group: IPv4Address | IPv6Address
) -> None:
    """A plain send that names no interface leaves from the address of the interface that we name."""
    _first, second = multihomed
    second.route_multicast()
    with socket.socket(family_of(group), socket.SOCK_DGRAM) as probe:
        probe.connect((str(group), 5000))
        own = ip_address(probe.getsockname()[0].partition("%")[0])
    found = resolve_interface(None, family_of(group), group)
    assert own in [address.ip for address in found.addresses]


def test_an_interface_that_the_route_chose_needs_no_address_of_its_own(multihomed: tuple[Link, Link]) -> None:
    first, second = multihomed
    first.namespace.ip.addr("del", index=second.index, address=second.ipv4, prefixlen=24)
    first.namespace.ip.route("add", dst="224.0.0.0/4", oif=second.index, scope="link")
    assert routed(IPV4_GROUP) == second.name
