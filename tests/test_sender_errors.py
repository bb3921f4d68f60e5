"""Errors of the system after k datagrams say so: .sent is k, the first k arrive, and the sender goes on."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import netlab
import numpy as np
import pytest
from receivelab import V4, V6, at
from sendlab import LARGE, Wire, sent

from mcastfast import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.needs("namespaces", "ipv6")

HEADERS = {socket.AF_INET: 20 + 8, socket.AF_INET6: 40 + 8}
MTU = 1500
IFA_F_NODAD = 2
FORMS: list[Callable[[list[bytes]], Any]] = [list, lambda payloads: [bytearray(payload) for payload in payloads]]
FORM_NAMES = ["bytes", "bytearrays"]


@pytest.mark.parametrize("form", FORMS, ids=FORM_NAMES)
@pytest.mark.parametrize("position", [0, 1, 5, 1030])
def test_a_payload_over_the_mtu_stops_a_batch_where_it_is(
    wire: Wire, position: int, form: Callable[[list[bytes]], Any]
) -> None:
    fitting = MTU - HEADERS[wire.family.number]
    payloads = [b"%d" % number for number in range(position)] + [bytes(fitting + 1), b"never sent"]
    sender = wire.sender(fragment=False)
    with pytest.raises(OSError, match=r"send to .*: Message too long") as caught:
        sender.send_batch(form(payloads))
    assert caught.value.errno == errno.EMSGSIZE
    assert sent(caught.value) == position == sender.stats.datagrams
    assert any("MTU" in note for note in caught.value.__notes__)
    assert sender.send_batch([bytes(fitting), b"after"]) == 2
    if position < 100:  # more are too many for the receiver's buffer
        assert wire.payloads() == [*payloads[:position], bytes(fitting), b"after"]


def test_a_lone_payload_over_the_mtu_is_refused_without_fragments(wire: Wire) -> None:
    fitting = MTU - HEADERS[wire.family.number]
    sender = wire.sender(fragment=False)
    sender.send(bytes(fitting))
    with wire.link.namespace, pytest.raises(OSError, match="Message too long") as caught:
        sender.send(bytes(fitting + 1))
    assert caught.value.__notes__[-1] == (
        f"{wire.link.name} has an MTU of {MTU} octets, which is {fitting} of payload; that of a route may be smaller."
    )
    assert (caught.value.errno, sent(caught.value)) == (errno.EMSGSIZE, 0)
    assert wire.payloads() == [bytes(fitting)]
    assert sender.stats[1:] == (1, fitting, 0, 0, 0)  # the kernel's own report of it is no late error


def test_the_mtu_that_an_error_names_is_that_of_now(wire: Wire) -> None:
    sender = wire.sender(fragment=False)
    wire.link.namespace.ip.link("set", index=wire.link.index, mtu=1300)
    with wire.link.namespace, pytest.raises(OSError, match="Message too long") as caught:
        sender.send(bytes(MTU - HEADERS[wire.family.number]))
    assert f"{wire.link.name} has an MTU of 1300 octets" in caught.value.__notes__[-1]


def test_fragments_are_the_default(wire: Wire) -> None:
    payload = bytes(range(250)) * 20
    sender = wire.sender()
    sender.send(payload)
    assert sender.send_batch(np.frombuffer(payload, "u1").reshape(2, -1)) == 2
    assert wire.payloads() == [payload, payload[:2500], payload[2500:]]


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize("form", FORMS, ids=FORM_NAMES)
def test_a_full_queue_of_the_device_is_counted_and_raised(wire: Wire, form: Callable[[list[bytes]], Any]) -> None:
    payloads = [bytes([number]) * LARGE for number in range(20)]
    wire.throttle("3kbit", burst=1500, limit=5000)  # one passes, three wait
    sender = wire.sender()
    with pytest.raises(OSError, match=r"send to .*: No buffer space available") as caught:
        sender.send_batch(form(payloads))
    assert caught.value.errno == errno.ENOBUFS
    assert any("queue of the device is full" in note for note in caught.value.__notes__)
    number = sent(caught.value)
    assert 0 < number < len(payloads)
    with pytest.raises(OSError, match="No buffer space available") as caught:
        sender.send(b"x" * LARGE)
    assert (caught.value.errno, sent(caught.value)) == (errno.ENOBUFS, 0)
    assert sender.stats == (1, number, number * LARGE, 2, 0, 0)
    wire.unblock()
    sender.send(b"after")
    assert wire.payloads() == [*payloads[:number], b"after"]


@pytest.mark.needs("token_bucket")
def test_every_datagram_of_an_overloaded_device_arrives_or_is_reported(wire: Wire) -> None:
    wire.throttle("4mbit", burst=1500, limit=6000)
    sender = wire.sender()
    sent_ones: list[bytes] = []
    dropped = 0
    for start in range(0, 60, 10):
        payloads = [bytes([number]) * LARGE for number in range(start, start + 10)]
        while payloads:
            try:
                done = sender.send_batch(payloads)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                done = sent(error)
                dropped += 1
                sent_ones += payloads[:done]
                del payloads[: done + 1]  # that one is lost
            else:
                sent_ones += payloads
                break
    wire.unblock()
    assert wire.payloads() == sent_ones
    assert dropped > 0
    assert sender.stats.send_drops == dropped
    assert sender.stats.datagrams == len(sent_ones) == 60 - dropped


def switch_on(link: netlab.Link) -> None:
    """Set the link up, give it back the IPv6 address that going down takes, and wait until it passes datagrams."""
    link.namespace.ip.link("set", index=link.index, state="up")
    link.namespace.ip.addr("replace", index=link.index, address=link.ipv6, prefixlen=64, flags=IFA_F_NODAD)
    netlab._wait_for_carrier(link.namespace, link.name)


def test_an_interface_that_goes_down_stops_sends_until_it_is_up(wire: Wire) -> None:
    link = wire.link
    sender = wire.sender()
    sender.send(b"before")
    assert wire.payloads() == [b"before"]
    link.namespace.ip.link("set", index=link.index, state="down")
    with pytest.raises(OSError, match=r"send to .*: ") as caught:
        sender.send_batch([b"lost"])
    assert caught.value.errno in (errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
    assert sent(caught.value) == 0
    assert caught.value.__notes__
    assert (sender.stats.datagrams, sender.stats.late_errors) == (1, 0)
    switch_on(link)
    sender.send(b"after")
    assert sender.send_batch([b"1", b"2"]) == 2
    assert wire.payloads() == [b"after", b"1", b"2"]
    assert sender.stats.datagrams == 4


def test_an_interface_that_is_deleted_stops_sends(wire: Wire) -> None:
    sender = wire.sender()
    wire.link.namespace.ip.link("del", index=wire.link.index)
    with pytest.raises(OSError, match=rf"send to {wire.family.group}%{wire.link.name} port 5000: ") as caught:
        sender.send(b"lost")
    assert caught.value.errno in (errno.ENETUNREACH, errno.ENODEV, errno.EADDRNOTAVAIL)
    assert caught.value.__notes__ == [
        f"{wire.link.name} is gone, or was made again under another index: open another Sender."
    ]
    assert sent(caught.value) == 0
    assert sender.stats.datagrams == 0


def test_an_ipv6_socket_that_sends_from_an_ipv4_address_has_not_lost_it(lan: netlab.Lan) -> None:
    link = lan.sender
    with link.namespace:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.connect((f"::ffff:{lan.receiver.ipv4}", 5000))
    with Sender.from_socket(sock) as sender, link.namespace:
        link.namespace.ip.link("set", index=link.index, state="down")
        with pytest.raises(OSError, match="Network is unreachable") as caught:
            sender.send(b"lost")
        assert not any("no longer" in note for note in caught.value.__notes__)


def test_an_address_that_changed_is_told_of_with_the_remedy(lan: netlab.Lan) -> None:
    """With IPv4: with IPv6, Linux goes on with the old address."""
    with Wire(lan, V4, "auto") as wire:
        sender = wire.sender()
        sender.send(b"before")
        link = wire.link
        link.namespace.ip.addr("del", index=link.index, address=link.ipv4, prefixlen=24)
        link.namespace.ip.addr("add", index=link.index, address="10.77.1.99", prefixlen=24)
        with link.namespace, pytest.raises(OSError, match=r"send to .*: Network is unreachable") as caught:
            sender.send(b"lost")
        (note,) = caught.value.__notes__
        assert note.startswith(f"It sends from {link.ipv4}, which is no longer an address of this host")
        assert note.endswith(": open another Sender.")
        wire.sender().send(b"after")
        assert wire.payloads() == [b"before", b"after"]


def test_an_address_that_is_tentative_is_told_of_with_the_remedy(lan: netlab.Lan) -> None:
    link = lan.sender
    for address in (link.ipv6, link.link_local):
        link.namespace.ip.addr("del", index=link.index, address=address, prefixlen=64)
    link.namespace.ip.addr("add", index=link.index, address=link.ipv6, prefixlen=64)
    for local in (None, link.ipv6):
        with link.namespace, pytest.raises(OSError, match="Cannot assign requested address") as caught:
            Sender(at(V6.group, link), local=local)
        assert any("are tentative: duplicates are looked for" in note for note in caught.value.__notes__)
