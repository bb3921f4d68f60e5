"""Memberships by what arrives: two sources in two namespaces, one receiver."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from receivelab import Worker

from mcastfast import options
from mcastfast.interface import Interface, interfaces
from mcastfast.membership import Memberships
from mcastfast.options import set_option
from mcastfast.packing import Egress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

    from mcastfast.address import IPAddress

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6
GROUP: dict[int, str] = {IPV4: "232.1.2.3", IPV6: "ff35::8000:3"}


@pytest.fixture(params=[IPV4, IPV6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


class Network:
    """A receiver and two senders, numbered 0 and 1."""

    def __init__(self, lan: netlab.Lan3, family: int) -> None:
        self.family = family
        self.group = ip_address(GROUP[family])
        self.receiver = open_in(lan.receiver, family)
        self.receiver.settimeout(5)
        self.receiver.bind(("", 0))
        set_option(self.receiver, options.MULTICAST_ALL, False)
        with lan.receiver.namespace:
            self.interface: Interface = next(found for found in interfaces() if found.name == lan.receiver.name)
        self.memberships = Memberships(self.receiver)
        self.senders = [open_in(link, family) for link in (lan.first, lan.second)]
        self.sources = [address_of(link, family) for link in (lan.first, lan.second)]
        for link, sender, source in zip((lan.first, lan.second), self.senders, self.sources, strict=True):
            sender.bind((str(source), 0))
            set_option(sender, options.EGRESS, Egress(link.index, source))
        self.destination = address_of(lan.receiver, family)

    def close(self) -> None:
        for opened in (self.receiver, *self.senders):
            opened.close()

    def heard(self) -> list[int]:
        """Which senders are heard: each sends to the group, then marks the end by unicast."""
        port = self.receiver.getsockname()[1]
        for number, sender in enumerate(self.senders):
            sender.sendto(bytes([number]), (str(self.group), port))
        # A sender's datagrams keep their order on the way, so that its mark comes behind what it sent.
        for sender in self.senders:
            sender.sendto(b"end", (str(self.destination), port))
        found, ends = [], 0
        while ends < len(self.senders):
            data = self.receiver.recv(16)
            if data == b"end":
                ends += 1
            else:
                found.append(data[0])
        return sorted(found)


def open_in(link: netlab.Link, family: int) -> socket.socket:
    with link.namespace:
        return socket.socket(family, socket.SOCK_DGRAM)


def address_of(link: netlab.Link, family: int) -> IPAddress:
    return ip_address(link.ipv4 if family == IPV4 else link.ipv6)


@pytest.fixture
def network(lan3: netlab.Lan3, family: int) -> Iterator[Network]:
    made = Network(lan3, family)
    yield made
    made.close()


def test_nothing_is_heard_without_a_join(network: Network) -> None:
    assert network.heard() == []


def test_any_source_join_hears_both(network: Network) -> None:
    network.memberships.join(network.group, (), [network.interface])
    assert network.heard() == [0, 1]


def test_source_specific_join_hears_exactly_that_source(network: Network) -> None:
    network.memberships.join(network.group, network.sources[:1], [network.interface])
    assert network.heard() == [0]
    network.memberships.join(network.group, network.sources[1:], [network.interface])
    assert network.heard() == [0, 1]
    network.memberships.leave(network.group, network.sources[:1])
    assert network.heard() == [1]
    network.memberships.leave(network.group)
    assert network.heard() == []


def test_block_stops_one_source_and_unblock_restores_it(network: Network) -> None:
    network.memberships.join(network.group, (), [network.interface])
    network.memberships.block(network.group, network.sources[:1])
    assert network.heard() == [1]
    network.memberships.unblock(network.group, network.sources[:1])
    assert network.heard() == [0, 1]


def test_refused_join_of_a_source_does_not_deafen_an_any_source_receiver(network: Network) -> None:
    network.memberships.join(network.group, (), [network.interface])
    with pytest.raises(OSError, match="already joined"):
        network.memberships.join(network.group, network.sources[:1], [network.interface])
    assert network.heard() == [0, 1]


def test_join_while_a_thread_is_blocked_in_receive_lets_it_hear(network: Network) -> None:
    listener = Worker(network.receiver.recv, 16)
    listener.wait_until_blocked()
    network.memberships.join(network.group, (), [network.interface])
    network.senders[0].sendto(b"hello", (str(network.group), network.receiver.getsockname()[1]))
    assert listener.result() == b"hello"
