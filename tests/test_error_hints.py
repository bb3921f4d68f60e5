"""Errors keep their number and class, say what was tried, and name cause and remedy where they are known."""

from __future__ import annotations

import errno
import os
import re
import socket

import pytest

from mcastfast import errors
from mcastfast.errors import Operation, Platform, hints, os_error, sysctl

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6
LINUX, WINDOWS, MACOS = Platform.LINUX, Platform.WINDOWS, Platform.MACOS


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def test_text_carries_number_call_operands_and_the_systems_words() -> None:
    error = os_error(Operation.JOIN, "239.1.2.3 on eth0", OSError(errno.ENODEV, "No such device"))
    assert str(error) == "[Errno 19] join 239.1.2.3 on eth0: No such device"
    assert (error.errno, error.strerror) == (19, "join 239.1.2.3 on eth0: No such device")


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EPERM, PermissionError), (errno.EAGAIN, BlockingIOError), (errno.ETIMEDOUT, TimeoutError)],
)
def test_class_follows_the_number(code: int, kind: type[OSError]) -> None:
    assert type(os_error(Operation.SEND, "3 octets to 239.1.2.3", code)) is kind


def test_bare_number_gets_the_systems_words() -> None:
    assert str(os_error(Operation.BIND, "239.1.2.3", errno.EADDRINUSE)).endswith(os.strerror(errno.EADDRINUSE))


def test_reason_stands_in_place_of_words_and_notes() -> None:
    error = os_error(Operation.BIND, "239.1.2.3:5000", errno.EADDRINUSE, reason="already bound")
    assert str(error) == f"[Errno {errno.EADDRINUSE}] bind 239.1.2.3:5000: already bound"
    assert notes(error) == ""


def test_error_without_number_keeps_its_words() -> None:
    assert "bind x: timed out" in str(os_error(Operation.BIND, "x", OSError("timed out")))


