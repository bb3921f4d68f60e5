"""Receiving: which socket a Receiver opens, what it joins, and what it delivers. Datagrams pass through _core alone."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple, Self, TypeAlias

from mcastfast import _core, options
from mcastfast.address import AddressLike, Group, to_mapped
from mcastfast.binding import Binding, plan_binding
from mcastfast.buffers import set_buffer
from mcastfast.interface import ALL, Interface, InterfaceLike, resolve_interfaces
from mcastfast.membership import Membership, Memberships, Refusal
from mcastfast.sockets import SocketHolder, check_datagram_socket
from mcastfast.timestamps import warn_of_kernel_timestamps

Sources: TypeAlias = AddressLike | Iterable[AddressLike]

DEFAULT_MEMORY = 256 * 1024 * 1024
"""max_memory unless given, bytes."""

_METADATA = {
    "destination": options.PACKET_INFO,
    "timestamp": options.TIMESTAMPS,
    "hardware_timestamp": options.HARDWARE_TIMESTAMPS,
    "drops": options.DROP_COUNTER,
    "hops": options.RECEIVE_HOPS,
    "tos": options.RECEIVE_TOS,
}


class ReceiverStats(NamedTuple):
    """What a receiver has seen since it was opened; still there after close().

    batches, datagrams, bytes: delivered. kernel_drops: lost because the socket's buffer was full (SO_MEMINFO, Linux; 0
    elsewhere; it also counts what a socket filter or a bad checksum removed). truncated: longer than max_datagram.
    control_truncated: metadata had no room. foreign: reached the socket for a group or interface that was not joined
    here, and was not delivered. arenas: memory slabs in use, two while every batch is dropped before the next but one,
    0 after close().
    """

    batches: int
    datagrams: int
    bytes: int
    kernel_drops: int
    truncated: int
    control_truncated: int
    foreign: int
    arenas: int


class Receiver(SocketHolder, _core.ReceiverCore):
    """One socket that receives the datagrams of multicast groups on one port, in batches.

    groups: texts `[source@]group[%interface][:port]` or Group values, of one family and port. port, interface and
    source hold for every group that does not name its own, and must agree with those that do. interface: a name, index,
    address, Interface, "all", or None, which leaves it to the route. source: one or several make the join
    source-specific (RFC 4607).

    bind: "group" binds the group address, so that nothing else arrives; "any" binds the wildcard address, also takes
    unicast to the port, and adds "destination" to the metadata, by which it filters; "auto" is "group" for one group
    where that separates it from others, else "any". Either way only this receiver's groups are delivered, whatever
    others joined.

    metadata: any of "destination" (address and interface), "timestamp" (kernel, nanoseconds), "hardware_timestamp" (the
    network device's; KernelTimestampWarning where a device gives none, and the kernel's in its place), "drops", "hops"
    (TTL or hop limit), "tos"; only what is named is paid for.

    batch_size: datagrams a batch, 1 to 1024. max_datagram: bytes; longer ones are cut and flagged. max_memory: bytes
    that kept batches may hold. receive_buffer: bytes wanted of the kernel; BufferClampedWarning when it grants less.
    loopback: None leaves the system's default (acts on receivers on Windows only). reuse: share the port with other
    sockets. strict=False allows any-source joins in the source-specific range. engine: "auto" or one of ENGINES.

    Raises ValueError or TypeError for a wrong argument before there is a socket, OSError with call, operands and, where
    known, the remedy for what the system refuses.
    """

    def __init__(
        self,
        *groups: AddressLike | Group,
        port: int | None = None,
        interface: InterfaceLike | None = None,
        source: Sources | None = None,
        bind: str = "auto",
        metadata: Iterable[str] = (),
        batch_size: int = 64,
        max_datagram: int = 2048,
        max_memory: int = DEFAULT_MEMORY,
        engine: str = "auto",
        receive_buffer: int | None = None,
        loopback: bool | None = None,
        reuse: bool = True,
        strict: bool = True,
    ) -> None:
        wanted = _read_groups(groups, port, interface, source, strict=strict)
        joins = [(group, resolve_interfaces(group.interface, group.family, group.address)) for group in wanted]
        binding = plan_binding(bind, joins)
        if receive_buffer is not None:
            options.RECEIVE_BUFFER.pack(receive_buffer, wanted[0].family)
        names = _metadata_names(metadata)
        if binding.filters:
            names |= {"destination"}
        self._prepare(
            wanted[0].family,
            engine=engine,
            metadata=_mask(names),
            batch_size=batch_size,
            max_datagram=max_datagram,
            max_memory=max_memory,
        )
        self._binding = binding
        self._wants_hardware_timestamps = "hardware_timestamp" in names
        opened_with = {group.interface for group in wanted}
        self._interface = opened_with.pop() if len(opened_with) == 1 else None
        self._strict = strict
        sock = socket.socket(wanted[0].family, socket.SOCK_DGRAM)
        try:
            _configure(sock, names, receive_buffer=receive_buffer, loopback=loopback, reuse=reuse)
            binding.bind(sock, wanted[0].port or 0)
            self._take(sock, is_ours=True)
            for group, interfaces in joins:
                self._join(group, interfaces)
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
        batch_size: int = 64,
        max_datagram: int = 2048,
        max_memory: int = DEFAULT_MEMORY,
        engine: str = "auto",
    ) -> Self:
        """Take over a bound IPv4 or IPv6 datagram socket, unicast or multicast; detach() gives it back.

        Nothing is filtered, since what it joined before cannot be known, and no option is changed but those that
        `metadata` needs. Raises TypeError for what is not a socket, ValueError for one of another family or type, or
        that is closed or not bound.
        """
        check_datagram_socket(sock, "Receiver.from_socket")
        if not sock.getsockname()[1]:
            raise ValueError("Receiver.from_socket: the socket has no port; bind it first")
        self = cls.__new__(cls)
        names = _metadata_names(metadata)
        self._prepare(
            sock.family,
            engine=engine,
            metadata=_mask(names),
            batch_size=batch_size,
            max_datagram=max_datagram,
            max_memory=max_memory,
        )
        self._binding = Binding()
        self._wants_hardware_timestamps = False  # whose interfaces are not known
        self._interface = None
        self._strict = True
        for name in sorted(names):
            options.set_option(sock, _METADATA[name], True)
        self._take(sock, is_ours=False)
        return self

    def _take(self, sock: socket.socket, *, is_ours: bool) -> None:
        """Receive on this bound socket from now on."""
        self._hold(sock)
        self._memberships = Memberships(sock)
        self._text = self._describe()
        self._drops_lock = threading.RLock()
        self._kernel_drops = 0
        self._last_drops = self._read_drops()
        self._open(sock.fileno(), self._address[1], drops=self._last_drops, is_ours=is_ours)

    def _after_fork(self) -> None:
        self._drops_lock = threading.RLock()
        self._memberships.after_fork()
        super()._after_fork()
        self._follow()

    # Groups

    def join(
        self, group: AddressLike | Group, source: Sources | None = None, *, interface: InterfaceLike | None = None
    ) -> None:
        """Join a group, any-source or, with one or more sources, source-specific; also while another thread receives.

        The port, if there is one in the text, is the receiver's. interface=None stands for the one that the receiver
        was opened with. Raises ValueError for a group that this receiver cannot hear (it names bind="any" or
        ReceiverSet), OSError(EADDRINUSE) for one that is joined already or in the other mode, OSError for what the
        system refuses. RFC 3678.
        """
        wanted = self._own(Group.parse(group, interface=interface, source=source, strict=self._strict))
        if wanted.interface is None:
            wanted = wanted.replace(interface=self._interface)
        interfaces = resolve_interfaces(wanted.interface, wanted.family, wanted.address)
        self._binding.check(wanted, interfaces)
        self._join(wanted, interfaces)

    def leave(
        self, group: AddressLike | Group, source: Sources | None = None, *, interface: InterfaceLike | None = None
    ) -> None:
        """Leave a group, or only the sources given; interface=None or "all" is every one on which it is joined.

        What waits in the socket already may still be delivered. Raises OSError(EADDRNOTAVAIL) for what is not joined.
        RFC 3678.
        """
        wanted, interfaces = self._member(group, source, interface)
        self._memberships.leave(wanted.address, wanted.sources, interfaces)
        self._follow()

    def block(self, group: AddressLike | Group, source: Sources, *, interface: InterfaceLike | None = None) -> None:
        """Stop hearing sources of a group that was joined any-source; interface as leave(). RFC 3678."""
        wanted, interfaces = self._member(group, source, interface)
        self._memberships.block(wanted.address, wanted.sources, interfaces)

    def unblock(self, group: AddressLike | Group, source: Sources, *, interface: InterfaceLike | None = None) -> None:
        """Hear blocked sources again; interface as leave(). OSError(EADDRNOTAVAIL): it is not blocked."""
        wanted, interfaces = self._member(group, source, interface)
        self._memberships.unblock(wanted.address, wanted.sources, interfaces)

    @property
    def memberships(self) -> tuple[Membership, ...]:
        """What is joined through this receiver: group, interface, mode and sources."""
        return self._memberships.memberships

    @property
    def skipped(self) -> tuple[Refusal, ...]:
        """The interfaces that interface="all" passed over because a join failed there, and why."""
        return self._memberships.skipped

    def _own(self, group: Group) -> Group:
        """The group, if it is of this receiver's family and port, and the receiver is open."""
        if self.closed:
            raise OSError(errno.EBADF, f"{group} on {self}: it is closed")
        if group.family != self._socket.family or group.port not in (None, self._address[1]):
            raise ValueError(
                f"{group} is not of this receiver's family and port ({self}): "
                "use a Receiver for each, and ReceiverSet([...]) to receive on all"
            )
        return group

    def _member(
        self, group: AddressLike | Group, source: Sources | None, interface: InterfaceLike | None
    ) -> tuple[Group, tuple[Interface, ...] | None]:
        """The group and the interfaces meant, None for all of its. A joined one may be gone from the system by now."""
        wanted = self._own(Group.parse(group, interface=interface, source=source, strict=False))
        if wanted.interface in (None, ALL):
            return wanted, None
        for member in self.memberships:
            known_as = (member.interface.name, str(member.interface.index))
            if member.group == wanted.address and wanted.interface in known_as:
                return wanted, (member.interface,)
        return wanted, resolve_interfaces(wanted.interface, wanted.family, wanted.address)

    def _join(self, group: Group, interfaces: tuple[Interface, ...]) -> None:
        self._follow([(group, interface) for interface in interfaces])
        try:
            self._memberships.join(group.address, group.sources, interfaces, skip_refusals=group.interface == ALL)
        finally:
            self._follow()
        if self._wants_hardware_timestamps:
            warn_of_kernel_timestamps(interfaces, stacklevel=3)

    def _follow(self, more: Iterable[tuple[Group, Interface]] = ()) -> None:
        """Deliver and show what is joined and, about to be, `more`; also what other threads join meanwhile."""
        self._text = self._describe()  # shown with every "nothing is there" to a reader that polls
        if not self._binding.filters:
            return
        members: tuple[Membership, ...] | None = None
        while members != self.memberships:
            members = self.memberships
            entries = {(to_mapped(member.group), member.interface.index) for member in members}
            entries |= {(to_mapped(group.address), interface.index) for group, interface in more}
            self._set_filter(sorted(entries))

    # Receiving

    def datagrams(self) -> Iterator[_core.Datagram]:
        """Iterate over datagrams across batches; ends when the receiver is closed."""
        for batch in self:
            yield from batch

    # What it is

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces on which something is joined, in the order of their indexes."""
        found = {member.interface.index: member.interface for member in self.memberships}
        return tuple(found[index] for index in sorted(found))

    @property
    def interface(self) -> Interface | None:
        """The interface, None when there are several or (from_socket) none is known."""
        found = self.interfaces
        return found[0] if len(found) == 1 else None

    @property
    def stats(self) -> ReceiverStats:
        """Counts since the receiver was opened; any thread, also after close()."""
        with self._drops_lock:
            self._note_drops()
        batches, datagrams, octets, truncated, control_truncated, foreign, arenas = self._counters()
        return ReceiverStats(
            batches=batches,
            datagrams=datagrams,
            bytes=octets,
            kernel_drops=self._kernel_drops,
            truncated=truncated,
            control_truncated=control_truncated,
            foreign=foreign,
            arenas=arenas,
        )

    def _read_drops(self) -> int:
        if not options.MEMORY.supported(self._socket.family):
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
        groups = ", ".join(f"{member.group}%{member.interface}" for member in self.memberships)
        return f"{groups or self._address[0]} port {self._address[1]}"

    def _failure(self, call: str, code: int) -> OSError:
        return OSError(code, f"{call} on {self}: {os.strerror(code)}")

    # Its end

    def detach(self) -> socket.socket:
        """Give the socket back, its memberships with it, and be closed. OSError(EBADF): closed before."""
        sock = super().detach()
        self._give_back()
        return sock

    def _end(self) -> None:
        """With a last look at the drops, if the socket is still there."""
        with self._drops_lock, suppress(OSError):
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
    sources = list(source) if isinstance(source, Iterable) and not isinstance(source, str) else source
    read = [Group.parse(group, port=port, interface=interface, source=sources, strict=strict) for group in groups]
    ports = {group.port for group in read if group.port is not None}
    if not ports:
        raise ValueError(f"group {str(groups[0])!r} has no port: write {read[0].replace(port=5000)} or pass port=")
    if len(ports) > 1 or len({group.family for group in read}) > 1:
        raise ValueError(
            f"a Receiver has one port and one family, not {', '.join(map(str, read))}: "
            "use a Receiver for each, and ReceiverSet([...]) to receive on all"
        )
    return [group.replace(port=port) for group in read for port in ports]


def _metadata_names(metadata: Iterable[str]) -> set[str]:
    names = {metadata} if isinstance(metadata, str) else set(metadata)
    if unknown := names - _METADATA.keys():
        names_of_them = ", ".join(map(repr, sorted(unknown)))
        raise ValueError(f"metadata {names_of_them} is not known; known are {', '.join(map(repr, _METADATA))}")
    return names


def _mask(names: set[str]) -> int:
    return sum(_core.METADATA[name] for name in names)


def _configure(
    sock: socket.socket, metadata: set[str], *, receive_buffer: int | None, loopback: bool | None, reuse: bool
) -> None:
    """Set every option of a new receiving socket."""
    sock.settimeout(None)  # whatever socket.setdefaulttimeout says
    if reuse:
        options.set_option(sock, options.REUSE_ADDRESS, True)
    if sock.family == socket.AF_INET6:
        options.set_option(sock, options.V6ONLY, True)
    if options.MULTICAST_ALL.supported(sock.family):
        options.set_option(sock, options.MULTICAST_ALL, False)
    if loopback is not None:
        options.set_option(sock, options.LOOPBACK, loopback)
    for name in sorted(metadata):
        options.set_option(sock, _METADATA[name], True)
    if receive_buffer is not None:
        set_buffer(sock, options.RECEIVE_BUFFER, receive_buffer, stacklevel=3)
