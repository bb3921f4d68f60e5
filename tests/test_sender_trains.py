"""Trains: runs of payloads of one size leave in one piece and arrive as they would by themselves."""

from __future__ import annotations

import errno
import re
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from receivelab import FAMILIES, TIMEOUT, V4, Family, at, descriptors, family_name
from sendlab import Wire, sent

from mcastfast import Receiver, Sender, UnsupportedError, options, packing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

SO_NO_CHECK = 11
FITTING = 1400
"""Bytes that fit the MTU of the wire in both families."""


@pytest.fixture(params=FAMILIES, ids=family_name)
def wire(request: pytest.FixtureRequest, lan: netlab.Lan) -> Iterator[Wire]:
    with Wire(lan, request.param, "socket") as wire:
        yield wire


def numbered(count: int, size: int) -> list[bytes]:
    return [number.to_bytes(4, "big") * (size // 4) + bytes(size % 4) for number in range(count)]


# What is sent, and in how many trains.
RUNS: dict[str, tuple[list[bytes], int]] = {
    "equal": (numbered(64, 256), 1),
    "large": (numbered(40, FITTING), 1),
    "scattered": ([bytes(bytearray(payload)) for payload in numbered(10, 1000)], 1),
    "a short last one": ([*numbered(20, 100), b"short"], 1),
    "a full train": (numbered(128, 32), 1),
    "a full train and a short one": ([*numbered(127, 32), b"short"], 1),
    "more than a train": ([*numbered(150, 32), b"short"], 2),
    "too long together": (numbered(100, FITTING), 3),
    "growing": ([bytes([size]) * size for size in range(1, 60)], 0),
    "shrinking": ([bytes([size]) * size for size in range(60, 0, -1)], 30),
    "a longer last one": ([*numbered(20, 100), bytes(101)], 1),
    "an empty last one": ([*numbered(20, 100), b""], 1),
    "empty": ([b""] * 10, 0),
    "alternating": (numbered(20, 100) + numbered(5, 40) + [b"", b""] + numbered(20, 100), 3),
    "over the MTU": (numbered(5, 3000), 0),
    "over the MTU between runs": (numbered(5, 100) + numbered(3, 3000) + numbered(5, 100), 2),
    "one": ([b"alone"], 0),
}


@pytest.mark.parametrize(
    "form", [list, lambda payloads: [bytearray(payload) for payload in payloads]], ids=["bytes", "bytearrays"]
)
@pytest.mark.parametrize("run", RUNS)
def test_what_arrives_is_the_same_with_and_without_trains(
    wire: Wire, run: str, form: Callable[[list[bytes]], Any]
) -> None:
    payloads, trains = RUNS[run]
    for segment, expected in ((None, trains), (True, trains), (False, 0)):
        sender = wire.sender(segment=segment)
        assert sender.send_batch(form(payloads)) == len(payloads)
        assert wire.payloads() == payloads
        assert sender.stats == (1, len(payloads), sum(map(len, payloads)), 0, 0, expected)
        assert sender.segment is (segment is not False)


@pytest.mark.parametrize("size", [4, 900, 904, FITTING])
def test_rows_and_batches_leave_in_trains_too(wire: Wire, size: int) -> None:
    payloads = numbered(46, size)
    rows = np.frombuffer(b"".join(payloads), "u1").reshape(46, size)
    sender = wire.sender(segment=True)
    sender.send_batch(rows)
    assert wire.payloads() == payloads
    sender.send_batch(rows[:3], [size, size, 1])
    assert wire.payloads() == [payloads[0], payloads[1], payloads[2][:1]]
    assert sender.stats.trains == 2
    with wire.link.namespace, Receiver(at(wire.family.other, wire.link)) as receiver:
        with Sender(at(wire.family.other, wire.link)) as source:
            source.send_batch(rows)
        relayed = 0
        while relayed < 46:
            batch = receiver.recv_batch(TIMEOUT)
            relayed += sender.send_batch(batch)
    assert wire.payloads() == payloads
    assert sender.stats.datagrams == 46 + 3 + 46


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_trains_over_loopback(loopback: netlab.Link, family: Family) -> None:
    payloads = [*numbered(128, 256), b"the last"]
    with (
        Receiver(at(family.group, loopback), receive_buffer=212_992) as receiver,
        Sender(at(family.group, loopback), segment=True) as sender,
    ):
        for _ in range(10):
            assert sender.send_batch(payloads) == 129
            received: list[bytes] = []
            while len(received) < 129:
                received += receiver.recv_batch(TIMEOUT).payloads()
            assert received == payloads
        assert sender.stats.trains == 10


@pytest.fixture
def wire4(lan: netlab.Lan) -> Iterator[Wire]:
    with Wire(lan, V4, "socket") as wire:
        yield wire


def refusing(wire: Wire, **options: Any) -> Sender:
    """A sender whose trains the kernel refuses: without checksums it has nothing to cut by."""
    sock = wire.plain_sender()
    sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    return Sender.from_socket(sock, **options)


def test_what_the_system_refuses_as_a_train_goes_plain_from_then_on(wire4: Wire) -> None:
    payloads = numbered(100, 100)
    with refusing(wire4) as sender:
        before = sender.segment
        assert sender.send_batch(payloads) == 100
        assert (before, sender.segment) == (True, False)
        assert wire4.payloads() == payloads
        assert sender.send_batch(payloads) == 100
        assert wire4.payloads() == payloads
        assert sender.stats == (2, 200, 20_000, 0, 0, 0)


def test_a_refused_train_is_an_error_where_trains_were_demanded(wire4: Wire) -> None:
    with refusing(wire4, segment=True) as sender:
        with pytest.raises(OSError, match="Invalid argument") as caught:
            sender.send_batch([b"plain", *numbered(10, 100)])
        assert caught.value.errno == errno.EINVAL
        assert sent(caught.value) == 1
        assert sender.segment
    assert wire4.payloads() == [b"plain"]


def test_a_smaller_mtu_sends_what_no_longer_fits_plain_and_keeps_the_other_trains(wire: Wire) -> None:
    large, small = numbered(10, FITTING), numbered(10, 500)
    sender = wire.sender(segment=None)
    sender.send_batch(large)
    assert sender.stats.trains == 1
    wire.link.namespace.ip.link("set", index=wire.link.index, mtu=1300)
    sender.send_batch(large + small)
    assert wire.payloads() == large + large + small
    assert sender.segment
    assert sender.stats.trains == 2
    assert sender.stats[3:5] == (0, 0)


def _set_mtu(wire: Wire, mtu: int) -> None:
    wire.link.namespace.ip.link("set", index=wire.link.index, mtu=mtu)


def _sends_until_a_train(wire: Wire, sender: Sender, payloads: Any) -> int:
    """How many batches it takes before one leaves as a train. Each arrives."""
    before = sender.stats.trains
    for number in range(1, 300):
        sender.send_batch(payloads)
        assert wire.payloads() == [bytes(payload) for payload in payloads]
        if sender.stats.trains > before:
            return number
    raise AssertionError("no train in 299 batches")


@pytest.mark.parametrize("form", ["list", "array", "mixed"])
@pytest.mark.parametrize("opened_at", [1500, 1300])
def test_a_larger_mtu_brings_the_trains_back(wire: Wire, opened_at: int, form: str) -> None:
    payloads: Any = numbered(10, FITTING)
    if form == "array":
        payloads = np.frombuffer(b"".join(payloads), "u1").reshape(10, FITTING)
    elif form == "mixed":  # what goes plain all the same comes first
        payloads = [b"short", *payloads]
    _set_mtu(wire, opened_at)
    sender = wire.sender(segment=None)
    sender.send_batch(payloads)
    assert sender.stats.trains == (opened_at == 1500)
    _set_mtu(wire, 1300)
    sender.send_batch(payloads)
    wire.datagrams()
    _set_mtu(wire, 1500)
    assert 1 < _sends_until_a_train(wire, sender, payloads) <= 257
    assert _sends_until_a_train(wire, sender, payloads) == 1
    assert sender.stats[3:5] == (0, 0)


@pytest.mark.needs("token_bucket")
def test_every_datagram_of_a_train_that_the_device_dropped_is_counted(wire: Wire) -> None:
    wire.throttle("3kbit", burst=1500, limit=1500)
    sender = wire.sender(segment=True)

    def fill() -> None:  # while a datagram of a train finds room the queue says nothing of the others
        for _ in range(100):
            sender.send_batch(numbered(40, FITTING))

    with pytest.raises(OSError, match="queue of the device is full") as caught:
        fill()
    assert caught.value.errno == errno.ENOBUFS
    assert sent(caught.value) == 0
    assert sender.stats.send_drops == 40


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize("segment", [True, False])
def test_a_train_waits_for_room_as_a_datagram_does(wire: Wire, segment: bool) -> None:
    payloads = numbered(400, 100)
    sender = wire.sender(segment=segment, send_buffer=1)
    wire.throttle("2mbit")
    assert sender.send_batch(payloads) == 400
    arrived = sorted(wire.payloads())
    assert arrived == payloads


OLD_KERNEL = options.Option("segmented sending", (options.Row("UDP_SEGMENT", packing.SIZE, linux=9999),))
"""An option that this kernel knows as little as one without trains knows theirs."""


def test_a_kernel_without_trains_sends_plain_unless_they_were_demanded(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "SEGMENT", OLD_KERNEL)
    before = descriptors()
    with pytest.raises(UnsupportedError, match=r"^segment=True: .*UDP_SEGMENT"):
        wire.sender(segment=True)
    assert descriptors() == before
    sender = wire.sender(segment=None)
    assert not sender.segment
    payloads = numbered(50, 100)
    sender.send_batch(payloads)
    assert wire.payloads() == payloads
    assert sender.stats.trains == 0


def test_the_portable_engine_has_no_trains(lan: netlab.Lan) -> None:
    with lan.sender.namespace:
        with pytest.raises(UnsupportedError, match=r"segment=True: engine 'portable' sends each datagram by itself"):
            Sender(at(V4.group, lan.sender), engine="portable", segment=True)
        with Sender(at(V4.group, lan.sender), engine="portable") as sender:
            assert not sender.segment


@pytest.mark.parametrize("segment", [0, 1, "yes", 2.0])
def test_segment_is_a_truth_value_or_none(lan: netlab.Lan, segment: Any) -> None:
    with (
        lan.sender.namespace,
        pytest.raises(TypeError, match=f"segment is True, False or None, not {re.escape(repr(segment))}"),
    ):
        Sender(at(V4.group, lan.sender), segment=segment)
