"""Multicast groups: the text grammar, the value it yields, and what the address alone says about it.

The grammar is read here and nowhere else::

    [udp://|rtp://] [source[,source]@] group [%interface] [:port]

    239.1.2.3:5000                               any-source
    10.0.0.7@232.1.2.3%eth1:5000                 source-specific, on one interface
    [ff15::1%eth0]:5000                          IPv6 stands in brackets, its interface inside them
    fd00::7@[ff3e::8000:1%eth0]:5000             an IPv6 source stands bare or in brackets
    udp://@239.1.2.3:5000                        as VLC writes it

Brackets may be left out around an IPv6 group without a port, and may be written around any group. Nothing is looked
up: an interface stays the name, index or address that was written, and host names are refused.
"""

from __future__ import annotations

import operator
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, Self, SupportsIndex, TypeAlias

from mcastfast.scope import GroupFlag, Scope, SSMAllocation, ipv4_block, ipv4_scope

IPAddress: TypeAlias = IPv4Address | IPv6Address
AddressLike: TypeAlias = str | IPv4Address | IPv6Address


class NamedInterface(Protocol):
    """What stands for an interface by its name, as mcastfast.Interface does."""

    @property
    def name(self) -> str:
        """The name the system knows the interface by."""


InterfaceLike: TypeAlias = str | SupportsIndex | IPv4Address | IPv6Address | NamedInterface


class _GroupFields(NamedTuple):
    address: IPAddress
    port: int | None
    interface: str | None
    sources: tuple[IPAddress, ...]


