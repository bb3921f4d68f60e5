"""records(): NumPy records over the datagrams of a batch, in place where they lie evenly, and checked before a read."""

from __future__ import annotations

import gc
import itertools
import struct
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic import feed, payload

from mcastfast import Batch, Receiver

TICK = np.dtype([("symbol", "S4"), ("price", "<f8"), ("size", "<i4")])


def _tick(number: int) -> bytes:
    return struct.pack("<4sdi", b"%04d" % number, number / 4, -number)


def _batch(engine: str, *payloads: bytes, **options: int) -> Batch:
    """A batch that outlives its receiver."""
    with feed(engine=engine, **options) as quiet:
        return quiet.batch(*payloads)


def _lies_inside(array: npt.NDArray[np.void], batch: Batch) -> bool:
    data = np.asarray(batch.data)
    first, last = np.lib.array_utils.byte_bounds(array)
    begin, end = np.lib.array_utils.byte_bounds(data)
    return begin <= first and last <= end


def test_records_read_each_payload_where_it_lies(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(*[_tick(number) + bytes(number) for number in range(20)])
        records = batch.records(TICK)
        assert records.dtype == TICK
        assert records.shape == (20,)
        assert [record.tobytes() for record in records] == [_tick(number) for number in range(20)]
        assert _lies_inside(records, batch)
        assert records.strides[0] == batch.offsets[1]


def test_offset_skips_a_header_without_a_copy(engine: str) -> None:
    batch = _batch(engine, *[b"head" + _tick(number) for number in range(3)])
    records = batch.records(TICK, offset=4)
    assert [record.tobytes() for record in records] == [_tick(number) for number in range(3)]
    assert _lies_inside(records, batch)


def test_every_form_of_a_dtype_is_taken(engine: str) -> None:
    batch = _batch(engine, b"\x01\x02\x03\x04", b"\x05\x06\x07\x08")
    assert batch.records("<u4").tolist() == [0x04030201, 0x08070605]
    assert batch.records(np.uint8).tolist() == [1, 5]
    assert batch.records(np.dtype(">u2"), offset=2).tolist() == [0x0304, 0x0708]
    assert batch.records([("a", "u1"), ("b", "u1")])["b"].tolist() == [2, 6]
    assert batch.records({"names": ["z"], "formats": ["u1"], "offsets": [3]})["z"].tolist() == [4, 8]
    assert batch.records("(2,)u2").shape in {(2,), (2, 2)}
    with pytest.raises(TypeError):
        batch.records("no such type")


def test_array_is_read_only_for_good(engine: str) -> None:
    batch = _batch(engine, _tick(1), _tick(2))
    for records in (batch.records(TICK), batch.copy().records(TICK), _batch(engine, _tick(1)).records(TICK)):
        assert not records.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            records["size"] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            records.setflags(write=True)
        with pytest.raises(ValueError, match="WRITEABLE"):
            records["size"].setflags(write=True)


def test_array_keeps_the_batch_and_stops_its_release(engine: str) -> None:
    batch = _batch(engine, *[payload(number) for number in range(8)])
    numbers = batch.records("<u8")
    with pytest.raises(BufferError, match="still alive"):
        batch.release()
    del batch
    gc.collect()
    assert numbers.tolist() == list(range(8))


def test_uneven_datagrams_are_gathered(engine: str) -> None:
    copy = _batch(engine, *[_tick(number) + bytes(number) for number in range(5)]).copy()
    records = copy.records(TICK)
    assert [record.tobytes() for record in records] == [_tick(number) for number in range(5)]
    assert not _lies_inside(records, copy)
    even = _batch(engine, *[_tick(number) for number in range(5)]).copy()
    assert _lies_inside(even.records(TICK), even)
    assert even.records(TICK).tobytes() == b"".join(_tick(number) for number in range(5))


def test_gathered_records_are_a_copy_that_lets_the_batch_go(engine: str) -> None:
    copy = _batch(engine, b"ab", b"cde", b"fg").copy()
    records = copy.records("S2")
    copy.release()
    assert records.tolist() == [b"ab", b"cd", b"fg"]


@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 2, 4], [1], [4], [0, 1, 3], [2, 3], [0, 3, 4]], ids=str)
def test_rows_around_the_holes_of_a_filter_are_right(engine: str, kept: list[int], loopback: object) -> None:
    groups = ["239.7.7.1", "239.7.7.2"]
    with Receiver(groups[0], port=5008, bind="any", interface="lo", engine=engine) as receiver:
        with Receiver(groups[1], port=5008, bind="any", interface="lo"), feed() as other:
            with other.sender.detach() as sock:
                receiver.join("239.7.7.3", interface="lo")
                receiver._set_filter([(bytes(10) + b"\xff\xff\xef\x07\x07\x01", 1)])
                for number in range(5):
                    sock.connect((groups[0] if number in kept else "239.7.7.3", 5008))
                    sock.send(_tick(number))
            batch = receiver.recv_batch(10)
        assert batch.payloads() == [_tick(number) for number in kept]
        assert [record.tobytes() for record in batch.records(TICK)] == [_tick(number) for number in kept]
        steps = {after - before for before, after in itertools.pairwise(kept)}
        assert _lies_inside(batch.records(TICK), batch) == (len(steps) <= 1)
        assert receiver.stats.foreign == 5 - len(kept)


