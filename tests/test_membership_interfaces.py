"""Which joined interface a leave, block or unblock means, whatever has become of it since."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from receivelab import PORT, V4, at

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan, Link

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

SOURCE = "10.0.0.9"


@pytest.fixture
def link(lan: Lan) -> Iterator[Link]:
    """One that the test may change; the test runs inside."""
    with lan.receiver.namespace:
        yield lan.receiver


def add_second(link: Link, address: str) -> None:
    ip = link.namespace.ip
    ip.link("add", ifname="second", kind="veth", peer={"ifname": "second-far"})
    (index,) = ip.link_lookup(ifname="second")
    ip.link("set", index=index, state="up")
    ip.addr("add", index=index, address=address, prefixlen=32)


def rename(link: Link, old: str, new: str) -> None:
    ip = link.namespace.ip
    (index,) = ip.link_lookup(ifname=old)
    ip.link("set", index=index, state="down")
    ip.link("set", index=index, ifname=new)
    ip.link("set", index=index, state="up")


def filter_and_leave(receiver: Receiver, interface: str) -> None:
    receiver.block(V4.group, SOURCE, interface=interface)
    receiver.unblock(V4.group, SOURCE, interface=interface)
    receiver.leave(V4.group, interface=interface)


@pytest.mark.parametrize("way", ["name", "address"])
def test_one_that_is_down_is_left_by_whatever_names_it(link: Link, way: str) -> None:
    named = {"name": link.name, "address": link.ipv4}[way]
    with Receiver(f"{V4.group}%{named}", port=PORT, bind="any") as receiver:
        link.namespace.ip.link("set", index=link.index, state="down")
        filter_and_leave(receiver, named)
        assert receiver.memberships == ()


def test_one_of_another_address_is_left_by_either(link: Link) -> None:
    ip = link.namespace.ip
    with Receiver(V4.group, port=PORT, interface=link.ipv4, bind="any") as receiver:
        ip.addr("del", index=link.index, address=link.ipv4, prefixlen=24)
        ip.addr("add", index=link.index, address="10.99.0.1", prefixlen=24)
        receiver.block(V4.group, SOURCE, interface="10.99.0.1")
        receiver.unblock(V4.group, SOURCE, interface=link.ipv4)
        receiver.leave(V4.group, interface=link.ipv4)
        assert receiver.memberships == ()


def test_one_of_another_name_is_left_by_either(link: Link) -> None:
    with Receiver(at(V4.group, link), bind="any") as receiver:
        rename(link, link.name, "renamed")
        receiver.block(V4.group, SOURCE, interface="renamed")
        receiver.unblock(V4.group, SOURCE, interface=link.name)
        receiver.leave(V4.group, interface=link.name)
        assert receiver.memberships == ()


def test_a_name_that_went_to_another_means_that(link: Link) -> None:
    add_second(link, "10.99.1.1")
    with Receiver(at(V4.group, link), f"{V4.group}%second", bind="any") as receiver:
        for old, new in ((link.name, "third"), ("second", link.name), ("third", "second")):
            rename(link, old, new)
        receiver.leave(V4.group, interface=link.name)
        assert [joined.interface.index for joined in receiver.memberships] == [link.index]


def test_an_address_of_several_is_refused(link: Link) -> None:
    add_second(link, link.ipv4)
    with Receiver(at(V4.group, link), f"{V4.group}%second", bind="any") as receiver:
        with pytest.raises(ValueError, match=f"{link.ipv4} is ambiguous: {link.name}, second have this address"):
            receiver.leave(V4.group, interface=link.ipv4)
        receiver.leave(V4.group, interface="second")
        receiver.leave(V4.group, interface=link.ipv4)
        assert receiver.memberships == ()


def test_one_where_nothing_is_joined_is_told_from_none_at_all(link: Link) -> None:
    with Receiver(f"{V4.group}%lo", port=PORT, bind="any") as receiver:
        link.namespace.ip.link("set", index=link.index, state="down")
        with pytest.raises(OSError, match=f"on {link.name}: the group is not joined there") as raised:
            receiver.leave(V4.group, interface=link.ipv4)
        assert raised.value.errno == errno.EADDRNOTAVAIL
        with pytest.raises(ValueError, match=r"unknown interface '10\.99\.9\.9'"):
            receiver.leave(V4.group, interface="10.99.9.9")
