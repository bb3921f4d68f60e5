"""send and send_batch send exactly the bytes they were given, in order, in whatever form they come."""

from __future__ import annotations

import array
import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from receivelab import FAMILIES, Family, Worker, at, family_name, receive
from sendlab import LARGE, Wire

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")


def rows(*shape: int, dtype: str = "u1") -> Any:
    """An array with a different number in each place."""
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def test_send_takes_any_bytes_like_object_of_any_length(wire: Wire) -> None:
    sender = wire.sender()
    payloads = [b"bytes", bytearray(b"bytearray"), memoryview(b"view")[1:3], array.array("H", [1, 2]), rows(2, 3), b""]
    for payload in payloads:
        sender.send(payload)
    assert wire.payloads() == [bytes(payload) for payload in payloads]


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        iter,
        lambda payloads: (payload for payload in payloads),
        dict.fromkeys,
        lambda payloads: [bytearray(payload) for payload in payloads],
        lambda payloads: [memoryview(payload) for payload in payloads],
        lambda payloads: [array.array("B", payload) for payload in payloads],
        lambda payloads: [np.frombuffer(payload, "u1") for payload in payloads],
        lambda payloads: [
            kind(payload) for kind, payload in zip((bytes, bytearray, memoryview), payloads, strict=True)
        ],
    ],
    ids=["list", "tuple", "iterator", "generator", "dict", "bytearrays", "views", "arrays", "numpy", "mixed"],
)
def test_send_batch_takes_any_iterable_of_bytes_like_objects(
    wire: Wire, form: Callable[[list[bytes]], Iterable[bytes]]
) -> None:
    payloads = [b"one", b"", b"three"]
    assert wire.sender().send_batch(form(payloads)) == 3
    assert wire.payloads() == payloads


@pytest.mark.parametrize(
    "table",
    [
        rows(3, 5),
        rows(3, 5, dtype="u2"),
        rows(2, 4, dtype=">f8"),
        rows(1, 1),
        np.array([b"ab", b"cd", b"ef"], "S2").reshape(3, 1),
        np.zeros((2, 2), [("Object", "u1"), ("price", "<f4")]),
        np.zeros((2, 2), [("time", "M8[ns]"), ("age", "m8[us]")]),
        np.asfortranarray(rows(1, 7)),
        memoryview(bytes(range(12))).cast("B", (3, 4)),
    ],
    ids=["bytes", "words", "doubles", "one", "strings", "records", "times", "row", "view"],
)
def test_each_row_of_a_2d_array_is_a_datagram(wire: Wire, table: Any) -> None:
    assert wire.sender().send_batch(table) == len(table)
    assert wire.payloads() == [row.tobytes() for row in np.asarray(table)]


@pytest.mark.parametrize("form", [list, tuple, iter, np.array])
def test_lengths_cut_the_rows_in_bytes(wire: Wire, form: Callable[[list[int]], Any]) -> None:
    table = rows(4, 3, dtype=">u2")
    assert wire.sender().send_batch(table, form([0, 6, 5, 1])) == 4
    assert wire.payloads() == [bytes(table[0])[:0], bytes(table[1]), bytes(table[2])[:5], bytes(table[3])[:1]]


def test_rows_may_be_empty(wire: Wire) -> None:
    assert wire.sender().send_batch(np.zeros((3, 0), "u1")) == 3
    assert wire.payloads() == [b""] * 3


