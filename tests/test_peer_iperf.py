"""iperf 2 and mcastfast measure each other, any-source and source-specific."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

import pytest
from peerlab import TIMEOUT, output, run, running, wait_for_member

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from netlab import Lan, Lan3, Link

pytestmark = pytest.mark.needs("namespaces", "iperf", "ipv6")

PORT = 5001
SIZE = 200
BYTES = 20_000  # as a whole within the smallest receive buffer: nothing is lost however late the reader comes
ASM = "239.1.2.3"

groups = pytest.mark.parametrize(
    ("group", "specific"), [(ASM, False), ("232.1.2.3", True), ("ff15::77", False), ("ff3e::8000:1", True)]
)


def _with_port(group: str) -> str:
    return f"[{group}]:{PORT}" if ":" in group else f"{group}:{PORT}"


def _address(link: Link, group: str) -> str:
    return link.ipv6 if ":" in group else link.ipv4


def _client(link: Link, group: str) -> tuple[str, ...]:
    """iperf's command line for sending BYTES to the group."""
    family, target = ("-V", f"{group}%{link.name}") if ":" in group else ("-4", group)
    command = ("iperf", family, "-c", target, "-u", "-B", _address(link, group), "-T", "4", "-p", str(PORT))
    return (*command, "-l", str(SIZE), "-b", "20M", "-n", str(BYTES))


def _server(link: Link, group: str, *options: str) -> tuple[str, ...]:
    """iperf's command line for receiving one stream of the group on the link."""
    family = "-V" if ":" in group else "-4"
    return ("iperf", family, "-s", "-u", "-B", f"{group}%{link.name}", "-p", str(PORT), "-P", "1", "-i", "0", *options)


def _lost_of_total(report: str) -> tuple[int, int]:
    figures = re.search(r"(\d+)/(\d+) \([0-9.e+-]+%\)", report)
    assert figures, report
    return int(figures[1]), int(figures[2])


def _identifier(payload: bytes) -> int:
    """iperf's sequence number: 1, 2, ...; the last one of a stream is negative."""
    number: int = struct.unpack_from(">i", payload)[0]
    return number


def _stream(count: int) -> list[bytes]:
    """So many datagrams as iperf 2 makes them: lower half of the number (the last one negated), time, upper half."""
    numbers = [*range(1, count), -count]
    headers = [struct.pack(">iIIi", number, 1, abs(number) * 1000, -(number < 0)) for number in numbers]
    return [header.ljust(SIZE, b"\0") for header in headers]


@groups
def test_every_datagram_of_an_iperf_client_is_received(lan3: Lan3, engine: str, group: str, specific: bool) -> None:
    source = _address(lan3.first, group) if specific else None
    with (
        lan3.receiver.namespace,
        Receiver(_with_port(group), interface=lan3.receiver.name, source=source, engine=engine) as receiver,
    ):
        if specific:
            run(lan3.second, *_client(lan3.second, group))
        identifiers: list[int] = []
        with running(lan3.first, *_client(lan3.first, group)):
            while not identifiers or identifiers[-1] > 0:
                for datagram in receiver.recv_batch(timeout=TIMEOUT):
                    assert datagram.source[0] == _address(lan3.first, group)
                    assert len(datagram) == SIZE
                    identifiers.append(_identifier(bytes(datagram)))
    assert [abs(number) for number in identifiers] == list(range(1, len(identifiers) + 1))
    assert len(identifiers) >= BYTES // SIZE


@groups
def test_an_iperf_server_receives_every_datagram_that_is_sent(
    lan3: Lan3, engine: str, group: str, specific: bool
) -> None:
    source = _address(lan3.first, group) if specific else None
    options = ("-H", source) if source else ()
    with running(lan3.receiver, *_server(lan3.receiver, group, *options)) as server:
        wait_for_member(server, lan3.receiver, group, PORT, source=source)
        if specific:  # not asked for: were it heard, the server would end with its figures
            with lan3.second.namespace, Sender(_with_port(group), interface=lan3.second.name, engine=engine) as sender:
                sender.send_batch(_stream(7))
        with lan3.first.namespace, Sender(_with_port(group), interface=lan3.first.name, engine=engine) as sender:
            assert sender.send_batch(_stream(100)) == 100
        report = output(server)
    assert f"connected with {_address(lan3.first, group)}" in report
    assert _lost_of_total(report) == (0, 100)


def test_an_iperf_server_reports_the_datagrams_that_were_left_out(lan: Lan, engine: str) -> None:
    stream = _stream(100)
    with running(lan.receiver, *_server(lan.receiver, ASM)) as server:
        wait_for_member(server, lan.receiver, ASM, PORT)
        with lan.sender.namespace, Sender(_with_port(ASM), interface=lan.sender.name, engine=engine) as sender:
            sender.send_batch(stream[:40] + stream[43:])
        assert _lost_of_total(output(server)) == (3, 100)


def test_an_iperf_stream_relayed_to_another_group_arrives_whole(lan3: Lan3, engine: str) -> None:
    other = "239.1.2.4"
    with (
        running(lan3.second, *_server(lan3.second, other)) as server,
        lan3.receiver.namespace,
        Receiver(_with_port(ASM), interface=lan3.receiver.name, engine=engine) as receiver,
        Sender(_with_port(other), interface=lan3.receiver.name, engine=engine) as sender,
    ):
        wait_for_member(server, lan3.second, other, PORT)
        last = 1
        with running(lan3.first, *_client(lan3.first, ASM)):
            while last > 0:
                batch = receiver.recv_batch(timeout=TIMEOUT)
                assert sender.send_batch(batch) == len(batch)
                last = _identifier(bytes(batch[-1]))
        report = output(server)
    assert f"connected with {lan3.receiver.ipv4}" in report
    assert _lost_of_total(report) == (0, -last)
