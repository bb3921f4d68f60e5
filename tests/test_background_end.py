"""However a receive thread ends, it ends: its receiver is closed, detached, collected, or the program stops."""

from __future__ import annotations

import gc
import signal
import socket
import threading
from typing import Any

import pytest
from backgroundlab import SIZE, SMALL, is_resting, opened, receive_threads, send_slowly, tasks, ways
from netlab import wait_until
from receivelab import handler
from traffic import PATIENCE, Worker, feed, payload, wait_until_blocked

from mcastfast import Background, Batch, Receiver


@ways
def test_close_ends_the_thread(way: dict[str, Any]) -> None:
    with feed(background=SIZE, **way) as quiet:
        receiver, task = opened(quiet)
        send_slowly(quiet, range(100))
        fileno = receiver.fileno()
        receiver.close()
        assert task not in tasks()
        assert (receiver.fileno(), receiver.stats.arenas, receiver.stats.datagrams) == (-1, 0, 100)
        assert fileno != -1
        receiver.close()
        with pytest.raises(OSError, match="closed"):
            receiver.recv_batch(0)


@ways
def test_close_from_another_thread_wakes_a_blocked_receive(way: dict[str, Any]) -> None:
    memory = Batch(bytearray(2048))
    calls = [lambda r: r.recv_batch(), lambda r: r.recv_batch_into(memory)]
    for call in calls:
        with feed(background=SIZE, **way) as quiet:
            blocked = Worker(lambda call=call, quiet=quiet: call(quiet.receiver))  # type: ignore[misc]
            wait_until_blocked(blocked)
            quiet.receiver.close()
            error = blocked.error()
            assert isinstance(error, OSError)
            assert "closed" in str(error)
    assert not receive_threads()


@pytest.mark.parametrize("size", [SMALL, "64 MiB"], ids=["used up", "room"])
@ways
def test_close_ends_the_thread_in_the_middle_of_a_flood(way: dict[str, Any], size: Any) -> None:
    for _ in range(5):
        stopped = threading.Event()
        with feed(background=size, **way) as busy:

            def flood(busy: Any = busy, stopped: threading.Event = stopped) -> None:
                while not stopped.is_set():
                    busy.sender.send_batch([bytes(32)] * 500)

            sender = Worker(flood)
            try:
                wait_until(lambda: busy.receiver.stats.overrun or size != SMALL, PATIENCE)
                wait_until(lambda: busy.receiver.stats.datagrams > 100, PATIENCE)
                busy.receiver.close()
                assert not receive_threads()
            finally:
                stopped.set()
            sender.error()


def test_close_from_a_signal_handler_ends_a_blocked_receive() -> None:
    with feed(background=SIZE) as quiet, handler(quiet.receiver.close), pytest.raises(OSError, match="closed"):
        quiet.receiver.recv_batch()
    assert not receive_threads()


def test_a_signal_handlers_exception_ends_a_blocked_receive_and_nothing_is_lost() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with feed(background=SIZE) as quiet:
        with handler(interrupt), pytest.raises(KeyboardInterrupt):
            quiet.receiver.recv_batch()
        quiet.send(b"x")
        assert quiet.receiver.recv_batch(PATIENCE).payloads() == [b"x"]


def test_the_thread_takes_no_signals() -> None:
    with feed(background=SIZE) as quiet:
        _, task = opened(quiet)
        with open(f"/proc/self/task/{task}/status") as file:
            blocked = next(int(line.split()[1], 16) for line in file if line.startswith("SigBlk"))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1):
            assert blocked >> (number - 1) & 1


def test_close_does_not_wait_for_the_delay() -> None:
    with feed(background=Background(SIZE, delay=10.0)) as quiet:
        _, task = opened(quiet)
        quiet.send(b"x")
        wait_until(lambda: is_resting(task), PATIENCE)
        closer = Worker(quiet.receiver.close)
        closer.join(5.0)
        assert not closer.is_alive()
        assert not receive_threads()


@ways
def test_detached_socket_receives_as_it_did_before(way: dict[str, Any]) -> None:
    with feed(background=SIZE, **way) as quiet:
        send_slowly(quiet, range(10))
        sock = quiet.receiver.detach()
        assert not receive_threads()
        with sock:
            assert sock.getsockopt(socket.SOL_UDP if hasattr(socket, "SOL_UDP") else 17, 104) == 0
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == bytes(16)
            quiet.send(*map(payload, range(10, 20)))
            sock.settimeout(PATIENCE)
            assert [sock.recv(2048) for _ in range(10)] == [payload(number) for number in range(10, 20)]


def test_a_collected_receiver_warns_and_ends_its_thread() -> None:
    with feed(background=SIZE) as other:
        opened(other)
        before = len(receive_threads())
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        cycle: list[object] = [Receiver.from_socket(sock, background=SIZE)]
        cycle.append(cycle)
        wait_until(lambda: len(receive_threads()) == before + 1, PATIENCE)
        del cycle
        with pytest.warns(ResourceWarning, match="unclosed <Receiver"):
            gc.collect()
        assert len(receive_threads()) == before
        sock.close()


def test_many_threads_come_and_go() -> None:
    before = tasks()
    for _ in range(200):
        with feed(background=SMALL) as quiet:
            quiet.send(b"x")
    assert tasks() == before
