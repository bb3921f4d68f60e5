"""How a receiver ends: close, an iteration that stops, a warning when it is forgotten; batches and stats stay."""

from __future__ import annotations

import errno
import gc
import os
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import TIMEOUT, V4, V6, Worker, at, descriptors, interrupt, sources

from mcastfast import Batch, Receiver, ReceiverSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netlab import Link


@pytest.fixture
def receiver(loopback: Link, engine: str) -> Iterator[Receiver]:
    with Receiver(at(V4.group, loopback), engine=engine) as opened:
        yield opened


def iterate(receiver: Receiver) -> list[bytes]:
    return [payload for batch in receiver for payload in batch.payloads()]


def iterate_datagrams(receiver: Receiver) -> list[bytes]:
    return [bytes(datagram) for datagram in receiver.datagrams()]


def iterate_set(receiver: Receiver) -> list[bytes]:
    return [payload for _, batch in ReceiverSet([receiver]) for payload in batch.payloads()]


@pytest.mark.parametrize("consume", [iterate, iterate_datagrams, iterate_set])
def test_an_iteration_gives_all_and_ends_when_the_receiver_is_closed(
    receiver: Receiver, loopback: Link, consume: Callable[[Receiver], list[bytes]]
) -> None:
    with sources(loopback) as (source,):
        source.send(V4.group, *(b"%d" % number for number in range(100)))
    reader = Worker(consume, receiver)
    reader.wait_until_blocked()
    receiver.close()
    assert reader.result() == [b"%d" % number for number in range(100)]


def test_an_iteration_can_be_left_and_taken_up_again(receiver: Receiver, loopback: Link) -> None:
    with sources(loopback) as (source,):
        source.send(V4.group, b"1")
        assert next(iter(receiver)).payloads() == [b"1"]
        source.send(V4.group, b"2")
        for batch in receiver:
            assert batch.payloads() == [b"2"]
            break
        source.send(V4.group, b"3")
        assert bytes(next(receiver.datagrams())) == b"3"


def test_an_iterator_that_has_ended_stays_ended(receiver: Receiver) -> None:
    iterator = iter(receiver)
    receiver.close()
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(iterator)


@pytest.mark.parametrize("timeout", [None, 0, 1])
def test_every_receive_on_a_closed_receiver_is_ebadf(receiver: Receiver, timeout: float | None) -> None:
    shown = str(receiver)
    receiver.close()
    calls: list[Callable[[], Any]] = [
        lambda: receiver.recv_batch(timeout),
        lambda: receiver.recv_batch_into(Batch(bytearray(2048)), timeout),
        lambda: iter(receiver),
        lambda: next(receiver.datagrams()),
    ]
    for call in calls:
        with pytest.raises(OSError, match="it is closed") as raised:
            call()
        assert raised.value.errno == errno.EBADF
        assert shown in str(raised.value)


def test_closing_twice_does_nothing_the_second_time(receiver: Receiver) -> None:
    receiver.close()
    with open(os.devnull) as other:  # takes the number that the socket had
        receiver.close()
        assert other.read() == ""


def one_receiver(link: Link) -> Receiver:
    return Receiver(at(V4.group, link))


def set_of_two(link: Link) -> ReceiverSet:
    return ReceiverSet([Receiver(at(group, link)) for group in (V4.group, V4.other)])


@pytest.mark.parametrize(("opened", "fewest_steps"), [(one_receiver, 10), (set_of_two, 20)])
def test_close_goes_on_where_it_was_interrupted(
    loopback: Link, opened: Callable[[Link], Receiver | ReceiverSet], fewest_steps: int
) -> None:
    """Ctrl-C while it waits for the call of another thread to end, for one."""
    before = descriptors()
    step = 0
    is_interrupted = True
    while is_interrupted:
        receivers = opened(loopback)
        blocked = Worker(receivers.recv_batch)
        blocked.wait_until_blocked()
        is_interrupted = interrupt(receivers.close, step)
        receivers.close()
        assert receivers.closed
        with pytest.raises(OSError, match="it is closed"):
            blocked.result()
        assert descriptors() == before
        step += 1
    assert step > fewest_steps


