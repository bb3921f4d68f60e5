"""Bad input to receivers: one clear error that says what to do, nothing lost, no descriptor left open."""

from __future__ import annotations

import errno
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import (
    FAMILIES,
    PORT,
    TIMEOUT,
    V4,
    Family,
    Worker,
    at,
    descriptors,
    family_name,
    plain_socket,
    receive,
    sources,
)

from mcastfast import Batch, Group, Receiver, ReceiverSet, interfaces
from mcastfast.errors import CURRENT, Platform
from mcastfast.options import RECEIVE_BUFFER, get_option

if TYPE_CHECKING:
    from netlab import Link

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)

IFF_MULTICAST = 0x1000


class NoSocket(Exception):  # noqa: N818
    """Stands for a socket that was opened although the arguments were wrong."""


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments are checked before there is a socket."""

    def refuse(*_: object, **__: object) -> None:
        raise NoSocket

    monkeypatch.setattr("mcastfast.sockets.socket.socket", refuse)


# Arguments of a receiver

LO: dict[str, Any] = {"interface": "lo"}


@pytest.mark.parametrize(
    ("groups", "options", "text"),
    [
        # no group, malformed groups, ports
        ((), {}, 'a Receiver needs a group, for example "239.1.2.3:5000"; Receiver.from_socket takes any socket'),
        (("",), LO, "group '': no group address; write it as 239.1.2.3:5000 or [ff15::1%eth0]:5000"),
        (("239.1.2:5000",), LO, "group '239.1.2:5000': group address '239.1.2' is not an IPv4 or IPv6 address"),
        (("example.com:5000",), LO, "'example.com' is not an IPv4 or IPv6 address; names are not looked up"),
        (("[ff15::1:5000",), LO, "the bracket [ is not closed; write it as [ff15::1%eth0]:5000"),
        (("239.1.2.3:0",), LO, "group '239.1.2.3:0': port 0 is not in 1 to 65535"),
        (("239.1.2.3:70000",), LO, "group '239.1.2.3:70000': port 70000 is not in 1 to 65535"),
        (("239.1.2.3:x",), LO, "port 'x' is not a number in 1 to 65535"),
        (("239.1.2.3",), LO | {"port": 0}, "group '239.1.2.3': port 0 is not in 1 to 65535"),
        (("239.1.2.3",), LO | {"port": 70000}, "group '239.1.2.3': port 70000 is not in 1 to 65535"),
        (("239.1.2.3",), LO | {"port": -1}, "group '239.1.2.3': port -1 is not in 1 to 65535"),
        (("239.1.2.3",), LO, "group '239.1.2.3' has no port: write 239.1.2.3%lo:5000 or pass port="),
        (
            ("ff15::1:5000",),
            LO,
            "has no port: write [ff15::1:5000%lo]:5000 or pass port=; if 5000 is the port: [ff15::1%lo]:5000",
        ),
        # not multicast
        (("10.0.0.1:5000",), LO, "10.0.0.1 is not a multicast address (224.0.0.0/4 or ff00::/8); for unicast"),
        (("[fd00::1]:5000",), LO, "fd00::1 is not a multicast address (224.0.0.0/4 or ff00::/8); for unicast"),
        (("255.255.255.255:5000",), LO, "for unicast or broadcast use Receiver.from_socket or Sender.from_socket"),
        # URLs
        (
            ("udp://239.1.2.3:5000?ttl=4",),
            LO,
            "the query '?ttl=4' in the text is not read; leave it out",
        ),
        (
            ("udp://239.1.2.3:5000?localaddr=lo",),
            {},
            "the query '?localaddr=lo' in the text is not read; pass interface=",
        ),
        (("http://239.1.2.3:5000",), LO, "scheme 'http' is not known; write udp:// or rtp://, or leave it out"),
        # text and keyword
        (("239.1.2.3:5000",), LO | {"port": 5001}, "port is 5000 in the group but 5001 in port=; give it once"),
        (("239.1.2.3%eth0:5000",), LO, "interface is eth0 in the group but lo in interface=; give it once"),
        (
            ("10.0.0.1@239.1.2.3:5000",),
            LO | {"source": "10.0.0.2"},
            "source is 10.0.0.1 in the group but 10.0.0.2 in source=; give it once",
        ),
        # sources
        (("fd00::7@239.1.2.3:5000",), LO, "source fd00::7 is IPv6 but group 239.1.2.3 is IPv4; both must be of one"),
        (("239.1.2.3:5000",), LO | {"source": "fd00::7"}, "source fd00::7 is IPv6 but group 239.1.2.3 is IPv4"),
        (("[ff15::1]:5000",), LO | {"source": ["10.0.0.7"]}, "source 10.0.0.7 is IPv4 but group ff15::1 is IPv6"),
        (("239.1.2.3:5000",), LO | {"source": "239.1.2.4"}, "source 239.1.2.4 is a multicast address; a source is the"),
        (("239.1.2.3:5000",), LO | {"source": []}, "source= names no source; pass None for any-source"),
        (
            ("239.1.2.3:5000",),
            LO | {"source": ["10.0.0.7"] * 2},
            "source 10.0.0.7 is given twice; name each source once",
        ),
        (("232.1.2.3:5000",), LO, "232.1.2.3 is in the source-specific range (RFC 4607)"),
        # several groups
        (("239.1.2.3:5000", "239.1.2.4:5001"), LO, "a Receiver has one port and one family, not 239.1.2.3%lo:5000, "),
        (("239.1.2.3:5000", "[ff15::1]:5000"), LO, "use a Receiver for each, and ReceiverSet([...]) to receive on all"),
        # interfaces
        (
            ("239.1.2.3:5000",),
            {"interface": "eth9"},
            "unknown interface 'eth9': this host has lo (127.0.0.1/8, ::1/128)",
        ),
        *(
            (
                ("239.1.2.3:5000",),
                {"interface": every},
                '; a Receiver takes "all" for every one of them',
            )
            for every in ("any", "*", "0.0.0.0")
        ),
        (("239.1.2.3:5000",), {"interface": 99}, "unknown interface 99: this host has lo (127.0.0.1/8, ::1/128)"),
        (("239.1.2.3%eth9:5000",), {}, "unknown interface 'eth9': this host has lo (127.0.0.1/8, ::1/128)"),
        # how to bind
        (("239.1.2.3:5000",), LO | {"bind": "some"}, "bind='some' is not known; it is one of 'auto', 'group', 'any'"),
        (("239.1.2.3:5000",), LO | {"bind": None}, "bind=None is not known; it is one of 'auto', 'group', 'any'"),
        (
            ("239.1.2.3:5000", "239.1.2.4:5000"),
            LO | {"bind": "group"},
            'bind="group" binds one group, not 2: use bind="any", or a Receiver for each and a ReceiverSet',
        ),
        # what it takes from a table
        (
            ("239.1.2.3:5000",),
            LO | {"metadata": ["hops", "ttl", "time"]},
            (
                "metadata 'time', 'ttl' is not known; known are 'destination', 'timestamp', 'hardware_timestamp', "
                "'drops', 'hops', 'tos'"
            ),
        ),
        (("239.1.2.3:5000",), LO | {"metadata": "ttl"}, "metadata 'ttl' is not known; known are 'destination', "),
        (
            ("239.1.2.3:5000",),
            LO | {"engine": "fast"},
            "engine='fast' is not known; this system has 'auto', 'socket', 'portable'",
        ),
        (("239.1.2.3:5000",), LO | {"engine": None}, "engine=None is not known; this system has 'auto', "),
        # sizes
        (("239.1.2.3:5000",), LO | {"batch_size": 0}, "batch_size=0 is not in 1..1024 datagrams"),
        (("239.1.2.3:5000",), LO | {"batch_size": -1}, "batch_size=-1 is not in 1..1024 datagrams"),
        (("239.1.2.3:5000",), LO | {"batch_size": 1025}, "batch_size=1025 is not in 1..1024 datagrams"),
        (("239.1.2.3:5000",), LO | {"batch_size": 2**70}, f"batch_size={2**70} is not in 1..1024 datagrams"),
        (("239.1.2.3:5000",), LO | {"max_datagram": 0}, "max_datagram=0 is not in 1..65535 bytes"),
        (("239.1.2.3:5000",), LO | {"max_datagram": -1}, "max_datagram=-1 is not in 1..65535 bytes"),
        (("239.1.2.3:5000",), LO | {"max_datagram": 65536}, "max_datagram=65536 is not in 1..65535 bytes"),
        (
            ("239.1.2.3:5000",),
            LO | {"max_memory": 100_000},
            "max_memory=100000 is too small: batch_size=64 with max_datagram=2048 needs ",
        ),
        *(
            (
                ("239.1.2.3:5000",),
                LO | {"receive_buffer": size},
                f"receive buffer must be from 1 to 2147483647, not {size}",
            )
            for size in (-1, 0, 2**31)
        ),
        (("239.1.2.3:5000",), LO | {"max_memory": 0}, "max_memory=0 is not above 0 bytes"),
        (("239.1.2.3:5000",), LO | {"max_memory": -1}, "max_memory=-1 is not above 0 bytes"),
        (("239.1.2.3:5000",), LO | {"max_memory": "64 MIB"}, "max_memory='64 MIB' is not a size: write bytes, or "),
        (("239.1.2.3:5000",), LO | {"max_memory": "100 kB"}, "max_memory='100 kB': size=100000 is too small: "),
        (("239.1.2.3:5000",), LO | {"receive_buffer": "1 MB/s"}, "receive_buffer='1 MB/s' is not a size: write bytes"),
        (
            ("239.1.2.3:5000",),
            LO | {"receive_buffer": "2 GiB"},
            "receive buffer must be from 1 to 2147483647, not 2147",
        ),
    ],
)
def test_a_wrong_value_is_a_value_error_before_there_is_a_socket(
    namespace: Any, no_socket: None, groups: tuple[str, ...], options: dict[str, Any], text: str
) -> None:
    with namespace, pytest.raises(ValueError, match=re.escape(text)):
        Receiver(*groups, **options)


@pytest.mark.parametrize(
    ("groups", "options", "text"),
    [
        ((None,), LO, "a group is a text such as '239.1.2.3:5000', not NoneType"),
        ((5000,), LO, "a group is a text such as '239.1.2.3:5000', not int"),
        (
            ("239.1.2.3:5000",),
            {"interface": 1.5},
            "interface is a name, an index, an address or an Interface, not float",
        ),
        (("239.1.2.3",), LO | {"port": "5000"}, "port is an int, not str"),
        (("239.1.2.3",), LO | {"port": True}, "port is an int, not bool"),
        (("239.1.2.3:5000",), LO | {"source": 7}, "source is a str, an IPv4Address or an IPv6Address, not int"),
        (
            ("239.1.2.3:5000",),
            LO | {"metadata": None},
            "metadata=None is not a list of names; known are 'destination', ",
        ),
        (("239.1.2.3:5000",), LO | {"batch_size": "64"}, "batch_size='64' is not a whole number"),
        (("239.1.2.3:5000",), LO | {"batch_size": 1.5}, "batch_size=1.5 is not a whole number"),
        (("239.1.2.3:5000",), LO | {"max_datagram": 1e3}, "max_datagram=1000.0 is not a whole number"),
        (("239.1.2.3:5000",), LO | {"spin": "1ms"}, "spin='1ms' is not a number of seconds"),
        (("239.1.2.3:5000",), LO | {"busy_poll": "1ms"}, "busy_poll='1ms' is not a number of seconds"),
        (("239.1.2.3:5000",), LO | {"source": b"10.0.0.7"}, "an IPv4Address or an IPv6Address, not bytes"),
        (("239.1.2.3:5000",), LO | {"source": ("10.0.0.7", 5000)}, "an IPv4Address or an IPv6Address, not int"),
        (
            ("239.1.2.3", 5000),
            LO,
            "Receiver('239.1.2.3', 5000): a port is not a group; write it behind the group, as '239.1.2.3:5000', or ",
        ),
        (
            ("239.1.2.3:5000",),
            {"interface": ["eth0", "eth1"]},
            'an Interface, not list; several: "239.1.2.3%eth0", "239.1.2.3%eth1", or "all"',
        ),
        # "no" would be taken for yes
        (("239.1.2.3:5000",), LO | {"loopback": "no"}, "loopback is True, False or None, not 'no'"),
        (("239.1.2.3:5000",), LO | {"coalesce": 0}, "coalesce is True, False or None, not 0"),
        (("239.1.2.3:5000",), LO | {"reuse": 0}, "reuse is True or False, not 0"),
        (("239.1.2.3:5000",), LO | {"strict": None}, "strict is True or False, not None"),
        (("239.1.2.3:5000",), LO | {"max_memory": 1e9}, "max_memory=1000000000.0 is not a size: give bytes as a "),
        (("239.1.2.3:5000",), LO | {"max_memory": True}, "max_memory=True is not a size"),
        (("239.1.2.3:5000",), LO | {"receive_buffer": 1e6}, "receive_buffer=1000000.0 is not a size: give bytes as "),
        (("239.1.2.3:5000",), LO | {"nonsense": 1}, "unexpected keyword argument 'nonsense'"),
    ],
)
def test_a_value_of_a_wrong_type_is_a_type_error_before_there_is_a_socket(
    namespace: Any, no_socket: None, groups: tuple[Any, ...], options: dict[str, Any], text: str
) -> None:
    with namespace, pytest.raises(TypeError, match=re.escape(text)):
        Receiver(*groups, **options)


@pytest.mark.skipif(CURRENT is Platform.WINDOWS, reason="Python is not told how much memory the machine has")
@pytest.mark.parametrize("keyword", ["max_memory", "background"])
@pytest.mark.parametrize("size", [2**60, 2**200, "1048576 GiB"])
def test_memory_that_the_machine_has_not_is_refused_before_there_is_a_socket(
    namespace: Any, no_socket: None, keyword: str, size: Any
) -> None:
    text = re.escape(f"{keyword}={size!r} is more than this machine's memory, ")
    with namespace, pytest.raises(ValueError, match=text):
        Receiver("239.1.2.3:5000", interface="127.0.0.1", **{keyword: size})


def test_sizes_of_memory_and_buffers_may_be_text(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback), max_memory="16 MiB", receive_buffer="64 KiB") as receiver:
        assert receiver._reception.max_memory == 16 << 20
        granted = get_option(receiver._socket, RECEIVE_BUFFER)
    with Receiver(at(V4.group, loopback), receive_buffer=1 << 16) as receiver:
        assert get_option(receiver._socket, RECEIVE_BUFFER) == granted


def test_the_least_memory_that_the_error_names_is_enough(loopback: Link) -> None:
    with pytest.raises(ValueError, match=r"needs (\d+) bytes") as raised:
        Receiver(at(V4.group, loopback), max_memory=1)
    needed = re.search(r"needs (\d+) bytes", str(raised.value))
    assert needed is not None
    least = int(needed[1])
    with pytest.raises(ValueError, match="is too small"):
        Receiver(at(V4.group, loopback), max_memory=least - 1)
    Receiver(at(V4.group, loopback), max_memory=least).close()


# Interfaces as the system has them


def test_an_address_with_its_prefix_names_its_interface(loopback: Link) -> None:
    here = next(interface for interface in interfaces() if interface.is_loopback)
    for address, group in zip(here.addresses, ("239.1.2.3:5000", "[ff15::1]:5000"), strict=True):
        with Receiver(group, interface=address) as receiver:
            assert receiver.interface == here


@families
def test_an_interface_that_is_down_is_enetdown(link: Link, no_socket: None, family: Family) -> None:
    link.namespace.ip.link("set", index=link.index, state="down")
    with pytest.raises(OSError, match=f"interface {link.name} is down: ip link set dev {link.name} up") as raised:
        Receiver(at(family.group, link))
    assert raised.value.errno == errno.ENETDOWN


@families
def test_an_interface_without_multicast_is_a_value_error(link: Link, no_socket: None, family: Family) -> None:
    link.namespace.ip.link("set", index=link.index, flags=0, mask=IFF_MULTICAST)
    with pytest.raises(ValueError, match=rf"interface {link.name} \(.*\) lacks multicast: .* or choose another"):
        Receiver(at(family.group, link))


@families
def test_an_interface_without_the_family_is_a_value_error(link: Link, no_socket: None, family: Family) -> None:
    addresses = [link.ipv4] if family is V4 else [link.ipv6, link.link_local]
    for address in addresses:
        link.namespace.ip.addr("del", index=link.index, address=address, prefixlen=24 if family is V4 else 64)
    name = "IPv4" if family is V4 else "IPv6"
    with pytest.raises(ValueError, match=rf"interface {link.name} \(.*\) has no {name} address: give it one"):
        Receiver(at(family.group, link))


@families
def test_loopback_without_the_multicast_flag_is_good(loopback: Link, family: Family) -> None:
    with Receiver(at(family.group, loopback)) as receiver:
        assert receiver.interface is not None
        assert not receiver.interface.is_multicast


def test_no_route_and_no_interface_is_enetunreach(link: Link, no_socket: None) -> None:
    with pytest.raises(OSError, match=r"no route to 239\.1\.2\.3 \(.*\): name interface=; this host has") as raised:
        Receiver("239.1.2.3:5000")
    assert raised.value.errno == errno.ENETUNREACH


def test_all_interfaces_where_none_is_fit_is_enodev(namespace: Any, no_socket: None) -> None:
    with namespace, pytest.raises(OSError, match='interface="all" finds no interface that is up') as raised:
        Receiver("239.1.2.3:5000", interface="all")
    assert raised.value.errno == errno.ENODEV


@families
def test_a_port_that_another_socket_keeps_for_itself_is_eaddrinuse(loopback: Link, family: Family) -> None:
    with socket.socket(family.number, socket.SOCK_DGRAM) as greedy:
        greedy.bind(("", PORT))
        before = descriptors()
        with pytest.raises(OSError, match=f"bind {re.escape(family.group)} port 5000: ") as raised:
            Receiver(at(family.group, loopback))
        assert raised.value.errno == errno.EADDRINUSE
        assert "`ss -ulpn` names its process" in raised.value.__notes__[0]
        del raised
        assert descriptors() == before


def test_reuse_false_keeps_the_port_for_itself(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback), reuse=False) as receiver:
        with pytest.raises(OSError, match=r"bind 239\.1\.2\.3 port 5000: ") as raised:
            Receiver(at(V4.group, loopback))
        assert raised.value.errno == errno.EADDRINUSE
        with sources(loopback) as (source,):
            source.send(V4.group, b"unharmed")
            assert receive(receiver, 1) == [b"unharmed"]


# Exclusive calls, prepared sockets, callers' memory


def test_of_two_threads_that_receive_one_is_refused(engine: str, loopback: Link) -> None:
    with Receiver(at(V4.group, loopback), engine=engine) as receiver, sources(loopback) as (source,):
        first = Worker(receiver.recv_batch, TIMEOUT)
        first.wait_until_blocked()
        batch = Batch(bytearray(2048))
        text = r"on 239\.1\.2\.3%lo port 5000: another thread is in a call that excludes this one"
        with pytest.raises(RuntimeError, match=f"recv_batch {text}"):
            receiver.recv_batch(0)
        with pytest.raises(RuntimeError, match=f"recv_batch_into {text}"):
            receiver.recv_batch_into(batch)
        with pytest.raises(RuntimeError, match=text):
            next(receiver.datagrams())
        source.send(V4.group, b"for the first")
        assert first.result().payloads() == [b"for the first"]
        source.send(V4.group, b"for whoever comes next")
        assert receiver.recv_batch_into(batch, TIMEOUT) == 1


def _tcp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def _unix() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _unbound() -> socket.socket:
    return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)


def _closed() -> socket.socket:
    sock = plain_socket(socket.AF_INET, port=PORT)
    sock.close()
    return sock


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_tcp, "Receiver.from_socket takes an AF_INET or AF_INET6 socket of type SOCK_DGRAM, not AF_INET SOCK_STREAM"),
        (_unix, "Receiver.from_socket takes an AF_INET or AF_INET6 socket of type SOCK_DGRAM, not AF_UNIX SOCK_DGRAM"),
        (_unbound, "Receiver.from_socket: the socket has no port; bind it first"),
        (_closed, "Receiver.from_socket: the socket is closed"),
    ],
)
def test_a_prepared_socket_that_does_not_serve_is_a_value_error_and_stays_its_owners(
    loopback: Link, make: Any, text: str
) -> None:
    with make() as sock:
        descriptor = sock.fileno()
        with pytest.raises(ValueError, match=re.escape(text)):
            Receiver.from_socket(sock)
        assert sock.fileno() == descriptor


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"metadata": ["ttl"]}, "metadata 'ttl' is not known; known are 'destination', "),
        ({"engine": "fast"}, "engine='fast' is not known; this system has 'auto', "),
        ({"batch_size": 0}, "batch_size=0 is not in 1..1024 datagrams"),
        ({"max_datagram": 0}, "max_datagram=0 is not in 1..65535 bytes"),
        ({"max_memory": 0}, "max_memory=0 is not above 0 bytes"),
    ],
)
def test_wrong_options_leave_a_prepared_socket_as_it_was(loopback: Link, options: Any, text: str) -> None:
    with plain_socket(socket.AF_INET, port=PORT) as sock, sources(loopback) as (source,):
        with pytest.raises(ValueError, match=re.escape(text)):
            Receiver.from_socket(sock, **options)
        source.send(loopback.ipv4, b"unharmed")
        assert sock.recv(100) == b"unharmed"


def test_received_batches_and_other_things_cannot_be_filled(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback)) as receiver, sources(loopback) as (source,):
        source.send(V4.group, b"1", b"2")
        batch = receiver.recv_batch(TIMEOUT)
        with pytest.raises(ValueError, match=r"recv_batch_into needs a batch over memory of yours, Batch\(buffer\)"):
            receiver.recv_batch_into(batch)
        with pytest.raises(TypeError, match="Batch"):
            receiver.recv_batch_into(bytearray(2048))  # type: ignore[arg-type]
        released = Batch(bytearray(2048))
        released.release()
        with pytest.raises(ValueError, match="the batch was released"):
            receiver.recv_batch_into(released)


def test_a_receiver_cannot_be_opened_twice(loopback: Link) -> None:
    """__init__ on an open receiver would lose its socket."""
    before = descriptors()
    with Receiver(at(V4.group, loopback)) as receiver, sources(loopback) as (source,):
        with pytest.raises(RuntimeError, match="twice"):
            receiver.__init__(at(V4.other, loopback))  # type: ignore[misc]
        source.send(V4.group, b"unharmed")
        assert receive(receiver, 1) == [b"unharmed"]
    assert descriptors() == before


def test_a_group_value_is_as_good_as_its_text(loopback: Link) -> None:
    group = Group.parse(at(V4.group, loopback))
    with Receiver(group) as receiver, ReceiverSet([receiver]) as receivers:
        assert str(receivers.receivers[0]) == "239.1.2.3%lo port 5000"
        with pytest.raises(ValueError, match="port is 5000 in the group but 1 in port="):
            Receiver(group, port=1)
