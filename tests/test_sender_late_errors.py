"""What the network answers to earlier datagrams (ICMP) is counted, and no later payload suffers for it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest
from netlab import loopback, wait_until
from receivelab import FAMILIES, V4, Family, family_name, plain_socket
from sendlab import LARGE, Wire, sent

from mcastfast import Sender
from mcastfast.options import RECEIVE_ERRORS, get_option, set_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

ENDS = ["loopback", "wire"]


class Refusing:
    """Senders to a port of a host where nobody listens, and the host's count of what came in vain."""

    def __init__(self, lan: netlab.Lan, family: Family, engine: str, end: str) -> None:
        self.family = family
        self.engine = engine
        self.near = lan.sender
        self.far = lan.receiver if end == "wire" else loopback(lan.sender.namespace)
        with self.far.namespace, plain_socket(family.number, port=0) as closed:
            self.port = closed.getsockname()[1]

    @contextlib.contextmanager
    def sender(self, *, queue: bool, send_buffer: int | None = None, timeout: float | None = None) -> Iterator[Sender]:
        """`queue`: the socket has a queue of errors (IP_RECVERR)."""
        with self.near.namespace:
            sock = plain_socket(self.family.number)
        sock.connect((self.family.address(self.far), self.port))
        set_option(sock, RECEIVE_ERRORS, queue)
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        with Sender.from_socket(sock, timeout=timeout, engine=self.engine, segment=False) as sender:
            yield sender

    def refused(self) -> int:
        """How many datagrams the far host had no taker for."""
        if self.family is V4:
            return self.far.namespace.counter("Udp", "NoPorts")
        return self.far.namespace.counter6("Udp6NoPorts")

    def answers(self) -> int:
        """How many answers of that kind reached the senders."""
        if self.family is V4:
            return self.near.namespace.counter("Icmp", "InDestUnreachs")
        return self.near.namespace.counter6("Icmp6InDestUnreachs")

    def wait_for_answers(self, count: int) -> None:
        wait_until(lambda: self.answers() == count, what=f"{count} answers")


@pytest.fixture(params=FAMILIES, ids=family_name)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture(params=ENDS)
def refusing(request: pytest.FixtureRequest, lan: netlab.Lan, family: Family, engine: str) -> Refusing:
    return Refusing(lan, family, engine, request.param)


@pytest.mark.parametrize("queue", [True, False], ids=["queue", "no-queue"])
def test_lone_sends_to_a_closed_port_all_go_out(refusing: Refusing, queue: bool) -> None:
    with refusing.sender(queue=queue) as sender:
        for number in range(1, 5):
            sender.send(b"refused")
            refusing.wait_for_answers(number)
        assert refusing.refused() == 4
        assert sender.stats[1:4] == (4, 4 * len(b"refused"), 0)
        # Without a queue the answer to the last has not been met by anything.
        assert sender.stats.late_errors == (4 if queue else 3)


@pytest.mark.parametrize("queue", ["IPv4", "IPv6", "none"])
def test_an_ipv6_socket_that_sends_ipv4_has_the_queue_of_ipv4(loopback: netlab.Link, engine: str, queue: str) -> None:
    with plain_socket(socket.AF_INET, port=0, host="127.0.0.1") as closed:
        port = closed.getsockname()[1]
    sock = plain_socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    set_option(sock, RECEIVE_ERRORS, queue == "IPv6")
    set_option(sock, RECEIVE_ERRORS, queue == "IPv4", family=socket.AF_INET)
    sock.connect(("::ffff:127.0.0.1", port))
    with Sender.from_socket(sock, engine=engine, segment=False) as sender:
        for number in range(1, 5):
            sender.send(b"refused")
            wait_for_refusals(loopback, number)
        assert sender.stats.late_errors == (4 if queue == "IPv4" else 3)


def wait_for_refusals(link: netlab.Link, count: int) -> None:
    wait_until(lambda: link.namespace.counter("Udp", "NoPorts") == count, what=f"{count} refusals")


