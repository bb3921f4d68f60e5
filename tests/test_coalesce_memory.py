"""The memory of a coalescing receiver: what batches show stays true, and what has no room waits and is not lost."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest
from coalescelab import MANY, PATHS, Path, Shot, collect, numbered, open_path, path_name, payloads_of
from receivelab import FAMILIES, at, is_empty, plain_join

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

    from mcastfast import Batch

pytestmark = pytest.mark.needs("namespaces", "ipv6")


@pytest.fixture(params=PATHS, ids=path_name)
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield from open_path(request)


@pytest.fixture(params=FAMILIES, ids=["v4", "v6"])
def lo(request: pytest.FixtureRequest, loopback: netlab.Link) -> Path:
    return Path(loopback, loopback, request.param, 32_000)


def least_memory(path: Path, **options: int) -> int:
    with pytest.raises(ValueError, match="and coalescing needs") as caught:
        path.receiver(max_memory=1, **options)
    return int(re.findall(r"needs (\d+) bytes", str(caught.value))[0])


def trains(count: int, *, each: int = 128, size: int = 64) -> list[Shot]:
    return [numbered(each * number, size, each) for number in range(count)]


@pytest.mark.parametrize("batch_size", [1, 100, 128, 1000, 1024])
@pytest.mark.parametrize("max_datagram", [16, 2048, 65535])
def test_the_least_memory_serves_a_loop_that_keeps_its_last_batch(lo: Path, batch_size: int, max_datagram: int) -> None:
    """Also while the rows of an arena run out again and again in the middle of what one call fetched."""
    sizes = {"batch_size": batch_size, "max_datagram": max_datagram}
    shots = [*trains(5), numbered(9000, 1200, 50), numbered(9100, 1, 128), numbered(9300, 600, 100), *trains(20)]
    expected = payloads_of(shots)
    with lo.receiver(**sizes, max_memory=least_memory(lo, **sizes)) as receiver, lo.shooter() as shooter:
        shooter.shoot(lo.family.group, *shots)
        received: list[bytes] = []
        kept: Batch | None = None
        while len(received) < len(expected):
            batch = receiver.recv_batch(timeout=0)
            if kept is not None:
                assert received[-len(kept) :] == kept.payloads()
            kept = batch
            received += batch.payloads()
        assert received == [payload[:max_datagram] for payload in expected]
        assert receiver.stats.arenas <= 3


def test_what_finds_no_memory_waits_and_arrives_after_a_release(path: Path) -> None:
    shots = trains(30)
    expected = payloads_of(shots)
    options = {"batch_size": 50, "max_datagram": 2048}
    with path.receiver(**options, max_memory=least_memory(path, **options)) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, *shots)
        kept: list[Batch] = []
        received: list[bytes] = []
        refusals = 0
        while len(received) < len(expected):
            try:
                kept.append(receiver.recv_batch(timeout=0))
            except BufferError:
                refusals += 1
                counters = receiver.stats
                with pytest.raises(BufferError, match="nothing was received"):
                    receiver.recv_batch(timeout=0)
                assert receiver.stats == counters
                received += [payload for batch in kept for payload in batch.payloads()]
                kept.clear()
            else:
                if sum(map(len, kept)) + len(received) == len(expected):
                    received += [payload for batch in kept for payload in batch.payloads()]
        assert received == expected
        assert refusals


def test_kept_batches_stay_true_while_hundreds_of_thousands_of_datagrams_pass(path: Path) -> None:
    kept: list[tuple[Batch, list[bytes]]] = []
    with path.receiver(batch_size=300, max_datagram=200, max_memory=2**25) as receiver, path.shooter() as shooter:
        number, passed = 0, 0
        while passed < 300_000:
            shots = [
                numbered(number, 60, 128, last=1),
                numbered(number + 200, 500),
                numbered(number + 201, 1200, 45, last=900),
                numbered(number + 300, 12, 128),
                *(numbered(number + 500 + single, single) for single in range(20)),
            ]
            number += 1000
            expected = [payload[:200] for payload in payloads_of(shots)]
            shooter.shoot(path.family.group, *shots)
            batches = collect(receiver, len(expected))
            assert [payload for batch in batches for payload in batch.payloads()] == expected
            passed += len(expected)
            if number % 20_000 == 0:
                kept += [(batch, batch.payloads()) for batch in batches]
                del kept[:-20]
            del batches
        for batch, shown in kept:
            assert batch.payloads() == shown
    for batch, shown in kept:
        assert batch.payloads() == shown


def test_what_others_joined_never_lands_on_a_kept_batch(lo: Path) -> None:
    """Foreign datagrams end what one call fetched, behind a batch that it filled already."""
    family = lo.family
    with (
        Receiver(at(family.group, lo.receiving), bind="any", batch_size=4, coalesce=True) as receiver,
        lo.shooter() as shooter,
        receiver_joins(receiver, family.other, lo.receiving.index),
    ):
        for number in range(300):
            ours, foreign = numbered(10 * number, 100, 4), numbered(10 * number + 5, 120, 5)
            shooter.shoot(family.group, ours)
            shooter.shoot(family.other, foreign)
            kept = receiver.recv_batch(timeout=0)
            shooter.shoot(family.group, numbered(10 * number + 5, 100, 4))
            again = receiver.recv_batch(timeout=0)
            assert kept.payloads() == ours.datagrams()
            assert again.payloads() == numbered(10 * number + 5, 100, 4).datagrams()
        assert receiver.stats.foreign == 300 * 5
        assert receiver.stats.datagrams == 300 * 8


def receiver_joins(receiver: Receiver, group: str, index: int) -> Receiver:
    """Have the receiver's socket join a group behind its back, so that what comes there is foreign."""
    with socket.socket(fileno=socket.dup(receiver.fileno())) as same:
        plain_join(same, group, index)
    return receiver


