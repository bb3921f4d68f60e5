"""What is known about a datagram is known about each datagram of a train, and what only the train has is marked."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from coalescelab import PATHS, Path, collect, numbered, open_path, path_name, payloads_of
from receivelab import FAMILIES, at, family_name, plain_join

from mcastfast import DatagramFlag, Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab
    from receivelab import Family

pytestmark = pytest.mark.needs("namespaces", "ipv6")

NAMES = ("destination", "timestamp", "drops", "hops", "tos")
SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27


@pytest.fixture(params=PATHS, ids=path_name)
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield from open_path(request)


@contextlib.contextmanager
def same_socket(receiver: Receiver) -> Iterator[socket.socket]:
    with socket.socket(fileno=socket.dup(receiver.fileno())) as sock:
        yield sock


@contextlib.contextmanager
def dropping(receiver: Receiver) -> Iterator[None]:
    """While it lasts, the kernel drops all that comes, and counts it (socket filter, packet(7))."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))  # return 0: keep nothing
    with same_socket(receiver) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
        yield
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_every_row_of_a_train_has_all_of_it(path: Path, batch_size: int) -> None:
    with (
        path.receiver(metadata=NAMES, batch_size=batch_size) as receiver,
        path.receiver(metadata=NAMES, coalesce=False) as plain,
        path.shooter() as shooter,
    ):
        shots = [numbered(0, 10), numbered(1, 100, 30, last=9), numbered(40, 0), numbered(50, 200, 2)]
        shooter.shoot(path.family.group, *shots)
        batches = collect(receiver, 34)
        expected = collect(plain, 34)

        def rows(batches: list) -> list:  # type: ignore[type-arg]
            return [
                (bytes(one), one.source, one.destination, one.interface_index, one.hops, one.tos)
                for batch in batches
                for one in batch
            ]

        assert rows(batches) == rows(expected)
        assert [payload for payload, *_ in rows(batches)] == payloads_of(shots)
        assert all(one.timestamp for batch in batches for one in batch)


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_only_trains_share_a_timestamp_and_say_so(path: Path, batch_size: int) -> None:
    shots = [numbered(0, 10), numbered(1, 100, 30, last=9), numbered(40, 0), numbered(50, 200, 2), numbered(60, 9)]
    with path.receiver(metadata="timestamp", batch_size=batch_size) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, *shots)
        batches = collect(receiver, 35)
        flags = [flag for batch in batches for flag in batch.flags]
        stamps = [stamp for batch in batches for stamp in batch.timestamps]
        shared = DatagramFlag.SHARED_TIME
        assert flags == [0] + [shared] * 30 + [0] + [shared] * 2 + [0]
        assert len(set(stamps[1:31])) == len(set(stamps[32:34])) == 1
        assert len(set(stamps)) == 5
        assert stamps == sorted(stamps)


def test_without_timestamps_nothing_is_marked(path: Path) -> None:
    with path.receiver(metadata="hops") as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, numbered(0, 100, 30))
        (batch,) = collect(receiver, 30)
        assert not any(batch.flags)


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_drops_stand_on_the_first_row_behind_them(path: Path, batch_size: int) -> None:
    with path.receiver(metadata="drops", batch_size=batch_size) as receiver, path.shooter() as shooter:
        shooter.shoot(path.family.group, numbered(0, 100, 10))
        with dropping(receiver):
            shooter.shoot(path.family.group, numbered(0, 50, 20), numbered(0, 50))
        shooter.shoot(path.family.group, numbered(20, 100, 30), numbered(60, 100, 2))
        batches = collect(receiver, 42)
        dropped = [count for batch in batches for count in batch.dropped]
        assert dropped == [0] * 10 + [2] + [0] * 31
        assert receiver.stats.kernel_drops == 2
        assert not receiver.stats.kernel_drops_exact


@pytest.mark.needs("forced_buffer")
@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_drops_are_not_forgotten_where_an_arena_ends(loopback: netlab.Link, family: Family) -> None:
    """Two long trains after short messages leave no memory for the third, which drops precede."""
    path = Path(loopback, loopback, family, 32_000)
    with (
        path.receiver(metadata="drops", max_datagram=16, receive_buffer=2**21) as receiver,
        path.shooter() as shooter,
    ):
        shooter.shoot(family.group, *(numbered(number, 32_000, 2) for number in range(2)))
        with dropping(receiver):
            shooter.shoot(family.group, numbered(0, 50))
        shooter.shoot(family.group, *(numbered(number, 32_000, 2) for number in range(2)))
        batches = collect(receiver, 8)
        assert len(batches[0]) == 4
        assert [count for batch in batches for count in batch.dropped] == [0] * 4 + [1] + [0] * 3


