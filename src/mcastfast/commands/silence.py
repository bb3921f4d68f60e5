"""Why a receiver may have received nothing, as far as this host can tell."""

from __future__ import annotations

import sys
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING

from mcastfast import FilterMode, interfaces
from mcastfast.interface import choose_all

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from mcastfast import Interface, Receiver

_CONFIGURATION = Path("/proc/sys/net/ipv4/conf")
_COUNTERS = Path("/proc/self/net/netstat")

_DROPS = {
    1: "drops what comes from a source that it has no route to",
    2: "drops what comes from a source that this host has no route to",
}


class Silence:
    """What there was before a receiver was opened, to explain in the end why nothing came."""

    def __init__(self) -> None:
        self._reverse_path_drops = count_reverse_path_drops()

    def explain(self, receiver: Receiver, groups: Iterable[str], args: argparse.Namespace) -> None:
        """Say on standard error why nothing may have come by the groups that were named, where nothing came."""
        if args.quiet or receiver.stats.datagrams or not receiver.memberships:
            return
        lines = _explanations(
            receiver,
            is_routed=args.interface is None and not any("%" in group for group in groups),
            reverse_path_drops=count_reverse_path_drops() - self._reverse_path_drops,
            is_ring=args.engine == "packet",
        )
        print(*lines, sep="\n", file=sys.stderr)


def _explanations(receiver: Receiver, *, is_routed: bool, reverse_path_drops: int, is_ring: bool) -> Iterator[str]:
    """Lines for a reader who expected datagrams.

    is_routed: nobody named an interface. reverse_path_drops: so many there have been since the receiver was opened.
    is_ring: it takes what the link shows, before the reverse-path check.
    """
    yield "nothing came, and this is what is known about it:"
    present = {interface.index: interface for interface in interfaces()}
    is_ipv4 = any(member.group.version == 4 for member in receiver.memberships)
    if is_routed and (chosen := receiver.interface):
        family = AF_INET if is_ipv4 else AF_INET6
        others = ", ".join(i.name for i in choose_all(present.values(), family) if i.index != chosen.index)
        yield f"  the route chose {chosen}{f'; --interface names another, as {others}' if others else ''}"
    chosen_sources = {m.group: m.sources for m in receiver.memberships if m.mode is FilterMode.INCLUDE}
    for group, sources in chosen_sources.items():
        yield f"  {group} is taken from {', '.join(map(str, sources))} alone"
    for joined in receiver.interfaces:
        interface = present.get(joined.index)
        if interface is None:
            yield f"  {joined} is gone"
        elif not interface.is_up:
            yield f"  {joined} is down"
        elif not interface.is_running:
            yield f"  {joined} has no carrier"
        elif is_ipv4 and not is_ring and (setting := _reverse_path_filter(interface)) in _DROPS:
            yield f"  {joined} {_DROPS[setting]} (rp_filter, {setting} in effect)"
    if reverse_path_drops and not is_ring:
        yield f"  dropped meanwhile by the reverse-path check, on all interfaces: {reverse_path_drops:,}"
    name = receiver.interface or "NAME"
    yield f"  `mcastfast groups` shows what is joined, `tcpdump -ni {name} udp port {receiver.port}` what arrives"
    yield '  more is in the guide, "Why do I receive nothing?"'


def count_reverse_path_drops() -> int:
    """What Linux' reverse-path check has dropped on all interfaces (IPReversePathFilter); 0 where that is not told."""
    try:
        rows = [line.split() for line in _COUNTERS.read_text(encoding="ascii").splitlines()]
        return int(dict(zip(*rows[:2], strict=True))["IPReversePathFilter"])
    except (OSError, ValueError, KeyError):
        return 0


def _reverse_path_filter(interface: Interface) -> int:
    """What Linux goes by: the larger of the interface's setting and that for all; 0 where there is none."""
    if interface.is_loopback:
        return 0
    try:
        return max(int((_CONFIGURATION / name / "rp_filter").read_text()) for name in ("all", interface.name))
    except (OSError, ValueError):
        return 0
