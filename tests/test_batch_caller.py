"""Batch over the caller's memory: filled again and again by recv_batch_into, guarded while anyone looks at a fill."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
import os
import socket
from multiprocessing import resource_tracker, shared_memory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from traffic import PATIENCE, Worker, ahead, feed, payload, wait_until_blocked

from mcastfast import Batch, Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOT = 208
SIZE = 16 * SLOT
COLUMNS = {"timestamp": "timestamps", "hops": "hops", "destination": "interface_indexes"}


def _shared() -> Iterator[memoryview]:
    block = shared_memory.SharedMemory(create=True, size=SIZE)
    try:
        assert block.buf is not None
        with block.buf[:SIZE] as view:
            yield view
    finally:
        block.close()
        block.unlink()


def _simple(make: Callable[[], Any]) -> Callable[[], Iterator[Any]]:
    def generate() -> Iterator[Any]:
        yield make()

    return generate


MEMORY: dict[str, Callable[[], Iterator[Any]]] = {
    "bytearray": _simple(lambda: bytearray(SIZE)),
    "mmap": _simple(lambda: mmap.mmap(-1, SIZE)),
    "shared_memory": _shared,
    "array": _simple(lambda: array.array("d", bytes(SIZE))),
    "ctypes": _simple(ctypes.c_char * SIZE),
    "numpy bytes": _simple(lambda: np.zeros(SIZE, "u1")),
    "numpy rows": _simple(lambda: np.zeros((16, SLOT), "u1")),
    "numpy records": _simple(lambda: np.zeros(16, f"V{SLOT}")),
    "slice": _simple(lambda: memoryview(bytearray(SIZE + 9))[9:]),
}


@pytest.fixture(scope="module", autouse=True)
def _tracker() -> None:
    """The process that shared_memory starts at first use stays, and its pipe with it."""
    if os.name == "posix":
        resource_tracker.ensure_running()


@pytest.fixture(params=MEMORY)
def memory(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from MEMORY[request.param]()


def _lands(memory: Any, engine: str) -> bool:
    """Receive twice into a batch over this memory and compare what both see."""
    batch = Batch(memory, max_datagram=SLOT)
    assert (batch.capacity, len(batch)) == (16, 0)
    with feed(engine=engine) as quiet:
        for first in (0, 100):
            expected = [payload(number) for number in range(first, first + 5)]
            quiet.send(*expected)
            got: list[bytes] = []
            while len(got) < 5:
                count = quiet.receiver.recv_batch_into(batch, PATIENCE)
                assert count == len(batch)
                assert batch.offsets.tolist() == list(range(0, count * SLOT, SLOT))
                seen = bytes(memoryview(memory).cast("B"))
                got += [seen[at : at + n] for at, n in zip(batch.offsets, batch.lengths, strict=True)]
                assert batch.payloads() == got[-count:]
                assert batch[0].source == quiet.sender.address
            assert got == expected
    batch.release()
    return True


def test_datagrams_land_in_the_callers_memory(engine: str, memory: Any) -> None:
    # In a frame of its own: nothing may hold a view when shared memory is closed.
    assert _lands(memory, engine)
    gc.collect()


def test_nothing_beyond_the_slots_is_written(engine: str) -> None:
    memory = bytearray(b"\xee" * (3 * 10 + 7))
    batch = Batch(memory, max_datagram=10)
    assert batch.capacity == 3
    with feed(engine=engine) as quiet:
        quiet.send(*[b"\x11" * 100] * 5)
        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 3
        assert [datagram.truncated for datagram in batch] == [True] * 3
        assert memory == b"\x11" * 30 + b"\xee" * 7
        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 2
        assert batch.payloads() == [b"\x11" * 10] * 2
        assert quiet.receiver.stats.truncated == 5


def test_capacity_is_at_most_what_one_call_takes() -> None:
    assert Batch(bytearray(5000), max_datagram=1).capacity == 1024


def test_callers_batch_ignores_the_receivers_own_sizes(engine: str) -> None:
    if ahead(engine):
        pytest.skip("it copies: test_windows_iocp.py")
    with feed(engine=engine, batch_size=2, max_datagram=8) as quiet:
        batch = Batch(bytearray(SIZE), max_datagram=SLOT)
        quiet.send(*[payload(number) for number in range(12)])
        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 12
        assert batch.payloads() == [payload(number) for number in range(12)]
        assert quiet.receiver.stats.arenas == 0


VIEWS: dict[str, Callable[[Batch], object]] = {
    "data": lambda batch: batch.data,
    "lengths": lambda batch: batch.lengths,
    "array": lambda batch: np.asarray(batch.source_ports),
    "records": lambda batch: batch.records("u1"),
    "memoryview of a datagram": lambda batch: memoryview(batch[0]),
    "array of a datagram": lambda batch: np.frombuffer(memoryview(batch[0]), "u1"),
}


@pytest.mark.parametrize("make", VIEWS.values(), ids=VIEWS)
def test_refill_is_refused_while_a_view_of_the_last_fill_lives(engine: str, make: Callable[[Batch], object]) -> None:
    with feed(engine=engine) as quiet:
        batch = Batch(bytearray(SIZE), max_datagram=SLOT)
        quiet.send(b"first")
        quiet.receiver.recv_batch_into(batch, PATIENCE)
        quiet.send(b"second")
        view = make(batch)
        for _ in range(2):
            with pytest.raises(BufferError, match=r"recv_batch_into: \d+ memoryviews or arrays"):
                quiet.receiver.recv_batch_into(batch, PATIENCE)
        assert batch.payloads() == [b"first"]
        assert quiet.receiver.stats.datagrams == 1
        del view
        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 1
        assert batch.payloads() == [b"second"]


def test_datagrams_of_the_last_fill_are_invalid_after_the_next(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = Batch(bytearray(SIZE), max_datagram=SLOT)
        quiet.send(b"first")
        quiet.receiver.recv_batch_into(batch, PATIENCE)
        datagram, iterator = batch[0], iter(batch)
        assert datagram == b"first"
        quiet.send(b"second")
        quiet.receiver.recv_batch_into(batch, PATIENCE)
        for use in (lambda: bytes(datagram), lambda: datagram.source, lambda: len(datagram), lambda: next(iterator)):
            with pytest.raises(ValueError, match="released or refilled"):
                use()
        assert batch[0] == b"second"


@pytest.mark.parametrize(("timeout", "error"), [(0, BlockingIOError), (0.01, TimeoutError)])
def test_last_fill_is_gone_when_nothing_comes(engine: str, timeout: float, error: type[OSError]) -> None:
    with feed(engine=engine) as quiet:
        batch = Batch(bytearray(SIZE), max_datagram=SLOT)
        quiet.send(payload(1))
        quiet.receiver.recv_batch_into(batch, PATIENCE)
        datagram = batch[0]
        for _ in range(3):
            with pytest.raises(error, match="recv_batch_into"):
                quiet.receiver.recv_batch_into(batch, timeout)
        assert len(batch) == 0
        with pytest.raises(ValueError, match="refilled"):
            bytes(datagram)


@pytest.mark.parametrize(
    ("buffer", "error", "text"),
    [
        (bytearray(9), ValueError, "a buffer of 9 bytes is too small for one datagram of max_datagram=10 bytes"),
        (bytearray(), ValueError, "a buffer of 0 bytes is too small"),
        (bytes(100), BufferError, "writable, C-contiguous"),
        (memoryview(bytes(100)), BufferError, "writable, C-contiguous"),
        (memoryview(bytearray(100))[::2], BufferError, "writable, C-contiguous"),
        (np.zeros((20, 20), "u1")[:, :10], BufferError, "writable, C-contiguous"),
        (np.zeros((20, 20), "u1", order="F"), BufferError, "writable, C-contiguous"),
        (np.frombuffer(bytes(100), "u1"), BufferError, "writable, C-contiguous"),
        ("a text", TypeError, r"Batch takes a writable buffer, such as bytearray\(64 \* 2048\), not str"),
        (100, TypeError, r"Batch takes a writable buffer, such as bytearray\(64 \* 2048\), not int"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unfit_memory_is_refused(buffer: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Batch(buffer, max_datagram=10)
    if isinstance(buffer, bytearray):
        buffer.extend(b"not exported")


@pytest.mark.parametrize("size", [0, -1, 65536, 2**40])
def test_max_datagram_out_of_range_is_refused(size: int) -> None:
    memory = bytearray(100_000)
    with pytest.raises(ValueError, match=rf"max_datagram={size} is not in 1\.\.65535 bytes"):
        Batch(memory, max_datagram=size)
    memory.extend(b"not exported")


def test_memory_stays_exported_until_release() -> None:
    memory = bytearray(100)
    batch = Batch(memory, max_datagram=10)
    with pytest.raises(BufferError):
        memory.extend(b"x")
    batch.release()
    memory.extend(b"x")
    batch = Batch(memory, max_datagram=10)
    del batch
    memory.extend(b"x")


def test_the_end_of_a_block_does_not_hide_what_was_raised_in_it() -> None:
    batch = Batch(bytearray(100), max_datagram=10)
    view = memoryview(batch.data)
    with pytest.raises(KeyError) as caught, batch:
        raise KeyError
    assert caught.value.__context__ is None
    with pytest.raises(BufferError, match="1 memoryviews or arrays"), batch:
        pass
    del view
    with batch:
        pass


@pytest.mark.parametrize("origin", ["memory", "received"])
def test_a_released_batch_that_is_given_memory_again_starts_empty_and_at_its_start(engine: str, origin: str) -> None:
    with feed(engine=engine) as quiet:
        first = quiet.batch(b"before", b"it")  # so that the next one is not the first in its arena
        batch = quiet.batch(b"old", b"too")
        if origin == "memory":
            batch = Batch(bytearray(3 * SLOT), max_datagram=SLOT)
            quiet.send(b"old", b"too")
            quiet.receiver.recv_batch_into(batch, PATIENCE)
        old = batch[1]
        batch.release()
        memory = bytearray(SIZE)
        batch.__init__(memory, max_datagram=SLOT)
        assert (len(batch), batch.capacity) == (0, 16)
        assert (batch.payloads(), list(batch), batch.lengths.tolist()) == ([], [], [])
        assert len(batch.data) == SIZE
        with pytest.raises(ValueError, match="released or refilled"):
            bytes(old)
        quiet.send(b"new", b"ones", b"come")
        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 3
        assert batch.payloads() == [b"new", b"ones", b"come"]
        assert batch.offsets.tolist() == [0, SLOT, 2 * SLOT]
        assert bytes(batch.data) == memory
        assert memory.startswith(b"new")
        assert first.payloads() == [b"before", b"it"]
        with pytest.raises(RuntimeError, match="called twice"):
            batch.__init__(memory)
        batch.release()
        memory.clear()


def test_views_keep_the_callers_memory_exported(engine: str) -> None:
    memory = bytearray(SIZE)
    with feed(engine=engine) as quiet:
        batch = Batch(memory, max_datagram=SLOT)
        quiet.send(payload(3))
        quiet.receiver.recv_batch_into(batch, PATIENCE)
    view = memoryview(batch[0])
    del batch
    with pytest.raises(BufferError):
        memory.clear()
    assert bytes(view) == payload(3)
    del view
    memory.clear()


def test_only_a_batch_over_ones_own_memory_can_be_filled(engine: str) -> None:
    with feed(engine=engine) as quiet:
        received = quiet.batch(b"x")
        quiet.send(b"y")
        for batch in (received, received.copy()):
            with pytest.raises(ValueError, match=r"needs a batch over memory of yours, Batch\(buffer\)"):
                quiet.receiver.recv_batch_into(batch, PATIENCE)
        released = Batch(bytearray(SIZE))
        released.release()
        with pytest.raises(ValueError, match="the batch was released"):
            quiet.receiver.recv_batch_into(released, PATIENCE)
        with pytest.raises(TypeError):
            quiet.receiver.recv_batch_into(None, PATIENCE)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"recv_batch_into fills a Batch, not bytearray: Batch\(buffer\) makes one"):
            quiet.receiver.recv_batch_into(bytearray(10), PATIENCE)  # type: ignore[arg-type]
        assert quiet.receive(1)[0].payloads() == [b"y"]


@pytest.mark.needs("ipv6")
def test_one_batch_serves_receivers_of_any_family_metadata_and_engine() -> None:
    from mcastfast import ENGINES

    batch = Batch(bytearray(SIZE), max_datagram=SLOT)
    families = [socket.AF_INET, socket.AF_INET6]
    wanted: list[tuple[str, ...]] = [(), ("destination", "timestamp", "drops", "hops", "tos"), ("hops",), ()]
    for round_ in range(2):
        for family in families:
            for metadata in wanted:
                for engine in ENGINES:
                    with feed(family, engine=engine, metadata=metadata) as quiet:
                        expected = [payload(number) for number in range(10 + round_)]
                        quiet.send(*expected)
                        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == len(expected)
                        assert batch.payloads() == expected
                        for datagram in batch:
                            assert datagram.source == quiet.sender.address
                            assert (datagram.hops is None) == ("hops" not in metadata)
                            assert (datagram.timestamp is None) == ("timestamp" not in metadata)
                        for column, name in (
                            ("timestamps", "timestamp"),
                            ("hops", "hops"),
                            ("interface_indexes", "destination"),
                        ):
                            if name in metadata:
                                assert np.asarray(getattr(batch, column)).any()
                            else:
                                with pytest.raises(ValueError, match=f"{column} was not asked for"):
                                    getattr(batch, column)


def test_two_receivers_alternate_over_one_batch(engine: str) -> None:
    with feed(engine=engine, metadata=["hops"]) as one, feed(engine=engine) as two:
        batch = Batch(bytearray(SIZE), max_datagram=SLOT)
        for number in range(20):
            chosen = (one, two)[number % 2]
            chosen.send(payload(number))
            assert chosen.receiver.recv_batch_into(batch, PATIENCE) == 1
            assert batch.payloads() == [payload(number)]
            assert (batch[0].hops is None) == (chosen is two)


def test_batch_that_is_being_filled_is_closed_to_everyone_else(engine: str) -> None:
    with feed(engine=engine) as quiet, feed(engine=engine) as other:
        batch = Batch(bytearray(SIZE), max_datagram=SLOT)
        quiet.send(b"old")
        quiet.receiver.recv_batch_into(batch, PATIENCE)
        old = batch[0]
        filler = Worker(lambda: quiet.receiver.recv_batch_into(batch, PATIENCE))
        wait_until_blocked(filler)
        other.send(b"for the other")
        uses: list[Callable[[], object]] = [
            lambda: other.receiver.recv_batch_into(batch, 0),
            batch.release,
            lambda: batch.data,
            lambda: other.sender.send_batch(batch),
        ]
        for use in uses:
            with pytest.raises(RuntimeError, match="another thread is filling this batch"):
                use()
        with pytest.raises(ValueError, match="refilled"):
            bytes(old)
        assert len(batch) == 0
        assert batch.payloads() == []
        assert batch.copy().payloads() == []
        assert list(batch) == []
        quiet.send(b"new")
        assert filler.result() == 1
        assert batch.payloads() == [b"new"]
        assert other.receive(1)[0].payloads() == [b"for the other"]


def test_busy_receiver_leaves_the_batch_as_it_was(engine: str) -> None:
    with feed(engine=engine) as quiet, feed(engine=engine) as other:
        batch = Batch(bytearray(SIZE), max_datagram=SLOT)
        other.send(b"kept")
        other.receiver.recv_batch_into(batch, PATIENCE)
        datagram = batch[0]
        blocked = Worker(lambda: quiet.receiver.recv_batch(PATIENCE))
        wait_until_blocked(blocked)
        with pytest.raises(RuntimeError, match="excludes this one"):
            quiet.receiver.recv_batch_into(batch, 0)
        assert datagram == b"kept"
        assert batch.payloads() == [b"kept"]
        quiet.send(b"x")
        blocked.result()


def test_a_receiver_closed_meanwhile_leaves_the_batch_empty_and_a_closed_one_as_it_was(engine: str) -> None:
    batch = Batch(bytearray(SIZE), max_datagram=SLOT)
    with feed(engine=engine) as quiet:
        quiet.send(b"kept")
        quiet.receiver.recv_batch_into(batch, PATIENCE)
        blocked = Worker(lambda: quiet.receiver.recv_batch_into(batch, PATIENCE))
        wait_until_blocked(blocked)
        quiet.receiver.close()
        assert isinstance(blocked.error(), OSError)
    assert len(batch) == 0
    with feed(engine=engine) as quiet:
        quiet.send(b"kept")
        quiet.receiver.recv_batch_into(batch, PATIENCE)
    with pytest.raises(OSError, match="closed"):
        quiet.receiver.recv_batch_into(batch, 0)
    assert batch.payloads() == [b"kept"]


def test_foreign_datagrams_that_overwrote_the_fill_leave_it_empty(engine: str, loopback: object) -> None:
    with Receiver("239.7.7.1", "239.7.7.2", port=5009, interface="lo", engine=engine) as receiver:
        batch = Batch(bytearray(SIZE), max_datagram=SLOT)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"first", ("239.7.7.1", 5009))
            receiver.recv_batch_into(batch, PATIENCE)
            datagram = batch[0]
            receiver._set_filter([(bytes(10) + b"\xff\xff\xef\x07\x07\x02", 1)])
            sock.sendto(b"other", ("239.7.7.1", 5009))
            with pytest.raises(BlockingIOError):
                receiver.recv_batch_into(batch, 0)
            assert receiver.stats.foreign == 1
            assert len(batch) == 0
            with pytest.raises(ValueError, match="refilled"):
                bytes(datagram)
            sock.sendto(b"second", ("239.7.7.2", 5009))
            assert receiver.recv_batch_into(batch, PATIENCE) == 1
            assert batch.payloads() == [b"second"]
