"""Timestamps: the kernel's, or the network device's where it has a clock, and a word where it has none."""

from __future__ import annotations

import errno
import socket
import time
import warnings
from typing import TYPE_CHECKING

import netlab
import pytest
from receivelab import FAMILIES, TIMEOUT, V4, Family, at, family_name, plain_socket, sources
from traffic import bound_socket

from mcastfast import Datagram, KernelTimestampWarning, Receiver, timestamps
from mcastfast._core import interface_stamps

if TYPE_CHECKING:
    from netlab import Lan, Link

pytestmark = pytest.mark.needs("namespaces", "ipv6")
SO_BINDTODEVICE, SO_TIMESTAMPNS, SO_TIMESTAMPING = 25, 35, 37
SOL_PACKET, PACKET_TIMESTAMP, SOF_TIMESTAMPING_RAW_HARDWARE = 263, 17, 1 << 6
families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)


def received(receiver: Receiver, link: Link, family: Family) -> Datagram:
    with sources(link) as (source,):
        source.send(family.group, b"payload")
    return receiver.recv_batch(TIMEOUT)[0]


@families
@pytest.mark.parametrize("metadata", [["hardware_timestamp"], ["hardware_timestamp", "timestamp", "hops"]])
def test_a_device_without_a_clock_leaves_the_kernels_time(
    lan: Lan, family: Family, metadata: list[str], engine: str
) -> None:
    with lan.receiver.namespace:
        with pytest.warns(KernelTimestampWarning) as caught:
            receiver = Receiver(at(family.group, lan.receiver), metadata=metadata, engine=engine)
        with receiver:
            before = time.time_ns()
            datagram = received(receiver, lan.sender, family)
            assert datagram.timestamp is not None
            assert before <= datagram.timestamp <= time.time_ns()
            assert datagram.timestamp_kind == "kernel"
    (warning,) = caught
    assert str(warning.message) == (
        f'metadata "hardware_timestamp": {lan.receiver.name} has no clock for what it receives; '
        "its datagrams carry the kernel's timestamps"
    )
    assert warning.filename == __file__


def test_the_first_datagram_may_come_before_the_kernel_takes_times(loopback: Link) -> None:
    """It begins some time after it was asked to. Of the two options only the first says when such a datagram came."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KernelTimestampWarning)
        receiver = Receiver(at(V4.group, loopback), metadata="hardware_timestamp")
    with receiver.detach() as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING) != 0


def asked_of_rings() -> int:
    """PACKET_TIMESTAMP of this process's only packet socket: packet(7)."""
    values = []
    for number, target in netlab.descriptors().items():
        if target.startswith("socket:"):
            with socket.socket(fileno=socket.dup(int(number))) as sock:
                if sock.family == socket.AF_PACKET:
                    values.append(sock.getsockopt(SOL_PACKET, PACKET_TIMESTAMP))
    (value,) = values
    return value


@pytest.mark.needs("packet_socket")
@families
@pytest.mark.parametrize("metadata", ["hardware_timestamp", "timestamp"])
def test_a_ring_asks_the_device_and_leaves_the_kernels_time(lan: Lan, family: Family, metadata: str) -> None:
    with lan.receiver.namespace:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", KernelTimestampWarning)
            receiver = Receiver(at(family.group, lan.receiver), metadata=metadata, engine="packet")
        assert [f"{lan.receiver.name} has no clock" in str(warning.message) for warning in caught] == (
            [True] if metadata == "hardware_timestamp" else []
        )
        with receiver:
            assert asked_of_rings() == (SOF_TIMESTAMPING_RAW_HARDWARE if metadata == "hardware_timestamp" else 0)
            before = time.time_ns()
            datagram = received(receiver, lan.sender, family)
            assert datagram.timestamp is not None
            assert before <= datagram.timestamp <= time.time_ns()
            assert datagram.timestamp_kind == "kernel"


