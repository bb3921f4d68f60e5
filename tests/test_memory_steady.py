"""A loop that drops what it has read keeps to the memory that it started with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from memorylab import SANITIZED, least_growth, reserved
from traffic import PATIENCE, feed

from mcastfast import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic import Feed


def _iterate(quiet: Feed) -> None:
    for datagram in quiet.receiver.recv_batch(PATIENCE):
        len(datagram)


def _payloads(quiet: Feed) -> None:
    quiet.receiver.recv_batch(PATIENCE).payloads()


def _records(quiet: Feed) -> None:
    quiet.receiver.recv_batch(PATIENCE).records("u8")


def _columns(quiet: Feed) -> None:
    batch = quiet.receiver.recv_batch(PATIENCE)
    assert batch.lengths[0] == 8
    assert batch.source_addresses.shape == (1, 16)


def _copy(quiet: Feed) -> None:
    with quiet.receiver.recv_batch(PATIENCE) as batch:
        batch.copy()


def _views(quiet: Feed) -> None:
    batch = quiet.receiver.recv_batch(PATIENCE)
    memoryview(batch[0])
    hash(batch[0])
    assert batch[-1].source == quiet.sender.address


def _refusals(quiet: Feed) -> None:
    batch = quiet.receiver.recv_batch(PATIENCE)
    view = batch.data
    with pytest.raises(BufferError):
        batch.release()
    with pytest.raises(BlockingIOError):
        quiet.receiver.recv_batch(0)
    with pytest.raises(ValueError, match="bytes"):
        batch.records("u8", offset=1)
    with pytest.raises(IndexError):
        batch[100]
    del view


def _into(quiet: Feed) -> None:
    with Batch(bytearray(4096), max_datagram=64) as batch:
        quiet.receiver.recv_batch_into(batch, PATIENCE)


def _rows(quiet: Feed) -> None:
    quiet.sender.send_batch(memoryview(bytearray(16)).cast("B", (2, 8)))
    quiet.sender.send_batch(memoryview(bytearray(16)).cast("B", (2, 8)), [8, 4])
    quiet.receive(5)


def _lists(quiet: Feed) -> None:
    quiet.sender.send(bytearray(8))
    quiet.sender.send_batch([bytes(bytearray(300)), bytes(bytearray(300))])
    quiet.sender.send_batch(bytearray(size) for size in (1, 2, 3))
    with pytest.raises(TypeError):
        quiet.sender.send_batch([bytearray(8), object()])  # type: ignore[list-item]
    quiet.receive(7)


def _relay(quiet: Feed) -> None:
    quiet.sender.send_batch(quiet.receiver.recv_batch(PATIENCE))
    quiet.receive(1)


WAYS: dict[str, tuple[Callable[[Feed], None], int]] = {
    "iterate": (_iterate, 50_000),
    "payloads": (_payloads, 50_000),
    "records": (_records, 20_000),
    "columns": (_columns, 20_000),
    "copy": (_copy, 20_000),
    "views": (_views, 20_000),
    "refusals": (_refusals, 3_000),
    "into": (_into, 10_000),
    "rows": (_rows, 10_000),
    "lists": (_lists, 10_000),
    "relay": (_relay, 10_000),
}


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps freed memory back")
@pytest.mark.parametrize("way", WAYS)
def test_memory_does_not_grow_with_what_was_received(engine: str, way: str) -> None:
    use, rounds = WAYS[way]
    with feed(engine=engine, batch_size=8) as quiet:

        def run() -> None:
            for _ in range(rounds // 3):
                quiet.send(b"12345678")
                use(quiet)

        assert least_growth(run) < 16
        assert quiet.receiver.stats.arenas <= 2


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps freed memory back")
def test_memory_does_not_grow_with_receivers_opened_and_closed(engine: str) -> None:
    def run() -> None:
        for _ in range(600):
            with feed(engine=engine, batch_size=64) as quiet:
                quiet.batch(b"x")

    assert least_growth(run) < 16


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps freed memory back")
def test_arenas_go_with_the_last_of_receiver_and_batches(engine: str) -> None:
    size = 256 * 65535  # of an arena

    def run(count: int) -> None:
        for number in range(count):
            with feed(engine=engine, batch_size=256, max_datagram=65535) as quiet:
                batch = quiet.batch(b"x")
                if number % 2:
                    del batch
            del quiet
            if number % 2 == 0:
                assert batch.payloads() == [b"x"]
                batch.release()

    run(4)
    before = reserved()
    run(30)
    assert reserved() - before < 4 * size


def test_arenas_never_exceed_two_over_a_million_datagrams(engine: str) -> None:
    with feed(engine=engine, batch_size=64, max_datagram=16) as busy:
        burst = [b"12345678"] * 50
        for _ in range(20_000):
            busy.sender.send_batch(burst)
            left = 50
            while left:
                batch = busy.receiver.recv_batch(PATIENCE)
                left -= len(batch)
        assert busy.receiver.stats.arenas <= 2
        assert busy.receiver.stats.datagrams == 1_000_000
