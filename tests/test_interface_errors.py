"""An `interface=` that cannot be used gives one error that says what is wrong, what exists and what to do."""

from __future__ import annotations

import errno
import re
import socket
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from mcastfast import _core, interface
from mcastfast.errors import Platform
from mcastfast.interface import Interface, interfaces, resolve_interface, resolve_interfaces

if TYPE_CHECKING:
    from netlab import Link, Namespace

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

IFF_MULTICAST = 0x1000
LO = "lo (127.0.0.1/8, ::1/128)"


def without_addresses(link: Link, *addresses: str) -> None:
    for address in addresses:
        link.namespace.ip.addr("del", index=link.index, address=address, prefixlen=64 if ":" in address else 24)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("eth9", "'eth9'"),
        ("", "''"),
        (" lo", "' lo'"),
        ("LO", "'LO'"),
        ("lo:1", "'lo:1'"),
        ("99", "'99'"),
        ("01", "'01'"),
        ("a\0b", r"'a\x00b'"),
        ("\udcff", r"'\udcff'"),
        ("\ud800", r"'\ud800'"),
        ("9" * 5000, "'9"),
        ("192.0.2.1", "'192.0.2.1'"),
        ("127.0.0.0/8", "'127.0.0.0/8'"),
        ("::1%eth9", "'::1%eth9'"),
        (0, "0"),
        (-1, "-1"),
        (2**40, "1099511627776"),
        (IPv4Address("192.0.2.1"), "192.0.2.1"),
        (IPv6Address("2001:db8::1"), "2001:db8::1"),
        (Interface("gone", 99), "gone of index 99"),
    ],
)
def test_what_is_not_there_is_a_value_error_that_lists_what_is(namespace: Namespace, value: Any, shown: str) -> None:
    with namespace, pytest.raises(ValueError, match=re.escape(f"unknown interface {shown}")) as raised:
        resolve_interfaces(value, socket.AF_INET)
    assert str(raised.value).endswith(f"this host has {LO}")


def test_the_list_names_every_interface_with_its_addresses_and_state(link: Link) -> None:
    link.namespace.ip.link("add", ifname="bare", kind="veth", peer="other")
    with pytest.raises(ValueError, match="unknown interface 'eth9'") as raised:
        resolve_interface("eth9", socket.AF_INET)
    text = str(raised.value)
    assert LO in text
    assert f"{link.name} ({link.ipv4}/24, " in text
    assert "bare (no address, down)" in text


@pytest.mark.parametrize("value", [True, 1.0, b"lo", ["lo"], object])
def test_a_value_of_another_type_is_a_type_error(namespace: Namespace, value: Any) -> None:
    with namespace, pytest.raises(TypeError, match="a name, an index, an address or an Interface, not"):
        resolve_interfaces(value, socket.AF_INET)


@pytest.mark.parametrize("resolve", [resolve_interface, resolve_interfaces])
def test_down_is_an_oserror_that_shows_the_command(link: Link, resolve: Any) -> None:
    link.namespace.ip.link("set", index=link.index, state="down")
    command = f"interface {link.name} is down: ip link set dev {link.name} up"
    for value in (link.name, link.index, link.ipv4):
        with pytest.raises(OSError, match=command) as raised:
            resolve(value, socket.AF_INET)
        assert raised.value.errno == errno.ENETDOWN


def test_down_is_said_before_the_addresses_that_are_missing_for_it(link: Link) -> None:
    link.namespace.ip.link("set", index=link.index, state="down")
    assert not next(i for i in interfaces() if i.name == link.name).supports(socket.AF_INET6)
    with pytest.raises(OSError, match="is down"):
        resolve_interface(link.name, socket.AF_INET6)


def test_loopback_that_is_down_is_no_exception(namespace: Namespace) -> None:
    namespace.ip.link("set", index=1, state="down")
    with namespace, pytest.raises(OSError, match="interface lo is down: ip link set dev lo up"):
        resolve_interface("lo", socket.AF_INET)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_interface_without_multicast_is_a_value_error(link: Link, family: int) -> None:
    link.namespace.ip.link("set", index=link.index, flags=0, mask=IFF_MULTICAST)
    with pytest.raises(ValueError, match=rf"interface {link.name} \(.*\) lacks multicast: .*multicast on"):
        resolve_interface(link.name, family)


def test_a_route_to_an_interface_without_multicast_asks_to_name_another(link: Link) -> None:
    link.route_multicast()
    link.namespace.ip.link("set", index=link.index, flags=0, mask=IFF_MULTICAST)
    with pytest.raises(ValueError, match=r"lacks multicast: .*choose another with interface="):
        resolve_interface(None, socket.AF_INET, IPv4Address("239.1.2.3"))


