"""Batches of a receive thread: what has gathered, joined where it lies in a row, and true for as long as it is held."""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from backgroundlab import SIZE, payloads, send_slowly, take_all, wait_until_seen, ways
from netlab import scaled
from traffic import HOSTS, PATIENCE, feed, payload

from mcastfast import Batch, DatagramFlag

if TYPE_CHECKING:
    from collections.abc import Callable


@ways
def test_lone_datagrams_that_gathered_are_one_batch(way: dict[str, Any]) -> None:
    with feed(background=SIZE, batch_size=64, **way) as quiet:
        send_slowly(quiet, range(50), burst=1)
        assert quiet.receiver.recv_batch(PATIENCE).payloads() == [payload(number) for number in range(50)]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@ways
def test_a_batch_has_batch_size_datagrams_at_most(way: dict[str, Any], batch_size: int) -> None:
    with feed(background=SIZE, batch_size=batch_size, **way) as busy:
        send_slowly(busy, range(1000))
        batches = list(take_all(busy.receiver))
        largest = max(map(len, batches))
        assert batch_size - batch_size // 16 <= largest <= batch_size  # an arena may end with few rows left
        assert payloads(batches) == [payload(number) for number in range(1000)]


def _check_columns(batch: Batch) -> None:
    """Offsets and lengths lead from the batch's data to what iteration shows, each datagram to bytes of its own."""
    data, offsets, lengths = batch.data, batch.offsets, batch.lengths
    ends = [offset + length for offset, length in zip(offsets, lengths, strict=True)]
    assert max(ends) <= len(data)
    for offset, end, datagram in zip(offsets, ends, batch, strict=True):
        assert data[offset:end] == datagram
    in_order = sorted(zip(offsets, ends, strict=True))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(in_order))
    assert [bytes(datagram) for datagram in batch.copy()] == batch.payloads()


@ways
def test_columns_lead_to_the_payloads_after_joins_and_partial_takes(way: dict[str, Any]) -> None:
    choice = random.Random(7)
    memory = Batch(bytearray(2048 * 13), max_datagram=2048)
    received: list[bytes] = []
    with feed(background=SIZE, batch_size=37, **way) as busy:
        for start in range(0, 3000, 100):
            send_slowly(busy, range(start, start + 100), burst=choice.choice([1, 5, 50]))
            while len(received) < start + choice.randrange(100):
                if choice.random() < 0.5:
                    batch = busy.receiver.recv_batch(0)
                    _check_columns(batch)
                    received += batch.payloads()
                else:
                    assert 1 <= busy.receiver.recv_batch_into(memory, 0) <= 13
                    _check_columns(memory)
                    received += memory.payloads()
        for batch in take_all(busy.receiver):
            _check_columns(batch)
            received += batch.payloads()
    assert received == [payload(number) for number in range(3000)]


@ways
def test_records_of_a_joined_batch_are_right(way: dict[str, Any]) -> None:
    with feed(background=SIZE, batch_size=500, max_datagram=64, **way) as busy:
        for number in range(400):
            busy.send(number.to_bytes(8, "little"))
            wait_until_seen(busy.receiver, number + 1)
        found = np.concatenate([batch.records("<u8") for batch in take_all(busy.receiver)])
        assert found.tolist() == list(range(400))


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(lambda batch: batch, id="batches"),
        pytest.param(list, id="datagrams"),
        pytest.param(lambda batch: [memoryview(datagram) for datagram in batch], id="views"),
    ],
)
@ways
def test_what_is_held_stays_true_while_the_thread_goes_on(way: dict[str, Any], keep: Callable[[Batch], Any]) -> None:
    """Some batches are held through 200,000 datagrams that use the other arenas again and again."""
    total = scaled(200_000)
    held: list[tuple[int, Any]] = []
    count = 0
    with feed(background=SIZE, batch_size=64, **way) as busy:
        for start in range(0, total, 100):
            busy.send(*map(payload, range(start, start + 100)))
            while count < start + 100:
                batch = busy.receiver.recv_batch(PATIENCE)
                assert batch[0] == payload(count)
                if start % (total // 10) == 0:
                    held.append((count, keep(batch)))
                count += len(batch)
        assert busy.receiver.stats.overrun == 0
        assert len(held) >= 10
        for first, kept in held:
            assert [bytes(data) for data in kept] == [payload(first + row) for row in range(len(kept))]


@pytest.mark.parametrize("family", HOSTS)
@ways
def test_it_goes_on_while_python_never_lets_go(never_switching: None, way: dict[str, Any], family: int) -> None:
    with feed(family, background=SIZE, **way) as busy:
        for number in range(20):
            busy.sender.send(payload(number))  # which keeps the GIL
        started = time.monotonic()
        while time.monotonic() - started < 0.5:
            sum(range(100_000))
        before = busy.receiver.stats
        assert (before.datagrams, before.overrun) == (20, 0)
        received = [data for batch in busy.receive(20) for data in batch.payloads()]
        assert received == [payload(number) for number in range(20)]


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("family", HOSTS)
def test_it_coalesces_by_itself_unless_told(family: int) -> None:
    for coalesce, exact in ((None, False), (True, False), (False, True)):
        with feed(family, background=SIZE, coalesce=coalesce, metadata=["timestamp"]) as busy:
            assert busy.receiver.stats.kernel_drops_exact is exact
            busy.send(*[b"%03d" % number for number in range(40)])
            batches = busy.receive(40)
            assert payloads(batches) == [b"%03d" % number for number in range(40)]
            shared = [bool(flags & DatagramFlag.SHARED_TIME) for batch in batches for flags in batch.flags]
            assert shared == [not exact] * 40


@ways
def test_batches_outlive_the_receiver(way: dict[str, Any]) -> None:
    with feed(background=SIZE, batch_size=64, **way) as busy:
        send_slowly(busy, range(300))
        batches = [busy.receiver.recv_batch(0) for _ in range(3)]
    del busy
    received = payloads(batches)
    assert received == [payload(number) for number in range(len(received))]
