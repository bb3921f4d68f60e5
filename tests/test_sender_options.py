"""What a Sender is told about TTL, interface, source, loopback, traffic class and buffers holds on the wire."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast

import pytest
from netlab import connect, loopback
from receivelab import FAMILIES, TIMEOUT, V4, V6, Family, at, family_name, is_empty, receive
from sendlab import Wire

from mcastfast import TTL, BufferClampedWarning, Receiver, Sender, interfaces, options

if TYPE_CHECKING:
    from collections.abc import Callable

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")


@pytest.mark.parametrize("ttl", [1, 2, TTL.SITE, TTL.REGION, 100, TTL.CONTINENT, TTL.UNRESTRICTED])
def test_the_ttl_is_what_receivers_see(wire: Wire, ttl: int) -> None:
    wire.sender(ttl=ttl).send(b"payload")
    assert [datagram.hops for datagram in wire.datagrams()] == [ttl]


def test_the_ttl_is_1_unless_given(wire: Wire) -> None:
    wire.sender().send(b"payload")
    assert [datagram.hops for datagram in wire.datagrams()] == [1]


def test_ttl_0_stays_on_this_host_where_a_receiver_here_has_joined(wire: Wire) -> None:
    with wire.link.namespace, Receiver(wire.group) as local:
        wire.sender(ttl=TTL.HOST).send(b"payload")
        assert local.recv_batch(timeout=TIMEOUT).payloads() == [b"payload"]
    assert wire.payloads() == []


def test_ttl_0_leaves_where_no_receiver_here_has_joined(wire: Wire) -> None:
    """Linux looks at it where it makes the copy for this host, and there is none to make."""
    wire.sender(ttl=TTL.HOST).send(b"payload")
    assert [(bytes(datagram), datagram.hops) for datagram in wire.datagrams()] == [(b"payload", 0)]


def test_ttl_0_without_loopback_leaves_with_ipv6_alone(wire: Wire) -> None:
    with wire.link.namespace, Receiver(wire.group):
        wire.sender(ttl=TTL.HOST, loopback=False).send(b"payload")
    assert wire.payloads() == ([b"payload"] if wire.family is V6 else [])


def test_ttl_0_by_the_loopback_interface_leaves_by_no_other(wire: Wire) -> None:
    lo = loopback(wire.link.namespace)
    lo.route_multicast()
    with wire.link.namespace, Sender(at(wire.family.group, lo), ttl=TTL.HOST) as sender:
        sender.send(b"payload")
    assert wire.payloads() == []


@pytest.mark.parametrize("traffic_class", [None, 0, 0x28, 0xB8, 0xFC])
def test_the_traffic_class_is_what_receivers_see(wire: Wire, traffic_class: int | None) -> None:
    wire.sender(traffic_class=traffic_class).send(b"payload")
    assert [datagram.tos for datagram in wire.datagrams()] == [traffic_class or 0]


@pytest.mark.parametrize("loopback", [None, True, False])
def test_loopback_decides_whether_this_host_hears_it(wire: Wire, loopback: bool | None) -> None:
    with wire.link.namespace, Receiver(wire.group) as local:
        wire.sender(loopback=loopback).send(b"payload")
        wire.sender(loopback=True).send(b"mark")
        expected = [b"mark"] if loopback is False else [b"payload", b"mark"]
        assert receive(local, len(expected)) == expected
    assert wire.payloads() == [b"payload", b"mark"]


def test_reuse_shares_the_local_port(wire: Wire) -> None:
    """As mDNS wants it (RFC 6762): what is sent from its port, on which the same host listens."""
    local = ("0.0.0.0" if wire.family is V4 else "::", 5000)
    with wire.link.namespace, Receiver(wire.group) as receiver:
        with pytest.raises(OSError, match=r"bind .* port 5000: ") as caught:
            wire.sender(local=local)
        assert caught.value.errno == errno.EADDRINUSE
        assert "share it with reuse=True" in caught.value.__notes__[0]
        wire.sender(local=local, reuse=True).send(b"payload")
        with Receiver(wire.group):
            pass
        assert receiver.recv_batch(TIMEOUT)[0].source[1] == 5000


class TwoWays:
    """A sending host with two interfaces, and a receiver at the far end of each."""

    def __init__(self, lan: netlab.Lan, family: Family, engine: str) -> None:
        other = connect(lan.receiver.namespace, lan.sender.namespace, subnet=2)
        self.family = family
        self.engine = engine
        self.links = (lan.sender, other[1])
        self.far = (lan.receiver, other[0])
        self.namespace = lan.sender.namespace

    def ways(self, **options: Any) -> list[int]:
        """By which of the interfaces a sender with these options sends: 0, 1."""
        with self.namespace:
            sender = Sender(self.family.group, port=5000, engine=self.engine, **options)
        with sender, self._receiver(0) as first, self._receiver(1) as second:
            receivers = (first, second)
            sender.send(b"payload")
            for link in self.links:
                with self.namespace, Sender(at(self.family.group, link)) as marker:
                    marker.send(b"mark")
            found = []
            for way, receiver in enumerate(receivers):
                payloads: list[bytes] = []
                while b"mark" not in payloads:
                    for datagram in receiver.recv_batch(timeout=TIMEOUT):
                        payloads.append(bytes(datagram))
                        if datagram == b"payload":
                            assert datagram.source[0] == self.family.address(self.links[way])
                            found.append(way)
            assert sender.interface is not None
            assert [self.links.index(link) for link in self.links if link.index == sender.interface.index] == found
            assert sender.address[0] == self.family.address(self.links[found[0]])
            return found

    def _receiver(self, way: int) -> Receiver:
        with self.far[way].namespace:
            return Receiver(at(self.family.group, self.far[way]))


@pytest.fixture(params=FAMILIES, ids=family_name)
def two_ways(request: pytest.FixtureRequest, lan: netlab.Lan, engine: str) -> TwoWays:
    return TwoWays(lan, request.param, engine)


SPELLINGS: dict[str, Callable[[netlab.Link], Any]] = {
    "name": lambda link: link.name,
    "index": lambda link: link.index,
    "index text": lambda link: str(link.index),
    "IPv4 address": lambda link: link.ipv4,
    "IPv4Address": lambda link: ip_address(link.ipv4),
    "IPv6 address": lambda link: link.ipv6,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_datagrams_leave_by_the_interface_that_was_named(two_ways: TwoWays, spelling: str) -> None:
    for way, link in enumerate(two_ways.links):
        assert two_ways.ways(interface=SPELLINGS[spelling](link)) == [way]


def test_datagrams_leave_by_the_interface_object(two_ways: TwoWays) -> None:
    with two_ways.namespace:
        found = {interface.name: interface for interface in interfaces()}
    for way, link in enumerate(two_ways.links):
        assert two_ways.ways(interface=found[link.name]) == [way]


def test_no_interface_means_the_one_of_the_route(two_ways: TwoWays) -> None:
    for way, link in enumerate(two_ways.links):
        route = (
            {"dst": "239.1.2.3/32", "oif": link.index}
            if two_ways.family is V4
            else {
                "family": socket.AF_INET6,
                "dst": f"{two_ways.family.group}/128",
                "oif": link.index,
                "table": 255,
                "type": "multicast",
                "priority": 1,
            }
        )
        two_ways.namespace.ip.route("add", **route)
        assert two_ways.ways() == [way]
        two_ways.namespace.ip.route("del", **route)


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_over_loopback_the_source_is_its_address(loopback: netlab.Link, family: Family, engine: str) -> None:
    group = at(family.group, loopback)
    source = family.address(loopback)
    for local in (None, ("0.0.0.0" if family is V4 else "::", 0)):
        with Receiver(group) as receiver, Sender(group, local=local, engine=engine) as sender:
            sender.send(b"payload")
            (datagram,) = receiver.recv_batch(timeout=TIMEOUT)
            assert datagram.source == sender.address
            assert sender.address[0] == source


def test_local_chooses_the_address_and_the_port(wire: Wire) -> None:
    second = "10.77.1.9" if wire.family is V4 else "fd77:1::9"
    wire.link.namespace.ip.addr(
        "add", index=wire.link.index, address=second, prefixlen=24 if wire.family is V4 else 64, flags=2
    )
    first = wire.family.address(wire.link)
    unspecified = "0.0.0.0" if wire.family is V4 else "::"
    for local, host, port in (
        (second, second, None),
        (ip_address(second), second, None),
        ((second, 4321), second, 4321),
        ((unspecified, 4322), None, 4322),
        (unspecified, None, None),
    ):
        sender = wire.sender(local=local)
        sender.send(b"payload")
        (datagram,) = wire.datagrams()
        assert datagram.source == sender.address
        assert datagram.source[0] in ((first, second) if host is None else (host,))  # the system's choice of its own
        assert port in (None, datagram.source[1])


@pytest.mark.parametrize("families", [(V4, V6), (V6, V4)], ids=["v4 first", "v6 first"])
def test_senders_of_both_families_may_have_one_port(loopback: netlab.Link, families: tuple[Family, Family]) -> None:
    def sender(family: Family) -> Sender:
        return Sender(at(family.group, loopback), local=("0.0.0.0" if family is V4 else "::", 4321))

    with sender(families[0]) as one, sender(families[1]) as other:
        assert one.address[1] == other.address[1] == 4321


def test_a_link_local_group_goes_from_a_link_local_address(lan: netlab.Lan, engine: str) -> None:
    family = Family(socket.AF_INET6, "ff12::5", "", "", "")
    with Wire(lan, family, engine) as wire:
        wire.sender().send(b"payload")
        wire.sender(local=wire.link.link_local).send(b"payload")
        for datagram in wire.datagrams():
            host, _, _, zone = cast("tuple[str, int, int, int]", datagram.source)
            assert host == wire.link.link_local
            assert zone > 0


def test_the_destination_is_the_group(wire: Wire) -> None:
    sender = wire.sender()
    sender.send(b"payload")
    (datagram,) = wire.datagrams()
    assert datagram.destination == (wire.family.group, 5000, *((0, 0) if wire.family is V6 else ()))
    assert sender.destination[:2] == (wire.family.group, 5000)
    assert str(sender) == f"{wire.family.group}%{wire.link.name} port 5000"


def test_the_send_buffer_is_what_was_asked_for(wire: Wire) -> None:
    sender = wire.sender(send_buffer=50_000)
    with sender.detach() as sock:
        assert options.get_option(sock, options.SEND_BUFFER) == 100_000  # the kernel doubles it


def test_a_clamped_send_buffer_is_warned_about_where_the_sender_is_opened(wire: Wire) -> None:
    with (
        pytest.warns(BufferClampedWarning, match=r"send buffer: asked for 2147483647 octets") as caught,
        wire.link.namespace,
    ):
        Sender(wire.group, send_buffer=2**31 - 1).close()
    assert [warning.filename for warning in caught] == [__file__]


def test_fragment_sets_path_mtu_discovery(wire: Wire) -> None:
    with wire.sender(fragment=False).detach() as sock:
        assert options.get_option(sock, options.PATH_MTU_DISCOVERY) == "do"
    with wire.sender().detach() as sock:
        assert options.get_option(sock, options.PATH_MTU_DISCOVERY) == "want"


def test_groups_are_sent_to_whatever_way_they_are_written(lan: netlab.Lan, engine: str) -> None:
    with Wire(lan, V4, engine) as wire, wire.link.namespace:
        for arguments, keywords in (
            (("udp://@239.1.2.3:5000",), {"interface": wire.link.name}),
            (("239.1.2.3",), {"port": 5000, "interface": wire.link.index}),
            ((f"239.1.2.3%{wire.link.ipv4}:5000",), {}),
        ):
            with Sender(*arguments, **keywords, engine=engine) as sender:
                sender.send(b"payload")
        assert wire.payloads() == [b"payload"] * 3


def test_a_source_specific_group_needs_no_source_to_send(lan: netlab.Lan, engine: str) -> None:
    for family in FAMILIES:
        source = family.address(lan.sender)
        with lan.receiver.namespace:
            receiver = Receiver(at(family.specific, lan.receiver), source=source)
            deaf = Receiver(at(family.specific, lan.receiver), source=family.address(lan.receiver))
        with lan.sender.namespace, Sender(at(family.specific, lan.sender), engine=engine) as sender, receiver, deaf:
            sender.send(b"payload")
            assert receiver.recv_batch(timeout=TIMEOUT).payloads() == [b"payload"]
            assert is_empty(deaf)


@pytest.mark.parametrize(
    ("group", "zone"),
    [("ff01::77", True), ("ff02::77", True), ("ff03::77", False), ("ff15::77", False), ("ff0e::77", False)],
)
def test_a_zone_goes_with_the_groups_that_have_one(
    loopback: netlab.Link, monkeypatch: pytest.MonkeyPatch, group: str, zone: bool
) -> None:
    # RFC 4007, section 6. Linux and macOS overlook that of a wider scope, where Windows has zones of other numbers.
    connected = []
    connect = socket.socket.connect

    def note(sock: socket.socket, address: tuple[str, int, int, int]) -> None:
        connected.append(address)
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    Sender(f"[{group}]:5000", interface=loopback.name).close()
    assert connected == [(group, 5000, 0, loopback.index if zone else 0)]
