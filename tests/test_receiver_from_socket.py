"""Receiver.from_socket takes a prepared socket over as it is, and detach() gives it back as it was."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import (
    FAMILIES,
    PORT,
    TIMEOUT,
    V4,
    V6,
    Family,
    Worker,
    at,
    family_name,
    plain_join,
    plain_socket,
    receive,
    sources,
)

from mcastfast import Receiver, interfaces, options
from mcastfast.options import set_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab import Lan, Link

    from mcastfast import Batch

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)

UDP_GRO = 104


def test_a_join_that_the_socket_cannot_hear_is_refused(loopback: Link) -> None:
    """Linux delivers to a socket that is bound to an address what was sent to that address alone."""
    for host, remedy in ((loopback.ipv4, "bind the socket to the wildcard address"), (V4.other, 'bind="any"')):
        sock = plain_socket(socket.AF_INET, port=PORT, host=host)
        with Receiver.from_socket(sock) as receiver:
            with pytest.raises(ValueError, match=f"is bound to {host} and never hears {V4.group}: .*{remedy}"):
                receiver.join(at(V4.group, loopback))
            assert receiver.memberships == ()
    with Receiver.from_socket(plain_socket(socket.AF_INET, port=PORT)) as receiver:
        receiver.join(at(V4.group, loopback))
        assert len(receiver.memberships) == 1


@families
def test_joins_are_made_on_the_interface_that_the_socket_is_bound_to(family: Family, engine: str, lan: Lan) -> None:
    link = lan.receiver
    with link.namespace, plain_socket(family.number) as sock, sources(lan.sender) as (source,):
        set_option(sock, options.BOUND_INTERFACE, link.index)
        sock.bind(("", PORT))
        with Receiver.from_socket(sock, engine=engine) as receiver:
            text = f"is bound to interface {link.name} and never hears lo: bind the socket to no interface"
            with pytest.raises(ValueError, match=text):
                receiver.join(f"[{family.group}%lo]")
            assert receiver.memberships == ()
            receiver.join(family.group)
            assert [found.name for found in receiver.interfaces] == [link.name]
            source.send(family.group, b"joined")
            assert receive(receiver, 1) == [b"joined"]


def test_joins_are_made_on_the_interfaces_of_a_vrf_that_the_socket_is_bound_to(
    lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It carries no multicast itself, and a socket that is bound to it hears its members (a stand-in for one)."""
    with lan.receiver.namespace, plain_socket(socket.AF_INET) as sock:
        (lo,) = (found for found in interfaces() if found.is_loopback)
        set_option(sock, options.BOUND_INTERFACE, lan.receiver.index)
        sock.bind(("", PORT))
        vrf = lo._replace(index=lan.receiver.index, name="vrf", is_loopback=False)
        monkeypatch.setattr("mcastfast.binding.interfaces", lambda: (lo, vrf))
        with Receiver.from_socket(sock) as receiver:
            receiver.join(f"{V4.group}%lo")
            assert [joined.interface.name for joined in receiver.memberships] == ["lo"]


@families
def test_unicast_is_received(family: Family, engine: str, loopback: Link) -> None:
    sock = plain_socket(family.number, port=PORT, host=family.address(loopback))
    with Receiver.from_socket(sock, engine=engine) as receiver, sources(loopback) as (source,):
        assert receiver.address[:2] == (family.address(loopback), PORT)
        assert receiver.memberships == ()
        assert receiver.interfaces == ()
        assert receiver.interface is None
        source.send(family.address(loopback), b"unicast")
        (datagram,) = receiver.recv_batch(TIMEOUT)
        assert bytes(datagram) == b"unicast"
        assert datagram.source[:2] == (family.address(loopback), source.port(family))


@families
def test_what_was_joined_before_is_received_and_nothing_is_filtered(family: Family, engine: str, lan: Lan) -> None:
    """Its past cannot be known, so groups that other sockets joined come through too, as they did before."""
    link = lan.receiver
    with link.namespace, plain_socket(family.number) as other, sources(lan.sender) as (source,):
        plain_join(other, family.other, link.index)
        sock = plain_socket(family.number, port=PORT)
        plain_join(sock, family.group, link.index)
        with Receiver.from_socket(sock, metadata=["destination"], engine=engine) as receiver:
            source.send(family.group, b"joined")
            source.send(family.other, b"joined by another socket")
            assert receive(receiver, 2) == [b"joined", b"joined by another socket"]
            assert receiver.stats.foreign == 0


