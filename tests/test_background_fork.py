"""A forked child has no receive thread: it is told so, its batches stay, and the parent notices nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from backgroundlab import SIZE, receive_threads, send_slowly, ways
from memorylab import SANITIZED
from test_fork_receiver import in_child
from traffic import PATIENCE, Worker, feed, payload, wait_until_blocked

from mcastfast import Batch, ReceiverSet

if TYPE_CHECKING:
    from netlab import Link

# The thread may be in the allocator at that moment, and with the sanitizer's the child then waits for ever.
pytestmark = pytest.mark.skipif(
    SANITIZED, reason="the sanitizer's allocator is not made for forks beside other threads"
)


@ways
def test_receiving_in_the_child_is_refused_and_close_is_harmless(way: dict[str, Any]) -> None:
    with feed(background=SIZE, **way) as quiet, feed() as plain:
        send_slowly(quiet, range(10))
        both = ReceiverSet([quiet.receiver, plain.receiver])

        def child() -> None:
            assert not receive_threads()
            for call in (
                lambda: quiet.receiver.recv_batch(0),
                quiet.receiver.recv_batch,
                lambda: quiet.receiver.recv_batch_into(Batch(bytearray(2048)), 0),
                lambda: next(quiet.receiver),
                lambda: next(quiet.receiver.datagrams()),
                lambda: both.recv_batch(PATIENCE),
            ):
                with pytest.raises(RuntimeError, match="the thread that receives is the parent process's; open a"):
                    call()
            assert quiet.receiver.stats.datagrams == 10
            quiet.receiver.close()
            quiet.receiver.close()
            with pytest.raises(OSError, match="closed"):
                quiet.receiver.recv_batch(0)
            plain.send(b"x")
            assert both.recv_batch(PATIENCE)[1].payloads() == [b"x"]

        in_child(child)()
        assert quiet.receiver.recv_batch(0).payloads() == [payload(number) for number in range(10)]
        send_slowly(quiet, range(10, 20))
        assert quiet.receiver.recv_batch(0).payloads() == [payload(number) for number in range(10, 20)]


@ways
def test_batches_from_before_are_the_same_in_both_and_give_their_memory_back(way: dict[str, Any]) -> None:
    with feed(background=SIZE, **way) as quiet:
        send_slowly(quiet, range(2000))
        batches = [quiet.receiver.recv_batch(0) for _ in range(2)]
        expected = [batch.payloads() for batch in batches]

        def child() -> None:
            send_slowly(quiet, [])
            assert [batch.payloads() for batch in batches] == expected
            kept = batches[0][0]
            batches.clear()
            assert kept == payload(0)
            quiet.receiver.close()
            assert kept == payload(0)

        in_child(child)()
        send_slowly(quiet, range(2000))
        assert [batch.payloads() for batch in batches] == expected


def test_fork_while_another_thread_waits_in_a_receive() -> None:
    with feed(background=SIZE) as quiet:
        blocked = Worker(lambda: quiet.receiver.recv_batch().payloads())
        wait_until_blocked(blocked)
        in_child(quiet.receiver.close)()
        assert blocked.is_alive()
        quiet.send(b"x")
        assert blocked.result() == [b"x"]


@ways
def test_fork_in_the_middle_of_traffic_harms_neither(way: dict[str, Any]) -> None:
    stopped = threading.Event()
    held: list[Any] = []
    with feed(background=SIZE, **way) as busy:

        def send() -> None:
            while not stopped.is_set():
                busy.send(*[b"12345678"] * 50)

        def receive() -> None:
            while not stopped.is_set():
                try:
                    batch = busy.receiver.recv_batch(0.1)
                except TimeoutError:
                    continue
                assert set(batch.payloads()) == {b"12345678"}
                held[:] = [*held[-5:], batch]

        def child() -> None:
            for batch in held:
                assert set(batch.payloads()) == {b"12345678"}
            held.clear()
            assert busy.receiver.stats.datagrams >= 0
            with pytest.raises(RuntimeError, match="parent"):
                busy.receiver.recv_batch(0)
            busy.receiver.close()

        workers = [Worker(send), Worker(receive)]
        try:
            for _ in range(60):
                in_child(child)()
        finally:
            stopped.set()
        for worker in workers:
            worker.result()


def test_the_child_of_a_child_is_refused_too() -> None:
    def refused() -> None:
        with pytest.raises(RuntimeError, match="parent"):
            quiet.receiver.recv_batch(0)

    def child() -> None:
        refused()
        in_child(refused)()

    with feed(background=SIZE) as quiet:
        in_child(child)()


def test_the_child_may_open_a_receiver_of_its_own() -> None:
    with feed(background=SIZE):

        def child() -> None:
            with feed(background=SIZE) as own:
                own.send(b"x")
                assert own.receiver.recv_batch(PATIENCE).payloads() == [b"x"]
                assert len(os.listdir("/proc/self/task")) == 2

        in_child(child)()


FORK_IN_A_HANDLER = """
import os, signal, sys
from mcastfast import Batch, Receiver

def fork(*_):
    global pid
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

receiver = Receiver("239.1.2.3:5000", interface="lo", {options})
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    receiver.{receive}
except RuntimeError as error:
    os._exit("is the parent process's; open a Receiver in the child" not in str(error))
os._exit(1)
"""


@pytest.mark.parametrize("receive", ["recv_batch(30)", "recv_batch_into(Batch(bytearray(4096)), 30)"])
@pytest.mark.parametrize(
    "options",
    [f"background={SIZE!r}", pytest.param('engine="packet"', marks=pytest.mark.needs("packet_socket"))],
)
def test_a_child_that_a_handler_forks_in_a_receive_is_refused(loopback: Link, options: str, receive: str) -> None:
    program = FORK_IN_A_HANDLER.format(options=options, receive=receive)
    with loopback.namespace:
        # 3.12: the process has threads, which is the point
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
        result = subprocess.run(command, check=False, timeout=60, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
