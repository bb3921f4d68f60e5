"""busy_poll= has the kernel poll the device: SO_BUSY_POLL and SO_PREFER_BUSY_POLL of socket(7), for those who may."""

from __future__ import annotations

import math
import socket
import time
from typing import TYPE_CHECKING

import pytest
from coalescelab import PATHS, open_path, path_name
from netlab import set_offload
from receivelab import TIMEOUT, V4, Worker, at, receive, script, sources

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    import coalescelab
    import netlab

SO_BUSY_POLL, SO_PREFER_BUSY_POLL = 46, 69


def pollable(lan: netlab.Lan) -> None:
    """Have the receiver's end of the pair be polled for what the other end sends."""
    set_offload(lan.receiver, "GRO", on=True)
    set_offload(lan.sender, "TSO", on=False)


@pytest.fixture
def path(request: pytest.FixtureRequest) -> Iterator[coalescelab.Path]:
    yield from open_path(request)


@pytest.mark.needs("forced_buffer")  # by the same privilege
@pytest.mark.parametrize(("seconds", "microseconds"), [(50e-6, 50), (1, 1_000_000), (1e-9, 1)])
def test_it_is_set_in_microseconds(loopback: netlab.Link, seconds: float, microseconds: int) -> None:
    with Receiver(at(V4.group, loopback), busy_poll=seconds) as receiver:
        sock = receiver.detach()
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, SO_BUSY_POLL) == microseconds
            assert sock.getsockopt(socket.SOL_SOCKET, SO_PREFER_BUSY_POLL) == 1


@pytest.mark.needs("forced_buffer")
@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("coalesce", [False, True], ids=["plain", "trains"])
@pytest.mark.parametrize("path", PATHS, ids=path_name, indirect=True)
def test_datagrams_come_as_ever(path: coalescelab.Path, coalesce: bool) -> None:
    payloads = [b"%d" % number for number in range(200)]
    with path.receiver(busy_poll=20e-6, coalesce=coalesce) as receiver, sources(path.sending) as (source,):
        source.send(path.family.group, *payloads)
        assert receive(receiver, 200) == payloads
        worker = Worker(receiver.recv_batch, TIMEOUT)
        worker.wait_until_blocked()
        source.send(path.family.group, b"one")
        assert worker.result().payloads() == [b"one"]


@pytest.mark.needs("namespaces", "forced_buffer")
@pytest.mark.parametrize("background", [None, "16 MiB"], ids=["alone", "thread"])
def test_timeouts_hold_while_a_device_is_polled(lan: netlab.Lan, background: str | None) -> None:
    pollable(lan)
    with lan.receiver.namespace:
        receiver = Receiver(at(V4.group, lan.receiver), busy_poll=1, background=background)
    with receiver, sources(lan.sender) as (source,):
        for _ in range(3):  # the kernel learns which device, the receiver that the feed is busy
            source.send(V4.group, b"feed")
            assert receiver.recv_batch(TIMEOUT).payloads() == [b"feed"]
        before = time.thread_time(), time.process_time()
        with pytest.raises(TimeoutError):
            receiver.recv_batch(timeout=0.05)
        assert time.thread_time() - before[0] < 0.5  # as long as the kernel would poll, or twice that
        receiver.close()
        assert time.process_time() - before[1] < 0.5


def test_without_it_nothing_is_switched_on(loopback: netlab.Link) -> None:
    with Receiver(at(V4.group, loopback)) as receiver, receiver.detach() as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, SO_PREFER_BUSY_POLL) == 0


ORDINARY = """
import os, mcastfast.receiver
if os.geteuid() == 0:
    try:
        os.setresuid(65534, 65534, 65534)
    except OSError:  # a user namespace of one user, whose root has no such right
        pass
try:
    with mcastfast.Receiver("239.1.2.3:5000", interface="lo", busy_poll=50e-6) as receiver:
        print("polls", receiver.detach().getsockopt(1, 46))
except PermissionError as error:
    print(error, *error.__notes__)
"""


def test_who_may_not_prefer_it_polls_all_the_same_or_learns_what_it_takes(loopback: netlab.Link) -> None:
    with script(ORDINARY, namespace=loopback.namespace) as process:
        out, err = process.communicate(timeout=TIMEOUT)
    assert "Traceback" not in err
    if not out.startswith("polls 50"):  # a kernel that wants CAP_NET_ADMIN for both
        assert "SO_BUSY_POLL" in out
        assert "CAP_NET_ADMIN" in out


@pytest.mark.parametrize("busy_poll", [0, -1, math.nan, math.inf, 1.1])
def test_other_values_are_refused_before_there_is_a_socket(busy_poll: float) -> None:
    with pytest.raises(ValueError, match=r"^busy_poll=.* is not in 1e-09 to 1\.0 seconds$"):
        Receiver("239.1.2.3:5000", interface="lo", busy_poll=busy_poll)
