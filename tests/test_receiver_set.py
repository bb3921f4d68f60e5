"""A ReceiverSet waits on many receivers at once and serves them in turn."""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import (
    FAMILIES,
    PORT,
    TIMEOUT,
    V4,
    V6,
    Worker,
    at,
    descriptors,
    plain_socket,
    receive,
    script,
    sources,
)

from mcastfast import Batch, Receiver, ReceiverSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Link
    from receivelab import Source

pytestmark = pytest.mark.usefixtures("watchable")


@pytest.fixture
def source(loopback: Link) -> Iterator[Source]:
    with sources(loopback) as (opened,):
        yield opened


def opened(link: Link, count: int, engine: str, **options: Any) -> list[Receiver]:
    """Receivers of groups 1 to `count`, of which every second is IPv6."""
    return [
        Receiver(at(FAMILIES[number % 2].pattern % (number + 1), link), engine=engine, **options)
        for number in range(count)
    ]


def send(source: Source, number: int, *payloads: bytes, port: int = PORT) -> None:
    """Send to the receiver of this number."""
    source.send(FAMILIES[number % 2].pattern % (number + 1), *payloads, port=port)


FEWER_DESCRIPTORS = """
import resource
import mcastfast
receivers = mcastfast.ReceiverSet([mcastfast.Receiver(f"239.1.2.{n}:5000", interface="lo") for n in range(1, 5)])
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for receive in (receivers.recv_batch, receivers.__next__):
    try:
        receive()
    except OSError as error:
        print(error)
"""


def test_what_the_system_refuses_is_an_os_error_of_the_set(loopback: Link) -> None:
    with script(FEWER_DESCRIPTORS, namespace=loopback.namespace) as process:
        out, err = process.communicate(timeout=TIMEOUT)
    assert (out.splitlines(), err) == (
        [
            "[Errno 22] recv_batch on a set of 4 receivers: Invalid argument",
            "[Errno 22] iteration on a set of 4 receivers: Invalid argument",
        ],
        "",
    )


def test_each_batch_comes_with_its_receiver(engine: str, loopback: Link, source: Source) -> None:
    with ReceiverSet(opened(loopback, 4, engine)) as receivers:
        for number in (2, 0, 3):
            send(source, number, b"%d" % number)
        found = [receivers.recv_batch(TIMEOUT) for _ in range(3)]
        assert {(receivers.receivers.index(receiver), *batch.payloads()) for receiver, batch in found} == {
            (0, b"0"),
            (2, b"2"),
            (3, b"3"),
        }
        with pytest.raises(BlockingIOError, match="recv_batch on a set of 4 receivers: no datagram is there"):
            receivers.recv_batch(0)


def test_many_receivers_of_both_families_and_several_ports_are_served(
    engine: str, loopback: Link, source: Source
) -> None:
    count = 200
    members = [
        Receiver(at(FAMILIES[number % 2].group, loopback, PORT + number), engine=engine) for number in range(count)
    ]
    with ReceiverSet(members) as receivers:
        assert receivers.receivers == tuple(members)
        for number in range(count):
            source.send(FAMILIES[number % 2].group, b"%d" % number, port=PORT + number)
        found = [receivers.recv_batch(TIMEOUT) for _ in range(count)]
        assert {members.index(member): batch.payloads() for member, batch in found} == {
            number: [b"%d" % number] for number in range(count)
        }


def test_every_receiver_that_has_something_is_served_before_any_is_served_again(
    engine: str, loopback: Link, source: Source
) -> None:
    with ReceiverSet(opened(loopback, 5, engine, batch_size=1)) as receivers:
        for number in range(5):
            send(source, number, *[b"%d" % number] * 4)
        for _ in range(4):
            assert {receivers.recv_batch(TIMEOUT)[1].payloads()[0] for _ in range(5)} == {
                b"0", b"1", b"2", b"3", b"4",
            }  # fmt: skip


def test_a_flooded_receiver_does_not_starve_the_others(engine: str, loopback: Link, source: Source) -> None:
    """One has a full queue that is filled up before each call, the others a datagram each."""
    with ReceiverSet(opened(loopback, 4, engine, batch_size=4)) as receivers:
        send(source, 0, *[b"flood"] * 100)
        for number in (1, 2, 3):
            send(source, number, b"quiet")
        served = []
        for _ in range(8):
            send(source, 0, *[b"flood"] * 4)
            receiver, batch = receivers.recv_batch(TIMEOUT)
            served.append((receivers.receivers.index(receiver), len(batch)))
        assert Counter(served) == {(0, 4): 5, (1, 1): 1, (2, 1): 1, (3, 1): 1}
        assert {number for number, _ in served[:4]} == {0, 1, 2, 3}


