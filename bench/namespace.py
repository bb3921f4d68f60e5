"""A network for the measurements alone: no traffic but what the benchmarks send, on loopback or to a second network."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import getpass
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

LOOPBACK_INDEX = 1  # in every network namespace

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCADDRT = 0x890B
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 10
_IFF_UP = 1
_IFF_MULTICAST = 0x1000
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
        os.environ.setdefault("LOGNAME", getpass.getuser())  # so that temporary directories keep the user's name
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        # Root there, as whom programs that it starts keep what it may: a packet ring is open to the peers too.
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    _route_ipv6_multicast()


def can_open_packet_socket() -> bool:
    """Return whether a packet ring can be had here (CAP_NET_RAW)."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError:
        return False
    return True


class Remote:
    """A second host: a network namespace at the other end of a veth pair. This end is veth0, 10.77.0.1.

    What has to happen there runs in a thread that stays there: a socket belongs to the namespace where it was opened,
    and a process to that of the thread that started it.
    """

    here = "veth0"
    address_here = "10.77.0.1"
    there = "veth1"
    address_there = "10.77.0.2"

    def __init__(self) -> None:
        from pyroute2 import IPRoute

        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="remote")
        self._descriptor = self.run(_enter_another_network)
        with IPRoute() as ip:
            peer = {"ifname": self.there, "net_ns_fd": self._descriptor}
            ip.link("add", ifname=self.here, kind="veth", peer=peer)
        _raise_up(self.here, self.address_here)
        self.run(lambda: _raise_up(self.there, self.address_there))
        self.run(lambda: _wait_for_carrier(self.there))
        _wait_for_carrier(self.here)

    def run(self, function: Callable[[], Result]) -> Result:
        """Return what the function gives there."""
        return self._thread.submit(function).result()

    def sender(self, group: str, port: int) -> socket.socket:
        """Return a socket there that is connected to the group."""

        def opened() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            request = struct.pack("4s4si", b"", socket.inet_aton(self.address_there), socket.if_nametoindex(self.there))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
            sock.connect((group, port))
            return sock

        return self.run(opened)

    def close(self) -> None:
        """End the thread; the pair goes with the namespace, when its last socket has gone."""
        self._thread.shutdown()
        os.close(self._descriptor)


def _enter_another_network() -> int:
    _unshare(_CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _raise_up(name: str, address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, text in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, "255.255.255.0")):
            value = struct.pack("=H2x4s8x", socket.AF_INET, socket.inet_aton(text))
            fcntl.ioctl(control, request, struct.pack("16s16s8x", name.encode(), value))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), _IFF_UP | _IFF_MULTICAST))


def _wait_for_carrier(name: str) -> None:
    # Until the kernel's link watcher has run, an interface whose peer came up later drops everything in silence. Asking
    # for the link state makes the kernel do that work before it answers.
    value = array.array("I", [_ETHTOOL_GLINK, 0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), value.buffer_info()[0]))
    if not value[1]:
        raise OSError(errno.ENETDOWN, f"{name}: no carrier although both ends are up")


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
