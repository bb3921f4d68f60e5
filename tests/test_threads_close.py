"""close() from another thread ends a blocked receive, and no call uses a descriptor number that someone else got."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from netlab import is_asleep, wait_until
from traffic import PATIENCE, Worker, bound_socket, connected_sender, feed, payload, wait_until_blocked

from mcastfast import Batch, Receiver, ReceiverSet
from mcastfast.sockets import SocketHolder

if TYPE_CHECKING:
    from collections.abc import Callable

ENDS: dict[str, Callable[[Receiver], object]] = {"close": lambda r: r.close(), "detach": lambda r: r.detach().close()}


@pytest.mark.parametrize("end", ENDS)
def test_blocked_recv_batch_raises_ebadf(engine: str, end: str) -> None:
    with feed(engine=engine) as quiet:
        blocked = Worker(quiet.receiver.recv_batch)
        wait_until_blocked(blocked)
        ENDS[end](quiet.receiver)
        error = blocked.error()
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF
        assert "it is closed" in str(error)
        with pytest.raises(OSError, match="it is closed"):
            quiet.receiver.recv_batch(0)


def test_nobody_looks_at_the_drops_of_a_socket_that_is_being_closed(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the GIL a look is two steps, and between them the number could become another socket's."""
    shut = SocketHolder._end
    locked = []

    def end(holder: SocketHolder) -> None:
        locked.append(not Worker(lambda: receiver._lock.acquire(blocking=False)).result())
        shut(holder)

    monkeypatch.setattr(SocketHolder, "_end", end)
    receiver = Receiver.from_socket(bound_socket(), engine=engine)
    receiver.close()
    assert locked == [True]


