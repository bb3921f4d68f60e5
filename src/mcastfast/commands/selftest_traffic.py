"""The checks of `mcastfast selftest` that send and receive; selftest_checks.py says what a check is."""

from __future__ import annotations

import errno
import queue
import threading
import time
from typing import TYPE_CHECKING

from mcastfast import Batch, ReceiverSet, UnsupportedError, _core, options
from mcastfast.commands.selftest_lab import (
    KEPT_OUT,
    PATIENCE,
    STRANGERS,
    CheckError,
    compare,
    expect,
    make_payloads,
)
from mcastfast.errors import CURRENT, Platform

if TYPE_CHECKING:
    from mcastfast import Receiver
    from mcastfast.commands.selftest_lab import Lab

SIZES = (0, 1, 2, 200, 1472, 1473, 1500, 8192)
"""Bytes: nothing, next to nothing, about the MTU of an Ethernet with its headers, what takes fragments there."""

SLACK = 0.5
"""Seconds that a wait may take too long on a busy host."""

TIMELY = 100_000_000
"""Nanoseconds that a timestamp may be off: clocks are set now and then."""

FALLING_ASLEEP = 0.05
"""Seconds after which a thread that calls something that blocks is taken to be blocked."""


# Receiving and sending


def delivers_in_order(lab: Lab) -> None:
    """Each datagram comes once, in order and byte for byte, from 0 bytes to 8 KiB."""
    receiver, sender = lab.receiver(lab.group, max_datagram=9000), lab.sender(lab.group)
    for _ in range(3):
        payloads = make_payloads(*SIZES)
        for payload in payloads:
            sender.send(payload)
        expect(receiver, payloads)


def sends_batches(lab: Lab) -> None:
    """send_batch() sends what it is given, and says how many."""
    receiver, sender = lab.receiver(lab.group), lab.sender(lab.group)
    payloads = make_payloads(*range(40))
    number = sender.send_batch([*payloads[:20], *map(bytearray, payloads[20:])])
    if (number, sender.stats.datagrams) != (len(payloads), len(payloads)):
        raise CheckError(f"it says {number} and counts {sender.stats.datagrams}, and {len(payloads)} were given")
    expect(receiver, payloads)


def fills_batches(lab: Lab) -> None:
    """A batch takes what is there, up to batch_size."""
    receiver, witness = lab.receiver(lab.group, batch_size=4), lab.receiver(lab.group)
    payloads = make_payloads(*[50] * 9)
    lab.sender(lab.group).send_batch(payloads)
    expect(witness, payloads)  # so that the first eight are with the receiver
    received: list[bytes] = []
    lengths = []
    while len(received) < len(payloads):
        batch = receiver.recv_batch(PATIENCE)
        lengths.append(len(batch))
        received += batch.payloads()
    compare(received, payloads)
    if lengths != [4, 4, 1]:
        raise CheckError(f"batches of {lengths} came, where 4, 4 and 1 were there")


def fills_memory_of_the_caller(lab: Lab) -> None:
    """recv_batch_into() receives into memory of the caller."""
    receiver = lab.receiver(lab.group)
    memory = bytearray(8 * 100)
    payloads = make_payloads(100, 0, 99)
    lab.sender(lab.group).send_batch(payloads)
    received: list[bytes] = []
    with Batch(memory, max_datagram=100) as batch:
        while len(received) < len(payloads):
            receiver.recv_batch_into(batch, PATIENCE)
            received += batch.payloads()
            if batch[0] and bytes(batch[0]) not in memory:
                raise CheckError("the memory does not have what the batch has")
    compare(received, payloads)


def flags_what_is_cut(lab: Lab) -> None:
    """A payload over max_datagram is cut, and says so."""
    receiver = lab.receiver(lab.group, max_datagram=64)
    payloads = make_payloads(64, 65, 8192, 63)
    lab.sender(lab.group).send_batch(payloads)
    received = expect(receiver, [payload[:64] for payload in payloads])
    flagged = [len(payload) for payload, datagram in zip(payloads, received, strict=True) if datagram.truncated]
    if flagged != [65, 8192]:
        raise CheckError(f"with max_datagram=64, of 64, 65, 8192 and 63 bytes those of {flagged} say so")
    if receiver.stats.truncated != 2:
        raise CheckError(f"2 were cut, and {receiver.stats.truncated} are counted")


