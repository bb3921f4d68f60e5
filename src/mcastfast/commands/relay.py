"""`mcastfast relay`: receive here, send there, without a copy."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from mcastfast import FilterMode, interfaces
from mcastfast.commands import arguments
from mcastfast.commands.endpoints import open_receiver, open_sender
from mcastfast.commands.intake import Intake, describe_joins
from mcastfast.commands.outlet import Outlet
from mcastfast.commands.progress import Progress, Sample, announce, choose_display
from mcastfast.commands.silence import Silence
from mcastfast.commands.stopping import GRACE, Stop
from mcastfast.sockets import host_of

if TYPE_CHECKING:
    import argparse
    from ipaddress import IPv6Address

    from mcastfast import Membership, Receiver, Sender
    from mcastfast.commands.arguments import Subparsers

_LARGEST_DATAGRAM = 65535
_ALL_HOSTS = IPv4Address("255.255.255.255")

_DETAILS = """\
FROM and TO are each a group, [source@]group[%interface]:port, or a unicast
host:port ([fd00::7]:port). FROM may be :port, any IPv4 address of this host, TO
a broadcast address.

Payloads pass unchanged and in order; source address and TTL become new.
  kernel drops        lost because the receive buffer was full: see --buffer
  in memory           received by --background, and not yet sent
  overrun             lost because the memory of --background was full
  foreign             came for another group or interface, and was left out
  truncated           longer than --max-datagram, and cut
  device queue full   how often the way out was full; what it refused was sent
                      again
  oversize            more than a datagram of the way out carries, or over its
                      MTU (--no-fragment), and left out
  late errors         reported by the network as undeliverable, as when nobody
                      listens at a unicast TO
  not sent            received, but the way out did not take it for a second
                      after the end
Ctrl-C ends it with a summary and exit code 0. What is in memory then is sent
first; a second Ctrl-C gives that up.
The summary's rates are those from the first batch to the last, without what the
first one brought.

examples:
  mcastfast relay 239.1.2.3%eth0:5000 192.0.2.7:5000
  mcastfast relay :5000 239.1.2.3:5000 --out-interface eth0 --ttl 4
  mcastfast relay 10.0.0.7@232.1.2.3%eth0:5000 239.1.2.3%eth1:5000
  mcastfast relay 239.1.2.3%eth0:5000 192.0.2.255:5000
  mcastfast relay 239.1.2.3%eth0:5000 239.1.2.3%eth1:5000
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = arguments.add_command(
        subparsers, "relay", "receive at one address, send to another, multicast or unicast", _DETAILS
    )
    parser.add_argument("source_address", metavar="FROM", help="where to receive")
    parser.add_argument("target_address", metavar="TO", help="where to send")
    parser.add_argument(
        "-i",
        "--interface",
        "--in-interface",
        action=arguments.Once,
        metavar="NAME",
        help='interface of FROM, or "all" (default: the route decides)',
    )
    parser.add_argument(
        "-O",
        "--out-interface",
        action=arguments.Once,
        metavar="NAME",
        help="interface of TO (default: the route decides)",
    )
    arguments.add_end_options(parser)
    arguments.add_receiver_options(parser, max_datagram=_LARGEST_DATAGRAM)
    arguments.add_engine_option(parser)
    arguments.add_sender_options(parser)
    parser.add_argument("--send-buffer", type=arguments.size, metavar="SIZE", help="send buffer to ask the kernel for")
    arguments.add_quiet_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Relay until the end."""
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop())
        sender = stack.enter_context(open_sender(args.target_address, args))
        silence = Silence()
        receiver = stack.enter_context(open_receiver(args.source_address, args))
        _refuse_circle(receiver, sender)
        outlet = Outlet(sender, skip_oversize=True)
        announce(f"{describe_joins(receiver)}\nsending to {sender}", quiet=args.quiet)
        intake = Intake.of(receiver, args)
        progress = stack.enter_context(
            Progress(
                lambda: Sample((intake.received, outlet.sent), intake.losses + outlet.losses),
                choose_display(quiet=args.quiet),
            )
        )
        stop.end_after(args.duration)
        if intake.pass_on(lambda batch: outlet.send(batch, stop, progress, grace=GRACE), stop, progress):
            outlet.unsent = intake.received.datagrams - sender.stats.datagrams - outlet.oversize
    silence.explain(receiver, [args.source_address], args)
    return 0


def _refuse_circle(receiver: Receiver, sender: Sender) -> None:
    """Raise ValueError where the relay would hear itself and send without end; nothing has been sent yet."""
    port = sender.destination[1]
    if port != receiver.address[1]:
        return
    target, own = host_of(sender.destination), host_of(receiver.address)
    if receiver.memberships:  # whatever it is bound to: a group may be relayed from one interface to another
        is_heard = any(_admits(membership, sender) for membership in receiver.memberships)
    else:
        is_heard = (target, sender.destination[3:]) == (own, receiver.address[3:])
    if is_heard:
        raise ValueError(f"FROM and TO are the same, {target} port {port}: the relay would feed itself")
    # A receiver of groups hears its own family alone, any other socket of IPv6 IPv4 too.
    is_of_family = own.version == target.version or (own.version == 6 and not receiver.memberships)
    if own.is_unspecified and is_of_family and _is_here(target, *sender.destination[3:]):
        raise ValueError(
            f"FROM hears what comes to any address of this host, and TO is {target} port {port}: the relay would feed "
            "itself; choose another port, or let FROM name an address"
        )


def _admits(membership: Membership, sender: Sender) -> bool:
    """Whether what the sender sends is of the membership: its group, on its interface, from a source that it takes."""
    if sender.interface is None or sender.interface.index != membership.interface.index:
        return False
    is_taken = membership.mode is FilterMode.EXCLUDE or host_of(sender.address) in membership.sources
    return is_taken and host_of(sender.destination) == membership.group


def _is_here(host: IPv4Address | IPv6Address, zone: int = 0) -> bool:
    """Whether what is sent there comes to this host: to loopback, or to an address of an interface, or to all hosts."""
    if host.is_loopback or host == _ALL_HOSTS:
        return True
    return any(
        host in (own.ip, own.network.broadcast_address if own.version == 4 else own.ip)
        for interface in interfaces()
        if zone in (0, interface.index)
        for own in interface.addresses
    )
