"""Errors that say what was tried and what to do: one function makes them, one table knows the remedies."""

from __future__ import annotations

import errno
import socket
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Platform(StrEnum):
    """The systems whose socket options and error codes are known."""

    LINUX = "linux"
    WINDOWS = "windows"
    MACOS = "macos"


class UnsupportedError(NotImplementedError):
    """The system lacks what was asked for; the text names the system and the alternative."""


def _current_platform(name: str) -> Platform:
    known = {"linux": Platform.LINUX, "win32": Platform.WINDOWS, "darwin": Platform.MACOS}
    try:
        return known[name]
    except KeyError:
        raise UnsupportedError(f"socket options of {name} are not known: use Linux, Windows or macOS") from None


CURRENT = _current_platform(sys.platform)
"""The system that this process runs on."""


class Operation(StrEnum):
    """What was tried: the first word of the error's text and, with the code, the key of its hint."""

    JOIN = "join"
    LEAVE = "leave"
    BLOCK = "block"
    UNBLOCK = "unblock"
    BIND = "bind"
    SEND = "send"
    SET = "set"
    GET = "get"
    START = "start"
    OPEN = "open"
    RESERVE = "reserve"
    LOCK = "lock"
    RECEIVE = "receive"


def os_error(
    operation: Operation,
    operands: str,
    error: OSError | int,
    *,
    reason: str = "",
    family: int | None = None,
    platform: Platform = CURRENT,
) -> OSError:
    """An OSError of the same code whose text carries the call: `[Errno 19] join 239.1.2.3 on eth0: No such device`.

    `error` is what the system raised or a bare code. Where its cause and remedy are known, a note (`__notes__`) names
    them, a sysctl with its present value; `family` (AF_INET, AF_INET6) narrows the choice. A caller that knows more
    than the code says gives `reason`: it stands in place of the system's words and of the note.
    """
    if isinstance(error, int):
        from mcastfast._core import system_error

        error = system_error(error)
    code = error.errno or 0
    text = f"{operation} {operands}: {reason or error.strerror or error}"
    winerror: int | None = getattr(error, "winerror", None)
    made = OSError(code, text) if winerror is None else OSError(code, text, None, winerror)
    if not reason:
        for note in hints(operation, code, family=family, platform=platform):
            made.add_note(note)
    return made


def hints(operation: Operation, code: int, *, family: int | None = None, platform: Platform = CURRENT) -> Iterator[str]:
    """The notes for an error code of `platform`, each a cause and its remedy."""
    name = _CODES[platform].get(code)
    for hint in _HINTS:
        if (
            name in hint.codes.split()
            and operation in hint.operations.split()
            and platform in hint.platforms.split()
            and family in (None, hint.family or family)
        ):
            yield hint.text % _SYSCTLS


def sysctl(name: str) -> str:
    """The present value of a Linux sysctl as text; `not shown here` where it cannot be read, as in some namespaces."""
    from pathlib import Path

    try:
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        return "not shown here"


class _Sysctls(dict[str, str]):
    """What `%(net.core.rmem_max)s` in a hint is looked up in: `net.core.rmem_max = 212992`, read at that moment."""

    def __missing__(self, name: str) -> str:
        return f"{name} = {sysctl(name)}"


_SYSCTLS = _Sysctls()

# Codes by platform, so that the hints of every system can be tested on any.
_CODES: dict[Platform, dict[int, str]] = {
    Platform.LINUX: {
        getattr(errno, name): name
        for name in (
            "EACCES", "EADDRINUSE", "EADDRNOTAVAIL", "EAGAIN", "EHOSTUNREACH", "EINVAL", "EMFILE", "EMSGSIZE",
            "ENETDOWN", "ENETUNREACH", "ENOBUFS", "ENODEV", "ENOMEM", "ENOPROTOOPT", "EPERM",
        )
    },
    Platform.WINDOWS: {
        13: "EACCES", 22: "EINVAL",  # what Python makes of 10013 and 10022
        1: "EPERM", 12: "ENOMEM",  # of <errno.h>: memory, threads
        10013: "EACCES", 10022: "EINVAL", 10040: "EMSGSIZE", 10048: "EADDRINUSE", 10049: "EADDRNOTAVAIL",
        10050: "ENETDOWN", 10051: "ENETUNREACH", 10055: "ENOBUFS", 10065: "EHOSTUNREACH",
    },
    Platform.MACOS: {
        1: "EPERM", 6: "ENXIO", 12: "ENOMEM", 13: "EACCES", 24: "EMFILE", 40: "EMSGSIZE", 45: "ENOTSUP",
        48: "EADDRINUSE", 49: "EADDRNOTAVAIL", 50: "ENETDOWN", 51: "ENETUNREACH", 55: "ENOBUFS", 59: "ETOOMANYREFS",
        65: "EHOSTUNREACH",
    },
}  # fmt: skip


