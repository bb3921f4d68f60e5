"""Input is cut into datagrams without loss, and datagrams are made of nothing."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastfast.commands.payloads import Generated, Lines, Pieces
from mcastfast.commands.stopping import Stop


class Trickle(io.FileIO):
    """A pipe whose writer wrote these parts, one at a time; what select() sees is always readable."""

    def __init__(self, parts: list[bytes]) -> None:
        super().__init__(os.devnull)
        self.parts = [part for part in parts if part]

    def isatty(self) -> bool:
        return False  # Windows' NUL is one

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if not self.parts:
            return 0
        part, self.parts[0] = self.parts[0][: len(buffer)], self.parts[0][len(buffer) :]
        if not self.parts[0]:
            del self.parts[0]
        buffer[: len(part)] = part
        return len(part)


def trickle(parts: list[bytes]) -> io.BufferedReader:
    return io.BufferedReader(Trickle(parts))


def drain(payloads: Pieces | Lines, most: int) -> list[bytes]:
    taken: list[bytes] = []
    while batch := payloads.take(most):
        assert len(batch) <= most
        taken += batch
    return taken


parts = st.lists(st.binary(max_size=50), max_size=10)


@given(parts, st.integers(1, 20), st.integers(1, 10))
def test_pieces_are_the_stream_in_equal_parts(parts: list[bytes], size: int, most: int) -> None:
    data = b"".join(parts)
    with trickle(parts) as stream:
        pieces = drain(Pieces(stream, size, Stop()), most)
    assert pieces == [data[start : start + size] for start in range(0, len(data), size)]


@given(st.lists(st.sampled_from([b"a", b"bc\n", b"\n", b"d\r\n", b"\re"]), max_size=12), st.integers(1, 10))
def test_lines_are_the_stream_s_lines(parts: list[bytes], most: int) -> None:
    data = b"".join(parts)
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    with trickle(parts) as stream:
        lines = drain(Lines(stream, 65_507, Stop()), most)
    assert lines == [line.removesuffix(b"\r") for line in expected]


def test_a_line_without_end_is_taken_before_it_fills_the_memory() -> None:
    source = Trickle([bytes(10_000)] * 1000)
    stream: io.BufferedReader = io.BufferedReader(source)
    with stream, pytest.raises(OSError, match=r"line 1 has more than 1[01]"):
        Lines(stream, 65_507, Stop()).take(5)
    assert len(source.parts) > 800


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(1, 10), st.sampled_from([b"\n", b"\r\n"]))
def test_lines_come_up_to_one_that_is_too_long(sizes: list[int], most: int, end: bytes) -> None:
    fitting = sizes[: sizes.index(6)] if 6 in sizes else sizes
    with trickle([bytes(size) + end for size in sizes]) as stream:
        lines = Lines(stream, 5, Stop())
        taken: list[bytes] = []
        while len(taken) < len(fitting):
            taken += lines.take(most)
        assert taken == [bytes(size) for size in fitting]
        if fitting == sizes:
            assert lines.take(most) == []
        else:
            with pytest.raises(
                OSError, match=rf"\bline {len(fitting) + 1} has 6 bytes, a datagram carries at most 5\n"
            ):
                lines.take(most)


def test_a_line_that_is_too_long_is_no_error_when_the_end_has_come() -> None:
    stop = Stop()
    stop.requested = True
    with trickle([bytes(6)]) as stream:
        lines = Lines(stream, 5, stop)
        lines._input.pending = bytes(6)  # read before
        assert lines.take(1) == []


@pytest.mark.parametrize(("size", "second"), [(1, b"\x01"), (8, bytes(7) + b"\x01"), (10, bytes(7) + b"\x01\0\0")])
def test_generated_datagrams_have_their_size_and_number(size: int, second: bytes) -> None:
    generated = Generated(size)
    assert generated.take(2) == [bytes(size), second]
    assert generated.take(300)[-1][:8] == (301).to_bytes(8, "big")[max(8 - size, 0) :]
