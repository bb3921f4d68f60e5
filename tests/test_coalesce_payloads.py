"""A coalescing receiver delivers what was sent, byte for byte and in order, whatever came in trains."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from coalescelab import MANY, PATHS, Path, Shot, collect, numbered, open_path, path_name, payloads_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from receivelab import FAMILIES, V4, at, is_empty

from mcastfast import DatagramFlag, Sender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcastfast import Batch

pytestmark = pytest.mark.needs("namespaces", "ipv6")

LARGEST = 65_507
"""Bytes of a payload that both families carry."""


@pytest.fixture(params=PATHS, ids=path_name)
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield from open_path(request)


@st.composite
def shots(draw: st.DrawFn, largest: int) -> tuple[int, Shot]:
    """Which of three sources sends what."""
    source, number = draw(st.integers(0, 2)), draw(st.integers(0, 2**31))
    if draw(st.booleans()):
        length = draw(st.integers(0, 100) | st.sampled_from([2047, 2048, 2049, LARGEST]) | st.integers(0, LARGEST))
        return source, numbered(number, length)
    size = draw(st.integers(1, 100) | st.integers(1, largest))
    count = draw(st.integers(2, max(2, min(128, LARGEST // size))))
    return source, numbered(number, size, count, last=draw(st.just(size) | st.integers(1, size)))


def rows_of(batches: list[Batch]) -> list[tuple[bytes, int, int]]:
    """Payload, source port and flags of every row, by way of the columns."""
    rows = []
    for batch in batches:
        data = batch.data
        assert all(offset + length <= len(data) for offset, length in zip(batch.offsets, batch.lengths, strict=True))
        rows += [
            (bytes(data[offset : offset + length]), port, flags)
            for offset, length, port, flags in zip(
                batch.offsets, batch.lengths, batch.source_ports, batch.flags, strict=True
            )
        ]
        assert batch.payloads() == [bytes(datagram) for datagram in batch]
    return rows


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mix_arrives_as_it_was_sent(path: Path, data: st.DataObject) -> None:
    batch_size = data.draw(st.sampled_from([None, 1, 2, 3, 7, 63, 64, 65, 127, 128, 129, 1000]), "batch_size")
    limit = data.draw(st.sampled_from([65535, 65535, 2048, 700, 16, 1]), "max_datagram")
    script = data.draw(st.lists(shots(path.largest), max_size=12), "script")
    batches: list[Batch] = []
    sent: list[tuple[bytes, int, int]] = []
    with (
        path.receiver(batch_size=batch_size, max_datagram=limit) as receiver,
        path.shooter() as a,
        path.shooter() as b,
        path.shooter() as c,
    ):
        waiting, received = 0, 0
        for index, shot in script:
            source = (a, b, c)[index]
            source.shoot(path.family.group, shot)
            for payload in shot.datagrams():
                flags = DatagramFlag.TRUNCATED if len(payload) > limit else 0
                sent.append((payload[:limit], source.port(path.family), flags))
            waiting += len(shot.data)
            if waiting > MANY:
                batches += collect(receiver, len(sent) - received)
                waiting, received = 0, len(sent)
        batches += collect(receiver, len(sent) - received)
        assert is_empty(receiver)
        assert max(map(len, batches), default=0) <= (batch_size or 1024)
        assert rows_of(batches) == sent
        stats = receiver.stats
        assert (stats.batches, stats.datagrams) == (len(batches), len(sent))
        assert stats.bytes == sum(len(payload) for payload, *_ in sent)
        assert stats.truncated == sum(flags == DatagramFlag.TRUNCATED for *_, flags in sent)


MIX = [numbered(0, 10), numbered(1, 300, 40, last=7), numbered(50, 0), numbered(51, 700, 2), numbered(60, 100, 128)]


@pytest.mark.parametrize("batch_size", [*range(1, 180), 1023, 1024])
def test_every_batch_size_cuts_at_its_own_rows(loopback: Any, batch_size: int) -> None:
    path = Path(loopback, loopback, FAMILIES[batch_size % 2], 0)
    expected = payloads_of(MIX)
    with path.receiver(batch_size=batch_size) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, *MIX)
        batches = collect(receiver, len(expected))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert [payload for batch in batches for payload in batch.payloads()] == expected


def test_a_batch_of_ours_relayed_in_trains_comes_through_a_second_time(path: Path) -> None:
    expected = payloads_of(MIX)
    once = dataclasses.replace(path, family=dataclasses.replace(path.family, group=path.family.other))
    with path.receiver(batch_size=50) as receiver, once.receiver() as second, path.shooter() as shooter:
        with path.sending.namespace:
            sender = Sender(at(once.family.group, path.sending), segment=True)
        with sender:
            shooter.shoot(path.family.group, *MIX)
            for batch in collect(receiver, len(expected)):
                assert sender.send_batch(batch) == len(batch)
            assert sender.stats.trains > 0
        received = [payload for batch in collect(second, len(expected)) for payload in batch.payloads()]
    assert received == expected


def test_datagrams_arrive_in_a_train(path: Path) -> None:
    """What all others rest on: in one message that shares its timestamp."""
    with path.receiver(metadata="timestamp") as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, numbered(0, 100, 20))
        (batch,) = collect(receiver, 20)
        assert set(batch.flags) == {DatagramFlag.SHARED_TIME}
        assert len(set(batch.timestamps)) == 1


def test_the_default_batch_holds_1024(loopback: Any) -> None:
    path = Path(loopback, loopback, V4, 0)
    with path.receiver() as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, *(numbered(128 * number, 20, 128) for number in range(9)))
        assert [len(batch) for batch in collect(receiver, 9 * 128)] == [1024, 128]
