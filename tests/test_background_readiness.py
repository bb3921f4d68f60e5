"""fileno() with a receive thread: readable from when something is there until the last of it is taken."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from typing import Any

import pytest
from backgroundlab import (
    SIZE,
    opened,
    payloads,
    receive_thread,
    send_slowly,
    take_all,
    wait_until_asleep,
    wait_until_seen,
    ways,
)
from netlab import scaled, wait_until
from traffic import PATIENCE, Worker, bound_socket, feed, payload, wait_until_blocked

from mcastfast import Batch, Receiver, ReceiverSet


def is_readable(receiver: Any, timeout: float = 0) -> bool:
    return bool(select.select([receiver], [], [], timeout)[0])


@ways
def test_readable_while_something_is_there_and_not_after(way: dict[str, Any]) -> None:
    with feed(background=SIZE, batch_size=4, **way) as quiet:
        receiver, task = opened(quiet)
        for _ in range(50):
            assert not is_readable(receiver)
            quiet.send(*map(payload, range(10)))
            assert is_readable(receiver, PATIENCE)
            send_slowly(quiet, [])
            wait_until_asleep(task)
            received: list[bytes] = []
            while len(received) < 10:
                assert is_readable(receiver)
                received += receiver.recv_batch(0).payloads()
            assert received == list(map(payload, range(10)))


@ways
def test_what_is_readable_can_be_taken_however_fast_it_comes(way: dict[str, Any]) -> None:
    count = scaled(30_000)
    with feed(background="64 MiB", **way) as busy:
        sender = Worker(lambda: send_slowly(busy, range(count), burst=50))
        received = 0
        while received < count:
            assert is_readable(busy.receiver, PATIENCE)
            received += len(busy.receiver.recv_batch(0))
        sender.result()
        assert not is_readable(busy.receiver)


@ways
def test_epoll_on_edges_sees_each_new_arrival_after_a_drain(way: dict[str, Any]) -> None:
    with feed(background=SIZE, **way) as quiet, select.epoll() as poller:
        poller.register(quiet.receiver, select.EPOLLIN | select.EPOLLET)
        for number in range(200):
            quiet.send(payload(number))
            assert poller.poll(PATIENCE)
            assert payloads(take_all(quiet.receiver)) == [payload(number)]


@ways
def test_asyncio_reader_is_called_for_all(way: dict[str, Any]) -> None:
    async def run() -> list[bytes]:
        loop = asyncio.get_running_loop()
        received: list[bytes] = []
        done = loop.create_future()

        def read() -> None:
            received.extend(quiet.receiver.recv_batch(0).payloads())
            if len(received) == 500:
                done.set_result(None)

        loop.add_reader(quiet.receiver, read)
        for start in range(0, 500, 20):
            send_slowly(quiet, range(start, start + 20), burst=7)
            await asyncio.sleep(0)
        await asyncio.wait_for(done, PATIENCE)
        loop.remove_reader(quiet.receiver)
        return received

    with feed(background=SIZE, **way) as quiet:
        assert asyncio.run(run()) == [payload(number) for number in range(500)]


@ways
def test_a_receive_waits_as_long_as_it_is_told(way: dict[str, Any]) -> None:
    with feed(background=SIZE, **way) as quiet:
        with pytest.raises(BlockingIOError, match="no datagram is there"):
            quiet.receiver.recv_batch(timeout=0)
        with pytest.raises(TimeoutError, match="timed out"):
            quiet.receiver.recv_batch(timeout=0.01)
        with pytest.raises(ValueError, match="timeout"):
            quiet.receiver.recv_batch(timeout=-1)
        blocked = Worker(lambda: quiet.receiver.recv_batch().payloads())
        wait_until_blocked(blocked)
        with pytest.raises(RuntimeError, match="another thread"):
            quiet.receiver.recv_batch(0)
        quiet.send(b"x")
        assert blocked.result() == [b"x"]


@ways
def test_iterations_end_with_close(way: dict[str, Any]) -> None:
    with feed(background=SIZE, **way) as quiet:
        received: list[bytes] = []
        datagrams = Worker(lambda: received.extend(map(bytes, quiet.receiver.datagrams())))
        send_slowly(quiet, range(20))
        wait_until(lambda: len(received) == 20)  # it blocks before they reach it, too
        wait_until_blocked(datagrams)
        quiet.receiver.close()
        datagrams.result()
        assert received == [payload(number) for number in range(20)]


@ways
def test_memory_of_the_callers_is_filled_with_what_waits(way: dict[str, Any]) -> None:
    small, large = Batch(bytearray(64 * 3), max_datagram=64), Batch(bytearray(256 * 2000), max_datagram=256)
    with feed(background=SIZE, max_datagram=300, **way) as quiet:
        send_slowly(quiet, range(50), burst=1)
        assert quiet.receiver.recv_batch_into(small, 0) == 3
        assert small.payloads() == [payload(number)[:64] for number in range(3)]
        cut = [len(payload(number)) > 64 for number in range(3)]
        assert [datagram.truncated for datagram in small] == cut
        assert quiet.receiver.stats.truncated == sum(cut) > 0
        assert quiet.receiver.recv_batch_into(large, 0) == 47
        assert large.payloads() == [payload(number) for number in range(3, 50)]
        with pytest.raises(BlockingIOError):
            quiet.receiver.recv_batch_into(large, 0)
        assert len(large) == 0


def test_a_set_serves_members_with_and_without_a_thread_in_turn() -> None:
    with (
        feed(background=SIZE, batch_size=1) as one,
        feed(batch_size=1) as two,
        feed(socket.AF_INET6, background=SIZE, batch_size=1, coalesce=False) as three,
        feed(coalesce=True, batch_size=1) as four,
        ReceiverSet([one.receiver, two.receiver, three.receiver, four.receiver]) as receivers,
    ):
        feeds = [one, two, three, four]
        for each in feeds:
            each.send(*map(payload, range(10)))
        send_slowly(one, [])
        for each in (one, three):
            assert is_readable(each.receiver, PATIENCE)
        received: dict[Any, list[bytes]] = {each.receiver: [] for each in feeds}
        for _ in range(40):
            receiver, batch = receivers.recv_batch(PATIENCE)
            received[receiver] += batch.payloads()
        assert list(received.values()) == [[payload(number) for number in range(10)]] * 4
        with pytest.raises(BlockingIOError):
            receivers.recv_batch(0)
        blocked = Worker(receivers.recv_batch)
        wait_until_blocked(blocked)
        three.send(b"late")
        assert blocked.result()[1].payloads() == [b"late"]


def test_an_error_of_the_socket_comes_once_in_its_place_and_the_thread_goes_on() -> None:
    """ICMP port unreachable for what a connected socket sent."""
    sock, peer = bound_socket(), bound_socket()
    address = peer.getsockname()
    sock.connect(address)
    with Receiver.from_socket(sock, background=SIZE) as receiver, socket.socket(fileno=os.dup(sock.fileno())) as same:
        task = receive_thread()
        with peer:
            peer.sendto(b"before", receiver.address)
            wait_until_seen(receiver, 1)
        same.send(b"to nobody")
        wait_until_asleep(task)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(address)
            again.sendto(b"after", receiver.address)
            wait_until_seen(receiver, 2)
        assert receiver.recv_batch(0).payloads() == [b"before"]
        with pytest.raises(ConnectionRefusedError, match="recv_batch on 127"):
            receiver.recv_batch(0)
        assert receiver.recv_batch(0).payloads() == [b"after"]
        assert not is_readable(receiver)
