"""What the options that several commands share do to the sockets and to what comes through them."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import netlab
import pytest
from clilab import TIMEOUT, run, running
from traffic import duplicate

from mcastfast import Receiver, Sender
from mcastfast.cli import main
from mcastfast.commands.progress import LineDisplay
from mcastfast.sockets import SocketHolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netlab import Lan, Lan3, Link, Namespace

    from mcastfast import Batch

pytestmark = pytest.mark.needs("namespaces")

GROUP = "239.1.2.3:5000"
SPECIFIC = "232.1.2.3:5000"

receiving_commands = pytest.mark.parametrize("command", ["recv", "relay"])


@contextlib.contextmanager
def receiving(namespace: Namespace, command: str, *args: str) -> Iterator[Callable[[int], list[bytes]]]:
    """`recv --json`, or a relay to a unicast socket; call what is yielded for the next payloads that come out."""
    with namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        target.settimeout(TIMEOUT)
        source, *options = args
        output = ["--json"] if command == "recv" else [f"127.0.0.1:{target.getsockname()[1]}"]
        until = "^joined" if command == "recv" else "^sending to"
        with running(namespace, command, source, *output, *options, until=until) as process:
            stdout = process.process.stdout
            assert stdout

            def take(number: int) -> list[bytes]:
                if command == "recv":
                    return [bytes.fromhex(json.loads(stdout.readline())["payload"]) for _ in range(number)]
                return [target.recv(65535) for _ in range(number)]

            yield take


def send(link: Link, payload: bytes, group: str = GROUP, local: str | None = None) -> None:
    with link.namespace, Sender(group, interface=link.name, local=local) as sender:
        sender.send(payload)


@receiving_commands
@pytest.mark.parametrize(("mode", "heard"), [("any", [b"unicast", b"multicast"]), ("group", [b"multicast"])])
def test_bind_decides_whether_unicast_to_the_port_is_received(
    lan: Lan, command: str, mode: str, heard: list[bytes]
) -> None:
    args = (GROUP, "-i", lan.receiver.name, "--bind", mode)
    with receiving(lan.receiver.namespace, command, *args) as take:
        with lan.sender.namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"unicast", (lan.receiver.ipv4, 5000))
        send(lan.sender, b"multicast")
        assert take(len(heard)) == heard


@receiving_commands
def test_no_strict_joins_any_source_in_the_source_specific_range(lan: Lan, command: str) -> None:
    args = (SPECIFIC, "-i", lan.receiver.name, "--no-strict")
    with receiving(lan.receiver.namespace, command, *args) as take:
        send(lan.sender, b"any source", SPECIFIC)
        assert take(1) == [b"any source"]


RESERVED = "232.0.0.0:5000"


@pytest.mark.parametrize(
    "command",
    [("send", RESERVED, "-c", "1", "-i"), ("relay", ":5002", RESERVED, "-t", "0.1", "-O")],
    ids=["send", "relay"],
)
def test_no_strict_sends_to_a_reserved_group(lan: Lan, command: tuple[str, ...]) -> None:
    args = (*command, lan.sender.name)
    refused = run(lan.sender.namespace, *args)
    assert refused.code == 2
    assert refused.stderr.endswith("or pass --no-strict\n")
    assert run(lan.sender.namespace, *args, "--no-strict").code == 0


@receiving_commands
def test_every_source_that_is_named_is_received_and_no_other(lan3: Lan3, command: str) -> None:
    other = "10.77.1.99"
    lan3.first.namespace.ip.addr("add", index=lan3.first.index, address=other, prefixlen=24)
    args = (SPECIFIC, "-i", lan3.receiver.name, "--source", lan3.first.ipv4, "-s", lan3.second.ipv4)
    with receiving(lan3.receiver.namespace, command, *args) as take:
        send(lan3.first, b"other", SPECIFIC, local=other)
        send(lan3.first, b"first", SPECIFIC)
        assert take(1) == [b"first"]
        send(lan3.second, b"second", SPECIFIC)
        assert take(1) == [b"second"]


@receiving_commands
def test_interface_all_receives_from_each(isolated: None, command: str) -> None:
    with netlab.namespaces(3) as (inside, *outside):
        pairs = [netlab.connect(inside, other, subnet=number) for number, other in enumerate(outside, 1)]
        with receiving(inside, command, GROUP, "--interface", "all") as take:
            for _, link in pairs:
                send(link, link.ipv4.encode())
                assert take(1) == [link.ipv4.encode()]


@receiving_commands
def test_what_is_over_max_datagram_is_cut(lan: Lan, command: str) -> None:
    args = (GROUP, "-i", lan.receiver.name, "--max-datagram", "50")
    with receiving(lan.receiver.namespace, command, *args) as take:
        send(lan.sender, bytes(range(100)))
        assert take(1) == [bytes(range(50))]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, socket.socket]]:
    """Of what a command that runs in this process closes, by class, a duplicate of the socket."""
    kept: dict[str, socket.socket] = {}
    close = SocketHolder.close

    def keep_and_close(holder: SocketHolder) -> None:
        kept[type(holder).__name__] = duplicate(holder.fileno())
        close(holder)

    monkeypatch.setattr(SocketHolder, "close", keep_and_close)
    yield kept
    for sock in kept.values():
        sock.close()


RECEIVE_BUFFER = ("Receiver", socket.SOL_SOCKET, socket.SO_RCVBUF)
SEND_BUFFER = ("Sender", socket.SOL_SOCKET, socket.SO_SNDBUF)
TTL = ("Sender", socket.IPPROTO_IP, socket.IP_TTL)
HEARS_ITSELF = ("Receiver", socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP)
PATH_MTU_DISCOVERY = ("Sender", socket.IPPROTO_IP, 10)  # linux/in.h; the socket module does not name it


@pytest.mark.parametrize(
    ("args", "option", "value"),
    [
        (("recv", GROUP, "--buffer", "16K"), RECEIVE_BUFFER, 2 << 14),
        (("recv", GROUP, "--no-loopback"), HEARS_ITSELF, 0),
        (("relay", GROUP, "239.1.2.4:5001", "--buffer", "16K"), RECEIVE_BUFFER, 2 << 14),
        (("relay", ":5002", "239.1.2.4:5001", "--buffer", "16K"), RECEIVE_BUFFER, 2 << 14),
        (("relay", GROUP, "239.1.2.4:5001", "--send-buffer", "16K"), SEND_BUFFER, 2 << 14),
        (("relay", GROUP, "127.0.0.1:5002", "--send-buffer", "16K"), SEND_BUFFER, 2 << 14),
        (("relay", GROUP, "127.0.0.1:5002", "--ttl", "9"), TTL, 9),
        (("relay", GROUP, "127.0.0.1:5002", "--no-fragment"), PATH_MTU_DISCOVERY, 2),
        (("send", GROUP, "--buffer", "16K"), SEND_BUFFER, 2 << 14),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and isinstance(value[-1], str) else "",
)
def test_option_sets_that_of_the_socket(
    loopback: Link, used: dict[str, socket.socket], args: tuple[str, ...], option: tuple[str, int, int], value: int
) -> None:
    name, level, number = option
    assert main([*args, "--duration", "0.02"]) == 0
    assert used[name].getsockopt(level, number) == value


@pytest.mark.parametrize(
    ("command", "target"),
    [
        (("recv", GROUP), "239.1.2.3"),
        (("relay", GROUP, "239.1.2.4:5001"), "239.1.2.3"),
        (("relay", "127.0.0.1:5000", "239.1.2.4:5001"), "127.0.0.1"),
    ],
    ids=["recv", "relay", "relay from unicast"],
)
def test_batch_size_is_how_many_datagrams_a_call_receives(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], target: str
) -> None:
    received: list[int] = []
    recv_batch = Receiver.recv_batch

    def note_size(receiver: Receiver, timeout: float | None = None) -> Batch:
        if not received:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(20):
                    sock.sendto(b"x", (target, 5000))
        batch = recv_batch(receiver, timeout)
        received.append(len(batch))
        return batch

    monkeypatch.setattr(Receiver, "recv_batch", note_size, raising=False)
    assert main([*command, "--batch-size", "5", "--count", "20"]) == 0
    assert received == [5, 5, 5, 5]


@pytest.mark.parametrize(
    "command", [("recv", GROUP), ("relay", GROUP, "239.1.2.4:5001"), ("relay", ":5000", "239.1.2.4:5001")], ids=" ".join
)
def test_background_receives_what_the_command_has_no_time_for(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    recv_batch = Receiver.recv_batch
    gathered = False

    def wait_until_all_are_in(receiver: Receiver, timeout: float | None = None) -> Batch:
        nonlocal gathered
        if not gathered:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(20):
                    sock.sendto(b"x", (GROUP.partition(":")[0] if command[1] == GROUP else "127.0.0.1", 5000))
            netlab.wait_until(lambda: receiver.stats.datagrams == 20)
            gathered = True
        return recv_batch(receiver, timeout)

    monkeypatch.setattr(Receiver, "recv_batch", wait_until_all_are_in, raising=False)
    assert main([*command, "--background", "16M", "--count", "13", "--batch-size", "5"]) == 0
    assert gathered
    summary = capsys.readouterr().err.rpartition("\nreceived ")[2]
    assert summary.startswith("13 datagrams, 13 B in ")  # what was not wanted is none of its business
    assert "in memory" not in summary


@pytest.mark.needs("packet_socket")
def test_the_packet_engine_has_a_ring_of_the_size_that_was_asked_for(lan: Lan) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "--engine", "packet", "--ring", "2M", "-o", "-", "-c", "1")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        maps = Path(f"/proc/{command.process.pid}/maps").read_text(encoding="ascii").splitlines()
        rings = [line.split()[0].split("-") for line in maps if "socket:" in line]
        assert [int(end, 16) - int(start, 16) for start, end in rings] == [2 << 20]
        send(lan.sender, b"off the link")
        result = command.finish()
    assert (result.code, result.stdout) == (0, b"off the link")


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(
    "args",
    [
        ("recv", GROUP, "--duration", "0.1"),
        ("send", GROUP, "--duration", "0.1", "--rate", "1000"),
        ("relay", GROUP, "239.1.2.4:5001", "--duration", "0.1"),
        ("bench", "--duration", "0.1"),
    ],
    ids=lambda args: args[0],
)
def test_quiet_leaves_standard_error_empty(
    loopback: Link,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    quiet: bool,
) -> None:
    monkeypatch.setattr(LineDisplay, "interval", 0.01)
    assert main([*args, *(["--quiet"] if quiet else [])]) == 0
    shown = capsys.readouterr().err
    if quiet:
        assert shown == ""
    else:
        assert " datagrams/s " in shown
