"""What is refused before a socket is touched, and what an error of the system says."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from mcastfast import options
from mcastfast.errors import Platform, UnsupportedError
from mcastfast.options import Option
from mcastfast.packing import Egress, PathMtu

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        (options.MULTICAST_HOPS, 256, "TTL or hop limit of multicast must be from 0 to 255, not 256"),
        (options.MULTICAST_HOPS, -1, "TTL or hop limit of multicast must be from 0 to 255, not -1"),
        (options.TOS, 300, "type of service or traffic class must be from 0 to 255, not 300"),
        (options.RECEIVE_BUFFER, 0, "receive buffer must be from 1 to 2147483647, not 0"),
        (options.SEND_BUFFER, 2**31, "send buffer must be from 1 to 2147483647, not 2147483648"),
        (options.BOUND_INTERFACE, -1, "binding to an interface must be from 0 to 2147483647, not -1"),
        (options.BOUND_DEVICE, "a-name-of-16-oct", "must be the name of an interface, 1 to 15 octets"),
        (options.BOUND_DEVICE, "", "must be the name of an interface, 1 to 15 octets"),
        (options.PATH_MTU_DISCOVERY, "never", "must be one of dont, want, do, probe on linux, not never"),
        (options.PATH_MTU, 1500, r"\(IP_MTU\) can only be read"),
    ],
)
def test_value_that_the_option_cannot_hold_is_a_value_error(option: Option[Any], value: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        option.pack(value, IPV4, Platform.LINUX)


def test_number_that_is_text_is_a_type_error() -> None:
    text: Any = "1"
    with pytest.raises(TypeError):
        options.MULTICAST_HOPS.pack(text, IPV4)


@pytest.mark.parametrize("value", [PathMtu.WANT, PathMtu.PROBE])
def test_macos_only_fragments_or_does_not(value: PathMtu) -> None:
    with pytest.raises(ValueError, match=f"path-MTU discovery must be one of dont, do on macos, not {value}"):
        options.PATH_MTU_DISCOVERY.pack(value, IPV6, Platform.MACOS)


@pytest.mark.parametrize("name", [name for name, value in vars(options).items() if isinstance(value, Option)])
def test_option_that_a_system_lacks_says_what_serves_instead(name: str) -> None:
    option: Option[Any] = getattr(options, name)
    for platform in Platform:
        families = [IPV6] if name == "V6ONLY" else [IPV4, IPV6]
        for family in families:
            if not option.supported(family, platform):
                with pytest.raises(UnsupportedError, match=f"{option.role} .* on {platform}: ."):
                    option.place(family, platform)


def test_unsupported_is_raised_before_the_socket_is_touched() -> None:
    with socket.socket(IPV4, socket.SOCK_DGRAM) as sock:
        with pytest.raises(UnsupportedError, match="IPv6 only is not available for IPv4"):
            options.set_option(sock, options.V6ONLY, True)
        with pytest.raises(UnsupportedError, match="IPv6 only is not available for IPv4"):
            options.get_option(sock, options.V6ONLY)


def test_error_names_option_value_and_remedy_and_keeps_its_number(namespace: Any) -> None:
    with namespace, socket.socket(IPV4, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="set IP_MULTICAST_IF to interface 999: ") as caught:
            options.set_option(sock, options.EGRESS, Egress(999))
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert "The egress interface is gone" in caught.value.__notes__[0]


def test_error_of_a_closed_socket_names_the_option() -> None:
    sock = socket.socket(IPV4, socket.SOCK_DGRAM)
    sock.close()
    with pytest.raises(OSError, match="set IP_MULTICAST_TTL to 1: Bad file descriptor") as caught:
        options.set_option(sock, options.MULTICAST_HOPS, 1)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="get IP_MULTICAST_TTL: Bad file descriptor"):
        options.get_option(sock, options.MULTICAST_HOPS)


def test_reading_the_path_mtu_of_an_unconnected_socket_is_an_error_of_the_system() -> None:
    with socket.socket(IPV4, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="get IP_MTU: ") as caught:
            options.get_option(sock, options.PATH_MTU)
        assert caught.value.errno == errno.ENOTCONN
