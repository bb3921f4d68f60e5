"""Options on real sockets: what is set is what is read, and does what its role says."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import KERNEL_HEADERS

from mcastfast import Receiver, options, receiver, reception
from mcastfast.errors import Platform
from mcastfast.options import Option, get_option, set_option
from mcastfast.packing import Egress, PathMtu
from mcastfast.requests import INDEPENDENT_REQUESTS, SPECIFIC_REQUESTS

if TYPE_CHECKING:
    import netlab

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6


def defined_numbers() -> dict[str, int]:
    numbers: dict[str, str] = {}
    for header in KERNEL_HEADERS:
        with open(header) as file:
            numbers.update(
                re.findall(r"^#define\s+((?:IP|IPV6|SO|MCAST|UDP)_\w+)\s+(\d+)\b", file.read(), re.MULTILINE)
            )
    return {name.removesuffix("_OLD"): int(number) for name, number in numbers.items()}


@pytest.mark.needs("kernel_headers")
def test_linux_numbers_are_those_of_the_headers() -> None:
    defined = defined_numbers()
    aliases = {"IPV6_JOIN_GROUP": "IPV6_ADD_MEMBERSHIP", "IPV6_LEAVE_GROUP": "IPV6_DROP_MEMBERSHIP"}
    every = [option for option in vars(options).values() if isinstance(option, Option)]
    every += [*INDEPENDENT_REQUESTS.values(), *SPECIFIC_REQUESTS.values()]
    rows = [row for option in every for row in option.rows if row.linux is not None]
    assert {row.name: row.linux for row in rows} == {row.name: defined[aliases.get(row.name, row.name)] for row in rows}


@pytest.fixture(params=[IPV4, IPV6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.mark.parametrize(
    ("option", "values"),
    [
        (options.MULTICAST_HOPS, [0, 1, 32, 255]),
        (options.UNICAST_HOPS, [1, 64, 255]),
        (options.LOOPBACK, [False, True]),
        (options.TOS, [0, 0xB8, 0xFC]),
        (options.BROADCAST, [True, False]),
        (options.REUSE_ADDRESS, [True, False]),
        (options.REUSE_PORT, [True, False]),
        (options.MULTICAST_ALL, [False, True]),
        (options.PACKET_INFO, [True, False]),
        (options.TIMESTAMPS, [True, False]),
        (options.HARDWARE_TIMESTAMPS, [True, False]),
        (options.RECEIVE_HOPS, [True, False]),
        (options.RECEIVE_TOS, [True, False]),
        (options.RECEIVE_ERRORS, [True, False]),
        (options.DROP_COUNTER, [True, False]),
        (options.PATH_MTU_DISCOVERY, list(PathMtu)),
        pytest.param(options.BOUND_INTERFACE, [1, 0], marks=pytest.mark.needs("namespaces")),  # CAP_NET_RAW
    ],
    ids=lambda value: value.role if isinstance(value, Option) else "",
)
def test_value_set_is_the_value_read(family: int, option: Option[Any], values: list[Any]) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        for value in values:
            set_option(sock, option, value)
            assert get_option(sock, option) == value


def test_v6only_is_read_as_set() -> None:
    with socket.socket(IPV6, socket.SOCK_DGRAM) as sock:
        for value in (True, False):
            set_option(sock, options.V6ONLY, value)
            assert get_option(sock, options.V6ONLY) is value


def test_egress_carries_index_and_address(lan: netlab.Lan) -> None:
    link = lan.sender
    with link.namespace, socket.socket(IPV4, socket.SOCK_DGRAM) as sock:
        set_option(sock, options.EGRESS, Egress(link.index, IPv4Address(link.ipv4)))
        assert get_option(sock, options.EGRESS).address == IPv4Address(link.ipv4)
        sock.connect(("239.1.2.3", 5000))  # no route leads there: only the egress interface does
        assert sock.getsockname()[0] == link.ipv4


def test_egress_of_ipv6_is_read_as_set(lan: netlab.Lan) -> None:
    link = lan.sender
    with link.namespace, socket.socket(IPV6, socket.SOCK_DGRAM) as sock:
        set_option(sock, options.EGRESS, Egress(link.index))
        assert get_option(sock, options.EGRESS) == Egress(link.index)


def test_egress_on_loopback_gives_the_datagram_its_source(loopback: netlab.Link) -> None:
    with socket.socket(IPV4, socket.SOCK_DGRAM) as sender, socket.socket(IPV4, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("239.1.2.3", 0))
        receiver.settimeout(5)
        request = socket.inet_aton("239.1.2.3") + socket.inet_aton("127.0.0.1")
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        set_option(sender, options.EGRESS, Egress(loopback.index, IPv4Address("127.0.0.1")))
        sender.sendto(b"x", receiver.getsockname())
        assert receiver.recvfrom(16)[1][0] == "127.0.0.1"


def test_device_binding_is_read_as_set(loopback: netlab.Link) -> None:
    with socket.socket(IPV4, socket.SOCK_DGRAM) as sock:
        set_option(sock, options.BOUND_DEVICE, "lo")
        assert get_option(sock, options.BOUND_DEVICE) == "lo"
        assert get_option(sock, options.BOUND_INTERFACE) == loopback.index


def test_path_mtu_of_a_connected_socket_is_that_of_the_link(lan: netlab.Lan, family: int) -> None:
    peer = lan.receiver.ipv4 if family == IPV4 else lan.receiver.ipv6
    with lan.sender.namespace, socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((peer, 5000))
        assert get_option(sock, options.PATH_MTU) == 1500


def test_meminfo_counts_every_datagram_that_found_no_room(loopback: netlab.Link, family: int) -> None:
    address = "127.0.0.1" if family == IPV4 else "::1"
    with socket.socket(family, socket.SOCK_DGRAM) as receiver, socket.socket(family, socket.SOCK_DGRAM) as sender:
        receiver.bind((address, 0))
        receiver.setblocking(False)
        set_option(receiver, options.RECEIVE_BUFFER, 8192)
        for _ in range(200):
            sender.sendto(bytes(256), receiver.getsockname())
        received = 0
        while True:
            try:
                receiver.recv(512)
            except BlockingIOError:
                break
            received += 1
        memory = get_option(receiver, options.MEMORY)
        assert 0 < received < 200
        assert received + memory.drops == 200
        assert memory.receive_buffer == 2 * 8192


@pytest.mark.parametrize(
    ("platform", "expected"), [(Platform.LINUX, (1, 0)), (Platform.MACOS, (1, 1))], ids=["linux", "macos"]
)
def test_a_receiver_shares_its_port_as_its_system_wants_it(
    loopback: netlab.Link, monkeypatch: pytest.MonkeyPatch, platform: Platform, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(receiver, "CURRENT", platform)
    with Receiver("239.1.2.3:5000", interface="lo") as shared:
        sock = shared.detach()
        with sock:
            found = [
                sock.getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
            ]
    assert found == list(expected)


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize(
    ("platform", "expected"), [(Platform.LINUX, []), (Platform.MACOS, ["unbound"])], ids=["linux", "macos"]
)
def test_a_receiver_on_macos_hears_no_other_group_before_it_joins(
    loopback: netlab.Link, monkeypatch: pytest.MonkeyPatch, platform: Platform, expected: list[str]
) -> None:
    # An IPv6 socket that has had an option of multicast is asked for its memberships: udp6_input in udp6_usrreq.c.
    made: list[str] = []
    set_option = options.set_option

    def set_and_note(sock: socket.socket, option: Option[Any], value: Any, **rest: Any) -> None:
        set_option(sock, option, value, **rest)
        if option is options.LOOPBACK:
            made.append("bound" if sock.getsockname()[1] else "unbound")

    monkeypatch.setattr(receiver, "CURRENT", platform)
    monkeypatch.setattr(options, "set_option", set_and_note)
    with Receiver("[ff15::77]:5000", interface="lo"):
        assert made == expected


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize(
    ("platform", "expected"),
    [(Platform.LINUX, False), (Platform.WINDOWS, True), (Platform.MACOS, False)],
    ids=["linux", "windows", "macos"],
)
def test_windows_is_asked_for_the_destination_of_each_family(
    loopback: netlab.Link, monkeypatch: pytest.MonkeyPatch, platform: Platform, expected: bool
) -> None:
    monkeypatch.setattr(reception, "CURRENT", platform)
    with loopback.namespace, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        with Receiver.from_socket(sock, metadata=["destination"]) as both:
            both.detach()
        place = options.PACKET_INFO.place(socket.AF_INET)
        assert sock.getsockopt(place.level, place.number) == expected
