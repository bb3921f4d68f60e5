"""The packet ring, engine="packet": how large it is, what it listens to, and what it cannot be combined with."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from mcastfast import _core
from mcastfast.address import to_mapped
from mcastfast.errors import Operation, os_error
from mcastfast.membership import FilterMode
from mcastfast.sizes import Size, parse_size

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from mcastfast.address import Group
    from mcastfast.interface import Interface
    from mcastfast.membership import Membership

DEFAULT_RING = 16 * 1024 * 1024
"""ring unless given, bytes."""

BLOCK = 256 * 1024
"""Bytes of a block: several trains of datagrams, which have up to 64 KiB, fit."""

LEAST_BLOCKS = 4
RETIRE_MS = 1
"""How long Linux waits for more before it hands over a block that is not full; it takes no less."""

_CAPABILITY = (
    "Run it as a user that has CAP_NET_RAW: `setcap cap_net_raw+ep` on the interpreter that runs it, "
    "AmbientCapabilities=CAP_NET_RAW in a systemd unit, `--cap-add NET_RAW` for a container; "
    'engine="socket" needs no right.'
)


class Ring(NamedTuple):
    """A ring of so many blocks, read by this engine."""

    engine: str
    blocks: int

    def guard(self, sock: socket.socket, *, on: bool) -> None:
        """Have the socket leave out what the ring shows, or bring everything again."""
        _core.guard_socket(self.engine, sock.fileno(), sock.family, on)

    def open(self, core: _core.ReceiverCore, sock: socket.socket, interface: Interface | None) -> None:
        """Open the ring beside a bound socket. OSError with the remedy where the system refuses."""
        try:
            core._open_tap(
                sock.fileno(),
                sock.getsockname()[1],
                interface_index=interface.index if interface else 0,
                block_size=BLOCK,
                blocks=self.blocks,
                retire_ms=RETIRE_MS,
            )
        except OSError as error:
            operands = f"packet ring of {self.blocks * BLOCK} bytes on {interface or 'all interfaces'}"
            if error.errno != errno.EPERM:
                raise os_error(Operation.OPEN, operands, error) from error
            refusal = os_error(Operation.OPEN, operands, error, reason="it needs CAP_NET_RAW, which this process lacks")
            refusal.add_note(_CAPABILITY)
            raise refusal from error


def plan_ring(engine: str, ring: Size | None, **others: object) -> Ring | None:
    """What engine= and ring= mean, None for engines without a ring. ValueError for `others` that do not go with it."""
    if not _core.is_tap(engine):
        if ring is not None:
            raise ValueError(f'ring={ring!r} is for engine="packet", not {engine!r}')
        return None
    for keyword, reason in _INCOMPATIBLE.items():
        if others[keyword]:
            raise ValueError(f"{keyword}={others[keyword]!r} does not go with engine={engine!r}: {reason}")
    size = parse_size(DEFAULT_RING if ring is None else ring, what="ring")
    return Ring(engine, max(LEAST_BLOCKS, -(-size // BLOCK)))


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
