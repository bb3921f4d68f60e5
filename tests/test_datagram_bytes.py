"""A Datagram is its bytes to everyone who asks: equality, hash, order, indexing, buffer protocol, pickle."""

from __future__ import annotations

import copy
import hashlib
import io
import operator
import pickle
import struct
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic import PATIENCE, feed

from mcastfast import Batch, Datagram, ReceiverSet

if TYPE_CHECKING:
    from collections.abc import Callable

COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


def _datagrams(engine: str, *payloads: bytes) -> list[Datagram]:
    with feed(engine=engine) as quiet:
        return list(quiet.batch(*payloads))


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 40))
def test_compares_as_its_bytes_with_everything_bytes_like(engine: str, left: bytes, right: bytes, shared: int) -> None:
    right = left[:shared] + right
    first, second = _datagrams(engine, left, right)
    for compare in COMPARISONS:
        expected = compare(left, right)
        assert compare(first, second) == expected
        assert compare(first, right) == expected
        assert compare(left, second) == expected
        assert compare(first, bytearray(right)) == expected
        assert compare(bytearray(left), second) == expected
    assert (first == memoryview(right)) == (left == right)
    assert (memoryview(left) == second) == (left == right)
    assert sorted([first, second]) == sorted([left, right])


@given(st.binary(max_size=20), st.binary(max_size=3), st.integers(0, 20), st.integers(0, 255))
def test_contains_what_its_bytes_contain(engine: str, data: bytes, part: bytes, at: int, octet: int) -> None:
    data = data[:at] + part + data[at:]
    datagram, other = _datagrams(engine, data, b"M-SEARCH")
    for sought in (part, bytearray(part), memoryview(part), b"M-SEARCH", octet):
        assert (sought in datagram) == (sought in data)
    assert b"SEARCH" in other
    assert datagram in datagram
    with pytest.raises(TypeError):
        "text" in other  # type: ignore[operator] # noqa: B015
    with pytest.raises(ValueError, match="in range"):
        256 in other  # noqa: B015


@given(st.binary(max_size=60))
def test_hashes_as_its_bytes(engine: str, data: bytes) -> None:
    (datagram,) = _datagrams(engine, data)
    assert hash(datagram) == hash(data)
    assert {data: "found"}[datagram] == "found"  # type: ignore[index]
    assert {datagram, data} == {data}


@given(st.binary(max_size=60), st.slices(60))
def test_slices_as_its_bytes(engine: str, data: bytes, part: slice) -> None:
    (datagram,) = _datagrams(engine, data)
    assert type(datagram[part]) is bytes
    assert datagram[part] == data[part]


@given(st.binary(max_size=20), st.integers(-25, 25))
def test_indexes_as_its_bytes(engine: str, data: bytes, index: int) -> None:
    (datagram,) = _datagrams(engine, data)
    if -len(data) <= index < len(data):
        assert datagram[index] == data[index]
    else:
        with pytest.raises(IndexError, match=f"the datagram has {len(data)} bytes"):
            datagram[index]


def test_is_iterated_as_its_bytes(engine: str) -> None:
    (datagram,) = _datagrams(engine, b"abc")
    assert isinstance(datagram, Iterable)
    octets = iter(datagram)
    assert next(octets) == ord("a")
    del datagram
    assert bytes(octets) == b"bc"


@pytest.mark.parametrize("other", [0, "text", None, 1.5, ..., [1, 2]], ids=repr)
def test_is_unequal_to_and_unordered_with_what_has_no_bytes(engine: str, other: Any) -> None:
    (datagram,) = _datagrams(engine, b"text")
    assert (datagram == other) is False
    assert (datagram != other) is True
    assert (other == datagram) is False
    for compare in (operator.lt, operator.ge):
        with pytest.raises(TypeError, match="not supported"):
            compare(datagram, other)


def test_compares_with_memory_that_is_not_contiguous(engine: str) -> None:
    (datagram,) = _datagrams(engine, b"ace")
    assert datagram == memoryview(b"abcde")[::2]
    assert memoryview(b"abcde")[::2] == datagram
    assert datagram != memoryview(b"abcdf")[::2]
    assert (datagram == np.frombuffer(b"abcde", "u1")[::2]).all()  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        datagram < memoryview(b"abcde")[::2]  # noqa: B015


def test_index_of_a_wrong_type_is_refused(engine: str) -> None:
    (datagram,) = _datagrams(engine, b"abc")
    for index in ("0", 1.0, None, (0,)):
        with pytest.raises(TypeError):
            datagram[index]  # type: ignore[call-overload]


