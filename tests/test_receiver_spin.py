"""spin= watches the socket for a bounded time before it sleeps, and keeps nobody out meanwhile."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import traffic
from backgroundlab import receive_thread, wait_until_asleep
from coalescelab import PATHS, open_path, path_name
from netlab import wait_until
from receivelab import TIMEOUT, Worker, handler, sources

from mcastfast import Batch, Receiver

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    import coalescelab

LONG = 60.0
"""Seconds: three times as long as any step of a test may take."""

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def path(request: pytest.FixtureRequest) -> Iterator[coalescelab.Path]:
    yield from open_path(request)


def _ticks(task: int) -> int:
    """Clock ticks that a thread ran: utime and stime of proc_pid_stat(5)."""
    fields = Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _processor_time(worker: threading.Thread) -> int:
    assert worker.native_id is not None
    return _ticks(worker.native_id)


def _wait_until_spinning(worker: threading.Thread) -> None:
    wait_until(lambda: _processor_time(worker) >= 3, TIMEOUT, what="the thread spins")


@pytest.mark.parametrize(
    "option",
    [{"spin": LONG}, pytest.param({"busy_poll": 1.0}, marks=pytest.mark.needs("forced_buffer"))],
    ids=["spin", "busy_poll"],
)
def test_it_runs_instead_of_sleeping_and_takes_what_comes(engine: str, option: dict[str, Any]) -> None:
    with traffic.feed(engine=engine, **option) as feed:
        worker = Worker(feed.receiver.recv_batch)
        _wait_until_spinning(worker)
        feed.send(b"one", b"two")
        assert worker.result().payloads()[0] == b"one"


def test_trains_are_watched_for_too() -> None:
    with traffic.feed(spin=LONG, coalesce=True) as feed:
        worker = Worker(feed.receiver.recv_batch)
        _wait_until_spinning(worker)
        feed.send(b"one", b"two")
        assert worker.result().payloads()[0] == b"one"


def test_after_its_time_it_sleeps_and_wakes_up_all_the_same(engine: str) -> None:
    with traffic.feed(engine=engine, spin=0.001) as feed:
        worker = Worker(feed.receiver.recv_batch)
        worker.wait_until_blocked()
        feed.send(b"late")
        assert worker.result().payloads() == [b"late"]


def test_a_wait_that_a_handler_ended_has_not_spun_for_the_next() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with traffic.feed(spin=0.1) as feed:
        with handler(interrupt), pytest.raises(KeyboardInterrupt):
            feed.receiver.recv_batch()
        before = time.thread_time()
        with pytest.raises(TimeoutError):
            feed.receiver.recv_batch(timeout=0.2)
        assert time.thread_time() - before > 0.01


def test_each_wait_spins_anew() -> None:
    with traffic.feed(spin=0.001) as feed:
        for number in range(3):
            worker = Worker(feed.receiver.recv_batch)
            worker.wait_until_blocked()
            feed.send(b"%d" % number)
            assert worker.result().payloads() == [b"%d" % number]
        feed.receiver.close()


def test_close_ends_it(engine: str) -> None:
    with traffic.feed(engine=engine, spin=LONG) as feed:
        worker = Worker(feed.receiver.recv_batch)
        _wait_until_spinning(worker)
        feed.receiver.close()
        with pytest.raises(OSError, match="it is closed"):
            worker.result()


def test_timeouts_end_it() -> None:
    with traffic.feed(spin=LONG) as feed:
        with pytest.raises(TimeoutError):
            feed.receiver.recv_batch(timeout=0.02)
        with pytest.raises(TimeoutError):
            feed.receiver.recv_batch_into(Batch(bytearray(2048)), timeout=0.02)
        with pytest.raises(BlockingIOError):
            feed.receiver.recv_batch(timeout=0)


def test_signal_handlers_run_meanwhile() -> None:
    with traffic.feed(spin=LONG) as feed, handler(lambda: feed.send(b"from the handler"), lambda: True):
        assert feed.receiver.recv_batch().payloads() == [b"from the handler"]


@pytest.mark.parametrize("family", traffic.HOSTS)
def test_a_thread_of_its_own_spins_too_and_ends(family: int) -> None:
    with traffic.feed(family, spin=LONG, background="16 MiB") as feed:
        task = receive_thread()
        for _ in range(2):
            before = _ticks(task)
            wait_until(lambda: _ticks(task) >= before + 3, TIMEOUT, what="the thread spins")  # noqa: B023
            assert feed.batch(b"one").payloads() == [b"one"]
        feed.receiver.close()
    with traffic.feed(family, background="16 MiB") as feed:
        task = receive_thread()
        wait_until_asleep(task)
        assert feed.batch(b"one").payloads() == [b"one"]
        wait_until_asleep(task)


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("path", PATHS, ids=path_name, indirect=True)
def test_multicast_is_watched_for(path: coalescelab.Path, engine: str) -> None:
    with path.receiver(spin=LONG, engine=engine, coalesce=None) as receiver:
        worker = Worker(receiver.recv_batch, namespace=path.receiving.namespace)
        _wait_until_spinning(worker)
        with sources(path.sending) as (source,):
            source.send(path.family.group, b"from afar")
            assert worker.result().payloads() == [b"from afar"]


@pytest.mark.parametrize("spin", [-1, -1e-9, math.nan, math.inf, 61])
def test_other_values_are_refused_before_there_is_a_socket(spin: float) -> None:
    with pytest.raises(ValueError, match=r"^spin=.* is not in 0 to 60\.0 seconds$"):
        Receiver("239.1.2.3:5000", interface="lo", spin=spin)
