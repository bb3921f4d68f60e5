"""Input is cut into datagrams without loss, and datagrams go out when they are due."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcastfast.commands.pacing import BACKLOG, Pacer
from mcastfast.commands.payloads import Generated, Lines, Pieces
from mcastfast.commands.stopping import Stop


class Trickle(io.RawIOBase):
    """A pipe whose writer wrote these parts, one at a time."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = [part for part in parts if part]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if not self.parts:
            return 0
        part, self.parts[0] = self.parts[0][: len(buffer)], self.parts[0][len(buffer) :]
        if not self.parts[0]:
            del self.parts[0]
        buffer[: len(part)] = part
        return len(part)


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
    pieces = drain(Pieces(io.BufferedReader(Trickle(parts)), size, Stop()), most)
    assert pieces == [data[start : start + size] for start in range(0, len(data), size)]


@given(st.lists(st.sampled_from([b"a", b"bc\n", b"\n", b"d\r\n", b"\re"]), max_size=12), st.integers(1, 10))
def test_lines_are_the_stream_s_lines(parts: list[bytes], most: int) -> None:
    data = b"".join(parts)
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    lines = drain(Lines(io.BufferedReader(Trickle(parts)), Stop()), most)
    assert lines == [line.removesuffix(b"\r") for line in expected]


def test_a_line_without_end_is_taken_before_it_fills_the_memory() -> None:
    stream: io.BufferedReader = io.BufferedReader(Trickle([bytes(10_000)] * 100))
    (line,) = Lines(stream, Stop()).take(5)
    assert 65_507 < len(line) < 200_000


@pytest.mark.parametrize(("size", "second"), [(1, b"\x01"), (8, bytes(7) + b"\x01"), (10, bytes(7) + b"\x01\0\0")])
def test_generated_datagrams_have_their_size_and_number(size: int, second: bytes) -> None:
    generated = Generated(size)
    assert generated.take(2) == [bytes(size), second]
    assert generated.take(300)[-1][:8] == (301).to_bytes(8, "big")[max(8 - size, 0) :]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.floats(0.1, 1e6), st.lists(st.floats(0, BACKLOG / 2), max_size=50))
def test_pacer_never_runs_ahead_and_keeps_up(rate: float, steps: list[float]) -> None:
    clock = Clock()
    pacer = Pacer(rate, clock=clock)
    sent = 0
    for step in steps:
        clock.now += step
        while due := pacer.due(64):
            pacer.spend(due)
            sent += due
        expected = (clock.now - 100.0) * rate + 1
        assert expected - 1.01 <= sent <= expected + 0.01


def test_pacer_does_not_make_up_for_a_long_pause() -> None:
    clock = Clock()
    pacer = Pacer(1000, clock=clock)
    clock.now += 3600
    assert 100 <= pacer.due(10**6) <= 101


def test_pacer_says_how_long_to_wait() -> None:
    clock = Clock()
    pacer = Pacer(10, clock=clock)
    pacer.spend(pacer.due(1))
    assert pacer.due(1) == 0
    assert pacer.pause() == pytest.approx(0.1)
    clock.now += 0.11
    assert (pacer.pause(), pacer.due(5)) == (0.0, 1)


def test_without_a_rate_everything_is_due() -> None:
    pacer = Pacer(None)
    pacer.spend(1000)
    assert pacer.due(64) == 64
