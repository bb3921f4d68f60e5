"""Who asks for coalescing gets it or learns why not; who does not ask never does."""

from __future__ import annotations

import errno
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from coalescelab import SOL_UDP, UDP_GRO
from receivelab import FAMILIES, V4, Family, at, descriptors, family_name, receive

from mcastfast import Receiver, Sender, UnsupportedError, options, packing

if TYPE_CHECKING:
    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

OLD_KERNEL = options.Option(
    "coalesced receiving",
    (options.Row("UDP_GRO", packing.FLAG, linux=9999),),
    instead="a batch receives each datagram by itself",
)
"""An option that this kernel knows as little as one without trains knows theirs."""


def coalesces(receiver: Receiver) -> bool:
    with socket.socket(fileno=socket.dup(receiver.fileno())) as same:
        return bool(same.getsockopt(SOL_UDP, UDP_GRO))


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.parametrize("wanted", [None, False, True])
def test_the_option_is_set_where_it_is_asked_for_and_nowhere_else(loopback: netlab.Link, wanted: bool | None) -> None:
    with Receiver(at(V4.group, loopback), coalesce=wanted) as receiver:
        assert coalesces(receiver) is (wanted is True)
        assert receiver.stats.kernel_drops_exact is not (wanted is True)
    with bound() as sock, Receiver.from_socket(sock, coalesce=wanted) as receiver:
        assert coalesces(receiver) is (wanted is True)
        assert receiver.stats.kernel_drops_exact is not (wanted is True)


@pytest.mark.parametrize("wanted", [{"coalesce": True}, {"background": "1 MiB"}], ids=["coalesce", "background"])
def test_a_failure_that_passes_is_not_taken_for_an_old_kernel(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any]
) -> None:
    def fail(family: int) -> socket.socket:
        raise OSError(errno.EMFILE, f"no more sockets of family {family}")

    monkeypatch.setattr("mcastfast.reception.open_socket", fail)
    with namespace, bound() as sock:
        with pytest.raises(OSError, match="no more sockets"):
            Receiver.from_socket(sock, **wanted)
        assert sock.fileno() >= 0


def test_an_old_kernel_is_named_before_there_is_a_socket(
    loopback: netlab.Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "COALESCE", OLD_KERNEL)
    before = descriptors()
    with pytest.raises(UnsupportedError, match=r"^coalesce=True: .*UDP_GRO"):
        Receiver(at(V4.group, loopback), coalesce=True)
    assert descriptors() == before
    with bound() as sock:
        with pytest.raises(UnsupportedError, match=r"^coalesce=True: .*UDP_GRO"):
            Receiver.from_socket(sock, coalesce=True)
        assert sock.fileno() >= 0
    for wanted in (None, False):
        with Receiver(at(V4.group, loopback), coalesce=wanted) as receiver:
            assert receiver.stats.kernel_drops_exact
        with bound() as sock, Receiver.from_socket(sock, coalesce=wanted) as receiver:
            assert receiver.stats.kernel_drops_exact


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_a_thread_on_an_old_kernel_receives_each_by_itself(
    loopback: netlab.Link, monkeypatch: pytest.MonkeyPatch, family: Family
) -> None:
    monkeypatch.setattr(options, "COALESCE", OLD_KERNEL)
    with pytest.raises(UnsupportedError, match=r"^coalesce=True: .*UDP_GRO"):
        Receiver(at(family.group, loopback), background="16 MiB", coalesce=True)
    payloads = [bytes([number]) * 100 for number in range(40)]
    with Receiver(at(family.group, loopback), background="16 MiB") as receiver:
        assert receiver.stats.kernel_drops_exact
        with Sender(at(family.group, loopback)) as sender:
            sender.send_batch(payloads)
        assert receive(receiver, 40) == payloads


def test_the_portable_engine_has_no_trains(loopback: netlab.Link) -> None:
    with pytest.raises(UnsupportedError, match="coalesce=True: engine 'portable' receives each datagram by itself"):
        Receiver(at(V4.group, loopback), engine="portable", coalesce=True)
    for wanted in (None, False):
        Receiver(at(V4.group, loopback), engine="portable", coalesce=wanted).close()


@pytest.mark.parametrize("wanted", [None, False])
def test_a_socket_that_coalesces_is_not_taken_for_a_plain_one(loopback: netlab.Link, wanted: bool | None) -> None:
    with bound() as sock:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        with pytest.raises(ValueError, match="each of which would pass for one datagram; pass coalesce=True"):
            Receiver.from_socket(sock, coalesce=wanted)
        with Receiver.from_socket(sock, coalesce=True) as receiver:
            assert coalesces(receiver)


@pytest.mark.parametrize("wanted", [0, 1, "yes", 2.0])
def test_coalesce_is_a_truth_value_or_none(loopback: netlab.Link, wanted: Any) -> None:
    text = f"coalesce is True, False or None, not {re.escape(repr(wanted))}"
    with pytest.raises(TypeError, match=text):
        Receiver(at(V4.group, loopback), coalesce=wanted)
    with bound() as sock, pytest.raises(TypeError, match=text):
        Receiver.from_socket(sock, coalesce=wanted)


def test_the_sizes_are_still_checked(loopback: netlab.Link) -> None:
    with pytest.raises(ValueError, match=r"batch_size=1025 is not in 1\.\.1024"):
        Receiver(at(V4.group, loopback), coalesce=True, batch_size=1025)
    with pytest.raises(ValueError, match=r"max_memory=4096 is too small: .* and coalescing needs"):
        Receiver(at(V4.group, loopback), coalesce=True, max_memory=4096)
