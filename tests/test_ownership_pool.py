"""Batches share arenas, arenas go back to the pool, and the pool stays within max_memory without losing a datagram."""

from __future__ import annotations

import contextlib
import gc
import random
import tracemalloc
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import pytest
from netlab import scaled
from traffic import PATIENCE, Feed, ahead, assert_all, feed, number_of, payload

if TYPE_CHECKING:
    from mcastfast import Batch, Datagram


SLOT = 256
LIMIT = {"batch_size": 4, "max_datagram": SLOT, "max_memory": 16 * 1024}


def _fill(feed: Feed) -> list[Batch]:
    """Keep batches of one datagram until the budget is used up; the datagram that did not fit is number len(result)."""
    kept: list[Batch] = []
    while True:
        feed.send(payload(len(kept)))
        try:
            kept.append(feed.receiver.recv_batch(PATIENCE))
        except BufferError:
            return kept


def test_lone_datagrams_share_an_arena(engine: str) -> None:
    with feed(engine=engine, batch_size=8) as quiet:
        kept = [quiet.batch(payload(number)) for number in range(5)]
        assert quiet.receiver.stats.arenas == 1 + ahead(engine)
        assert_all(kept, [payload(number) for number in range(5)])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_memory_begins_where_copies_from_the_kernel_are_never_slow(engine: str, batch_size: int) -> None:
    """Behind the headers' lines, never 1 to 31 bytes behind where a payload lies there: csrc/mcf_batch.c."""
    with feed(engine=engine, batch_size=batch_size) as quiet:
        first = quiet.batch(b"x")
        assert np.asarray(first.data).ctypes.data % 64 == 32


def test_loop_that_drops_each_batch_runs_on_two_arenas_for_ever(engine: str) -> None:
    with feed(engine=engine, batch_size=4) as busy:
        batch = None
        for number in range(1000):
            busy.send(*[b"x"] * (1 + number % 4))
            batch = busy.receiver.recv_batch(PATIENCE)
        assert batch is not None
        assert busy.receiver.stats.arenas == 2 + ahead(engine)


def test_loop_that_drops_each_batch_allocates_nothing(engine: str) -> None:
    with feed(engine=engine, batch_size=4) as busy:
        receiver, send = busy.receiver, busy.sender.send

        def run(rounds: int) -> None:
            for _ in range(rounds):
                send(b"datagram")
                for datagram in receiver.recv_batch(PATIENCE):
                    len(datagram)

        run(2000)
        tracemalloc.start()
        try:
            run(1000)
            before, _ = tracemalloc.get_traced_memory()
            run(scaled(20_000))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 4096
        assert receiver.stats.arenas <= 2 + ahead(engine)


def test_receiving_never_gives_the_collector_work(engine: str) -> None:
    collections: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        collections.append(phase)

    with feed(engine=engine) as busy:
        receiver, send = busy.receiver, busy.sender.send
        total = 0
        gc.collect()
        gc.callbacks.append(note)
        try:
            for _ in range(scaled(50_000)):
                send(b"datagram")
                for datagram in receiver.recv_batch(PATIENCE):
                    total += len(datagram)
        finally:
            gc.callbacks.remove(note)
        assert total == scaled(50_000) * len(b"datagram")
        assert collections == []


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "datagram"])
def test_batch_and_datagram_are_not_tracked_by_the_collector(engine: str, batch: bool) -> None:
    with feed(engine=engine) as quiet:
        received = quiet.batch(b"x")
        kept: Batch | Datagram = received if batch else received[0]
        assert not gc.is_tracked(kept)
        assert not gc.is_tracked(iter(received))


def test_pool_grows_while_batches_are_kept_and_is_reused_when_they_go(engine: str) -> None:
    with feed(engine=engine, batch_size=2, max_datagram=256) as busy:
        kept = [busy.batch(payload(2 * number), payload(2 * number + 1)) for number in range(100)]
        grown = busy.receiver.stats.arenas
        assert grown > 3
        assert_all(kept, [payload(number) for number in range(200)])
        del kept
        again = [busy.batch(b"a", b"b") for _ in range(100)]
        assert busy.receiver.stats.arenas == grown
        assert len(again) == 100


def test_kept_batches_stop_at_max_memory(engine: str) -> None:
    with feed(engine=engine, **LIMIT) as busy:
        kept = _fill(busy)
        assert len(kept) >= 8
        with pytest.raises(BufferError, match=r"max_memory.*nothing was received.*bytes\(datagram\).*batch\.copy\(\)"):
            busy.receiver.recv_batch(0)


def test_refused_receive_loses_nothing(engine: str) -> None:
    with feed(engine=engine, **LIMIT) as busy:
        kept = _fill(busy)
        first = len(kept)
        for number in range(first + 1, first + 10):
            busy.send(payload(number))
        for _ in range(3):
            with pytest.raises(BufferError):
                busy.receiver.recv_batch(0)
        assert busy.receiver.stats.datagrams == first
        assert_all(kept, [payload(number) for number in range(first)])
        del kept[:]
        later = [bytes(datagram) for _ in range(10) for datagram in _receive_some(busy)]
        assert later == [payload(number) for number in range(first, first + 10)]
        assert busy.receiver.stats.kernel_drops == 0


def _receive_some(feed: Feed) -> list[bytes]:
    try:
        return feed.receiver.recv_batch(0).payloads()
    except BlockingIOError:
        return []


