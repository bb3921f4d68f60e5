"""The timed loops around one call, each at one place: whoever makes the call pays for the same loop.

The call takes exactly one argument: passing on any number of them would cost as much as some of what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from bench.climit import SLOTS

Move = Callable[[int], tuple[int, int]]
"""Moves so many datagrams; returns nanoseconds and how many went."""


def each(call: Callable[[Any], object], argument: object) -> Move:
    """Make one call for each datagram."""

    def move(count: int) -> tuple[int, int]:
        start = perf_counter_ns()
        for _ in range(count):
            call(argument)
        return perf_counter_ns() - start, count

    return move


def batches_sent(send_batch: Callable[[Any], int], payloads: object) -> Move:
    """Send the same payloads until so many went."""

    def move(count: int) -> tuple[int, int]:
        sent = 0
        start = perf_counter_ns()
        while sent < count:
            sent += send_batch(payloads)
        return perf_counter_ns() - start, sent

    return move


def distinct_payloads(size: int) -> list[bytes]:
    """One batch. One object 64 times would stay in the nearest cache."""
    return [bytes([slot]) * size for slot in range(SLOTS)]