@pytest.mark.parametrize(
    ("operation", "code", "platform", "family", "words"),
    [
        (
            Operation.JOIN,
            errno.ENOBUFS,
            LINUX,
            IPV4,
            ["net.ipv4.igmp_max_memberships = 20", "net.ipv4.igmp_max_msf = 10", "net.core.optmem_max = "],
        ),
        (Operation.BLOCK, errno.ENOBUFS, LINUX, IPV4, ["net.ipv4.igmp_max_msf = 10", "net.core.optmem_max = "]),
        (Operation.JOIN, errno.ENOBUFS, LINUX, IPV6, ["net.ipv6.mld_max_msf", "net.core.optmem_max = "]),
        (Operation.JOIN, errno.ENOMEM, LINUX, IPV6, ["net.core.optmem_max = "]),
        (Operation.JOIN, errno.ENODEV, LINUX, IPV4, ["The interface is gone"]),
        (Operation.JOIN, 10049, WINDOWS, IPV4, ["169.254", "interface="]),
        (Operation.JOIN, 10022, WINDOWS, IPV6, ["169.254", "interface="]),
        (Operation.JOIN, 22, WINDOWS, IPV6, ["169.254", "interface="]),
        (Operation.JOIN, 49, MACOS, IPV4, ["interface="]),
        (Operation.JOIN, 59, MACOS, IPV4, ["4095"]),
        (Operation.BIND, errno.EADDRINUSE, LINUX, IPV4, ["SO_REUSEADDR", "ss -ulpn"]),
        (Operation.BIND, 48, MACOS, IPV4, ["SO_REUSEPORT"]),
        (Operation.BIND, 10048, WINDOWS, IPV4, ["SO_REUSEADDR"]),
        (Operation.BIND, 10049, WINDOWS, IPV4, ['bind="any"']),
        (Operation.BIND, errno.EACCES, LINUX, IPV4, ["net.ipv4.ip_unprivileged_port_start = "]),
        (Operation.BIND, errno.EADDRNOTAVAIL, LINUX, IPV4, ["nor an address of this host"]),
        (Operation.SEND, errno.ENETUNREACH, LINUX, IPV4, ["No route", "may be down or gone"]),
        (Operation.SEND, errno.EHOSTUNREACH, LINUX, IPV6, ["No route", "ip -6 route add local ff00::/8 dev lo"]),
        (Operation.SEND, 65, MACOS, IPV4, ["No route", "Local Network"]),
        (Operation.SEND, 10051, WINDOWS, IPV4, ["No route", "start the receiver first"]),
        (Operation.SEND, errno.ENETDOWN, LINUX, IPV4, ["is down"]),
        (Operation.SEND, errno.EADDRNOTAVAIL, LINUX, IPV6, ["tentative", "Try again", "`ip -6 address`"]),
        (Operation.BIND, errno.EADDRNOTAVAIL, LINUX, IPV6, ["nor an address of this host", "tentative"]),
        (Operation.RECEIVE, errno.ENETDOWN, LINUX, IPV4, ["interface of the ring is down or gone"]),
        (Operation.RESERVE, errno.ENOMEM, LINUX, IPV4, ["lower the size"]),
        (Operation.LOCK, errno.ENOMEM, LINUX, IPV4, ["RLIMIT_MEMLOCK", "CAP_IPC_LOCK"]),
        (Operation.SEND, errno.EPERM, LINUX, IPV4, ["firewall"]),
        (Operation.SEND, errno.EMSGSIZE, LINUX, IPV4, ["65507", "fragment=False"]),
        (Operation.OPEN, errno.EMFILE, LINUX, IPV4, ["ulimit -n"]),
        (Operation.START, errno.EMFILE, LINUX, IPV4, ["ulimit -n"]),
        (Operation.SEND, errno.ENOBUFS, LINUX, IPV4, ["queue of the device is full", "on this host may have it"]),
        (Operation.SET, errno.EPERM, LINUX, IPV4, ["CAP_NET_ADMIN"]),
        (Operation.SET, errno.ENOPROTOOPT, LINUX, IPV4, ["kernel is older"]),
        (Operation.SET, errno.EADDRNOTAVAIL, LINUX, IPV4, ["egress interface"]),
        (Operation.SET, 55, MACOS, IPV4, ["kern.ipc.maxsockbuf"]),
    ],
)
def test_hint_names_cause_and_remedy(
    operation: Operation, code: int, platform: Platform, family: int, words: list[str]
) -> None:
    text = "\n".join(hints(operation, code, family=family, platform=platform))
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("operation", "code", "family"),
    [
        (Operation.LEAVE, errno.ENOBUFS, IPV4),
        (Operation.BLOCK, errno.ENODEV + 1000, IPV4),
        (Operation.SEND, errno.EIO, IPV4),
    ],
)
def test_what_is_not_known_gets_no_note(operation: Operation, code: int, family: int) -> None:
    assert notes(os_error(operation, "x", code, family=family)) == ""


def test_family_narrows_the_hint() -> None:
    ipv4 = list(hints(Operation.JOIN, errno.ENOBUFS, family=IPV4, platform=LINUX))
    ipv6 = list(hints(Operation.JOIN, errno.ENOBUFS, family=IPV6, platform=LINUX))
    assert len(ipv4) == len(ipv6) == 1
    assert ipv4 != ipv6
    assert list(hints(Operation.JOIN, errno.ENOBUFS, platform=LINUX)) == ipv4 + ipv6


def test_every_hint_can_come_up() -> None:
    """A hint whose words match no operation, code or platform would never be shown."""
    codes = {platform: set(names.values()) for platform, names in errors._CODES.items()}
    for hint in errors._HINTS:
        assert set(hint.operations.split()) <= set(Operation), hint
        for platform in hint.platforms.split():
            assert set(hint.codes.split()) <= codes[Platform(platform)], hint


def test_sysctl_is_read_anew_each_time() -> None:
    with open("/proc/sys/net/ipv4/igmp_max_memberships") as file:
        assert sysctl("net.ipv4.igmp_max_memberships") == file.read().strip()
    assert sysctl("net.no.such_thing") == "not shown here"


def test_remedies_name_keywords_that_exist() -> None:
    import inspect

    import mcastfast

    keywords = {name for kind in (mcastfast.Receiver, mcastfast.Sender) for name in inspect.signature(kind).parameters}
    named = {name for hint in errors._HINTS for name in re.findall(r"\b([a-z_]+)=(?:[.:\"]|True|False|,|$)", hint.text)}
    assert named
    assert named <= keywords
