"""What a receiver's socket binds to, so that nothing but its own groups comes through.

Linux hands every datagram for a port to every socket bound to the wildcard address, whoever joined. Binding to the
group separates groups; IPv4 then also looks at the interface of the membership. IPv6 does not, and needs the socket
bound to the interface. Where neither can be had, and on Windows, which binds no group, packet information and a filter
in C do it: ip(7), ipv6(7).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mcastfast import options
from mcastfast.errors import CURRENT, Operation, Platform, UnsupportedError, os_error
from mcastfast.interface import Interface, interfaces
from mcastfast.scope import Scope
from mcastfast.sockets import host_of

if TYPE_CHECKING:
    from mcastfast.address import Group, IPAddress

BIND_MODES = ("auto", "group", "any")

_BINDING_GROUPS = frozenset({Platform.LINUX, Platform.MACOS})
"""The systems on which a socket can be bound to a group; Windows answers WSAEADDRNOTAVAIL."""


class Binding(NamedTuple):
    """What to bind.

    group: the address, None for the wildcard. interface: the one that the socket is bound to, or None. filters: whether
    destination and interface of each datagram are looked at. ring_interface: the one that a packet ring listens to.
    """

    group: IPAddress | None = None
    interface: Interface | None = None
    filters: bool = False
    ring_interface: Interface | None = None

    @classmethod
    def of(cls, sock: socket.socket) -> Binding:
        """What a socket that somebody else bound never hears more than; Windows binds unicast and hears groups too."""
        if CURRENT not in _BINDING_GROUPS:
            return cls()
        address = host_of(sock.getsockname())
        return cls(group=None if address.is_unspecified else address, interface=_bound_interface(sock))

    def bind(self, sock: socket.socket, port: int) -> None:
        """Bind a socket of the right family."""
        host = str(self.group) if self.group else "0.0.0.0" if sock.family == socket.AF_INET else "::"
        try:
            if self.interface:
                options.set_option(sock, options.BOUND_INTERFACE, self.interface.index)
            index = self.interface.index if self.interface else 0
            sock.bind((host, port) if sock.family == socket.AF_INET else (host, port, 0, index))
        except OSError as error:
            raise os_error(Operation.BIND, f"{host} port {port}", error, family=sock.family) from error

    def check(self, group: Group, interfaces: tuple[Interface, ...]) -> None:
        """Raise ValueError for a group or interface that this binding never hears."""
        if self.group and group.address != self.group:
            remedy = 'open it with bind="any" to join further groups'
            if not self.group.is_multicast:
                remedy = "bind the socket to the wildcard address, or open a Receiver with the group"
            raise ValueError(f"this receiver is bound to {self.group} and never hears {group.address}: {remedy}")
        bound = self.interface or self.ring_interface
        for interface in interfaces:
            if bound and interface.index != bound.index:
                if interface.name == bound.name:
                    raise ValueError(
                        f"this receiver is bound to the {bound} of index {bound.index}, which is gone, and never hears "
                        f"that of index {interface.index}: open another Receiver"
                    )
                remedy = 'open it with bind="any" to join on further interfaces'
                if self.interface and not (self.group and self.group.is_multicast):
                    remedy = "bind the socket to no interface, or open a Receiver with the group"
                raise ValueError(f"this receiver is bound to interface {bound} and never hears {interface}: {remedy}")


def _bound_interface(sock: socket.socket) -> Interface | None:
    """The one that a socket is bound to; not a VRF, which has no multicast of its own: its members are heard."""
    with suppress(OSError):  # Linux before 5.1 does not tell
        if index := options.get_option(sock, options.BOUND_INTERFACE):
            fit = (found for found in interfaces() if found.is_multicast or found.is_loopback)
            return next((found for found in fit if found.index == index), None)
    return None


def plan_ring_binding(
    mode: str, joins: list[tuple[Group, tuple[Interface, ...]]], *, wants_all: bool = False
) -> Binding:
    """The same for a packet ring, to which the socket brings what the link does not show.

    Unless "any" is asked for it is on the interface of these joins if they have one: a ring that listens to all
    interfaces costs every packet of the host.
    """
    binding = plan_binding(mode, joins, wants_all=wants_all)
    interfaces = {interface.index: interface for _, found in joins for interface in found}
    if not binding.interface and (mode == "any" or wants_all or len(interfaces) != 1):
        return binding._replace(filters=True)
    return binding._replace(filters=True, ring_interface=next(iter(interfaces.values())))


def plan_binding(
    mode: str,
    joins: list[tuple[Group, tuple[Interface, ...]]],
    *,
    wants_all: bool = False,
    platform: Platform = CURRENT,
) -> Binding:
    """What bind= means for these joins; `wants_all`: further interfaces may come, however many there are now.

    Raises ValueError for an unknown mode, and where "group" cannot be had for them; UnsupportedError where it cannot be
    had at all.
    """
    if mode not in BIND_MODES:
        raise ValueError(f"bind={mode!r} is not known; it is one of {', '.join(map(repr, BIND_MODES))}")
    first = joins[0][0]
    groups = {group.address for group, _ in joins}
    interfaces = {interface.index: interface for _, found in joins for interface in found}
    needs_interface = first.family == socket.AF_INET6
    if platform not in _BINDING_GROUPS:
        if mode == "group":
            raise UnsupportedError(
                f'bind="group" is not available on {platform}, where no socket can be bound to a group: '
                'use bind="any", which filters by destination'
            )
        mode = "any"
    if mode == "auto":
        is_separated = not needs_interface or (len(interfaces) == 1 and not wants_all)
        mode = "group" if len(groups) == 1 and is_separated else "any"
    if mode == "any":
        return Binding(filters=True)
    if len(groups) > 1:
        raise ValueError(
            f'bind="group" binds one group, not {len(groups)}: use bind="any", or a Receiver for each and a ReceiverSet'
        )
    if not needs_interface:
        return Binding(group=first.address)
    if len(interfaces) == 1:
        return Binding(group=first.address, interface=next(iter(interfaces.values())))
    if first.scope <= Scope.LINK_LOCAL:
        raise ValueError(
            f'bind="group" binds {first.address}, which is link-local, on one interface, not {len(interfaces)}: '
            'use bind="any"'
        )
    return Binding(group=first.address, filters=True)