class Group(_GroupFields):
    """A multicast group with its port, interface and sources, as far as they are known.

    address: the group's address. port: 1 to 65535, or None. interface: name, index digits or address as written, or
    None; not looked up. sources: unicast addresses of the group's family in ascending order; empty means any-source.
    Two groups are equal when all four are. str() gives the canonical text, which parses back to an equal Group.

    TypeError: a field of the wrong type; parse() takes more. ValueError: the address is not multicast, the port is out
    of range, the grammar cannot hold the interface, or a source is of the other family, not unicast, or given twice.
    The rules of RFC 4607 are applied by parse().
    """

    __slots__ = ()

    def __new__(
        cls,
        address: IPAddress,
        port: SupportsIndex | None = None,
        interface: str | None = None,
        sources: Iterable[IPAddress] = (),
    ) -> Self:
        """Check the fields, and put the sources in order."""
        ordered = _order_sources(sources)
        _check_group(address, ordered)
        number = None if port is None else _check_port(port)
        if interface is not None:
            _check_interface(interface)
        for source in ordered:
            _check_source(source, address)
        for earlier, later in pairwise(ordered):
            if earlier == later:
                raise ValueError(f"source {later} is given twice; name each source once")
        return super().__new__(cls, address, number, interface, ordered)

    def replace(self, **changes: Any) -> Group:
        """A copy with other fields, checked like a new one."""
        return Group(**{**self._asdict(), **changes})

    @classmethod
    def parse(
        cls,
        group: AddressLike | Group,
        *,
        port: SupportsIndex | None = None,
        interface: InterfaceLike | None = None,
        source: AddressLike | Iterable[AddressLike] | None = None,
        strict: bool = True,
    ) -> Group:
        """Return the group to join that a text (or an address, or a Group) and keywords describe together.

        What stands in the text and as a keyword must agree. An interface agrees when the text is its name, its index,
        its address or the zone of that; a keyword's interface is kept as what a text can hold of these, for show:
        Sender and Receiver look up the keyword itself. source= takes one source or several.

        strict refuses what cannot work: an any-source join in the source-specific range, an identifier there that
        RFC 4607 rules out, and IPv6's reserved scope 0, which hosts drop (RFC 4291, 2.7). strict=False allows these.
        To send, use parse_destination().

        TypeError: an argument of the wrong type. ValueError: everything else that is wrong; it names the text.
        """
        try:
            merged = _merge(group, port, interface, source, _RECEIVER_KEYWORDS)
            if strict:
                _check_usable(merged)
                _check_source_specific(merged)
        except ValueError as error:
            raise ValueError(f"group {str(group)!r}: {error}") from None
        return merged

    @classmethod
    def parse_destination(
        cls,
        group: AddressLike | Group,
        *,
        port: SupportsIndex | None = None,
        interface: InterfaceLike | None = None,
        strict: bool = True,
    ) -> Group:
        """Return the group to send to; like parse(), but with a port and without sources.

        Sending to the source-specific range needs no source: the sender is it. strict refuses only the identifiers that
        no sender may use. A source in the text is a ValueError, because it would not choose the sender's own address.
        """
        try:
            merged = _merge(group, port, interface, None, _SENDER_KEYWORDS)
            if merged.sources:
                raise ValueError(
                    "a destination has no source; write it without source@, and pass local= to Sender "
                    "to choose the address it sends from"
                )
            if merged.port is None:
                raise ValueError(f"a destination needs a port; {port_remedy(group, merged)}")
            if strict:
                _check_usable(merged)
        except ValueError as error:
            raise ValueError(f"group {str(group)!r}: {error}") from None
        return merged

    @property
    def family(self) -> socket.AddressFamily:
        """The socket module's address family: AF_INET or AF_INET6."""
        return socket.AF_INET if isinstance(self.address, IPv4Address) else socket.AF_INET6

    @property
    def scope(self) -> Scope:
        """How far the group reaches, by its address (IPv6: RFC 7346; IPv4: RFC 2365, section 8)."""
        if isinstance(self.address, IPv4Address):
            return ipv4_scope(self.address)
        return Scope(self.address.packed[1] & 0xF)

    @property
    def flags(self) -> GroupFlag:
        """The flag bits of an IPv6 group (RFC 4291, RFC 7371); none for IPv4."""
        return GroupFlag(0 if isinstance(self.address, IPv4Address) else self.address.packed[1] >> 4)

    @property
    def block(self) -> str | None:
        """The registration group of an IPv4 group (RFC 5771, section 3; RFC 6034; RFC 2365); None for IPv6."""
        return ipv4_block(self.address) if isinstance(self.address, IPv4Address) else None

    @property
    def in_ssm_range(self) -> bool:
        """Whether the address is for source-specific use only: 232/8 or ff3x::/32 (RFC 4607)."""
        if isinstance(self.address, IPv4Address):
            return self.address.packed[0] == 232
        return int(self.address) >> 96 & 0xFFF0FFFF == 0xFF300000

    @property
    def ssm_allocation(self) -> SSMAllocation | None:
        """Who may choose this identifier of the source-specific range (RFC 4607); None outside the range.

        IPv4: 232.0.0.0 is invalid, the rest of 232.0.0.0/24 is IANA's. IPv6, by the low 32 bits (RFC 3307): up to
        4000:0 is invalid, up to 7fff:ffff is IANA's.
        """
        if not self.in_ssm_range:
            return None
        if isinstance(self.address, IPv4Address):
            identifier, last_invalid, last_iana = int(self.address) & 0xFFFFFF, 0, 0xFF
        else:
            identifier, last_invalid, last_iana = int(self.address) & 0xFFFFFFFF, 0x40000000, 0x7FFFFFFF
        if identifier <= last_invalid:
            return SSMAllocation.INVALID
        return SSMAllocation.IANA if identifier <= last_iana else SSMAllocation.HOST

    @property
    def rendezvous_point(self) -> IPv6Address | None:
        """The rendezvous point that an IPv6 group embeds (RFC 3956), or None.

        None also where R is set but the address breaks the RFC: P or T missing, a prefix length of 0 or above 64, or
        the reserved interface identifier 0.
        """
        embedded = GroupFlag.R | GroupFlag.P | GroupFlag.T
        if self.flags & embedded != embedded:
            return None
        packed = self.address.packed
        interface_id, prefix_length = packed[2] & 0xF, packed[3]
        if not interface_id or not 1 <= prefix_length <= 64:
            return None
        network = int.from_bytes(packed[4:12], "big") >> (64 - prefix_length) << (64 - prefix_length)
        return IPv6Address(network << 64 | interface_id)

    def __str__(self) -> str:
        sources = ",".join(map(str, self.sources)) + "@" if self.sources else ""
        interface = "" if self.interface is None else f"%{self.interface}"
        host = f"{self.address}{interface}"
        if ":" in host:
            host = f"[{host}]"
        return f"{sources}{host}" if self.port is None else f"{sources}{host}:{self.port}"


