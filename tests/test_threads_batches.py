"""Received batches belong to everyone: many threads read one, and the last reference may die in any of them."""

from __future__ import annotations

import concurrent.futures
import queue
import random
from typing import TYPE_CHECKING

import numpy as np
from netlab import scaled
from traffic import PATIENCE, Worker, feed, number_of, payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastfast import Batch, Datagram

READS: list[Callable[[Batch], object]] = [
    lambda batch: batch.payloads(),
    lambda batch: [bytes(datagram) for datagram in batch],
    lambda batch: [bytes(batch.data[at : at + n]) for at, n in zip(batch.offsets, batch.lengths, strict=True)],
    lambda batch: batch.copy().payloads(),
    lambda batch: [batch[index][:] for index in range(len(batch))],
]


def test_many_threads_read_one_batch(engine: str) -> None:
    with feed(engine=engine) as quiet:
        expected = [payload(number) for number in range(40)]
        batch = quiet.batch(*expected)

        def read(seed: int) -> None:
            choice = random.Random(seed)
            for _ in range(100):
                assert choice.choice(READS)(batch) == expected
                assert batch.records("<u8").tolist() == list(range(40))
                assert {datagram.source for datagram in batch} == {quiet.sender.address}
                assert hash(batch[7]) == hash(expected[7])

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for future in [pool.submit(read, seed) for seed in range(6)]:
                future.result(PATIENCE)
        batch.release()


def test_batches_handed_to_workers_are_intact_and_die_there(engine: str) -> None:
    rounds = scaled(20_000)
    work: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
    results: list[int] = []

    def consume(seed: int) -> None:
        choice = random.Random(seed)
        kept: list[object] = []
        count = 0
        while (batch := work.get()) is not None:
            for datagram in batch:
                number = number_of(memoryview(datagram))
                assert datagram == payload(number)
                count += 1
            match choice.randrange(8):
                case 0:
                    kept.append(datagram)
                case 1:
                    kept.append(memoryview(datagram))
                case 2:
                    kept.append(np.asarray(batch.lengths))
                case 3:
                    batch.payloads()
                    del datagram
                    batch.release()
            if len(kept) > 50:
                kept.clear()
        results.append(count)

    with feed(engine=engine, batch_size=4, max_datagram=208) as busy:
        workers = [Worker(lambda seed=seed: consume(seed)) for seed in range(3)]  # type: ignore[misc]
        sent = 0
        for _ in range(rounds):
            busy.send(*[payload(number) for number in range(sent, sent + 2)])
            sent += 2
            while True:
                try:
                    work.put(busy.receiver.recv_batch(0))
                except BlockingIOError:
                    break
        while busy.receiver.stats.datagrams < sent:
            work.put(busy.receiver.recv_batch(PATIENCE))
        for _ in workers:
            work.put(None)
        for worker in workers:
            worker.result()
        assert sum(results) == sent
        arenas = busy.receiver.stats.arenas
        del workers
        for _ in range(100):
            busy.send(b"x")
            busy.receiver.recv_batch(PATIENCE)
        assert busy.receiver.stats.arenas == arenas


def test_last_reference_dies_in_another_thread_after_the_receiver_is_gone(engine: str) -> None:
    with feed(engine=engine, batch_size=2) as quiet:
        batches = [quiet.batch(payload(2 * number), payload(2 * number + 1)) for number in range(50)]
        datagrams: list[Datagram] = [batch[1] for batch in batches]
    del quiet

    def drop(mine: list[Datagram]) -> None:
        while mine:
            datagram = mine.pop()
            assert datagram == payload(number_of(memoryview(datagram)))

    parts = [datagrams[start::4] for start in range(4)]
    del batches, datagrams
    for worker in [Worker(lambda part=part: drop(part)) for part in parts]:  # type: ignore[misc]
        worker.result()


def test_statistics_can_be_read_by_many_threads_while_datagrams_pass(engine: str) -> None:
    with feed(engine=engine) as busy:
        seen: list[list[int]] = []

        def watch() -> None:
            counts = [0]
            while counts[-1] < 5000:
                counts.append(busy.receiver.stats.datagrams)
            seen.append(counts)

        watchers = [Worker(watch) for _ in range(3)]
        for _ in range(5000):
            busy.send(b"x")
            busy.receiver.recv_batch(PATIENCE)
        for watcher in watchers:
            watcher.result()
        assert all(counts == sorted(counts) for counts in seen)
