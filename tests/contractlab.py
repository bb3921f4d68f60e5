"""How what docs/platforms.toml names is brought about: one small effect for each, on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import netlab
import pytest
from clilab import run, running
from contract import CONTRACT, Row
from netlab import wait_until
from receivelab import V4, at, receive, sources
from sendlab import LARGE, Wire
from traffic import PATIENCE, bound_socket, connected_sender, duplicate

import mcastfast
from mcastfast import (
    ENGINES,
    Background,
    Batch,
    Datagram,
    DatagramFlag,
    FilterMode,
    Interface,
    KernelTimestampWarning,
    Receiver,
    ReceiverSet,
    ReceiverStats,
    Sender,
    SenderStats,
    UnsupportedError,
    interfaces,
)
from mcastfast.buffers import set_buffer
from mcastfast.commands.selftest_machine import wine_version
from mcastfast.errors import CURRENT, Platform
from mcastfast.options import PACKET_INFO, RECEIVE_BUFFER, RECEIVE_HOPS, RECEIVE_TOS, set_option
from mcastfast.timestamps import warn_of_kernel_timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netlab import Link

CORE = Platform.MACOS if os.environ.get("MCASTFAST_SYSTEM") == "darwin" else CURRENT
"""The system whose C core this is."""

PAYLOADS = [b"one", b"two"]
SMALL = 4096
"""A receive buffer that a few datagrams fill."""


def is_here(row: Row) -> bool:
    return CORE in row.on


def is_sent(row: Row) -> bool:
    """Whether datagrams of this system have what the row tells of: Windows sends 0 as a type of service."""
    return row.what != "tos" or CORE is not Platform.WINDOWS or bool(wine_version())


def names(section: str, *, here: bool = False) -> set[str]:
    return {row.what for row in CONTRACT[section] if is_here(row) or not here}


def assert_passes(receiver: Receiver, sender: Sender) -> None:
    assert sender.send_batch(PAYLOADS) == len(PAYLOADS)
    assert receive(receiver, len(PAYLOADS)) == PAYLOADS


@contextlib.contextmanager
def opened(link: Link, group: str = V4.group, **options: Any) -> Iterator[tuple[Receiver, Sender]]:
    """A receiver with these options of a group on the loopback interface, and a sender to it."""
    with Receiver(at(group, link), **options) as receiver, Sender(at(group, link)) as sender:
        yield receiver, sender


def taken(receiver: Receiver) -> list[Batch]:
    """At least one batch, and what is there then."""
    batches = [receiver.recv_batch(PATIENCE)]
    with contextlib.suppress(BlockingIOError):
        while True:
            batches.append(receiver.recv_batch(timeout=0))
    return batches


def loopback_of(link: Link) -> Interface:
    return next(interface for interface in interfaces() if interface.index == link.index)


# Names


class Shown(NamedTuple):
    """A receiver and a sender, and a batch that went from one to the other."""

    receiver: Receiver
    sender: Sender
    batch: Batch
    link: Link


class StingySocket:
    """Grants a tenth of the buffer that it is asked for."""

    family = socket.AF_INET

    def setsockopt(self, _level: int, _number: int, value: bytes, /) -> None:
        self.size = int.from_bytes(value, "little") // 10

    def getsockopt(self, _level: int, _number: int, size: int, /) -> bytes:
        return self.size.to_bytes(size, "little")


def clamps() -> bool:
    with pytest.warns(mcastfast.BufferClampedWarning):
        return set_buffer(StingySocket(), RECEIVE_BUFFER, 100_000) < 100_000


def warns_of_lo(link: Link) -> bool:
    with pytest.warns(KernelTimestampWarning, match="its datagrams carry the kernel's timestamps"):
        warn_of_kernel_timestamps([loopback_of(link)])
    return True


def is_refused() -> bool:
    with pytest.raises(UnsupportedError):
        PACKET_INFO._replace(rows=()).place(socket.AF_INET)
    return True


def is_served(shown: Shown) -> bool:
    with ReceiverSet([shown.receiver]) as served:
        shown.sender.send(b"payload")
        return served.recv_batch(PATIENCE)[0] is shown.receiver


USES: dict[str, Callable[[Shown], bool]] = {
    "ENGINES": lambda _: ENGINES[0] == "socket",
    "TTL": lambda _: mcastfast.TTL(1) is mcastfast.TTL.SUBNET,
    "Background": lambda _: Background("1 MiB").name == "mcastfast",
    "Batch": lambda _: Batch(bytearray(4096), max_datagram=1024).capacity == 4,
    "BufferClampedWarning": lambda _: clamps(),
    "Datagram": lambda shown: isinstance(shown.batch[0], Datagram),
    "DatagramFlag": lambda shown: DatagramFlag(shown.batch.flags[0]) is DatagramFlag(0),
    "FilterMode": lambda shown: shown.receiver.memberships[0].mode is FilterMode.EXCLUDE,
    "Group": lambda _: mcastfast.Group.parse("239.1.2.3:5000").port == 5000,
    "GroupFlag": lambda _: mcastfast.Group.parse("[ff15::1]:5000").flags is mcastfast.GroupFlag.T,
    "Interface": lambda shown: isinstance(shown.receiver.interface, Interface),
    "KernelTimestampWarning": lambda shown: warns_of_lo(shown.link),
    "Membership": lambda shown: isinstance(shown.receiver.memberships[0], mcastfast.Membership),
    "Receiver": lambda shown: shown.batch.payloads() == [b"payload"],
    "ReceiverSet": is_served,
    "ReceiverStats": lambda shown: shown.receiver.stats == ReceiverStats(**shown.receiver.stats._asdict()),
    "Refusal": lambda _: mcastfast.Refusal._fields == ("group", "interface", "error"),
    "Ring": lambda _: mcastfast.Ring("1 MiB").size == "1 MiB",
    "SSMAllocation": lambda _: (
        mcastfast.Group.parse("10.0.0.7@232.1.2.3:5000").ssm_allocation is mcastfast.SSMAllocation.HOST
    ),
    "Scope": lambda _: mcastfast.Group.parse("[ff15::1]:5000").scope is mcastfast.Scope.SITE_LOCAL,
    "Sender": lambda shown: shown.sender.destination == (V4.group, 5000),
    "SenderStats": lambda shown: shown.sender.stats == SenderStats(1, 1, 7, 0, 0, 0),
    "UnsupportedError": lambda _: is_refused(),
    "interfaces": lambda shown: loopback_of(shown.link).is_loopback,
}
"""What a name is of use for."""


# Datagrams


def shown_in_all_ways(link: Link) -> list[Batch]:
    """Batches in which everything that this system can tell is told: some datagrams are cut, and some were dropped."""
    asked = names("metadata", here=True) - {"hardware_timestamp"}
    with (
        Receiver(at(V4.group, link), metadata=asked, receive_buffer=SMALL, max_datagram=100) as receiver,
        Sender(at(V4.group, link), traffic_class=40) as sender,
    ):
        sender.send_batch([bytes([255]) * 200] * 300)
        batches = taken(receiver)
        sender.send(b"after")
        return [*batches, receiver.recv_batch(PATIENCE)]


def flags_of(batches: list[Batch]) -> int:
    seen = 0
    for batch in batches:
        for flags in batch.flags:
            seen |= flags
    return seen


def flags_of_a_train(link: Link) -> int:
    asked = names("metadata", here=True) & {"timestamp"}
    with opened(link, background="8 MiB", metadata=asked) as (receiver, sender):
        sender.send_batch([bytes(100)] * 20)
        return flags_of(taken(receiver))


def flags_of_devices(link: Link) -> int:
    """Those that may come: no device of the tests has a clock."""
    return DatagramFlag.HARDWARE_TIME * ("hardware_timestamp" in names("metadata", here=True))


def flags_without_room(link: Link) -> int:
    return flags_of(batches_without_room()[0])


MUCH_CONTROL = {
    (socket.SOL_SOCKET, 35): 1,  # SO_TIMESTAMPNS
    (socket.SOL_SOCKET, 37): 0x18,  # SO_TIMESTAMPING: software, reported
    (socket.IPPROTO_IP, 6): 1,  # IP_RECVOPTS
    (socket.IPPROTO_IP, 7): 1,  # IP_RETOPTS
    (socket.IPPROTO_IP, 20): 1,  # IP_RECVORIGDSTADDR
}
"""Options of Linux, which has room for some beside what is asked for."""
FULL_ROUTE = bytes([7, 39, 40, *[0] * 37])
"""An option of a datagram: a record of its route without room, and the end. RFC 791."""


def tell_more(sock: socket.socket, sender: Sender) -> None:
    """Have an IPv4 socket tell more of the sender's datagrams than a receiver has room for that asks for one thing."""
    for option in (PACKET_INFO, RECEIVE_TOS, RECEIVE_HOPS):
        set_option(sock, option, True)
    if CORE is Platform.LINUX:
        for (level, number), value in MUCH_CONTROL.items():
            sock.setsockopt(level, number, value)
        with duplicate(sender.fileno()) as own:
            own.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, FULL_ROUTE)


