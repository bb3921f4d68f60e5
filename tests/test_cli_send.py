"""`mcastfast send` makes datagrams of standard input, of a file, or of nothing, and sends them as it is told to."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from clilab import COMMAND, TIMEOUT, is_in, run, running
from netlab import throttle, wait_until
from receivelab import plain_join, plain_socket

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netlab import Lan, Link

pytestmark = pytest.mark.needs("namespaces")

GROUP = "239.1.2.3:5000"
UDP_GRO = 104
DATA = bytes(range(256)) * 20


@pytest.fixture
def receiver(lan: Lan) -> Iterator[Receiver]:
    with (
        lan.receiver.namespace,
        Receiver(GROUP, interface=lan.receiver.name, metadata=["hops"], max_datagram=65507) as receiver,
    ):
        yield receiver


def received(receiver: Receiver, number: int) -> list[bytes]:
    """So many payloads, and no more are there."""
    payloads: list[bytes] = []
    while len(payloads) < number:
        payloads += receiver.recv_batch(TIMEOUT).payloads()
    with pytest.raises(BlockingIOError):
        receiver.recv_batch(0)
    return payloads


def test_generated_datagrams_are_numbered(lan: Lan, receiver: Receiver, engine: str) -> None:
    args = ("send", GROUP, "-i", lan.sender.name, "--count", "100", "--size", "20", "--engine", engine)
    result = run(lan.sender.namespace, *args)
    assert result.code == 0
    assert received(receiver, 100) == [number.to_bytes(8, "big") + bytes(12) for number in range(100)]
    assert "sending generated datagrams of 20 bytes to 239.1.2.3" in result.stderr
    assert re.search(r"^sent 100 datagrams, 2\.0 kB in ", result.stderr, re.MULTILINE)


def test_a_file_may_stand_behind_the_options(lan: Lan, receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA[:700])
    result = run(lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, str(path), "--size", "700")
    assert result.code == 0
    assert received(receiver, 1) == [DATA[:700]]


def test_standard_input_is_cut_into_pieces(lan: Lan, receiver: Receiver) -> None:
    result = run(lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "--size", "1000", stdin=DATA)
    assert result.code == 0
    assert received(receiver, 6) == [DATA[start : start + 1000] for start in range(0, len(DATA), 1000)]


@pytest.mark.parametrize("options", [("--rate", "1000"), ("--count", "2"), ("--duration", "0.1")], ids=str)
def test_a_pipe_is_not_ignored_for_generated_datagrams(lan: Lan, receiver: Receiver, options: tuple[str, ...]) -> None:
    refused = run(lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "-q", *options, stdin=b"hello")
    assert refused.code == 2
    assert refused.stderr == (
        "mcastfast: error: standard input is a pipe, and without a FILE this would not send it but generate datagrams: "
        f"write - to send it, or < {os.devnull} to generate\n"
    )
    assert run(lan.sender.namespace, "send", GROUP, "-", "-i", lan.sender.name, *options, stdin=b"hello").code == 0
    assert received(receiver, 1) == [b"hello"]


def test_a_file_as_standard_input_is_not_ignored_either(lan: Lan, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        args = ("send", GROUP, "-i", lan.sender.name, "--rate", "1000")
        with running(lan.sender.namespace, *args, stdin=file.fileno()) as command:
            refused = command.finish()
    assert refused.code == 2
    assert "standard input is a file, and without a FILE" in refused.stderr


def test_closed_standard_input_leaves_nothing_to_ignore(lan: Lan, receiver: Receiver) -> None:
    with lan.sender.namespace:
        shell = ("sh", "-c", '"$@" <&-', "sh", *COMMAND, "send", GROUP, "-i", lan.sender.name, "--count", "1")
        subprocess.run([*shell, "--size", "8"], check=True, capture_output=True, timeout=TIMEOUT)
    assert received(receiver, 1) == [bytes(8)]


def test_pieces_are_whole_however_the_pipe_was_written(lan: Lan, receiver: Receiver) -> None:
    with running(
        lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "--size", "4", stdin=subprocess.PIPE
    ) as command:
        assert command.process.stdin
        for part in (b"ab", b"cdef", b"g"):
            command.process.stdin.write(part)
            command.process.stdin.flush()
        assert receiver.recv_batch(TIMEOUT).payloads() == [b"abcd"]
        assert command.finish().code == 0
    assert received(receiver, 1) == [b"efg"]


def test_a_file_is_sent_at_the_rate_in_bits(lan: Lan, receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    args = ("send", GROUP, str(path), "-i", lan.sender.name, "--size", "512", "--rate", "100kbit/s")
    result = run(lan.sender.namespace, *args)
    assert result.code == 0
    assert received(receiver, 10) == [DATA[start : start + 512] for start in range(0, len(DATA), 512)]
    took = re.search(r"in (\d+\.\d) s", result.stderr)
    assert took
    assert float(took[1]) >= 9 * 512 * 8 / 100e3 - 0.1


def test_the_summary_shows_the_rate_of_a_short_run(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "-i", lan.sender.name, "--rate", "10", "--count", "3", "--size", "8")
    result = run(lan.sender.namespace, *args)
    shown = re.search(r"^sent 3 datagrams, .*: (\d+) datagrams/s", result.stderr, re.MULTILINE)
    assert shown
    assert 5 <= int(shown[1]) <= 11  # a host that is busy may be late


def test_bits_are_those_of_each_line(lan: Lan, receiver: Receiver) -> None:
    lines = [b"x" * size for size in (500, 10, 1000, 10)]
    args = ("send", GROUP, "-", "-i", lan.sender.name, "--lines", "--rate", "40 kbit/s")
    result = run(lan.sender.namespace, *args, stdin=b"\n".join(lines))
    assert result.code == 0
    assert received(receiver, 4) == lines
    took = re.search(r"in (\d+\.\d) s", result.stderr)
    assert took
    assert float(took[1]) >= 1510 * 8 / 40e3 - 0.1


def test_bits_on_the_wire_count_headers(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "-i", lan.sender.name, "--size", "1", "-c", "6", "--rate", "6720 bit/s")
    result = run(lan.sender.namespace, *args, "--rate-counts", "wire")
    assert result.code == 0
    received(receiver, 6)
    took = re.search(r"in (\d+\.\d) s", result.stderr)
    assert took
    assert float(took[1]) >= 5 * 84 * 8 / 6720 - 0.1


def test_burst_lets_trains_go(loopback: Link) -> None:
    with plain_socket(socket.AF_INET, port=5000) as sock:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        plain_join(sock, GROUP.partition(":")[0], loopback.index)
        options = ("-c", "10", "--size", "100", "--segment", "--rate", "100k", "--burst", "4")
        assert run(loopback.namespace, "send", GROUP, "-i", "lo", *options).code == 0
        assert [len(sock.recv(65535)) for _ in range(3)] == [400, 400, 200]


def test_lines_are_datagrams(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "-", "-i", lan.sender.name, "--lines", "--rate", "1000")
    assert run(lan.sender.namespace, *args, stdin=b"one\ntwo\r\n\nlast").code == 0
    assert received(receiver, 4) == [b"one", b"two", b"", b"last"]


@pytest.mark.parametrize("at_once", [(), ("--rate", "10")], ids=["batch", "one by one"])
def test_a_line_that_no_datagram_carries_is_told_by_its_number(
    lan: Lan, receiver: Receiver, at_once: tuple[str, ...]
) -> None:
    args = ("send", GROUP, "-", "-i", lan.sender.name, "--lines", *at_once)
    result = run(lan.sender.namespace, *args, stdin=b"one\ntwo\n" + b"x" * 70_000 + b"\nfour\n")
    assert result.code == 1
    assert received(receiver, 2) == [b"one", b"two"]
    assert "\nmcastfast: error: line 3 has 70000 bytes, a datagram carries at most 65507\n" in result.stderr
    assert result.stderr.endswith(" before it were sent. Without --lines the input goes in pieces of --size.\n")


def test_ttl_is_what_was_asked_for(lan: Lan, receiver: Receiver) -> None:
    assert run(lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "-c", "1", "--ttl", "7").code == 0
    assert receiver.recv_batch(TIMEOUT)[0].hops == 7


def test_local_address_is_the_source(lan: Lan, receiver: Receiver) -> None:
    other = "10.77.1.99"
    lan.sender.namespace.ip.addr("add", index=lan.sender.index, address=other, prefixlen=24)
    assert run(lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "-c", "1", "--local", other).code == 0
    assert receiver.recv_batch(TIMEOUT)[0].source[0] == other


@pytest.mark.parametrize(("option", "heard"), [("--loopback", True), ("--no-loopback", False)])
def test_loopback_decides_whether_this_host_hears_it(lan: Lan, option: str, heard: bool) -> None:
    with lan.sender.namespace, Receiver(GROUP, interface=lan.sender.name) as own:
        assert run(lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "-c", "1", option).code == 0
        if heard:
            assert len(own.recv_batch(TIMEOUT)) == 1
        else:
            with pytest.raises(BlockingIOError):
                own.recv_batch(0)


def test_port_is_that_of_a_group_that_names_none(lan: Lan, receiver: Receiver) -> None:
    result = run(lan.sender.namespace, "send", "239.1.2.3", "--port", "5000", "-i", lan.sender.name, stdin=b"hello")
    assert result.code == 0
    assert received(receiver, 1) == [b"hello"]


def test_duration_ends_generated_datagrams(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "-i", lan.sender.name, "--duration", "0.3", "--rate", "100", "--size", "8")
    result = run(lan.sender.namespace, *args)
    assert result.code == 0
    sent = re.search(r"^sent (\d+) datagrams, \d+ B in 0\.\d s", result.stderr, re.MULTILINE)
    assert sent
    number = int(sent[1])
    assert received(receiver, number) == [count.to_bytes(8, "big") for count in range(number)]


def test_duration_ends_the_wait_for_the_next_turn(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "-i", lan.sender.name, "--duration", "0.2", "--rate", "0.01", "--size", "8")
    result = run(lan.sender.namespace, *args)
    assert result.code == 0
    assert received(receiver, 1) == [bytes(8)]
    assert "sent 1 datagram, 8 B in " in result.stderr


def test_signal_ends_the_wait_for_the_next_turn_in_which_progress_is_shown(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "-i", lan.sender.name, "--rate", "0.01", "--size", "8")
    with running(lan.sender.namespace, *args) as command:
        for _ in range(2):
            command.wait_for(r" s   sent +1 ")
        result = command.finish(signal.SIGINT)
    assert result.code == 0
    assert "sent 1 datagram, 8 B in " in result.stderr
    assert received(receiver, 1) == [bytes(8)]


def test_duration_ends_input_that_goes_on(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "/dev/zero", "-i", lan.sender.name, "--duration", "0.3", "--rate", "100", "--size", "8")
    result = run(lan.sender.namespace, *args)
    assert result.code == 0
    assert re.search(r"^sent \d+ datagrams, \d+ B in 0\.\d s", result.stderr, re.MULTILINE)


@pytest.mark.parametrize("options", [(), ("--lines",)], ids=["pieces", "lines"])
def test_duration_ends_the_wait_for_input(lan: Lan, receiver: Receiver, options: tuple[str, ...]) -> None:
    args = ("send", GROUP, "-", "-i", lan.sender.name, "--duration", "0.2", *options)
    with running(lan.sender.namespace, *args, stdin=subprocess.PIPE) as command:
        stdin = command.process.stdin
        assert stdin
        stdin.write(b"half a line")
        stdin.flush()
        assert command.process.wait(TIMEOUT) == 0  # nobody has closed the pipe
        assert re.search(r"^sent 0 datagrams, ", command.finish().stderr, re.MULTILINE)


def test_what_is_over_the_mtu_goes_in_fragments_unless_refused(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "-i", lan.sender.name, "-c", "1", "--size", "3000")
    assert run(lan.sender.namespace, *args).code == 0
    assert received(receiver, 1) == [bytes(3000)]
    refused = run(lan.sender.namespace, *args, "--no-fragment")
    assert refused.code == 1
    assert re.search(r"^mcastfast: error: send to 239\.1\.2\.3", refused.stderr, re.MULTILINE)


@pytest.mark.parametrize("segment", [True, False])
def test_segment_sends_trains(loopback: Link, segment: bool) -> None:
    with plain_socket(socket.AF_INET, port=5000) as sock:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)  # takes a train as it comes
        plain_join(sock, GROUP.partition(":")[0], loopback.index)
        options = ["--segment"] if segment else []
        assert run(loopback.namespace, "send", GROUP, "-i", "lo", "-c", "10", "--size", "100", *options).code == 0
        assert len(sock.recv(65535)) == (1000 if segment else 100)


@pytest.mark.needs("token_bucket")
def test_what_a_full_device_queue_refuses_is_sent_again(lan: Lan, receiver: Receiver) -> None:
    throttle(lan.sender, "2mbit", burst=1500, limit=6000)  # four datagrams wait
    result = run(lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "--count", "70", "--size", "1000")
    assert result.code == 0
    payloads: list[bytes] = []
    while len(payloads) < 70:
        payloads += receiver.recv_batch(TIMEOUT).payloads()
    assert [int.from_bytes(payload[:8], "big") for payload in payloads] == list(range(70))
    assert re.search(r"^device queue full [1-9]", result.stderr, re.MULTILINE)


@pytest.mark.needs("ipv6")
def test_ipv6_groups_are_sent_to(lan: Lan) -> None:
    group = "[ff15::77]:5000"
    with lan.receiver.namespace, Receiver(group, interface=lan.receiver.name) as receiver:
        assert run(lan.sender.namespace, "send", group, "-i", lan.sender.name, stdin=b"hello").code == 0
        assert received(receiver, 1) == [b"hello"]


@pytest.mark.needs("ipv6")
def test_size_is_at_most_what_a_datagram_of_the_family_carries(lan: Lan) -> None:
    group = "[ff15::77]:5000"
    args = ("send", group, "-i", lan.sender.name, "--count", "1", "--size")
    with lan.receiver.namespace, Receiver(group, interface=lan.receiver.name, max_datagram=65535) as receiver:
        assert run(lan.sender.namespace, *args, "65527").code == 0
        assert received(receiver, 1) == [bytes(65527)]
    refused = run(lan.sender.namespace, *args, "65528")
    assert refused.code == 2
    assert refused.stderr == "mcastfast: error: --size 65528 is over what a datagram carries, 65527 bytes\n"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signal_prints_the_summary_also_while_input_is_awaited(
    lan: Lan, receiver: Receiver, sent: signal.Signals
) -> None:
    with running(
        lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "--lines", stdin=subprocess.PIPE
    ) as command:
        assert command.process.stdin
        command.process.stdin.write(b"one\npart of a line")
        command.process.stdin.flush()
        assert received(receiver, 1) == [b"one"]
        command.process.send_signal(sent)
        assert command.process.wait(TIMEOUT) == 0
        command.wait_for("^sent 1 datagram, 3 B in ")
    with pytest.raises(BlockingIOError):
        receiver.recv_batch(0)


def test_rate_without_a_count_runs_until_the_signal(lan: Lan, receiver: Receiver) -> None:
    args = ("send", GROUP, "-i", lan.sender.name, "--rate", "100", "--size", "8")
    with running(lan.sender.namespace, *args) as command:
        command.wait_for("datagrams/s")
        result = command.finish(signal.SIGINT)
    assert result.code == 0
    sent = re.search(r"^sent ([\d,]+) datagrams", result.stderr, re.MULTILINE)
    assert sent
    number = int(sent[1].replace(",", ""))
    assert number > 1
    assert received(receiver, number)[-1] == (number - 1).to_bytes(8, "big")


def test_signal_ends_the_wait_for_a_writer_of_a_named_pipe(lan: Lan, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with running(lan.sender.namespace, "send", GROUP, str(path), "-i", lan.sender.name) as command:
        wait_until(is_in(command, "wait_for_partner"))
        result = command.finish(signal.SIGINT)
    assert result.code == 0
    assert re.search(r"^sent 0 datagrams, ", result.stderr, re.MULTILINE)
