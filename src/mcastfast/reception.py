"""How datagrams come: what is told of each, in what memory they lie, and who fetches them from the system."""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from mcastfast import _core, options
from mcastfast.background import Background, read_background
from mcastfast.errors import CURRENT, Operation, Platform, UnsupportedError, os_error
from mcastfast.ring import Ring, plan_ring
from mcastfast.seconds import parse_seconds
from mcastfast.sizes import Size, parse_size
from mcastfast.sockets import open_socket
from mcastfast.switches import check_optional_switches

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BATCH = 64
"""batch_size unless given, datagrams; with coalescing and in a ring it is MAX_BATCH."""

DEFAULT_MEMORY = 256 * 1024 * 1024
"""max_memory unless given, bytes."""

LONGEST_SPIN = 60.0
LEAST_BUSY_POLL, LONGEST_BUSY_POLL = 1e-9, 1.0
"""Seconds. The kernel counts busy polling in microseconds, to which it is rounded up."""

_OWNED = (
    "Whoever owns the port gets what completes there, as asyncio's Proactor event loop does, and a socket leaves its "
    'port only when it is closed: pass one that was used with none, made for overlapped calls, or engine="socket".'
)

_METADATA = {
    "destination": options.PACKET_INFO,
    "timestamp": options.TIMESTAMPS,
    "hardware_timestamp": options.HARDWARE_TIMESTAMPS,
    "drops": options.DROP_COUNTER,
    "hops": options.RECEIVE_HOPS,
    "tos": options.RECEIVE_TOS,
}

_FOR_EACH_FAMILY = {options.RECEIVE_HOPS, options.RECEIVE_TOS}
"""What an IPv6 socket tells of IPv4 datagrams only if asked by IPv4's option, too; on Windows it is all."""


class Reception(NamedTuple):
    """What a receiver was asked for, checked: see Receiver. busy_poll is in microseconds.

    memory_name: what an error says in front of `=max_memory`.
    """

    metadata: frozenset[str]
    batch_size: int
    max_datagram: int
    max_memory: int
    memory_name: str
    memory: frozenset[str]
    engine: str
    coalesce: bool
    background: Background | None
    spin: float
    busy_poll: int | None
    ring: Ring | None

    def filtering(self) -> Reception:
        """The same with the destination of each datagram told, by which to filter; a ring looks at packets instead."""
        return self if self.ring else self._replace(metadata=self.metadata | {"destination"})

    def check(self, sock: socket.socket) -> None:
        """Raise ValueError for a socket that somebody else prepared and that cannot be received on in this way."""
        if not self.coalesce and _takes_trains(sock):
            raise ValueError(
                "Receiver.from_socket: the socket takes trains (UDP_GRO), each of which would pass for one datagram; "
                "pass coalesce=True or switch that off"
            )

    def equip(self, core: _core.ReceiverCore, family: int) -> None:
        """Make the memory. ValueError for a size out of range, OSError where the system refuses what memory= asks."""
        core._prepare(
            family,
            engine=self.engine,
            coalesce=self.coalesce,
            metadata=_mask(self.metadata, _core.METADATA),
            batch_size=self.batch_size,
            max_datagram=self.max_datagram,
            max_memory=self.max_memory,
            memory_name=self.memory_name,
            spin=round(self.spin * 1e9),
        )
        if self.memory:
            with self._reserving(f"{self.max_memory} bytes"):
                core._reserve(_mask(self.memory, _core.MEMORY))
        if self.ring:
            with self._reserving(f"what describes the blocks of a packet ring of {self.ring.size} bytes"):
                self.ring._lend(core)

    @contextmanager
    def _reserving(self, operands: str) -> Iterator[None]:
        """Say what was asked for where the system refuses the memory."""
        try:
            yield
        except OSError as error:
            operation = Operation.LOCK if "lock" in self.memory else Operation.RESERVE
            asked = f" ({', '.join(sorted(self.memory))})" if self.memory else ""
            raise os_error(operation, f"{operands}{asked}", error) from error

    def configure(self, sock: socket.socket) -> None:
        """Set the options of the socket that this needs."""
        wanted = {_METADATA[name] for name in self.metadata}
        if self.ring:
            _core.guard_socket(self.engine, sock.fileno(), sock.family, on=True)
            wanted = wanted - {options.DROP_COUNTER} | {options.PACKET_INFO}
        for option in sorted(wanted, key=lambda option: option.role):
            options.set_option(sock, option, True)
        if _takes_both_families(sock):
            for option in wanted if CURRENT is Platform.WINDOWS else wanted & _FOR_EACH_FAMILY:
                with suppress(OSError):  # macOS has those of IPv4 for IPv4 sockets alone
                    options.set_option(sock, option, True, family=socket.AF_INET)
        if self.coalesce:
            options.set_option(sock, options.COALESCE, True)
        if self.busy_poll is not None:
            options.set_option(sock, options.BUSY_POLL, self.busy_poll)
            with suppress(OSError):  # it takes CAP_NET_ADMIN and Linux 5.11, and the polling works without
                options.set_option(sock, options.PREFER_BUSY_POLL, True)

    def restore(self, sock: socket.socket) -> None:
        """Switch off what whoever gets the socket would not expect: they would take each train for a datagram."""
        if self.coalesce:
            options.set_option(sock, options.COALESCE, False)
        if self.ring:
            _core.guard_socket(self.engine, sock.fileno(), sock.family, on=False)

    def open(self, core: _core.ReceiverCore, sock: socket.socket, *, drops: int, is_ours: bool) -> None:
        """Receive on a bound socket from now on. OSError with the remedy where the engine cannot have it."""
        try:
            may_wait = is_ours and self.busy_poll is None
            core._open(sock.fileno(), sock.getsockname()[1], drops=drops, may_wait=may_wait)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            operands = f"completion port for {sock.getsockname()}"
            refusal = os_error(Operation.OPEN, operands, error, reason="the socket belongs to another one (error 87)")
            refusal.add_note(_OWNED)
            raise refusal from error

    def start(self, core: _core.ReceiverCore) -> None:
        """Start the thread, if there is to be one."""
        if self.background:
            self.background._start(core)