@families
def test_groups_are_joined_and_left_through_the_receiver(family: Family, engine: str, lan: Lan) -> None:
    link = lan.receiver
    with link.namespace, sources(lan.sender) as (source,):
        sock = plain_socket(family.number, port=PORT)
        with Receiver.from_socket(sock, engine=engine) as receiver:
            receiver.join(at(family.group, link))
            assert [str(joined.group) for joined in receiver.memberships] == [family.group]
            assert receiver.interface is not None
            assert receiver.interface.name == link.name
            source.send(family.group, b"joined")
            assert receive(receiver, 1) == [b"joined"]
            receiver.leave(family.group)
            assert receiver.memberships == ()


def test_the_memberships_of_a_receiver_stay_with_the_detached_socket(engine: str, lan: Lan) -> None:
    link = lan.receiver
    with link.namespace, sources(lan.sender) as (source,):
        receiver = Receiver(at(V4.group, link), engine=engine)
        with receiver.detach() as sock:
            sock.settimeout(TIMEOUT)
            source.send(V4.group, b"still joined")
            assert sock.recv(100) == b"still joined"


def test_detach_gives_back_the_very_socket_with_its_options(engine: str, loopback: Link) -> None:
    def options(sock: socket.socket) -> list[int]:
        return [
            sock.getsockopt(level, number)
            for level, numbers in (
                (socket.SOL_SOCKET, [socket.SO_REUSEADDR, socket.SO_RCVBUF, socket.SO_RCVTIMEO, 35, 40]),
                (socket.IPPROTO_IP, [8, 12, 13, 49, socket.IP_MULTICAST_LOOP]),
            )
            for number in numbers
        ]

    with plain_socket(socket.AF_INET, port=PORT) as sock:
        before = options(sock)
        descriptor = sock.fileno()
        receiver = Receiver.from_socket(sock, engine=engine)
        assert receiver.fileno() == descriptor
        with pytest.raises(BlockingIOError):
            receiver.recv_batch(0)
        assert options(sock) == before
        assert receiver.detach() is sock
        assert sock.fileno() == descriptor
        assert options(sock) == before


def test_a_socket_that_was_ours_waits_as_any_socket_after_detach(engine: str, loopback: Link) -> None:
    receiver = Receiver(at(V4.group, loopback), engine=engine)
    with pytest.raises(TimeoutError):
        receiver.recv_batch(0.01)
    with receiver.detach() as sock, sources(loopback) as (source,):
        assert sock.gettimeout() is None
        assert not any(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))
        blocked = Worker(sock.recv, 100)
        blocked.wait_until_blocked()
        source.send(V4.group, b"payload")
        assert blocked.result() == b"payload"


@pytest.mark.parametrize("timeout", [None, 0.0, 0.01])
def test_a_timeout_of_the_socket_is_neither_used_nor_changed(
    engine: str, loopback: Link, timeout: float | None
) -> None:
    """recv_batch has its own."""
    sock = plain_socket(socket.AF_INET, port=PORT)
    sock.settimeout(timeout)
    with Receiver.from_socket(sock, engine=engine) as receiver, sources(loopback) as (source,):
        with pytest.raises(BlockingIOError):
            receiver.recv_batch(0)
        with pytest.raises(TimeoutError):
            receiver.recv_batch(0.05)
        blocked = Worker(receiver.recv_batch)
        blocked.wait_until_blocked()
        source.send(loopback.ipv4, b"payload")
        assert blocked.result().payloads() == [b"payload"]
        assert receiver.detach().gettimeout() == timeout
        sock.close()


def test_a_default_timeout_of_the_socket_module_is_not_ours(engine: str, loopback: Link) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        with Receiver(at(V4.group, loopback), engine=engine) as receiver, sources(loopback) as (source,):
            blocked = Worker(receiver.recv_batch)
            blocked.wait_until_blocked()
            with pytest.raises(RuntimeError, match="another thread is in a call that excludes this one"):
                receiver.recv_batch(0)
            source.send(V4.group, b"payload")
            assert blocked.result().payloads() == [b"payload"]
    finally:
        socket.setdefaulttimeout(before)