@pytest.mark.parametrize(
    "dtype",
    [
        object,
        [("a", "u1"), ("b", object)],
        [("outer", [("inner", [("x", "O")])])],
        np.dtype((object, (2,))),
        [("a", "u1"), ("nested", [("many", object, (3,))])],
    ],
    ids=str,
)
def test_dtype_with_objects_is_refused(engine: str, dtype: npt.DTypeLike) -> None:
    batch = _batch(engine, bytes(100))
    for candidate in (batch, batch.copy()):
        with pytest.raises(ValueError, match=r"records: .* holds Python objects"):
            candidate.records(dtype)


@pytest.mark.parametrize("dtype", ["V0", "S0", "U0", []], ids=str)
def test_dtype_without_a_size_is_refused(engine: str, dtype: npt.DTypeLike) -> None:
    with pytest.raises(ValueError, match=r"records: .* has no size"):
        _batch(engine, b"x").records(dtype)


def test_short_datagram_is_named_with_its_index_and_length(engine: str) -> None:
    batch = _batch(engine, _tick(0), _tick(1), b"fifteen bytes..", b"")
    for candidate in (batch, batch.copy()):
        with pytest.raises(ValueError, match=r"records: datagram 2 has 15 bytes, .* at offset 0 needs 16"):
            candidate.records(TICK)
        with pytest.raises(ValueError, match=r"records: datagram 0 has 16 bytes, .* at offset 1 needs 17"):
            candidate.records(TICK, offset=1)
        with pytest.raises(ValueError, match=r"records: datagram 3 has 0 bytes, uint8 at offset 0 needs 1"):
            candidate.records("u1")


def test_truncated_datagram_counts_as_what_arrived(engine: str) -> None:
    batch = _batch(engine, bytes(100), max_datagram=10)
    assert batch.records("V10").shape == (1,)
    with pytest.raises(
        ValueError, match=r"datagram 0 has 10 bytes.* needs 11; it was cut at max_datagram=10: raise that"
    ):
        batch.records("V11")


@pytest.mark.parametrize("offset", [100, 2**31, 2**32, 2**63 - 2, 2**63 - 1])
def test_offset_beyond_every_datagram_is_refused_however_large(engine: str, offset: int) -> None:
    with pytest.raises(
        ValueError, match=rf"records: datagram 0 has 100 bytes, uint16 at offset {offset} needs {offset + 2}"
    ):
        _batch(engine, bytes(100)).records("u2", offset=offset)


@pytest.mark.parametrize("offset", [-1, -(2**63)])
def test_negative_offset_is_refused(engine: str, offset: int) -> None:
    with pytest.raises(ValueError, match=f"offset={offset} is negative"):
        _batch(engine, bytes(100)).records("u2", offset=offset)


def test_dtype_larger_than_any_datagram_is_refused(engine: str) -> None:
    with pytest.raises(ValueError, match="datagram 0 has 1 bytes"):
        _batch(engine, b"x").records(np.dtype(("V", 2**31 - 1)))


def test_batch_over_ones_own_memory_that_was_never_filled_has_no_records() -> None:
    assert Batch(bytearray(4096)).records(TICK).shape == (0,)


def test_same_dtype_object_again_is_not_mistaken_for_another(engine: str) -> None:
    batch = _batch(engine, b"\x01\x02\x03\x04")
    small, large = np.dtype("u1"), np.dtype("<u4")
    for _ in range(3):
        assert batch.records(small).tolist() == [1]
        assert batch.records(large).tolist() == [0x04030201]
        with pytest.raises(ValueError, match="Python objects"):
            batch.records(np.dtype(object))


@given(
    payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=12),
    size=st.integers(1, 12),
    offset=st.integers(0, 30),
)
def test_records_are_the_slices_of_the_payloads_or_name_the_first_short_one(
    engine: str, payloads: list[bytes], size: int, offset: int
) -> None:
    received = _batch(engine, *payloads)
    short = next((index for index, data in enumerate(payloads) if len(data) < offset + size), None)
    for batch in (received, received.copy()):
        if short is None:
            assert batch.records(f"V{size}", offset=offset).tobytes() == b"".join(
                data[offset : offset + size] for data in payloads
            )
        else:
            with pytest.raises(ValueError, match=f"datagram {short} has {len(payloads[short])} bytes"):
                batch.records(f"V{size}", offset=offset)


def test_numpy_is_imported_by_the_first_records_only() -> None:
    program = """
import sys, mcastfast
from mcastfast import Batch
batch = Batch(bytearray(100), max_datagram=10)
batch.lengths, batch.payloads(), batch.copy()
assert "numpy" not in sys.modules
batch.records("u1")
assert "numpy" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_numpy_the_error_says_what_to_install() -> None:
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from mcastfast import Batch
try:
    Batch(bytearray(100), max_datagram=10).records("u1")
except ImportError as error:
    assert "pip install mcastfast[numpy]" in str(error), error
else:
    raise SystemExit("no ImportError")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
