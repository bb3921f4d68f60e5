"""Threads that do everything to one batch at once get what it held or the error for its end, and nothing else."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from netlab import scaled
from traffic import PATIENCE, Worker, bound_socket, connected_sender, feed, number_of, payload

from mcastfast import Batch, Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastfast import Datagram

COUNT = 16
READERS = 3
PAYLOADS = [payload(number) for number in range(COUNT)]


def one(batch: Batch) -> Datagram:
    return batch[7]


# What each shows of a batch of PAYLOADS, and how to read it.
READS: list[tuple[object, Callable[[Batch], object]]] = [
    (PAYLOADS, lambda batch: batch.payloads()),
    (PAYLOADS, lambda batch: [bytes(datagram) for datagram in batch]),
    (PAYLOADS, lambda batch: batch.copy().payloads()),
    (list(range(COUNT)), lambda batch: batch.records("<u8").tolist()),
    (list(map(len, PAYLOADS)), lambda batch: np.asarray(batch.lengths).tolist()),
    (PAYLOADS[7], lambda batch: bytes(memoryview(one(batch)))),
    (PAYLOADS[7][3], lambda batch: one(batch)[3]),
    (True, lambda batch: one(batch) == PAYLOADS[7]),
    (False, lambda batch: one(batch).truncated),
    (hash(PAYLOADS[7]), lambda batch: hash(one(batch))),
    (COUNT, len),
]


def release(batch: Batch) -> None:
    """End it as soon as nobody looks at it."""
    while True:
        try:
            batch.release()
        except BufferError:
            continue
        return


def test_batch_that_is_read_and_released(engine: str) -> None:
    with feed(engine=engine) as quiet:
        for seed in range(150):
            batch = quiet.batch(*PAYLOADS)
            start = threading.Barrier(READERS + 1)
            choices = [random.Random(f"{seed} {reader}") for reader in range(READERS)]

            def read(choice: random.Random, batch: Batch = batch, start: threading.Barrier = start) -> None:
                start.wait(PATIENCE)
                with suppress(ValueError):  # it was released
                    while True:
                        expected, look = choice.choice(READS)
                        assert look(batch) == expected

            readers = [Worker(lambda choice=choice: read(choice)) for choice in choices]  # type: ignore[misc]
            start.wait(PATIENCE)
            release(batch)
            for _ in range(3):
                quiet.batch(*[b"into the memory that is free"] * COUNT)
            for reader in readers:
                reader.result()
        assert quiet.receiver.stats.arenas <= 4


def test_iterator_that_threads_share_gives_each_datagram_once(engine: str) -> None:
    with feed(engine=engine) as quiet:
        for _ in range(100):
            iterator = iter(quiet.batch(*PAYLOADS))
            start = threading.Barrier(READERS)

            def take(iterator=iterator, start: threading.Barrier = start) -> list[bytes]:  # type: ignore[no-untyped-def]
                start.wait(PATIENCE)
                return [bytes(datagram) for datagram in iterator]

            parts = [taker.result() for taker in [Worker(take) for _ in range(READERS)]]
            assert sorted(data for part in parts for data in part) == sorted(PAYLOADS)


def test_batch_over_memory_of_ones_own_that_is_read_while_it_is_refilled(engine: str) -> None:
    """Who reads gets whole datagrams of one fill, the error for its end or, in the middle of a fill, none at all."""
    rounds = scaled(2000)
    with feed(engine=engine, max_datagram=208) as quiet:
        batch = Batch(bytearray(4 * 208), max_datagram=208)
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                with suppress(ValueError):
                    for datagram in batch:
                        data = bytes(datagram)
                        assert data == payload(number_of(data))
                        assert datagram.source == quiet.sender.address
                with suppress(ValueError):
                    numbers = batch.records("<u8").tolist()
                    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True

        readers = [Worker(read) for _ in range(READERS)]
        try:
            for number in range(rounds):
                quiet.send(payload(2 * number), payload(2 * number + 1))
                left = 2
                while left:
                    with suppress(BufferError):
                        left -= quiet.receiver.recv_batch_into(batch, PATIENCE)
        finally:
            done.set()
        for reader in readers:
            reader.result()


def test_batch_that_is_refilled_and_released_and_looked_at(engine: str) -> None:
    with feed(engine=engine) as quiet:
        for _ in range(150):
            batch = Batch(bytearray(4096))
            start = threading.Barrier(3)

            def fill(batch: Batch = batch, start: threading.Barrier = start) -> None:
                start.wait(PATIENCE)
                with suppress(ValueError):  # it was released
                    while True:
                        with suppress(BlockingIOError, BufferError):
                            quiet.receiver.recv_batch_into(batch, 0)

            def look(batch: Batch = batch, start: threading.Barrier = start) -> None:
                start.wait(PATIENCE)
                with suppress(ValueError):
                    while True:
                        assert len(batch.lengths) in (0, 1)
                        assert batch.capacity == 2

            workers = [Worker(fill), Worker(look)]
            quiet.send(b"x")
            start.wait(PATIENCE)
            while True:
                try:
                    batch.release()
                except (BufferError, RuntimeError):
                    continue
                break
            for worker in workers:
                worker.result()
            with suppress(BlockingIOError):
                quiet.receiver.recv_batch(0)


def test_sources_are_not_mixed_up_by_threads_that_ask_for_them(engine: str) -> None:
    with Receiver.from_socket(bound_socket(), engine=engine) as receiver:
        senders = [connected_sender(receiver.address) for _ in range(3)]
        try:
            addresses = [sender.address for sender in senders]

            def read(batch: Batch) -> None:
                for _ in range(300):
                    for datagram in batch:
                        assert datagram.source == addresses[datagram[0]]

            for number in range(COUNT):
                senders[number % 3].send(bytes([number % 3]))
            batch = receiver.recv_batch(PATIENCE)
            assert len(batch) == COUNT
            for reader in [Worker(lambda: read(batch)) for _ in range(READERS)]:
                reader.result()
        finally:
            for sender in senders:
                sender.close()


def test_records_of_different_dtypes_are_not_mixed_up_by_threads(engine: str) -> None:
    dtypes = [np.dtype(name) for name in ("<u8", "<u4", "<u2", "u1")]
    with feed(engine=engine) as quiet:
        batch = quiet.batch(*PAYLOADS)

        def read(dtype: np.dtype[np.generic]) -> None:
            for _ in range(300):
                found = batch.records(dtype)
                assert found.dtype == dtype
                assert found.tolist() == list(range(COUNT))

        for reader in [Worker(lambda dtype=dtype: read(dtype)) for dtype in dtypes]:  # type: ignore[misc]
            reader.result()
