"""What of a train did not fit a batch waits in the receiver, and every way of receiving goes on with it."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from coalescelab import SOL_UDP, UDP_GRO, Path, collect, numbered, open_path, path_name
from receivelab import FAMILIES, TIMEOUT, Worker, handler, is_empty

from mcastfast import Batch, Receiver, ReceiverSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.needs("namespaces", "ipv6")

TRAIN = numbered(0, 40, 100, last=8)
ALL = TRAIN.datagrams()


@pytest.fixture(params=[("lo", family) for family in FAMILIES], ids=path_name)
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield from open_path(request)


@pytest.fixture
def receiver(path: Path) -> Iterator[Receiver]:
    """Ten rows of a train of a hundred are delivered, ninety are carried."""
    with path.receiver(batch_size=10) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, TRAIN)
        assert receiver.recv_batch(timeout=0).payloads() == ALL[:10]
        yield receiver


def is_readable(receiver: Receiver) -> bool:
    return bool(select.select([receiver], [], [], 0)[0])


def into(receiver: Receiver, capacity: int) -> Iterator[bytes]:
    batch = Batch(bytearray(capacity * 64), max_datagram=64)
    while not is_empty_into(receiver, batch):
        yield from batch.payloads()


def is_empty_into(receiver: Receiver, batch: Batch) -> bool:
    try:
        return not receiver.recv_batch_into(batch, timeout=0)
    except BlockingIOError:
        return True


WAYS: dict[str, Callable[[Receiver], Iterator[bytes]]] = {
    "at once": lambda receiver: (bytes(one) for _ in range(9) for one in receiver.recv_batch(timeout=0)),
    "in time": lambda receiver: (bytes(one) for _ in range(9) for one in receiver.recv_batch(timeout=1)),
    "waiting": lambda receiver: (bytes(one) for _ in range(9) for one in receiver.recv_batch()),
    "iterating": lambda receiver: (bytes(one) for batch in itertools.islice(receiver, 9) for one in batch),
    "datagrams": lambda receiver: (bytes(one) for one in itertools.islice(receiver.datagrams(), 90)),
    "into one": lambda receiver: into(receiver, 1),
    "into few": lambda receiver: into(receiver, 7),
    "into many": lambda receiver: into(receiver, 1000),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_rest_of_a_train_comes_next_though_select_sees_nothing(receiver: Receiver, way: str) -> None:
    assert not is_readable(receiver)
    assert list(WAYS[way](receiver)) == ALL[10:]
    assert is_empty(receiver)


def test_ways_may_be_mixed(receiver: Receiver) -> None:
    received = receiver.recv_batch(timeout=0).payloads()
    own = Batch(bytearray(25 * 64), max_datagram=64)
    assert receiver.recv_batch_into(own, timeout=0) == 25
    received += own.payloads()
    received += next(receiver).payloads()
    received += [payload for batch in collect(receiver, 45) for payload in batch.payloads()]
    assert received == ALL[10:]


def test_what_came_later_comes_behind_it(path: Path, receiver: Receiver) -> None:
    later = numbered(500, 60, 20)
    with path.shooter() as shooter:
        shooter.shoot(path.family.group, later)
        received = [payload for batch in collect(receiver, 110) for payload in batch.payloads()]
    assert received == ALL[10:] + later.datagrams()


def test_a_set_serves_what_is_carried_in_its_turn(path: Path) -> None:
    """Every receiver gives one batch before any gives a second, whether from a socket or from what it carries."""
    with (
        path.receiver(batch_size=10) as busy,
        path.receiver(batch_size=10, coalesce=None) as plain,
        path.shooter() as shooter,
        ReceiverSet([busy, plain]) as both,
    ):
        shooter.shoot(path.family.group, TRAIN)
        received: dict[Receiver, list[bytes]] = {busy: [], plain: []}
        turns = []
        for _ in range(20):
            receiver, batch = both.recv_batch(timeout=0)
            turns.append(receiver)
            received[receiver] += batch.payloads()
        assert turns == [busy, plain] * 10
        assert received == {busy: ALL, plain: ALL}
        with pytest.raises(BlockingIOError):
            both.recv_batch(timeout=0)


def test_a_set_does_not_wait_while_a_member_carries_something(path: Path, receiver: Receiver) -> None:
    with path.receiver() as quiet, ReceiverSet([quiet, receiver]) as both:
        received: list[bytes] = []
        for source, batch in both:
            assert source is receiver
            received += batch.payloads()
            if len(received) == 90:
                break
        assert received == ALL[10:]


def test_close_ends_it(receiver: Receiver) -> None:
    batch = receiver.recv_batch(timeout=0)
    receiver.close()
    with pytest.raises(OSError, match="closed"):
        receiver.recv_batch(timeout=0)
    assert batch.payloads() == ALL[10:20]
    assert receiver.stats.arenas == 0


def test_detach_leaves_what_is_carried_and_takes_no_more_trains(path: Path, receiver: Receiver) -> None:
    batch = receiver.recv_batch(timeout=0)
    with receiver.detach() as sock, path.shooter() as shooter:
        assert sock.getsockopt(SOL_UDP, UDP_GRO) == 0
        sock.settimeout(TIMEOUT)
        shooter.shoot(path.family.group, TRAIN)
        assert [sock.recv(2048) for _ in range(100)] == ALL
    assert batch.payloads() == ALL[10:20]


def test_a_forked_child_leaves_what_is_carried_to_its_parent(path: Path, receiver: Receiver) -> None:
    later = numbered(500, 60, 30)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert is_empty(receiver)
            with path.shooter() as shooter:
                shooter.shoot(path.family.group, later)
                for _ in range(100):  # far more than an arena has rows for
                    assert [len(batch) for batch in collect(receiver, 30)] == [10, 10, 10]
                    shooter.shoot(path.family.group, later)
                assert receiver.recv_batch(timeout=0).payloads() == later.datagrams()[:10]
            assert receiver.stats.arenas == 1
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    received = [payload for batch in collect(receiver, 90) for payload in batch.payloads()]
    assert received == ALL[10:]
    assert is_empty(receiver)


def test_a_signal_handler_that_receives_takes_the_next_part(path: Path) -> None:
    with path.receiver(batch_size=10) as receiver, path.shooter() as shooter:
        taken: list[bytes] = []

        def take() -> None:
            shooter.shoot(path.family.group, TRAIN)
            taken.extend(receiver.recv_batch(timeout=0).payloads())

        with handler(take):
            received = receiver.recv_batch(timeout=TIMEOUT).payloads()
        assert taken == ALL[:10]
        received += [payload for batch in collect(receiver, 80) for payload in batch.payloads()]
        assert received == ALL[10:]


def test_ctrl_c_between_parts_loses_nothing(path: Path, receiver: Receiver) -> None:
    received = receiver.recv_batch(timeout=0).payloads()

    def interrupt() -> None:
        raise KeyboardInterrupt

    def loop() -> None:
        nonlocal received
        for batch in receiver:
            received += batch.payloads()
            if len(received) == 50:
                signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, lambda *_: interrupt())
    try:
        with pytest.raises(KeyboardInterrupt):
            loop()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    received += [payload for batch in collect(receiver, 90 - len(received)) for payload in batch.payloads()]
    assert received == ALL[10:]


def test_close_wakes_a_receive_that_waits_after_a_train(path: Path, receiver: Receiver) -> None:
    collect(receiver, 90)
    waiting = Worker(receiver.recv_batch)
    waiting.wait_until_blocked()
    receiver.close()
    with pytest.raises(OSError, match="closed"):
        waiting.result()


def test_a_receiver_over_a_plain_socket_carries_too(path: Path) -> None:
    host = "127.0.0.1" if path.family.number == socket.AF_INET else "::1"
    sock = socket.socket(path.family.number, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    with Receiver.from_socket(sock, coalesce=True, batch_size=30) as receiver, path.shooter() as shooter:
        shooter.shoot(host, TRAIN, port=receiver.address[1])
        batches = collect(receiver, 100)
        assert [len(batch) for batch in batches] == [30, 30, 30, 10]
        assert [payload for batch in batches for payload in batch.payloads()] == ALL