def tells_source_and_destination(lab: Lab) -> None:
    """Source, destination and interface of a datagram are told."""
    receiver, sender = lab.receiver(lab.group, metadata=["destination"]), lab.sender(lab.group)
    payloads = make_payloads(10)
    sender.send_batch(payloads)
    (datagram,) = expect(receiver, payloads)
    told = {
        "the source": (datagram.source[:2], sender.address[:2]),
        "the destination": ((datagram.destination or ())[:2], (lab.group, lab.port)),
        "the interface": (datagram.interface_index, lab.loopback.interface.index),
    }
    wrong = [f"{what} is {found}, not {due}" for what, (found, due) in told.items() if found != due]
    if wrong:
        raise CheckError("; ".join(wrong))


def tells_the_time(lab: Lab) -> None:
    """The timestamp of a datagram is that of the clock."""
    receiver = lab.receiver(lab.group, metadata=["timestamp"])
    payloads = make_payloads(10)
    earliest = time.time_ns()
    lab.sender(lab.group).send_batch(payloads)
    (datagram,) = expect(receiver, payloads)
    latest = time.time_ns()
    found = datagram.timestamp
    if found is None:
        raise CheckError("there is none")
    if not earliest - TIMELY <= found <= latest + TIMELY:
        raise CheckError(f"it is {(found - earliest) / 1e9:+.6f} s from when the datagram was sent")


def tells_the_hop_limit(lab: Lab) -> None:
    """The TTL or hop limit of a datagram is told."""
    receiver = lab.receiver(lab.group, metadata=["hops"])
    payloads = make_payloads(10)
    lab.sender(lab.group, ttl=1).send_batch(payloads)
    (datagram,) = expect(receiver, payloads)
    if datagram.hops != 1:
        raise CheckError(f"1 was sent, {datagram.hops} is told")


def tells_the_traffic_class(lab: Lab) -> None:
    """The type of service or traffic class of a datagram is told."""
    receiver = lab.receiver(lab.group, metadata=["tos"])
    payloads = make_payloads(10)
    lab.sender(lab.group, traffic_class=0x48).send_batch(payloads)
    (datagram,) = expect(receiver, payloads)
    if datagram.tos == 0 and CURRENT is Platform.WINDOWS:
        raise UnsupportedError("Windows sends 0, whatever a program sets: its policies decide (QoS)")
    if datagram.tos != 0x48:
        raise CheckError(f"0x48 was sent, {datagram.tos} is told")


def counts_drops(lab: Lab) -> None:
    """What finds no room in the socket is counted as dropped."""
    options.MEMORY.place(lab.loopback.family)  # or UnsupportedError, with what to do instead
    receiver = lab.receiver(lab.group, receive_buffer=4096)
    _overflow(lab, receiver)


def places_drops(lab: Lab) -> None:
    """The datagram after a gap tells how many were dropped."""
    receiver = lab.receiver(lab.group, metadata=["drops"], receive_buffer=4096)
    told = sum(sum(batch.dropped) for batch in _overflow(lab, receiver))
    lab.sender(lab.group).send(b"after them")
    told += sum(receiver.recv_batch(PATIENCE).dropped)
    if told != receiver.stats.kernel_drops:
        raise CheckError(f"{told} are told, {receiver.stats.kernel_drops} were dropped")


def _overflow(lab: Lab, receiver: Receiver) -> list[Batch]:
    """Send more than the socket holds and take what is there."""
    sent = 64
    received = 0
    batches = []
    lab.sender(lab.group, segment=False).send_batch(make_payloads(*[1000] * sent))
    end = time.monotonic() + PATIENCE
    while (counted := received + receiver.stats.kernel_drops) != sent:
        try:
            batch = receiver.recv_batch(0)
        except BlockingIOError:
            if time.monotonic() > end or counted > sent:
                raise CheckError(
                    f"of {sent} sent, {received} came and {counted - received} are counted as dropped"
                ) from None
            continue
        received += len(batch)
        batches.append(batch)
    if received == sent:
        raise CheckError(f"{sent} datagrams found room in a buffer of 4096 bytes")
    return batches


