"""After fork the child uses what it inherited, and neither process disturbs the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import descriptors
from test_aio import run, waiting, waits
from traffic import PATIENCE, Worker, connected_sender, feed, payload, wait_until_blocked

from mcastfast import Batch, Receiver, ReceiverSet
from mcastfast.options import COALESCE, get_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netlab import Link


def in_child(function: Callable[[], object]) -> Callable[[], None]:
    """Fork; the child runs the function and ends. The result waits for it and raises AssertionError if it failed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            signal.alarm(int(PATIENCE))
            function()
            code = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(writer)

    def wait() -> None:
        with open(reader) as file:
            report = file.read()
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child failed ({status}): {report}"

    return wait


@contextlib.contextmanager
def multicast(engine: str) -> Iterator[tuple[Receiver, socket.socket]]:
    with (
        Receiver("239.7.7.7:5010", interface="lo", engine=engine) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.connect(("239.7.7.7", 5010))
        yield receiver, sock


def test_child_receives_with_the_inherited_socket(engine: str) -> None:
    with feed(engine=engine) as quiet:
        first = quiet.batch(payload(1))

        def child() -> None:
            assert first.payloads() == [payload(1)]
            assert quiet.receiver.recv_batch(PATIENCE).payloads() == [payload(2)]
            batch = Batch(bytearray(4096))
            quiet.send(payload(3))
            assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 1
            assert batch.payloads() == [payload(3)]
            assert quiet.receiver.stats.datagrams == 3

        wait = in_child(child)
        quiet.send(payload(2))
        wait()
        assert quiet.batch(payload(4)).payloads() == [payload(4)]
        assert quiet.receiver.stats.datagrams == 2


def test_close_in_the_child_does_not_deafen_the_parent(engine: str, loopback: Link) -> None:
    with multicast(engine) as (receiver, sock):

        def child() -> None:
            receiver.close()
            receiver.close()
            with pytest.raises(OSError, match="closed"):
                receiver.recv_batch(0)

        in_child(child)()
        sock.send(b"still heard")
        assert receiver.recv_batch(PATIENCE).payloads() == [b"still heard"]
        assert len(receiver.memberships) == 1


@pytest.mark.parametrize("end", [lambda r: r.close(), lambda r: r.detach().close()], ids=["close", "detach"])
def test_the_end_in_the_child_leaves_the_parents_socket_its_receive_timeout(
    engine: str, loopback: Link, end: Callable[[Receiver], None]
) -> None:
    with multicast(engine) as (receiver, _), socket.socket(fileno=os.dup(receiver.fileno())) as same:
        before = same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
        assert before != bytes(16)
        in_child(lambda: end(receiver))()
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == before


@pytest.mark.parametrize("how", [{"coalesce": True}, {"background": "1 MiB"}], ids=["coalesce", "background"])
def test_detach_in_the_child_leaves_the_parents_socket_its_trains(loopback: Link, how: dict[str, Any]) -> None:
    with Receiver("239.7.7.7:5010", interface="lo", **how) as receiver:
        in_child(lambda: receiver.detach().close())()
        assert get_option(receiver._socket, COALESCE)


def test_close_in_the_parent_does_not_deafen_the_child(engine: str, loopback: Link) -> None:
    reader, writer = os.pipe()
    with multicast(engine) as (receiver, sock):

        def child() -> None:
            os.read(reader, 1)
            sock.send(b"still heard")
            assert receiver.recv_batch(PATIENCE).payloads() == [b"still heard"]
            receiver.close()

        wait = in_child(child)
    os.write(writer, b"x")
    wait()
    os.close(reader)
    os.close(writer)


def test_child_may_receive_and_close_while_a_thread_of_the_parent_is_blocked(engine: str) -> None:
    with feed(engine=engine) as quiet:
        blocked = Worker(lambda: quiet.receiver.recv_batch(PATIENCE).payloads())
        wait_until_blocked(blocked)

        def child() -> None:
            with pytest.raises(TimeoutError):
                quiet.receiver.recv_batch(0.01)
            assert quiet.receiver.stats.datagrams == 0
            quiet.receiver.close()

        in_child(child)()
        assert blocked.is_alive()
        quiet.send(b"for the parent")
        assert blocked.result() == [b"for the parent"]


@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "unhashable"])
def test_receivers_that_a_subclass_calls_equal_are_each_their_own(engine: str, loopback: Link, hashed: bool) -> None:
    class Same(Receiver):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Same)

        if hashed:

            def __hash__(self) -> int:
                return 0

    group = "239.7.7.7:5010"
    with (
        Same(group, interface="lo", engine=engine) as first,
        Same(group, interface="lo", engine=engine) as second,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.connect(("239.7.7.7", 5010))
        workers = [Worker(partial(receiver.recv_batch, PATIENCE)) for receiver in (first, second)]
        wait_until_blocked(*workers)

        def child() -> None:
            for receiver in (first, second):
                with pytest.raises(BlockingIOError):
                    receiver.recv_batch(0)
                receiver.close()

        in_child(child)()
        sock.send(b"for the parent")
        assert [worker.result().payloads() for worker in workers] == [[b"for the parent"]] * 2
    assert first.closed
    assert second.closed


def test_child_lets_go_of_what_an_event_loop_of_the_parent_watches(engine: str) -> None:
    async def main() -> list[bytes]:
        task = await waiting(quiet.receiver)
        own = descriptors()[str(quiet.receiver.fileno())]

        def child() -> None:
            assert not waits(quiet.receiver)
            quiet.receiver.close()
            assert own not in descriptors().values()

        await asyncio.to_thread(in_child(child))
        quiet.send(payload(1))
        return await task

    with feed(engine=engine) as quiet:
        assert run(main()) == [payload(1)]


def test_child_may_fill_a_batch_of_its_own_while_the_parent_fills_it(engine: str) -> None:
    with feed(engine=engine) as quiet:
        batch = Batch(bytearray(4096))
        blocked = Worker(lambda: quiet.receiver.recv_batch_into(batch, PATIENCE))
        wait_until_blocked(blocked)

        def child() -> None:
            own = Batch(bytearray(4096))
            with pytest.raises(BlockingIOError):
                quiet.receiver.recv_batch_into(own, 0)

        in_child(child)()
        quiet.send(b"x")
        assert blocked.result() == 1


def test_blocked_child_is_woken_by_its_own_close_only(engine: str) -> None:
    with feed(engine=engine) as quiet:

        def child() -> None:
            blocked = Worker(lambda: quiet.receiver.recv_batch(PATIENCE))
            wait_until_blocked(blocked)
            quiet.receiver.close()
            assert isinstance(blocked.error(), OSError)

        in_parent = Worker(lambda: quiet.receiver.recv_batch(PATIENCE).payloads())
        wait_until_blocked(in_parent)
        in_child(child)()
        quiet.send(b"x")
        assert in_parent.result() == [b"x"]


def test_fork_in_the_middle_of_busy_receives_never_hangs_the_child(engine: str) -> None:
    with feed(engine=engine, metadata=["destination"]) as busy:
        stop = False

        def receive() -> None:
            while not stop:
                with contextlib.suppress(TimeoutError):
                    busy.receiver.recv_batch(0.01)

        def send() -> None:
            while not stop:
                busy.send(*[b"x"] * 20)

        def watch() -> None:
            while not stop:
                assert busy.receiver.stats

        threads = [Worker(receive), Worker(send), Worker(watch)]

        def child() -> None:
            assert busy.receiver.stats.batches >= 0
            busy.receiver._set_filter([])
            with contextlib.suppress(TimeoutError):
                busy.receiver.recv_batch(0.01)
            busy.receiver.close()
            busy.sender.close()

        try:
            for _ in range(40):
                in_child(child)()
        finally:
            stop = True
        for thread in threads:
            thread.result()


def test_set_works_in_the_child_while_the_parent_waits_in_it(engine: str) -> None:
    with feed(engine=engine) as one, feed(engine=engine) as two, ReceiverSet([one.receiver, two.receiver]) as both:
        blocked = Worker(lambda: both.recv_batch(PATIENCE))
        wait_until_blocked(blocked)

        def child() -> None:
            with pytest.raises(TimeoutError):
                both.recv_batch(0.01)
            one.receiver.close()
            with pytest.raises(TimeoutError):
                both.recv_batch(0.01)
            both.close()

        in_child(child)()
        assert blocked.is_alive()
        two.send(b"two")
        receiver, batch = blocked.result()
        assert (receiver, batch.payloads()) == (two.receiver, [b"two"])


def test_grandchild_receives_too(engine: str) -> None:
    with feed(engine=engine) as quiet:

        def child() -> None:
            in_child(lambda: quiet.receiver.recv_batch(PATIENCE))()

        wait = in_child(child)
        quiet.send(b"x")
        wait()


def test_child_of_a_closed_receiver_finds_it_closed(engine: str) -> None:
    with feed(engine=engine) as quiet:
        quiet.receiver.close()

        def child() -> None:
            assert quiet.receiver.closed
            quiet.receiver.close()
            with pytest.raises(OSError, match="closed"):
                quiet.receiver.recv_batch(0)

        in_child(child)()


def test_parent_and_child_share_the_queue_and_each_datagram_goes_to_one(engine: str) -> None:
    reader, writer = os.pipe()
    count = 200
    with feed(engine=engine, batch_size=1) as quiet:

        def child() -> None:
            with contextlib.suppress(TimeoutError):
                while True:
                    os.write(writer, quiet.receiver.recv_batch(1.0)[0][:8])

        wait = in_child(child)
        mine = []
        for number in range(count):
            quiet.send(number.to_bytes(8, "little"))
        with contextlib.suppress(TimeoutError):
            while True:
                mine.append(quiet.receiver.recv_batch(1.0)[0][:8])
        wait()
        os.close(writer)
        with open(reader, "rb") as file:
            data = file.read()
    theirs = [data[at : at + 8] for at in range(0, len(data), 8)]
    assert sorted(int.from_bytes(n, "little") for n in mine + theirs) == list(range(count))


def test_child_that_cannot_get_a_wake_up_descriptor_finds_the_receiver_closed(engine: str) -> None:
    import resource

    with feed(engine=engine) as one, feed(engine=engine) as two:
        # In the child of this child the limit allows not a single new descriptor.
        def child() -> None:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            spare = [os.dup(0)]
            while spare[-1] < highest:
                spare.append(os.dup(0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1] + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            pid = os.fork()
            if pid == 0:
                os._exit(0 if one.receiver.closed and two.receiver.closed else 3)
            assert os.waitpid(pid, 0)[1] == 0

        in_child(child)()
        assert one.batch(b"x").payloads() == two.batch(b"x").payloads()


def test_timing_of_a_child_is_its_own(engine: str) -> None:
    with feed(engine=engine) as quiet, connected_sender(quiet.receiver.address) as second:

        def child() -> None:
            before = time.monotonic()
            with pytest.raises(TimeoutError):
                quiet.receiver.recv_batch(0.05)
            assert time.monotonic() - before >= 0.05

        in_child(child)()
        second.send(b"x")
        quiet.receive(1)
