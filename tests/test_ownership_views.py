"""What a batch showed stays true for as long as anything made from it lives, whatever the receiver does meanwhile."""

from __future__ import annotations

import gc
import operator
import random
import socket
import weakref
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
from netlab import scaled
from traffic import PATIENCE, feed, number_of, payload

from mcastfast import Batch, Datagram

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastfast import Receiver

SEQUENCE = np.dtype([("number", "<u8")])

VIEWS: dict[str, Callable[[Batch], object]] = {
    "data": lambda batch: batch.data,
    "lengths": lambda batch: batch.lengths,
    "source_addresses": lambda batch: batch.source_addresses,
    "array": lambda batch: np.asarray(batch.lengths),
    "slice of an array": lambda batch: np.asarray(batch.source_addresses)[0, 2:],
    "records": lambda batch: batch.records(SEQUENCE),
    "field of records": lambda batch: batch.records(SEQUENCE)["number"],
    "memoryview of a datagram": lambda batch: memoryview(batch[0]),
    "array of a datagram": lambda batch: np.frombuffer(memoryview(batch[0]), "u1"),
    "exporter": lambda batch: batch.data.obj,
}

COLUMNS = [name for name in dir(Batch) if isinstance(getattr(Batch(bytearray(1), max_datagram=1), name), memoryview)]

# What can be made from a batch and shows its bytes, one of each kind.
KINDS: dict[str, Callable[[Batch], object]] = {
    **{name: operator.attrgetter(name) for name in COLUMNS},
    **VIEWS,
    "copy of a column": lambda batch: batch.copy().timestamps,
    "array of a column of a copy": lambda batch: np.asarray(batch.copy().source_ports),
    "records in place": lambda batch: batch.records("u1", offset=8),
    "records of a copy": lambda batch: batch.copy().records(SEQUENCE),
    "part of a memoryview of a datagram": lambda batch: memoryview(batch[2])[3:],
    "cast memoryview of a datagram": lambda batch: memoryview(batch[2]).cast("c"),
    "batch": lambda batch: batch,
    "copy": lambda batch: batch.copy(),
    "datagram": lambda batch: batch[1],
    "cut datagram": lambda batch: batch[3],
    "datagram of a copy": lambda batch: batch.copy()[1],
    "datagram of an iteration": lambda batch: next(iter(batch)),
}


class _Kept(Protocol):
    def check(self) -> None: ...


class _View:
    """Some object made from a batch, and the bytes that it must show for ever."""

    def __init__(self, view: object, expected: bytes) -> None:
        self._view = view
        self._expected = expected

    def check(self) -> None:
        assert bytes(self._view) == self._expected  # type: ignore[call-overload]


def _shown(view: object) -> list[object]:
    """Every byte that a view shows, and what a datagram tells about itself."""
    match view:
        case Batch():
            return [_shown(datagram) for datagram in view] + [getattr(view, name).tobytes() for name in COLUMNS]
        case Datagram():
            about = [view.source, view.destination, view.interface_index, view.timestamp, view.hops, view.tos]
            return [bytes(view), view.truncated, *about]
        case _:
            return [bytes(view)]  # type: ignore[call-overload]


class _Pinned:
    """A view of one kind, the only thing that is kept of its batch."""

    def __init__(self, kind: str, batch: Batch) -> None:
        self._kind = kind
        self._view = KINDS[kind](batch)
        self._expected = _shown(self._view)

    def check(self, present: Batch) -> None:
        """It shows what it showed at first, and does not lie where the present batch lies."""
        assert _shown(self._view) == self._expected, self._kind
        if isinstance(self._view, memoryview | np.ndarray):
            memory = np.asarray(self._view)
            assert not any(np.may_share_memory(memory, getattr(present, name)) for name in COLUMNS), self._kind


class _Records:
    """The sequence numbers of a whole batch as a NumPy array."""

    def __init__(self, batch: Batch, numbers: range) -> None:
        self._records = batch.records(SEQUENCE)
        self._expected = np.arange(numbers.start, numbers.stop, dtype="<u8")

    def check(self) -> None:
        assert np.array_equal(self._records["number"], self._expected)


def _keep_one(batch: Batch, numbers: range, choice: random.Random) -> _Kept:
    """One view of the batch, of a kind taken by lot."""
    index = choice.randrange(len(batch))
    expected = payload(numbers[index])
    datagram = batch[index]
    match choice.randrange(7):
        case 0:
            return _View(datagram, expected)
        case 1:
            return _View(memoryview(datagram), expected)
        case 2:
            start, length = batch.offsets[index], batch.lengths[index]
            return _View(batch.data[start : start + length], expected)
        case 3:
            return _View(np.frombuffer(memoryview(datagram), dtype="u1"), expected)
        case 4:
            return _Records(batch, numbers)
        case 5:
            return _View(batch.lengths, np.array([len(payload(n)) for n in numbers], "u4").tobytes())
        case _:
            return _View(batch.copy()[index], expected)


