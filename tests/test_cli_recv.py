"""`mcastfast recv` writes what it received, counts what it lost, and ends when it is told to."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clilab import TIMEOUT, is_in, run, running
from netlab import connect, wait_until

from mcastfast import Receiver, Sender, interfaces
from mcastfast.cli import main
from mcastfast.commands.silence import count_reverse_path_drops
from mcastfast.errors import CURRENT, Platform

if TYPE_CHECKING:
    from clilab import Running
    from netlab import Lan, Lan3, Link

    from mcastfast import Batch

pytestmark = pytest.mark.needs("namespaces")

GROUP = "239.1.2.3:5000"
PAYLOADS = [bytes([number]) * (number + 1) for number in range(100)]


def send(lan: Lan, payloads: list[bytes], group: str = GROUP) -> None:
    with lan.sender.namespace, Sender(group, interface=lan.sender.name) as sender:
        sender.send_batch(payloads)


def test_json_has_an_object_for_each_datagram(lan: Lan, engine: str) -> None:
    args = ("recv", GROUP, "--interface", lan.receiver.name, "--json", "--count", "100", "--engine", engine)
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, PAYLOADS)
        result = command.finish()
    assert result.code == 0
    objects = [json.loads(line) for line in result.text.splitlines()]
    assert [bytes.fromhex(item["payload"]) for item in objects] == PAYLOADS
    assert [item["length"] for item in objects] == [len(payload) for payload in PAYLOADS]
    first = objects[0]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", first["time"])
    assert {key: first[key] for key in first if key not in ("time", "source_port", "payload", "length")} == {
        "source": lan.sender.ipv4,
        "destination": "239.1.2.3",
        "destination_port": 5000,
        "interface": lan.receiver.name,
        "hops": 1,
        "tos": 0,
        "dropped": 0 if CURRENT is Platform.LINUX else None,
        "truncated": False,
    }


@pytest.mark.needs("ipv6")
def test_json_names_the_interface_of_a_link_local_source(lan: Lan) -> None:
    group = "[ff12::77]:5000"
    args = ("recv", group, "--interface", lan.receiver.name, "--json", "--count", "1")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        with lan.sender.namespace, Sender(group, interface=lan.sender.name, local=lan.sender.link_local) as sender:
            sender.send(b"hello")
        result = command.finish()
    item = json.loads(result.text)
    assert (item["source"], item["destination"]) == (
        f"{lan.sender.link_local}%{lan.receiver.name}",
        f"ff12::77%{lan.receiver.name}",
    )


def test_hex_shows_the_octets_and_where_they_came_from(lan: Lan) -> None:
    with running(
        lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "--hex", "-c", "1", until="joined"
    ) as command:
        send(lan, [b"multicast \x00\xff " + bytes(8)])
        result = command.finish()
    head, first, second, blank = result.text.split("\n")[:4]
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d\.\d{{9}}  {lan.sender.ipv4}:\d+ > {GROUP}  {lan.receiver.name}  21 bytes", head
    )
    assert first == "  0000  6d 75 6c 74 69 63 61 73  74 20 00 ff 20 00 00 00  |multicast .. ...|"
    assert second == f"  0010  {'00 00 00 00 00':<23}  {'':<23}  |.....|"
    assert blank == ""


def test_output_is_the_payloads_to_the_byte(lan: Lan, tmp_path: Path) -> None:
    path = tmp_path / "payloads"
    with running(
        lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "-o", str(path), "-c", "100", until="joined"
    ) as command:
        send(lan, PAYLOADS)
        result = command.finish()
    assert (result.code, result.stdout) == (0, b"")
    assert path.read_bytes() == b"".join(PAYLOADS)


@pytest.mark.parametrize("args", [("239.1.2.3",), (GROUP, "-i", "nosuch0")], ids=["no port", "no interface"])
def test_a_file_stays_as_it_is_when_nothing_can_be_received(lan: Lan, tmp_path: Path, args: tuple[str, ...]) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"recorded before")
    assert run(lan.receiver.namespace, "recv", *args, "-o", str(path)).code == 2
    assert path.read_bytes() == b"recorded before"


def test_output_dash_is_standard_output(lan: Lan) -> None:
    with running(
        lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "-o", "-", "-c", "100", until="joined"
    ) as command:
        send(lan, PAYLOADS)
        assert command.finish().stdout == b"".join(PAYLOADS)


def test_of_rtp_nothing_is_stripped_and_the_help_says_so(lan: Lan) -> None:
    header = bytes.fromhex("80210001000000000000002a")
    args = ("recv", f"rtp://{GROUP}", "-i", lan.receiver.name, "-o", "-", "-c", "1")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, [header + b"picture"])
        assert command.finish().stdout == header + b"picture"
    assert "rtp://, which changes nothing: payloads are shown\nand written whole" in run(None, "recv", "--help").text


@pytest.mark.parametrize("count", [1, 63, 64, 65, 99])
def test_count_takes_exactly_so_many(lan: Lan, count: int) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "-o", "-", "-c", str(count))
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, PAYLOADS)
        result = command.finish()
    assert result.stdout == b"".join(PAYLOADS[:count])
    assert f"received {count} datagram{'s' * (count > 1)}, " in result.stderr


def test_duration_ends_it(lan: Lan) -> None:
    result = run(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "--duration", "0.3")
    assert result.code == 0
    assert re.search(r"^received 0 datagrams, 0 B in 0\.3 s$", result.stderr, re.MULTILINE)


def silence(lan: Lan, *args: str) -> str:
    """What is said after a summary of nothing."""
    result = run(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "-t", "0.1", *args)
    assert result.code == 0
    return result.stderr.partition("nothing came, ")[2]


def test_silence_is_explained_after_the_summary(lan: Lan) -> None:
    setting = f"/proc/sys/net/ipv4/conf/{lan.receiver.name}/rp_filter"
    with lan.receiver.namespace, open(setting, "w") as file:
        file.write("2")
    said = silence(lan)
    assert f"{lan.receiver.name} drops what comes from a source that this host has no route to (rp_filter, 2 in" in said
    assert f"`tcpdump -ni {lan.receiver.name} udp port 5000` what arrives" in said
    assert said.endswith('"Why do I receive nothing?"\n')
    lan.sender.namespace.ip.link("set", index=lan.sender.index, state="down")
    with lan.receiver.namespace:  # the kernel tells a moment later
        wait_until(lambda: not any(interface.is_running for interface in interfaces() if not interface.is_loopback))
    assert f"  {lan.receiver.name} has no carrier\n" in silence(lan)
    assert silence(lan, "--quiet") == ""


def test_silence_is_told_with_the_choice_of_the_route(lan: Lan) -> None:
    namespace = lan.receiver.namespace
    lan.receiver.route_multicast()
    said = run(namespace, "recv", GROUP, "-t", "0.1").stderr
    assert f"  the route chose {lan.receiver.name}\n" in said
    _, other = connect(lan.sender.namespace, namespace, subnet=2)
    said = run(namespace, "recv", GROUP, "-t", "0.1").stderr
    assert f"  the route chose {lan.receiver.name}; --interface names another, as {other.name}\n" in said
    assert "the route chose" not in silence(lan)
    assert "the route chose" not in run(namespace, "recv", f"239.1.2.3%{other.name}:5000", "-t", "0.1").stderr


def test_silence_is_told_with_the_sources_that_are_let_through(lan: Lan) -> None:
    assert "  239.1.2.3 is taken from 10.0.0.7, 10.0.0.8 alone\n" in silence(lan, "-s", "10.0.0.7", "-s", "10.0.0.8")


@pytest.mark.parametrize("by", ["socket", pytest.param("packet", marks=pytest.mark.needs("packet_socket"))])
def test_silence_is_told_with_what_the_reverse_path_check_dropped(lan: Lan, by: str) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "--engine", by)
    stranger = "192.0.2.7"  # to which the receiver has no route
    with lan.receiver.namespace, open(f"/proc/sys/net/ipv4/conf/{lan.receiver.name}/rp_filter", "w") as file:
        file.write("2")
    lan.sender.namespace.ip.addr("add", index=lan.sender.index, address=stranger, prefixlen=24)
    with (
        running(lan.receiver.namespace, *args, until="joined") as command,
        lan.sender.namespace,
        Sender("239.1.2.3:6000", interface=lan.sender.name, local=stranger) as sender,
    ):
        for _ in range(3):
            sender.send(b"x")
        with lan.receiver.namespace:
            wait_until(lambda: count_reverse_path_drops() == 3)
        result = command.finish(signal.SIGINT)
    said = "  dropped meanwhile by the reverse-path check, on all interfaces: 3\n" in result.stderr
    assert said == ("(rp_filter, 2 in effect)" in result.stderr) == (by == "socket")  # a ring comes before the check


def test_options_may_stand_between_groups(lan: Lan) -> None:
    args = ("recv", "239.1.2.3", "-p", "5000", "-i", lan.receiver.name, "239.1.2.4", "-o", "-", "-c", "1")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, [b"to the second"], "239.1.2.4:5000")
        assert command.finish().stdout == b"to the second"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signal_prints_the_summary_and_is_no_failure(lan: Lan, sent: signal.Signals) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "--json")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, PAYLOADS)
        assert command.process.stdout
        lines = [command.process.stdout.readline() for _ in PAYLOADS]
        result = command.finish(sent)
    assert result.code == 0
    assert [bytes.fromhex(json.loads(line)["payload"]) for line in lines] == PAYLOADS
    assert re.search(r"^received 100 datagrams, 5\.0 kB in ", result.stderr, re.MULTILINE)
    assert result.stderr.endswith("kernel drops 0, foreign 0, truncated 0\n")


def test_quiet_writes_nothing_but_data(lan: Lan) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "--quiet", "-o", "-", "-c", "2", "-t", "30")
    with running(lan.receiver.namespace, *args) as command:
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name) as sender:
            while command.process.poll() is None:  # quiet: nothing says when it has joined
                sender.send(b"x")
        result = command.finish()
    assert (result.code, result.stdout, result.stderr) == (0, b"xx", "")


def test_progress_is_a_line_a_second_without_a_terminal(lan: Lan) -> None:
    with running(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, until="joined") as command:
        send(lan, PAYLOADS)
        line = command.wait_for("datagrams/s")
        command.finish(signal.SIGINT)
    assert re.fullmatch(
        r" +1\.\d s   received         100 +[\d,]+ datagrams/s +\d\.\d Mbit/s   "
        r"kernel drops 0   foreign 0   truncated 0\n",
        line,
    )


def test_only_the_source_that_was_named_is_received(lan3: Lan3) -> None:
    group = "232.1.2.3:5000"
    args = ("recv", group, "-i", lan3.receiver.name, "--source", lan3.second.ipv4, "-o", "-", "-c", "1")
    with running(lan3.receiver.namespace, *args, until="joined") as command:
        for link, payload in ((lan3.first, b"first"), (lan3.second, b"second")):
            with link.namespace, Sender(group, interface=link.name) as sender:
                sender.send(payload)
        assert command.finish().stdout == b"second"


def test_datagrams_that_were_cut_are_counted(lan: Lan) -> None:
    args = ("recv", GROUP, "239.1.2.4", "-p", "5000", "-i", lan.receiver.name, "--max-datagram", "50", "-c", "100")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, PAYLOADS)
        result = command.finish()
    assert result.stderr.endswith("kernel drops 0, foreign 0, truncated 50\n")


@pytest.mark.parametrize("args", [("--json",), ("--hex",), ("--output", "-")])
def test_reader_of_the_pipe_that_goes_ends_it_quietly(lan: Lan, args: tuple[str, ...]) -> None:
    with running(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, *args, until="joined") as command:
        assert command.process.stdout
        command.process.stdout.close()
        send(lan, PAYLOADS)
        assert command.process.wait(TIMEOUT) == 0
        command.wait_for(r"^received \d+ datagrams?,")
        assert "error" not in command.seen
        command.process.stdout = None


def test_signal_ends_the_wait_for_a_reader_of_a_named_pipe(lan: Lan, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with running(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "-o", str(path)) as command:
        wait_until(is_in(command, "wait_for_partner"))
        result = command.finish(signal.SIGINT)
    assert result.code == 0
    assert re.search(r"^received 0 datagrams, ", result.stderr, re.MULTILINE)


@pytest.mark.parametrize("args", [("--json",), ("--hex",), ("--output", "-")], ids=lambda args: args[0])
def test_signal_ends_the_write_to_a_reader_that_stalls_and_what_was_not_written_is_told(
    lan: Lan, args: tuple[str, ...]
) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, *args)
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, [bytes(1400)] * 100)
        wait_until(is_in(command, "pipe_write"))
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(TIMEOUT) == 0  # nobody has read the pipe
        assert re.search(r"^received \d+ datagrams?, .*\n.*, not written [1-9]", command.finish().stderr, re.MULTILINE)


def test_what_a_reader_takes_a_moment_after_the_signal_is_whole(lan: Lan) -> None:
    with running(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "-o", "-", until="joined") as command:
        send(lan, [bytes(1400)] * 100)
        wait_until(is_in(command, "pipe_write"))
        result = command.finish(signal.SIGINT)
    received = re.search(r"^received (\d+) datagrams, ", result.stderr, re.MULTILINE)
    assert received
    assert len(result.stdout) == int(received[1]) * 1400
    assert (result.code, "not written" in result.stderr) == (0, False)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_no_line_is_cut_by_a_signal(lan: Lan, monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    args = ("recv", GROUP, "-i", lan.receiver.name, "--json", "--max-datagram", "4000")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, [bytes(4000)] * 40)
        wait_until(is_in(command, "pipe_write"))
        result = command.finish(signal.SIGINT)
    assert {json.loads(line)["length"] for line in result.text.splitlines()} == {4000}
    assert result.stderr.count(f"received {len(result.text.splitlines())} datagrams, ") == 1


def test_duration_ends_the_write_to_a_reader_that_stalls(lan: Lan) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "-o", "-", "-t", "2")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        send(lan, [bytes(1400)] * 100)
        assert command.process.wait(TIMEOUT) == 0  # nobody has read the pipe
        assert re.search(r"^received \d+ datagrams?, .*\n.*, not written [1-9]", command.finish().stderr, re.MULTILINE)


def fill_memory(lan: Lan, command: Running, count: int) -> None:
    """Send as many datagrams of 1400 bytes, and wait until the thread that receives has them in memory."""
    for _ in range(count // 50):
        send(lan, [bytes(1400)] * 50)
        wait_until(lambda: queued(command) == 0)
    wait_until(is_in(command, "pipe_write"))


def queued(command: Running) -> int:
    """Bytes that the kernel holds for the sockets of the command's namespace."""
    rows = Path(f"/proc/{command.process.pid}/net/udp").read_text(encoding="ascii").splitlines()[1:]
    return sum(int(row.split()[4].partition(":")[2], 16) for row in rows)


