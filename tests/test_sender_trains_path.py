"""Trains and the MTU of the path, of which the system may tell nothing, or something old.

What it tells belongs to the socket's route, as that was when the socket was connected.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from netlab import wait_until
from receivelab import FAMILIES, V4, V6, family_name
from sendlab import LARGE, Wire, alike

from mcastfast import Sender, interfaces
from mcastfast.options import TOS, set_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

SMALL = alike(100, 10)
LONG = alike(LARGE, 10)
SMALLER_MTU = 1300
IPV6_MTU = 24
LOOK_AGAIN = 257
"""Batches of payloads that are too long after which the MTU is looked up."""

segments = pytest.mark.parametrize("segment", [None, True])


@pytest.fixture(params=FAMILIES, ids=family_name)
def wire(request: pytest.FixtureRequest, lan: netlab.Lan) -> Iterator[Wire]:
    with Wire(lan, request.param, "socket") as wire:
        yield wire


@pytest.fixture
def wire4(lan: netlab.Lan) -> Iterator[Wire]:
    with Wire(lan, V4, "socket") as wire:
        yield wire


@pytest.fixture
def wire6(lan: netlab.Lan) -> Iterator[Wire]:
    with Wire(lan, V6, "socket") as wire:
        yield wire


def bounce(wire: Wire) -> None:
    """The interface goes down and up."""
    link, ip = wire.link, wire.link.namespace.ip
    ip.link("set", index=link.index, state="down")
    ip.link("set", index=link.index, state="up")
    ip.addr("replace", index=link.index, address=link.ipv6, prefixlen=64, flags=2)  # IFA_F_NODAD
    with link.namespace:
        wait_until(lambda: {link.ipv4, link.ipv6} <= {str(a.ip) for i in interfaces() for a in i.addresses})


def check_train(wire: Wire, sender: Sender, payloads: list[bytes]) -> None:
    before = sender.stats.trains
    sender.send_batch(payloads)
    assert wire.payloads() == payloads
    assert sender.stats.trains == before + 1


def check_plain(wire: Wire, sender: Sender, payloads: list[bytes]) -> None:
    before = sender.stats.trains
    sender.send_batch(payloads)
    assert wire.payloads() == payloads
    assert sender.stats.trains == before
    assert sender.segment


@segments
def test_an_interface_that_was_down_takes_trains_from_the_first_batch_on(wire: Wire, segment: bool | None) -> None:
    sender = wire.sender(segment=segment)
    bounce(wire)
    check_train(wire, sender, LONG)


@segments
def test_an_interface_that_was_down_takes_trains_after_a_look_at_the_mtu(wire: Wire, segment: bool | None) -> None:
    sender = wire.sender(segment=segment)
    check_train(wire, sender, LONG)
    bounce(wire)
    for _ in range(LOOK_AGAIN):
        sender.send_batch([bytes(2000)] * 2)
    wire.payloads()
    check_train(wire, sender, LONG)


@segments
def test_an_option_that_is_set_on_a_connected_socket_ends_no_trains(wire: Wire, segment: bool | None) -> None:
    sock = wire.plain_sender()
    set_option(sock, TOS, 0x20)
    with Sender.from_socket(sock, segment=segment) as sender:
        check_train(wire, sender, LONG)


@segments
def test_a_route_that_became_narrower_sends_plain_what_is_too_long_alone(wire4: Wire, segment: bool | None) -> None:
    """The socket's route is still the old one, which a send does not renew for multicast."""
    link = wire4.link
    link.route_multicast()
    sender = wire4.sender(segment=segment)
    check_train(wire4, sender, LONG)
    link.namespace.ip.route("replace", dst="224.0.0.0/4", oif=link.index, scope="link", metrics={"mtu": SMALLER_MTU})
    check_plain(wire4, sender, LONG)
    check_train(wire4, sender, SMALL)
    check_plain(wire4, sender, LONG)


@segments
def test_an_mtu_of_the_socket_sends_plain_what_is_too_long_alone(wire6: Wire, segment: bool | None) -> None:
    sock = wire6.plain_sender()
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU, SMALLER_MTU)
    with Sender.from_socket(sock, segment=segment) as sender:
        check_plain(wire6, sender, LONG)
        check_train(wire6, sender, SMALL)


@segments
@pytest.mark.parametrize("count", [4, 40])
def test_headers_that_are_longer_send_plain_what_is_too_long_alone(
    wire4: Wire, segment: bool | None, count: int
) -> None:
    sock = wire4.plain_sender()
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * count)
    fitting = 1500 - 28
    with Sender.from_socket(sock, segment=segment) as sender:
        check_plain(wire4, sender, alike(fitting, 4))
        check_train(wire4, sender, alike(fitting - count, 4))
        check_train(wire4, sender, SMALL)


def test_a_path_that_became_wider_is_found(wire4: Wire) -> None:
    link, ip = wire4.link, wire4.link.namespace.ip
    link.route_multicast()
    sender = wire4.sender(segment=None)
    ip.route("replace", dst="224.0.0.0/4", oif=link.index, scope="link", metrics={"mtu": SMALLER_MTU})
    check_plain(wire4, sender, LONG)
    ip.route("replace", dst="224.0.0.0/4", oif=link.index, scope="link")
    for _ in range(LOOK_AGAIN):
        sender.send_batch([bytes(2000)] * 2)
    wire4.payloads()
    check_train(wire4, sender, LONG)