def parse_address(text: AddressLike, *, what: str = "address") -> IPAddress:
    """Return the IPv4 or IPv6 address that a text spells, in brackets or not.

    what names the address's part in the error. TypeError: neither text nor address. ValueError: not an address, one
    with a zone (%eth0), or an IPv4-mapped one.
    """
    if not isinstance(text, (str, IPv4Address, IPv6Address)):
        raise TypeError(f"{what} is a str, an IPv4Address or an IPv6Address, not {type(text).__name__}")
    bare = str(text)
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
    if "%" in bare:
        raise ValueError(f"{what} {bare!r} names an interface; only the group does, as in [ff12::1%eth0]:5000")
    try:
        address = ip_address(bare)
    except ValueError:
        raise ValueError(f"{what} {bare!r} is not an IPv4 or IPv6 address; names are not looked up") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"{what} {bare} is an IPv4-mapped address; write {address.ipv4_mapped}")
    return address


def port_remedy(given: AddressLike | Group, group: Group) -> str:
    """How to give a port to a group that has none; of IPv6 without brackets the end may be one."""
    remedy = f"write {group.replace(port=5000)} or pass port="
    host = str(given).rpartition("@")[2].partition("%")[0]
    head, _, digits = host.rpartition(":")
    try:
        meant = group.replace(address=IPv6Address(head), port=int(digits))
    except ValueError:
        return remedy
    return f"{remedy}; if {digits} is the port: {meant}"


def to_mapped(address: IPAddress) -> bytes:
    """Return an address as the 16 bytes that batches hold; IPv4 becomes IPv4-mapped (RFC 4291, section 2.5.5.2)."""
    return address.packed if isinstance(address, IPv6Address) else bytes(10) + b"\xff\xff" + address.packed


def unmapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv4-mapped one stands for; any other as it is."""
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def _merge(
    group: AddressLike | Group,
    port: SupportsIndex | None,
    interface: InterfaceLike | None,
    source: AddressLike | Iterable[AddressLike] | None,
    query_keywords: Mapping[str, str],
) -> Group:
    if isinstance(group, Group):
        merged = group
    elif isinstance(group, (str, IPv4Address, IPv6Address)):
        merged = _read(str(group), query_keywords)
    else:
        raise TypeError(f"a group is a text such as '239.1.2.3:5000', not {type(group).__name__}")
    if port is not None:
        merged = _merge_port(merged, port)
    if interface is not None:
        merged = _merge_interface(merged, interface)
    if source is not None:
        merged = _merge_sources(merged, source)
    return merged


def _merge_port(group: Group, port: SupportsIndex) -> Group:
    merged = group.replace(port=port)
    if group.port not in (None, merged.port):
        raise _conflict("port", str(group.port), str(merged.port))
    return merged


def _merge_interface(group: Group, interface: InterfaceLike) -> Group:
    if isinstance(interface, (str, IPv4Address, IPv6Address)):
        spellings = [str(interface), *_address_spellings(str(interface))]
    elif isinstance(getattr(interface, "name", None), str):
        spellings = [str(getattr(interface, key)) for key in ("name", "index") if hasattr(interface, key)]
    elif isinstance(interface, SupportsIndex) and not isinstance(interface, bool):
        spellings = [str(operator.index(interface))]
    else:
        several = ""
        if isinstance(interface, (list, tuple, set)):
            several = f'; several: "{group.address}%eth0", "{group.address}%eth1", or "all"'
        kind = type(interface).__name__
        raise TypeError(f"interface is a name, an index, an address or an Interface, not {kind}{several}")
    if group.interface is None:
        return group.replace(interface=next(filter(_can_be_written, spellings), spellings[0]))
    if group.interface not in spellings:
        raise _conflict("interface", group.interface, spellings[0])
    return group


def _address_spellings(text: str) -> list[str]:
    """What else may stand for an interface's address: its zone, which is the interface, and itself without prefix."""
    try:
        address, _, zone = str(ip_interface(text)).partition("/")[0].partition("%")
    except ValueError:
        return []
    return [zone, address] if zone else [address]