def test_iteration_serves_in_turn_and_ends_with_the_last_receiver(engine: str, loopback: Link, source: Source) -> None:
    members = opened(loopback, 3, engine)
    seen = []
    for number in range(3):
        send(source, number, b"%d" % number)
    with ReceiverSet(members) as receivers:
        for receiver, batch in receivers:
            seen.append(batch.payloads())
            receiver.close()
        assert sorted(seen) == [[b"0"], [b"1"], [b"2"]]
        assert receivers.receivers == ()
        assert list(receivers) == []
        assert not receivers.closed


def test_a_receiver_that_is_closed_while_the_set_is_blocked_leaves_it(
    engine: str, loopback: Link, source: Source
) -> None:
    members = opened(loopback, 3, engine)
    with ReceiverSet(members) as receivers:
        blocked = Worker(receivers.recv_batch, TIMEOUT)
        blocked.wait_until_blocked()
        members[1].close()
        blocked.wait_until_blocked()
        send(source, 2, b"still served")
        receiver, batch = blocked.result()
        assert receiver is members[2]
        assert batch.payloads() == [b"still served"]
        assert receivers.receivers == (members[0], members[2])


@pytest.mark.parametrize("timeout", [None, 0, TIMEOUT])
def test_a_receiver_that_was_closed_hides_nothing_of_the_others(
    engine: str, loopback: Link, source: Source, timeout: float | None
) -> None:
    members = opened(loopback, 2, engine)
    with ReceiverSet(members) as receivers:
        send(source, 1, b"waiting")
        members[0].close()
        receiver, batch = receivers.recv_batch(timeout)
        assert receiver is members[1]
        assert batch.payloads() == [b"waiting"]


def test_a_detached_receiver_leaves_the_set_with_its_socket_open(engine: str, loopback: Link, source: Source) -> None:
    members = opened(loopback, 2, engine)
    with ReceiverSet(members) as receivers:
        blocked = Worker(receivers.recv_batch, TIMEOUT)
        blocked.wait_until_blocked()
        with members[0].detach() as sock:
            send(source, 1, b"1")
            assert blocked.result()[0] is members[1]
            assert receivers.receivers == (members[1],)
            send(source, 0, b"0")
            sock.settimeout(TIMEOUT)
            assert sock.recv(100) == b"0"


def test_the_last_receiver_that_is_closed_ends_a_blocked_call(engine: str, loopback: Link) -> None:
    members = opened(loopback, 2, engine)
    with ReceiverSet(members) as receivers:
        blocked = Worker(receivers.recv_batch)
        blocked.wait_until_blocked()
        for member in members:
            member.close()
        with pytest.raises(OSError, match="recv_batch on a set of 0 receivers: it is closed") as raised:
            blocked.result()
        assert raised.value.errno == errno.EBADF


def test_closing_a_set_ends_a_blocked_call_and_closes_its_receivers(engine: str, loopback: Link) -> None:
    members = opened(loopback, 3, engine)
    receivers = ReceiverSet(members)
    blocked = Worker(receivers.recv_batch)
    blocked.wait_until_blocked()
    receivers.close()
    with pytest.raises(OSError, match="it is closed") as raised:
        blocked.result()
    assert raised.value.errno == errno.EBADF
    assert [member.closed for member in members] == [True] * 3
    assert receivers.closed
    receivers.close()


@pytest.mark.parametrize("number", range(3))
def test_a_second_close_of_a_set_does_what_the_first_left(loopback: Link, number: int) -> None:
    """A signal handler cut it short when it came to this receiver."""

    class Interrupted(Receiver):
        is_interrupted = False

        def close(self) -> None:
            if not self.is_interrupted:
                self.is_interrupted = True
                raise KeyboardInterrupt
            super().close()

    before = descriptors()
    members = opened(loopback, 2, "auto")
    members.insert(number, Interrupted(at(V4.group, loopback)))
    receivers = ReceiverSet(members)
    with pytest.raises(KeyboardInterrupt):
        receivers.close()
    assert receivers.closed
    assert not members[number].closed
    receivers.close()
    assert [member.closed for member in members] == [True] * 3
    assert descriptors() == before


def test_iterating_over_a_closed_set_is_ebadf(engine: str, loopback: Link) -> None:
    receivers = ReceiverSet(opened(loopback, 2, engine))
    iterator = iter(receivers)
    receivers.close()
    with pytest.raises(OSError, match=r"iteration on a set of \d receivers: it is closed") as raised:
        iter(receivers)
    assert raised.value.errno == errno.EBADF
    with pytest.raises(StopIteration):
        next(iterator)