@pytest.mark.parametrize(
    "nothing",
    [[], (), iter([]), np.zeros((0, 4)), np.zeros((0, 70_000))],
    ids=["list", "tuple", "iterator", "no rows", "no huge rows"],
)
def test_nothing_to_send_is_no_batch(wire: Wire, nothing: Any) -> None:
    sender = wire.sender()
    assert sender.send_batch(nothing) == 0
    assert sender.stats.batches == 0
    assert wire.payloads() == []


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize(
    "form",
    [
        list,
        lambda payloads: [bytearray(payload) for payload in payloads],
        lambda payloads: np.array(payloads, "S4").reshape(-1, 1),
    ],
    ids=["bytes", "bytearrays", "rows"],
)
def test_more_payloads_than_a_system_call_takes_go_in_order(wire: Wire, form: Callable[[list[bytes]], Any]) -> None:
    payloads = [b"%04d" % number for number in range(1100)]
    sender = wire.sender(send_buffer=1)
    wire.throttle("2mbit")  # so that the receiver keeps up; and every send is a partial one
    received = Worker(receive, wire.receiver, len(payloads))
    assert sender.send_batch(form(payloads)) == len(payloads)
    arrived = received.result()
    assert sorted(arrived) == payloads
    # The wire may still swap neighbours: when the kernel itself has something to send, another processor joins in.
    assert max(abs(place - int(payload)) for place, payload in enumerate(arrived)) < 16
    assert sender.stats.datagrams == len(payloads)
    assert sender.stats.batches == 1


@pytest.mark.needs("token_bucket")
def test_a_list_that_changes_meanwhile_changes_nothing(wire: Wire) -> None:
    wire.block()
    sender = wire.sender(send_buffer=1)
    payloads = [bytes([number]) * LARGE for number in range(12)]
    expected = [bytes(bytearray(payload)) for payload in payloads]
    sending = Worker(sender.send_batch, payloads)
    sending.wait_until_blocked()
    payloads[:] = [b"changed"] * 50
    gc.collect()
    filler = [bytes([255]) * LARGE for _ in range(1000)]  # would take the place of what was freed
    wire.unblock()
    assert sending.result() == 12
    assert wire.payloads() == expected
    del filler


@pytest.mark.needs("token_bucket")
def test_a_bytearray_cannot_be_resized_while_it_is_sent(wire: Wire) -> None:
    wire.block()
    sender = wire.sender(send_buffer=1)
    payloads = [bytearray([number]) * LARGE for number in range(12)]
    sending = Worker(sender.send_batch, payloads)
    sending.wait_until_blocked()
    with pytest.raises(BufferError):
        payloads[-1].clear()
    wire.unblock()
    assert sending.result() == 12
    payloads[-1].clear()
    assert len(wire.payloads()) == 12


def test_payloads_are_let_go_when_the_call_ends(wire: Wire) -> None:
    sender = wire.sender()
    table = rows(2, 2)
    alive = weakref.ref(table)
    view = memoryview(bytearray(b"view"))
    sender.send_batch([view, table[0]])
    sender.send_batch(table)
    sender.send(table)
    view.release()
    del table
    assert alive() is None


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_any_payloads_arrive_as_they_are(loopback: netlab.Link, family: Family, engine: str) -> None:
    group = at(family.group, loopback)
    with Receiver(group, max_datagram=4096) as receiver, Sender(group, engine=engine) as sender:

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
        def check(payloads: list[bytes]) -> None:
            assert sender.send_batch(payloads) == len(payloads)
            assert receive(receiver, len(payloads)) == payloads
            table: Any = np.zeros((len(payloads), 300), "u1")
            for row, payload in zip(table, payloads, strict=True):
                row[: len(payload)] = np.frombuffer(payload, "u1")
            assert sender.send_batch(table, map(len, payloads)) == len(payloads)
            assert receive(receiver, len(payloads)) == payloads

        check()


def test_the_largest_datagrams_arrive_whole(wire: Wire) -> None:
    largest = 65507 if wire.family.number.name == "AF_INET" else 65527
    payload = bytes(range(256)) * 256
    sender = wire.sender()
    sender.send(payload[:largest])
    assert sender.send_batch([payload[:largest]]) == 1
    assert wire.payloads() == [payload[:largest]] * 2


def test_stats_count_datagrams_and_bytes_of_every_way(wire: Wire) -> None:
    sender = wire.sender()
    sender.send(b"abc")
    sender.send_batch([b"d", b"", b"ef"])
    sender.send_batch(rows(2, 5), [5, 1])
    stats = sender.stats
    assert (stats.batches, stats.datagrams, stats.bytes) == (2, 6, 12)
    assert (stats.send_drops, stats.late_errors) == (0, 0)
