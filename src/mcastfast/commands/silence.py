"""Why a receiver may have received nothing, as far as this host can tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mcastfast import interfaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcastfast import Interface, Receiver

_CONFIGURATION = Path("/proc/sys/net/ipv4/conf")

_DROPS = {
    1: "drops what comes from a source that it has no route to",
    2: "drops what comes from a source that this host has no route to",
}


def explain_silence(receiver: Receiver) -> Iterator[str]:
    """Lines for a reader who expected datagrams."""
    yield "nothing came, and this is what is known about it:"
    present = {interface.index: interface for interface in interfaces()}
    is_ipv4 = any(member.group.version == 4 for member in receiver.memberships)
    for joined in receiver.interfaces:
        interface = present.get(joined.index)
        if interface is None:
            yield f"  {joined} is gone"
        elif not interface.is_up:
            yield f"  {joined} is down"
        elif not interface.is_running:
            yield f"  {joined} has no carrier"
        elif is_ipv4 and (setting := _reverse_path_filter(interface)) in _DROPS:
            yield f"  {joined} {_DROPS[setting]} (rp_filter, {setting} in effect)"
    yield f"  `mcastfast groups` shows what is joined, `tcpdump -ni NAME udp port {receiver.port}` what arrives"
    yield '  more is in the guide, "Why do I receive nothing?"'


def _reverse_path_filter(interface: Interface) -> int:
    """What Linux goes by: the larger of the interface's setting and that for all; 0 where there is none."""
    if interface.is_loopback:
        return 0
    try:
        return max(int((_CONFIGURATION / name / "rp_filter").read_text()) for name in ("all", interface.name))
    except (OSError, ValueError):
        return 0
