"""Sending: which socket a Sender opens and where it points. Datagrams pass through _core alone."""

from __future__ import annotations

import errno
import operator
import socket
from contextlib import suppress
from ipaddress import IPv4Address
from typing import NamedTuple, Never, Self, TypeAlias

from mcastfast import options
from mcastfast._core import SenderCore, system_error
from mcastfast.address import AddressLike, Group, IPAddress, parse_address
from mcastfast.buffers import read_buffer, set_buffer
from mcastfast.errors import CURRENT, Operation, Platform, UnsupportedError, os_error
from mcastfast.interface import Interface, InterfaceLike, first_given, interfaces, listing, resolve_interface
from mcastfast.packing import Egress, PathMtu
from mcastfast.rate import Pace, RateLike, read_pace
from mcastfast.scope import TTL, Scope
from mcastfast.sizes import Size
from mcastfast.sockets import HELD, SocketAddress, SocketHolder, check_datagram_socket, host_of, let_go, open_socket
from mcastfast.switches import check_optional_switches, check_switches

_LEAST_MTU = 68
_COMMON_MTU = 1500
"""The least of IPv4 (RFC 791), and Ethernet's, which stands for one that is not known."""

_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)

Local: TypeAlias = AddressLike | tuple[AddressLike, int]


class SenderStats(NamedTuple):
    """What a sender has sent since it was opened; still there after close().

    datagrams, bytes: that the system took. batches: calls of send_batch that had something to send. send_drops:
    datagrams that the device's full queue refused (ENOBUFS). late_errors: errors that the network reported (ICMP) for
    earlier datagrams; none on Windows, which tells receives alone. trains: runs of payloads of one size that passed the
    system in one piece.
    """

    batches: int
    datagrams: int
    bytes: int
    send_drops: int
    late_errors: int
    trains: int