@pytest.mark.parametrize("queue", [True, False], ids=["queue", "no-queue"])
def test_batches_to_a_closed_port_all_go_out(refusing: Refusing, queue: bool) -> None:
    with refusing.sender(queue=queue) as sender:
        for _ in range(3):
            assert sender.send_batch([b"one", b"two", b"three"]) == 3
        wait_until(lambda: refusing.refused() == 9)
        assert sender.stats[:2] == (3, 9)
        assert sender.stats.send_drops == 0


def test_answers_are_counted_when_nothing_more_is_sent(refusing: Refusing) -> None:
    with refusing.sender(queue=True) as sender:
        sender.send_batch([b"one", b"two"])
        refusing.wait_for_answers(2)
        assert sender.stats.late_errors == 2
        sender.send(b"three")
        refusing.wait_for_answers(3)
    assert sender.stats.late_errors == 3  # close() looked a last time


def test_looking_at_the_stats_does_not_blame_the_next_payload(refusing: Refusing) -> None:
    with refusing.sender(queue=True) as sender:
        for number in range(1, 4):
            sender.send(b"refused")
            refusing.wait_for_answers(number)
            assert sender.stats.late_errors == number
        assert sender.stats.datagrams == 3


@pytest.mark.parametrize("queue", [True, False], ids=["queue", "no-queue"])
def test_an_error_of_the_payload_itself_is_raised_and_is_not_late(
    lan: netlab.Lan, family: Family, engine: str, queue: bool
) -> None:
    refusing = Refusing(lan, family, engine, "wire")
    with refusing.sender(queue=queue) as sender:
        lan.sender.namespace.ip.link("set", index=lan.sender.index, state="down")
        for send in (lambda: sender.send(b"lost"), lambda: sender.send_batch([b"lost", b"too"])):
            with pytest.raises(OSError, match=r"send to .*: Network is unreachable") as caught:
                send()
            assert (caught.value.errno, sent(caught.value)) == (errno.ENETUNREACH, 0)
        assert set(sender.stats[1:]) == {0}


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize("queue", [True, False], ids=["queue", "no-queue"])
def test_answers_that_come_while_a_send_waits_for_room_do_not_end_it(
    lan: netlab.Lan, family: Family, engine: str, queue: bool
) -> None:
    refusing = Refusing(lan, family, engine, "wire")
    with Wire(lan, family, engine) as wire, refusing.sender(queue=queue, send_buffer=1) as sender:
        wire.throttle("1mbit", burst=1500)  # 12 ms each, and the answer comes back at once
        assert sender.send_batch([bytes(LARGE)] * 12) == 12
        wait_until(lambda: refusing.refused() == 12)
        assert sender.stats.late_errors > 0


@pytest.mark.needs("token_bucket")
def test_a_send_that_waits_for_room_sleeps_until_its_timeout_whatever_is_queued(
    lan: netlab.Lan, family: Family, engine: str
) -> None:
    """While a report is queued poll(2) calls the socket ready, room or not."""
    refusing = Refusing(lan, family, engine, "wire")
    timeout = 0.3
    with (
        Wire(lan, family, engine) as wire,
        refusing.sender(queue=True, send_buffer=1, timeout=timeout) as sender,
        socket.socket(fileno=os.dup(sender.fileno())) as same,
    ):
        sender.send(b"refused")
        # Taken by someone else, so that no send stumbles over the error and takes the report away with it.
        wait_until(lambda: same.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED)
        wire.block()
        started, worked = time.monotonic(), time.thread_time()
        with pytest.raises(TimeoutError):
            sender.send_batch([bytes(LARGE)] * 10)
        assert time.monotonic() - started >= timeout
        assert time.thread_time() - worked < timeout / 2
        assert sender.stats.late_errors > 0


def test_a_sender_has_a_queue_of_errors(lan: netlab.Lan, family: Family, engine: str) -> None:
    with Wire(lan, family, engine) as wire:
        sock = wire.sender().detach()
    with sock:
        assert get_option(sock, RECEIVE_ERRORS)