@pytest.mark.parametrize("size", [40, 1400])
def test_a_long_train_after_short_messages_is_whole(path: Path, size: int) -> None:
    """It is longer than the place that it gets, and ends in the overflow."""
    long = numbered(0, size, 65_507 // size if size > 512 else 128, last=3)
    short = [numbered(500 + number, 5) for number in range(6)]
    expected = payloads_of([*short, long, *short])
    with path.receiver(max_datagram=16) as receiver, path.shooter() as shooter:
        for _ in range(3):
            shooter.shoot(path.family.group, *short, long, *short)
            batches = collect(receiver, len(expected))
            assert [payload for batch in batches for payload in batch.payloads()] == [one[:16] for one in expected]


def test_places_shrink_again_when_trains_stay_away(lo: Path) -> None:
    """While they are large an arena holds few messages; shown by how many of them share one."""

    def messages_in_a_batch() -> int:
        shooter.shoot(lo.family.group, *(numbered(number, 100) for number in range(64)))
        length = len(receiver.recv_batch(timeout=0))
        collect(receiver, 64 - length)
        return length

    with lo.receiver(max_datagram=2048) as receiver, lo.shooter() as shooter:
        assert messages_in_a_batch() == 64
        shooter.shoot(lo.family.group, numbered(0, 30_000, 2))
        collect(receiver, 2)
        assert messages_in_a_batch() < 20
        for _ in range(20):
            messages_in_a_batch()
        assert messages_in_a_batch() == 64


def test_lone_trains_and_datagrams_share_arenas(lo: Path) -> None:
    kept = []
    with lo.receiver(max_datagram=2048) as receiver, lo.shooter() as shooter:
        for number in range(200):
            shooter.shoot(lo.family.group, numbered(number, 100, 1 + number % 3))
            kept += collect(receiver, 1 + number % 3)
        assert receiver.stats.arenas <= 3


def test_a_queue_far_longer_than_an_arena_comes_through_whole(path: Path) -> None:
    with path.receiver(max_datagram=2048, receive_buffer=2**20) as receiver, path.shooter() as shooter:
        for length in (1, 100, path.largest):
            shots = [numbered(number * 200, length, 2) for number in range(MANY // (2 * length + 800))]
            shooter.shoot(path.family.group, *shots)
            expected = [payload[:2048] for payload in payloads_of(shots)]
            batches = collect(receiver, len(expected))
            assert [payload for batch in batches for payload in batch.payloads()] == expected
        assert is_empty(receiver)