def test_closing_a_set_ends_a_blocked_iteration(engine: str, loopback: Link, source: Source) -> None:
    receivers = ReceiverSet(opened(loopback, 2, engine))
    send(source, 1, b"1")
    reader = Worker(lambda: [batch.payloads() for _, batch in receivers])
    reader.wait_until_blocked()
    receivers.close()
    assert reader.result() == [[b"1"]]
    with pytest.raises(OSError, match="it is closed"):
        receivers.recv_batch(0)


def test_receivers_stay_usable_by_themselves(engine: str, loopback: Link, source: Source) -> None:
    members = opened(loopback, 2, engine)
    with ReceiverSet(members) as receivers:
        send(source, 0, b"by itself")
        assert receive(members[0], 1) == [b"by itself"]
        send(source, 0, b"by the set")
        assert receivers.recv_batch(TIMEOUT)[1].payloads() == [b"by the set"]


def test_a_datagram_that_was_taken_away_meanwhile_is_no_error(engine: str, loopback: Link, source: Source) -> None:
    """The set has seen both ready; then one is emptied by itself."""
    members = opened(loopback, 2, engine)
    with ReceiverSet(members) as receivers:
        send(source, 0, b"0")
        send(source, 1, b"1")
        first, _ = receivers.recv_batch(TIMEOUT)
        (other,) = (member for member in members if member is not first)
        receive(other, 1)
        with pytest.raises(BlockingIOError):
            receivers.recv_batch(0)
        with pytest.raises(TimeoutError):
            receivers.recv_batch(0.05)


def test_joins_take_effect_while_the_set_is_blocked(engine: str, loopback: Link, source: Source) -> None:
    with ReceiverSet([Receiver(at(V4.group, loopback), bind="any", engine=engine)]) as receivers:
        (member,) = receivers.receivers
        assert isinstance(member, Receiver)
        blocked = Worker(receivers.recv_batch, TIMEOUT)
        blocked.wait_until_blocked()
        member.join(at(V4.other, loopback))
        source.send(V4.other, b"joined meanwhile")
        assert blocked.result()[1].payloads() == [b"joined meanwhile"]


def test_unicast_sockets_may_be_members(engine: str, loopback: Link, source: Source) -> None:
    prepared = Receiver.from_socket(plain_socket(V6.number, port=PORT + 1, host=loopback.ipv6), engine=engine)
    with ReceiverSet([Receiver(at(V6.group, loopback), engine=engine), prepared]) as receivers:
        source.send(loopback.ipv6, b"unicast", port=PORT + 1)
        assert receivers.recv_batch(TIMEOUT)[0] is prepared


def test_a_second_caller_is_refused_on_the_set_and_on_its_members(engine: str, loopback: Link, source: Source) -> None:
    members = opened(loopback, 2, engine)
    with ReceiverSet(members) as receivers:
        blocked = Worker(receivers.recv_batch, TIMEOUT)
        blocked.wait_until_blocked()
        with pytest.raises(RuntimeError, match="recv_batch on a set of 2 receivers: another thread is in a call that"):
            receivers.recv_batch(0)
        with pytest.raises(RuntimeError, match=r"recv_batch on .* port 5000: another thread is in a call that"):
            members[0].recv_batch(0)
        send(source, 0, b"payload")
        assert blocked.result()[0] is members[0]


def test_a_set_over_a_member_that_another_thread_receives_on_is_refused(
    engine: str, loopback: Link, source: Source
) -> None:
    members = opened(loopback, 3, engine)
    with ReceiverSet(members) as receivers:
        blocked = Worker(members[1].recv_batch, TIMEOUT)
        blocked.wait_until_blocked()
        with pytest.raises(RuntimeError, match=r"recv_batch on .*:2%.* port 5000: another thread is in a call that"):
            receivers.recv_batch(0)
        send(source, 1, b"payload")
        assert blocked.result().payloads() == [b"payload"]
        send(source, 0, b"after")
        assert receivers.recv_batch(TIMEOUT)[0] is members[0]


def test_batches_that_fill_a_members_memory_are_an_error_that_names_it(
    engine: str, loopback: Link, source: Source
) -> None:
    member = Receiver(at(V4.group, loopback), engine=engine, batch_size=1, max_datagram=1024, max_memory=8192)
    with ReceiverSet([member]) as receivers:
        source.send(V4.group, *[b"kept"] * 20)
        kept: list[object] = []

        def keep_all() -> None:
            while True:
                kept.append(receivers.recv_batch(TIMEOUT))

        text = r"recv_batch on 239\.1\.2\.3%lo port 5000: the batches that are kept fill"
        with pytest.raises(BufferError, match=text):
            keep_all()
        count = len(kept)
        assert 2 <= count < 20
        kept.clear()
        total = 0
        while total < 20 - count:
            total += len(receivers.recv_batch(TIMEOUT)[1])
        assert total == 20 - count


