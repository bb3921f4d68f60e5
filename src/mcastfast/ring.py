"""The packet ring, engine="packet": what a user may ask of it, and what it cannot be combined with."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import NamedTuple

from mcastfast import _core
from mcastfast.address import Group, to_mapped
from mcastfast.errors import Operation, os_error
from mcastfast.interface import Interface
from mcastfast.membership import FilterMode, Membership
from mcastfast.seconds import parse_seconds
from mcastfast.sizes import Size, parse_size

BLOCK = 256 * 1024
"""Bytes of a block: several trains of datagrams, which have up to 64 KiB, fit."""

LEAST_BLOCKS = 4
LEAST_DELAY, LONGEST_DELAY = 0.001, 10.0  # seconds; Linux counts in milliseconds and takes no less

_CAPABILITY = (
    "Run it as a user that has CAP_NET_RAW: `setcap cap_net_raw+ep` on the interpreter that runs it, "
    "AmbientCapabilities=CAP_NET_RAW in a systemd unit, `--cap-add NET_RAW` for a container; "
    'engine="socket" needs no right.'
)


class Ring(NamedTuple):
    """The packet ring that the kernel writes to: Receiver(engine="packet", ring=...).

    size: bytes, or text such as "64 MiB"; rounded up to blocks of 256 KiB, 4 at least. delay: seconds, in whole
    milliseconds, that the kernel waits for more before it hands over a block that is not full, which is how much later
    a lone datagram comes. Such a block takes no more: while the program is busy a feed that fills no block in that time
    finds room for delay times the number of blocks (64 ms by default), whatever its datagrams' sizes. Linux before 6.18
    waits for whole ticks, 1 to 10 ms by its HZ, to which it rounds up, and may wait one more. Availability: Linux,
    packet(7).
    """

    size: Size = 16 * 1024 * 1024
    delay: float = LEAST_DELAY

    def _checked(self) -> Ring:
        """The same with its size in bytes. Raises TypeError or ValueError for what cannot be asked for."""
        size = parse_size(self.size, what="ring")
        delay = parse_seconds(self.delay, what="ring: delay", least=LEAST_DELAY, most=LONGEST_DELAY)
        return self._replace(size=max(LEAST_BLOCKS, -(-size // BLOCK)) * BLOCK, delay=delay)

    @property
    def _blocks(self) -> int:
        return parse_size(self.size, what="ring") // BLOCK

    def _open(self, core: _core.ReceiverCore, sock: socket.socket, interface: Interface | None) -> None:
        """Open the ring beside a bound socket. OSError with the remedy where the system refuses."""
        try:
            core._open_tap(
                sock.fileno(),
                sock.getsockname()[1],
                interface_index=interface.index if interface else 0,
                block_size=BLOCK,
                blocks=self._blocks,
                retire_ms=round(self.delay * 1000),
            )
        except OSError as error:
            operands = f"packet ring of {self.size} bytes on {interface or 'all interfaces'}"
            if error.errno != errno.EPERM:
                raise os_error(Operation.OPEN, operands, error) from error
            refusal = os_error(Operation.OPEN, operands, error, reason="it needs CAP_NET_RAW, which this process lacks")
            refusal.add_note(_CAPABILITY)
            raise refusal from error

    def _lend(self, core: _core.ReceiverCore) -> None:
        """Make the memory that describes its blocks. OSError: the system's answer."""
        core._lend(self._blocks)


def plan_ring(engine: str, ring: Ring | Size | None, **others: object) -> Ring | None:
    """What engine= and ring= mean, None for engines without a ring. ValueError for `others` that do not go with it."""
    if not _core.is_tap(engine):
        if ring is not None:
            raise ValueError(f'ring={ring!r} is for engine="packet", not {engine!r}')
        return None
    for keyword, reason in _INCOMPATIBLE.items():
        if others[keyword]:
            raise ValueError(f"{keyword}={others[keyword]!r} does not go with engine={engine!r}: {reason}")
    if ring is None:
        ring = Ring()
    return (ring if isinstance(ring, Ring) else Ring(ring))._checked()


_INCOMPATIBLE = {
    "background": "the kernel itself fills the ring while Python is busy; ring= says how much it holds",
    "coalesce": "trains come through the ring as they are, and are always taken apart",
    "busy_poll": "the ring is not read by a call that could poll; spin= watches it",
}


def describe_members(
    members: Iterable[Membership], joins: Iterable[tuple[Group, Interface]]
) -> list[tuple[bytes, int, bool, tuple[bytes, ...]]]:
    """What is joined and, about to be, `joins`, as the core wants it: a group never opens more than its step will."""
    table = {
        (to_mapped(member.group), member.interface.index): (
            member.mode is FilterMode.EXCLUDE,
            frozenset(map(to_mapped, member.sources)),
        )
        for member in members
    }
    for group, interface in joins:
        key = to_mapped(group.address), interface.index
        sources = frozenset(map(to_mapped, group.sources))
        is_exclude, known = table.get(key, (not sources, frozenset()))
        if not is_exclude and sources:
            known |= sources
        table[key] = is_exclude, known
    return [(*key, is_exclude, tuple(sorted(sources))) for key, (is_exclude, sources) in sorted(table.items())]