def test_blocked_recv_batch_into_raises_ebadf_and_frees_the_batch(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = Batch(bytearray(4096))
        blocked = Worker(lambda: quiet.receiver.recv_batch_into(batch))
        wait_until_blocked(blocked)
        quiet.receiver.close()
        error = blocked.error()
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF
        batch.release()


def test_blocked_iteration_just_ends(engine: str) -> None:
    with feed(engine=engine) as quiet:
        seen: list[bytes] = []

        def iterate() -> None:
            for batch in quiet.receiver:
                seen.extend(batch.payloads())

        def iterate_datagrams() -> None:
            seen.extend(bytes(datagram) for datagram in quiet.receiver.datagrams())

        quiet.send(b"x")
        blocked = Worker(iterate)
        wait_until_blocked(blocked)
        quiet.receiver.close()
        assert blocked.error() is None
        assert seen == [b"x"]
        with pytest.raises(StopIteration):
            next(quiet.receiver)
        with pytest.raises(OSError, match="closed"):
            iter(quiet.receiver)
    with feed(engine=engine) as quiet:
        blocked = Worker(iterate_datagrams)
        wait_until_blocked(blocked)
        quiet.receiver.close()
        assert blocked.error() is None


def test_second_close_does_nothing_also_from_two_threads_at_once(engine: str) -> None:
    with feed(engine=engine) as quiet:
        blocked = Worker(quiet.receiver.recv_batch)
        wait_until_blocked(blocked)
        for closer in [Worker(quiet.receiver.close) for _ in range(5)]:
            closer.result()
        assert isinstance(blocked.error(), OSError)
        assert quiet.receiver.closed
        assert quiet.receiver.fileno() == -1
        assert quiet.receiver.stats.batches == 0


def test_receive_never_reads_from_a_descriptor_number_that_was_given_to_another(engine: str) -> None:
    """Other threads open sockets, which get the number at once, with a datagram in each that only they may read."""
    stop = threading.Event()
    lost: list[str] = []

    def open_and_check() -> None:
        while not stop.is_set():
            with bound_socket() as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(b"private", sock.getsockname())
                sock.settimeout(PATIENCE)
                if sock.recv(100) != b"private":
                    lost.append("read something else")

    openers = [Worker(open_and_check) for _ in range(2)]
    try:
        for round_ in range(300):
            receiver = Receiver.from_socket(bound_socket(), engine=engine)
            got: list[bytes] = []

            def receive(receiver: Receiver = receiver, got: list[bytes] = got) -> None:
                for batch in receiver:
                    got.extend(batch.payloads())

            blocked = Worker(receive)
            if round_ % 2:
                wait_until_blocked(blocked)
            else:
                with connected_sender(receiver.address) as sender:
                    sender.send(payload(round_))
            receiver.close()
            error = blocked.error()
            assert error is None or isinstance(error, OSError)
            assert got in ([], [payload(round_)])
    finally:
        stop.set()
    for opener in openers:
        opener.result()
    assert lost == []


def test_close_waits_until_the_blocked_call_is_out(engine: str) -> None:
    for _ in range(50):
        with feed(engine=engine) as quiet:
            number = quiet.receiver.fileno()
            blocked = Worker(quiet.receiver.recv_batch)
            wait_until_blocked(blocked)
            quiet.receiver.close()
            reader, writer = os.pipe()
            try:
                assert number in (reader, writer) or not os.path.exists(f"/proc/self/fd/{number}")
                assert isinstance(blocked.error(), OSError)
            finally:
                os.close(reader)
                os.close(writer)


def test_close_of_a_member_while_its_set_is_blocked(engine: str) -> None:
    with feed(engine=engine) as one, feed(engine=engine) as two, ReceiverSet([one.receiver, two.receiver]) as both:
        blocked = Worker(lambda: both.recv_batch(PATIENCE))
        wait_until_blocked(blocked)
        one.receiver.close()
        two.send(b"two")
        receiver, batch = blocked.result()
        assert receiver is two.receiver
        assert batch.payloads() == [b"two"]
        blocked = Worker(lambda: list(both))
        wait_until_blocked(blocked)
        both.close()
        assert blocked.result() == []


def test_error_reports_of_the_socket_hold_up_neither_deadline_nor_close(engine: str) -> None:
    """With IP_RECVERR a queued report makes poll(2) say readable although nothing can be received."""
    sock = bound_socket()
    sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
    with bound_socket() as gone:
        nobody = gone.getsockname()
    for _ in range(3):
        try:
            sock.sendto(b"x", nobody)
        except ConnectionRefusedError:
            continue
    with Receiver.from_socket(sock, engine=engine) as receiver:
        for _ in range(5):
            with pytest.raises((TimeoutError, ConnectionRefusedError)):
                receiver.recv_batch(0.02)
        with pytest.raises(TimeoutError):
            receiver.recv_batch(0.02)
        with connected_sender(receiver.address) as sender:
            sender.send(b"y")
        assert receiver.recv_batch(PATIENCE).payloads() == [b"y"]
        blocked = Worker(receiver.recv_batch)
        wait_until_blocked(blocked)


def test_shut_down_socket_holds_up_neither_deadline_nor_close(engine: str) -> None:
    sock = bound_socket()
    with pytest.raises(OSError, match="not connected"):
        sock.shutdown(socket.SHUT_RDWR)
    with Receiver.from_socket(sock, engine=engine) as receiver:
        with pytest.raises(TimeoutError):
            receiver.recv_batch(0.05)
        # Always readable and nothing there: the call is never blocked, it goes round and round.
        receiving = Worker(receiver.recv_batch)
        clock = time.pthread_getcpuclockid(receiving.ident or 0)
        wait_until(lambda: time.clock_gettime(clock) > 0.02, PATIENCE)
        receiver.close()
        error = receiving.error()
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF


def _is_blocked_inside_its_receive(thread: threading.Thread) -> bool:
    """Once the thread is blocked: it has not yet gone on to poll(2), as it does after some milliseconds."""
    task = f"/proc/self/task/{thread.native_id}"
    wait_until(lambda: is_asleep(task), PATIENCE)
    return "poll" not in Path(task, "wchan").read_text()


def test_shut_down_socket_of_ones_own_gives_no_empty_datagrams(engine: str, isolated: None) -> None:
    """A receive that waits inside its call is ended by shutdown(2) with an empty message from nobody."""
    with Receiver("239.7.7.7:5011", interface="lo", engine=engine) as receiver:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            target = ("239.7.7.7", 5011)
            while True:
                for _ in range(20):
                    sock.sendto(b"busy", target)
                    receiver.recv_batch(PATIENCE)
                blocked = Worker(lambda: receiver.recv_batch(PATIENCE))
                if _is_blocked_inside_its_receive(blocked):
                    break
                sock.sendto(b"too late", target)
                assert blocked.result().payloads() == [b"too late"]
            before = receiver.stats.datagrams
            shared = socket.socket(fileno=os.dup(receiver.fileno()))
            with shared, pytest.raises(OSError, match="not connected"):
                shared.shutdown(socket.SHUT_RDWR)
            sock.sendto(payload(7), target)
        assert blocked.result().payloads() == [payload(7)]
        assert receiver.stats.datagrams == before + 1
