"""recv_batch_into with coalescing does what it does without: the same datagrams, cuts, flags and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from coalescelab import PATHS, Path, numbered, open_path, path_name, payloads_of

from mcastfast import Batch, DatagramFlag, Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs("namespaces", "ipv6")

SHOTS = [
    numbered(0, 10),
    numbered(1, 300, 40, last=7),
    numbered(50, 0),
    numbered(51, 1400, 3, last=1399),
    numbered(60, 5000),
    numbered(61, 100, 128, last=50),
]
SENT = payloads_of(SHOTS)


@pytest.fixture(params=PATHS, ids=path_name)
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield from open_path(request)


def fill(receiver: Receiver, batch: Batch) -> list[tuple[bytes, int, int]]:
    """What comes, fill by fill: payload, flags, source port."""
    rows: list[tuple[bytes, int, int]] = []
    while True:
        try:
            count = receiver.recv_batch_into(batch, timeout=0)
        except BlockingIOError:
            assert len(batch) == 0
            return rows
        assert count == len(batch) <= batch.capacity
        for row, datagram in enumerate(batch):
            assert batch.offsets[row] == row * (len(batch.data) // batch.capacity)
            rows.append((bytes(datagram), batch.flags[row], batch.source_ports[row]))


@pytest.mark.parametrize("limit", [1, 7, 8, 299, 300, 2048, 9000, 65535])
@pytest.mark.parametrize("own_limit", [16, 65535])
@pytest.mark.parametrize("capacity", [1, 9, 1024])
def test_it_cuts_flags_and_counts_as_the_plain_engine_does(
    path: Path, capacity: int, own_limit: int, limit: int
) -> None:
    """The limit is that of the caller's batch, whatever the receiver's own is."""
    with (
        path.receiver(max_datagram=own_limit) as receiver,
        path.receiver(max_datagram=own_limit, coalesce=False) as plain,
        path.shooter() as shooter,
    ):
        shooter.shoot(path.family.group, *SHOTS)
        expected = [
            (payload[:limit], DatagramFlag.TRUNCATED if len(payload) > limit else 0, shooter.port(path.family))
            for payload in SENT
        ]
        assert fill(receiver, Batch(bytearray(capacity * limit), max_datagram=limit)) == expected
        assert fill(plain, Batch(bytearray(capacity * limit), max_datagram=limit)) == expected
        assert receiver.stats[1:3] == plain.stats[1:3]
        assert receiver.stats.truncated == plain.stats.truncated


def test_limits_may_change_from_call_to_call(path: Path) -> None:
    with path.receiver(max_datagram=32, batch_size=5) as receiver, path.shooter() as shooter:
        train = numbered(0, 100, 40)
        shooter.shoot(path.family.group, train)
        sent = train.datagrams()
        received = receiver.recv_batch(timeout=0).payloads()
        wide = Batch(bytearray(4 * 2048))
        assert receiver.recv_batch_into(wide, timeout=0) == 4
        received += wide.payloads()
        narrow = Batch(bytearray(10 * 8), max_datagram=8)
        assert receiver.recv_batch_into(narrow, timeout=0) == 10
        received += narrow.payloads()
        received += receiver.recv_batch(timeout=0).payloads()
        limits = [32] * 5 + [2048] * 4 + [8] * 10 + [32] * 5
        assert received == [payload[:limit] for payload, limit in zip(sent, limits, strict=False)]
        assert receiver.stats.truncated == 20


def test_the_memory_is_the_callers_and_nothing_else_is_kept(path: Path) -> None:
    memory = np.zeros((64, 256), "u1")
    batch = Batch(memory, max_datagram=256)
    with path.receiver() as receiver, path.shooter() as shooter:
        for number in range(50):
            train = numbered(100 * number, 256, 64)
            shooter.shoot(path.family.group, train)
            assert receiver.recv_batch_into(batch, timeout=0) == 64
            assert memory.tobytes() == train.data
            assert np.shares_memory(np.asarray(batch.data), memory)
        assert receiver.stats.arenas <= 2


def test_every_column_follows(path: Path) -> None:
    names = ("destination", "timestamp", "drops", "hops", "tos")
    batch = Batch(bytearray(128 * 256), max_datagram=256)
    with path.receiver(metadata=names) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, numbered(0, 50, 20))
        assert receiver.recv_batch_into(batch, timeout=0) == 20
        assert {datagram.destination for datagram in batch} == {batch[0].destination}
        assert set(batch.interface_indexes) == {path.receiving.index}
        assert len(set(batch.timestamps)) == 1
        assert batch.timestamps[0]
        assert set(batch.hops) == {1}
        assert set(batch.flags) == {DatagramFlag.SHARED_TIME}
    with path.receiver() as bare, path.shooter() as shooter:
        shooter.shoot(path.family.group, numbered(0, 50, 20))
        assert bare.recv_batch_into(batch, timeout=0) == 20
        assert not any(batch.flags)
        for column in ("timestamps", "hops", "interface_indexes"):
            with pytest.raises(ValueError, match="was not asked for"):
                getattr(batch, column)