def test_what_is_in_memory_at_the_end_is_written(lan: Lan) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "--background", "16M", "-o", "-")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        fill_memory(lan, command, 1000)
        result = command.finish(signal.SIGINT)
    assert (result.code, len(result.stdout)) == (0, 1000 * 1400)
    assert re.search(r"^received 1,000 datagrams, ", result.stderr, re.MULTILINE)
    assert result.stderr.endswith("kernel drops 0, foreign 0, truncated 0\n")


def test_what_is_in_memory_and_finds_no_reader_is_told(lan: Lan) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "--background", "16M", "-o", "-")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        fill_memory(lan, command, 1000)
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(TIMEOUT) == 0
        result = command.finish()
    found = re.search(r"^received 1,000 datagrams, .*\n.*, not written ([\d,]+)\n", result.stderr, re.MULTILINE)
    assert found
    written = 1000 - int(found[1].replace(",", ""))
    assert 0 <= len(result.stdout) - written * 1400 < 64 * 1400  # of the batch in hand a part came


def test_signal_while_a_named_pipe_has_no_reader_tells_what_is_in_memory(lan: Lan, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    args = ("recv", GROUP, "-i", lan.receiver.name, "--background", "16M", "-o", str(path))
    with running(lan.receiver.namespace, *args) as command:
        wait_until(is_in(command, "wait_for_partner"))
        send(lan, PAYLOADS)
        wait_until(lambda: queued(command) == 0)
        result = command.finish(signal.SIGINT)
    assert re.search(r"^received 100 datagrams, .*\n.*, not written 100\n", result.stderr, re.MULTILINE)
    assert result.code == 0


@pytest.mark.parametrize("args", [("recv", "-o", "-"), ("relay",)], ids=lambda args: args[0])
def test_second_signal_gives_up_what_is_in_memory(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """In the middle of a receive, as where a command is between two writes."""
    recv_batch, turns = Receiver.recv_batch, 0

    def signal_twice(receiver: Receiver, timeout: float | None = None) -> Batch:
        nonlocal turns
        turns += 1
        if turns == 1:
            with Sender(GROUP, interface="lo") as sender:
                sender.send_batch([b"x"] * 20)
            wait_until(lambda: receiver.stats.datagrams == 20)
        elif turns in (2, 4):
            signal.raise_signal(signal.SIGINT)
        return recv_batch(receiver, timeout)

    monkeypatch.setattr(Receiver, "recv_batch", signal_twice, raising=False)
    command, *options = args
    target = ["239.1.2.4:5001", "-O", "lo"] if command == "relay" else []
    assert main([command, GROUP, *target, "-i", "lo", "--background", "16M", "--batch-size", "5", *options]) == 0
    shown = capfd.readouterr().err
    assert re.search(r"^received 20 datagrams, 20 B in ", shown, re.MULTILINE)
    assert re.search(r", not (written|sent) 5$", shown, re.MULTILINE)


def test_signal_that_is_ignored_stays_so(lan: Lan) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what it starts inherits that, as from a shell's `&`
    try:
        with running(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, until="joined") as command:
            status = Path(f"/proc/{command.process.pid}/status").read_text(encoding="ascii")
    finally:
        signal.signal(signal.SIGINT, before)
    ignored = int(re.findall(r"^SigIgn:\s+(\w+)", status, re.MULTILINE)[0], 16)
    assert ignored & 1 << signal.SIGINT - 1
