"""What an address or a hop count says about a multicast datagram's reach: constants and IANA's IPv4 ranges."""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum, IntEnum, IntFlag
from ipaddress import IPv4Address


class TTL(IntEnum):
    """How far a datagram may travel: the conventional thresholds of IPv4 TTL and IPv6 hop limit.

    Source: the customary thresholds of the Linux Multicast-HOWTO, section "TTL". SUBNET holds everywhere; those above
    it only where routers are set to forward what exceeds them, so scope by address (Scope, RFC 2365) is the dependable
    boundary. HOST holds where the loopback interface sends: by any other, Linux lets it leave unless a receiver of this
    host has joined the group on that interface, and with IPv6 and loopback=False always.
    """

    HOST = 0
    SUBNET = 1
    SITE = 32
    REGION = 64
    CONTINENT = 128
    UNRESTRICTED = 255


class Scope(IntEnum):
    """The part of the network in which a group address has its meaning; the values are IPv6's (RFC 7346)."""

    RESERVED_0 = 0x0
    INTERFACE_LOCAL = 0x1
    LINK_LOCAL = 0x2
    REALM_LOCAL = 0x3
    ADMIN_LOCAL = 0x4
    SITE_LOCAL = 0x5
    UNASSIGNED_6 = 0x6
    UNASSIGNED_7 = 0x7
    ORGANIZATION_LOCAL = 0x8
    UNASSIGNED_9 = 0x9
    UNASSIGNED_A = 0xA
    UNASSIGNED_B = 0xB
    UNASSIGNED_C = 0xC
    UNASSIGNED_D = 0xD
    GLOBAL = 0xE
    RESERVED_F = 0xF


class GroupFlag(IntFlag):
    """The flag bits of an IPv6 group address (RFC 4291, section 2.7; X: RFC 7371)."""

    T = 1  # transient: not assigned by IANA
    P = 2  # based on a unicast prefix (RFC 3306)
    R = 4  # embeds its rendezvous point (RFC 3956)
    X = 8


class SSMAllocation(Enum):
    """Who may choose a group identifier of the source-specific range (RFC 4607, section 1)."""

    INVALID = "must not be used"
    IANA = "reserved for assignment by IANA"
    HOST = "free for hosts to choose"


# First address of each range, its registration group, and its scope. RFC 5771 section 3 names the groups, RFC 6034 adds
# 234/8. Scopes follow RFC 2365 section 8, which puts 239.255/16 at IPv6's value 3; its sections 6.1.1 and 6.2.1 leave
# 239.253/16 and 239.254/16 to the growth of the local scope, and the space below to that of the organization-local one.
_IPV4_RANGES = (
    ("224.0.0.0", "Local Network Control Block", Scope.LINK_LOCAL),
    ("224.0.1.0", "Internetwork Control Block", Scope.GLOBAL),
    ("224.0.2.0", "AD-HOC Block I", Scope.GLOBAL),
    ("224.1.0.0", "Reserved", Scope.GLOBAL),
    ("224.2.0.0", "SDP/SAP Block", Scope.GLOBAL),
    ("224.3.0.0", "AD-HOC Block II", Scope.GLOBAL),
    ("224.5.0.0", "Reserved", Scope.GLOBAL),
    ("232.0.0.0", "Source-Specific Multicast Block", Scope.GLOBAL),
    ("233.0.0.0", "GLOP Block", Scope.GLOBAL),
    ("233.252.0.0", "AD-HOC Block III", Scope.GLOBAL),
    ("234.0.0.0", "Unicast-Prefix-Based Block", Scope.GLOBAL),
    ("235.0.0.0", "Reserved", Scope.GLOBAL),
    ("239.0.0.0", "Administratively Scoped Block", Scope.ORGANIZATION_LOCAL),
    ("239.192.0.0", "Administratively Scoped Block, Organization Local Scope", Scope.ORGANIZATION_LOCAL),
    ("239.196.0.0", "Administratively Scoped Block", Scope.ORGANIZATION_LOCAL),
    ("239.253.0.0", "Administratively Scoped Block", Scope.REALM_LOCAL),
    ("239.255.0.0", "Administratively Scoped Block, Local Scope", Scope.REALM_LOCAL),
)
_IPV4_STARTS = tuple(int(IPv4Address(first)) for first, _, _ in _IPV4_RANGES)


def ipv4_block(address: IPv4Address) -> str:
    """Return the registration group of an IPv4 multicast address (RFC 5771, section 3; RFC 6034; RFC 2365)."""
    return _IPV4_RANGES[bisect_right(_IPV4_STARTS, int(address)) - 1][1]


def ipv4_scope(address: IPv4Address) -> Scope:
    """Return the scope of an IPv4 multicast address, mapped onto IPv6's values (RFC 2365, section 8)."""
    return _IPV4_RANGES[bisect_right(_IPV4_STARTS, int(address)) - 1][2]
