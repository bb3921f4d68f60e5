"""What this host has joined, by interface: the kernel's own view, which `mcastfast groups` shows.

Linux tells it in four files of /proc/net (printed by net/ipv4/igmp.c and net/ipv6/mcast.c): igmp and igmp6 list the
groups of each interface, mcfilter and mcfilter6 their sources. The parsers take bytes, since an interface's name may
hold whatever Unicode calls a space, and the kernel separates with ASCII ones only.

All four go through the interfaces in the same order, and through the groups of each from the last that was joined. But
mcfilter and mcfilter6 begin with the first interface whose last group has sources (igmp_mcf_get_first, Linux 6.18): of
those before, sources of further groups are not told.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from mcastfast.errors import CURRENT, Platform, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# /proc/net shows the network namespace of the process' first thread, this one that of the caller.
_PROC_NET = Path("/proc/thread-self/net")

_MAF_TIMER_RUNNING = 0x01  # net/if_inet6.h

Address = TypeVar("Address", IPv4Address, IPv6Address)
Sources: TypeAlias = tuple[IPv4Address | IPv6Address, ...] | None


@dataclass(frozen=True, slots=True)
class HostMembership:
    """One group that this host has joined on one interface, by whichever processes.

    `users` counts the memberships that sockets and the kernel itself hold. `version` is the version of IGMP spoken on
    the interface, None for IPv6 and where the kernel does not tell. `timer` is the seconds until the next report, None
    when none is due. `included` and `excluded` are the sources that at least one membership asks for or blocks, both
    None where the kernel does not tell.
    """

    interface: str
    index: int
    group: IPv4Address | IPv6Address
    users: int
    version: int | None = None
    timer: float | None = None
    included: Sources = None
    excluded: Sources = None


@dataclass(frozen=True, slots=True)
class SourceFilter:
    """How many memberships include, and how many exclude, one source of a group on the interface with `index`."""

    index: int
    group: IPv4Address | IPv6Address
    source: IPv4Address | IPv6Address
    include: int
    exclude: int


def host_memberships() -> tuple[HostMembership, ...]:
    """The groups that this host has joined: IPv4 before IPv6, in the kernel's order; no rights are needed.

    The kernel tells no sources of some groups: those that were not the last to be joined on their interface, where that
    last one has no sources, up to the first interface where it has. The files are read one after the other, so a
    membership that changes meanwhile may show without its sources. Raises UnsupportedError where the system does not
    tell. Availability: Linux (proc_pid_net(5)).
    """
    if CURRENT is not Platform.LINUX:
        raise UnsupportedError(
            f"groups are read from Linux' /proc/net, which {CURRENT} does not have: ask the system's own tool "
            "(macOS: netstat -g; Windows: netsh interface ip show joins)"
        )
    filters = list(parse_mcfilter(_read("mcfilter"), IPv4Address))
    filters6 = list(parse_mcfilter(_read("mcfilter6"), IPv6Address))
    return (
        *_with_sources(parse_igmp(_read("igmp")), filters),
        *_with_sources(parse_igmp6(_read("igmp6")), filters6),
    )


def parse_igmp(text: bytes, byteorder: Literal["little", "big"] = sys.byteorder) -> Iterator[HostMembership]:
    """The rows of /proc/net/igmp, without sources; groups stand there as a number in the host's byte order."""
    index, name, version = 0, "", None
    for line in text.splitlines()[1:]:
        if not line[:1].isspace():
            device, _, rest = line.partition(b":")
            number, raw_name = device.split()
            querier = rest.split()[1]
            index, name = int(number), os.fsdecode(raw_name)
            version = int(querier[1:]) if querier.startswith(b"V") else None
            continue
        group, users, timer, *_ = line.split()
        running, ticks = timer.split(b":")
        yield HostMembership(
            interface=name,
            index=index,
            group=IPv4Address(int(group, 16).to_bytes(4, byteorder)),
            users=int(users),
            version=version,
            timer=_seconds(int(ticks, 16)) if int(running) else None,
        )


def parse_igmp6(text: bytes) -> Iterator[HostMembership]:
    """The rows of /proc/net/igmp6, without sources."""
    for line in text.splitlines():
        index, name, group, users, flags, ticks = line.split()
        yield HostMembership(
            interface=os.fsdecode(name),
            index=int(index),
            group=IPv6Address(int(group, 16)),
            users=int(users),
            timer=_seconds(int(ticks)) if int(flags, 16) & _MAF_TIMER_RUNNING else None,
        )


def parse_mcfilter(text: bytes, address: type[Address]) -> Iterator[SourceFilter]:
    """The rows of /proc/net/mcfilter (IPv4Address) or mcfilter6 (IPv6Address); names are cut there, indexes are not."""
    for line in text.splitlines()[1:]:
        index, _, group, source, include, exclude = line.split()
        yield SourceFilter(int(index), address(int(group, 16)), address(int(source, 16)), int(include), int(exclude))


def _with_sources(memberships: Iterable[HostMembership], filters: list[SourceFilter]) -> Iterator[HostMembership]:
    """The memberships of one family with their sources, as far as these rows, all that there are, tell them."""
    is_told, previous = False, None
    for membership in memberships:
        is_told = is_told or (bool(filters) and membership.index == filters[0].index)
        is_last_joined = membership.index != previous
        previous = membership.index
        if not (is_told or is_last_joined):
            yield membership
            continue
        own = [row for row in filters if (row.index, row.group) == (membership.index, membership.group)]
        yield replace(
            membership,
            included=tuple(row.source for row in own if row.include),
            excluded=tuple(row.source for row in own if row.exclude),
        )


def _seconds(ticks: int) -> float:
    each: int = getattr(os, "sysconf")("SC_CLK_TCK")  # noqa: B009 # of POSIX alone
    return ticks / each


def _read(name: str) -> bytes:
    try:
        return (_PROC_NET / name).read_bytes()
    except FileNotFoundError:
        return b""  # a kernel without IPv6, or without sources