def _pin_all(receiver: Receiver) -> list[_Pinned]:
    """A view of each kind, of a batch each that fills its arena, from a sender whose metadata are its own.

    The last datagram of each batch is cut.
    """
    pinned = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", 0))
        sock.connect(receiver.address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x20)
        for number, kind in enumerate(KINDS):
            payloads = [payload(4 * number + index) for index in range(3)] + [bytes([number]) * 300]
            for data in payloads:
                sock.send(data)
            batch = receiver.recv_batch(PATIENCE)
            assert batch.payloads() == [*payloads[:3], payloads[3][:208]]
            pinned.append(_Pinned(kind, batch))
    return pinned


def test_views_kept_across_100000_receives_never_change(engine: str) -> None:
    """One of each kind from first to last, and many that others take the place of."""
    choice = random.Random(2)
    metadata = ["destination", "timestamp", "drops", "hops", "tos"]
    with feed(engine=engine, batch_size=4, max_datagram=208, metadata=metadata) as busy:
        receiver, send = busy.receiver, busy.sender.send_batch
        pinned = _pin_all(receiver)
        kept: list[_Kept] = []
        sent = received = checked = 0
        for round_ in range(scaled(100_000)):
            if sent - received < 8:
                count = choice.randrange(1, 5)
                send([payload(number) for number in range(sent, sent + count)])
                sent += count
            batch = receiver.recv_batch(PATIENCE)
            numbers = range(received, received + len(batch))
            received = numbers.stop
            assert number_of(memoryview(batch[0])) == numbers.start
            if choice.random() < 0.1:
                if len(kept) == 500:
                    place = choice.randrange(500)
                    kept[place].check()
                    checked += 1
                    kept[place] = _keep_one(batch, numbers, choice)
                else:
                    kept.append(_keep_one(batch, numbers, choice))
            if round_ % 1000 == 999:
                assert batch.payloads() == [payload(number) for number in numbers]
                for pin in pinned:
                    pin.check(batch)
        for view in kept:
            view.check()
        assert len(kept) + checked > scaled(100_000) * 0.09
        assert receiver.stats.batches == len(pinned) + scaled(100_000)


@pytest.mark.parametrize("make", VIEWS.values(), ids=VIEWS)
def test_release_is_refused_while_a_view_lives(engine: str, make: Callable[[Batch], object]) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(payload(7), payload(8))
        view = make(batch)
        with pytest.raises(BufferError, match=r"release: \d+ memoryviews or arrays .* still alive"):
            batch.release()
        with pytest.raises(BufferError), batch:
            pass
        assert batch.payloads() == [payload(7), payload(8)]
        del view
        batch.release()
        assert repr(batch) == "<Batch, released>"


