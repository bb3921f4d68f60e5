"""Wrong arguments on the sending side: one clear error each, nothing sent, no descriptor leaked (conftest checks)."""

from __future__ import annotations

import array
import errno
import re
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from receivelab import FAMILIES, V4, V6, Family, at, family_name, plain_socket
from sendlab import sent

from mcastfast import Receiver, Sender
from mcastfast.options import SEGMENT, set_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

ELEMENTS = "payloads.view('u1').reshape(len(payloads), -1) makes one of each element"
FORMS = "send_batch takes an iterable of bytes-like objects, a Batch or a 2-D array, not "
HOST = "this host has lo (127.0.0.1/8, ::1/128)"
IFF_MULTICAST = 0x1000
UDP_SEGMENT = 103


@pytest.fixture(params=FAMILIES, ids=family_name)
def sender(request: pytest.FixtureRequest, loopback: netlab.Link, engine: str) -> Iterator[Sender]:
    """A sender over lo, which has sent nothing when the test is over."""
    with Sender(at(request.param.group, loopback), engine=engine) as sender:
        yield sender
        assert set(sender.stats) == {0}


# Opening


@pytest.fixture
def no_sockets(loopback: netlab.Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes opening a socket an AssertionError."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("there must be no socket yet")

    monkeypatch.setattr(socket, "socket", refuse)


IPV4 = "239.1.2.3:5000"
IPV6 = "[ff15::1]:5000"


@pytest.mark.parametrize(
    ("group", "keywords", "kind", "text"),
    [
        ("239.1.2.3", {}, ValueError, "a destination needs a port; write 239.1.2.3%lo:5000 or pass port="),
        ("239.1.2.3:0", {}, ValueError, "port 0 is not in 1 to 65535"),
        ("239.1.2.3:70000", {}, ValueError, "port 70000 is not in 1 to 65535"),
        (IPV4, {"port": 5001}, ValueError, "port is 5000 in the group but 5001 in port=; give it once"),
        ("239.1.2.3%eth9:5000", {}, ValueError, "interface is eth9 in the group but lo in interface=; give it once"),
        ("10.0.0.1:5000", {}, ValueError, "10.0.0.1 is not a multicast address (224.0.0.0/4 or ff00::/8); for unicast"),
        ("[fd00::1]:5000", {}, ValueError, "fd00::1 is not a multicast address"),
        ("239.1.2.3.4:5000", {}, ValueError, "group address '239.1.2.3.4' is not an IPv4 or IPv6 address"),
        ("udp://239.1.2.3:5000?ttl=4", {}, ValueError, "the query '?ttl=4' in the text is not read; pass ttl="),
        ("10.0.0.1@232.1.2.3:5000", {}, ValueError, "a destination has no source; write it without"),
        ("232.0.0.0:5000", {}, ValueError, "232.0.0.0 is not a usable source-specific group (RFC 4607)"),
        (5000, {}, TypeError, "a group is a text such as '239.1.2.3:5000', not int"),
        (IPV4, {"ttl": -1}, ValueError, "TTL or hop limit of multicast must be from 0 to 255, not -1"),
        (IPV4, {"ttl": 256}, ValueError, "TTL or hop limit of multicast must be from 0 to 255, not 256"),
        (IPV6, {"ttl": 256}, ValueError, "TTL or hop limit of multicast must be from 0 to 255, not 256"),
        (IPV4, {"ttl": "4"}, TypeError, "ttl='4' is not a whole number from 0 to 255"),
        (IPV4, {"ttl": True}, TypeError, "ttl=True is not a whole number from 0 to 255"),
        (IPV4, {"ttl": None}, TypeError, "ttl=None is not a whole number from 0 to 255"),
        (IPV4, {"traffic_class": "EF"}, TypeError, "traffic_class='EF' is not a whole number from 0 to 255"),
        (IPV4, {"loopback": "no"}, TypeError, "loopback is True, False or None, not 'no'"),
        (IPV4, {"segment": "no"}, TypeError, "segment is True, False or None, not 'no'"),
        (IPV4, {"fragment": "no"}, TypeError, "fragment is True or False, not 'no'"),
        (IPV4, {"strict": None}, TypeError, "strict is True or False, not None"),
        ("ff15::1:5000", {}, ValueError, "or pass port=; if 5000 is the port: [ff15::1%lo]:5000"),
        (IPV4, {"traffic_class": 256}, ValueError, "traffic class must be from 0 to 255, not 256"),
        (IPV4, {"send_buffer": "1"}, ValueError, "send_buffer='1' is not a size: write bytes, or text like "),
        (IPV4, {"send_buffer": 0}, ValueError, "send buffer must be from 1 to 2147483647, not 0"),
        (IPV4, {"timeout": -1}, ValueError, "timeout=-1 is not a positive number of seconds, 0 or None"),
        (IPV4, {"timeout": float("nan")}, ValueError, "timeout=nan is not a positive number of seconds"),
        (IPV4, {"timeout": 1e10}, OverflowError, "timeout=10000000000.0 is too large; None waits for ever"),
        (IPV4, {"timeout": "1"}, TypeError, "timeout='1' is not a number of seconds, 0 or None"),
        (IPV4, {"engine": "warp"}, ValueError, "engine='warp' is not known; this system has 'auto', 'socket', "),
        (IPV4, {"local": "::1"}, ValueError, "local='::1' is of another family than the group"),
        (IPV6, {"local": "127.0.0.1"}, ValueError, "local='127.0.0.1' is of another family than the group"),
        (IPV4, {"local": "239.1.2.4"}, ValueError, "local='239.1.2.4' is a multicast address"),
        (IPV4, {"local": "localhost"}, ValueError, "local address 'localhost' is not an IPv4 or IPv6 address"),
        (IPV4, {"local": ("127.0.0.1", 65536)}, ValueError, "65536): the port is not in 0 to 65535"),
        (IPV4, {"local": ("127.0.0.1", "80")}, TypeError, "local=('127.0.0.1', '80') is neither an address nor (addr"),
        (IPV4, {"local": 5353}, TypeError, "local=5353 is neither an address nor (address, port), such as ('0.0"),
        (IPV6, {"local": ("", 5353)}, TypeError, "local=('', 5353) is neither an address nor (address, port), such "),
        (IPV4, {"local": ("127.0.0.1",)}, TypeError, "an IPv4Address or an IPv6Address, not tuple"),
        (IPV4, {"interface": "eth9"}, ValueError, f"unknown interface 'eth9': {HOST}"),
        (IPV4, {"interface": "all"}, ValueError, f'interface="all" stands for several interfaces: name one; {HOST}'),
        (IPV4, {"interface": 99}, ValueError, f"unknown interface 99: {HOST}"),
        (IPV4, {"interface": 1.5}, TypeError, "an address or an Interface, not float"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused_before_there_is_a_socket(
    no_sockets: None, group: str, keywords: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        Sender(group, **{"interface": "lo"} | keywords)


def test_a_port_is_not_a_second_argument(no_sockets: None) -> None:
    with pytest.raises(TypeError, match=r"Sender\('239.1.2.3', 5000\): .* as in '239.1.2.3:5000', or in port="):
        Sender("239.1.2.3", 5000, interface="lo")  # type: ignore[arg-type]


def test_too_many_descriptors_name_the_limit(loopback: netlab.Link, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    for kind in (Sender, Receiver):
        with pytest.raises(OSError, match="open an IPv4 socket: Too many open files") as caught:
            kind(IPV4, interface="lo")
        assert caught.value.errno == errno.EMFILE
        assert "`ulimit -n`" in caught.value.__notes__[0]


def test_a_missing_group_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="group"):
        Sender()  # type: ignore[call-arg]


def test_an_interface_that_is_down_is_refused(lan: netlab.Lan) -> None:
    link = lan.sender
    link.namespace.ip.link("set", index=link.index, state="down")
    for family in FAMILIES:
        with link.namespace, pytest.raises(OSError, match=rf"interface {link.name} is down: ip link set dev") as caught:
            Sender(at(family.group, link))
        assert caught.value.errno == errno.ENETDOWN


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_an_interface_without_multicast_is_refused(lan: netlab.Lan, family: Family) -> None:
    link = lan.sender
    link.namespace.ip.link("set", index=link.index, flags=0, mask=IFF_MULTICAST)
    text = (
        rf"interface {link.name} \(.*\) lacks multicast: switch it on \(ip link set dev {link.name} multicast on\) or"
    )
    with link.namespace, pytest.raises(ValueError, match=text):
        Sender(at(family.group, link))


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_loopback_without_the_multicast_flag_is_good(loopback: netlab.Link, family: Family, engine: str) -> None:
    with Sender(at(family.group, loopback), engine=engine) as sender:
        assert sender.interface is not None
        assert not sender.interface.is_multicast
        sender.send(b"payload")
        assert sender.stats.datagrams == 1


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_an_interface_without_an_address_of_the_family_is_refused(lan: netlab.Lan, family: Family) -> None:
    link = lan.sender
    addresses, prefix = ([link.ipv4], 24) if family is V4 else ([link.ipv6, link.link_local], 64)
    for address in addresses:
        link.namespace.ip.addr("del", index=link.index, address=address, prefixlen=prefix)
    name, command = ("IPv4", "ip") if family is V4 else ("IPv6", "ip -6")
    text = (
        rf"interface {link.name} \(.*\) has no {name} address: give it one \({command} address add .* dev {link.name}"
    )
    with link.namespace, pytest.raises(ValueError, match=text):
        Sender(at(family.group, link))


def test_an_address_that_is_not_of_this_host_is_refused(loopback: netlab.Link) -> None:
    for family, local in ((V4, "192.0.2.1"), (V6, "2001:db8::1")):
        with pytest.raises(OSError, match=rf"bind {local} port 0: Cannot assign requested address") as caught:
            Sender(at(family.group, loopback), local=local)
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert "nor an address of this host" in caught.value.__notes__[0]
        assert caught.value.__notes__[-1] == f"For local=: {HOST}."


def test_a_port_that_is_taken_is_refused(loopback: netlab.Link) -> None:
    with (
        plain_socket(socket.AF_INET, port=5999, host="127.0.0.1"),
        pytest.raises(OSError, match=r"bind 127.0.0.1 port 5999: Address already in use") as caught,
    ):
        Sender(at(V4.group, loopback), local=("127.0.0.1", 5999))
    assert caught.value.errno == errno.EADDRINUSE
    (note,) = caught.value.__notes__
    assert "share it with reuse=True, as the other socket must, too" in note


def test_without_a_route_ipv4_needs_an_interface(namespace: netlab.Namespace) -> None:
    with namespace, pytest.raises(OSError, match=r"no route to 239.1.2.3 \(.*\): name interface=; this host") as caught:
        Sender("239.1.2.3:5000")
    assert caught.value.errno == errno.ENETUNREACH


def test_without_a_route_ipv6_is_refused_with_a_note(namespace: netlab.Namespace) -> None:
    with namespace:
        with pytest.raises(OSError, match=r"no route to ff15::1:3 \(.*\): name interface=; this host has") as caught:
            Sender("[ff15::1:3]:5000")
        assert caught.value.errno == errno.ENETUNREACH
        with pytest.raises(OSError, match=r"send to ff15::1:3%lo: Network is unreachable") as caught:
            Sender("[ff15::1:3%lo]:5000")
        assert caught.value.errno == errno.ENETUNREACH
        assert "route" in caught.value.__notes__[0]


# Payloads


@pytest.mark.parametrize("payload", ["text", 5, None, ["list"]])
def test_send_refuses_what_is_not_bytes_like(sender: Sender, payload: Any) -> None:
    with pytest.raises(TypeError, match=rf"send takes a bytes-like object, not {type(payload).__name__}"):
        sender.send(payload)


def test_send_refuses_what_is_not_contiguous(sender: Sender) -> None:
    with pytest.raises(BufferError, match="not C-contiguous"):
        sender.send(memoryview(b"abcdef")[::2])


@pytest.mark.parametrize(
    ("payloads", "got"),
    [
        ("text", "str"),
        (5, "int"),
        (None, "NoneType"),
        (b"bytes", "bytes with ndim=1; send() sends one payload"),
        (bytearray(b"bytes"), "bytearray with ndim=1; send() sends one payload"),
        (memoryview(b"bytes"), "memoryview with ndim=1; send() sends one payload"),
        (
            array.array("I", [1, 2]),
            "array with ndim=1; send() sends one payload, " + ELEMENTS,
        ),
        (np.zeros(4, "u1"), "ndarray with ndim=1; send() sends one payload"),
        (
            np.zeros(4, "u4,u8"),
            "ndarray with ndim=1; send() sends one payload, " + ELEMENTS,
        ),
        (np.zeros((2, 3, 4), "u1"), "ndarray with ndim=3; send() sends one payload"),
        (np.array(5), "ndarray with ndim=0; send() sends one payload"),
    ],
)
def test_send_batch_refuses_what_is_no_batch(sender: Sender, payloads: Any, got: str) -> None:
    with pytest.raises(TypeError, match=re.escape(FORMS + got) + "$"):
        sender.send_batch(payloads)


@pytest.mark.parametrize(
    ("payloads", "kind", "text"),
    [
        ([b"good", "text"], TypeError, "send_batch: payload 1: a bytes-like object is required, not 'str'"),
        ([b"good", b"good", 5], TypeError, "send_batch: payload 2: a bytes-like object is required, not 'int'"),
        ([[b"nested"]], TypeError, "send_batch: payload 0: a bytes-like object is required, not 'list'"),
        ([b"good", memoryview(b"abcdef")[::2]], BufferError, "send_batch: payload 1: memoryview: underlying"),
        ([b"good", np.zeros(6, "u1")[::2]], ValueError, "send_batch: payload 1: ndarray is not C-contiguous"),
        (np.zeros((4, 6), "u1")[:, ::2], ValueError, "send_batch needs a C-contiguous array: ndarray is not"),
        (np.zeros((4, 6), "u1").T, ValueError, "send_batch needs a C-contiguous array: ndarray is not C-contiguous"),
        (np.zeros((4, 6), "u1")[::2], ValueError, "send_batch needs a C-contiguous array: ndarray is not C-contiguous"),
        (memoryview(bytes(12)).cast("B", (3, 4))[::2], ValueError, "send_batch needs a C-contiguous array: memoryview"),
        (np.zeros((2, 2), "M8[s],O"), ValueError, "send_batch needs a C-contiguous array: cannot include dtype 'M'"),
        (np.zeros((4, 2), "M8[s]")[::2], ValueError, "send_batch needs a C-contiguous array: ndarray is not C-cont"),
        ([np.zeros(4, "M8[s],O")], ValueError, "send_batch: payload 0: cannot include dtype 'M'"),
        (np.zeros((2, 2), object), ValueError, "send_batch: the array holds Python objects, which no datagram can"),
        (np.zeros((2, 2), [("a", "u1"), ("b", [("c", "O")])]), ValueError, "the array holds Python objects"),
        ([b"good", np.zeros(2, object)], ValueError, "send_batch: payload 1: an array of Python objects, which no"),
    ],
)  # fmt: skip
def test_a_wrong_payload_is_named_and_nothing_is_sent(
    sender: Sender, payloads: Any, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        sender.send_batch(payloads)


def test_objects_are_no_payload(sender: Sender) -> None:
    with pytest.raises(ValueError, match=r"^send: an array of Python objects, which no datagram carries; use a plain"):
        sender.send(np.zeros(2, object))


def test_an_iterable_that_fails_is_not_masked(sender: Sender) -> None:
    def broken() -> Iterator[bytes]:
        yield b"good"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        sender.send_batch(broken())


@pytest.mark.parametrize(
    ("lengths", "kind", "text"),
    [
        ([1, 2], ValueError, "send_batch: 2 lengths for 3 rows"),
        ([1, 2, 3, 4], ValueError, "send_batch: 4 lengths for 3 rows"),
        ([], ValueError, "send_batch: 0 lengths for 3 rows"),
        ([1, -1, 1], ValueError, "send_batch: lengths[1]=-1 is not in 0..8, the length of a row"),
        ([8, 8, 9], ValueError, "send_batch: lengths[2]=9 is not in 0..8, the length of a row"),
        ([1, 2**80, 1], ValueError, f"send_batch: lengths[1]={2**80} is not in 0..8, the length of a row"),
        ([1, 1.0, 1], TypeError, "'float' object cannot be interpreted as an integer"),
        ([1, "1", 1], TypeError, "'str' object cannot be interpreted as an integer"),
        (5, TypeError, "send_batch: lengths= takes an iterable of whole numbers, not int"),
        ("123", TypeError, "send_batch: lengths= takes an iterable of whole numbers, not str"),
    ],
)
def test_wrong_lengths_are_refused(sender: Sender, lengths: Any, kind: type[Exception], text: str) -> None:
    table: Any = np.zeros((3, 2), "u4")
    with pytest.raises(kind, match=re.escape(text)):
        sender.send_batch(table, lengths)


@pytest.mark.parametrize(
    "payloads", [[b"one"], (b"one",), iter([b"one"]), "text"], ids=["list", "tuple", "iterator", "str"]
)
def test_lengths_go_with_arrays_only(sender: Sender, payloads: Any) -> None:
    with pytest.raises(TypeError, match="lengths= goes with a 2-D array; slice the payloads instead"):
        sender.send_batch(payloads, [1])


def too_large(family: Family) -> int:
    return 65508 if family is V4 else 65528


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_payloads_over_the_limit_are_refused_before_anything_is_sent(
    loopback: netlab.Link, family: Family, engine: str
) -> None:
    size = too_large(family)
    row: Any = np.zeros((2, size), "u1")
    limit = f"are too many, a datagram carries at most {size - 1}"
    with Sender(at(family.group, loopback), engine=engine) as sender:
        for call, text in (
            (lambda: sender.send(bytes(size)), f"send on {sender}: {size} bytes {limit}"),
            (
                lambda: sender.send_batch([b"good", bytes(size)]),
                f"send_batch on {sender}: {size} bytes (payload 1) {limit}",
            ),
            (
                lambda: sender.send_batch([b"good", bytearray(size)]),
                f"send_batch on {sender}: {size} bytes (payload 1) {limit}",
            ),
            (lambda: sender.send_batch(row), f"send_batch on {sender}: {size} bytes (a row) {limit}"),
            (
                lambda: sender.send_batch(row, [1, size]),
                f"send_batch on {sender}: {size} bytes (row 1) {limit}",
            ),
        ):
            with pytest.raises(OSError, match=re.escape(text)) as caught:
                call()
            assert (caught.value.errno, sent(caught.value)) == (errno.EMSGSIZE, 0)
        assert set(sender.stats) == {0}
        assert sender.send_batch(row, [size - 1, 0]) == 2


# Prepared sockets


def test_an_ipv6_socket_that_sends_ipv4_has_the_limit_of_ipv4(loopback: netlab.Link, engine: str) -> None:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.connect(("::ffff:127.0.0.1", 5000))
    with Sender.from_socket(sock, engine=engine) as sender:
        with pytest.raises(OSError, match="a datagram carries at most 65507") as caught:
            sender.send_batch([b"good", bytes(65_508)])
        assert (caught.value.errno, sent(caught.value)) == (errno.EMSGSIZE, 0)
        assert sender.stats.datagrams == 0


@pytest.mark.parametrize(
    ("family", "kind", "text"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, "AF_INET SOCK_STREAM"),
        (socket.AF_INET6, socket.SOCK_STREAM, "AF_INET6 SOCK_STREAM"),
        (getattr(socket, "AF_UNIX", socket.AF_INET), socket.SOCK_STREAM, "AF_UNIX SOCK_STREAM|AF_INET SOCK_STREAM"),
    ],
)
def test_a_socket_of_the_wrong_kind_is_refused(
    isolated: None, family: socket.AddressFamily, kind: socket.SocketKind, text: str
) -> None:
    taken = f"Sender.from_socket takes an AF_INET or AF_INET6 socket of type SOCK_DGRAM, not {text}"
    with socket.socket(family, kind) as sock:
        with pytest.raises(ValueError, match=taken):
            Sender.from_socket(sock)
        assert sock.fileno() >= 0


def test_a_socket_that_is_not_connected_is_refused(isolated: None) -> None:
    for family in FAMILIES:
        with (
            plain_socket(family.number) as sock,
            pytest.raises(ValueError, match=r"Sender\.from_socket: the socket is not connected; connect it first"),
        ):
            Sender.from_socket(sock)


@pytest.mark.parametrize("segment", [None, False, True])
@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_a_socket_that_cuts_what_it_sends_is_refused(isolated: None, family: Family, segment: bool | None) -> None:
    with plain_socket(family.number) as sock:
        sock.connect(("127.0.0.1" if family is V4 else "::1", 9))
        set_option(sock, SEGMENT, 100)
        with pytest.raises(
            ValueError, match=r"the socket cuts .* datagrams of 100 bytes \(UDP_SEGMENT\), .* off: send"
        ):
            Sender.from_socket(sock, segment=segment)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        assert Sender.from_socket(sock, segment=segment).detach() is sock


def test_a_closed_socket_is_refused(isolated: None) -> None:
    sock = plain_socket(socket.AF_INET)
    sock.close()
    with pytest.raises(ValueError, match=r"Sender\.from_socket: the socket is closed"):
        Sender.from_socket(sock)


def test_what_is_not_a_socket_is_refused() -> None:
    for value in (5, None, "239.1.2.3:5000"):
        with pytest.raises(TypeError, match=rf"from_socket takes a socket.socket, not {type(value).__name__}"):
            Sender.from_socket(value)  # type: ignore[arg-type]


def test_wrong_options_leave_the_socket_to_its_owner(isolated: None) -> None:
    with plain_socket(socket.AF_INET) as sock:
        sock.connect(("127.0.0.1", 9))
        with pytest.raises(ValueError, match="engine='warp' is not known"):
            Sender.from_socket(sock, engine="warp")
        with pytest.raises(ValueError, match="timeout=-2 is not a positive number"):
            Sender.from_socket(sock, timeout=-2)
        assert sock.fileno() >= 0
