"""The columns of a batch: what they hold and in which form, by engine and family; an error if not asked for."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import re
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from contractlab import CORE, tell_more
from receivelab import V4, at
from traffic import PATIENCE, Feed, bound_socket, connected_sender, duplicate, feed

from mcastfast import Batch, DatagramFlag, Receiver, Sender
from mcastfast.errors import CURRENT, Platform
from mcastfast.options import PACKET_INFO, RECEIVE_HOPS, RECEIVE_TOS, TIMESTAMPS, set_option

if TYPE_CHECKING:
    from netlab import Link

IPV6 = pytest.param(socket.AF_INET6, marks=pytest.mark.needs("ipv6"), id="ipv6")
FAMILIES = pytest.mark.parametrize("family", [pytest.param(socket.AF_INET, id="ipv4"), IPV6])
ALL = ("destination", "timestamp", "drops", "hops", "tos")
FORMATS = {
    "offsets": "I",
    "lengths": "I",
    "flags": "H",
    "timestamps": "q",
    "source_addresses": "B",
    "source_ports": "H",
    "destination_addresses": "B",
    "interface_indexes": "I",
    "hops": "B",
    "tos": "B",
    "dropped": "I",
}
OTHER_CONTROL = 256 if CORE is Platform.LINUX else 0
"""Bytes of control data for which there is room beside what was asked for."""
SO_RCVMARK, SO_RCVPRIORITY = 75, 82

# Which metadata fills a column, and which attribute of a Datagram shows it.
FILLED_BY = {
    "destination_addresses": ("destination", "destination"),
    "interface_indexes": ("destination", "interface_index"),
    "timestamps": ("timestamp", "timestamp"),
    "hops": ("hops", "hops"),
    "tos": ("tos", "tos"),
}


def _assert_not_asked(batch: Batch, column: str, metadata: str) -> None:
    """0 would pass for what the kernel said: no drops, the first of January 1970."""
    text = f'batch.{column} was not asked for: open the Receiver with metadata=["{metadata}"]'
    with pytest.raises(ValueError, match=re.escape(text)):
        getattr(batch, column)


def _mapped(address: str) -> list[int]:
    parsed = ipaddress.ip_address(address)
    return list(parsed.packed if parsed.version == 6 else b"\0" * 10 + b"\xff\xff" + parsed.packed)


def _mark(feed: Feed, family: int, hops: int, tos: int) -> None:
    """Make the sender's datagrams tell this hop limit and, where a program can, traffic class."""
    with duplicate(feed.sender.fileno()) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
            if CURRENT is not Platform.WINDOWS:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)


@pytest.mark.parametrize("name", FORMATS)
def test_column_is_a_read_only_contiguous_memoryview_with_a_row_per_datagram(engine: str, name: str) -> None:
    with feed(engine=engine, metadata=ALL) as quiet:
        batch = quiet.batch(b"a", b"bc", b"def")
        column = getattr(batch, name)
        assert isinstance(column, memoryview)
        assert column.format == FORMATS[name]
        assert column.shape == ((3, 16) if name.endswith("addresses") else (3,))
        assert column.readonly
        assert column.c_contiguous
        array = np.asarray(column)
        assert np.shares_memory(array, np.asarray(getattr(batch, name)))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_lengths_and_offsets_find_every_payload_in_data(engine: str) -> None:
    payloads = [b"", b"a", b"bc" * 50, b"def"]
    with feed(engine=engine) as quiet:
        batch = quiet.batch(*payloads)
        assert batch.lengths.tolist() == [0, 1, 100, 3]
        found = [bytes(batch.data[at : at + n]) for at, n in zip(batch.offsets, batch.lengths, strict=True)]
        assert found == payloads == batch.payloads() == [bytes(datagram) for datagram in batch]
        assert batch.data.format == "B"
        assert batch.data.readonly
        assert batch.capacity == len(batch) == 4


@FAMILIES
def test_without_metadata_its_columns_are_errors_and_its_attributes_none(engine: str, family: int) -> None:
    with feed(family, engine=engine) as quiet:
        batch = quiet.batch(b"a", b"b")
        assert np.asarray(batch.source_addresses).tolist() == [_mapped(quiet.sender.address[0])] * 2
        assert batch.source_ports.tolist() == [quiet.sender.address[1]] * 2
        assert batch.flags.tolist() == [0, 0]
        _assert_not_asked(batch, "dropped", "drops")
        for column, (metadata, attribute) in FILLED_BY.items():
            _assert_not_asked(batch, column, metadata)
            _assert_not_asked(batch.copy(), column, metadata)
            assert getattr(batch[1], attribute) is None