def test_each_foreign_datagram_of_a_train_is_counted(path: Path) -> None:
    family, link = path.family, path.receiving
    with link.namespace, Receiver(at(family.group, link), bind="any", coalesce=True) as receiver:
        with same_socket(receiver) as sock:
            plain_join(sock, family.other, link.index)
        with path.shooter() as shooter:
            shooter.shoot(family.other, numbered(0, 100, 30, last=4), numbered(0, 9))
            shooter.shoot(family.group, numbered(50, 100, 20))
            shooter.shoot(family.other, numbered(0, 100, 5))
            shooter.shoot(family.group, numbered(80, 100))
        batches = collect(receiver, 21)
        assert [payload for batch in batches for payload in batch.payloads()] == payloads_of(
            [numbered(50, 100, 20), numbered(80, 100)]
        )
        assert receiver.stats.foreign == 36
        assert {one.destination for batch in batches for one in batch} == {batches[0][0].destination}


def test_leaving_a_group_in_the_middle_of_a_train_makes_the_rest_foreign(path: Path) -> None:
    family, link = path.family, path.receiving
    groups = [at(family.group, link), at(family.other, link)]
    with link.namespace, Receiver(*groups, coalesce=True, batch_size=10) as receiver, path.shooter() as shooter:
        shooter.shoot(family.group, numbered(0, 100, 50))
        shooter.shoot(family.other, numbered(60, 100, 5))
        assert receiver.recv_batch(timeout=0).payloads() == numbered(0, 100, 50).datagrams()[:10]
        receiver.leave(groups[0])
        assert receiver.recv_batch(timeout=0).payloads() == numbered(60, 100, 5).datagrams()
        assert receiver.stats.foreign == 40


# What a socket may have asked for before: (level, option).
SOCKET_LEVEL = [(socket.SOL_SOCKET, option) for option in (35, 40, 75, 41)]  # timestamps, drops, mark, wireless status
SO_TIMESTAMPING = (socket.SOL_SOCKET, 37)
IP_LEVEL = {
    socket.AF_INET: [(socket.IPPROTO_IP, option) for option in (8, 12, 13, 6, 7, 20)],
    socket.AF_INET6: [(socket.IPPROTO_IPV6, option) for option in (49, 51, 53, 56, 58, 66, 74)],
}


def preset(sock: socket.socket, options: list[tuple[int, int]]) -> None:
    for level, option in options:
        with contextlib.suppress(OSError):  # what this kernel does not know cannot be in the way
            sock.setsockopt(level, option, 1)


@pytest.mark.parametrize(
    "metadata", [(), ("hops",), ("destination",), NAMES], ids=["bare", "hops", "destination", "all"]
)
@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_options_that_a_socket_came_with_do_not_glue_a_train_together(
    loopback: netlab.Link, family: Family, metadata: tuple[str, ...]
) -> None:
    """The size of a train stands behind the socket's own messages, for which there is room, and before the rest."""
    host = "127.0.0.1" if family.number == socket.AF_INET else "::1"
    path = Path(loopback, loopback, family, 32_000)
    sock = socket.socket(family.number, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    preset(sock, SOCKET_LEVEL + IP_LEVEL[family.number])
    sock.setsockopt(*SO_TIMESTAMPING, 0x18)  # software time too, reported
    with Receiver.from_socket(sock, coalesce=True, metadata=metadata) as receiver, path.shooter() as shooter:
        shooter.shoot(host, numbered(0, 100, 30, last=4), numbered(50, 7), port=receiver.address[1])
        batches = collect(receiver, 31)
        payloads = [payload for batch in batches for payload in batch.payloads()]
        assert payloads == payloads_of([numbered(0, 100, 30, last=4), numbered(50, 7)])
        if "hops" in metadata:
            assert all(one.hops for batch in batches for one in batch)


def test_control_data_without_room_is_flagged_and_the_train_taken_apart(loopback: netlab.Link) -> None:
    """With every option that a socket may have and a sender's IP options there is more than anyone asked for."""
    path = Path(loopback, loopback, FAMILIES[0], 32_000)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    preset(sock, SOCKET_LEVEL + IP_LEVEL[socket.AF_INET])
    sock.setsockopt(*SO_TIMESTAMPING, 0x18)
    shots = [numbered(0, 100, 30, last=4), numbered(50, 7)]
    with Receiver.from_socket(sock, coalesce=True) as receiver, path.shooter() as shooter:
        shooter.options(bytes([1]) * 40)  # no-operation: RFC 791
        shooter.shoot("127.0.0.1", *shots, port=receiver.address[1])
        batches = collect(receiver, 31)
        assert [payload for batch in batches for payload in batch.payloads()] == payloads_of(shots)
        assert {flag for batch in batches for flag in batch.flags} == {DatagramFlag.CONTROL_TRUNCATED}
        assert receiver.stats.control_truncated == 31
