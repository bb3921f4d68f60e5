"""Sending to a group that nobody joined: the sender pays for the system calls and the way through lo, not for delivery.

"Received" is what the kernel counted as sent by UDP in this network (/proc/net/snmp, OutDatagrams).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mcastfast
from bench.climit import SLOTS
from bench.contest import Contestant, Turn
from bench.feed import connected_sender
from bench.loops import Move, batches_sent, distinct_payloads, each
from bench.rig import replayed_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.rig import Rig

    Way = Callable[[Rig, ExitStack, socket.socket, int], Move]

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 75
COUNT = 16 * SLOTS
PORT = 40000


def _c_loop(loop: str) -> Way:
    def open_way(rig: Rig, stack: ExitStack, sock: socket.socket, size: int) -> Move:
        descriptor = sock.fileno()
        return lambda count: rig.limit.send(loop, descriptor, count, size)

    return open_way


def _socket_send(rig: Rig, stack: ExitStack, sock: socket.socket, size: int) -> Move:
    return each(sock.send, bytes(size))


def _sender(stack: ExitStack, sock: socket.socket, engine: str, *, segment: bool = False) -> mcastfast.Sender:
    sender = mcastfast.Sender.from_socket(sock, engine=engine, segment=segment)
    stack.callback(sender.close)
    return sender


def _send(rig: Rig, stack: ExitStack, sock: socket.socket, size: int) -> Move:
    return each(_sender(stack, sock, "socket").send, bytes(size))


def _send_batch(engine: str, *, segment: bool = False) -> Way:
    def open_way(rig: Rig, stack: ExitStack, sock: socket.socket, size: int) -> Move:
        return batches_sent(_sender(stack, sock, engine, segment=segment).send_batch, distinct_payloads(size))

    return open_way


WAYS: dict[str, Way] = {
    "batch64-c": _c_loop("sendmmsg"),
    "batch1-c": _c_loop("send"),
    "batch64-socket": _send_batch("socket"),
    "batch64-socket-trains": _send_batch("socket", segment=True),
    "batch64-portable": _send_batch("portable"),
    "batch1-socket": _send,
    "batch1-send": _socket_send,
}


# Datagrams a train by size, which the kernel counts as one: 64 of 1400 bytes need two trains, for 46 fill the first.
TRAINS = {"batch64-socket-trains": {64: 64, 256: 64, 1400: 32}}


def _sent_by_udp() -> int:
    names, values = (
        line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line.startswith("Udp:")
    )
    return int(values[names.index("OutDatagrams")])


def _contestant(send: Move, count: int, counted_as_one: int) -> Contestant:
    def turn() -> Turn:
        before = _sent_by_udp()
        elapsed, sent = send(count)
        return Turn(elapsed / sent, count, (_sent_by_udp() - before) * counted_as_one, count - sent)

    return turn


def _enter(rig: Rig, stack: ExitStack, size: int) -> dict[str, Contestant]:
    contestants = {}
    for name, open_way in WAYS.items():
        sock = stack.enter_context(connected_sender(socket.AF_INET, PORT))
        count = SLOTS if rig.smoke else COUNT
        contestants[name] = _contestant(open_way(rig, stack, sock, size), count, TRAINS.get(name, {}).get(size, 1))
    return contestants


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("size", [64, 256, 1400], ids="{}B".format)
@pytest.mark.parametrize("work", ["send-v4"])
def test_send(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(work, ROUNDS, lambda stack: _enter(rig, stack, size))
    rig.report(benchmark, work, name, records, limit="batch64-c")


@contextlib.contextmanager
def _busy_thread() -> Iterator[None]:
    """Have another thread run Python meanwhile, as in a program that has more to do than to send."""
    began, ended = threading.Event(), False

    def run() -> None:
        began.set()
        while not ended:
            pass

    thread = threading.Thread(target=run)
    thread.start()
    began.wait()
    try:
        yield
    finally:
        ended = True
        thread.join()


BUSY_ROUNDS = 7
BUSY = {"batch64-socket-trains": SLOTS, "batch1-socket": 1, "batch1-send": 1}
"""Who sends beside a busy thread, and how many datagrams a call."""
BUSY_CALLS = 100
"""At least, in a row: who hands over at each, for 5 ms, is done in half a second."""
BUSY_NANOSECONDS = 100e6
"""At least: twenty times what each of two threads has in turn."""


def _enter_beside_a_busy_thread(rig: Rig, stack: ExitStack) -> dict[str, Contestant]:
    def beside(send: Move, most: int) -> Contestant:
        calls = 1 if rig.smoke else BUSY_CALLS

        def turn() -> Turn:
            nonlocal calls
            while True:
                with _busy_thread():
                    done = _contestant(send, most * calls, most)()
                if rig.smoke or done.cost * done.offered >= BUSY_NANOSECONDS:
                    return done
                calls *= 2

        return turn

    contestants = {}
    for name, most in BUSY.items():
        sock = stack.enter_context(connected_sender(socket.AF_INET, PORT))
        contestants[name] = beside(WAYS[name](rig, stack, sock, 256), most)
    return contestants


@pytest.mark.parametrize("name", BUSY)
@pytest.mark.parametrize("work", ["busy-v4-256B"])
def test_send_beside_a_busy_thread(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    records = rig.contest(work, BUSY_ROUNDS, lambda stack: _enter_beside_a_busy_thread(rig, stack))
    rig.report(benchmark, work, name, records)
