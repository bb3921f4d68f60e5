"""Unicast and broadcast to the port: delivered by bind="any", never by bind="group"; all-hosts groups stay away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from receivelab import (
    FAMILIES,
    PORT,
    TIMEOUT,
    V4,
    Family,
    at,
    broadcasts,
    drain,
    exchange,
    family_name,
    member,
    sources,
)

from mcastfast import Receiver

if TYPE_CHECKING:
    from netlab import Lan

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)


@families
def test_unicast_to_the_port_is_delivered_by_any(family: Family, engine: str, lan: Lan) -> None:
    link = lan.receiver
    with (
        sources(lan.sender) as (source,),
        link.namespace,
        Receiver(at(family.group, link), bind="any", engine=engine) as receiver,
    ):
        assert receiver.address[0] == ("0.0.0.0" if family is V4 else "::")
        source.send(family.address(link), b"unicast")
        (datagram,) = receiver.recv_batch(TIMEOUT)
        assert bytes(datagram) == b"unicast"
        assert datagram.source[:2] == (family.address(lan.sender), source.port(family))
        assert datagram.destination is not None
        assert datagram.destination[:2] == (family.address(link), PORT)
        assert datagram.interface_index == link.index
        assert receiver.stats.foreign == 0


@families
@pytest.mark.parametrize("mode", ["auto", "group"])
def test_what_else_comes_to_the_port_does_not_reach_a_bound_group(
    family: Family, engine: str, lan: Lan, mode: str
) -> None:
    link = lan.receiver
    hosts = [family.address(link), *(broadcasts(link) if family is V4 else [])]
    with (
        sources(lan.sender) as (source,),
        link.namespace,
        Receiver(at(family.group, link), bind=mode, engine=engine) as receiver,
        member(link.namespace, (family.group, link.index)) as observer,
    ):
        assert receiver.address[:2] == (family.group, PORT)
        exchange(observer, *((source, host, b"to the port") for host in hosts), (source, family.group, b"group"))
        assert drain(receiver) == [b"group"]


def test_broadcast_to_the_port_is_delivered_by_any(engine: str, lan: Lan) -> None:
    """By its address one to this network alone is not told from unicast, so that both are as that is."""
    link = lan.receiver
    with (
        sources(lan.sender) as (source,),
        link.namespace,
        Receiver(at(V4.group, link), bind="any", engine=engine) as receiver,
    ):
        for address in broadcasts(link):
            source.send(address, b"broadcast")
            (datagram,) = receiver.recv_batch(TIMEOUT)
            assert bytes(datagram) == b"broadcast"
            assert datagram.destination == (address, PORT)
        assert receiver.stats.foreign == 0


@families
def test_groups_of_every_host_are_delivered_only_when_joined(family: Family, engine: str, lan: Lan) -> None:
    """The kernel is a member of 224.0.0.1 and ff02::1 by itself, on every interface."""
    link = lan.receiver
    everyone = "224.0.0.1" if family is V4 else "ff02::1"
    with (
        sources(lan.sender) as (source,),
        link.namespace,
        Receiver(at(family.group, link), bind="any", engine=engine) as receiver,
        Receiver(at(everyone, link), engine=engine) as joined,
        member(link.namespace, (family.group, link.index), (everyone, link.index)) as observer,
    ):
        exchange(observer, (source, everyone, b"to everyone"), (source, family.group, b"to the group"))
        assert drain(receiver) == [b"to the group"]
        assert drain(joined) == [b"to everyone"]


@families
def test_any_shares_the_port_with_a_bound_group_and_both_get_the_group(family: Family, engine: str, lan: Lan) -> None:
    link = lan.receiver
    with (
        sources(lan.sender) as (source,),
        link.namespace,
        Receiver(at(family.group, link), bind="any", engine=engine) as wide,
        Receiver(at(family.group, link), bind="group", engine=engine) as narrow,
        member(link.namespace, (family.group, link.index)) as observer,
    ):
        exchange(observer, (source, family.group, b"1"), (source, family.group, b"2"))
        assert drain(wide) == drain(narrow) == [b"1", b"2"]