def test_a_batch_that_is_empty_has_every_column(engine: str) -> None:
    batch = Batch(bytearray(4096))
    for column in FORMATS:
        assert len(getattr(batch, column)) == 0
    with feed(engine=engine) as quiet:
        quiet.send(b"x")
        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 1
        _assert_not_asked(batch, "dropped", "drops")


@FAMILIES
def test_all_metadata_together(engine: str, family: int) -> None:
    with feed(family, engine=engine, metadata=ALL) as quiet:
        _mark(quiet, family, hops=33, tos=0xB8)
        before = time.time_ns()
        batch = quiet.batch(b"a", b"b", b"c")
        after = time.time_ns()
        host, port = quiet.receiver.address[:2]
        lo = socket.if_nametoindex("lo")
        assert np.asarray(batch.destination_addresses).tolist() == [_mapped(host)] * 3
        assert batch.interface_indexes.tolist() == [lo] * 3
        assert all(before <= stamp <= after for stamp in batch.timestamps)
        assert sorted(batch.timestamps) == batch.timestamps.tolist()
        assert batch.hops.tolist() == [33] * 3
        assert batch.tos.tolist() == [0xB8] * 3
        assert batch.dropped.tolist() == [0] * 3
        assert batch.flags.tolist() == [0] * 3
        for row, datagram in enumerate(batch):
            assert datagram.source == quiet.sender.address
            assert datagram.destination == (host, port, 0, 0)[: 4 if family == socket.AF_INET6 else 2]
            assert datagram.interface_index == lo
            assert datagram.timestamp == batch.timestamps[row]
            assert (datagram.hops, datagram.tos, datagram.truncated) == (33, 0xB8, False)


@FAMILIES
@pytest.mark.parametrize("name", ALL)
def test_each_metadata_fills_its_own_columns_only(engine: str, family: int, name: str) -> None:
    if name == "tos" and CURRENT is Platform.WINDOWS:
        pytest.skip("Windows sends 0, whatever a program sets")
    with feed(family, engine=engine, metadata=[name]) as quiet:
        _mark(quiet, family, hops=33, tos=0xB8)
        batch = quiet.batch(b"a", b"b")
        for column, (asked, attribute) in FILLED_BY.items():
            if asked == name:
                assert np.asarray(getattr(batch, column)).any()
            else:
                _assert_not_asked(batch, column, asked)
            assert (getattr(batch[0], attribute) is None) == (asked != name)
        if name == "drops":
            assert not np.asarray(batch.dropped).any()
        else:
            _assert_not_asked(batch, "dropped", "drops")


@FAMILIES
def test_metadata_survives_lone_datagrams_and_batches_in_turn(engine: str, family: int) -> None:
    with feed(family, engine=engine, metadata=ALL, batch_size=8) as quiet:
        for round_ in range(60):
            hops, tos = 1 + round_, 4 * (round_ % 60)
            _mark(quiet, family, hops, tos)
            count = 1 if round_ % 3 else 7
            quiet.send(*[b"x"] * count)
            for batch in quiet.receive(count):
                assert set(batch.hops) == {hops}
                assert set(batch.tos) == {tos}
                assert set(batch.interface_indexes) == {socket.if_nametoindex("lo")}
                assert 0 not in batch.timestamps


def test_metadata_option_that_the_socket_has_already_does_no_harm(engine: str) -> None:
    sock = bound_socket()
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    sock.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    with Receiver.from_socket(sock, engine=engine) as receiver, connected_sender(receiver.address) as sender:
        sender.send(b"x")
        batch = receiver.recv_batch(PATIENCE)
        assert batch.flags.tolist() == [0]
        assert (batch[0].hops, batch[0].tos) == (None, None)
        _assert_not_asked(batch, "hops", "hops")
        _assert_not_asked(batch, "tos", "tos")


@pytest.mark.needs("namespaces")
@pytest.mark.skipif(not OTHER_CONTROL, reason="Linux makes room for it")
def test_what_else_the_socket_has_displaces_nothing_that_was_asked_for(loopback: Link, engine: str) -> None:
    """As a receiver's of several groups, given back and taken over again."""
    group = at(V4.group, loopback)
    sock = Receiver(group, bind="any", engine=engine).detach()
    for option in (SO_RCVMARK, SO_RCVPRIORITY):
        with contextlib.suppress(OSError):  # of Linux 5.19 and 6.14
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
    with Receiver.from_socket(sock, engine=engine, metadata=["hops"]) as receiver, Sender(group, ttl=5) as sender:
        sender.send(b"x")
        batch = receiver.recv_batch(PATIENCE)
        assert (batch.hops.tolist(), batch.flags.tolist()) == ([5], [0])
        assert receiver.stats.control_truncated == 0