def _merge_sources(group: Group, source: AddressLike | Iterable[AddressLike]) -> Group:
    if isinstance(source, (str, bytes)) or not isinstance(source, Iterable):
        source = (source,)
    sources = tuple(parse_address(each, what="source") for each in source)
    if not sources:
        raise ValueError("source= names no source; pass None for any-source")
    merged = group.replace(sources=sources)
    if group.sources and group.sources != merged.sources:
        raise _conflict("source", ", ".join(map(str, group.sources)), ", ".join(map(str, merged.sources)))
    return merged


def _conflict(what: str, in_text: str, keyword: str) -> ValueError:
    return ValueError(f"{what} is {in_text} in the group but {keyword} in {what}=; give it once")


def _read(text: str, query_keywords: Mapping[str, str]) -> Group:
    rest = text
    scheme, separator, after = text.partition("://")
    if separator:
        if scheme.lower() not in ("udp", "rtp"):
            raise ValueError(f"scheme {scheme!r} is not known; write udp:// or rtp://, or leave it out")
        rest = after
    _refuse_url_parts(rest, query_keywords)
    head, at, target = rest.rpartition("@")
    if at and not head and not separator:
        raise ValueError("no source stands before @; write source@group, or leave the @ out")
    sources = tuple(parse_address(source, what="source") for source in head.split(",")) if head else ()
    host, port = _split_port(target)
    address, percent, interface = host.partition("%")
    if not address:
        raise ValueError("no group address; write it as 239.1.2.3:5000 or [ff15::1%eth0]:5000")
    return Group(parse_address(address, what="group address"), port, interface if percent else None, sources)


# What other programs' URLs call a setting, and the keyword that stands for it on the side that is read.
_RECEIVER_KEYWORDS = {
    "sources": "source=",
    "localaddr": "interface=",
    "iface": "interface=",
    "buffer_size": "receive_buffer= to Receiver",
}
_SENDER_KEYWORDS = {
    "ttl": "ttl= to Sender",
    "localaddr": "interface=",
    "iface": "interface=",
    "buffer_size": "send_buffer= to Sender",
}


def _refuse_url_parts(rest: str, query_keywords: Mapping[str, str]) -> None:
    rest, hash_mark, fragment = rest.partition("#")
    rest, question_mark, query = rest.partition("?")
    rest, slash, path = rest.partition("/")
    if question_mark:
        names = [setting.partition("=")[0] for setting in query.split("&")]
        known = dict.fromkeys(query_keywords[name] for name in names if name in query_keywords)
        others = "" if query_keywords.keys() >= set(names) else ", and leave the rest out"
        remedy = f"pass {' and '.join(known)}{others}" if known else "leave it out"
        raise ValueError(f"the query {'?' + query!r} in the text is not read; {remedy}")
    if hash_mark:
        raise ValueError(f"the fragment {'#' + fragment!r} in the text is not read; leave it out")
    if slash:
        raise ValueError(f"the path {'/' + path!r} in the text is not read; leave it out (a group is one address)")


def _split_port(target: str) -> tuple[str, int | None]:
    if target.startswith("["):
        host, bracket, tail = target[1:].partition("]")
        if not bracket:
            raise ValueError("the bracket [ is not closed; write it as [ff15::1%eth0]:5000")
        if not tail:
            return host, None
        if not tail.startswith(":"):
            raise ValueError(f"{tail!r} after the bracket is not a port; write it as [ff15::1%eth0]:5000")
        return host, _read_port(tail[1:])
    address, _, interface = target.partition("%")
    if address.count(":") >= 2 and ":" not in interface:
        return target, None
    host, colon, tail = target.partition(":")
    if ":" in tail:
        raise ValueError("more than one ':'; write brackets, as in [ff15::1%eth0]:5000 or [239.1.2.3%fd00::7]:5000")
    return host, _read_port(tail) if colon else None


