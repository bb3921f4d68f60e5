"""A sender with a rate is never faster than that, and what it sends at once is no more than the burst."""

from __future__ import annotations

import itertools
import socket
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from netlab import wait_until
from receivelab import FAMILIES, TIMEOUT, V4, Family, at, family_name, plain_socket, receive
from sendlab import Wire

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

PAYLOADS = [bytes([number]) * 100 for number in range(41)]


def send_each(sender: Sender, payloads: list[bytes]) -> None:
    for payload in payloads:
        sender.send(payload)


def send_some_more(sender: Sender, payloads: list[bytes]) -> None:
    for first in range(0, len(payloads), 7):
        sender.send_batch(bytearray(payload) for payload in payloads[first : first + 7])


def send_rows(sender: Sender, payloads: list[bytes]) -> None:
    sender.send_batch(np.array([np.frombuffer(payload, "u1") for payload in payloads]))


WAYS = [send_each, Sender.send_batch, send_some_more, send_rows]


@pytest.mark.parametrize("send", WAYS)
@pytest.mark.parametrize(
    "options",
    [{"rate": 1000}, {"rate": "800 kbit/s"}, {"rate": 1000, "burst": 8}, {"rate": "800 kbit/s", "burst": 8}],
    ids=str,
)
def test_datagrams_take_the_time_of_the_rate(
    wire: Wire, send: Callable[[Sender, list[bytes]], Any], options: dict[str, Any]
) -> None:
    sender = wire.sender(**options)
    start = time.perf_counter()
    send(sender, PAYLOADS)
    assert time.perf_counter() - start >= (0.04 if "burst" not in options else 0.033)  # the last burst goes at once
    assert wire.payloads() == PAYLOADS


@pytest.mark.parametrize("send", WAYS)
@pytest.mark.parametrize("burst", [1, 8])
@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_over_loopback_no_more_go_at_once_than_the_burst(
    loopback: netlab.Link, family: Family, engine: str, burst: int, send: Callable[[Sender, list[bytes]], Any]
) -> None:
    with (
        Receiver(at(family.group, loopback)) as receiver,
        Sender(at(family.group, loopback), rate=1000, burst=burst, engine=engine) as sender,
    ):
        start = time.perf_counter()
        send(sender, PAYLOADS)
        assert time.perf_counter() - start >= (len(PAYLOADS) - burst) / 1000
        assert receive(receiver, len(PAYLOADS)) == PAYLOADS
        if burst == 1 or send is send_each or not sender.segment:
            assert sender.stats.trains == 0
        else:
            assert sender.stats.trains >= len(PAYLOADS) // burst


def test_a_relayed_batch_takes_the_time_of_the_rate(wire: Wire) -> None:
    with wire.link.namespace, Receiver(at(wire.family.other, wire.link), batch_size=64) as receiver:
        with Sender(at(wire.family.other, wire.link)) as source:
            source.send_batch(PAYLOADS)
        sender = wire.sender(rate=1000)
        start = time.perf_counter()
        relayed = 0
        while relayed < len(PAYLOADS):
            relayed += sender.send_batch(receiver.recv_batch(TIMEOUT))
        assert time.perf_counter() - start >= 0.04
    assert wire.payloads() == PAYLOADS


def test_the_first_need_not_wait_and_the_next_waits_for_the_burst(wire: Wire) -> None:
    for burst in (1, 8):
        sender = wire.sender(rate=0.01, burst=burst)
        assert sender.delay == 0.0
        sender.send_batch(PAYLOADS[:burst])
        assert (burst - 1) * 100 < sender.delay <= burst * 100


@pytest.mark.parametrize("burst", [1, 8])
def test_a_train_has_no_more_segments_than_the_burst(lan: netlab.Lan, burst: int) -> None:
    with Wire(lan, V4, "socket") as wire:
        sender = wire.sender(segment=True, rate=10_000, burst=burst)
        sender.send_batch(PAYLOADS[:40])
        assert sender.stats.trains == (0 if burst == 1 else 5)
        assert wire.payloads() == PAYLOADS[:40]