def test_what_lay_in_the_socket_before_is_received(engine: str, loopback: Link) -> None:
    with sources(loopback) as (source,):
        sock = plain_socket(socket.AF_INET, port=PORT)
        source.send(loopback.ipv4, b"before")
        with Receiver.from_socket(sock, engine=engine) as receiver:
            assert receive(receiver, 1) == [b"before"]


def test_drops_before_the_takeover_are_not_the_receivers(engine: str, loopback: Link) -> None:
    with sources(loopback) as (source,):
        sock = plain_socket(socket.AF_INET, port=PORT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        source.send(loopback.ipv4, *[bytes(500)] * 100)
        with Receiver.from_socket(sock, metadata=["drops"], engine=engine) as receiver:
            count = len(receive(receiver, 1))
            assert count < 100
            source.send(loopback.ipv4, b"last")
            (last,) = receiver.recv_batch(TIMEOUT).dropped
            assert last == 0
            assert receiver.stats.kernel_drops == 0


def test_one_that_fails_leaves_the_socket_as_it_was(loopback: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(sock: socket.socket, **_options: bool) -> None:
        raise OSError(errno.EMFILE, f"no room for {sock}")

    monkeypatch.setattr("mcastfast.receiver.Memberships", fail)
    with loopback.namespace, plain_socket(socket.AF_INET, port=PORT) as sock:
        with pytest.raises(OSError, match="no room"):
            Receiver.from_socket(sock, coalesce=True)
        assert sock.getsockopt(socket.IPPROTO_UDP, UDP_GRO) == 0
        assert sock.fileno() >= 0


@pytest.mark.parametrize(("step", "background"), [("_open", None), ("_open", "1 MiB"), ("_start_background", "1 MiB")])
def test_one_whose_making_was_interrupted_leaves_the_socket_to_its_owner(
    engine: str, loopback: Link, step: str, background: str | None
) -> None:
    class Interrupted(Receiver):
        pass

    def interrupt(self: Receiver, *arguments: Any, **keywords: Any) -> None:
        getattr(Receiver, step)(self, *arguments, **keywords)
        raise KeyboardInterrupt

    if background and engine == "iocp":
        pytest.skip("it has no thread")
    setattr(Interrupted, step, interrupt)
    with loopback.namespace, plain_socket(socket.AF_INET, port=PORT, host="127.0.0.1") as sock:
        with pytest.raises(KeyboardInterrupt):
            Interrupted.from_socket(sock, engine=engine, background=background)
        assert sock.fileno() >= 0
        sock.sendto(b"it goes on", sock.getsockname())
        assert sock.recv(100) == b"it goes on"


@pytest.mark.parametrize("name", ["destination", "timestamp", "drops", "hops", "tos"])
@families
def test_metadata_is_switched_on_for_a_prepared_socket(family: Family, engine: str, loopback: Link, name: str) -> None:
    sock = plain_socket(family.number, port=PORT, host=family.address(loopback))
    with Receiver.from_socket(sock, metadata=[name], engine=engine) as receiver, sources(loopback) as (source,):
        source.send(family.address(loopback), b"")
        (datagram,) = receiver.recv_batch(TIMEOUT)
        given = {
            "destination": datagram.destination is not None and datagram.interface_index == loopback.index,
            "timestamp": bool(datagram.timestamp),
            "hops": datagram.hops == 64,
            "tos": datagram.tos == 0,
        }
        assert given.get(name, True)
        assert not any(value for other, value in given.items() if other not in (name, "tos"))
        assert (datagram.tos is None) == (name != "tos")


def test_a_socket_of_both_families_shows_ipv4_as_recvfrom_does(engine: str, loopback: Link) -> None:
    sock = plain_socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", PORT))
    with sources(loopback) as (source,):
        source.send(loopback.ipv4, b"1", b"2")
        _, expected = sock.recvfrom(100)
        with Receiver.from_socket(sock, metadata=["destination"], engine=engine) as receiver:
            (datagram,) = receiver.recv_batch(TIMEOUT)
            assert datagram.source == expected == ("::ffff:127.0.0.1", source.port(V4), 0, 0)
            assert datagram.destination is not None
            assert datagram.destination[:2] == ("::ffff:127.0.0.1", PORT)


@pytest.mark.parametrize("metadata", [["hops", "tos"], ["hops"], ["tos"], ["hops", "tos", "destination"]])
def test_a_socket_of_both_families_tells_hops_and_tos_of_both(engine: str, loopback: Link, metadata: list[str]) -> None:
    sock = plain_socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", PORT))
    with Receiver.from_socket(sock, metadata=metadata, engine=engine) as receiver:
        for family in FAMILIES:
            with plain_socket(family.number) as source:
                set_option(source, options.UNICAST_HOPS, 33)
                set_option(source, options.TOS, 0x28)
                source.sendto(b"payload", (family.address(loopback), PORT))
            (datagram,) = receiver.recv_batch(TIMEOUT)
            assert datagram.hops == (33 if "hops" in metadata else None)
            assert datagram.tos == (0x28 if "tos" in metadata else None)
        assert receiver.stats.control_truncated == 0


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOPROTOOPT])
def test_a_system_that_refuses_the_options_of_ipv4_on_it_tells_those_of_ipv6(loopback: Link, code: int) -> None:
    class Refusing(socket.socket):
        def setsockopt(self, level: int, *arguments: Any) -> None:
            if level == socket.IPPROTO_IP:
                raise OSError(code, "refused")
            super().setsockopt(level, *arguments)

    sock = Refusing(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", PORT))
    with Receiver.from_socket(sock, metadata="hops") as receiver, sources(loopback) as (source,):
        source.send(loopback.ipv6, b"payload")
        assert receiver.recv_batch(TIMEOUT)[0].hops == 64


def test_a_late_error_of_a_connected_socket_is_raised_with_the_call(engine: str, loopback: Link) -> None:
    """Nobody listens where it sends to; the next receive is told so, and the one after goes on."""
    sock = plain_socket(socket.AF_INET, port=PORT, host=loopback.ipv4)
    sock.connect((loopback.ipv4, PORT + 1))
    with Receiver.from_socket(sock, engine=engine) as receiver:
        sock.send(b"into the void")
        with pytest.raises(ConnectionRefusedError, match=r"recv_batch on 127\.0\.0\.1 port 5000: ") as raised:
            receiver.recv_batch(TIMEOUT)
        assert raised.value.errno == errno.ECONNREFUSED
        with pytest.raises(BlockingIOError):
            receiver.recv_batch(0)


def test_a_socket_that_somebody_closed_fails_receives_but_not_close(engine: str, loopback: Link) -> None:
    sock = plain_socket(socket.AF_INET, port=PORT)
    receiver = Receiver.from_socket(sock, engine=engine)
    sock.close()
    calls: list[Callable[[], Batch]] = [
        lambda: receiver.recv_batch(0),
        lambda: receiver.recv_batch(TIMEOUT),
        lambda: next(receiver),
    ]
    for call in calls:
        with pytest.raises(OSError, match=r" on 0\.0\.0\.0 port 5000: it is closed") as raised:
            call()
        assert raised.value.errno == errno.EBADF
    receiver.close()
    assert receiver.closed
    assert receiver.stats[:3] == (0, 0, 0)


def test_a_closed_receiver_cannot_be_detached_and_a_detached_one_is_closed(loopback: Link) -> None:
    sock = plain_socket(socket.AF_INET, port=PORT)
    receiver = Receiver.from_socket(sock)
    assert receiver.detach() is sock
    assert receiver.closed
    assert receiver.fileno() == -1
    with pytest.raises(OSError, match=r"detach of 0\.0\.0\.0 port 5000: it is closed") as raised:
        receiver.detach()
    assert raised.value.errno == errno.EBADF
    receiver.close()
    assert sock.fileno() >= 0
    again = Receiver.from_socket(sock)
    again.close()
    assert sock.fileno() == -1


def test_detach_wakes_a_blocked_receive(engine: str, loopback: Link) -> None:
    with Receiver(at(V6.group, loopback), engine=engine) as receiver:
        blocked = Worker(receiver.recv_batch)
        blocked.wait_until_blocked()
        with receiver.detach() as sock:
            with pytest.raises(OSError, match="it is closed") as raised:
                blocked.result()
            assert raised.value.errno == errno.EBADF
            assert sock.fileno() >= 0


class _NotASocket:
    def fileno(self) -> int:
        return 0


@pytest.mark.parametrize("value", [None, 3, _NotASocket(), "239.1.2.3:5000"])
def test_what_is_no_socket_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"Receiver\.from_socket takes a socket\.socket, not {type(value).__name__}"):
        Receiver.from_socket(value)