def test_more_control_data_than_there_is_room_for_is_flagged(engine: str) -> None:
    sock = bound_socket()
    with Receiver.from_socket(sock, engine=engine, metadata=["hops"]) as receiver:
        with connected_sender(receiver.address) as sender:
            tell_more(sock, sender)
            sender.send(b"x")
            batch = receiver.recv_batch(PATIENCE)
        assert batch.flags.tolist() == [2]
        assert batch.payloads() == [b"x"]
        assert receiver.stats.control_truncated == 1
        assert not batch[0].truncated


def _whole(metadata: tuple[str, ...], family: int) -> set[str]:
    """What arrives whole in the room for this metadata when the kernel has all but drops: each in its turn."""
    sizes = {
        "timestamp": struct.calcsize("ll"),
        "destination": 20 if family == socket.AF_INET6 else 12,
        "hops": 4,
        "tos": 4 if family == socket.AF_INET6 else 1,
    }
    room = sum(socket.CMSG_SPACE(sizes.get(name, 4)) for name in metadata) + OTHER_CONTROL
    whole = set()
    for name, size in sizes.items():
        if room >= socket.CMSG_LEN(size):
            whole.add(name)
        room = max(room - socket.CMSG_SPACE(size), 0)
    return whole


@pytest.mark.parametrize("count", range(1, len(ALL)))
@FAMILIES
def test_metadata_that_was_cut_off_is_absent(engine: str, family: int, count: int) -> None:
    """The socket gives more than was asked for, and the last message that finds room may be a part only."""
    flags = set()
    for metadata in itertools.combinations(ALL, count):
        sock = bound_socket(family)
        for option in (TIMESTAMPS, PACKET_INFO, RECEIVE_HOPS, RECEIVE_TOS):
            set_option(sock, option, True)
        with Receiver.from_socket(sock, engine=engine, metadata=metadata) as receiver:
            with connected_sender(receiver.address, family) as sender:
                quiet = Feed(receiver, sender)
                _mark(quiet, family, 77, 36)
                batch = quiet.batch(b"1", b"2", b"3")
            whole = _whole(metadata, family)
            there = whole.intersection(metadata)
            if "destination" in metadata:
                assert set(batch.interface_indexes) == {socket.if_nametoindex("lo") if "destination" in there else 0}
                assert np.asarray(batch.destination_addresses).any() == ("destination" in there)
            if "hops" in metadata:
                assert set(batch.hops) == {77 if "hops" in there else 0}
            if "tos" in metadata:
                assert set(batch.tos) == {36 if "tos" in there else 0}
            if "drops" in metadata:
                assert set(batch.dropped) == {0}
            if "timestamp" in metadata:
                assert np.asarray(batch.timestamps).any() == ("timestamp" in there)
            flag = 0 if len(whole) == 4 else DatagramFlag.CONTROL_TRUNCATED
            assert batch.flags.tolist() == [flag] * 3
            assert receiver.stats.control_truncated == (3 if flag else 0)
            assert batch.payloads() == [b"1", b"2", b"3"]
            flags.add(flag)
    assert OTHER_CONTROL or DatagramFlag.CONTROL_TRUNCATED in flags


def test_a_count_of_drops_that_was_cut_off_is_absent(engine: str) -> None:
    sock = bound_socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    set_option(sock, TIMESTAMPS, True)  # which come first, and leave room for a header
    with Receiver.from_socket(sock, engine=engine, metadata=["drops", "tos"]) as receiver:
        with connected_sender(receiver.address) as sender:
            dropped: list[int] = []
            for _ in range(3):
                sender.send_batch([bytes(500)] * 100)
                while select.select([receiver], [], [], 0)[0]:
                    dropped += receiver.recv_batch(0).dropped
        assert receiver.stats.kernel_drops > 0
        assert (set(dropped) == {0}) == (not OTHER_CONTROL)
        assert receiver.stats.control_truncated == (0 if OTHER_CONTROL else len(dropped))


