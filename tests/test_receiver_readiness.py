"""A receiver works with select and its kin by its fileno()."""

from __future__ import annotations

import os
import select
import selectors
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from receivelab import PORT, TIMEOUT, V4, V6, at, plain_socket, sources

from mcastfast import Receiver, ReceiverSet
from mcastfast.options import RECEIVE_ERRORS, set_option

if TYPE_CHECKING:
    from netlab import Link

SELECTORS = [
    pytest.param(getattr(selectors, name), id=name)
    for name in ("DefaultSelector", "SelectSelector", "PollSelector", "EpollSelector")
    if hasattr(selectors, name)
]


@pytest.mark.parametrize("selector_type", SELECTORS)
def test_selectors_tell_which_receiver_has_something(
    engine: str, loopback: Link, selector_type: type[selectors.BaseSelector]
) -> None:
    with ExitStack() as stack:
        selector = stack.enter_context(selector_type())
        (source,) = stack.enter_context(sources(loopback))
        receivers = [
            stack.enter_context(Receiver(at(V4.pattern % number, loopback), engine=engine)) for number in range(1, 9)
        ]
        for receiver in receivers:
            selector.register(receiver, selectors.EVENT_READ)
        assert selector.select(0) == []

        for number in (3, 5):
            source.send(V4.pattern % number, b"%d" % number)
        ready = {key.fileobj for key, _ in selector.select(TIMEOUT)}
        assert ready == {receivers[2], receivers[4]}
        assert receivers[2].recv_batch(0).payloads() == [b"3"]
        assert receivers[4].recv_batch(0).payloads() == [b"5"]
        assert selector.select(0) == []


def test_readable_stays_until_everything_is_received(engine: str, loopback: Link) -> None:
    with Receiver(at(V6.group, loopback), batch_size=2, engine=engine) as receiver, sources(loopback) as (source,):
        source.send(V6.group, b"1", b"2", b"3")
        assert select.select([receiver], [], [], TIMEOUT)[0] == [receiver]
        assert receiver.recv_batch(0).payloads() == [b"1", b"2"]
        assert select.select([receiver], [], [], 0)[0] == [receiver]
        assert receiver.recv_batch(0).payloads() == [b"3"]
        assert select.select([receiver], [], [], 0)[0] == []


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a set"])
def test_an_error_report_is_taken_by_whoever_finds_nothing(engine: str, loopback: Link, grouped: bool) -> None:
    with loopback.namespace:
        sock = plain_socket(V4.number, port=0, host="127.0.0.1")
        with plain_socket(V4.number, port=0, host="127.0.0.1") as closed:
            nobody = closed.getsockname()
    set_option(sock, RECEIVE_ERRORS, True)
    sock.sendto(b"refused", nobody)
    with Receiver.from_socket(sock, engine=engine) as receiver:
        receives = ReceiverSet([receiver]) if grouped else receiver
        assert select.select([receiver], [], [], TIMEOUT)[0] == [receiver]
        with pytest.raises(ConnectionRefusedError):
            receives.recv_batch(0)
        with pytest.raises(BlockingIOError):
            receives.recv_batch(0)
        assert select.select([receiver], [], [], 0)[0] == []


SO_TIMESTAMPING = 37
SENT_IN_SOFTWARE = 1 << 1 | 1 << 4  # SOF_TIMESTAMPING_TX_SOFTWARE, _SOFTWARE


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a set"])
def test_reports_that_the_socket_was_not_known_to_queue_wake_nobody_for_long(
    engine: str, loopback: Link, grouped: bool
) -> None:
    with loopback.namespace:
        sock = plain_socket(V4.number, port=0, host="127.0.0.1")
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, SENT_IN_SOFTWARE)
    sock.sendto(b"stamped", sock.getsockname())
    with Receiver.from_socket(sock, engine=engine) as receiver:
        receives = ReceiverSet([receiver]) if grouped else receiver
        receives.recv_batch(TIMEOUT)
        for _ in range(2):
            assert select.select([receiver], [], [], TIMEOUT)[0] == [receiver]
            with pytest.raises(BlockingIOError):
                receives.recv_batch(0)
        assert select.select([receiver], [], [], 0)[0] == []


def test_the_descriptor_is_the_sockets_and_gone_after_close(loopback: Link) -> None:
    receiver = Receiver(f"239.1.2.3:{PORT}", interface="lo")
    descriptor = receiver.fileno()
    assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    receiver.close()
    assert receiver.fileno() == -1
    with pytest.raises(ValueError, match="file descriptor cannot be a negative"):
        select.select([receiver], [], [], 0)


def test_the_descriptor_is_not_inherited(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback)) as receiver:
        assert not os.get_inheritable(receiver.fileno())
