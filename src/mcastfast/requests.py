"""Membership requests to the system: RFC 3678 in both its forms, and which form serves on which system."""

from __future__ import annotations

import errno
import socket
from enum import StrEnum
from typing import TYPE_CHECKING

from mcastfast import packing
from mcastfast.errors import CURRENT, Operation, Platform
from mcastfast.options import Option, Row, SocketLike, set_option
from mcastfast.packing import MembershipRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcastfast.address import IPAddress
    from mcastfast.interface import Interface


class Action(StrEnum):
    """A membership request; each may name a source, block and unblock must."""

    JOIN = "join"
    LEAVE = "leave"
    BLOCK = "block"
    UNBLOCK = "unblock"


# By action, and whether a source is named.
INDEPENDENT_REQUESTS: Mapping[tuple[Action, bool], Option[MembershipRequest]] = {
    (Action.JOIN, False): Option("join", (Row("MCAST_JOIN_GROUP", packing.GROUP_REQ, linux=42, windows=41, macos=80),)),
    (Action.LEAVE, False): Option(
        "leave", (Row("MCAST_LEAVE_GROUP", packing.GROUP_REQ, linux=45, windows=42, macos=81),)
    ),
    (Action.JOIN, True): Option(
        "join of a source", (Row("MCAST_JOIN_SOURCE_GROUP", packing.GROUP_REQ, linux=46, windows=45, macos=82),)
    ),
    (Action.LEAVE, True): Option(
        "leave of a source", (Row("MCAST_LEAVE_SOURCE_GROUP", packing.GROUP_REQ, linux=47, windows=46, macos=83),)
    ),
    (Action.BLOCK, True): Option(
        "block", (Row("MCAST_BLOCK_SOURCE", packing.GROUP_REQ, linux=43, windows=43, macos=84),)
    ),
    (Action.UNBLOCK, True): Option(
        "unblock", (Row("MCAST_UNBLOCK_SOURCE", packing.GROUP_REQ, linux=44, windows=44, macos=85),)
    ),
}
"""Section 5: the same for both families, the interface by its index."""

SPECIFIC_REQUESTS: Mapping[tuple[Action, bool], Option[MembershipRequest]] = {
    (Action.JOIN, False): Option(
        "join",
        (
            Row("IP_ADD_MEMBERSHIP", packing.IP_MREQ, linux=35, windows=12, macos=12),
            Row("IPV6_JOIN_GROUP", packing.IPV6_MREQ, linux=20, windows=12, macos=12),
        ),
    ),
    (Action.LEAVE, False): Option(
        "leave",
        (
            Row("IP_DROP_MEMBERSHIP", packing.IP_MREQ, linux=36, windows=13, macos=13),
            Row("IPV6_LEAVE_GROUP", packing.IPV6_MREQ, linux=21, windows=13, macos=13),
        ),
    ),
    (Action.JOIN, True): Option(
        "join of a source",
        (Row("IP_ADD_SOURCE_MEMBERSHIP", packing.IP_MREQ_SOURCE, linux=39, windows=15, macos=70),),
    ),
    (Action.LEAVE, True): Option(
        "leave of a source",
        (Row("IP_DROP_SOURCE_MEMBERSHIP", packing.IP_MREQ_SOURCE, linux=40, windows=16, macos=71),),
    ),
    (Action.BLOCK, True): Option(
        "block", (Row("IP_BLOCK_SOURCE", packing.IP_MREQ_SOURCE, linux=38, windows=17, macos=72),)
    ),
    (Action.UNBLOCK, True): Option(
        "unblock", (Row("IP_UNBLOCK_SOURCE", packing.IP_MREQ_SOURCE, linux=37, windows=18, macos=73),)
    ),
}
"""Section 4 and RFC 3493: IPv4 by the interface's address, IPv6 without sources."""


def request_option(
    action: Action, group: IPAddress, source: IPAddress | None, *, platform: Platform = CURRENT
) -> Option[MembershipRequest]:
    """The form of the request that serves on `platform`.

    By index, except on Windows, where the older form is the one that every version knows: it names the interface by its
    address for IPv4, and there is none for sources of IPv6.
    """
    key = (action, source is not None)
    family = socket.AF_INET if group.version == 4 else socket.AF_INET6
    if platform is Platform.WINDOWS and SPECIFIC_REQUESTS[key].supported(family, platform):
        return SPECIFIC_REQUESTS[key]
    return INDEPENDENT_REQUESTS[key]


def describe(group: IPAddress, source: IPAddress | None, interface: Interface) -> str:
    """The operands as error texts show them: `232.1.2.3 from 10.0.0.7 on eth0`."""
    return f"{group}{f' from {source}' if source else ''} on {interface}"


def request_membership(
    sock: SocketLike, action: Action, group: IPAddress, source: IPAddress | None, interface: Interface
) -> None:
    """Ask the system to join, leave, block or unblock; OSError with cause and remedy where it refuses.

    Windows is asked by the interface's index where it does not take the address, as of an adapter that gets another.
    """

    def ask(named: Interface) -> None:
        set_option(
            sock,
            request_option(action, group, source, platform=CURRENT),
            MembershipRequest(group, source, named),
            operation=Operation(action),
            operands=describe(group, source, interface),
        )

    try:
        ask(interface)
    except OSError as error:
        if CURRENT is not Platform.WINDOWS or group.version != 4 or error.errno != errno.EADDRNOTAVAIL:
            raise
        try:
            ask(interface._replace(addresses=()))
        except OSError:
            raise error from None
