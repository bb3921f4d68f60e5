"""Views of a coalesced batch: records, columns, copies and data agree, also where a train lies in two pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from coalescelab import Path, Shot, collect, numbered, open_path, path_name, payloads_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from receivelab import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcastfast import Batch

pytestmark = pytest.mark.needs("namespaces", "ipv6", "numpy")


@pytest.fixture(params=[("lo", family) for family in FAMILIES], ids=path_name)
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield from open_path(request)


def check(batch: Batch, expected: list[bytes], size: int) -> None:
    assert batch.payloads() == expected
    assert [bytes(one) for one in batch] == expected
    assert [bytes(batch[index - len(batch)]) for index in range(len(batch))] == expected
    ends = np.asarray(batch.offsets).astype("u8") + np.asarray(batch.lengths)
    assert int(ends.max()) <= len(batch.data)
    records = batch.records(f"S{size}") if size else None
    if records is not None:
        assert records.tobytes() == b"".join(payload[:size] for payload in expected)
        assert batch.records("u1", offset=size - 1).tolist() == [payload[size - 1] for payload in expected]
    copy = batch.copy()
    assert copy.payloads() == expected
    assert bytes(copy.data) == b"".join(expected)


SHOTS = st.lists(
    st.builds(
        lambda number, size, count, last: numbered(number, size, count, last=min(size, last)),
        st.integers(0, 2**31),
        st.sampled_from([8, 64, 64, 64, 128, 500, 3000]),
        st.integers(1, 20),
        st.sampled_from([8, 64, 3000]),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shots=SHOTS, batch_size=st.integers(1, 20), limit=st.sampled_from([16, 64, 2048]))
def test_all_views_agree(path: Path, shots: list[Shot], batch_size: int, limit: int) -> None:
    expected = [payload[:limit] for payload in payloads_of(shots)]
    with path.receiver(batch_size=batch_size, max_datagram=limit) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, *shots)
        batches = collect(receiver, len(expected))
        pictures = [bytes(batch.data) for batch in batches]
        start = 0
        for batch in batches:
            part = expected[start : start + len(batch)]
            check(batch, part, min(map(len, part)))
            start += len(batch)
        shooter.shoot(path.family.group, *shots)
        collect(receiver, len(expected))
        assert [bytes(batch.data) for batch in batches] == pictures


def test_records_of_rows_that_lie_in_reverse_are_in_the_order_of_arrival(path: Path) -> None:
    """The end of a train that was copied lies behind the train that came after it."""
    shots = [numbered(0, 64, 3), numbered(10, 64, 2)]
    with path.receiver(batch_size=2, max_datagram=64) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, *shots)
        _, batch, _ = collect(receiver, 5)
        first, second = batch.offsets
        assert first > second
        assert batch.records("S64").tobytes() == b"".join(payloads_of(shots)[2:4])


def test_records_of_a_train_are_no_copy(path: Path) -> None:
    with path.receiver() as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, numbered(0, 48, 100))
        (batch,) = collect(receiver, 100)
        records = batch.records(np.dtype("S48"))
        assert np.shares_memory(records, np.asarray(batch.data))
        assert records.strides == (48,)


def test_datagrams_views_and_arrays_outlive_the_receiver(path: Path) -> None:
    train = numbered(0, 48, 100)
    with path.receiver(batch_size=30) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, train)
        batches = collect(receiver, 100)
        kept = [(batch[5], batch.records("S48"), batch.offsets) for batch in batches]
        del batches
        shooter.shoot(path.family.group, *(numbered(1000 * number, 48, 128) for number in range(20)))
        collect(receiver, 20 * 128)
    sent = train.datagrams()
    for number, (datagram, records, offsets) in enumerate(kept):
        part = sent[30 * number : 30 * number + 30]
        assert datagram == part[5]
        assert records.tobytes() == b"".join(part)
        assert len(offsets) == len(part)