def _read_port(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"port {digits!r} is not a number in 1 to 65535")
    # The slice keeps an absurdly long number short of int()'s limit and out of range all the same.
    return int(digits.lstrip("0")[:6] or "0")


def _check_group(address: IPAddress, sources: tuple[IPAddress, ...]) -> None:
    if not isinstance(address, (IPv4Address, IPv6Address)):
        raise TypeError(f"Group takes an address object, not {type(address).__name__}; Group.parse() reads texts")
    parse_address(address, what="group address")
    if address.is_multicast:
        return
    remedy = "for unicast or broadcast use Receiver.from_socket or Sender.from_socket"
    if sources and sources[0].is_multicast:
        remedy = f"the source comes first, as in {address}@{sources[0]}"
    raise ValueError(f"{address} is not a multicast address (224.0.0.0/4 or ff00::/8); {remedy}")


def _order_sources(sources: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
    given = tuple(sources)
    for source in given:
        if not isinstance(source, (IPv4Address, IPv6Address)):
            raise TypeError(f"a source is an address object, not {type(source).__name__}; Group.parse() reads texts")
    return tuple(sorted(given, key=int))


def _check_port(port: SupportsIndex) -> int:
    if isinstance(port, bool) or not isinstance(port, SupportsIndex):
        raise TypeError(f"port is an int, not {type(port).__name__}")
    number = operator.index(port)
    if not 1 <= number <= 65535:
        raise ValueError(f"port {number} is not in 1 to 65535")
    return number


def _check_interface(interface: str) -> None:
    if not isinstance(interface, str):
        raise TypeError(f"interface is a text, not {type(interface).__name__}; Group.parse() takes indexes and others")
    if not interface:
        raise ValueError("interface is empty; write its name, index or address, or leave it out")
    if not _can_be_written(interface):
        raise ValueError(f"interface {interface!r} has characters that no group text can hold; give its index")


def _can_be_written(interface: str) -> bool:
    # Spaces inside are for Windows, where names are like "Ethernet 2".
    return interface.isprintable() and interface == interface.strip() and set(interface).isdisjoint("[]@%/?#")


def _check_source(source: IPAddress, group: IPAddress) -> None:
    parse_address(source, what="source")
    for kind, holds in (
        ("a multicast", source.is_multicast),
        ("the unspecified", source.is_unspecified),
        ("the broadcast", source == IPv4Address("255.255.255.255")),
    ):
        if holds:
            raise ValueError(f"source {source} is {kind} address; a source is the unicast address of a sending host")
    if source.version != group.version:
        raise ValueError(
            f"source {source} is IPv{source.version} but group {group} is IPv{group.version}; "
            "both must be of one family"
        )


def _check_usable(group: Group) -> None:
    if group.ssm_allocation is SSMAllocation.INVALID:
        usable = "232.0.1.0 to 232.255.255.255" if group.address.version == 4 else "ff3x::8000:0 to ff3x::ffff:ffff"
        raise ValueError(
            f"{group.address} is not a usable source-specific group (RFC 4607); choose one in {usable}, "
            "or pass strict=False"
        )
    if group.scope is Scope.RESERVED_0:
        raise ValueError(
            f"{group.address} has the reserved scope 0, which hosts drop (RFC 4291); "
            "choose ff1x:: with x the scope, such as ff12:: (link) or ff15:: (site), or pass strict=False"
        )


def _check_source_specific(group: Group) -> None:
    if group.in_ssm_range and not group.sources:
        raise ValueError(
            f"{group.address} is in the source-specific range (RFC 4607), where routers serve only joins that name "
            f"a source; write source@{group} or pass source=, or strict=False to join any source all the same"
        )
