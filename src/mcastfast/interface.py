"""The network interfaces of this host, and which of them a user's `interface=` means.

Nothing is cached: every call asks the system, since interfaces come and go and change their names and addresses.
"""

from __future__ import annotations

import errno
import operator
import socket
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex, TypeAlias

from mcastfast import _core
from mcastfast.errors import CURRENT, Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ALL = "all"
"""As `interface=`: every up, multicast interface that has an address of the family, except loopback."""

_EVERY_ELSEWHERE = {"any", "*", "0.0.0.0", "::"}
"""What other programs write for ALL."""

_SWITCH_ON = {
    Platform.LINUX: "ip link set dev {} up",
    Platform.WINDOWS: 'netsh interface set interface "{}" enable',
    Platform.MACOS: "ifconfig {} up",
}
_SWITCH_ON_MULTICAST = {Platform.LINUX: "switch it on (ip link set dev {} multicast on) or "}
_GIVE_ADDRESS: dict[tuple[Platform, int], str] = {
    (Platform.LINUX, socket.AF_INET): "ip address add ... dev {}",
    (Platform.LINUX, socket.AF_INET6): "ip -6 address add ... dev {}",
    (Platform.WINDOWS, socket.AF_INET): 'netsh interface ipv4 set address "{}" ...',
    (Platform.WINDOWS, socket.AF_INET6): 'netsh interface ipv6 add address "{}" ...',
    (Platform.MACOS, socket.AF_INET): "ifconfig {} inet ...",
    (Platform.MACOS, socket.AF_INET6): "ifconfig {} inet6 ...",
}
_FAMILY_NAMES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_FAMILY_TYPES: dict[int, type[IPv4Interface | IPv6Interface]] = {
    socket.AF_INET: IPv4Interface,
    socket.AF_INET6: IPv6Interface,
}


class Interface(NamedTuple):
    """A network interface as it was when the system was asked; str() is its name.

    `index` is its number in the system, from 1. `mtu` is in octets, 0 where the system does not tell. `addresses` hold
    the prefix length and are in the system's order; link-local IPv6 addresses carry no zone, since the interface is it.
    `is_up` is the administrator's switch, `is_running` the state of the link. Linux' `lo` has `is_multicast` False and
    carries multicast all the same.
    """

    name: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of an interface
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    mtu: int = 0
    is_up: bool = False
    is_running: bool = False
    is_multicast: bool = False
    is_loopback: bool = False
    is_point_to_point: bool = False

    def __str__(self) -> str:
        return self.name

    def describe(self) -> str:
        """Name, addresses and, where it is down, that: `lo (127.0.0.1/8, ::1/128)`, `eth1 (no address, down)`."""
        parts = [str(address) for address in self.addresses] or ["no address"]
        return f"{self.name} ({', '.join(parts if self.is_up else [*parts, 'down'])})"

    def supports(self, family: int) -> bool:
        """Whether the interface has an address of `family` (AF_INET or AF_INET6)."""
        return self.local_address(family) is not None

    def local_address(self, family: int) -> IPv4Address | IPv6Address | None:
        """The address to send from: the first of `family`, a link-local one only where there is no other; or None."""
        of_family = [address.ip for address in self.addresses if isinstance(address, _FAMILY_TYPES[family])]
        return min(of_family, key=lambda address: address.is_link_local, default=None)


InterfaceLike: TypeAlias = str | SupportsIndex | IPv4Address | IPv6Address | Interface
"""What names an interface; see resolve_interface()."""


def interfaces() -> tuple[Interface, ...]:
    """The interfaces of this host, in the order of their indexes, those without an address too."""
    rows_of: dict[int, list[tuple[str, int, int, int, int, bytes, int]]] = {}
    for row in _core.interface_rows():
        rows_of.setdefault(row[1], []).append(row)
    found = []
    for index, rows in sorted(rows_of.items()):
        name, _, flags, mtu, *_ = rows[0]
        found.append(
            Interface(
                name=name,
                index=index,
                addresses=tuple(_FAMILY_TYPES[row[4]]((row[5], row[6])) for row in rows if row[4]),
                mtu=mtu,
                is_up=bool(flags & _core.IF_UP),
                is_running=bool(flags & _core.IF_RUNNING),
                is_multicast=bool(flags & _core.IF_MULTICAST),
                is_loopback=bool(flags & _core.IF_LOOPBACK),
                is_point_to_point=bool(flags & _core.IF_POINTOPOINT),
            )
        )
    return tuple(found)