@families
def test_over_loopback_it_is_the_kernels_time(loopback: Link, family: Family, engine: str) -> None:
    with pytest.warns(KernelTimestampWarning, match="lo has no clock"):
        receiver = Receiver(at(family.group, loopback), metadata="hardware_timestamp", engine=engine)
    with receiver:
        before = time.time_ns()
        datagram = received(receiver, loopback, family)
        assert datagram.timestamp is not None
        assert before <= datagram.timestamp <= time.time_ns()
        assert datagram.timestamp_kind == "kernel"


def test_a_later_join_warns_too(lan: Lan) -> None:
    with lan.receiver.namespace, warnings.catch_warnings():
        warnings.simplefilter("ignore", KernelTimestampWarning)
        with Receiver(at(V4.group, lan.receiver), bind="any", metadata="hardware_timestamp") as receiver:
            warnings.simplefilter("always", KernelTimestampWarning)
            with pytest.warns(KernelTimestampWarning, match="has no clock") as caught:
                receiver.join(V4.other, interface=lan.receiver.name)
            assert caught[0].filename == __file__


@families
@pytest.mark.parametrize("bound", ["nothing", "device", "loopback"])
def test_a_prepared_socket_is_warned_of_whatever_it_may_hear(lan: Lan, family: Family, bound: str) -> None:
    with lan.receiver.namespace, plain_socket(family.number) as sock:
        if bound == "device":
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, lan.receiver.name.encode())
        loopback = "127.0.0.1" if family is V4 else "::1"
        sock.bind((loopback if bound == "loopback" else "", 0))
        with pytest.warns(KernelTimestampWarning) as caught:
            receiver = Receiver.from_socket(sock, metadata="hardware_timestamp")
        (warning,) = caught
        name = "lo" if bound == "loopback" else lan.receiver.name
        assert f'"hardware_timestamp": {name} has no clock' in str(warning.message)
        assert warning.filename == __file__
        with receiver, plain_socket(family.number) as source:
            if bound == "loopback":
                source.sendto(b"payload", receiver.address)
            else:
                with sources(lan.sender) as (far,):
                    far.send(family.address(lan.receiver), b"payload", port=receiver.address[1])
            assert receiver.recv_batch(TIMEOUT)[0].timestamp_kind == "kernel"


def test_a_prepared_socket_survives_a_warning_that_is_an_error(loopback: Link) -> None:
    with bound_socket() as sock:
        with warnings.catch_warnings():
            warnings.simplefilter("error", KernelTimestampWarning)
            with pytest.raises(KernelTimestampWarning):
                Receiver.from_socket(sock, metadata="hardware_timestamp")
        assert sock.fileno() >= 0


@families
def test_the_kernels_time_is_of_its_kind_and_none_of_none(lan: Lan, family: Family, engine: str) -> None:
    with lan.receiver.namespace:
        with Receiver(at(family.group, lan.receiver), metadata="timestamp", engine=engine) as receiver:
            assert received(receiver, lan.sender, family).timestamp_kind == "kernel"
        with Receiver(at(family.group, lan.receiver), engine=engine) as receiver:
            datagram = received(receiver, lan.sender, family)
            assert (datagram.timestamp, datagram.timestamp_kind) == (None, None)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (True, None),
        (False, "lo has its clock switched off, `hwstamp_ctl -i lo -r 1`"),
        (OSError(95, ""), "lo has no clock for what it receives"),
        (OSError(errno.ENOMSG, ""), "lo stamps messages of protocols such as PTP alone, `hwstamp_ctl -i lo -r 1`"),
        (OSError(1, ""), r"lo does not say whether it stamps what it receives \(Operation not permitted\)"),
    ],
)
def test_the_warning_says_what_the_device_lacks(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, answer: bool | OSError, text: str | None
) -> None:
    def stamps(name: str) -> bool:
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(timestamps, "interface_stamps", stamps)
    with warnings.catch_warnings():
        if text:
            with pytest.warns(KernelTimestampWarning, match=text):
                Receiver(at(V4.group, loopback), metadata="hardware_timestamp").close()
        else:
            Receiver(at(V4.group, loopback), metadata="hardware_timestamp").close()


def test_an_interface_that_does_not_exist_stamps_nothing() -> None:
    with pytest.raises(OSError, match="No such device"):
        interface_stamps("none")
