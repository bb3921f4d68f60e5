"""Threads that do everything to one receiver, set or sender at once meet its documented errors, and lose nothing."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from memorylab import SANITIZED
from receivelab import V4, at
from test_fork_receiver import in_child
from traffic import (
    PATIENCE,
    Worker,
    ahead,
    bound_socket,
    connected_sender,
    feed,
    number_of,
    payload,
    wait_until_blocked,
)

from mcastfast import ENGINES, Receiver, ReceiverSet, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    import netlab


def until_closed(call: Callable[[], object], *passes: type[Exception]) -> Callable[[], None]:
    """Calls again and again until the object says that it is closed; `passes` are errors to go on after."""

    def run() -> None:
        while True:
            try:
                call()
            except passes:
                continue
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                return

    return run


def until(done: threading.Event, call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        while not done.is_set():
            call()

    return run


def use_and_close(workers: list[Worker], done: threading.Event, close: Callable[[], None]) -> None:
    """Close it from two threads while the workers are at it, and look at what they met."""
    for closer in [Worker(close) for _ in range(2)]:
        closer.result()
    done.set()
    for worker in workers:
        worker.result()


ROUNDS = range(8)


@pytest.mark.parametrize("options", [{}, {"background": "4 MiB"}], ids=["plain", "background"])
def test_receiver_that_is_closed_while_it_is_used_in_every_way(engine: str, options: dict[str, Any]) -> None:
    if options and ahead(engine):
        pytest.skip("background= does not go with it: test_windows_iocp.py")

    def live() -> None:
        receiver = Receiver.from_socket(bound_socket(), engine=engine, **options)
        done = threading.Event()
        with connected_sender(receiver.address) as sender:
            workers = [
                Worker(until_closed(lambda: receiver.recv_batch(0.001).payloads(), TimeoutError, RuntimeError)),
                Worker(until_closed(lambda: receiver.recv_batch(0).payloads(), BlockingIOError, RuntimeError)),
                Worker(until(done, lambda: receiver.stats)),
                Worker(until(done, lambda: (ahead(engine) or receiver.fileno(), receiver.closed, repr(receiver)))),
            ]
            sender.send_batch([b"x"] * 20)
            use_and_close(workers, done, receiver.close)
        assert receiver.stats.arenas == 0
        assert receiver.fileno() == -1

    for _ in ROUNDS:
        live()


def test_sender_that_is_closed_while_it_is_used_in_every_way(engine: str) -> None:
    def live() -> None:
        with feed(engine=engine) as quiet:
            sender, done = quiet.sender, threading.Event()
            workers = [
                Worker(until_closed(lambda: sender.send(payload(1)), RuntimeError)),
                Worker(until_closed(lambda: sender.send_batch([payload(2)] * 3), RuntimeError)),
                Worker(until_closed(lambda: sender.delay, RuntimeError)),
                Worker(until(done, lambda: sender.stats)),
                Worker(until(done, lambda: (sender.fileno(), sender.closed, sender.segment, repr(sender)))),
            ]
            for _ in range(5):
                assert set(quiet.receiver.recv_batch(PATIENCE).payloads()) <= {payload(1), payload(2)}
            use_and_close(workers, done, sender.close)
            assert sender.stats.datagrams >= quiet.receiver.stats.datagrams

    for _ in ROUNDS:
        live()


def test_set_that_is_closed_while_it_is_used_in_every_way(engine: str) -> None:
    def live() -> None:
        with feed(engine=engine) as one, feed(engine=engine) as two:
            both, done = ReceiverSet([one.receiver, two.receiver]), threading.Event()
            workers = [
                Worker(until_closed(lambda: both.recv_batch(0.001), TimeoutError, RuntimeError)),
                Worker(until_closed(lambda: both.recv_batch(0), BlockingIOError, RuntimeError)),
                Worker(until(done, lambda: (both.receivers, both.closed))),
                Worker(one.receiver.close),
            ]
            two.send(*[b"two"] * 10)
            use_and_close(workers, done, both.close)
            assert both.receivers == ()
            assert two.receiver.closed

    for _ in ROUNDS:
        live()


def test_receiver_becomes_a_member_of_one_of_the_sets_that_threads_make_of_it(engine: str) -> None:
    def race() -> None:
        start = threading.Barrier(3)

        def make() -> ReceiverSet | None:
            start.wait(PATIENCE)
            try:
                return ReceiverSet([one.receiver, two.receiver])
            except ValueError as error:
                if "belongs to another ReceiverSet" not in str(error):
                    raise
                return None

        # All may be refused: one found a receiver taken, gave back the other, and the third had found that taken.
        assert sum(maker.result() is not None for maker in [Worker(make) for _ in range(3)]) <= 1

    with feed(engine=engine) as one, feed(engine=engine) as two:
        for _ in ROUNDS:
            race()
            gc.collect()
        assert ReceiverSet([two.receiver, one.receiver]).receivers == (two.receiver, one.receiver)


@pytest.mark.skipif(SANITIZED, reason="the sanitizer's allocator is not made for forks beside other threads")
def test_fork_finds_what_is_open_while_threads_open_and_close(engine: str) -> None:
    """A child that were left with the lock of the thread that receives could not receive."""
    done = threading.Event()

    def open_and_close() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(Receiver.from_socket(bound_socket(), engine=engine))

    def child() -> None:
        with pytest.raises(BlockingIOError):
            quiet.receiver.recv_batch(0)

    with feed(engine=engine) as quiet:
        blocked = Worker(lambda: quiet.receiver.recv_batch(PATIENCE))
        wait_until_blocked(blocked)
        workers = [Worker(until(done, open_and_close)) for _ in range(3)]
        try:
            for _ in ROUNDS:
                in_child(child)()
        finally:
            done.set()
        for worker in workers:
            worker.result()
        quiet.send(b"x")
        blocked.result()


@pytest.mark.needs("packet_socket")
@pytest.mark.skipif(SANITIZED, reason="the sanitizer's allocator is not made for forks beside other threads")
def test_fork_beside_rings_that_open_and_close(loopback: netlab.Link) -> None:
    """What a fork does to a ring, close() and another fork do not do at the same time; a GIL sees to that by itself."""
    done = threading.Event()

    def open_and_close() -> None:
        with (
            Receiver(at(V4.group, loopback), engine="packet", ring="1 MiB") as receiver,
            Sender(at(V4.group, loopback)) as sender,
        ):
            sender.send(b"held")
            held = receiver.recv_batch(PATIENCE)
            receiver.close()
            assert set(held.payloads()) == {b"held"}

    workers = [Worker(until(done, open_and_close)) for _ in range(3)]
    workers += [Worker(lambda: [in_child(lambda: None)() for _ in ROUNDS]) for _ in range(2)]
    for worker in workers[3:]:
        worker.result()
    done.set()
    for worker in workers[:3]:
        worker.result()


@pytest.mark.parametrize("name", [*ENGINES, pytest.param("packet", marks=pytest.mark.needs("packet_socket"))])
def test_memberships_that_threads_change_while_it_receives(loopback: netlab.Link, name: str) -> None:
    """The group that stays joined loses nothing, whatever becomes of the others."""
    count = 3000
    others = [V4.pattern % number for number in range(1, 5)]
    done = threading.Event()
    numbers: list[int] = []

    def change(receiver: Receiver, group: str) -> None:
        while not done.is_set():
            receiver.join(group)
            receiver.block(group, "192.0.2.1")
            assert group in {str(member.group) for member in receiver.memberships}
            receiver.unblock(group, "192.0.2.1")
            receiver.leave(group)

    def send(sender: Sender, noise: list[Sender]) -> None:
        for number in range(count):
            sender.send(payload(number))
            noise[number % len(noise)].send(b"noise")
            while number - len(numbers) > 100:  # not more than the socket's buffer holds
                done.wait(0.001)

    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Receiver(at(V4.group, loopback), bind="any", engine=name))
        sender, *noise = [stack.enter_context(Sender(at(group, loopback))) for group in (V4.group, *others)]
        workers = [Worker(functools.partial(change, receiver, group)) for group in others]
        workers += [Worker(until(done, lambda: receiver.stats)), Worker(functools.partial(send, sender, noise))]
        try:
            while len(numbers) < count:
                received = receiver.recv_batch(PATIENCE).payloads()
                numbers += [number_of(data) for data in received if data != b"noise"]
        finally:
            done.set()
        for worker in workers:
            worker.result()
        assert numbers == list(range(count))
        assert [str(member.group) for member in receiver.memberships] == [V4.group]
