"""`mcastfast relay` passes payloads on, multicast or unicast on either side, and says what did not get through."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from typing import TYPE_CHECKING

import netlab
import pytest
from clilab import TIMEOUT, run, running
from receivelab import FAMILIES, family_name, member, sources

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from netlab import Lan, Link
    from receivelab import Family

pytestmark = pytest.mark.needs("namespaces")

FIRST = "239.1.2.3:5000"
SECOND = "239.1.2.4:5001"
PAYLOADS = [bytes([number]) * (number * 14) for number in range(100)]


def collect(receiver: Receiver, number: int) -> list[bytes]:
    payloads: list[bytes] = []
    while len(payloads) < number:
        payloads += receiver.recv_batch(TIMEOUT).payloads()
    return payloads


def unicast_socket(address: str, family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.settimeout(TIMEOUT)
    return sock


def test_multicast_to_multicast(lan: Lan, engine: str) -> None:
    """Here and back over the same link, so that both the way in and the way out are a network."""
    name = lan.receiver.name
    with (
        running(
            lan.receiver.namespace, "relay", FIRST, SECOND, "-i", name, "-O", name, "--ttl", "5", "--engine", engine,
            until="^sending to",
        ) as command,
        lan.sender.namespace,
        Receiver(SECOND, interface=lan.sender.name, metadata=["hops"]) as receiver,
        Sender(FIRST, interface=lan.sender.name) as sender,
    ):  # fmt: skip
        sender.send_batch(PAYLOADS)
        assert collect(receiver, 100) == PAYLOADS
        sender.send(b"last")
        last = receiver.recv_batch(TIMEOUT)[0]
        assert (bytes(last), last.hops, last.source[0]) == (b"last", 5, lan.receiver.ipv4)
        result = command.finish(signal.SIGINT)
    assert result.code == 0
    assert "received 101 datagrams, 69.3 kB in " in result.stderr
    assert "sent 101 datagrams, 69.3 kB in " in result.stderr
    assert result.stderr.endswith(
        "kernel drops 0, foreign 0, truncated 0, device queue full 0, oversize 0, late errors 0\n"
    )


@pytest.mark.needs("ipv6")
def test_ipv6_to_ipv4(lan: Lan) -> None:
    name = lan.receiver.name
    with (
        running(lan.receiver.namespace, "relay", f"[ff15::77%{name}]:5000", f"239.1.2.4%{name}:5001", until="^sending"),
        lan.sender.namespace,
        Receiver(SECOND, interface=lan.sender.name) as receiver,
        Sender("[ff15::77]:5000", interface=lan.sender.name) as sender,
    ):
        sender.send_batch(PAYLOADS)
        assert collect(receiver, 100) == PAYLOADS


@pytest.mark.parametrize("family", ["ipv4", pytest.param("ipv6", marks=pytest.mark.needs("ipv6"))])
def test_multicast_to_unicast(lan: Lan, family: str) -> None:
    address = getattr(lan.sender, family)
    with lan.sender.namespace, unicast_socket(address, socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        target = f"[{address}]:{sock.getsockname()[1]}" if ":" in address else f"{address}:{sock.getsockname()[1]}"
        args = ("relay", FIRST, target, "--interface", lan.receiver.name, "--count", "100")
        with (
            running(lan.receiver.namespace, *args, until="^sending to") as command,
            Sender(FIRST, interface=lan.sender.name) as sender,
        ):
            sender.send_batch(PAYLOADS)
            assert [sock.recv(2048) for _ in PAYLOADS] == PAYLOADS
            assert command.finish().code == 0


def test_multicast_to_broadcast(lan: Lan) -> None:
    address = f"{lan.sender.ipv4.rpartition('.')[0]}.255"
    with lan.sender.namespace, unicast_socket(address) as sock:
        args = ("relay", FIRST, f"{address}:{sock.getsockname()[1]}", "--interface", lan.receiver.name, "--count", "1")
        with (
            running(lan.receiver.namespace, *args, until="^sending to") as command,
            Sender(FIRST, interface=lan.sender.name) as sender,
        ):
            sender.send(b"to all")
            assert sock.recv(2048) == b"to all"
            assert command.finish().code == 0


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_unicast_to_multicast(lan: Lan, host: str) -> None:
    args = ("relay", f"{host}:5002", SECOND, "--out-interface", lan.receiver.name, "--count", "100")
    with (
        running(lan.receiver.namespace, *args, until="^sending to"),
        lan.sender.namespace,
        Receiver(SECOND, interface=lan.sender.name) as receiver,
    ):
        # Which family a name has is the host's to say.
        family, *_, address = socket.getaddrinfo(host or "127.0.0.1", 5002, type=socket.SOCK_DGRAM)[0]
        with lan.receiver.namespace, socket.socket(family, socket.SOCK_DGRAM) as sock:
            for payload in PAYLOADS:
                sock.sendto(payload, address)
        assert collect(receiver, 100) == PAYLOADS


@pytest.mark.parametrize("inlet", [":5002", "[::]:5002"])
@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
@pytest.mark.needs("ipv6")
def test_groups_that_another_program_has_joined_are_not_relayed(loopback: Link, family: Family, inlet: str) -> None:
    with (
        member(loopback.namespace, (family.group, loopback.index)),
        sources(loopback) as (source,),
        unicast_socket("127.0.0.1") as outlet,
    ):
        args = ("relay", inlet, f"127.0.0.1:{outlet.getsockname()[1]}", "--count", "1")
        with running(loopback.namespace, *args, until="^sending to") as command:
            source.send(family.group, b"of the group", port=5002)
            outlet.sendto(b"to this host", ("127.0.0.1", 5002))
            assert outlet.recv(2048) == b"to this host"
            assert command.finish().code == 0


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize(
    ("source", "target"), [("127.0.0.1", "127.0.0.1"), ("::1", "127.0.0.1"), ("127.0.0.1", "::1"), ("::1", "::1")]
)
def test_unicast_to_unicast(loopback: Link, source: str, target: str) -> None:
    def family(host: str) -> int:
        return socket.AF_INET6 if ":" in host else socket.AF_INET

    def bracketed(host: str) -> str:
        return f"[{host}]" if ":" in host else host

    with unicast_socket(source, family(source)) as inlet, unicast_socket(target, family(target)) as outlet:
        args = ("relay", f"{bracketed(source)}:5002", f"{bracketed(target)}:{outlet.getsockname()[1]}")
        with running(loopback.namespace, *args, "--count", "100", until="^sending to") as command:
            for payload in PAYLOADS:
                inlet.sendto(payload, (source, 5002))
            assert [outlet.recv(2048) for _ in PAYLOADS] == PAYLOADS
            assert command.finish().code == 0


@pytest.mark.parametrize("multicast", [True, False])
def test_local_address_is_the_source(lan: Lan, multicast: bool) -> None:
    other = "10.77.1.99"
    lan.receiver.namespace.ip.addr("add", index=lan.receiver.index, address=other, prefixlen=24)
    with lan.sender.namespace, contextlib.ExitStack() as stack:
        if multicast:
            target = f"239.1.2.4%{lan.receiver.name}:5001"
            heard = stack.enter_context(Receiver(SECOND, interface=lan.sender.name))
        else:
            sock = stack.enter_context(unicast_socket(lan.sender.ipv4))
            target = f"{lan.sender.ipv4}:{sock.getsockname()[1]}"
            heard = stack.enter_context(Receiver.from_socket(sock))
        args = ("relay", FIRST, target, "-i", lan.receiver.name, "--local", other)
        stack.enter_context(running(lan.receiver.namespace, *args, until="^sending to"))
        stack.enter_context(Sender(FIRST, interface=lan.sender.name)).send(b"x")
        assert heard.recv_batch(TIMEOUT)[0].source[0] == other


@pytest.mark.parametrize(("option", "heard"), [("--loopback", True), ("--no-loopback", False)])
def test_loopback_decides_whether_this_host_hears_it(lan: Lan, option: str, heard: bool) -> None:
    name = lan.receiver.name
    with lan.receiver.namespace:
        own = Receiver(SECOND, interface=name)
    args = ("relay", FIRST, SECOND, "-i", name, "-O", name, "--count", "1", option)
    with own, running(lan.receiver.namespace, *args, until="^sending to") as command:
        with lan.sender.namespace, Sender(FIRST, interface=lan.sender.name) as sender:
            sender.send(b"x")
        assert command.finish().code == 0
        if heard:
            assert own.recv_batch(TIMEOUT).payloads() == [b"x"]
        else:
            with pytest.raises(BlockingIOError):
                own.recv_batch(0)


def test_duration_ends_it(lan: Lan) -> None:
    name = lan.receiver.name
    result = run(lan.receiver.namespace, "relay", FIRST, SECOND, "-i", name, "-O", name, "--duration", "0.3")
    assert result.code == 0
    assert re.search(r"^received 0 datagrams, 0 B in 0\.\d s\nsent 0 datagrams, 0 B in ", result.stderr, re.MULTILINE)


def test_silence_of_a_group_is_explained_as_recv_does(lan: Lan) -> None:
    name, namespace = lan.receiver.name, lan.receiver.namespace
    relay = ("relay", FIRST, SECOND, "-O", name)
    said = [
        run(namespace, *command, "-i", name, "-t", "0.1").stderr.partition("nothing came, ")[2]
        for command in (("recv", FIRST), relay, (*relay, "--quiet"))
    ]
    assert f"`tcpdump -ni {name} udp port 5000` what arrives" in said[0]
    assert said == [said[0], said[0], ""]
    assert "nothing came" not in run(namespace, "relay", ":5000", SECOND, "-O", name, "-t", "0.1").stderr


def test_datagrams_over_the_mtu_are_left_out_and_counted(lan: Lan) -> None:
    name = lan.receiver.name
    args = ("relay", FIRST, SECOND, "-i", name, "-O", name, "--no-fragment", "--count", "4")
    with (
        running(lan.receiver.namespace, *args, until="^sending to") as command,
        lan.sender.namespace,
        Receiver(SECOND, interface=lan.sender.name) as receiver,
        Sender(FIRST, interface=lan.sender.name) as sender,
    ):
        sender.send_batch([bytes(2000), b"one", bytes(3000), b"two"])
        assert collect(receiver, 2) == [b"one", b"two"]
        result = command.finish()
    assert result.code == 0
    assert "oversize 2" in result.stderr
    assert "sent 2 datagrams, " in result.stderr


def test_nobody_at_the_target_is_counted_and_does_not_end_it(lan: Lan) -> None:
    with lan.sender.namespace, unicast_socket(lan.sender.ipv4) as sock:
        closed = sock.getsockname()[1]
    args = ("relay", FIRST, f"{lan.sender.ipv4}:{closed}", "-i", lan.receiver.name)
    with (
        running(lan.receiver.namespace, *args, until="^sending to") as command,
        lan.sender.namespace,
        Sender(FIRST, interface=lan.sender.name) as sender,
    ):
        sender.send(b"x")
        command.wait_for(r"late errors [1-9]")
        sender.send(b"x")
        command.wait_for(r"received +2 .* sent +2 ")
        assert command.finish(signal.SIGINT).code == 0


@pytest.mark.parametrize("bind", ["auto", "any"])
@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        ("239.1.2.3%veth0:5000", "239.1.2.3%veth1:5000", ()),
        (FIRST, FIRST, ("-i", "veth0", "-O", "veth1")),
        ("10.77.1.2@232.1.2.3%veth0:5000", "232.1.2.3%veth1:5000", ()),
        pytest.param("[ff15::77%veth0]:5000", "[ff15::77%veth1]:5000", (), marks=pytest.mark.needs("ipv6")),
    ],
    ids=["text", "options", "source", "ipv6"],
)
def test_a_group_is_relayed_from_one_interface_to_another(
    isolated: None, source: str, target: str, options: tuple[str, ...], bind: str
) -> None:
    group = target.replace("%veth1", "")
    with netlab.namespaces(2) as (inside, outside):
        (_, first), (_, second) = (netlab.connect(inside, outside, subnet=number) for number in (1, 2))
        args = ("relay", source, target, *options, "--bind", bind, "--count", "2")
        with (
            running(inside, *args, until="^sending to") as command,
            outside,
            Receiver(group, interface=second.name, strict=False) as receiver,
            Sender(group, interface=first.name) as sender,
        ):
            for payload in (b"first", b"last"):  # else the second might be the first, heard again
                sender.send(payload)
                assert collect(receiver, 1) == [payload]
            assert command.finish().code == 0


@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        (FIRST, FIRST, ()),
        (FIRST, "udp://" + FIRST, ()),
        (FIRST, FIRST, ("--bind", "any")),
        (FIRST, FIRST, ("-i", "all")),
        (FIRST, FIRST, ("-i", "lo", "-O", "lo")),
        ("10.77.1.1@" + FIRST, FIRST, ()),
        pytest.param("[ff15::77]:5000", "[ff15::77]:5000", (), marks=pytest.mark.needs("ipv6")),
    ],
    ids=["group", "url", "any", "all", "loopback", "source", "ipv6"],
)
def test_a_relay_to_itself_is_refused(lan: Lan, source: str, target: str, options: tuple[str, ...]) -> None:
    name = lan.receiver.name
    interfaces = () if "lo" in options else ("-O", name) if "all" in options else ("-i", name, "-O", name)
    result = run(lan.receiver.namespace, "relay", source, target, *interfaces, *options)
    assert result.code == 2
    refusal = r"mcastfast: error: FROM and TO are the same, \S+ port 5000: the relay would feed itself\n"
    assert re.fullmatch(refusal, result.stderr)


def test_a_relay_that_takes_another_source_alone_does_not_hear_itself(lan: Lan) -> None:
    name = lan.receiver.name
    args = ("relay", f"{lan.sender.ipv4}@{FIRST}", FIRST, "-i", name, "-O", name, "--count", "2")
    with running(lan.receiver.namespace, *args, until="^sending to") as command, lan.sender.namespace:
        with (
            Receiver(FIRST, source=lan.receiver.ipv4, interface=lan.sender.name) as receiver,
            Sender(FIRST, interface=lan.sender.name) as sender,
        ):
            for payload in (b"first", b"last"):
                sender.send(payload)
                assert collect(receiver, 1) == [payload]
        assert command.finish().code == 0


ANYWHERE = (":5000",)
ANY_BIND = ("239.1.2.3%veth0:5000", "--bind", "any")
ANY_BIND6 = ("[ff15::77%veth0]:5000", "--bind", "any")


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (ANYWHERE, "127.0.0.1"),
        (ANYWHERE, "127.1.2.3"),
        (("[::]:5000",), "localhost"),
        (ANYWHERE, "10.77.1.1"),
        (ANYWHERE, "10.77.1.255"),
        (ANYWHERE, "[::ffff:10.77.1.1]"),
        (ANY_BIND, "127.0.0.1"),
        (ANY_BIND, "10.77.1.1"),
        (ANY_BIND, "10.77.1.255"),
        (ANY_BIND6, "[::1]"),
        (ANY_BIND6, "[fd77:1::1]"),
        (ANY_BIND6, "[fe80::1%veth0]"),
        (("[::]:5000",), "[::1]"),
        (("[::]:5000",), "10.77.1.1"),
    ],
)
def test_a_relay_to_an_address_that_it_receives_at_is_refused(lan: Lan, source: tuple[str, ...], target: str) -> None:
    result = run(lan.receiver.namespace, "relay", *source, f"{target}:5000", "-t", "0.1")
    assert result.code == 2
    assert "FROM hears what comes to any address of this host, and TO is " in result.stderr
    assert "port 5000: the relay would feed itself; choose another port, or let FROM name an addr" in result.stderr


def test_a_relay_to_all_hosts_which_this_one_is_too_is_refused(lan: Lan) -> None:
    lan.receiver.namespace.ip.route("add", dst="0.0.0.0/0", oif=lan.receiver.index, scope="link")
    result = run(lan.receiver.namespace, "relay", ":5000", "255.255.255.255:5000", "-t", "0.1")
    assert (result.code, "the relay would feed itself" in result.stderr) == (2, True)


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (ANYWHERE, "127.0.0.1:5001"),
        (ANYWHERE, "10.77.1.2:5000"),
        (ANYWHERE, "10.77.1.255:5001"),
        (ANYWHERE, "[::1]:5000"),
        (ANY_BIND6, "127.0.0.1:5000"),
        (ANY_BIND6, "[fe80::2%veth0]:5000"),
        (("127.0.0.1:5000",), "10.77.1.1:5000"),
    ],
)
def test_a_relay_to_where_it_does_not_receive_is_none_to_itself(lan: Lan, source: tuple[str, ...], target: str) -> None:
    assert run(lan.receiver.namespace, "relay", *source, target, "-t", "0.1").code == 0


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((":5000", SECOND, "-O", "lo", "-s", "10.0.0.7"), "--source goes with a multicast group, and :5000 is unicast"),
        ((":5000", SECOND, "-O", "lo", "--bind", "any"), "--bind goes with a multicast group, and :5000 is unicast"),
        ((":5000", "127.0.0.1:5002", "--no-strict"), "--no-strict goes with a multicast group, and :5000 is unicast"),
        ((FIRST, "127.0.0.1:5002", "-i", "lo", "-O", "lo"), "--out-interface goes with a multicast group, and"),
        ((FIRST, "239.1.2.300:5002", "-i", "lo"), "group address '239.1.2.300' is not an IPv4 or IPv6 address"),
        ((FIRST, "127.0.0.1:70000", "-i", "lo"), "port 70000 is not in 1 to 65535"),
    ],
)
def test_options_that_do_not_fit_a_side_are_wrong_usage(lan: Lan, args: tuple[str, ...], error: str) -> None:
    result = run(lan.receiver.namespace, "relay", *args)
    assert result.code == 2
    assert error in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "remedy"),
    [(("239.1.2.3", SECOND, "-O", "lo"), "write 239.1.2.3:5000"), ((FIRST, "239.1.2.4"), "write 239.1.2.4:5000")],
    ids=["from", "to"],
)
def test_no_option_is_advised_that_there_is_not(lan: Lan, args: tuple[str, ...], remedy: str) -> None:
    result = run(lan.receiver.namespace, "relay", *args)
    assert result.code == 2
    assert result.stderr.endswith(f"{remedy}\n")


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("10.1.0.7", "10.1.0.7:5000"),
        ("udp://10.1.0.7", "10.1.0.7:5000"),
        ("fd00::7", "[fd00::7]:5000"),
        ("[fd00::7]", "[fd00::7]:5000"),
        ("fe80::7%veth0", "[fe80::7%veth0]:5000"),
    ],
)
@pytest.mark.parametrize("side", ["from", "to"])
def test_an_address_without_a_port_is_told_to_have_one(lan: Lan, address: str, remedy: str, side: str) -> None:
    sides = (address, "127.0.0.1:5001") if side == "from" else (":5001", address)
    result = run(lan.receiver.namespace, "relay", *sides)
    assert result.code == 2
    assert result.stderr == f"mcastfast: error: {address} is an address without a port: write {remedy}\n"


@pytest.mark.parametrize("local", ["10.9.9.9", "::1", "no-such-host.invalid"])
def test_a_local_address_that_cannot_be_had_is_blamed_itself(lan: Lan, local: str) -> None:
    result = run(lan.receiver.namespace, "relay", ":5000", f"{lan.sender.ipv4}:5001", "--local", local)
    first, hint = result.stderr.splitlines()
    assert result.code == 1
    assert first.startswith(f"mcastfast: error: bind --local {local}: ")
    assert hint.startswith("  It is an address of this host, of the family of TO; this host has lo (")


def test_a_host_that_cannot_be_found_is_a_failure(lan: Lan) -> None:
    result = run(lan.receiver.namespace, "relay", FIRST, "no-such-host.invalid:5000", "-i", "lo")
    assert result.code == 1
    assert result.stderr.startswith("mcastfast: error: send to no-such-host.invalid:5000: ")