def test_datagrams_do_not_stop_a_release_but_become_invalid(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(b"first", b"second")
        datagram, later = batch
        remaining = iter(batch)
        next(remaining)
        batch.release()
        uses: list[Callable[[], object]] = [
            lambda: len(datagram),
            lambda: bytes(datagram),
            lambda: memoryview(datagram),
            lambda: datagram[0],
            lambda: datagram[1:],
            lambda: datagram == b"first",
            lambda: datagram < later,
            lambda: hash(datagram),
            datagram.__reduce__,
            lambda: datagram.source,
            lambda: datagram.destination,
            lambda: datagram.interface_index,
            lambda: datagram.timestamp,
            lambda: datagram.hops,
            lambda: datagram.tos,
            lambda: datagram.truncated,
            lambda: next(remaining),
        ]
        for use in uses:
            with pytest.raises(ValueError, match="released or refilled; copy what is kept"):
                use()
        assert repr(datagram) == "<Datagram, its batch was released or refilled>"


def test_released_batch_answers_no_question_but_can_be_released_again(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(b"x")
        batch.release()
        batch.release()
        with pytest.raises(ValueError, match="the batch was released"), batch:
            pass
        columns = [name for name in dir(Batch) if not name.startswith("_") and not callable(getattr(Batch, name))]
        assert {"data", "lengths", "dropped", "capacity"} <= set(columns)
        for name in columns:
            with pytest.raises(ValueError, match="the batch was released"):
                getattr(batch, name)
        calls: list[Callable[[], object]] = [
            lambda: len(batch),
            lambda: batch[0],
            lambda: iter(batch),
            batch.copy,
            batch.payloads,
            lambda: batch.records("u1"),
            lambda: quiet.sender.send_batch(batch),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="the batch was released"):
                call()


def test_with_releases_also_after_an_exception(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(b"x")
        with pytest.raises(ZeroDivisionError), batch:
            raise ZeroDivisionError
        assert repr(batch) == "<Batch, released>"


def test_copy_is_packed_and_outlives_the_release_of_the_original(engine: str) -> None:
    sizes = [5, 0, 1, 200]
    with feed(engine=engine, metadata=["timestamp", "hops", "tos"]) as quiet:
        batch = quiet.batch(*[bytes([size]) * size for size in sizes])
        columns = [
            "lengths",
            "flags",
            "timestamps",
            "source_addresses",
            "source_ports",
            "hops",
            "tos",
        ]
        expected = {name: getattr(batch, name).tobytes() for name in columns}
        copy = batch.copy()
        batch.release()
        assert copy.payloads() == [bytes([size]) * size for size in sizes]
        assert copy.offsets.tolist() == [0, 5, 5, 6]
        assert (len(copy.data), copy.capacity) == (sum(sizes), len(sizes))
        assert {name: getattr(copy, name).tobytes() for name in columns} == expected
        assert copy[3].source == quiet.sender.address
        assert copy[3].timestamp == copy.timestamps[3]
        assert copy[3].destination is None
        assert copy.copy().payloads() == copy.payloads()


@pytest.mark.parametrize("family", [socket.AF_INET, pytest.param(socket.AF_INET6, marks=pytest.mark.needs("ipv6"))])
def test_views_outlive_a_receiver_that_is_closed_and_collected(engine: str, family: int) -> None:
    with feed(family, engine=engine, batch_size=2) as quiet:
        batches = [quiet.batch(payload(2 * number), payload(2 * number + 1)) for number in range(20)]
        receiver = weakref.ref(quiet.receiver)
        source = quiet.sender.address
        quiet.receiver.close()
    del quiet
    gc.collect()
    assert receiver() is None
    arrays = [batch.records(SEQUENCE)["number"] for batch in batches]
    views = [memoryview(datagram) for batch in batches for datagram in batch]
    assert {datagram.source for batch in batches for datagram in batch} == {source}
    del batches
    gc.collect()
    assert [bytes(view) for view in views] == [payload(number) for number in range(40)]
    assert np.concatenate(arrays).tolist() == list(range(40))


def test_parts_keep_the_whole_alive_in_any_order_of_letting_go(engine: str) -> None:
    with feed(engine=engine) as quiet:
        for order in range(6):
            batch = quiet.batch(payload(1), payload(2))
            parts: list[object] = [batch, batch[1], memoryview(batch[1])]
            del batch
            last = parts.pop(order % 3)
            parts.pop(order // 3)
            parts.clear()
            datagram = last[1] if isinstance(last, Batch) else last
            assert bytes(datagram) == payload(2)  # type: ignore[call-overload]


def test_release_in_a_finalizer_of_a_view_is_refused_without_harm(engine: str) -> None:
    outcomes: list[str] = []

    class Holder:
        def __init__(self, batch: Batch) -> None:
            self.batch = batch
            self.view = batch.data

        def __del__(self) -> None:
            try:
                self.batch.release()
            except BufferError:
                outcomes.append("refused")
            del self.view
            self.batch.release()
            outcomes.append("released")

    with feed(engine=engine) as quiet:
        holder = Holder(quiet.batch(b"x"))
        datagram = holder.batch[0]
        del holder
        gc.collect()
        assert outcomes == ["refused", "released"]
        with pytest.raises(ValueError, match="released"):
            bytes(datagram)


def test_batches_cannot_be_made_without_memory_or_twice(engine: str) -> None:
    with pytest.raises(TypeError):
        Batch()  # type: ignore[call-arg]
    empty = Batch.__new__(Batch)
    assert repr(empty) == "<Batch, released>"
    with pytest.raises(ValueError, match="released"):
        len(empty)
    batch = Batch(bytearray(100), max_datagram=10)
    with pytest.raises(RuntimeError, match="called twice"):
        batch.__init__(bytearray(100))
    with feed(engine=engine) as quiet:
        received = quiet.batch(b"x")
        with pytest.raises(RuntimeError, match="called twice"):
            received.__init__(bytearray(10000))
        assert received.payloads() == [b"x"]