# What cannot be a set


def test_an_empty_set_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="a ReceiverSet needs at least one receiver"):
        ReceiverSet([])


@pytest.mark.parametrize("value", [None, "receiver", 3, object()])
def test_what_is_no_receiver_is_a_type_error(loopback: Link, value: Any) -> None:
    with (
        Receiver(at(V4.group, loopback)) as receiver,
        pytest.raises(TypeError, match=f"ReceiverSet takes receivers, not {type(value).__name__}"),
    ):
        ReceiverSet([receiver, value])


def test_the_same_receiver_twice_is_a_value_error(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback)) as receiver:
        with pytest.raises(ValueError, match=r"239\.1\.2\.3%lo port 5000 is in the list twice"):
            ReceiverSet([receiver, receiver])
        with ReceiverSet([receiver]) as receivers:
            assert receivers.receivers == (receiver,)


def test_a_receiver_of_another_set_is_a_value_error(loopback: Link, source: Source) -> None:
    with Receiver(at(V4.group, loopback)) as receiver, Receiver(at(V4.other, loopback)) as free:
        with ReceiverSet([receiver]) as receivers:
            with pytest.raises(ValueError, match=r"239\.1\.2\.3%lo port 5000 belongs to another ReceiverSet"):
                ReceiverSet([free, receiver])
            source.send(V4.group, b"unharmed")
            assert receivers.recv_batch(TIMEOUT)[1].payloads() == [b"unharmed"]
        with ReceiverSet([free]) as others:
            assert others.receivers == (free,)


def test_the_receivers_of_a_set_that_could_not_be_made_are_free(loopback: Link) -> None:
    import resource

    members = opened(loopback, 2, "auto")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="open a descriptor that wakes calls: Too many open files") as raised:
            ReceiverSet(members)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert raised.value.errno == errno.EMFILE
    assert "`ulimit -n`" in raised.value.__notes__[0]
    with ReceiverSet(members) as receivers:
        assert receivers.receivers == tuple(members)


def test_the_receivers_of_a_forgotten_set_are_free_at_once(engine: str, loopback: Link, source: Source) -> None:
    before = descriptors()
    with Receiver(at(V4.group, loopback), engine=engine) as receiver:
        alone = descriptors()
        ReceiverSet([receiver])
        assert descriptors() == alone
        with ReceiverSet([receiver]) as receivers:
            source.send(V4.group, b"payload")
            assert receivers.recv_batch(TIMEOUT)[1].payloads() == [b"payload"]
    assert descriptors() == before


def test_receivers_that_stand_in_no_list_are_refused(loopback: Link) -> None:
    """A receiver can be iterated over, which would wait for batches for ever."""
    first, second = opened(loopback, 2, "auto")
    with pytest.raises(TypeError, match=r"takes receivers in a list: ReceiverSet\(\[receiver\]\)"):
        ReceiverSet(first)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes receivers in a list: ReceiverSet\(\[first, second\]\)"):
        ReceiverSet(first, second)  # type: ignore[call-arg, arg-type]
    with ReceiverSet([first, second]) as receivers:
        assert receivers.receivers == (first, second)


def test_its_repr_names_its_receivers(loopback: Link) -> None:
    first, second = opened(loopback, 2, "auto")
    with ReceiverSet([first, second]) as receivers:
        assert repr(receivers) == f"<ReceiverSet of {first}, {second}>"
        second.close()
        assert repr(receivers).startswith(f"<ReceiverSet of {first}")
    assert repr(receivers).endswith(" (closed)>")


def test_a_closed_receiver_is_ebadf(loopback: Link) -> None:
    receiver = Receiver(at(V4.group, loopback))
    receiver.close()
    with pytest.raises(OSError, match=r"ReceiverSet on 239\.1\.2\.3%lo port 5000: it is closed") as raised:
        ReceiverSet([receiver])
    assert raised.value.errno == errno.EBADF


def test_a_batch_of_a_set_is_a_batch(engine: str, loopback: Link, source: Source) -> None:
    with ReceiverSet(opened(loopback, 1, engine)) as receivers:
        send(source, 0, b"payload")
        _, batch = receivers.recv_batch(TIMEOUT)
        assert isinstance(batch, Batch)
        assert bytes(batch[0]) == b"payload"
