"""A network for the measurements alone: no interface but its own loopback, no traffic but what the benchmarks send."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

LOOPBACK_INDEX = 1  # in every network namespace

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCADDRT = 0x890B
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_RTN_MULTICAST = 5
_RTF_UP = 1
_RTF_LOCAL = 0x80000000


def enter_private_network() -> None:
    """Move this process into a fresh network namespace whose lo is up and takes multicast of both families.

    An ordinary user gets a user namespace around it (user_namespaces(7)), which the kernel gives only to a process that
    has one thread. OSError says why there is none.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWNET)
    except PermissionError:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    _route_ipv6_multicast()


def _route_ipv6_multicast() -> None:
    # IPv4 multicast needs no route when the interface is given; IPv6 does, and over a loopback device the kernel makes
    # every route that is not "local" unreachable. The request is a struct in6_rtmsg.
    destination = socket.inet_pton(socket.AF_INET6, "ff00::")
    flags = _RTF_UP | _RTF_LOCAL
    request = struct.pack("@16s32xI2HILIi", destination, _RTN_MULTICAST, 8, 0, 1, 0, flags, LOOPBACK_INDEX)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCADDRT, request)


def _unshare(flags: int) -> None:
    # os.unshare exists from Python 3.12 only.
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, f"unshare({flags:#x}): {os.strerror(code)}")