@pytest.mark.parametrize("metadata", [(), ALL], ids=["bare", "all"])
def test_truncation_is_flagged_counted_and_keeps_its_neighbours(engine: str, metadata: tuple[str, ...]) -> None:
    with feed(engine=engine, max_datagram=10, metadata=metadata) as quiet:
        batch = quiet.batch(b"short", b"just so it", b"more than ten", b"", b"next")
        assert batch.payloads() == [b"short", b"just so it", b"more than ", b"", b"next"]
        assert batch.lengths.tolist() == [5, 10, 10, 0, 4]
        assert [datagram.truncated for datagram in batch] == [False, False, True, False, False]
        assert batch.flags.tolist() == [0, 0, 1, 0, 0]
        for _ in range(5):
            lone = quiet.batch(b"more than ten")
            assert (lone.payloads(), lone.flags.tolist()) == ([b"more than "], [1])
            lone = quiet.batch(b"short")
            assert (lone.payloads(), lone.flags.tolist()) == ([b"short"], [0])
        stats = quiet.receiver.stats
        assert (stats.truncated, stats.control_truncated) == (6, 0)
        assert (stats.datagrams, stats.bytes) == (15, 29 + 75)


@pytest.mark.parametrize("metadata", [(), ("hops",)], ids=["bare", "hops"])
def test_largest_and_empty_datagrams_arrive_whole(engine: str, metadata: tuple[str, ...]) -> None:
    largest = bytes(range(256)) * 255 + bytes(227)
    assert len(largest) == 65507
    with feed(engine=engine, max_datagram=65535, batch_size=4, metadata=metadata) as quiet:
        assert quiet.batch(largest).payloads() == [largest]
        batch = quiet.batch(b"")
        assert len(batch) == 1
        assert len(batch[0]) == 0
        assert bytes(batch[0]) == b""
        assert not batch[0]
        assert memoryview(batch[0]).nbytes == 0
        assert batch.copy().payloads() == [b""]


def test_batch_of_the_largest_size(engine: str) -> None:
    with feed(engine=engine, batch_size=1024, max_datagram=16, metadata=ALL) as quiet:
        numbers = [bytes([n % 256, n // 256]) for n in range(120)]
        assert quiet.batch(*numbers).payloads() == numbers


def test_rows_are_in_bounds_from_either_end() -> None:
    with feed() as quiet:
        batch = quiet.batch(b"a", b"b", b"c")
        assert [bytes(batch[index]) for index in (0, 2, -1, -3)] == [b"a", b"c", b"c", b"a"]
        for index in (3, -4, 2**31, -(2**40)):
            with pytest.raises(IndexError, match="the batch has 3 datagrams"):
                batch[index]
        with pytest.raises(TypeError):
            batch["0"]  # type: ignore[index]
        assert [bytes(datagram) for datagram in batch] == [b"a", b"b", b"c"]
        assert repr(batch) == "<Batch of 3 datagrams>"
        assert b"b" in batch  # type: ignore[operator]


def test_two_iterations_of_a_batch_are_independent() -> None:
    with feed() as quiet:
        batch = quiet.batch(b"a", b"b")
        first, second = iter(batch), iter(batch)
        assert iter(first) is first
        assert [bytes(next(first)), bytes(next(second)), bytes(next(first))] == [b"a", b"a", b"b"]
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(first)
        assert bytes(next(second)) == b"b"


def test_multicast_destination_tells_groups_apart(engine: str, loopback: Link) -> None:
    groups = ["239.7.7.7", "239.7.7.8"]
    with Receiver(*groups, port=5007, interface="lo", engine=engine, metadata=["destination"]) as receiver:
        got = []
        for group in groups:
            with connected_sender((group, 5007)) as sender:
                sender.send(group.encode())
            got.append(receiver.recv_batch(PATIENCE))
        assert [(batch[0].destination, batch[0].interface_index) for batch in got] == [
            ((group, 5007), loopback.index) for group in groups
        ]
        assert [batch.payloads() for batch in got] == [[group.encode()] for group in groups]


@pytest.mark.needs("ipv6")
def test_link_local_addresses_carry_their_scope(engine: str, loopback: Link) -> None:
    with Receiver("ff02::7777", port=5007, interface="lo", engine=engine, metadata=["destination"]) as receiver:
        with connected_sender(("ff02::7777", 5007, 0, loopback.index), socket.AF_INET6) as sender:
            sender.send(b"x")
        (datagram,) = receiver.recv_batch(PATIENCE)
        assert datagram.destination == ("ff02::7777", 5007, 0, loopback.index)
        assert datagram.source == (sender.address[0], sender.address[1], 0, 0)


def test_source_of_every_datagram_is_its_own(engine: str) -> None:
    with feed(engine=engine) as quiet:
        with connected_sender(quiet.receiver.address) as second, connected_sender(quiet.receiver.address) as third:
            senders = [quiet.sender, second, third, second, quiet.sender]
            for sender in senders:
                sender.send(b"x")
            datagrams: list[Batch] = quiet.receive(5)
        assert [d.source for batch in datagrams for d in batch] == [sender.address for sender in senders]