# Groups and sources


def delivers_named_sources(lab: Lab) -> None:
    """A source-specific join delivers its source, and no other."""
    receiver = lab.receiver(lab.specific, source=lab.loopback.address, bind="any")
    receiver.join(lab.strange, STRANGERS[lab.loopback.version])
    due = make_payloads(10)
    lab.sender(lab.strange).send(KEPT_OUT)
    lab.sender(lab.specific).send_batch(due)
    expect(receiver, due)


def blocks_and_unblocks(lab: Lab) -> None:
    """block() keeps a source out, unblock() lets it in again."""
    receiver = lab.receiver(lab.group, lab.other)
    blocked, free = lab.sender(lab.group), lab.sender(lab.other)
    before, meanwhile, after = make_payloads(10, 11, 12)
    blocked.send(before)
    expect(receiver, [before])
    receiver.block(lab.group, lab.loopback.address)
    blocked.send(KEPT_OUT)
    free.send(meanwhile)
    expect(receiver, [meanwhile])
    receiver.unblock(lab.group, lab.loopback.address)
    blocked.send(after)
    expect(receiver, [after])


def leaves(lab: Lab) -> None:
    """join() begins to deliver a group, leave() ends it."""
    receiver = lab.receiver(lab.other, bind="any")
    sender, other = lab.sender(lab.group), lab.sender(lab.other)
    while_joined, without = make_payloads(10, 11)
    receiver.join(lab.group)
    sender.send(while_joined)
    expect(receiver, [while_joined])
    receiver.leave(lab.group)
    sender.send(KEPT_OUT)
    other.send(without)
    expect(receiver, [without])


def isolates_by_binding(lab: Lab) -> None:
    """Two receivers on one port have each its own group (bind="auto")."""
    _isolates(lab, "auto")


def isolates_by_filter(lab: Lab) -> None:
    """Two receivers on one port have each its own group (bind="any")."""
    _isolates(lab, "any")


def _isolates(lab: Lab, bind: str) -> None:
    receivers = [lab.receiver(group, bind=bind) for group in (lab.group, lab.other)]
    senders = [lab.sender(group) for group in (lab.group, lab.other)]
    payloads = [make_payloads(10, 11), make_payloads(12, 13)]
    for number in range(2):
        for sender, own in zip(senders, payloads, strict=True):
            sender.send(own[number])
    for receiver, own in zip(receivers, payloads, strict=True):
        expect(receiver, own)


# Waiting


def times_out(lab: Lab) -> None:
    """recv_batch(timeout) ends when its time is over, and not before."""
    receiver = lab.receiver(lab.group)
    for timeout in (0.0, 0.01, 0.1):
        started = time.perf_counter()
        try:
            batch = receiver.recv_batch(timeout)
        except (TimeoutError, BlockingIOError) as error:
            took = time.perf_counter() - started
            if isinstance(error, BlockingIOError) != (timeout == 0):
                raise CheckError(f"a timeout of {timeout:g} s ends with {type(error).__name__}") from None
        else:
            raise CheckError(f"{len(batch)} datagrams came, and none was sent")
        if not timeout <= took < timeout + SLACK:
            raise CheckError(f"a timeout of {timeout:g} s ended after {took:.4f} s")


def wakes_on_close(lab: Lab) -> None:
    """close() ends a receive that another thread is blocked in."""
    receiver = lab.receiver(lab.group)
    ended: queue.SimpleQueue[object] = queue.SimpleQueue()

    def receive() -> None:
        try:
            ended.put(receiver.recv_batch())
        except Exception as error:
            ended.put(error)

    threading.Thread(target=receive, daemon=True).start()
    time.sleep(FALLING_ASLEEP)
    receiver.close()
    try:
        end = ended.get(timeout=PATIENCE)
    except queue.Empty:
        raise CheckError(f"it was still blocked {PATIENCE:g} s later") from None
    if not (isinstance(end, OSError) and end.errno == errno.EBADF):
        raise CheckError(f"it ended with {end!r}, not with EBADF")