def batches_without_room() -> tuple[list[Batch], ReceiverStats]:
    """From a socket that tells more than is asked for."""
    sock = bound_socket()
    with Receiver.from_socket(sock, metadata=["tos"]) as receiver, connected_sender(receiver.address) as sender:
        tell_more(sock, sender)
        sender.send(b"payload")
        return taken(receiver), receiver.stats


FLAGS: dict[str, Callable[[Link], int]] = {
    "TRUNCATED": lambda link: flags_of(shown_in_all_ways(link)),
    "CONTROL_TRUNCATED": flags_without_room,
    "HARDWARE_TIME": flags_of_devices,
    "SHARED_TIME": flags_of_a_train,
}
"""Which flags come where this one can."""


# Counters


def stats_of_a_flow(link: Link) -> ReceiverStats:
    with opened(link) as (receiver, sender):
        assert_passes(receiver, sender)
        return receiver.stats


def stats_of_trains(link: Link) -> ReceiverStats:
    with opened(link, background="8 MiB") as (receiver, _):
        return receiver.stats


def stats_of_an_overflow(link: Link) -> ReceiverStats:
    with opened(link, receive_buffer=SMALL) as (receiver, sender):
        sender.send_batch([bytes(1000)] * 300)
        assert 0 < sum(map(len, taken(receiver))) < 300
        return receiver.stats