def test_what_is_left_of_the_last_arena_is_used_before_the_budget_refuses(engine: str) -> None:
    with feed(engine=engine, **LIMIT) as busy:
        kept = _fill(busy)
        fills = [0] * busy.receiver.stats.arenas
        arena = -1
        last = 0
        for batch in kept:
            address = np.asarray(batch.data).ctypes.data
            arena += address - last != SLOT
            last = address
            fills[arena] += 1
        assert fills[-1] == LIMIT["batch_size"]


def test_budget_holds_for_refused_and_resumed_receives(engine: str) -> None:
    with feed(engine=engine, **LIMIT) as busy:
        most = len(_fill(busy))
        arenas = busy.receiver.stats.arenas
        busy.receive(1)
        for _ in range(5):
            assert most - ahead(engine) <= len(_fill(busy)) <= most  # a row that is posted ahead serves once
            busy.receive(1)
        assert busy.receiver.stats.arenas == arenas


@pytest.mark.parametrize("end", ["release", "with", "copy", "drop"])
def test_ending_a_batch_early_frees_its_share(engine: str, end: str) -> None:
    with feed(engine=engine, **LIMIT) as busy:
        _fill(busy)
        busy.receive(1)
        kept = []
        for number in range(500):
            batch = busy.batch(payload(number))
            match end:
                case "release":
                    batch.release()
                case "with":
                    with batch as entered:
                        assert entered is batch
                case "copy":
                    batch = batch.copy()
            if end != "drop":
                kept.append(batch)
            del batch
        if end == "copy":
            assert_all(kept, [payload(number) for number in range(500)])


def test_one_datagram_keeps_its_arena(engine: str) -> None:
    with feed(engine=engine, batch_size=1, max_datagram=256) as quiet:
        kept = quiet.batch(payload(0))[0]
        for number in range(1, 10):
            quiet.batch(payload(number))
        assert quiet.receiver.stats.arenas == 2 + ahead(engine)
        assert kept == payload(0)


@pytest.mark.parametrize("batch_size", [1, 6])
def test_one_kept_datagram_a_batch_stays_within_the_budget_for_100000_batches(engine: str, batch_size: int) -> None:
    """Until the budget refuses, having received nothing; then half of what is kept goes, and it goes on."""
    choice = random.Random(5)
    most = (1 << 20) // _arena_size(engine, batch_size, 208)
    with feed(engine=engine, batch_size=batch_size, max_datagram=208, max_memory=1 << 20) as busy:
        receiver, send = busy.receiver, busy.sender.send_batch
        kept: deque[tuple[int, Datagram]] = deque()
        sent = received = refusals = 0
        for _ in range(scaled(100_000)):
            if sent - received < batch_size:
                count = choice.randrange(1, batch_size + 1)
                send([payload(number) for number in range(sent, sent + count)])
                sent += count
            while True:
                try:
                    batch = receiver.recv_batch(PATIENCE)
                    break
                except BufferError:
                    refusals += 1
                    assert receiver.stats.datagrams == received
                    assert receiver.stats.arenas == most
                    for _ in range(len(kept) // 2):
                        number, oldest = kept.popleft()
                        assert oldest == payload(number)
            assert number_of(batch[0]) == received
            index = choice.randrange(len(batch))
            kept.append((received + index, batch[index]))
            received += len(batch)
        for number, datagram in kept:
            assert datagram == payload(number)
        assert refusals > 10
        assert receiver.stats.arenas == most
        assert receiver.stats.batches == scaled(100_000)
        assert receiver.stats.datagrams == received >= scaled(100_000) * min(batch_size, 2)


def test_100000_kept_datagrams_are_all_intact_when_the_budget_allows_them(engine: str) -> None:
    with feed(engine=engine, batch_size=1, max_datagram=208) as busy:
        receiver, send = busy.receiver, busy.sender.send
        kept = []
        with contextlib.suppress(BufferError):
            for number in range(scaled(100_000)):
                send(payload(number))
                kept.append(receiver.recv_batch(PATIENCE)[0])
        assert len(kept) == scaled(100_000)
        assert all(datagram == payload(number) for number, datagram in enumerate(kept))


def _arena_size(engine: str, batch_size: int, max_datagram: int) -> int:
    """Bytes of one arena, by what the refusal of a budget says that the least number needs."""
    text = rf"max_memory=1 is too small: batch_size={batch_size} .* needs \d+ bytes"
    with (
        pytest.raises(ValueError, match=text) as error,
        feed(engine=engine, batch_size=batch_size, max_datagram=max_datagram, max_memory=1),
    ):
        pass
    return int(str(error.value).split()[-2]) // (2 + ahead(engine))


@pytest.mark.parametrize("batch_size", [1, 2, 1024])
def test_smallest_budget_is_two_arenas_and_what_is_filled_ahead(engine: str, batch_size: int) -> None:
    least = (2 + ahead(engine)) * _arena_size(engine, batch_size, 300)
    with feed(engine=engine, batch_size=batch_size, max_datagram=300, max_memory=least) as busy:
        for number in range(50):
            batch = busy.batch(payload(number))
        assert batch.payloads() == [payload(49)]
        assert busy.receiver.stats.arenas <= 2 + ahead(engine)
    less = least - 1
    with (
        pytest.raises(ValueError, match="max_memory"),
        feed(engine=engine, batch_size=batch_size, max_datagram=300, max_memory=less),
    ):
        pass