def plan_reception(
    family: int,
    *,
    metadata: Iterable[str],
    batch_size: int | None,
    max_datagram: int,
    max_memory: Size | None,
    memory: Iterable[str],
    engine: str,
    coalesce: bool | None,
    background: Background | Size | None,
    spin: float,
    busy_poll: float | None,
    ring: Ring | Size | None,
) -> Reception:
    """Check what is asked for. Raises ValueError, TypeError or UnsupportedError."""
    planned_ring = plan_ring(engine, ring, background=background, coalesce=coalesce, busy_poll=busy_poll)
    if background is not None and max_memory is not None:
        raise ValueError("background= and max_memory= are the same memory: give the first alone")
    thread = read_background(background)
    if thread and not _core.is_watchable(engine):
        raise ValueError(
            f"background={background!r} does not go with engine={engine!r}: datagrams land in memory while Python is "
            "busy as it is; batch_size= says how many, receive_buffer= how many more wait in the socket"
        )
    coalesces = _coalesces(family, engine, coalesce=coalesce, background=thread is not None)
    if batch_size is None:
        batch_size = _core.MAX_BATCH if coalesces or planned_ring else DEFAULT_BATCH
    spin = parse_seconds(spin, what="spin", least=0, most=LONGEST_SPIN)
    if busy_poll is not None:
        busy_poll = parse_seconds(busy_poll, what="busy_poll", least=LEAST_BUSY_POLL, most=LONGEST_BUSY_POLL)
        # A receive that does not wait polls the device once; one that waits would poll it through its timeout, through
        # signals and close().
        spin = max(spin, busy_poll)
    memory_name, asked = "max_memory", max_memory
    if thread:
        memory_name, asked = "background", background.size if isinstance(background, Background) else background
    size = DEFAULT_MEMORY if asked is None else parse_size(asked, what=memory_name)
    if isinstance(asked, str):
        memory_name = f"{memory_name}={asked!r}: size"
    names = _names("metadata", metadata, _METADATA)
    if "hardware_timestamp" in names:
        # By SO_TIMESTAMPING alone what comes before the kernel has begun to take times, which it does later, has none;
        # SO_TIMESTAMPNS gives it that of its reading (__sock_recv_timestamp in net/socket.c).
        names |= {"timestamp"}
    return Reception(
        metadata=names,
        batch_size=batch_size,
        max_datagram=max_datagram,
        max_memory=size,
        memory_name=memory_name,
        memory=_names("memory", memory, _core.MEMORY),
        engine=engine,
        coalesce=coalesces,
        background=thread,
        spin=spin,
        busy_poll=None if busy_poll is None else math.ceil(busy_poll * 1e6),
        ring=planned_ring,
    )


def available(metadata: Iterable[str]) -> tuple[str, ...]:
    """Those of these names that can be asked for on this system: Windows Server 2022 is said to refuse some."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return tuple(name for name in metadata if _is_granted(probe, _METADATA[name]))


def _is_granted(probe: socket.socket, option: options.Option[bool]) -> bool:
    with suppress(OSError, UnsupportedError):
        options.set_option(probe, option, True)
        return True
    return False


def _names(keyword: str, given: Iterable[str], known: Mapping[str, object]) -> frozenset[str]:
    if not isinstance(given, Iterable):
        raise TypeError(f"{keyword}={given!r} is not a list of names; known are {', '.join(map(repr, known))}")
    names = frozenset({given} if isinstance(given, str) else given)
    if unknown := names - known.keys():
        names_of_them = ", ".join(map(repr, sorted(unknown)))
        raise ValueError(f"{keyword} {names_of_them} is not known; known are {', '.join(map(repr, known))}")
    return names


def _mask(names: Iterable[str], bits: Mapping[str, int]) -> int:
    return sum(bits[name] for name in names)


def _coalesces(family: int, engine: str, *, coalesce: bool | None, background: bool) -> bool:
    """Whether datagrams come in trains. UnsupportedError where that is insisted on and cannot be had."""
    check_optional_switches(coalesce=coalesce)
    if coalesce is False or (coalesce is None and not background):
        return False
    obstacle = _obstacle_to_coalescing(engine, family)
    if obstacle and coalesce:
        raise UnsupportedError(f"coalesce=True: {obstacle}")
    return not obstacle


def _obstacle_to_coalescing(engine: str, family: int) -> str | None:
    """Why datagrams cannot arrive in trains here, None if they can."""
    if not _core.can_coalesce(engine):
        return f"engine {engine!r} receives each datagram by itself"
    with open_socket(family) as probe:
        try:
            options.set_option(probe, options.COALESCE, True)
        except (OSError, UnsupportedError) as error:
            return str(error)
    return None


def _takes_both_families(sock: socket.socket) -> bool:
    """Whether IPv4 comes to this socket, too."""
    return sock.family == socket.AF_INET6 and not options.get_option(sock, options.V6ONLY)


def _takes_trains(sock: socket.socket) -> bool:
    """Whether somebody made this socket coalesce."""
    if not options.COALESCE.supported(sock.family):
        return False
    with suppress(OSError, UnsupportedError):  # a kernel without trains
        return options.get_option(sock, options.COALESCE)
    return False