def stats_of_an_overrun(link: Link) -> ReceiverStats:
    with opened(link, background=2**21, coalesce=False) as (receiver, sender):

        def is_overrun() -> int:
            sender.send_batch([bytes(100)] * 50)
            return receiver.stats.overrun

        wait_until(is_overrun, PATIENCE, what="the memory to be used up")
        return receiver.stats


def stats_of_a_cut(link: Link) -> ReceiverStats:
    with opened(link, max_datagram=1) as (receiver, sender):
        sender.send(b"long")
        assert receive(receiver, 1) == [b"l"]
        return receiver.stats


def stats_without_room(link: Link) -> ReceiverStats:
    return batches_without_room()[1]


def stats_after_a_leave(link: Link) -> ReceiverStats:
    """What had come for a group that was left then."""
    with opened(link, bind="any") as (receiver, sender), sources(link) as (source,):
        receiver.join(V4.other)
        source.send(V4.other, b"foreign")
        assert select.select([receiver], [], [], PATIENCE)[0]
        receiver.leave(V4.other)
        assert_passes(receiver, sender)
        return receiver.stats


def stats_of_a_ring(_: Link) -> ReceiverStats:
    """Of a ring that got fragments and a wrong checksum, and of which so much is held that what comes is copied."""
    from packetlab import BLOCK, Frames, packet_receiver

    with (
        netlab.lan() as lan,
        packet_receiver(V4.group, lan.receiver, ring=8 * BLOCK) as ring,
        sources(lan.sender) as (source,),
        contextlib.closing(Frames(lan.sender, V4)) as frames,
    ):
        source.send(V4.group, bytes(4000))
        frames.send(frames.ip(frames.udp(b"bad", 0x1234)))
        held = []
        while not ring.stats.copied:
            source.send(V4.group, b"payload")
            held.append(ring.recv_batch(PATIENCE))
        return ring.stats


