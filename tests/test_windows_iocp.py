"""engine="iocp": receives are posted ahead, datagrams land in the memory of batches, and nothing is lost on the way."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import FAMILIES, PORT, TIMEOUT, V4, Family, Worker, at, family_name, is_empty, receive, sources
from traffic import assert_all, bound_socket, connected_sender, feed, payload

from mcastfast import ENGINES, Batch, Receiver, ReceiverSet, Sender, UnsupportedError

if TYPE_CHECKING:
    from netlab import Lan, Link

families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)

INVALID_HANDLE = ctypes.c_void_p(-1)


def give_to_another_port(sock: socket.socket) -> int:
    """What asyncio's Proactor does with a socket; returns the port's handle."""
    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    create = kernel.CreateIoCompletionPort
    create.restype = ctypes.c_void_p
    create.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
    port: int | None = create(INVALID_HANDLE, None, None, 0)
    assert port
    assert create(sock.fileno(), port, None, 0) == port
    return port


def test_it_is_there_and_only_when_it_is_named() -> None:
    assert ENGINES == ("socket", "iocp")


def test_a_datagram_lands_before_anyone_asks_for_it() -> None:
    sock = bound_socket()
    with Receiver.from_socket(sock, engine="iocp") as receiver, connected_sender(receiver.address) as sender:
        assert is_empty(receiver)  # and the receives are posted
        sender.send(payload(1))
        with pytest.raises(BlockingIOError):
            sock.recv(1000)
        assert receiver.recv_batch(TIMEOUT).payloads() == [payload(1)]


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_order_is_kept_from_arena_to_arena_and_kept_batches_stay_true(batch_size: int) -> None:
    expected = [payload(number) for number in range(300)]
    with feed(engine="iocp", batch_size=batch_size) as busy:
        batches = []
        for start in range(0, len(expected), 50):
            busy.send(*expected[start : start + 50])
            batches += busy.receive(50)
    assert max(map(len, batches)) <= batch_size
    assert_all(batches, expected)


def test_what_has_landed_is_delivered_when_the_memory_is_used_up_and_the_rest_waits() -> None:
    expected = [payload(number) for number in range(100)]
    with feed(engine="iocp", batch_size=4, max_datagram=256, max_memory=8192) as full:
        full.send(*expected)
        held: list[Batch] = []

        def fill() -> None:
            while True:
                held.append(full.receiver.recv_batch(TIMEOUT))

        with pytest.raises(BufferError, match="max_memory"):
            fill()
        count = sum(map(len, held))
        assert count == 4 * full.receiver.stats.arenas < len(expected)
        assert_all(held, expected[:count])
        held.clear()
        assert receive(full.receiver, len(expected) - count) == expected[count:]


def test_a_thread_that_ends_takes_nothing_along() -> None:
    """The receives that it posted stay, or are cancelled with it on some systems."""
    with feed(engine="iocp", batch_size=8) as quiet:
        for number in range(100):
            quiet.send(payload(2 * number))
            assert Worker(quiet.receiver.recv_batch, TIMEOUT).result().payloads() == [payload(2 * number)]
            quiet.send(payload(2 * number + 1))
            assert quiet.receiver.recv_batch(TIMEOUT).payloads() == [payload(2 * number + 1)]


def test_a_receiver_outlives_the_thread_that_opened_it() -> None:
    sock = bound_socket()
    with Worker(lambda: Receiver.from_socket(sock, engine="iocp")).result() as receiver:
        with pytest.raises(TimeoutError):
            receiver.recv_batch(0.05)
        with connected_sender(receiver.address) as sender:
            sender.send(payload(1))
            assert receiver.recv_batch(TIMEOUT).payloads() == [payload(1)]
        blocked = Worker(receiver.recv_batch)
        blocked.wait_until_blocked()
        receiver.close()
        with pytest.raises(OSError, match="it is closed"):
            blocked.result()


@families
def test_metadata_come_with_each_datagram(lan: Lan, family: Family) -> None:
    link = lan.receiver
    with (
        Receiver(at(family.group, link), engine="iocp", metadata="hops", batch_size=8) as receiver,
        sources(lan.sender) as (source,),
    ):
        source.send(family.group, *[b"%d" % number for number in range(20)])
        received: list[Any] = []
        while len(received) < 20:
            received += receiver.recv_batch(TIMEOUT)
        assert [bytes(datagram) for datagram in received] == [b"%d" % number for number in range(20)]
        for datagram in received:
            assert datagram.destination[:2] == (family.group, PORT)
            assert (datagram.interface_index, datagram.hops) == (link.index, 1)
            assert datagram.source[:2] == (family.address(lan.sender), source.port(family))


def test_foreign_datagrams_take_places_and_no_rows(lan: Lan) -> None:
    link = lan.receiver
    with (
        Receiver(at(V4.other, link, PORT + 1)) as other,
        Receiver(at(V4.group, link), engine="iocp", batch_size=4) as receiver,
        sources(lan.sender) as (source,),
    ):
        other.join(V4.group)  # so that the host takes it in also when the receiver has left
        receiver.join(V4.other)
        receiver.leave(V4.group)
        for number in range(10):
            source.send(V4.group, b"foreign")
            source.send(V4.other, b"%d" % number)
        assert receive(receiver, 10) == [b"%d" % number for number in range(10)]
        assert receiver.stats.datagrams == 10


@pytest.mark.parametrize("metadata", [(), ("hops",)], ids=["bare", "metadata"])
def test_a_long_datagram_is_cut_wherever_it_waited(metadata: tuple[str, ...]) -> None:
    with feed(engine="iocp", max_datagram=100, batch_size=4, metadata=metadata) as quiet:
        quiet.send(b"a" * 101, b"b" * 100)  # in the socket
        assert receive(quiet.receiver, 2) == [b"a" * 100, b"b" * 100]
        quiet.send(b"c" * 60000, b"d" * 100, b"", b"e" * 101)  # landed
        assert receive(quiet.receiver, 4) == [b"c" * 100, b"d" * 100, b"", b"e" * 100]
        assert quiet.receiver.stats.truncated == 3


def test_callers_memory_shows_no_more_than_max_datagram() -> None:
    with feed(engine="iocp", max_datagram=100) as quiet:
        large, small = Batch(bytearray(4000), max_datagram=1000), Batch(bytearray(400), max_datagram=10)
        quiet.send(b"a" * 150)
        assert quiet.receiver.recv_batch_into(large, TIMEOUT) == 1
        assert [(bytes(datagram), datagram.truncated) for datagram in large] == [(b"a" * 100, True)]
        quiet.send(b"b" * 150)
        assert quiet.receiver.recv_batch_into(small, TIMEOUT) == 1
        assert [(bytes(datagram), datagram.truncated) for datagram in small] == [(b"b" * 10, True)]
        assert quiet.receiver.stats.truncated == 2


def test_a_socket_of_another_completion_port_is_refused_and_left_as_it_was() -> None:
    sock = bound_socket()
    give_to_another_port(sock)
    with pytest.raises(OSError, match=r"open completion port for .* belongs to another one \(error 87\)") as raised:
        Receiver.from_socket(sock, engine="iocp")
    assert raised.value.errno == errno.EBUSY
    assert any('engine="socket"' in note for note in raised.value.__notes__)
    raw = socket.socket(fileno=sock.detach())
    reading = Worker(raw.recv, 100)
    reading.wait_until_blocked()
    with connected_sender(raw.getsockname()) as sender:
        sender.send(b"blocking")
        assert reading.result() == b"blocking"
        with Receiver.from_socket(raw) as receiver:
            sender.send(payload(1))
            assert receiver.recv_batch(TIMEOUT).payloads() == [payload(1)]


def test_a_detached_socket_is_free_of_receives_and_stays_with_its_port() -> None:
    sock = bound_socket()
    receiver = Receiver.from_socket(sock, engine="iocp")
    with connected_sender(receiver.address) as sender:
        sender.send(payload(0))
        assert receiver.recv_batch(TIMEOUT).payloads() == [payload(0)]
        assert receiver.detach() is sock
        sock.settimeout(TIMEOUT)
        for number in range(1, 100):
            sender.send(payload(number))
            assert sock.recv(1000) == payload(number)
        with pytest.raises(OSError, match="belongs to another one"):
            Receiver.from_socket(sock, engine="iocp")
        with Receiver.from_socket(sock) as again:
            sender.send(payload(100))
            assert again.recv_batch(TIMEOUT).payloads() == [payload(100)]


def test_a_second_receiver_over_the_socket_is_refused() -> None:
    sock = bound_socket()
    with Receiver.from_socket(sock, engine="iocp") as receiver, connected_sender(receiver.address) as sender:
        with pytest.raises(OSError, match="belongs to another one"):
            Receiver.from_socket(sock, engine="iocp")
        sender.send(payload(1))
        assert receiver.recv_batch(TIMEOUT).payloads() == [payload(1)]


def test_nothing_that_select_could_watch_is_an_unsupported_error(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback), engine="iocp") as receiver:
        with pytest.raises(UnsupportedError, match=r"fileno on 239.1.2.3.* never readable.*engine='socket'"):
            receiver.fileno()
        with pytest.raises(UnsupportedError, match=r"ReceiverSet on 239.1.2.3.* never readable.*engine='socket'"):
            ReceiverSet([receiver])
        with pytest.raises(UnsupportedError, match=r"async iteration on 239.1.2.3.* never readable.*engine='socket'"):
            receiver.__aiter__()
    assert receiver.fileno() == -1


def test_the_background_does_not_go_with_it() -> None:
    with bound_socket() as sock, pytest.raises(ValueError, match=r"background='1 MiB' does not go with engine='iocp'"):
        Receiver.from_socket(sock, engine="iocp", background="1 MiB")


def test_an_error_comes_after_what_was_received_before_it_and_again() -> None:
    sock = bound_socket()
    with Receiver.from_socket(sock, engine="iocp", batch_size=4) as receiver:
        with connected_sender(receiver.address) as sender:
            sender.send(payload(0))
            assert receiver.recv_batch(TIMEOUT).payloads() == [payload(0)]
        socket.close(sock.detach())
        for _ in range(20):
            with pytest.raises(OSError, match="recv_batch"):
                receiver.recv_batch(TIMEOUT)


def test_a_sender_with_it_sends(loopback: Link) -> None:
    with (
        Receiver(at(V4.group, loopback), engine="iocp") as receiver,
        Sender(at(V4.group, loopback), engine="iocp") as sender,
    ):
        assert sender.send_batch([payload(number) for number in range(100)]) == 100
        assert receive(receiver, 100) == [payload(number) for number in range(100)]


def test_close_while_datagrams_land_leaves_what_is_kept_as_it_was() -> None:
    expected = [payload(number) for number in range(320)]
    for round_ in range(50):
        with feed(engine="iocp", batch_size=16) as busy:
            sending = Worker(busy.send, *expected)
            kept = [busy.receiver.recv_batch(TIMEOUT) for _ in range(1 + round_ % 4)]
            busy.receiver.close()
            assert busy.receiver.stats.arenas == 0
            sending.result()
            assert_all(kept, expected[: sum(map(len, kept))])


@pytest.mark.skipif("MCASTFAST_C_PROGRAMS" not in os.environ, reason="whoever started the tests built no C programs")
def test_every_receive_is_collected_before_its_memory_goes() -> None:
    program = Path(os.environ["MCASTFAST_C_PROGRAMS"]) / "iocp_race.exe"
    result = subprocess.run([program], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")