class Sender(SocketHolder, SenderCore):
    """One connected socket that sends datagrams to one multicast group by one interface.

    group: text `group[%interface]:port` or a Group; port and interface as keywords must agree with it. interface: a
    name, index, address or Interface, or None, which leaves the choice to the route; it is looked up once, and stands
    in `.interface`. local: the address to send from, or (address, port); None takes the interface's. reuse: share that
    port with other sockets that do, as with a Receiver on the port of mDNS (RFC 6762), 5353. ttl: TTL or hop
    limit, 0 to 255, see TTL; 1 stays on the local network, 0 on this host by the loopback interface alone. loopback:
    whether this host hears it too, None leaves the system's default, which is yes (on Windows it is the receivers'
    matter). fragment=False: a payload over the path's MTU is an OSError(EMSGSIZE). traffic_class: TOS or traffic class
    octet, 0 to 255; Windows leaves it to its own policies, takes it for IPv4 without effect, and for IPv6 it is an
    UnsupportedError. send_buffer: bytes, or text such as "1 MiB", wanted of the kernel, BufferClampedWarning when it
    grants less. timeout: seconds that a send may wait while the buffer is full, None for ever, 0 not at all: one
    deadline from the start of a call of send() or send_batch(), not one for each wait; waiting for a turn at a rate
    puts it off. engine: "auto" or one of ENGINES.

    rate: how fast to send at most, evenly spaced: datagrams each second (1000, "100_000/s", "10k") or bits each second
    ("8 Mbit/s", "1 Gbit/s"; k, M, G, T are powers of 1000). None: as fast as it can. A send waits until it is its turn,
    without the GIL; `delay` says how long that is. burst: how many datagrams may go at once, 1 to 1024; 1 spaces each
    from the next and sends no trains, more lets trains have so many segments, each as far from the next as its
    datagrams take at the rate. A sender that fell behind (its buffer was full, it was not scheduled, the caller came
    late) makes up for it at 1.1 times the rate, for up to one second's worth; what it missed beyond that is not sent
    faster. rate_counts: which bits a rate in bits counts. "payload": those of the payload, at least one octet. "wire":
    those for which a datagram occupies an Ethernet, that is payload, UDP header (8 octets), IP header (20 or 40), and
    for each frame header (14), frame check sequence (4), preamble with start delimiter (8) and gap (12), where an IP
    packet fills at least 46 octets (IEEE 802.3; RFC 768, 791, 8200). A datagram over the MTU counts as its fragments.
    Tags of VLANs and IP options do not count. The last 100 microseconds of a wait the clock is watched, which takes a
    processor: all of one above 10,000 bursts each second.

    segment: whether send_batch passes runs of payloads of one size to the system in one piece, a train, which the
    system cuts as late as it can (UDP_SEGMENT, udp(7), Linux). None: where it can, until it has refused a train and
    taken the same payloads plain. True: always; a refusal is an error, and UnsupportedError where there are no trains.
    False: never. What arrives is the same, payloads over the MTU go plain until it is found to have grown, at each
    256th such batch; but a device's queue that cuts trains by itself (a token bucket) may drop part of one unreported.

    Raises ValueError or TypeError for a wrong argument before there is a socket, OSError with call, operands and, where
    known, the remedy for what the system refuses.
    """

    __slots__ = (*HELD, "_destination", "_interface")

    def __init__(
        self,
        group: AddressLike | Group,
        *further: Never,
        port: int | None = None,
        interface: InterfaceLike | None = None,
        local: Local | None = None,
        ttl: int = TTL.SUBNET,
        loopback: bool | None = None,
        fragment: bool = True,
        traffic_class: int | None = None,
        send_buffer: Size | None = None,
        segment: bool | None = None,
        rate: RateLike | None = None,
        burst: int = 1,
        rate_counts: str = "payload",
        timeout: float | None = None,
        engine: str = "auto",
        reuse: bool = False,
        strict: bool = True,
    ) -> None:
        if further:
            raise TypeError(
                f"Sender({group!r}, {further[0]!r}): it takes one group, and keywords; a port stands behind the group, "
                "as in '239.1.2.3:5000', or in port="
            )
        check_switches(fragment=fragment, reuse=reuse, strict=strict)
        check_optional_switches(loopback=loopback, segment=segment)
        pace = read_pace(rate, burst=burst, rate_counts=rate_counts)
        wanted = Group.parse_destination(group, port=port, interface=interface, strict=strict)
        address, local_port = _read_local(local, wanted)
        _check_octet("ttl", ttl)
        options.MULTICAST_HOPS.pack(ttl, wanted.family)
        if traffic_class is not None:
            _check_octet("traffic_class", traffic_class)
            options.TOS.pack(traffic_class, wanted.family)
        send_buffer = read_buffer(send_buffer, options.SEND_BUFFER, wanted.family, what="send_buffer")
        chosen = resolve_interface(first_given(interface, wanted.interface), wanted.family, wanted.address)
        self._prepare(wanted.family, engine=engine, timeout=timeout)
        self._keep_pace(pace, chosen.mtu)
        sock = open_socket(wanted.family)
        try:
            if reuse:
                for option in options.SHARING[CURRENT]:
                    options.set_option(sock, option, True)
            options.set_option(sock, options.MULTICAST_HOPS, ttl)
            _leave_by(sock, chosen, address)
            if loopback is not None:
                options.set_option(sock, options.LOOPBACK, loopback)
            if traffic_class is not None:
                options.set_option(sock, options.TOS, traffic_class)
            if not fragment:
                options.set_option(sock, options.PATH_MTU_DISCOVERY, PathMtu.DO)
            if options.RECEIVE_ERRORS.supported(sock.family):
                options.set_option(sock, options.RECEIVE_ERRORS, True)
            if send_buffer is not None:
                set_buffer(sock, options.SEND_BUFFER, send_buffer)
            _point(sock, wanted, chosen, address, local_port)
            self._take(sock, chosen, segment=segment, engine=engine, is_ours=True)
        except BaseException:
            self._shut()
            sock.close()
            raise

    @classmethod
    def from_socket(
        cls,
        sock: socket.socket,
        *,
        segment: bool | None = None,
        rate: RateLike | None = None,
        burst: int = 1,
        rate_counts: str = "payload",
        timeout: float | None = None,
        engine: str = "auto",
    ) -> Self:
        """Take over a connected IPv4 or IPv6 datagram socket, unicast or multicast; detach() gives it back.

        The timeout of the socket itself does not count, timeout= does. No option is changed: where IP_RECVERR is not
        set on it, Linux drops what finds the device's queue full in silence, and late_errors counts those errors only
        that a later datagram met. The socket's queue of errors is emptied by sends and by stats, of timestamps of sends
        and notices of MSG_ZEROCOPY, too. rate_counts="wire" takes the MTU to be 1500. Raises TypeError for what is not
        a socket, ValueError for one of another family or type, that is closed or not connected, or that cuts what it
        sends (UDP_SEGMENT).
        """
        pace = read_pace(rate, burst=burst, rate_counts=rate_counts)
        check_datagram_socket(sock, "Sender.from_socket")
        check_optional_switches(segment=segment)
        try:
            sock.getpeername()
        except OSError:
            raise ValueError("Sender.from_socket: the socket is not connected; connect it first") from None
        if size := _train_size(sock):
            raise ValueError(
                f"Sender.from_socket: the socket cuts what it sends into datagrams of {size} bytes (UDP_SEGMENT), all "
                "of which would pass for one; switch that off: send_batch sends trains where segment= lets it"
            )
        self = cls.__new__(cls)
        is_ipv4 = host_of(sock.getpeername()).version == 4  # also by an IPv6 socket
        self._prepare(socket.AF_INET if is_ipv4 else sock.family, engine=engine, timeout=timeout)
        self._keep_pace(pace, 0)
        try:
            self._take(sock, None, segment=segment, engine=engine, is_ours=False)
        except BaseException:
            self._shut()  # or what is left of it would close the socket, which is its owner's
            let_go(sock)
            raise
        return self

    def _keep_pace(self, pace: Pace | None, mtu: int) -> None:
        if pace is not None:
            known = mtu if mtu >= _LEAST_MTU else _COMMON_MTU
            self._set_pace(pace.units, pace.span, counts=pace.counts, burst=pace.burst, mtu=known)

    def _take(
        self, sock: socket.socket, interface: Interface | None, *, segment: bool | None, engine: str, is_ours: bool
    ) -> None:
        if segment is not False and (obstacle := self._obstacle_to_trains(sock, engine)):
            if segment:
                raise UnsupportedError(f"segment=True: {obstacle}")
            segment = False
        self._hold(sock, is_ours=is_ours)
        self._interface = interface
        self._destination: SocketAddress = sock.getpeername()
        self._open(sock.fileno(), segment, is_ours=is_ours)

    def _obstacle_to_trains(self, sock: socket.socket, engine: str) -> str | None:
        """Why datagrams cannot leave in trains here, None if they can."""
        if not self._can_segment():
            return f"engine {engine!r} sends each datagram by itself"
        try:
            options.get_option(sock, options.SEGMENT)
        except (OSError, UnsupportedError) as error:
            return str(error)
        return None

    def fileno(self) -> int:
        """The socket's descriptor, for select and its kin; -1 after close().

        Trains cost some more from then on, for whoever else sends by it must find the socket without their option.
        """
        self._share()
        return super().fileno()

    @property
    def destination(self) -> SocketAddress:
        """Where it sends to, as socket.getpeername gives it."""
        return self._destination

    @property
    def interface(self) -> Interface | None:
        """The interface by which it sends, as it was when the sender was opened; None after from_socket."""
        return self._interface

    @property
    def segment(self) -> bool:
        """Whether runs of payloads of one size leave as trains; False once the system has refused that."""
        return self._segments()

    @property
    def stats(self) -> SenderStats:
        """Counts since the sender was opened; any thread, also after close()."""
        batches, datagrams, octets, send_drops, late_errors, trains = self._counters()
        return SenderStats(
            batches=batches,
            datagrams=datagrams,
            bytes=octets,
            send_drops=send_drops,
            late_errors=late_errors,
            trains=trains,
        )

    def __str__(self) -> str:
        host, port = self._destination[:2]
        return f"{host}{f'%{self._interface}' if self._interface else ''} port {port}"

    def _failure(self, _: str, code: int) -> OSError:
        if code in _UNREACHABLE and (loss := self._describe_loss()):
            error = os_error(Operation.SEND, f"to {self}", code, reason=system_error(code).strerror or "")
            error.add_note(f"{loss}: open another Sender.")
            return error
        error = os_error(Operation.SEND, f"to {self}", code, family=self._socket.family)
        if code == errno.EMSGSIZE and (mtu := self._find_mtu()):
            headers = 28 if self._socket.family == socket.AF_INET else 48
            error.add_note(
                f"{self._interface} has an MTU of {mtu} octets, which is {mtu - headers} of payload; that of a route "
                "may be smaller."
            )
        return error

    def _find_mtu(self) -> int | None:
        """What the interface has now."""
        with suppress(OSError):  # what the send met is to be told, whatever else fails
            for interface in interfaces():
                if self._interface and interface.index == self._interface.index:
                    return interface.mtu
        return None

    def _describe_loss(self) -> str | None:
        """What this sender had, and this host has no more; None for nothing."""
        try:
            present = interfaces()
        except OSError:  # what the send met is to be told, whatever else fails
            return None
        if self._interface and all(self._interface.index != there.index for there in present):
            return f"{self._interface} is gone, or was made again under another index"
        own = host_of(self._address)
        # Of 127.0.0.0/8 one is listed.
        if own.is_loopback or any(own == address.ip for there in present for address in there.addresses):
            return None
        return (
            f"It sends from {self._address[0]}, which is no longer an address of this host, as where DHCP gave it "
            "another one"
        )

    def _end(self) -> None:
        """With a last look at the late errors."""
        self._counters()
        super()._end()


