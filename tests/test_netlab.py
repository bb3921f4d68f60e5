"""The networks that the other tests stand on: they carry, they isolate, they leave nothing behind."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import netlab
import pytest
from netlab import Lan, Lan3, Link, Namespace

pytestmark = pytest.mark.needs("namespaces")

TESTS = Path(__file__).parent
PORT = 5000


def _member(link: Link, group: str) -> socket.socket:
    """A socket in the link's namespace that has joined the group there."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in group else socket.AF_INET, group)
    with link.namespace:
        if ":" in group:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("@I", link.index))
        else:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, packed + socket.inet_aton(link.ipv4))
    sock.bind(("", PORT))
    sock.settimeout(5)
    return sock


def _send(link: Link, destination: str, payload: bytes) -> None:
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with link.namespace, socket.socket(family, socket.SOCK_DGRAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.index)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(link.ipv4))
        sock.sendto(payload, (destination, PORT))


def _interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def _own_network() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_the_process_itself_has_no_interface_but_lo() -> None:
    assert _interfaces() == ["lo"]


def test_all_that_it_takes_to_start_the_tests_starts_no_thread() -> None:
    """An ordinary user gets a user namespace before the first thread only."""
    program = "import os, conftest; print(len(os.listdir('/proc/self/task')))"
    result = subprocess.run([sys.executable, "-c", program], cwd=TESTS, capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"


def test_a_fresh_namespace_has_stock_lo(namespace: Namespace) -> None:
    with namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert _interfaces() == ["lo"]
        sock.sendto(b"", ("127.0.0.1", PORT))
        with pytest.raises(OSError, match="unreachable"):
            sock.sendto(b"", ("239.1.2.3", PORT))


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("group", ["239.1.2.3", "ff15::77"])
def test_loopback_carries_multicast_of_both_families(loopback: Link, group: str) -> None:
    with closing(_member(loopback, group)) as member:
        _send(loopback, group, b"around")
        assert member.recv(100) == b"around"


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("destination", ["239.1.2.3", "ff15::77", "ff02::77", "10.77.1.1", "fd77:1::1"])
def test_lan_carries_unicast_and_multicast_of_both_families(lan: Lan, destination: str) -> None:
    group = "239.1.2.3" if ":" not in destination else destination if destination.startswith("ff") else "ff15::77"
    with closing(_member(lan.receiver, group)) as member:
        _send(lan.sender, destination, b"across")
        payload, source = member.recvfrom(100)
    assert payload == b"across"
    assert source[0].partition("%")[0] in (lan.sender.ipv4, lan.sender.ipv6, lan.sender.link_local)


def test_the_first_datagram_of_a_new_link_arrives() -> None:
    """Not only after the kernel's link watcher has run: no test may have to wait for a link."""
    for _ in range(10):
        with netlab.namespaces(2) as (a, b):
            there, here = netlab.connect(a, b)
            with closing(_member(here, "239.1.2.3")) as member:
                _send(there, "239.1.2.3", b"first")
                assert member.recv(100) == b"first"


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("group", ["239.1.2.3", "ff15::77"])
def test_both_sources_of_lan3_reach_the_receiver_and_keep_their_addresses(lan3: Lan3, group: str) -> None:
    with closing(_member(lan3.receiver, group)) as member:
        for link in (lan3.first, lan3.second):
            _send(link, group, b"to all")
            assert member.recvfrom(100)[1][0] == (link.ipv6 if ":" in group else link.ipv4)


def test_namespaces_do_not_hear_each_other(namespace: Namespace, lan: Lan) -> None:
    with namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", PORT))
        with lan.sender.namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.bind(("127.0.0.1", PORT))
            there.sendto(b"", ("127.0.0.1", PORT))
            assert there.recv(100) == b""
        with pytest.raises(BlockingIOError):
            here.recv(100, socket.MSG_DONTWAIT)


def test_with_restores_the_network_after_an_exception_and_when_nested(namespace: Namespace, lan: Lan) -> None:
    origin = _own_network()
    with namespace:
        inner = _own_network()
        with pytest.raises(ZeroDivisionError), lan.receiver.namespace:  # noqa: PT012
            assert _own_network() not in (origin, inner)
            raise ZeroDivisionError
        assert _own_network() == inner
    assert _own_network() == origin


def test_a_thread_inside_leaves_the_others_where_they_are(namespace: Namespace) -> None:
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def enter() -> None:
        with namespace:
            seen.append(_own_network())
            inside.set()
            leave.wait(10)
        seen.append(_own_network())

    thread = threading.Thread(target=enter)
    thread.start()
    assert inside.wait(10)
    assert seen[0] != _own_network()
    leave.set()
    thread.join()
    assert seen[1] == _own_network()


def test_a_subprocess_inherits_the_network_it_was_started_in(lan: Lan) -> None:
    command = [sys.executable, "-c", "import socket; print(socket.if_nameindex())"]
    with lan.sender.namespace:
        assert "veth0" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "veth0" not in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_links_vanish_with_one_end_and_no_descriptor_stays() -> None:
    with netlab.namespaces(1) as (kept,):
        before = os.listdir("/proc/self/fd")
        with netlab.namespaces(1) as (dropped,):
            netlab.connect(kept, dropped)
            with kept:
                assert _interfaces() == ["lo", "veth0"]
        assert os.listdir("/proc/self/fd") == before
        with kept:
            netlab.wait_until(lambda: _interfaces() == ["lo"], what="the veth's end has gone")


def test_several_links_of_one_namespace_have_their_own_names_and_subnets() -> None:
    with netlab.namespaces(2) as (a, b):
        first, _ = netlab.connect(a, b)
        second, other = netlab.connect(a, b, subnet=2, mtu=9000)
        assert (first.name, second.name, other.name) == ("veth0", "veth1", "veth1")
        assert (first.ipv4, second.ipv4, other.ipv4) == ("10.77.1.1", "10.77.2.1", "10.77.2.2")
        assert a.ip.link("get", index=second.index)[0].get_attr("IFLA_MTU") == 9000


def test_proc_shows_the_inside(lan: Lan) -> None:
    with closing(_member(lan.receiver, "239.1.2.3")):
        assert "030201EF" in lan.receiver.namespace.proc("igmp")
        assert "030201EF" not in lan.sender.namespace.proc("igmp")


def test_closing_twice_is_harmless_and_entering_afterwards_fails() -> None:
    with netlab.namespaces(1) as (namespace,):
        pass
    namespace.close()
    with pytest.raises(OSError, match="setns") as raised, namespace:
        pass
    assert raised.value.errno == errno.EBADF


def test_another_thread_is_refused_the_routing_socket(namespace: Namespace) -> None:
    failures = []

    def use() -> None:
        try:
            namespace.ip  # noqa: B018
        except RuntimeError as error:
            failures.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(failures) == 1
    assert re.search("thread that made", failures[0])
