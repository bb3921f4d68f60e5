"""What is Windows' own: waits that look around for Ctrl-C, sockets that must not block, errors with Winsock's codes."""

from __future__ import annotations

import _thread
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hostlab
import netlab
import pytest
from receivelab import FAMILIES, TIMEOUT, V4, Family, Worker, at, family_name, receive, sources
from traffic import bound_socket, connected_sender, feed, payload

from mcastfast import Interface, Receiver, ReceiverSet, Sender, packing
from mcastfast.interface import resolve_interface
from mcastfast.options import Option, Row, set_option
from mcastfast.sender import _leave_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab import Lan, Link

CALLS: dict[str, Callable[[Receiver], object]] = {
    "recv_batch": lambda receiver: receiver.recv_batch(),
    "recv_batch with a timeout": lambda receiver: receiver.recv_batch(TIMEOUT),
    "iteration": lambda receiver: next(iter(receiver)),
    "set": lambda receiver: ReceiverSet([receiver]).recv_batch(),
}


WAYS: dict[str, dict[str, Any]] = {"socket": {}, "background": {"background": "1 MiB"}, "iocp": {"engine": "iocp"}}


@pytest.mark.parametrize(
    ("call", "way"), [(call, way) for call in CALLS for way in WAYS if (call, way) != ("set", "iocp")]
)
def test_ctrl_c_ends_a_blocked_receive(call: str, way: str) -> None:
    """interrupt_main does what the handler of Ctrl-C does: it is told of, and wakes no wait."""
    with feed(**WAYS[way]) as quiet:

        def interrupt() -> None:
            netlab.wait_until(netlab.is_blocked(threading.main_thread()), TIMEOUT)
            _thread.interrupt_main(signal.SIGINT)

        interrupting = Worker(interrupt)
        with pytest.raises(KeyboardInterrupt):
            CALLS[call](quiet.receiver)
        interrupting.result()
        quiet.send(payload(1))
        assert quiet.receiver.recv_batch(TIMEOUT).payloads() == [payload(1)]


@pytest.mark.parametrize(("timeout", "waits"), [(None, True), (0.0, False), (5.0, False)])
def test_detach_gives_a_socket_back_that_blocks_as_it_did(engine: str, timeout: float | None, waits: bool) -> None:
    sock = bound_socket()
    sock.settimeout(timeout)
    receiver = Receiver.from_socket(sock, engine=engine)
    with pytest.raises(BlockingIOError):
        receiver.recv_batch(0)
    assert receiver.detach() is sock
    with sock:
        assert sock.gettimeout() == timeout
        raw = socket.socket(fileno=sock.detach())
        with raw, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            # What the system does, behind the back of Python's own timeout.
            reading = Worker(raw.recv, 100)
            if waits:
                reading.wait_until_blocked()
                other.sendto(b"late", raw.getsockname())
                assert reading.result() == b"late"
            else:
                with pytest.raises(BlockingIOError):
                    reading.result()


def test_a_port_that_is_closed_never_ends_a_receive(engine: str) -> None:
    """Windows tells a socket with its next receive that something it sent found nobody: WSAECONNRESET."""
    with bound_socket() as gone:
        closed = gone.getsockname()
    sock = bound_socket()
    for _ in range(10):
        sock.sendto(b"to nobody", closed)
    with Receiver.from_socket(sock, engine=engine) as receiver, connected_sender(receiver.address) as sender:
        sender.send(payload(1))
        assert receiver.recv_batch(TIMEOUT).payloads() == [payload(1)]
        for _ in range(10):
            sock.sendto(b"to nobody", closed)
        with pytest.raises(TimeoutError):
            receiver.recv_batch(0.2)
        sender.send(payload(2))
        assert receiver.recv_batch(TIMEOUT).payloads() == [payload(2)]
        assert receiver.stats.foreign == 0


def test_what_the_system_refuses_carries_the_codes_that_the_socket_module_has(loopback: Link) -> None:
    number = 9999
    unknown = Option("an option", (Row("IP_UNKNOWN", packing.FLAG, windows=number),))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="10042") as plain:
            sock.setsockopt(socket.IPPROTO_IP, number, 1)
        with pytest.raises(OSError, match="set IP_UNKNOWN to True") as raised:
            set_option(sock, unknown, True)
    codes = [(error.value.errno, error.value.winerror) for error in (raised, plain)]  # type: ignore[attr-defined]
    assert codes == [(errno.ENOPROTOOPT, errno.ENOPROTOOPT)] * 2