HEADERS = {socket.AF_INET: 28 + 38, socket.AF_INET6: 48 + 38}


@pytest.mark.parametrize(("size", "counts"), [(100, "payload"), (1400, "payload"), (100, "wire"), (1400, "wire")])
def test_bits_are_those_of_the_payload_or_of_the_wire(wire: Wire, size: int, counts: str) -> None:
    sender = wire.sender(rate="8 bit/s", rate_counts=counts)
    sender.send(bytes(size))
    octets = size + (HEADERS[wire.family.number] if counts == "wire" else 0)
    assert octets - 60 < sender.delay <= octets


def test_fragments_are_those_of_the_interface_s_mtu(loopback: netlab.Link) -> None:
    for family in FAMILIES:
        with Sender(at(family.group, loopback), rate="8 bit/s", rate_counts="wire") as sender:
            sender.send(bytes(60_000))  # lo takes 65536
            octets = 60_000 + HEADERS[family.number]
            assert octets - 60 < sender.delay <= octets


def test_a_prepared_socket_is_paced_too(wire: Wire) -> None:
    with wire.link.namespace:
        sock = plain_socket(wire.family.number)
        sock.connect(("127.0.0.1" if wire.family is V4 else "::1", 9))
        with Sender.from_socket(sock, rate="8 bit/s", burst=2, rate_counts="wire") as sender:
            sender.send(bytes(3000))
            octets = 3 * HEADERS[wire.family.number] + 3000 - 16  # UDP's header stands in the first of three fragments
            octets += 24 if wire.family.number == socket.AF_INET6 else 0
            assert octets - 60 < sender.delay <= octets


def test_without_a_rate_there_is_no_delay(wire: Wire) -> None:
    sender = wire.sender()
    sender.send_batch(PAYLOADS)
    assert sender.delay == 0.0


def is_stamped_on_arrival(receiver: Receiver, sender: Sender) -> bool:
    """The kernel starts to stamp some time after the first socket asked for it; until then recvmsg(2) stamps."""
    sender.send(b"when?")
    sent = time.time_ns()
    (stamp,) = receiver.recv_batch(TIMEOUT).timestamps
    return bool(stamp <= sent)


def gaps(receiver: Receiver, sender: Sender, number: int) -> list[float]:
    """Seconds between one and the next of so many datagrams, by the clock of the kernel that receives them."""
    sender.send_batch(PAYLOADS[:number])
    times: list[int] = []
    while len(times) < number:
        times += receiver.recv_batch(TIMEOUT).timestamps
    return [(after - before) / 1e9 for before, after in itertools.pairwise(times)]


def test_each_is_apart_from_the_next_also_when_the_sender_was_late(wire: Wire) -> None:
    """Half the gap is the least that the schedule leaves, after a call that was held up in the middle."""
    sender, prompt = wire.sender(rate=100), wire.sender()
    with wire.link.namespace, Receiver(wire.group, metadata=["timestamp"]) as receiver:
        wait_until(lambda: is_stamped_on_arrival(receiver, prompt), TIMEOUT)
        assert min(gaps(receiver, sender, 10)) > 0.003
        before = time.perf_counter()
        wait_until(lambda: time.perf_counter() > before + 0.2, TIMEOUT)
        assert min(gaps(receiver, sender, 20)) > 0.003


@pytest.mark.needs("token_bucket")
def test_what_the_device_dropped_has_had_its_turn(wire: Wire) -> None:
    wire.throttle("3kbit", burst=1500, limit=1500)
    filler, sender = wire.sender(), wire.sender(rate=0.01)
    with pytest.raises(OSError, match="queue of the device is full"):
        filler.send_batch([bytes(1400)] * 100)
    with pytest.raises(OSError, match="queue of the device is full"):
        sender.send(bytes(1400))
    assert sender.stats[1:4] == (0, 0, 1)
    assert sender.delay > 90