def resolve_interface(
    value: InterfaceLike | None, family: int, destination: IPv4Address | IPv6Address | None = None
) -> Interface:
    """The one interface that `value` means, fit for multicast of `family` (AF_INET or AF_INET6).

    `value` is an Interface (the one that has its index now or, if none has, its name: a tunnel, say, that was deleted
    and made again), an index, an address of the interface (of either family, with or without prefix; a zone decides
    where several have it), or text: a name, an alternative name, an index or an address, tried in this order, so that
    an interface called "7" is found by its name. None stands for the interface that the route to `destination` leads
    to.

    Raises ValueError for what is not an interface of this host, naming those that are, for an interface that lacks
    multicast (loopback never does) or an address of the family, and for "all". Raises OSError: ENETDOWN for an
    interface that is down; ENETUNREACH, or what the route says, where `destination` cannot be reached. An interface
    that the route chose may have no address of its own.
    """
    if value == ALL:
        raise ValueError(f'interface="{ALL}" stands for several interfaces: name one; {listing(interfaces())}')
    found = interfaces()
    if value is None:
        if destination is None:
            raise ValueError(
                f"interface=None needs a destination whose route decides: name interface=; {listing(found)}"
            )
        return _checked(_routed(destination, family, found))
    chosen = _named(value, found)
    _checked(chosen)
    if not chosen.supports(family):
        raise ValueError(
            f"interface {chosen.describe()} has no {_FAMILY_NAMES[family]} address: "
            f"give it one ({_GIVE_ADDRESS[CURRENT, family].format(chosen)}) or choose another; {listing(found)}"
        )
    return chosen


def resolve_interfaces(
    value: InterfaceLike | None, family: int, destination: IPv4Address | IPv6Address | None = None
) -> tuple[Interface, ...]:
    """As resolve_interface(), and "all" gives every up, multicast interface that has the family, except loopback.

    Raises OSError(ENODEV) where "all" finds none.
    """
    if value != ALL:
        return (resolve_interface(value, family, destination),)
    found = interfaces()
    fit = choose_all(found, family)
    if not fit:
        raise OSError(
            errno.ENODEV,
            f'interface="{ALL}" finds no interface that is up, has multicast and an {_FAMILY_NAMES[family]} address '
            f"(loopback does not count): name one; {listing(found)}",
        )
    return fit


def choose_all(found: Iterable[Interface], family: int) -> tuple[Interface, ...]:
    """Those of `found` that "all" stands for."""
    return tuple(i for i in found if i.is_up and i.is_multicast and i.supports(family) and not i.is_loopback)


def listing(found: tuple[Interface, ...]) -> str:
    """What a text says of the interfaces that there are."""
    return f"this host has {', '.join(interface.describe() for interface in found) or 'none'}"


def first_given(*values: InterfaceLike | None) -> InterfaceLike | None:
    """The first that is not None: a keyword stands before the Group that it was read into, which has it as text."""
    return next((value for value in values if value is not None), None)


def find_known(value: InterfaceLike, known: Sequence[Interface]) -> tuple[Interface, ...]:
    """Those of `known`, whatever has become of them, that `value` means, else the one of this host.

    What they are called now stands before what they were called when they became known. ValueError: there is none, or
    an address is that of several.
    """
    found = interfaces()
    present = {interface.index: interface for interface in found}
    for candidates in ([present.get(interface.index, interface) for interface in known], known):
        if matches := _matching(value, candidates):
            _check_one_name(value, matches)
            indexes = {interface.index for interface in matches}
            return tuple(interface for interface in known if interface.index in indexes)
    return (_named(value, found),)