OF_A_RING = dict.fromkeys(("held_blocks", "copied", "fragments", "bad_checksums"), stats_of_a_ring)
RECEIVED: dict[str, Callable[[Link], ReceiverStats]] = {
    "kernel_drops": stats_of_an_overflow,
    "kernel_drops_exact": stats_of_trains,
    "overrun": stats_of_an_overrun,
    "truncated": stats_of_a_cut,
    "control_truncated": stats_without_room,
    "foreign": stats_after_a_leave,
    **(OF_A_RING if "packet" in names("engines", here=True) else {}),
}
"""What shows that a counter counts, where that takes more than a flow of datagrams."""


def stats_of_batches(link: Link) -> SenderStats:
    """Runs of payloads of one size, which may leave in trains."""
    with opened(link) as (receiver, sender):
        assert sender.send_batch([bytes(100)] * 20) == 20
        assert len(receive(receiver, 20)) == 20
        return sender.stats


def stats_of_a_full_queue(_: Link) -> SenderStats:
    """Of a device that lets one payload through, and three wait."""
    with netlab.lan() as lan, Wire(lan, V4, "auto") as wire:
        wire.throttle("3kbit", burst=1500, limit=5000)
        sender = wire.sender()
        with pytest.raises(OSError, match="No buffer space available"):
            sender.send_batch([bytes(LARGE)] * 20)
        return sender.stats


def stats_of_nobody_there(_: Link) -> SenderStats:
    """Of a sender to a port that is closed, which the network reports for each datagram."""
    with bound_socket() as gone:
        closed = gone.getsockname()
    with connected_sender(closed) as sender:
        for number in range(20):
            sender.send(b"%d" % number)
        return sender.stats


SENT: dict[str, Callable[[Link], SenderStats]] = {
    "send_drops": stats_of_a_full_queue,
    "late_errors": stats_of_nobody_there,
}
"""What shows that a counter counts, where that takes more than batches."""


# Commands

GROUP = f"{V4.group}:5000"


def command_recv(link: Link, folder: Path) -> bool:
    file = folder / "received"
    arguments = ("recv", GROUP, "--interface", link.name, "--count", "2", "--output", str(file))
    with running(link.namespace, *arguments, until="joined") as command, Sender(at(V4.group, link)) as sender:
        sender.send_batch(PAYLOADS)
        return command.finish().code == 0 and file.read_bytes() == b"".join(PAYLOADS)


def command_send(link: Link, _: Path) -> bool:
    with Receiver(at(V4.group, link)) as receiver:
        result = run(link.namespace, "send", GROUP, "--interface", link.name, "--count", "2", "--size", "8")
        return result.code == 0 and len(receive(receiver, 2)) == 2


def command_relay(link: Link, _: Path) -> bool:
    with bound_socket() as target:
        target.settimeout(PATIENCE)
        host, port = target.getsockname()
        arguments = ("relay", GROUP, f"{host}:{port}", "--interface", link.name, "--count", "2")
        with running(link.namespace, *arguments, until="^sending to") as command, Sender(at(V4.group, link)) as sender:
            sender.send_batch(PAYLOADS)
            return [target.recv(100) for _ in PAYLOADS] == PAYLOADS and command.finish().code == 0


def command_interfaces(link: Link, _: Path) -> bool:
    result = run(link.namespace, "interfaces")
    return result.code == 0 and link.ipv4 in result.text


def command_groups(link: Link, _: Path) -> bool:
    with Receiver(at(V4.group, link)):
        result = run(link.namespace, "groups")
        return result.code == 0 and V4.group in result.text


def command_bench(link: Link, _: Path) -> bool:
    result = run(link.namespace, "bench", "--duration", "0.1", "--count", "100")
    return result.code == 0 and "socket.recvfrom" in result.text


def command_selftest(link: Link, _: Path) -> bool:
    result = run(link.namespace, "selftest")
    return result.code == 0 and "ok      IPv4 socket" in result.text


COMMANDS: dict[str, Callable[[Link, Path], bool]] = {
    "recv": command_recv,
    "send": command_send,
    "relay": command_relay,
    "interfaces": command_interfaces,
    "groups": command_groups,
    "bench": command_bench,
    "selftest": command_selftest,
}
"""Whether a command does its work."""