class _Hint(NamedTuple):
    """A cause with its remedy, and when it holds: any of the words of each of the first three."""

    operations: str
    codes: str
    platforms: str
    text: str
    family: int | None = None


_ANYWHERE = "linux windows macos"

_HINTS = (
    # Joining: ip(7), Documentation/networking/ip-sysctl
    _Hint(
        "join", "ENOBUFS", "linux",
        "The kernel limits the groups of a socket (%(net.ipv4.igmp_max_memberships)s), the sources of a group "
        "(%(net.ipv4.igmp_max_msf)s) and their memory (%(net.core.optmem_max)s): raise the one that is exceeded, with "
        "sysctl -w net.ipv4.igmp_max_memberships=200 or sysctl -w net.ipv4.igmp_max_msf=100 for example, or spread "
        "groups and sources over several receivers.",
        socket.AF_INET,
    ),
    _Hint(
        "block", "ENOBUFS", "linux",
        "The kernel limits the sources of a group (%(net.ipv4.igmp_max_msf)s) and their memory "
        "(%(net.core.optmem_max)s): raise the one that is exceeded, for example with "
        "sysctl -w net.ipv4.igmp_max_msf=100, or join the sources that are wanted instead of blocking the others.",
        socket.AF_INET,
    ),
    _Hint(
        "join block", "ENOBUFS", "linux",
        "The kernel limits the sources of a group (%(net.ipv6.mld_max_msf)s) and their memory "
        "(%(net.core.optmem_max)s): raise the one that is exceeded, for example with "
        "sysctl -w net.ipv6.mld_max_msf=256.",
        socket.AF_INET6,
    ),
    _Hint(
        "join block", "ENOMEM", "linux",
        "The memberships of a socket share a limited memory (%(net.core.optmem_max)s octets): raise it, for example "
        "with sysctl -w net.core.optmem_max=1048576, or spread the groups over several receivers.",
    ),
    _Hint(
        "join block unblock", "ENODEV", "linux",
        "The interface is gone: `mcastfast interfaces` lists those of this host.",
    ),
    _Hint(
        "join", "EADDRNOTAVAIL EINVAL", "windows",
        "The adapter is gone, or refuses multicast, as disconnected and virtual ones do (address 169.254.x.x): choose "
        "a connected one with interface=.",
    ),
    _Hint(
        "join", "EADDRNOTAVAIL ENXIO", "macos",
        "The interface has no address of the group's family, or is gone: choose another with interface=.",
    ),
    _Hint(
        "join", "ETOOMANYREFS", "macos",
        "A socket can join 4095 groups: spread them over several receivers.",
    ),
    # Binding
    _Hint(
        "bind", "EADDRINUSE", "linux",
        "Another socket holds the port and does not share it (SO_REUSEADDR): `ss -ulpn` names its process. "
        "Both sides must set reuse=True.",
    ),
    _Hint(
        "bind", "EADDRINUSE", "macos",
        "Another socket holds the port and does not share it (SO_REUSEADDR and SO_REUSEPORT): `lsof -nP -iUDP` names "
        "its process. Both sides must set reuse=True.",
    ),
    _Hint(
        "bind", "EADDRINUSE EACCES", "windows",
        "Another socket holds the port and does not share it (SO_REUSEADDR), or asked for exclusive use: "
        "`netstat -abp udp` names its process.",
    ),
    _Hint(
        "bind", "EACCES", "linux",
        "Ports below %(net.ipv4.ip_unprivileged_port_start)s are for privileged programs: choose a higher port or "
        "grant CAP_NET_BIND_SERVICE.",
    ),
    _Hint(
        "bind", "EADDRNOTAVAIL", "linux macos",
        "The address is neither a multicast group nor an address of this host.",
    ),
    _Hint(
        "bind", "EADDRNOTAVAIL", "windows",
        'The address is not one of this host. A group is none: bind="any" filters by destination instead.',
    ),
    # Sending
    _Hint(
        "send", "ENETUNREACH EHOSTUNREACH", _ANYWHERE,
        "No route leads there by that interface: it may be down or gone (`mcastfast interfaces` shows it), or lack a "
        "route, as Linux' lo does for IPv6 multicast (`ip -6 route add local ff00::/8 dev lo table local`).",
    ),
    _Hint(
        "send", "ENETUNREACH", "windows",
        "By the loopback interface Windows sends nothing before somebody on this host has joined a group there: start "
        "the receiver first.",
    ),
    _Hint(
        "send", "EHOSTUNREACH", "macos",
        "macOS 15 and later also answer so where Local Network access is denied: allow it in System Settings, "
        "Privacy & Security.",
    ),
    _Hint(
        "send bind", "EADDRNOTAVAIL", "linux",
        "For a second or two after an interface came up its IPv6 addresses are tentative: duplicates are looked for, "
        "and nothing is sent from them. Try again then; `ip -6 address` shows it.",
        socket.AF_INET6,
    ),
    _Hint(
        "send", "ENETDOWN", _ANYWHERE,
        "The interface is down: switch it on or choose another with interface=.",
    ),
    _Hint(
        "send", "EPERM", "linux",
        "A firewall rule for outgoing packets refuses it: see `nft list ruleset` or `iptables -S OUTPUT`.",
    ),
    _Hint(
        "send", "EMSGSIZE", _ANYWHERE,
        "The payload is over the limit of UDP (65507 octets with IPv4, 65527 with IPv6) or, with fragment=False, over "
        "the MTU of the path: send less at once or allow fragments.",
    ),
    _Hint(
        "send", "EMSGSIZE", "macos",
        "The send buffer limits a datagram too (9216 octets by default): raise it.",
    ),
    _Hint(
        "send", "ENOBUFS", _ANYWHERE,
        "The queue of the device is full (or the send buffer too small for a fragmented payload) and the datagram is "
        "dropped: send slower, or lengthen the queue "
        "(Linux: `ip link set dev NAME txqueuelen N`; its drops: `tc -s qdisc`). Receivers on this host may have it "
        "all the same, by loopback.",
    ),
    _Hint(
        "send", "ENOBUFS", "macos",
        "Or it is queued, and the device asks for a pause: macOS does not tell which. The socket is writable again "
        "when there is room.",
    ),
    # Threads: sched(7), pthread_create(3)
    _Hint(
        "start", "EPERM", "linux",
        "A real-time priority needs CAP_SYS_NICE, or a limit of at least that on RLIMIT_RTPRIO (`ulimit -r`): "
        "leave out priority= to run as other threads do.",
    ),
    _Hint(
        "start", "EINVAL", "windows",
        "None of cpus= is a processor of this host, or they belong to several groups of 64 processors.",
    ),
    _Hint(
        "start", "EINVAL", "linux",
        "None of cpus= is a processor that this process may use: os.sched_getaffinity(0) shows which are, "
        "unless a container's cpuset says otherwise.",
    ),
    _Hint(
        "start", "EAGAIN", "linux",
        "The limit on threads is reached: RLIMIT_NPROC (`ulimit -u`), or pids.max of the cgroup.",
    ),
    _Hint(
        "start", "ENOTSUP", "macos",
        "macOS does not confine threads to processors: leave cpus= out.",
    ),
    # Sockets: socket(2)
    _Hint(
        "open start", "EMFILE", "linux macos",
        "This process has as many descriptors open as it may: close some, or raise the limit (`ulimit -n`).",
    ),
    # The packet ring: packet(7)
    _Hint(
        "open", "ENOMEM", "linux",
        "The kernel cannot spare that much memory: give a smaller ring=.",
    ),
    _Hint(
        "open", "ENODEV", "linux",
        "The interface is gone: `mcastfast interfaces` lists those of this host.",
    ),
    _Hint(
        "receive", "ENETDOWN", "linux",
        "The interface of the ring is down or gone (`mcastfast interfaces` shows it): one that is switched on again is "
        "heard again, one that was made again with the same index once its groups are left and joined; for another one "
        "open another Receiver.",
    ),
    # Memory: mlock(2)
    _Hint(
        "reserve", "ENOMEM", _ANYWHERE,
        "The system cannot spare that much memory at once: lower the size (max_memory=, background=, ring=), or leave "
        "memory= out, and memory is taken as it is used.",
    ),
    _Hint(
        "lock", "ENOMEM EPERM EAGAIN", "linux",
        "memory=\"lock\" takes no more than RLIMIT_MEMLOCK (`ulimit -l`) without CAP_IPC_LOCK: lower the size "
        "(max_memory=, background=, ring=), or raise the limit.",
    ),
    _Hint(
        "lock", "ENOMEM EPERM", "windows",
        "memory=\"lock\" needs a working set of that size, which takes SeIncreaseWorkingSetPrivilege and free memory: "
        "lower the size.",
    ),
    # Options: socket(7)
    _Hint(
        "set", "EPERM", "linux",
        "The option needs a privilege: CAP_NET_ADMIN for forced buffers and busy polling, CAP_NET_RAW for moving a "
        "socket from one device to another.",
    ),
    _Hint(
        "set get", "ENOPROTOOPT", "linux",
        "This kernel is older than the option: IPV6_MULTICAST_ALL came with Linux 4.20, SO_BINDTOIFINDEX with 5.1.",
    ),
    _Hint(
        "set", "ENODEV", "linux",
        "There is no such interface: `mcastfast interfaces` lists those of this host.",
    ),
    _Hint(
        "set", "EADDRNOTAVAIL", "linux",
        "The egress interface is gone, or the address is not its own.",
    ),
    _Hint(
        "set", "ENOBUFS", "macos",
        "The size is over kern.ipc.maxsockbuf: raise it with sysctl -w kern.ipc.maxsockbuf=N.",
    ),
)  # fmt: skip