def _matching(value: InterfaceLike, found: Sequence[Interface]) -> list[Interface]:
    return _picked(value, found) or _matching_address(value, found)


def _picked(value: InterfaceLike, found: Sequence[Interface]) -> list[Interface]:
    """The one of `found` that `value` means by name or index, if any; by an address none. TypeError: it is no value."""
    if isinstance(value, str):
        return _matching_name(value, found)
    if isinstance(value, IPv4Address | IPv6Address):
        return []
    if isinstance(value, bool) or not isinstance(value, Interface | SupportsIndex):
        raise TypeError(f"interface must be a name, an index, an address or an Interface, not {value!r}")
    index = value.index if isinstance(value, Interface) else operator.index(value)
    return [interface for interface in found if interface.index == index]


def _named(value: InterfaceLike, found: tuple[Interface, ...]) -> Interface:
    matches = _matching(value, found) or _made_again(value, found)
    if not matches:
        shown = repr(value) if isinstance(value, str) else str(value)
        known_as = f" of index {value.index}" if isinstance(value, Interface) else ""
        every = f'; a Receiver takes "{ALL}" for every one of them' if value in _EVERY_ELSEWHERE else ""
        raise ValueError(f"unknown interface {shown}{known_as}: {listing(found)}{every}")
    _check_one_name(value, matches)
    return matches[0]


def _check_one_name(value: InterfaceLike, matches: Sequence[Interface]) -> None:
    names = list(dict.fromkeys(interface.name for interface in matches))
    if len(names) > 1:
        raise ValueError(f"interface {value} is ambiguous: {', '.join(names)} have this address; give the name")


def _matching_name(text: str, found: Sequence[Interface]) -> list[Interface]:
    named = [interface for interface in found if interface.name == text]
    if not named:
        index = _index_of_name(text)
        named = [interface for interface in found if interface.index == index]
    return named or [interface for interface in found if str(interface.index) == text]


def _index_of_name(name: str) -> int | None:
    """The system's answer, which knows alternative names (`ip link property add dev eth0 altname uplink`) too."""
    if ":" in name:
        return None  # Linux looks at what stands before a colon only: netdevice(7) aliases
    try:
        return socket.if_nametoindex(name)
    except (OSError, ValueError):
        return None


def _matching_address(value: InterfaceLike, found: Sequence[Interface]) -> list[Interface]:
    try:
        address = ip_interface(value) if isinstance(value, str) else value
    except ValueError:
        return []
    if not isinstance(address, IPv4Address | IPv6Address):
        return []
    zone = address.scope_id if isinstance(address, IPv6Address) else None
    return [
        interface
        for interface in found
        if any(own.packed == address.packed for own in interface.addresses)
        and zone in (None, interface.name, str(interface.index))
    ]


def _made_again(value: InterfaceLike, found: Sequence[Interface]) -> list[Interface]:
    return [interface for interface in found if isinstance(value, Interface) and interface.name == value.name]


def _routed(destination: IPv4Address | IPv6Address, family: int, found: tuple[Interface, ...]) -> Interface:
    try:
        index = _core.route_interface(family, destination.packed)
    except OSError as error:
        raise OSError(
            error.errno, f"no route to {destination} ({error.strerror}): name interface=; {listing(found)}"
        ) from None
    for interface in found:
        if interface.index == index:
            return interface
    raise OSError(errno.ENODEV, f"the route to {destination} leads to interface {index}, which is gone: try again")


def _checked(chosen: Interface) -> Interface:
    if not chosen.is_up:
        raise OSError(errno.ENETDOWN, f"interface {chosen} is down: {_SWITCH_ON[CURRENT].format(chosen)}")
    if not (chosen.is_multicast or chosen.is_loopback):
        raise ValueError(
            f"interface {chosen.describe()} lacks multicast: "
            f"{_SWITCH_ON_MULTICAST.get(CURRENT, '').format(chosen)}choose another with interface="
        )
    return chosen