def serves_sets(lab: Lab) -> None:
    """A ReceiverSet delivers what comes for each of its receivers."""
    groups = (lab.group, lab.other)
    receivers = [lab.receiver(group) for group in groups]
    payloads = [make_payloads(10, 11), make_payloads(12, 13)]
    received: list[list[bytes]] = [[], []]
    with ReceiverSet(receivers) as together:
        for group, own in zip(groups, payloads, strict=True):
            lab.sender(group).send_batch(own)
        while sum(map(len, received)) < sum(map(len, payloads)):
            receiver, batch = together.recv_batch(PATIENCE)
            received[receivers.index(receiver)] += batch.payloads()
    for came, own in zip(received, payloads, strict=True):
        compare(came, own)


# Memory


def keeps_what_is_held(lab: Lab) -> None:
    """Batches that are kept stay as they were; when memory is used up nothing is lost."""
    receiver, sender = lab.receiver(lab.group, batch_size=8, max_datagram=1024, max_memory=2**20), lab.sender(lab.group)
    kept: list[Batch] = []
    sent: list[bytes] = []
    while True:
        payloads = make_payloads(*[1000] * 8)
        sender.send_batch(payloads)
        sent += payloads
        try:
            while sum(map(len, kept)) < len(sent):
                kept.append(receiver.recv_batch(PATIENCE))
        except BufferError:
            break
        if len(sent) * 1000 > 4 * 2**20:
            raise CheckError("4 MiB were kept where max_memory is 1 MiB")
    held = [payload for batch in kept for payload in batch.payloads()]
    compare(held, sent[: len(held)])
    kept.clear()
    expect(receiver, sent[len(held) :])


# Beyond the plain socket


def sends_trains(lab: Lab) -> None:
    """What is sent as a train arrives as it was given (segment=True)."""
    receiver, sender = lab.receiver(lab.group), lab.sender(lab.group, segment=True)
    payloads = make_payloads(*[500] * 19, 7)
    sender.send_batch(payloads)
    expect(receiver, payloads)
    if not sender.stats.trains:
        raise CheckError("no train was sent")


def receives_trains(lab: Lab) -> None:
    """What comes as a train is taken apart (coalesce=True)."""
    receiver, sender = lab.receiver(lab.group, coalesce=True), lab.sender(lab.group)
    payloads = make_payloads(*[500] * 19, 7, 0, 500)
    sender.send_batch(payloads)
    expect(receiver, payloads)


def receives_in_background(lab: Lab) -> None:
    """A thread receives while nobody asks (background=)."""
    if not _core.is_watchable(lab.engine):
        raise UnsupportedError("this engine receives while nobody asks without a thread, which could not wait for it")
    receiver, sender = lab.receiver(lab.group, background="16 MiB"), lab.sender(lab.group)
    payloads = make_payloads(*[500] * 19, 7, 0, 500)
    sender.send_batch(payloads)
    end = time.monotonic() + PATIENCE
    while (number := receiver.stats.datagrams) < len(payloads):
        if time.monotonic() > end:
            raise CheckError(f"it had {number} of {len(payloads)} datagrams after {PATIENCE:g} s")
        time.sleep(0.001)
    expect(receiver, payloads)


TRAFFIC_CHECKS = (
    delivers_in_order,
    sends_batches,
    fills_batches,
    fills_memory_of_the_caller,
    flags_what_is_cut,
    tells_source_and_destination,
    tells_the_time,
    tells_the_hop_limit,
    tells_the_traffic_class,
    counts_drops,
    places_drops,
    delivers_named_sources,
    blocks_and_unblocks,
    leaves,
    isolates_by_binding,
    isolates_by_filter,
    times_out,
    wakes_on_close,
    serves_sets,
    keeps_what_is_held,
    sends_trains,
    receives_trains,
    receives_in_background,
)