def test_an_interface_without_the_family_is_a_value_error_that_shows_what_it_has(link: Link) -> None:
    without_addresses(link, link.ipv4)
    with pytest.raises(
        ValueError, match=rf"interface {link.name} \(.*{link.ipv6}/64.*\) has no IPv4 address: .*dev veth0"
    ):
        resolve_interface(link.name, socket.AF_INET)
    resolve_interface(link.name, socket.AF_INET6)
    without_addresses(link, link.ipv6, link.link_local)
    with pytest.raises(ValueError, match=rf"interface {link.name} \(no address\) has no IPv6 address"):
        resolve_interface(link.name, socket.AF_INET6)


def test_all_is_not_one_interface(link: Link) -> None:
    with pytest.raises(ValueError, match='interface="all" stands for several') as raised:
        resolve_interface("all", socket.AF_INET)
    assert link.name in str(raised.value)


@pytest.mark.parametrize(("family", "name"), [(socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")])
def test_all_of_nothing_is_an_oserror(namespace: Namespace, family: int, name: str) -> None:
    with namespace, pytest.raises(OSError, match=f"is up, has multicast and an {name} address") as raised:
        resolve_interfaces("all", family)
    assert raised.value.errno == errno.ENODEV
    assert LO in str(raised.value)


def test_none_without_a_destination_is_a_value_error(namespace: Namespace) -> None:
    with namespace, pytest.raises(ValueError, match="interface=None needs a destination"):
        resolve_interface(None, socket.AF_INET)


@pytest.mark.parametrize(
    ("family", "group"),
    [(socket.AF_INET, IPv4Address("239.1.2.3")), (socket.AF_INET6, IPv6Address("ff15::77"))],
)
def test_no_route_is_enetunreach_and_says_to_name_an_interface(
    namespace: Namespace, family: int, group: IPv4Address | IPv6Address
) -> None:
    with namespace, pytest.raises(OSError, match=f"no route to {group} .*: name interface=") as raised:
        resolve_interface(None, family, group)
    assert raised.value.errno == errno.ENETUNREACH
    assert LO in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("unreachable", errno.EHOSTUNREACH), ("prohibit", errno.EACCES), ("blackhole", errno.EINVAL)],
)
@pytest.mark.parametrize(
    ("family", "group"),
    [(socket.AF_INET, IPv4Address("239.1.2.3")), (socket.AF_INET6, IPv6Address("ff15::77"))],
)
def test_a_route_that_refuses_keeps_its_errno(
    namespace: Namespace, family: int, group: IPv4Address | IPv6Address, kind: str, code: int
) -> None:
    namespace.ip.route("add", family=family, dst=f"{group}/{group.max_prefixlen}", type=kind)
    with namespace, pytest.raises(OSError, match=f"no route to {group}") as raised:
        resolve_interface(None, family, group)
    assert raised.value.errno == code


@pytest.mark.parametrize(
    ("platform", "family", "command"),
    [
        (Platform.LINUX, socket.AF_INET, "ip address add ... dev Ethernet 2"),
        (Platform.LINUX, socket.AF_INET6, "ip -6 address add ... dev Ethernet 2"),
        (Platform.WINDOWS, socket.AF_INET, 'netsh interface ipv4 set address "Ethernet 2" ...'),
        (Platform.WINDOWS, socket.AF_INET6, 'netsh interface ipv6 add address "Ethernet 2" ...'),
        (Platform.MACOS, socket.AF_INET, "ifconfig Ethernet 2 inet ..."),
        (Platform.MACOS, socket.AF_INET6, "ifconfig Ethernet 2 inet6 ..."),
    ],
)
def test_the_command_that_gives_an_address_is_that_of_the_system_and_the_family(
    monkeypatch: pytest.MonkeyPatch, platform: Platform, family: int, command: str
) -> None:
    bare = Interface("Ethernet 2", 7, (), is_up=True, is_multicast=True)
    monkeypatch.setattr(interface, "interfaces", lambda: (bare,))
    monkeypatch.setattr(interface, "CURRENT", platform)
    with pytest.raises(ValueError, match=rf"has no IPv[46] address: give it one \({re.escape(command)}\) or choose"):
        resolve_interface("Ethernet 2", family)


def test_a_system_without_ipv6_says_so_of_its_routes_and_of_all_its_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Windows answers where IPv6 is not installed."""
    wired = Interface("Ethernet 2", 7, (IPv4Interface("10.0.0.1/24"),), is_up=True, is_multicast=True)

    def refuse(*_: object) -> int:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    monkeypatch.setattr(interface, "interfaces", lambda: (wired,))
    monkeypatch.setattr(_core, "route_interface", refuse)
    with pytest.raises(OSError, match=r"no route to ff15::77 \(Address family not supported\)") as raised:
        resolve_interface(None, socket.AF_INET6, IPv6Address("ff15::77"))
    assert raised.value.errno == errno.EAFNOSUPPORT
    assert "Ethernet 2 (10.0.0.1/24)" in str(raised.value)
    with pytest.raises(OSError, match="an IPv6 address") as raised:
        resolve_interfaces("all", socket.AF_INET6)
    assert raised.value.errno == errno.ENODEV