def _check_octet(keyword: str, value: object) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{keyword}={value!r} is not a whole number from 0 to 255")


def _train_size(sock: socket.socket) -> int:
    """The size to which somebody made this socket cut what it sends, 0 for none."""
    if not options.SEGMENT.supported(sock.family):
        return 0
    with suppress(OSError):  # a kernel without trains
        return options.get_option(sock, options.SEGMENT)
    return 0


def _read_local(local: Local | None, group: Group) -> tuple[IPAddress | None, int]:
    """The address to send from, None for the interface's, and the port, 0 for any."""
    if local is None:
        return None, 0
    host, port = local if isinstance(local, tuple) and len(local) == 2 else (local, 0)
    if host == "" or hasattr(host, "__index__") or not hasattr(port, "__index__"):
        anywhere = "0.0.0.0" if group.family == socket.AF_INET else "::"
        raise TypeError(
            f"local={local!r} is neither an address nor (address, port), such as ({anywhere!r}, 5000) for any address"
        )
    if not 0 <= operator.index(port) <= 65535:
        raise ValueError(f"local={local!r}: the port is not in 0 to 65535")
    address = parse_address(host, what="local address")
    if address.version != group.address.version:
        raise ValueError(f"local={local!r} is of another family than the group {group}")
    if address.is_multicast:
        raise ValueError(f"local={local!r} is a multicast address; datagrams come from an address of this host")
    return None if address.is_unspecified else address, port


