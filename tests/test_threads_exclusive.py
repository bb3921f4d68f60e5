"""What only one thread may do at a time is refused to a second with RuntimeError; everything else goes on meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from netlab import scaled
from traffic import PATIENCE, Worker, ahead, feed, payload, wait_until_blocked

from mcastfast import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastfast import Receiver

RECEIVES: dict[str, Callable[[Receiver], object]] = {
    "recv_batch": lambda receiver: receiver.recv_batch(PATIENCE),
    "recv_batch_into": lambda receiver: receiver.recv_batch_into(Batch(bytearray(4096)), PATIENCE),
    "iteration": lambda receiver: next(iter(receiver)),
    "datagrams": lambda receiver: next(receiver.datagrams()),
}


@pytest.mark.parametrize("second", RECEIVES)
@pytest.mark.parametrize("first", RECEIVES)
def test_second_receive_is_refused_while_the_first_is_blocked(engine: str, first: str, second: str) -> None:
    with feed(engine=engine) as quiet:
        blocked = Worker(lambda: RECEIVES[first](quiet.receiver))
        wait_until_blocked(blocked)
        for _ in range(3):
            with pytest.raises(
                RuntimeError, match=r"on 127\.0\.0\.1 port \d+: another thread is in a call that excludes"
            ):
                RECEIVES[second](quiet.receiver)
        quiet.send(b"x")
        blocked.result()
        quiet.send(b"y")
        RECEIVES[second](quiet.receiver)


def test_reading_the_receiver_goes_on_while_a_receive_is_blocked(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = quiet.batch(b"x")
        blocked = Worker(lambda: quiet.receiver.recv_batch(PATIENCE))
        wait_until_blocked(blocked)
        assert quiet.receiver.stats.datagrams == 1
        assert quiet.receiver.address
        assert quiet.receiver.memberships == ()
        assert ahead(engine) or quiet.receiver.fileno() >= 0
        assert not quiet.receiver.closed
        assert batch.payloads() == [b"x"]
        quiet.send(b"y")
        blocked.result()


def test_many_threads_that_compete_get_each_datagram_once_or_a_refusal(engine: str) -> None:
    count = scaled(3000)
    with feed(engine=engine, batch_size=2) as quiet:
        numbers: list[bytes] = []
        refusals = 0
        lock = threading.Lock()

        def compete() -> None:
            nonlocal refusals
            while len(numbers) < count:
                try:
                    data = quiet.receiver.recv_batch(0.01).payloads()
                except RuntimeError:
                    with lock:
                        refusals += 1
                except TimeoutError:
                    pass
                else:
                    with lock:
                        numbers.extend(data)

        threads = [Worker(compete) for _ in range(4)]
        for number in range(count):
            quiet.send(payload(number))
            if number % 50 == 0:
                # Not more than the socket's buffer holds.
                while len(numbers) < number - 100:
                    threads[0].join(0.001)
        for thread in threads:
            thread.result()
        assert sorted(numbers) == sorted(payload(number) for number in range(count))
        assert refusals > 0
        assert quiet.receiver.stats.datagrams == count


def test_two_receivers_may_receive_at_once(engine: str) -> None:
    with feed(engine=engine) as one, feed(engine=engine) as two:
        workers = [Worker(lambda quiet=quiet: quiet.receiver.recv_batch(PATIENCE).payloads()) for quiet in (one, two)]  # type: ignore[misc]
        wait_until_blocked(*workers)
        one.send(b"one")
        two.send(b"two")
        assert [worker.result() for worker in workers] == [[b"one"], [b"two"]]


def test_one_batch_cannot_be_filled_by_two_receivers_at_once(engine: str) -> None:
    with feed(engine=engine) as one, feed(engine=engine) as two:
        batch = Batch(bytearray(4096))
        blocked = Worker(lambda: one.receiver.recv_batch_into(batch, PATIENCE))
        wait_until_blocked(blocked)
        two.send(b"two")
        with pytest.raises(RuntimeError, match="recv_batch_into: another thread is filling this batch"):
            two.receiver.recv_batch_into(batch, PATIENCE)
        one.send(b"one")
        assert blocked.result() == 1
        assert batch.payloads() == [b"one"]
        assert two.receiver.recv_batch_into(batch, PATIENCE) == 1
        assert batch.payloads() == [b"two"]
