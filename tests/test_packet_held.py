"""A batch holds its block: with few left datagrams are copied, and a held block that is next is an error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from netlab import wait_until
from packetlab import BLOCK, families, needs_packet, packet_receiver, send_train
from receivelab import TIMEOUT, V4, Worker, at, receive, sources

from mcastfast import ReceiverSet, Ring, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab import Lan, Link
    from receivelab import Family, Source

    from mcastfast import Batch, Receiver

pytestmark = needs_packet


def _lone(ring: Receiver, source: Source, payload: bytes) -> Batch:
    """A datagram that has a block to itself."""
    source.send(V4.group, payload)
    return ring.recv_batch(TIMEOUT)


def test_a_batch_holds_a_block_until_it_goes(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, ring=8 * BLOCK) as ring, sources(loopback) as (source,):
        batch = _lone(ring, source, b"one")
        assert ring.stats.held_blocks == 1
        kept = batch[0]
        del batch
        assert ring.stats.held_blocks == 1
        del kept
        assert ring.stats.held_blocks == 0


def test_batches_of_one_block_hold_it_together(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, batch_size=2) as ring, sources(loopback) as (source,):
        source.send(V4.group, *(b"%d" % number for number in range(40)))
        batches: list[Batch] = []
        while sum(map(len, batches)) < 40:
            batches.append(ring.recv_batch(TIMEOUT))
        assert [payload for batch in batches for payload in batch.payloads()] == [b"%d" % n for n in range(40)]
        assert max(map(len, batches)) == 2
        assert 1 <= ring.stats.held_blocks < len(batches)


def test_with_less_than_a_quarter_free_datagrams_are_copied(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, ring=8 * BLOCK) as ring, sources(loopback) as (source,):
        held = [_lone(ring, source, b"%d" % number) for number in range(6)]
        assert (ring.stats.held_blocks, ring.stats.copied) == (6, 0)
        held += [_lone(ring, source, b"%d" % number) for number in (6, 7)]
        assert (ring.stats.held_blocks, ring.stats.copied) == (6, 2)
        assert [batch.payloads() for batch in held] == [[b"%d" % number] for number in range(8)]
        del held[:3]
        held.append(_lone(ring, source, b"8"))
        assert (ring.stats.held_blocks, ring.stats.copied) == (4, 2)
        assert [batch.payloads() for batch in held] == [[b"%d" % number] for number in range(3, 9)]


def test_copies_have_metadata_too_and_fit_batches(loopback: Link) -> None:
    with (
        packet_receiver(V4.group, loopback, ring=4 * BLOCK, metadata=["hops", "destination"]) as ring,
        sources(loopback) as (source,),
    ):
        held = [_lone(ring, source, b"held") for _ in range(3)]
        for number in range(60):
            payload = b"%d" % number * (number % 5)
            with _lone(ring, source, payload) as batch:
                assert (bytes(batch[0]), batch[0].hops, batch[0].destination) == (payload, 1, (V4.group, 5000))
            if ring.stats.copied:
                break
        assert ring.stats.copied
        assert [batch.payloads() for batch in held] == [[b"held"]] * 3


def test_a_held_block_that_is_next_is_a_buffer_error_until_it_goes(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, ring=4 * BLOCK) as ring, sources(loopback) as (source,):
        first = _lone(ring, source, b"0")
        for number in (1, 2, 3):
            assert _lone(ring, source, b"%d" % number).payloads() == [b"%d" % number]
        for timeout in (0, 0.01, TIMEOUT, None):  # nothing would ever end the wait
            with pytest.raises(BufferError, match=r"hold the ring's next block.* larger ring="):
                ring.recv_batch(timeout)
        assert first.payloads() == [b"0"]
        first.release()
        with pytest.raises(BlockingIOError):
            ring.recv_batch(0)
        assert _lone(ring, source, b"again").payloads() == [b"again"]


def test_a_held_block_that_comes_after_one_with_nothing_for_us_is_told_too(lan: Lan) -> None:
    """What is left out leaves its block, and the receive waits on: nothing would ever end that."""
    with packet_receiver(V4.group, lan.receiver, ring=4 * BLOCK) as ring, sources(lan.sender) as (source,):
        first = _lone(ring, source, b"0")
        for number in (1, 2):
            _lone(ring, source, b"%d" % number)
        source.send(V4.group, bytes(4000))
        with pytest.raises(BufferError, match="hold the ring's next block"):
            ring.recv_batch(TIMEOUT)
        assert ring.stats.fragments == 1
        assert first.payloads() == [b"0"]


def test_what_found_no_room_is_counted_and_shown_where_it_is_missing(loopback: Link) -> None:
    with (
        packet_receiver(V4.group, loopback, ring=4 * BLOCK, metadata=["drops"]) as ring,
        sources(loopback) as (source,),
    ):
        first = _lone(ring, source, b"0")
        for number in (1, 2, 3):
            _lone(ring, source, b"%d" % number)
        source.send(V4.group, *[b"lost"] * 7)
        assert (ring.stats.kernel_drops, ring.stats.kernel_drops_exact) == (7, False)
        first.release()
        with pytest.raises(BlockingIOError):
            ring.recv_batch(0)
        batch = _lone(ring, source, b"after")
        assert (batch.payloads(), list(batch.dropped)) == ([b"after"], [7])
        assert list(_lone(ring, source, b"more").dropped) == [0]
    assert ring.stats.kernel_drops == 7


@pytest.mark.parametrize("asks", [False, True], ids=["unasked", "stats"])
def test_a_loss_is_shown_behind_what_came_before_it_whoever_asked_for_it_first(loopback: Link, asks: bool) -> None:
    with (
        packet_receiver(V4.group, loopback, ring=4 * BLOCK, metadata=["drops"]) as ring,
        sources(loopback) as (source,),
    ):
        source.send(V4.group, *(number.to_bytes(4, "big") + bytes(1000) for number in range(2000)))
        if asks:
            wait_until(lambda: ring.stats.kernel_drops, TIMEOUT)
        came: list[int] = []
        missing: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                _note(ring.recv_batch(0), came, missing)
        assert came == list(range(len(came)))
        assert not any(missing)
        source.send(V4.group, *((2000 + number).to_bytes(4, "big") for number in range(3)))
        kept = len(came)
        while len(came) < kept + 3:
            _note(ring.recv_batch(TIMEOUT), came, missing)
        assert came[kept:] == [2000, 2001, 2002]
        assert missing[kept:] == [2000 - kept, 0, 0]


def _note(batch: Batch, came: list[int], missing: list[int]) -> None:
    came += (int.from_bytes(payload[:4], "big") for payload in batch.payloads())
    missing += batch.dropped.tolist()


def test_this_hosts_own_still_come_while_the_ring_stands_still(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, bind="any", ring=4 * BLOCK) as ring, sources(loopback) as (source,):
        first = _lone(ring, source, b"0")
        for number in (1, 2, 3):
            _lone(ring, source, b"%d" % number)
        source.send("127.0.0.1", b"unicast")
        assert ring.recv_batch(TIMEOUT).payloads() == [b"unicast"]
        assert first.payloads() == [b"0"]


def test_a_set_tells_of_a_ring_that_stands_still(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, ring=4 * BLOCK) as ring, sources(loopback) as (source,):
        held = [_lone(ring, source, b"%d" % number) for number in range(4)]
        receivers = ReceiverSet([ring])
        with pytest.raises(BufferError, match="next block"):
            receivers.recv_batch(TIMEOUT)
        del held
        source.send(V4.group, b"again")
        with receivers:
            assert receivers.recv_batch(TIMEOUT)[1].payloads() == [b"again"]


def test_blocks_may_be_returned_by_another_thread(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, ring=4 * BLOCK) as ring, sources(loopback) as (source,):
        for number in range(40):
            batch = _lone(ring, source, b"%d" % number)
            worker = Worker(lambda held: held.payloads(), batch)
            del batch
            assert worker.result() == [b"%d" % number]


@families
def test_a_slow_feed_shares_blocks_while_nobody_reads(lan: Lan, family: Family) -> None:
    payloads = [b"%d" % number for number in range(100)]
    ring = Ring(4 * BLOCK, delay=0.5)
    with packet_receiver(family.group, lan.receiver, ring=ring) as receiver:
        with lan.sender.namespace, Sender(at(family.group, lan.sender), rate=400) as sender:
            sender.send_batch(payloads)  # 2.5 ms from one to the next
        assert receive(receiver, len(payloads)) == payloads
        assert receiver.stats.kernel_drops == 0


THREE_ARENAS = 1_000_000


def _keep_all(take: Callable[[], Batch], kept: list[Batch]) -> None:
    """Take batches and keep them, until an exception."""
    while True:
        kept.append(take())


def test_max_memory_bounds_copies_and_not_what_lies_in_blocks(loopback: Link) -> None:
    with pytest.raises(ValueError, match=r"^max_memory=1000 is too small: .* needs \d+ bytes$"):
        packet_receiver(V4.group, loopback, max_memory=1000)
    options = {"ring": 64 * BLOCK, "max_memory": THREE_ARENAS, "max_datagram": 65507}
    with packet_receiver(V4.group, loopback, **options) as ring, sources(loopback) as (source,):
        held = [_lone(ring, source, b"%d" % number) for number in range(48)]
        assert (ring.stats.held_blocks, ring.stats.copied) == (48, 0)
        long = bytes(60_000)
        copies: list[Batch] = []
        with pytest.raises(BufferError, match="fill max_memory"):
            _keep_all(lambda: _lone(ring, source, long), copies)
        assert ring.stats.copied == len(copies) > 6
        assert [batch.payloads() for batch in held] == [[b"%d" % number] for number in range(48)]
        del copies
        assert ring.recv_batch(TIMEOUT).payloads() == [long]


def test_what_describes_the_trains_of_a_block_beyond_its_share_counts_too(loopback: Link) -> None:
    ring = Ring(4 * BLOCK, delay=0.5)
    sent, of_a_train = 400, 64
    with packet_receiver(V4.group, loopback, ring=ring, max_memory=THREE_ARENAS) as receiver:
        with sources(loopback) as (source,):
            for _ in range(sent):
                send_train(source, V4.group, bytes(of_a_train), 1)
        held: list[Batch] = []
        with pytest.raises(BufferError, match="fill max_memory"):
            _keep_all(lambda: receiver.recv_batch(TIMEOUT), held)
        count = sum(map(len, held))
        assert receiver.stats.held_blocks == 1
        del held
        assert count + len(receive(receiver, sent * of_a_train - count)) == sent * of_a_train
        assert receiver.stats.copied == 0