def _leave_by(sock: socket.socket, interface: Interface, local: IPAddress | None) -> None:
    """Have multicast leave by the interface, from `local` or its own address.

    Windows is asked by the interface's own address where it does not take the index, which Wine never does for IPv4.
    """
    own = interface.local_address(sock.family)
    try:
        options.set_option(sock, options.EGRESS, Egress(interface.index, local or own))
    except OSError as error:
        if CURRENT is not Platform.WINDOWS or not isinstance(own, IPv4Address):
            raise
        try:
            options.set_option(sock, options.EGRESS, Egress(0, own))
        except OSError:
            raise error from None


def _point(sock: socket.socket, group: Group, interface: Interface, local: IPAddress | None, port: int) -> None:
    """Bind the source, if one was asked for, and connect to the group."""
    zone, no_zone = ((0, interface.index), (0, 0)) if sock.family == socket.AF_INET6 else ((), ())
    if local is not None or port:
        host = str(local) if local is not None else "0.0.0.0" if sock.family == socket.AF_INET else "::"
        try:
            sock.bind((host, port, *(zone if local is not None and local.is_link_local else no_zone)))
        except OSError as error:
            raise _bind_error(f"{host} port {port}", error, sock.family) from error
    try:
        # The zone of a wider scope is not the interface (RFC 4007), and Windows takes it at its word.
        sock.connect((str(group.address), group.port, *(zone if group.scope <= Scope.LINK_LOCAL else no_zone)))
    except OSError as error:
        raise os_error(Operation.SEND, f"to {group.address}%{interface}", error, family=sock.family) from error


def _bind_error(operands: str, error: OSError, family: int) -> OSError:
    if error.errno != errno.EADDRINUSE:
        made = os_error(Operation.BIND, operands, error, family=family)
        if error.errno == errno.EADDRNOTAVAIL:
            made.add_note(f"For local=: {listing(interfaces())}.")
        return made
    made = os_error(Operation.BIND, operands, error, reason=error.strerror or "")
    made.add_note(
        "Another socket holds the port of local=: leave it out for a free one, or share it with reuse=True, as the "
        "other socket must, too (SO_REUSEADDR; on macOS SO_REUSEPORT)."
    )
    return made
