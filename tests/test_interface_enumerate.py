"""interfaces() says what the system has at the moment of the call."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING

import netlab
import pytest

from mcastfast import Receiver
from mcastfast.interface import Interface, interfaces

if TYPE_CHECKING:
    from netlab import Lan, Link, Namespace

pytestmark = pytest.mark.needs("namespaces")

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_MULTICAST = 0x1000


def listed(namespace: Namespace) -> dict[str, Interface]:
    with namespace:
        return {interface.name: interface for interface in interfaces()}


def one(link: Link) -> Interface:
    return listed(link.namespace)[link.name]


@pytest.mark.needs("ipv6")
def test_lo_is_listed_as_it_is(namespace: Namespace) -> None:
    assert listed(namespace) == {
        "lo": Interface(
            name="lo",
            index=1,
            addresses=(IPv4Interface("127.0.0.1/8"), IPv6Interface("::1/128")),
            mtu=65536,
            is_up=True,
            is_running=True,
            is_multicast=False,
            is_loopback=True,
            is_point_to_point=False,
        )
    }


@pytest.mark.needs("ipv6")
def test_addresses_carry_their_prefix_and_no_zone(lan: Lan) -> None:
    found = one(lan.receiver)
    assert found.index == lan.receiver.index
    assert (found.is_up, found.is_running, found.is_multicast) == (True, True, True)
    assert (found.is_loopback, found.is_point_to_point) == (False, False)
    assert found.addresses[0] == IPv4Interface(f"{lan.receiver.ipv4}/24")
    assert set(found.addresses[1:]) == {
        IPv6Interface(f"{lan.receiver.ipv6}/64"),
        IPv6Interface(f"{lan.receiver.link_local}/64"),
    }


def test_an_added_address_is_seen_by_the_next_call(lan: Lan) -> None:
    before = one(lan.receiver).addresses
    lan.receiver.namespace.ip.addr("add", index=lan.receiver.index, address="192.0.2.77", prefixlen=31)
    assert set(one(lan.receiver).addresses) - set(before) == {IPv4Interface("192.0.2.77/31")}


@pytest.mark.parametrize("label", ["{}:1", "feed-a", "lo", "other", "fifteen-letters"])
def test_a_label_of_an_address_is_no_interface(lan: Lan, label: str) -> None:
    ip, link = lan.receiver.namespace.ip, lan.receiver
    ip.link("add", ifname="other", kind="veth", peer="peer")
    before = listed(link.namespace)
    ip.addr("add", index=link.index, address="192.0.2.77", prefixlen=24, label=label.format(link.name))
    after = listed(link.namespace)
    assert IPv4Interface("192.0.2.77/24") in after[link.name].addresses
    assert {**after, link.name: before[link.name]} == before


def test_labels_that_a_long_new_name_cuts_short_are_no_interfaces(namespace: Namespace) -> None:
    ip = namespace.ip
    ip.link("add", ifname="short", kind="veth", peer="other")
    index = ip.link_lookup(ifname="short")[0]
    for address in ("192.0.2.1", "192.0.2.2"):
        ip.addr("add", index=index, address=address, prefixlen=24)
    ip.link("set", index=index, ifname="fifteen-letters")
    found = listed(namespace)
    assert set(found) == {"lo", "fifteen-letters", "other"}
    assert found["fifteen-letters"].addresses == (IPv4Interface("192.0.2.1/24"), IPv4Interface("192.0.2.2/24"))


@pytest.mark.parametrize("by", ["name", "address"])
def test_a_join_goes_to_the_interface_whose_address_has_the_label_of_another(namespace: Namespace, by: str) -> None:
    ip = namespace.ip
    for name in ("one", "other"):
        ip.link("add", ifname=name, kind="veth", peer=f"{name}-peer")
        ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
    ip.addr("add", index=ip.link_lookup(ifname="one")[0], address="192.0.2.1", prefixlen=24, label="other")
    with namespace, Receiver("239.1.2.3:5000", interface="one" if by == "name" else "192.0.2.1") as receiver:
        assert [membership.interface.name for membership in receiver.memberships] == ["one"]


def test_an_interface_without_any_address_is_listed(namespace: Namespace) -> None:
    namespace.ip.link("add", ifname="bare", kind="veth", peer="other")
    found = listed(namespace)
    assert set(found) == {"lo", "bare", "other"}
    assert found["bare"].addresses == ()
    assert not found["bare"].is_up


def test_up_is_the_switch_and_running_is_the_cable(lan: Lan) -> None:
    near, far = lan.receiver, lan.sender
    far.namespace.ip.link("set", index=far.index, state="down")
    netlab.wait_until(lambda: not one(near).is_running, what="the carrier's loss is noticed")
    assert one(near).is_up
    assert not one(far).is_up


@pytest.mark.parametrize("mtu", [68, 1499, 9000])
def test_the_mtu_is_the_current_one(lan: Lan, mtu: int) -> None:
    lan.receiver.namespace.ip.link("set", index=lan.receiver.index, mtu=mtu)
    assert one(lan.receiver).mtu == mtu


def test_the_multicast_flag_is_the_current_one(lan: Lan) -> None:
    lan.receiver.namespace.ip.link("set", index=lan.receiver.index, flags=0, mask=IFF_MULTICAST)
    assert not one(lan.receiver).is_multicast


@pytest.mark.parametrize("name", ["x", "fifteen-letters", "a.b@c-d", "\N{EM SPACE}wide", "7", "10.0.0.1"])
def test_any_name_that_the_kernel_takes_is_given_back(namespace: Namespace, name: str) -> None:
    namespace.ip.link("add", ifname=name, kind="veth", peer="other")
    with namespace:
        assert name in {interface.name for interface in interfaces()}
        assert [(i.index, i.name) for i in interfaces()] == sorted(socket.if_nameindex())


def test_a_renamed_interface_keeps_its_index(lan: Lan) -> None:
    ip, link = lan.receiver.namespace.ip, lan.receiver
    ip.link("set", index=link.index, state="down")
    ip.link("set", index=link.index, ifname="uplink")
    found = listed(link.namespace)
    assert set(found) == {"lo", "uplink"}
    assert found["uplink"].index == link.index


def test_a_deleted_interface_is_gone(lan: Lan) -> None:
    lan.receiver.namespace.ip.link("del", index=lan.receiver.index)
    assert set(listed(lan.receiver.namespace)) == {"lo"}


@pytest.mark.needs("tun")
def test_a_point_to_point_interface_shows_its_own_address_not_the_peers(namespace: Namespace) -> None:
    import fcntl

    with namespace:
        tunnel = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN))
            index = socket.if_nametoindex("tun0")
            namespace.ip.addr("add", index=index, local="192.0.2.1", address="192.0.2.2", prefixlen=32)
            found = listed(namespace)["tun0"]
        finally:
            os.close(tunnel)
    assert found.is_point_to_point
    assert found.addresses == (IPv4Interface("192.0.2.1/32"),)


def test_fifty_interfaces_are_listed_in_the_order_of_their_indexes(namespace: Namespace) -> None:
    for number in range(25):
        namespace.ip.link("add", ifname=f"left{number}", kind="veth", peer=f"right{number}")
    with namespace:
        assert [(i.index, i.name) for i in interfaces()] == sorted(socket.if_nameindex())
        assert len(interfaces()) == 51


def test_a_thread_sees_the_network_that_it_is_in(lan: Lan) -> None:
    seen = []
    thread = threading.Thread(target=lambda: seen.append(set(listed(lan.receiver.namespace))))
    thread.start()
    thread.join()
    assert seen == [{"lo", lan.receiver.name}]
    assert lan.receiver.name not in {interface.name for interface in interfaces()}


def test_many_addresses_on_one_interface_are_all_there(lan: Lan) -> None:
    ip, link = lan.receiver.namespace.ip, lan.receiver
    added = [f"10.99.{number // 200}.{number % 200 + 1}" for number in range(300)]
    for address in added:
        ip.addr("add", index=link.index, address=address, prefixlen=16)
    assert {IPv4Interface(f"{address}/16") for address in added} <= set(one(link).addresses)


def test_out_of_descriptors_is_an_oserror() -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="open the list of interfaces: Too many open files") as raised:
            interfaces()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert raised.value.errno == errno.EMFILE
    assert "ulimit -n" in raised.value.__notes__[0]


IPV4 = IPv4Interface("192.0.2.1/24")
LINK_LOCAL = IPv6Interface("fe80::1/64")
GLOBAL = IPv6Interface("2001:db8::1/64")


def test_an_interface_prints_as_its_name() -> None:
    assert str(Interface("eth0", 2)) == f"{Interface('eth0', 2)}" == "eth0"


def test_an_interface_describes_itself_with_its_addresses_and_a_state_that_matters() -> None:
    assert Interface("eth0", 2, (IPV4, GLOBAL), is_up=True).describe() == "eth0 (192.0.2.1/24, 2001:db8::1/64)"
    assert Interface("eth0", 2, is_up=True).describe() == "eth0 (no address)"
    assert Interface("eth0", 2, (IPV4,)).describe() == "eth0 (192.0.2.1/24, down)"


@pytest.mark.parametrize(
    ("addresses", "ipv4", "ipv6"),
    [
        ((), None, None),
        ((IPV4, IPv4Interface("192.0.2.9/24")), IPv4Address("192.0.2.1"), None),
        ((LINK_LOCAL,), None, IPv6Address("fe80::1")),
        ((LINK_LOCAL, GLOBAL, IPV4), IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")),
    ],
)
def test_the_local_address_is_the_first_that_is_not_link_local(
    addresses: tuple[IPv4Interface | IPv6Interface, ...], ipv4: IPv4Address | None, ipv6: IPv6Address | None
) -> None:
    interface = Interface("eth0", 2, addresses)
    for family, expected in ((socket.AF_INET, ipv4), (socket.AF_INET6, ipv6)):
        assert interface.local_address(family) == expected
        assert interface.supports(family) == (expected is not None)