def test_an_adapter_that_disappears_between_enumeration_and_join(
    loopback: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Interface("Ethernet 7", 77, (ip_interface("192.0.2.77/24"),), mtu=1500, is_up=True, is_multicast=True)
    with Receiver(at(V4.group, loopback), bind="any") as receiver:
        monkeypatch.setattr("mcastfast.receiver.resolve_interfaces", lambda *_: (gone,))
        with pytest.raises(OSError, match=r"join .* on Ethernet 7") as raised:
            receiver.join(V4.other)
        assert raised.value.errno in (errno.EADDRNOTAVAIL, errno.EINVAL)
        assert "adapter" in raised.value.__notes__[0]
        assert [str(member.group) for member in receiver.memberships] == [V4.group]


def test_the_address_to_send_from_does_not_choose_the_adapter(lan: Lan, loopback: Link) -> None:
    interface = resolve_interface(loopback.name, socket.AF_INET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        _leave_by(sock, interface, ip_address(lan.receiver.ipv4))
        told = sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4)
        assert told in (
            loopback.index.to_bytes(4, sys.byteorder),
            socket.inet_aton(loopback.ipv4),
        )  # by Wine the latter


def test_an_oversize_payload_has_the_code_of_winsock(loopback: Link) -> None:
    with Sender(at(V4.group, loopback)) as sender, pytest.raises(OSError, match="65508 bytes are too many") as raised:
        sender.send(bytes(65508))
    assert raised.value.errno == errno.EMSGSIZE


def test_an_unbound_socket_is_refused() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(ValueError, match="the socket has no port; bind it first"),
    ):
        Receiver.from_socket(sock)


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_trains_of_linux_arrive_as_datagrams(lan: Any, family: Family, engine: str) -> None:
    """The far end's mcastfast lets its kernel cut them (UDP_SEGMENT)."""
    payloads = [bytes([number]) * 500 for number in range(64)]
    with (
        Receiver(at(family.group, lan.receiver), metadata=("destination", "hops", "tos"), engine=engine) as receiver,
        hostlab.FarSender(lan.sender, family.group, segment=True, ttl=7, traffic_class=0x28) as sender,
    ):
        sender.send_batch(payloads)
        batch = receiver.recv_batch(TIMEOUT)
        received = list(batch)
        while len(received) < len(payloads):
            received += receiver.recv_batch(TIMEOUT)
        assert [bytes(datagram) for datagram in received] == payloads
        first = received[0]
        assert (first.destination or ())[:2] == (family.group, 5000)
        assert first.interface_index == lan.receiver.index
        assert first.source[0] == family.address(lan.sender)
        assert (first.hops, first.tos) == (7, 0x28)


def test_a_port_that_is_kept_is_nobody_elses(loopback: Link) -> None:
    """SO_REUSEADDR alone would share it, whatever its owner asked for."""
    port: dict[str, Any] = {"port": 5000, "interface": loopback.name}
    with Receiver(V4.group, reuse=False, **port):
        with pytest.raises(OSError, match="bind") as raised:
            Receiver(V4.other, **port)
        assert raised.value.errno in (errno.EACCES, errno.EADDRINUSE)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(PermissionError):
                sock.bind(("", 5000))
    Receiver(V4.other, **port).close()


def test_a_cut_datagram_is_flagged_and_the_next_is_whole(lan: Lan, engine: str) -> None:
    with (
        Receiver(at(V4.group, lan.receiver), max_datagram=100, engine=engine) as receiver,
        sources(lan.sender) as (source,),
    ):
        source.send(V4.group, b"x" * 500, b"y" * 100, b"z" * 101)
        received = receive(receiver, 3)
        assert received == [b"x" * 100, b"y" * 100, b"z" * 100]
        assert receiver.stats.truncated == 2


@pytest.mark.skipif("MCASTFAST_C_PROGRAMS" not in os.environ, reason="whoever started the tests built no C programs")
def test_what_windows_may_answer_and_wine_does_not() -> None:
    program = Path(os.environ["MCASTFAST_C_PROGRAMS"]) / "windows_answers.exe"
    result = subprocess.run([program], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")