CONSUMERS: dict[str, tuple[Callable[[Any], object], object]] = {
    "bytes": (bytes, b"\x01\x02\x03\x04"),
    "bytearray": (bytearray, bytearray(b"\x01\x02\x03\x04")),
    "len": (len, 4),
    "list": (list, [1, 2, 3, 4]),
    "in": (lambda d: 3 in d, True),
    "struct.unpack": (lambda d: struct.unpack("<HH", d), (0x0201, 0x0403)),
    "struct.unpack_from": (lambda d: struct.unpack_from(">H", d, 1), (0x0203,)),
    "int.from_bytes": (lambda d: int.from_bytes(d, "big"), 0x01020304),
    "np.frombuffer": (lambda d: np.frombuffer(d, ">u2").tolist(), [0x0102, 0x0304]),
    "join": (lambda d: b"-".join([d, d]), b"\x01\x02\x03\x04-\x01\x02\x03\x04"),
    "concatenation": (lambda d: b"<" + d, b"<\x01\x02\x03\x04"),
    "write": (lambda d: io.BytesIO().write(d), 4),
    "crc": (zlib.crc32, zlib.crc32(b"\x01\x02\x03\x04")),
    "sha256": (lambda d: hashlib.sha256(d).hexdigest(), hashlib.sha256(b"\x01\x02\x03\x04").hexdigest()),
    "memoryview": (lambda d: memoryview(d)[1:3].tolist(), [2, 3]),
    "cast": (lambda d: memoryview(d).cast("I").tolist(), [struct.unpack("=I", b"\x01\x02\x03\x04")[0]]),
    "str": (lambda d: str(d, "latin-1"), "\x01\x02\x03\x04"),
    "truth": (bool, True),
    "iteration": (lambda d: [*d], [1, 2, 3, 4]),
    "reversed": (lambda d: list(reversed(d)), [4, 3, 2, 1]),
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_serves_whoever_takes_bytes(engine: str, name: str) -> None:
    consume, expected = CONSUMERS[name]
    (datagram,) = _datagrams(engine, b"\x01\x02\x03\x04")
    assert consume(datagram) == expected


def test_buffer_is_the_payload_in_place_and_read_only(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(b"first", b"second")
    view = memoryview(batch[1])
    assert (view.format, view.shape, view.readonly, view.c_contiguous) == ("B", (6,), True, True)
    assert np.shares_memory(np.asarray(view), np.asarray(batch.data))
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 0
    with pytest.raises(TypeError, match="read-write"):
        struct.pack_into("B", batch[1], 0, 1)
    with pytest.raises(TypeError, match="item assignment"):
        batch[1][0] = 0  # type: ignore[index]
    assert bytes(view) == b"second"


def test_empty_datagram_is_a_bytes_like_of_length_0(engine: str) -> None:
    (datagram,) = _datagrams(engine, b"")
    assert (len(datagram), bytes(datagram), datagram[:], hash(datagram)) == (0, b"", b"", hash(b""))
    assert datagram == b""
    assert datagram < b"\0"
    assert not datagram
    assert [*memoryview(datagram)] == []
    assert np.frombuffer(memoryview(datagram), "u1").size == 0
    with pytest.raises(IndexError):
        datagram[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_as_bytes(engine: str, protocol: int) -> None:
    (datagram,) = _datagrams(engine, b"\x00payload\xff")
    loaded = pickle.loads(pickle.dumps(datagram, protocol))
    assert type(loaded) is bytes
    assert loaded == b"\x00payload\xff"


def test_copies_are_bytes(engine: str) -> None:
    (datagram,) = _datagrams(engine, b"payload")
    copies: list[object] = [copy.copy(datagram), copy.deepcopy(datagram)]
    for made in copies:
        assert isinstance(made, bytes)
        assert made == b"payload"


def test_batch_does_not_pickle(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(b"x")
    for candidate in (batch, batch.copy(), Batch(bytearray(100), max_datagram=10)):
        with pytest.raises(TypeError, match=r"pickle batch\.payloads\(\)"):
            pickle.dumps(candidate)


def test_sockets_do_not_pickle(engine: str) -> None:
    with feed(engine=engine) as quiet, ReceiverSet([quiet.receiver]) as receivers:
        for candidate in (quiet.receiver, quiet.sender, receivers):
            with pytest.raises(TypeError, match=f"open a {type(candidate).__name__} in each process"):
                pickle.dumps(candidate)


def test_a_batch_has_no_slices(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(b"x", b"y")
        with pytest.raises(TypeError, match=r"list\(batch\)\[0:2\] has datagrams"):
            batch[0:2]  # type: ignore[index]
        assert [bytes(one) for one in list(batch)[0:2]] == batch.payloads()[0:2] == [b"x", b"y"]


def test_cannot_be_made_subclassed_or_given_attributes(engine: str) -> None:
    with pytest.raises(TypeError, match="datagrams come from batches"):
        Datagram()
    for base in (Datagram, Batch):
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Derived", (base,), {})
    (datagram,) = _datagrams(engine, b"x")
    for name in ("source", "truncated", "anything"):
        with pytest.raises(AttributeError):
            setattr(datagram, name, 1)
    stillborn = Datagram.__new__(Datagram)
    assert repr(stillborn) == "<Datagram, its batch was released or refilled>"
    for use in (bytes, len, memoryview, hash):
        with pytest.raises(ValueError, match="released or refilled"):
            use(stillborn)


def test_repr_names_length_and_source(engine: str) -> None:
    with feed(engine=engine) as quiet:
        (datagram,) = quiet.batch(b"four")
        assert repr(datagram) == f"<Datagram of 4 bytes from {quiet.sender.address}>"


def test_same_datagram_is_a_new_object_each_time_and_equal(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(b"x")
    assert batch[0] == batch[0]
    assert batch[0] is not batch[0]


def test_datagrams_of_an_iteration_over_batches_stay_apart(engine: str) -> None:
    with feed(engine=engine, batch_size=3) as quiet:
        quiet.send(*[bytes([number]) for number in range(10)])
        datagrams = quiet.receiver.datagrams()
        kept = [next(datagrams) for _ in range(10)]
        quiet.receiver.close()
        with pytest.raises(StopIteration):
            next(datagrams)
    assert [bytes(datagram) for datagram in kept] == [bytes([number]) for number in range(10)]


def test_keeps_its_batch_alone(engine: str) -> None:
    with feed(engine=engine) as quiet:
        datagram = quiet.batch(b"kept")[0]
        for _ in range(300):
            quiet.send(b"other")
            quiet.receiver.recv_batch(PATIENCE)
        assert datagram == b"kept"
