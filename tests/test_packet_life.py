"""A receiver with engine="packet" waits, ends, forks and joins sets as every other does."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import select
from typing import TYPE_CHECKING, Any

import pytest
from netlab import namespaces, wait_until
from packetlab import families, mappings, needs_packet, packet_receiver, send_train
from receivelab import END, TIMEOUT, V4, V6, Family, Source, Worker, at, handler, receive, sources
from test_aio import in_a_thread
from test_fork_receiver import in_child

from mcastfast import Batch, Receiver, ReceiverSet, aio

if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab import Lan, Link

pytestmark = needs_packet

IFA_F_NODAD = 2


@pytest.mark.parametrize("spin", [0.0, 0.001])
def test_timeouts(loopback: Link, spin: float) -> None:
    with packet_receiver(V4.group, loopback, spin=spin) as ring, sources(loopback) as (source,):
        with pytest.raises(BlockingIOError):
            ring.recv_batch(0)
        with pytest.raises(TimeoutError):
            ring.recv_batch(0.01)
        worker = Worker(ring.recv_batch, TIMEOUT)
        source.send(V4.group, b"payload")
        assert worker.result().payloads() == [b"payload"]


def test_close_ends_a_blocked_receive(loopback: Link) -> None:
    ring = packet_receiver(V4.group, loopback)
    worker = Worker(ring.recv_batch)
    worker.wait_until_blocked()
    ring.close()
    with pytest.raises(OSError, match="it is closed") as caught:
        worker.result()
    assert caught.value.errno == errno.EBADF
    assert not mappings()
    ring.close()


def test_close_ends_an_iteration(loopback: Link) -> None:
    ring = packet_receiver(V4.group, loopback)
    worker = Worker(lambda: list(ring))
    worker.wait_until_blocked()
    ring.close()
    assert worker.result() == []


def test_signal_handlers_run_while_it_is_blocked(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback) as ring, sources(loopback) as (source,):
        with handler(lambda: source.send(V4.group, b"payload")) as sent:
            assert ring.recv_batch(TIMEOUT).payloads() == [b"payload"]
        assert sent.is_set()


def test_it_is_readable_while_there_is_something_from_the_link_or_from_this_host(lan: Lan) -> None:
    with packet_receiver(V4.group, lan.receiver) as ring, sources(lan.receiver, lan.sender) as both:
        for source in both:
            assert ring.fileno() >= 0
            assert not select.select([ring], [], [], 0)[0]
            source.send(V4.group, b"payload")
            assert select.select([ring], [], [], TIMEOUT)[0] == [ring]
            assert ring.recv_batch(0).payloads() == [b"payload"]
            with pytest.raises(BlockingIOError):
                ring.recv_batch(0)
    assert ring.fileno() == -1


def test_what_is_polled_is_the_same_while_another_thread_receives(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, spin=TIMEOUT) as ring, sources(loopback) as (source,):
        polled = ring.fileno()
        worker = Worker(ring.recv_batch, TIMEOUT)  # looks for what this host sent all the time
        assert {ring.fileno() for _ in range(300_000)} == {polled}
        source.send(V4.group, b"payload")
        assert worker.result().payloads() == [b"payload"]


@families
def test_in_a_set_beside_plain_receivers(loopback: Link, family: Family) -> None:
    ring = packet_receiver(family.group, loopback, batch_size=2)
    plain = Receiver(at(family.other, loopback, 5001))
    with ReceiverSet([ring, plain]) as receivers, sources(loopback) as (source,):
        send_train(source, family.group, bytes(80), 10)
        source.send(family.other, END, port=5001)
        received: dict[Receiver, int] = {ring: 0, plain: 0}
        while sum(received.values()) < 9:
            receiver, batch = receivers.recv_batch(TIMEOUT)
            received[receiver] += len(batch)
        assert received == {ring: 8, plain: 1}
        with pytest.raises(TimeoutError):
            receivers.recv_batch(0.01)


def test_a_child_keeps_what_it_holds_and_does_not_receive(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, ring="1 MiB") as ring, sources(loopback) as (source,):
        source.send(V4.group, b"held")
        held = ring.recv_batch(TIMEOUT)

        def child() -> None:
            with pytest.raises(RuntimeError, match="the ring that it receives from is the parent process's"):
                ring.recv_batch(0)
            with pytest.raises(RuntimeError, match="the ring"):
                ring.recv_batch_into(Batch(bytearray(2048)), 0)
            assert held.payloads() == [b"held"]
            held.release()
            ring.close()
            assert ring.stats.datagrams == 1

        in_child(child)()
        source.send(V4.group, b"on")
        assert ring.recv_batch(TIMEOUT).payloads() == [b"on"]
        assert ring.stats.held_blocks == 1
        assert held.payloads() == [b"held"]


def test_a_child_that_detaches_leaves_the_parent_each_datagram_once(lan: Lan) -> None:
    with packet_receiver(V4.group, lan.receiver) as ring, sources(lan.receiver, lan.sender) as (own, source):
        in_child(lambda: ring.detach().close())()
        source.send(V4.group, b"1", b"2")
        own.send(V4.group, END)  # as what came twice would: by the socket, and not by the ring
        assert sorted(receive(ring, 3)) == [b"1", b"2", END]
        with pytest.raises(BlockingIOError):
            ring.recv_batch(0)


def test_what_a_child_holds_stays_while_the_parent_goes_on(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback, ring="1 MiB") as ring, sources(loopback) as (source,):
        source.send(V4.group, b"held")
        held = ring.recv_batch(TIMEOUT)

        def child() -> None:
            assert receive(plain, 1) == [b"go"]
            assert held.payloads() == [b"held"]

        with Receiver(at(V4.group, loopback, 5001)) as plain:
            wait = in_child(child)
            held.release()
            for number in range(12):
                source.send(V4.group, b"%d" % number)
                assert ring.recv_batch(TIMEOUT).payloads() == [b"%d" % number]
            source.send(V4.group, b"go", port=5001)
            wait()


def _raises_down(call: Callable[..., object], *arguments: Any) -> str:
    """The note of the error that the call raises for a ring whose interface is down or gone."""
    with pytest.raises(OSError, match="Network is down") as caught:
        call(*arguments)
    assert caught.value.errno == errno.ENETDOWN
    (note,) = caught.value.__notes__
    assert note.startswith("The interface of the ring is down or gone")
    return note


def _remove(link: Link) -> None:
    link.namespace.ip.link("del", index=link.index)


def _switch(link: Link, state: str) -> None:
    link.namespace.ip.link("set", index=link.index, state=state)


def _wait_until_heard(ring: Receiver, source: Source, group: str) -> None:
    def is_heard() -> bool:
        source.send(group, b"again")
        with contextlib.suppress(TimeoutError):
            return ring.recv_batch(0.05).payloads()[0] == b"again"
        return False

    wait_until(is_heard, TIMEOUT, what="the interface")


@families
def test_an_interface_that_goes_down_is_an_error_once(lan: Lan, family: Family) -> None:
    with packet_receiver(family.group, lan.receiver) as ring, sources(lan.sender) as (source,):
        source.send(family.group, b"payload")
        held = ring.recv_batch(TIMEOUT)
        worker = Worker(ring.recv_batch, TIMEOUT)
        worker.wait_until_blocked()
        _switch(lan.receiver, "down")
        assert "one that is switched on again is heard again" in _raises_down(worker.result)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                ring.recv_batch(0.01)
            with pytest.raises(BlockingIOError):
                ring.recv_batch(0)
        assert held.payloads() == [b"payload"]


@families
@pytest.mark.parametrize("spin", [0.0, 0.001])
def test_an_interface_that_is_gone_is_an_error_each_time(lan: Lan, family: Family, spin: float) -> None:
    with packet_receiver(family.group, lan.receiver, spin=spin) as ring, sources(lan.sender) as (source,):
        source.send(family.group, b"payload")
        held = ring.recv_batch(TIMEOUT)
        worker = Worker(ring.recv_batch, TIMEOUT)
        worker.wait_until_blocked()
        _remove(lan.receiver)
        _raises_down(worker.result)
        for timeout in (TIMEOUT, 0.01, 0):
            _raises_down(ring.recv_batch, timeout)
            _raises_down(ring.recv_batch_into, Batch(bytearray(2048)), timeout)
        assert held.payloads() == [b"payload"]
        ring.leave(family.group)
        assert ring.memberships == ()
        _raises_down(ring.recv_batch, TIMEOUT)


def test_a_set_is_told_that_an_interface_is_gone_and_goes_on_with_the_others(lan: Lan) -> None:
    with (
        lan.sender.namespace,
        Receiver(at(V4.group, lan.sender)) as other,
        packet_receiver(V4.group, lan.receiver) as ring,
        ReceiverSet([other, ring]) as receivers,
        sources(lan.sender) as (source,),
    ):
        source.send(V4.group, b"payload")
        assert {receivers.recv_batch(TIMEOUT)[0] for _ in range(2)} == {other, ring}
        _switch(lan.receiver, "down")
        _raises_down(receivers.recv_batch, TIMEOUT)
        with pytest.raises(TimeoutError):
            receivers.recv_batch(0.01)
        worker = Worker(receivers.recv_batch)
        worker.wait_until_blocked()
        _remove(lan.receiver)
        _raises_down(worker.result)
        for timeout in (0.01, 0):
            _raises_down(receivers.recv_batch, timeout)


def test_an_event_loop_is_told_that_an_interface_is_down_and_then_gone(
    lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "_LOOK_AGAIN", 0.01)

    with packet_receiver(V4.group, lan.receiver) as ring, sources(lan.sender) as (source,):
        worker = in_a_thread(ring)
        source.send(V4.group, b"payload")
        assert worker.result() == [b"payload"]
        for command, options in (("set", {"state": "down"}), ("del", {})):
            worker = in_a_thread(ring)
            lan.receiver.namespace.ip.link(command, index=lan.receiver.index, **options)
            with pytest.raises(OSError, match="Network is down"):
                worker.result()


def test_what_came_before_an_interface_was_gone_is_delivered_first(lan: Lan) -> None:
    with packet_receiver(V4.group, lan.receiver) as ring, sources(lan.sender) as (source,):
        source.send(V4.group, b"payload")
        assert select.select([ring], [], [], TIMEOUT)[0] == [ring]
        _remove(lan.receiver)
        assert ring.recv_batch(TIMEOUT).payloads() == [b"payload"]
        for _ in range(3):
            _raises_down(ring.recv_batch, TIMEOUT)


def test_who_waits_on_an_interface_that_is_down_hears_that_it_is_gone(lan: Lan) -> None:
    with packet_receiver(V4.group, lan.receiver) as ring:
        _switch(lan.receiver, "down")
        _raises_down(ring.recv_batch, TIMEOUT)
        worker = Worker(ring.recv_batch)  # looks around now and then, and no event will wake it
        worker.wait_until_blocked()
        _remove(lan.receiver)
        _raises_down(worker.result)


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "down"])
def test_an_interface_that_goes_is_told_though_something_of_this_host_waits(lan: Lan, is_gone: bool) -> None:
    with packet_receiver(V4.group, lan.receiver) as ring, sources(lan.receiver) as (own,):
        own.send(V4.group, b"own")
        assert select.select([ring], [], [], TIMEOUT)[0] == [ring]
        if is_gone:
            _remove(lan.receiver)
        else:
            _switch(lan.receiver, "down")
        _raises_down(ring.recv_batch, TIMEOUT)
        assert ring.recv_batch(TIMEOUT).payloads() == [b"own"]
        with pytest.raises(OSError, match="Network is down" if is_gone else "timed out"):
            ring.recv_batch(0.01)


def _address(link: Link) -> None:
    link.namespace.ip.addr("add", index=link.index, address=link.ipv4, prefixlen=24)
    link.namespace.ip.addr("add", index=link.index, address=link.ipv6, prefixlen=64, flags=IFA_F_NODAD)


def _join_again(ring: Receiver, group: str, link: Link) -> None:
    ring.leave(group)
    with link.namespace:
        ring.join(at(group, link))


def _bridge(link: Link) -> Link:
    """A bridge whose one port is the link, with the same index each time; of the network nothing else goes with it."""
    ip, bridge = link.namespace.ip, dataclasses.replace(link, name="br0", index=77, ipv4="10.78.1.1", ipv6="fd78:1::1")
    quick = {"br_stp_state": 0, "br_forward_delay": 0, "br_mcast_snooping": 0}
    ip.link("add", ifname=bridge.name, index=bridge.index, kind="bridge", **quick)
    ip.link("set", index=link.index, master=bridge.index)
    _switch(bridge, "up")
    _address(bridge)
    return bridge


@families
def test_an_interface_that_is_made_again_with_its_index_is_heard_when_joined_again(lan: Lan, family: Family) -> None:
    bridge = _bridge(lan.receiver)
    with packet_receiver(family.group, bridge) as ring, sources(lan.sender) as (source,):

        def is_readable() -> bool:
            source.send(family.group, b"payload")
            return bool(select.select([ring], [], [], 0.05)[0])

        for _ in range(2):
            wait_until(is_readable, TIMEOUT, what="the bridge")
            _remove(bridge)
            _raises_down(receive, ring, 1_000_000)
            _raises_down(ring.recv_batch, TIMEOUT)
            _bridge(lan.receiver)
            _join_again(ring, family.group, bridge)


@families
def test_an_interface_that_is_moved_away_and_back_is_heard_when_joined_again(lan: Lan, family: Family) -> None:
    link, here = lan.receiver, lan.receiver.namespace
    with (
        namespaces(1) as (elsewhere,),
        packet_receiver(family.group, link) as ring,
        sources(lan.sender) as (source,),
    ):
        here.ip.link("set", index=link.index, net_ns_fd=elsewhere.fileno())
        for _ in range(3):
            _raises_down(ring.recv_batch, TIMEOUT)
        elsewhere.ip.link("set", index=link.index, net_ns_fd=here.fileno())
        _raises_down(ring.recv_batch, TIMEOUT)  # it is down now, which is told once
        with pytest.raises(TimeoutError):
            ring.recv_batch(0.01)
        _switch(link, "up")
        _address(link)
        _join_again(ring, family.group, link)
        _wait_until_heard(ring, source, family.group)


@families
def test_an_interface_that_comes_back_is_heard_again(lan: Lan, family: Family) -> None:
    with packet_receiver(family.group, lan.receiver) as ring, sources(lan.sender) as (source,):
        _switch(lan.receiver, "down")
        _raises_down(ring.recv_batch, TIMEOUT)
        _switch(lan.receiver, "up")
        _wait_until_heard(ring, source, family.group)


@families
def test_an_interface_that_was_down_for_a_moment_is_no_error(lan: Lan, family: Family) -> None:
    with packet_receiver(family.group, lan.receiver) as ring, sources(lan.sender) as (source,):
        for state in ("down", "up"):
            _switch(lan.receiver, state)
        _wait_until_heard(ring, source, family.group)


def test_one_that_is_dropped_while_a_batch_is_held(loopback: Link) -> None:
    ring = packet_receiver(V6.group, loopback)
    with sources(loopback) as (source,):
        source.send(V6.group, b"payload")
        batch = ring.recv_batch(TIMEOUT)
    with pytest.warns(ResourceWarning, match="unclosed <Receiver"):
        del ring
    assert batch.payloads() == [b"payload"]
    del batch
    assert not mappings()


def test_memory_that_is_there_from_the_start(loopback: Link) -> None:
    with (
        packet_receiver(V4.group, loopback, max_memory=2_000_000, memory="prefault") as ring,
        sources(loopback) as (source,),
    ):
        source.send(V4.group, b"payload")
        assert ring.recv_batch(TIMEOUT).payloads() == [b"payload"]
