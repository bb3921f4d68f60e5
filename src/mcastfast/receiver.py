"""Receiving: which socket a Receiver opens, what it joins, and what it delivers. Datagrams pass through _core alone."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Self, SupportsIndex, TypeAlias

from mcastfast import _core, options
from mcastfast.address import AddressLike, Group, IPAddress, port_remedy, to_mapped
from mcastfast.background import Background
from mcastfast.binding import Binding, plan_binding, plan_ring_binding
from mcastfast.buffers import read_buffer, set_buffer, set_largest_receive_buffer
from mcastfast.errors import CURRENT, Operation, Platform, hints
from mcastfast.interface import (
    ALL,
    Interface,
    InterfaceLike,
    find_known,
    first_given,
    interfaces,
    resolve_interfaces,
)
from mcastfast.membership import Membership, Memberships, Refusal
from mcastfast.reception import Reception, plan_reception
from mcastfast.ring import Ring, describe_members
from mcastfast.sizes import Size
from mcastfast.sockets import HELD, SocketHolder, bound_port, check_datagram_socket, let_go, open_socket
from mcastfast.switches import check_optional_switches, check_switches
from mcastfast.timestamps import arrival_interfaces, warn_of_kernel_timestamps

if TYPE_CHECKING:
    from mcastfast.aio import Waits

Sources: TypeAlias = AddressLike | Iterable[AddressLike]

_MOST_SHOWN = 8
"""Groups that a text names; of more it says how many."""


class ReceiverStats(NamedTuple):
    """What a receiver has seen since it was opened; still there after close().

    batches, datagrams, bytes: delivered; with background= what its thread received, taken or not. kernel_drops: lost
    because the socket's buffer was full (SO_MEMINFO, Linux; 0 elsewhere; it also counts what a socket filter or a bad
    checksum removed) or, with engine="packet", the ring was (PACKET_STATISTICS, which also counts what the kernel
    cannot describe there: trains before Linux 6.2, and UFO on any). kernel_drops_exact: False where the kernel counts a
    train of datagrams as one, and for the packet engine, which cannot tell what is lost of this host's own multicast,
    unicast and broadcast: they come by a socket beside the ring, of receive_buffer= bytes. overrun: received, and lost
    since the memory of background= was used up. truncated: longer than max_datagram. control_truncated: metadata had no
    room. foreign: reached the socket for a group or interface that was not joined here, and was not delivered. arenas:
    memory slabs in use, two while every batch is dropped before the next but one (three with engine="iocp", which fills
    one ahead; with engine="packet" those for copies), 0 after close().

    With engine="packet", else 0: held_blocks, blocks of the ring that batches hold now, 0 after close(); copied,
    datagrams that were copied because few blocks were left. Left out, of what came for joined groups and this port:
    fragments, datagrams in fragments, each once, by its first; bad_checksums, datagrams whose checksum, or that of
    their IPv4 header, was wrong or, over IPv6, missing.
    """

    batches: int
    datagrams: int
    bytes: int
    kernel_drops: int
    kernel_drops_exact: bool
    overrun: int
    truncated: int
    control_truncated: int
    foreign: int
    arenas: int
    held_blocks: int
    copied: int
    fragments: int
    bad_checksums: int


class Receiver(SocketHolder, _core.ReceiverCore):
    """One socket that receives the datagrams of multicast groups on one port, in batches.

    groups: texts `[source@]group[%interface][:port]` or Group values, of one family and port. port, interface and
    source hold for every group that does not name its own, and must agree with those that do. interface: a name, index,
    address, Interface, "all", or None, which leaves it to the route. source: one or several make the join
    source-specific (RFC 4607).

    bind: "group" binds the group address, so that nothing else arrives; "any" binds the wildcard address, also takes
    unicast and broadcast to the port, and adds "destination" to the metadata, by which it filters; "auto" is "group"
    for one group where that separates it from others, else "any". Either way no group but this receiver's is
    delivered, whatever others joined.

    metadata: any of "destination" (address and interface), "timestamp" (kernel, nanoseconds), "hardware_timestamp" (the
    network device's; KernelTimestampWarning where a device gives none, and the kernel's in its place), "drops", "hops"
    (TTL or hop limit), "tos"; only what is named is paid for.

    batch_size: datagrams a batch, 1 to 1024; None is 64, or 1024 with coalescing and in a packet ring. max_datagram:
    bytes; longer ones are cut and flagged. max_memory: bytes that kept batches may hold, or text such as "64 MiB".
    receive_buffer: bytes, or text, wanted of the kernel; BufferClampedWarning when it grants less. loopback: None
    leaves the system's default (acts on receivers on Windows only). reuse: share the port with other sockets; False:
    with none, but for those at another group's address where the socket is bound to a group (bind=). strict=False
    allows any-source joins in the source-specific range. engine: "auto", one of ENGINES or "packet"; "apple" (macOS
    15.6 and later) receives up to 256 datagrams a call, by a call that is private to the system.

    engine="iocp" (Windows) posts overlapped receives ahead, batch_size of them, so that datagrams land in the memory of
    batches while Python is busy, and takes what has landed from a completion port, up to 64 at a time. The socket must
    not belong to another port, as that of asyncio's Proactor event loop (OSError, EBUSY). It is never readable:
    fileno() and ReceiverSet raise UnsupportedError, and background= does not go with it. recv_batch_into copies, and
    shows no more than max_datagram bytes of a datagram.

    engine="packet" reads batches where the kernel wrote them, in a packet ring (packet(7), Linux; CAP_NET_RAW), many
    times as fast and without a copy. ring: its size, as bytes or text, 16 MiB by default, or a Ring with more options.
    A batch that is kept keeps its block of the ring; when fewer than a quarter are free datagrams are copied instead,
    and when the block that is next is kept, BufferError says so. max_memory bounds the copies; what describes a block
    in place takes up to about half as much as the block. The ring listens to the one interface of the groups that it
    is opened with or, with bind="any" or interface="all", to all. It takes what the link shows: neither the firewall
    nor rp_filter nor what IP options and extension headers say keep anything out, and what comes in fragments is
    counted and left out. This host's own multicast, and unicast and broadcast to the port where bind= lets them in,
    come by a socket and are copied. recv_batch_into shows no more than max_datagram bytes of a datagram. background=,
    coalesce= and busy_poll= do not go with it.

    coalesce: whether datagrams of one size from one source may cross the kernel together, as a train, which is cheaper
    by an order of magnitude (UDP_GRO, udp(7), Linux). Batches look the same, but the datagrams of a train share a
    timestamp (DatagramFlag.SHARED_TIME), the kernel counts a lost train as one, and the part of a train that does not
    fit a batch waits in the receiver, where select() does not see it: receive until BlockingIOError before waiting on
    fileno(). recv_batch_into copies. True: always, UnsupportedError where the system cannot. False: never. None: with
    background= where the system can, else not.

    background: memory, as bytes or text such as "256 MiB", or a Background with more options: a thread without the GIL
    receives into it while Python is busy, and stats.overrun counts what came when it was used up. Batches are then what
    has gathered, fileno() is readable while there is something, and the memory stands in place of max_memory. Unless
    receive_buffer says otherwise it asks for the largest that anyone is granted. recv_batch_into copies, and shows no
    more than max_datagram bytes of a datagram. A forked child gets RuntimeError.

    memory: any of "prefault" (all of max_memory, and what describes the blocks of a ring, is there from the start: what
    is written for the first time costs several times as much), "lock" (and is never swapped out; RLIMIT_MEMLOCK) and
    "huge" (huge pages, where the system has them). spin: seconds that a receive watches the socket before it sleeps:
    the processor is busy for that long, and a datagram comes sooner. busy_poll: the same, and each look has the kernel
    poll a device that can be, before it would interrupt (SO_BUSY_POLL, socket(7)).

    Raises ValueError or TypeError for a wrong argument before there is a socket, OSError with call, operands and, where
    known, the remedy for what the system refuses.
    """

    __slots__ = (
        *HELD,
        "_binding",
        "_lock",
        "_interface",
        "_is_forked",
        "_kernel_drops",
        "_last_drops",
        "_memberships",
        "_pending",
        "_reception",
        "_strict",
        "_text",
        "_waits",
        "_wants_hardware_timestamps",
    )

    def __init__(
        self,
        *groups: AddressLike | Group,
        port: int | None = None,
        interface: InterfaceLike | None = None,
        source: Sources | None = None,
        bind: str = "auto",
        metadata: Iterable[str] = (),
        batch_size: int | None = None,
        max_datagram: int = 2048,
        max_memory: Size | None = None,
        engine: str = "auto",
        coalesce: bool | None = None,
        background: Background | Size | None = None,
        memory: Iterable[str] = (),
        spin: float = 0.0,
        busy_poll: float | None = None,
        ring: Ring | Size | None = None,
        receive_buffer: Size | None = None,
        loopback: bool | None = None,
        reuse: bool = True,
        strict: bool = True,
    ) -> None:
        check_switches(reuse=reuse, strict=strict)
        check_optional_switches(loopback=loopback)
        wanted = _read_groups(groups, port, interface, source, strict=strict)
        named = [first_given(interface, group.interface) for group in wanted]
        resolved: dict[object, tuple[Interface, ...]] = {}  # an index may be of a type that has no hash
        joins = []
        for group, value in zip(wanted, named, strict=True):
            key = group.address if value is None else value if isinstance(value, str) else id(value)
            if key not in resolved:
                resolved[key] = resolve_interfaces(value, group.family, group.address)
            joins.append((group, resolved[key]))
        receive_buffer = read_buffer(receive_buffer, options.RECEIVE_BUFFER, wanted[0].family, what="receive_buffer")
        reception = plan_reception(
            wanted[0].family,
            metadata=metadata,
            batch_size=batch_size,
            max_datagram=max_datagram,
            max_memory=max_memory,
            memory=memory,
            engine=engine,
            coalesce=coalesce,
            background=background,
            spin=spin,
            busy_poll=busy_poll,
            ring=ring,
        )
        binding = (plan_ring_binding if reception.ring else plan_binding)(bind, joins, wants_all=ALL in named)
        if binding.filters:
            reception = reception.filtering()
        reception.equip(self, wanted[0].family)  # refuses a receiver that is set up already
        self._reception = reception
        self._binding = binding
        self._wants_hardware_timestamps = "hardware_timestamp" in self._reception.metadata
        self._interface = _lasting(named[0], joins[0][1]) if len({found for _, found in joins}) == 1 else None
        self._strict = strict
        sock = open_socket(wanted[0].family)
        try:
            _configure(sock, self._reception, receive_buffer=receive_buffer, loopback=loopback, reuse=reuse)
            binding.bind(sock, wanted[0].port or 0)
            self._take(sock, is_ours=True)
            with self._following([(group, interface) for group, found in joins for interface in found]):
                for (group, found), value in zip(joins, named, strict=True):
                    self._memberships.join(group.address, group.sources, found, skip_refusals=value == ALL)
            if self._wants_hardware_timestamps:
                warn_of_kernel_timestamps(self.interfaces)
            self._reception.start(self)
        except BaseException:
            self._shut()
            sock.close()
            raise

    @classmethod
    def from_socket(
        cls,
        sock: socket.socket,
        *,
        metadata: Iterable[str] = (),
        batch_size: int | None = None,
        max_datagram: int = 2048,
        max_memory: Size | None = None,
        engine: str = "auto",
        coalesce: bool | None = None,
        background: Background | Size | None = None,
        memory: Iterable[str] = (),
        spin: float = 0.0,
        busy_poll: float | None = None,
    ) -> Self:
        """Take over a bound IPv4 or IPv6 datagram socket, unicast or multicast; detach() gives it back.

        Nothing is filtered, since what it joined before cannot be known: it is in no memberships, and leave() and
        join() know nothing of it, so leave that by sock.setsockopt(). Joins without interface= are made on the
        interface that the socket is bound to, if it is. The timeout of the socket itself does not count, that of each
        call does. No option is changed but those that `metadata`, `coalesce` and `busy_poll` need. The socket's queue
        of errors is emptied, of timestamps of sends and notices of MSG_ZEROCOPY, too. For "hardware_timestamp" a
        KernelTimestampWarning names each interface without a clock by which datagrams may come: the device that the
        socket is bound to or, since where it is a member cannot be known, every one that is up, loopback only for a
        socket of such an address. Raises TypeError for what is not a socket, ValueError for one of another family or
        type, that is closed or not bound, or that coalesces (UDP_GRO) without coalesce=True.
        """
        check_datagram_socket(sock, "Receiver.from_socket")
        if not bound_port(sock):
            raise ValueError("Receiver.from_socket: the socket has no port; bind it first")
        if _core.is_tap(engine):
            raise ValueError(
                f"Receiver.from_socket: engine={engine!r} follows the memberships, and those of a socket that others "
                "prepared are not known; open a Receiver with its groups"
            )
        self = cls.__new__(cls)
        reception = plan_reception(
            sock.family,
            metadata=metadata,
            batch_size=batch_size,
            max_datagram=max_datagram,
            max_memory=max_memory,
            memory=memory,
            engine=engine,
            coalesce=coalesce,
            background=background,
            spin=spin,
            busy_poll=busy_poll,
            ring=None,
        )
        reception.check(sock)
        reception.equip(self, sock.family)
        self._reception = reception
        self._binding = Binding.of(sock)
        self._wants_hardware_timestamps = False  # they were told of already
        self._interface = self._binding.interface
        self._strict = True
        try:
            self._reception.configure(sock)
            if "hardware_timestamp" in reception.metadata:
                warn_of_kernel_timestamps(arrival_interfaces(sock))
            self._take(sock, is_ours=False)
            self._reception.start(self)
        except BaseException:
            self._shut()  # or what is left of it would close the socket, which is its owner's
            let_go(sock)
            self._give_back()
            with suppress(OSError):  # what could not be set
                self._reception.restore(sock)
            raise
        return self

    def _take(self, sock: socket.socket, *, is_ours: bool) -> None:
        """Receive on this bound socket from now on."""
        self._hold(sock, is_ours=is_ours)
        self._is_forked = False
        self._waits: Waits | None = None  # of tasks in event loops, from the first on
        self._memberships = Memberships(sock, is_ours=is_ours)
        self._pending: dict[object, Sequence[tuple[Group, Interface]]] = {}  # joins that threads are about to make
        self._text = self._describe()
        self._lock = threading.RLock()
        self._kernel_drops = 0
        self._last_drops = self._read_drops()
        if self._reception.ring:
            self._reception.ring._open(self, sock, self._binding.ring_interface)
        else:
            self._reception.open(self, sock, drops=self._last_drops, is_ours=is_ours)

    def _after_fork(self) -> None:
        self._is_forked = True
        self._lock = threading.RLock()
        self._memberships.after_fork()
        self._pending = {}  # those threads are not here
        if self._waits:
            self._waits.after_fork()
        super()._after_fork()
        self._follow()

    # Groups

    def join(
        self, group: AddressLike | Group, source: Sources | None = None, *, interface: InterfaceLike | None = None
    ) -> None:
        """Join a group, any-source or, with one or more sources, source-specific; also while another thread receives.

        The port, if there is one in the text, is the receiver's. interface=None stands for the one that the receiver
        was opened with; "all" joins where it is not joined yet. Memberships of the group on interfaces that are gone
        are forgotten. Raises ValueError for a group that this receiver cannot hear (it names bind="any" or
        ReceiverSet), OSError(EADDRINUSE) for one that is joined already or in the other mode, OSError for what the
        system refuses. RFC 3678.
        """
        wanted = self._own("join", Group.parse(group, interface=interface, source=source, strict=self._strict))
        named = first_given(interface, wanted.interface, self._interface)
        interfaces = resolve_interfaces(named, wanted.family, wanted.address)
        self._binding.check(wanted, interfaces)
        with self._following([(wanted, found) for found in interfaces]):
            self._forget_gone(wanted.address, interfaces)
            self._memberships.join(wanted.address, wanted.sources, interfaces, skip_refusals=named == ALL)
        if self._wants_hardware_timestamps:
            warn_of_kernel_timestamps(interfaces)

    def leave(
        self, group: AddressLike | Group, source: Sources | None = None, *, interface: InterfaceLike | None = None
    ) -> None:
        """Leave a group, or only the sources given; interface=None or "all" is every one on which it is joined.

        An interface may be down or gone, and named as it is now or as it was when it was joined. What waits in the
        socket already may still be delivered. Raises OSError(EADDRNOTAVAIL) for what is not joined. RFC 3678.
        """
        wanted, interfaces = self._member("leave", group, source, interface)
        with self._following():
            self._memberships.leave(wanted.address, wanted.sources, interfaces)

    def block(self, group: AddressLike | Group, source: Sources, *, interface: InterfaceLike | None = None) -> None:
        """Stop hearing sources of a group that was joined any-source; interface as leave(). RFC 3678.

        Memberships of the group on interfaces that are gone are forgotten, unless it has no others.
        """
        wanted, interfaces = self._member("block", group, source, interface)
        with self._following():
            self._forget_gone(wanted.address, interfaces or ())
            self._memberships.block(wanted.address, wanted.sources, interfaces)

    def unblock(self, group: AddressLike | Group, source: Sources, *, interface: InterfaceLike | None = None) -> None:
        """Hear blocked sources again; interface as leave(). OSError(EADDRNOTAVAIL): it is not blocked."""
        wanted, interfaces = self._member("unblock", group, source, interface)
        with self._following():
            self._forget_gone(wanted.address, interfaces or ())
            self._memberships.unblock(wanted.address, wanted.sources, interfaces)

    @property
    def memberships(self) -> tuple[Membership, ...]:
        """What is joined through this receiver: group, interface, mode and sources; after close() what was."""
        return self._memberships.memberships

    @property
    def skipped(self) -> tuple[Refusal, ...]:
        """The interfaces that interface="all" passed over because a join failed there, and why."""
        return self._memberships.skipped

    def _own(self, call: str, group: Group) -> Group:
        """The group, if it is of this receiver's family and port, and the receiver is open."""
        if self.closed:
            raise OSError(errno.EBADF, f"{call} of {group} on {self}: it is closed")
        if group.family != self._socket.family or group.port not in (None, self._address[1]):
            raise ValueError(
                f"{group} is not of this receiver's family and port ({self}): "
                "use a Receiver for each, and ReceiverSet([...]) to receive on all"
            )
        return group

    def _member(
        self, call: str, group: AddressLike | Group, source: Sources | None, interface: InterfaceLike | None
    ) -> tuple[Group, tuple[Interface, ...] | None]:
        """The group and the interfaces meant, None for all of its. A joined one may be gone from the system by now."""
        wanted = self._own(call, Group.parse(group, interface=interface, source=source, strict=False))
        named = first_given(interface, wanted.interface)
        if named is None or named == ALL:
            return wanted, None
        joined = [member.interface for member in self.memberships if member.group == wanted.address]
        return wanted, find_known(named, joined)

    def _forget_gone(self, group: IPAddress, wanted: tuple[Interface, ...]) -> None:
        """Forget where the group was joined on devices that are gone: one that is made again has another index.

        But not what would be the last of the group: the call that follows says that this is gone.
        """
        kept = {interface.index for interface in wanted}
        others = [member.interface for member in self.memberships if member.group == group]
        others = [interface for interface in others if interface.index not in kept]
        if others[1:] or (wanted and others):
            present = {interface.index for interface in interfaces()}
            gone = [interface for interface in others if interface.index not in present]
            if wanted or len(gone) < len(others):
                self._memberships.forget(group, gone)

    @contextmanager
    def _following(self, joins: Sequence[tuple[Group, Interface]] = ()) -> Iterator[None]:
        """Follow what changes within, whether or not that succeeds; meanwhile these joins are about to be made."""
        call = object()
        try:
            if joins:
                self._pending[call] = joins
                self._follow()
            yield
        finally:
            self._pending.pop(call, None)
            self._follow()

    def _follow(self) -> None:
        """Deliver and show what is joined and about to be; also what other threads join meanwhile."""
        self._text = self._describe()  # shown with every "nothing is there" to a reader that polls
        if not self._binding.filters:
            return
        followed = None
        while followed != (current := (self.memberships, tuple(self._pending.copy().values()))):
            followed = current
            members, pending = current[0], tuple(chain.from_iterable(current[1]))
            entries = {(to_mapped(member.group), member.interface.index) for member in members}
            entries |= {(to_mapped(group.address), interface.index) for group, interface in pending}
            self._set_filter(entries)
            if self._reception.ring:
                self._set_members(describe_members(members, pending))

    # Receiving

    def __aiter__(self) -> AsyncIterator[_core.Batch]:
        """Iterate over batches in an event loop of asyncio, which goes on while there is none; ends with the receiver.

        A loop that is left, or whose task is cancelled, loses nothing. Batches that are there already keep the loop
        from its other tasks for a millisecond at most. One task of a loop at a time waits: RuntimeError for another,
        and for a loop of another thread that comes to receive at the same moment.
        close() ends it; called by another thread, it gives the loop a second to let go of the socket, which is open
        until then. OSError(EBADF): it is closed. UnsupportedError: the engine is "iocp", or the loop watches no
        descriptors (Windows' default one; asyncio.SelectorEventLoop does).
        """
        if self.closed:
            raise OSError(errno.EBADF, f"iteration on {self}: it is closed")
        self._check_watchable("async iteration")
        from mcastfast import aio  # asyncio is for those who use it

        return aio.Batches(self, lambda: (self,))

    def _tasks(self) -> Waits:
        """Who waits in event loops."""
        from mcastfast import aio

        with self._lock:
            self._waits = self._waits or aio.Waits()
        return self._waits

    def datagrams(self) -> Iterator[_core.Datagram]:
        """Iterate over datagrams across batches; ends when the receiver is closed."""
        for batch in self:
            yield from batch

    # What it is

    def fileno(self) -> int:
        """The descriptor that select and its kin find readable while something is there; -1 after close().

        The socket's or, with background=, that of the thread's queue, with engine="packet" that of the ring.
        UnsupportedError with engine="iocp": there is none.
        """
        if self.closed:
            return -1
        self._check_watchable("fileno")
        ready = self._ready_fileno()
        return super().fileno() if ready < 0 else ready

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces on which something is joined, in the order of their indexes; after close() those that were."""
        found = {member.interface.index: member.interface for member in self.memberships}
        return tuple(found[index] for index in sorted(found))

    @property
    def interface(self) -> Interface | None:
        """The interface, None when there are several or (from_socket) none is known."""
        found = self.interfaces
        return found[0] if len(found) == 1 else None

    @property
    def port(self) -> int:
        """The port that it receives on; still there after close()."""
        return self._address[1]

    @property
    def batch_size(self) -> int:
        """How many datagrams a batch has at most."""
        return self._reception.batch_size

    @property
    def max_datagram(self) -> int:
        """Bytes of payload over which a datagram is cut."""
        return self._reception.max_datagram

    @property
    def stats(self) -> ReceiverStats:
        """Counts since the receiver was opened; any thread, also after close()."""
        with self._lock:
            self._note_drops()
        batches, datagrams, octets, overrun, truncated, control_truncated, foreign, arenas = self._counters()
        lost, copied, fragments, bad_checksums, held_blocks = self._tap_counts()
        return ReceiverStats(
            batches=batches,
            datagrams=datagrams,
            bytes=octets,
            kernel_drops=self._kernel_drops + lost,
            kernel_drops_exact=not (self._reception.coalesce or self._reception.ring),
            overrun=overrun,
            truncated=truncated,
            control_truncated=control_truncated,
            foreign=foreign,
            arenas=arenas,
            held_blocks=held_blocks,
            copied=copied,
            fragments=fragments,
            bad_checksums=bad_checksums,
        )

    def _read_drops(self) -> int:
        if self._reception.ring or not options.MEMORY.supported(self._socket.family):
            return 0
        return options.get_option(self._socket, options.MEMORY).drops

    def _note_drops(self) -> None:
        """Add what was dropped since the last look. The kernel's counter wraps at 32 bits.

        While this thread looks, a signal handler may look too, and close.
        """
        while not self.closed:
            before = self._last_drops
            try:
                drops = self._read_drops()
            except OSError:
                if self.fileno() < 0:
                    break
                raise
            if self._last_drops == before:
                self._kernel_drops += (drops - before) % 2**32
                self._last_drops = drops
                break

    def __str__(self) -> str:
        return self._text

    def _describe(self) -> str:
        members = self.memberships
        groups = ", ".join(f"{member.group}%{member.interface}" for member in members[:_MOST_SHOWN])
        if more := len(members[_MOST_SHOWN:]):
            groups = f"{groups} and {more} more"
        return f"{groups or self._address[0]} port {self._address[1]}"

    def _failure(self, call: str, code: int) -> OSError:
        error = _core.system_error(code, f"{call} on {self}: ")
        for note in hints(Operation.RECEIVE, error.errno or 0):
            error.add_note(note)
        return error

    # Its end

    def detach(self) -> socket.socket:
        """Give the socket back, its memberships with it, and be closed. OSError(EBADF): closed before.

        What the thread of background= has received and nobody has taken is gone. With coalescing and with engine="iocp"
        so is what was received and not delivered: receive until BlockingIOError before. Trains that wait in the socket
        then come as one datagram each; later ones come by themselves. With engine="iocp" it stays with its completion
        port until it is closed: it serves every call but those of another port. With engine="packet" what lies in the
        ring is gone. Until the kernel hands over its block, up to Ring's delay, it shows as BlockingIOError: receive
        until TimeoutError before, with a longer timeout. What comes between that and detach() is lost.
        """
        sock = super().detach()
        self._give_back()
        if not self._is_forked:  # else the parent receives by it
            self._reception.restore(sock)
        return sock

    def _end(self) -> None:
        """With a last look at the drops, if the socket is still there."""
        if self._waits:
            self._waits.end()
        with self._lock:  # until nobody looks any more, or a look would be at another's descriptor
            with suppress(OSError):
                self._note_drops()
            super()._end()


def _read_groups(
    groups: tuple[AddressLike | Group, ...],
    port: int | None,
    interface: InterfaceLike | None,
    source: Sources | None,
    *,
    strict: bool,
) -> list[Group]:
    """The groups of a receiver: at least one, all with the same port and family."""
    if not groups:
        raise ValueError(
            'a Receiver needs a group, for example "239.1.2.3:5000"; Receiver.from_socket takes any socket'
        )
    sources = list(source) if isinstance(source, Iterable) and not isinstance(source, (str, bytes)) else source
    for number in groups[1:]:
        if isinstance(number, int):
            raise TypeError(
                f"Receiver({groups[0]!r}, {number!r}): a port is not a group; write it behind the group, as "
                f"'239.1.2.3:{number}', or pass port={number}"
            )
    read = [Group.parse(group, port=port, interface=interface, source=sources, strict=strict) for group in groups]
    ports = {group.port for group in read if group.port is not None}
    if not ports:
        raise ValueError(f"group {str(groups[0])!r} has no port: {port_remedy(groups[0], read[0])}")
    if len(ports) > 1 or len({group.family for group in read}) > 1:
        raise ValueError(
            f"a Receiver has one port and one family, not {', '.join(map(str, read))}: "
            "use a Receiver for each, and ReceiverSet([...]) to receive on all"
        )
    return [group.replace(port=port) for group in read for port in ports]


def _lasting(named: InterfaceLike | None, found: tuple[Interface, ...]) -> InterfaceLike | None:
    """What names an interface later on, when an index may be gone: with the name that the interface has now."""
    is_index = isinstance(named, Interface | SupportsIndex) or named == str(found[0].index)
    return found[0] if is_index else named


def _configure(
    sock: socket.socket, reception: Reception, *, receive_buffer: int | None, loopback: bool | None, reuse: bool
) -> None:
    """Set every option of a new receiving socket."""
    sock.settimeout(None)  # whatever socket.setdefaulttimeout says
    for option in (options.SHARING if reuse else options.KEEPING)[CURRENT]:
        options.set_option(sock, option, True)
    if options.MULTICAST_ALL.supported(sock.family):
        options.set_option(sock, options.MULTICAST_ALL, False)
    if CURRENT is Platform.MACOS and loopback is None:
        loopback = True  # as it is: without any option of multicast a socket of IPv6 hears what others have joined
    if loopback is not None:
        options.set_option(sock, options.LOOPBACK, loopback)
    reception.configure(sock)
    if receive_buffer is not None:
        set_buffer(sock, options.RECEIVE_BUFFER, receive_buffer, stacklevel=3)
    elif reception.background or reception.ring:
        set_largest_receive_buffer(sock)
