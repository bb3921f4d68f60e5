"""The sides of a relay: a multicast group, or a unicast (or broadcast) address and port."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mcastfast import Receiver, Sender, interfaces
from mcastfast.buffers import set_buffer
from mcastfast.commands.intake import open_bound, open_groups
from mcastfast.commands.outlet import open_group
from mcastfast.commands.stopping import PATIENCE
from mcastfast.interface import listing
from mcastfast.options import (
    BROADCAST,
    MULTICAST_ALL,
    PATH_MTU_DISCOVERY,
    RECEIVE_ERRORS,
    REUSE_ADDRESS,
    SEND_BUFFER,
    UNICAST_HOPS,
    set_option,
)
from mcastfast.packing import PathMtu

if TYPE_CHECKING:
    import argparse

_UNICAST = re.compile(r"(?:udp://)?(?:\[(?P<bracketed>[^]\[]+)\]|(?P<bare>[^][:@/?#%]*)):(?P<port>\d{1,5})")

# What the library advises, and what stands for it at each side: there is no option for a port, and others for the
# interface and the buffer of the side that sends.
_WAY_IN = {" or pass port=": ""}
_WAY_OUT = {**_WAY_IN, "interface=": "out_interface=", "send_buffer=": "out_send_buffer="}


@dataclass(frozen=True, slots=True)
class Unicast:
    """A host, by name or address, and a port; an empty host is every address of this one (IPv4)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host or '*'}:{self.port}"


def parse_unicast(text: str) -> Unicast | None:
    """A unicast endpoint, `host:port`, `[::1]:port` or `:port`; None for what Group reads, or refuses with a reason.

    Raises ValueError for a port out of range, and for an address without one.
    """
    match = _UNICAST.fullmatch(text)
    if not match:
        _refuse_without_port(text)
        return None
    host: str = match["bracketed"] or match["bare"]
    try:
        if ip_address(host).is_multicast:
            return None
    except ValueError:
        if match["bracketed"] or re.fullmatch(r"[\d.]+", host):  # a mistyped address is no name
            return None
    port = int(match["port"])
    if not 1 <= port <= 65535:
        raise ValueError(f"{text}: port {port} is not in 1 to 65535")
    return Unicast(host, port)


def _refuse_without_port(text: str) -> None:
    host = text.removeprefix("udp://").removeprefix("[").removesuffix("]")
    try:
        address = ip_address(host)
    except ValueError:
        return
    if not address.is_multicast:
        raise ValueError(f"{text} is an address without a port: write {Unicast(host, 5000)}")


def open_receiver(text: str, args: argparse.Namespace) -> Receiver:
    """A receiver of a group, or of what is sent to an address of this host, as the options say."""
    unicast = parse_unicast(text)
    if unicast is None:
        try:
            return open_groups([text], args)
        except ValueError as error:
            raise _reworded(error, _WAY_IN) from None
    chosen = {
        "--interface": args.interface is not None,
        "--source": args.source is not None,
        "--bind": args.bind != "auto",
        "--no-strict": args.no_strict and parse_unicast(args.target_address) is not None,
    }
    for option, is_given in chosen.items():
        if is_given:
            raise ValueError(f"{option} goes with a multicast group, and {text} is unicast")
    sock = _open_socket(unicast, passive=True)
    try:
        return open_bound(sock, args)
    except BaseException:
        sock.close()
        raise


def open_sender(text: str, args: argparse.Namespace) -> Sender:
    """A sender to a group, or to one host; keywords as the options say."""
    unicast = parse_unicast(text)
    if unicast is None:
        try:
            return open_group(text, args, interface=args.out_interface, send_buffer=args.send_buffer)
        except (OSError, ValueError) as error:
            raise _reworded(error, _WAY_OUT) from None
    for option, value in (("--out-interface", args.out_interface), ("--loopback", args.loopback)):
        if value is not None:
            raise ValueError(f"{option} goes with a multicast group, and {text} is unicast")
    sock = _open_socket(unicast, passive=False, local=args.local)
    try:
        if args.ttl is not None:
            set_option(sock, UNICAST_HOPS, args.ttl)
        if args.no_fragment:
            set_option(sock, PATH_MTU_DISCOVERY, PathMtu.DO)
        if RECEIVE_ERRORS.supported(sock.family):
            set_option(sock, RECEIVE_ERRORS, True)
        if args.send_buffer is not None:
            set_buffer(sock, SEND_BUFFER, args.send_buffer)
        return Sender.from_socket(sock, segment=args.segment, timeout=PATIENCE, engine=args.engine)
    except BaseException:
        sock.close()
        raise


def _reworded(error: Exception, words: dict[str, str]) -> Exception:
    """The error in the words of one side."""

    def spell(text: str) -> str:
        for of_library, own in words.items():
            text = text.replace(of_library, own)
        return text

    text = spell((error.strerror if isinstance(error, OSError) else "") or str(error))
    made = OSError(error.errno, text) if isinstance(error, OSError) else ValueError(text)
    for note in getattr(error, "__notes__", ()):
        made.add_note(spell(note))
    return made


def _open_socket(unicast: Unicast, *, passive: bool, local: str | None = None) -> socket.socket:
    """A socket bound (passive) or connected to an endpoint, whose host is looked up."""
    call = "bind" if passive else "send to"
    flags = socket.AI_PASSIVE if passive else 0
    host = unicast.host or ("0.0.0.0" if passive else "localhost")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, unicast.port, type=socket.SOCK_DGRAM, flags=flags
        )[0]
    except socket.gaierror as error:
        raise OSError(error.errno, f"{call} {unicast}: {error.strerror}") from None
    sock = socket.socket(family, kind, protocol)
    try:
        if local is not None:
            _bind_local(sock, local)
        try:
            if passive:
                set_option(sock, REUSE_ADDRESS, True)
                # Else it hears the groups that others have joined, and so perhaps itself; IPv4's an IPv6 socket never.
                if MULTICAST_ALL.supported(family):
                    set_option(sock, MULTICAST_ALL, False)
                sock.bind(address)
            else:
                if family == socket.AF_INET:
                    set_option(sock, BROADCAST, True)  # else a broadcast address is refused
                sock.connect(address)
        except OSError as error:
            raise OSError(error.errno, f"{call} {unicast}: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_local(sock: socket.socket, local: str) -> None:
    """Send from this address."""
    try:
        sock.bind((local, 0))
    except OSError as error:
        made = OSError(error.errno, f"bind --local {local}: {error.strerror}")
        made.add_note(f"It is an address of this host, of the family of TO; {listing(interfaces())}.")
        raise made from None