def test_after_a_detach_that_was_interrupted_close_closes_the_socket(loopback: Link) -> None:
    class Interrupted(Receiver):
        is_interrupted = False

        def _end(self) -> None:
            super()._end()
            if not self.is_interrupted:
                self.is_interrupted = True
                raise KeyboardInterrupt

    before = descriptors()
    receiver = Interrupted(at(V4.group, loopback))
    with pytest.raises(KeyboardInterrupt):
        receiver.detach()
    receiver.close()
    assert descriptors() == before


def test_a_close_in_the_middle_of_a_detach_leaves_the_socket_to_it(loopback: Link) -> None:
    """A signal handler's, or another thread's."""

    class Handled(Receiver):
        is_closing = False

        def _end(self) -> None:
            super()._end()
            if not self.is_closing:
                self.is_closing = True
                self.close()

    with Handled(at(V4.group, loopback)).detach() as sock:
        assert sock.getsockname() == ("239.1.2.3", 5000)


def test_close_gives_every_descriptor_back_at_once(loopback: Link, engine: str) -> None:
    before = descriptors()
    receiver = Receiver(at(V6.group, loopback), engine=engine)
    receivers = ReceiverSet([receiver])
    assert descriptors() != before
    receivers.close()
    assert descriptors() == before
    assert receiver.closed


def test_the_context_manager_closes_also_after_an_exception(loopback: Link) -> None:
    with pytest.raises(ZeroDivisionError), Receiver(at(V4.group, loopback)) as receiver:
        raise ZeroDivisionError
    assert receiver.closed


def test_what_it_was_is_still_shown_after_close(receiver: Receiver, loopback: Link) -> None:
    with sources(loopback) as (source,):
        source.send(V4.group, b"payload")
    batch = receiver.recv_batch(TIMEOUT)
    stats = receiver.stats
    receiver.close()
    assert receiver.stats == stats._replace(arenas=0)
    assert stats.datagrams == stats.batches == 1
    assert stats.bytes == 7
    assert batch.payloads() == [b"payload"]
    assert repr(receiver) == "<Receiver 239.1.2.3%lo port 5000 (closed)>"
    assert receiver.address == ("239.1.2.3", 5000)
    assert str(receiver.memberships[0]) == "239.1.2.3 from any source on lo"
    assert receiver.interface is not None
    assert receiver.interface.name == "lo"


def test_a_forgotten_receiver_warns_and_is_closed(loopback: Link) -> None:
    before = descriptors()
    receiver = Receiver(at(V4.group, loopback))
    with pytest.warns(ResourceWarning, match=r"^unclosed <Receiver 239\.1\.2\.3%lo port 5000>$"):
        del receiver
    assert descriptors() == before


def test_a_forgotten_set_warns_for_its_receivers_and_closes_them(loopback: Link) -> None:
    before = descriptors()
    receivers = ReceiverSet([Receiver(at(group, loopback)) for group in (V4.group, V4.other)])
    with pytest.warns(ResourceWarning) as caught:
        del receivers
    assert sorted(str(warning.message) for warning in caught) == [
        "unclosed <Receiver 239.1.2.3%lo port 5000>",
        "unclosed <Receiver 239.1.2.4%lo port 5000>",
    ]
    del caught  # it holds the receivers
    assert descriptors() == before


def test_closed_detached_and_failed_receivers_do_not_warn(loopback: Link) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Receiver(at(V4.group, loopback)).close()
        Receiver(at(V4.group, loopback)).detach().close()
        with pytest.raises(ValueError, match="unknown interface"):
            Receiver(V4.group, port=5000, interface="eth9")
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_batch_outlives_a_forgotten_receiver(loopback: Link, engine: str) -> None:
    receiver = Receiver(at(V4.group, loopback), engine=engine)
    with sources(loopback) as (source,):
        source.send(V4.group, b"payload")
    (datagram,) = receiver.recv_batch(TIMEOUT)
    with pytest.warns(ResourceWarning):
        del receiver
    assert bytes(datagram) == b"payload"
