"""Network namespaces for tests: a private one for the whole process, and further ones as objects.

Nothing here needs root or a mount: an ordinary user gets the same from an unprivileged user namespace
(user_namespaces(7)), and further namespaces are held by descriptors, not by names under /run/netns.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import getpass
import os
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pyroute2 import IPRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
LOOPBACK_INDEX = 1  # in every network namespace

_RT_TABLE_LOCAL = 255
_RTN_LOCAL = 2
_IFA_F_NODAD = 2
_ADDR_GEN_MODE_NONE = 1
_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 10
_ETHTOOL_SET = {"GRO": 0x2C, "TSO": 0x1F}

# poll and ppoll: x86-64, arm64 and riscv64, i386 and arm.
_POLL = {"7", "271", "73", "168", "309", "336"}

_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_QUIET = {"router_solicitations": "0", "force_mld_version": "1", "mldv1_unsolicited_report_interval": "3600000"}
"""What keeps an interface from sending by itself once it is up: whatever processor the kernel does that on takes along
what tests have queued there, and delivers it out of order. (MLDv1 reports as it joins, MLDv2 a while later.)"""
_libc = ctypes.CDLL(None, use_errno=True)  # os.unshare and os.setns exist from Python 3.12 only


def unshare(flags: int) -> None:
    """Move the calling thread (CLONE_NEWUSER: the process) into new namespaces; OSError as unshare(2) gives it."""
    if _libc.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, f"unshare({flags:#x}): {os.strerror(code)}")


def setns(descriptor: int) -> None:
    """Move the calling thread into the network namespace that the descriptor holds; OSError as setns(2) gives it."""
    if _libc.setns(descriptor, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns({descriptor}): {os.strerror(code)}")


def enter_private_network() -> None:
    """Move this process into a fresh network namespace whose lo is up, so that the host's interfaces are out of reach.

    Root (also the root of a user namespace) needs only the network namespace. An ordinary user gets a user namespace
    around it and is root inside; the kernel allows that to a process without further threads only. OSError says why
    not, and then nothing has changed.
    """
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            reason = f"an ordinary user gets a namespace in a process of one thread; this has {threads}"
            raise OSError(errno.EPERM, reason) from None
        # A system may grant the namespace and refuse what belongs to it (AppArmor does): a child finds out first.
        _in_child(enter_user_namespace)
        enter_user_namespace()
    else:
        _loopback_up()


def enter_user_namespace() -> None:
    """Become root of a new user namespace with a network of its own; OSError where the system refuses."""
    uid, gid = os.geteuid(), os.getegid()
    os.environ.setdefault("LOGNAME", getpass.getuser())  # so that temporary directories keep the user's name
    unshare(CLONE_NEWUSER | CLONE_NEWNET)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    _loopback_up()


def _in_child(function: Callable[[], None]) -> None:
    """Call the function in a forked child; its OSError is raised here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        report = ""
        try:
            function()
        except OSError as error:
            report = f"{error.errno} {error.strerror or error}"
        except BaseException as error:
            report = f"{errno.EIO} {error!r}"
        finally:
            os.write(writer, report.encode())
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        report = pipe.read()
    os.waitpid(pid, 0)
    if report:
        code, _, text = report.partition(" ")
        raise OSError(int(code), text)


def _loopback_up() -> None:
    with IPRoute() as ip:
        ip.link("set", index=LOOPBACK_INDEX, state="up")


class _Entered(threading.local):
    """The namespaces that this thread came from, outermost first."""

    def __init__(self) -> None:
        self.origins: list[int] = []


_entered = _Entered()


class Namespace:
    """A fresh network namespace with lo up.

    `with namespace:` moves the calling thread in and back out, also after an exception; it nests, and several threads
    may be inside. Sockets opened inside stay there, subprocesses started inside inherit it. It lives until close() and
    until the last socket and process in it have gone.
    """

    def __init__(self) -> None:
        opened: list[int] = []
        failures: list[OSError] = []

        def create() -> None:
            try:
                unshare(CLONE_NEWNET)
                opened.append(os.open(_OWN_NAMESPACE, os.O_RDONLY))
            except OSError as error:
                failures.append(error)

        # A thread that ends in the new namespace never has to find its way back.
        thread = threading.Thread(target=create, name="new-namespace")
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        self._descriptor = opened[0]
        self._interfaces = 0
        with self:
            self._ip = IPRoute()
        self._ip_thread = threading.get_ident()
        self.ip.link("set", index=LOOPBACK_INDEX, state="up")

    @property
    def ip(self) -> Any:
        """The IPRoute of this namespace, for the thread that made the namespace (IPRoute opens a socket per thread)."""
        if threading.get_ident() != self._ip_thread:
            raise RuntimeError("Namespace.ip: belongs to the thread that made the namespace")
        return self._ip

    def fileno(self) -> int:
        """The descriptor that holds the namespace."""
        return self._descriptor

    def __enter__(self) -> Self:
        origin = os.open(_OWN_NAMESPACE, os.O_RDONLY)
        try:
            setns(self._descriptor)
        except OSError:
            os.close(origin)
            raise
        _entered.origins.append(origin)
        return self

    def __exit__(self, *_: object) -> None:
        origin = _entered.origins.pop()
        try:
            setns(origin)
        finally:
            os.close(origin)

    def close(self) -> None:
        """Let go of the namespace; a second close does nothing."""
        if self._descriptor >= 0:
            self._ip.close()
            os.close(self._descriptor)
            self._descriptor = -1

    def next_interface_name(self) -> str:
        """A name that no interface of this namespace has had: veth0, veth1, ..."""
        name = f"veth{self._interfaces}"
        self._interfaces += 1
        return name

    def proc(self, name: str) -> str:
        """The text of /proc/net/<name> as seen inside: "udp", "igmp", "mcfilter6", ..."""
        with self, open(f"/proc/thread-self/net/{name}") as file:
            return file.read()

    def counter(self, protocol: str, name: str) -> int:
        """One of the host's statistics for IPv4: "Udp", "NoPorts"."""
        names, values = (line.split() for line in self.proc("snmp").splitlines() if line.startswith(f"{protocol}:"))
        return int(values[names.index(name)])

    def counter6(self, name: str) -> int:
        """One for IPv6: "Udp6NoPorts"."""
        return int(dict(line.split() for line in self.proc("snmp6").splitlines())[name])


@dataclass(frozen=True, slots=True)
class Link:
    """An interface with one address of each kind; `ipv6` is a unique local address, `link_local` has no zone."""

    namespace: Namespace
    name: str
    index: int
    ipv4: str
    ipv6: str
    link_local: str

    def route_multicast(self) -> None:
        """Make this the interface of groups for which a program names none (224.0.0.0/4 and ff00::/8)."""
        ip = self.namespace.ip
        ip.route("add", dst="224.0.0.0/4", oif=self.index, prefsrc=self.ipv4, scope="link")
        if self.index == LOOPBACK_INDEX:  # other interfaces have the IPv6 route from the start
            # Of type local: over lo, a datagram that leaves by a unicast or multicast route finds no way in.
            ip.route(
                "add", family=socket.AF_INET6, dst="ff00::/8", oif=self.index, table=_RT_TABLE_LOCAL, type=_RTN_LOCAL
            )


class Lan(NamedTuple):
    """Two hosts on one network."""

    receiver: Link
    sender: Link


class Lan3(NamedTuple):
    """A receiver and two sources on one network: what SSM is tested on."""

    receiver: Link
    first: Link
    second: Link


def loopback(namespace: Namespace) -> Link:
    """The namespace's lo, as it is on a fresh machine: without a route for multicast."""
    return Link(namespace, "lo", LOOPBACK_INDEX, "127.0.0.1", "::1", "")


def connect(a: Namespace, b: Namespace, *, subnet: int = 1, mtu: int = 1500) -> tuple[Link, Link]:
    """Join two namespaces by a veth pair, which carries traffic at once.

    The first has 10.77.<subnet>.1, fd77:<subnet>::1 and fe80::1, the second .2 and ::2.
    """
    names = _veth(a, b, mtu)
    _raise_up(a, names[0])
    _raise_up(b, names[1])
    links = (_address(a, names[0], subnet, 1), _address(b, names[1], subnet, 2))
    for link in links:
        _wait_for_carrier(link.namespace, link.name)
    return links


def join_by_switch(switch: Namespace, hosts: Sequence[Namespace], *, subnet: int = 1, mtu: int = 1500) -> list[Link]:
    """Join namespaces by a bridge that floods (no snooping, no spanning tree), addressed as connect() does."""
    switch.ip.link("add", ifname="br0", kind="bridge", br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0)
    bridge = _index_of(switch, "br0")
    switch.ip.link("set", index=bridge, state="up")
    links = []
    ports = []
    for number, host in enumerate(hosts, 1):
        name, port = _veth(host, switch, mtu)
        switch.ip.link("set", index=_index_of(switch, port), master=bridge)
        _raise_up(switch, port)
        _raise_up(host, name)
        links.append(_address(host, name, subnet, number))
        ports.append(port)
    for link, port in zip(links, ports, strict=True):
        _wait_for_carrier(link.namespace, link.name)
        _wait_for_carrier(switch, port)
    return links


def _veth(a: Namespace, b: Namespace, mtu: int) -> tuple[str, str]:
    names = (a.next_interface_name(), b.next_interface_name())
    a.ip.link(
        "add",
        ifname=names[0],
        kind="veth",
        mtu=mtu,
        peer={"ifname": names[1], "mtu": mtu, "net_ns_fd": b.fileno()},
    )
    return names


def _raise_up(namespace: Namespace, name: str) -> None:
    # The kernel's own link-local address would be tentative for seconds: _address gives one without that wait.
    no_automatic_address = {"attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE]]}]]}
    index = _index_of(namespace, name)
    namespace.ip.link("set", index=index, IFLA_AF_SPEC=no_automatic_address)
    # Where /proc/sys is read-only, as in some containers, one test in a thousand may meet such a report.
    with namespace, contextlib.suppress(OSError):
        for setting, value in _QUIET.items():
            with open(f"/proc/sys/net/ipv6/conf/{name}/{setting}", "w") as file:
                file.write(value)
    namespace.ip.link("set", index=index, state="up")


def _address(namespace: Namespace, name: str, subnet: int, number: int) -> Link:
    index = _index_of(namespace, name)
    link = Link(namespace, name, index, f"10.77.{subnet}.{number}", f"fd77:{subnet}::{number}", f"fe80::{number}")
    namespace.ip.addr("add", index=index, address=link.ipv4, prefixlen=24)
    for address in (link.ipv6, link.link_local):
        namespace.ip.addr("add", index=index, address=address, prefixlen=64, flags=_IFA_F_NODAD)
    # The kernel joins the group of neighbour solicitations, and reports it, a moment later: once for each address.
    joined = re.compile(rf"^{index}\s+{name}\s+ff0200000000000000000001ff{number:06x}\s+2\s", re.MULTILINE)
    wait_until(lambda: joined.search(namespace.proc("igmp6")), what=f"{name}: neighbour solicitations are heard")
    return link


def _index_of(namespace: Namespace, name: str) -> int:
    with namespace:
        return socket.if_nametoindex(name)


def _wait_for_carrier(namespace: Namespace, name: str) -> None:
    """Return when the interface passes datagrams.

    Until the kernel's link watcher has run, an interface whose peer came up later drops everything in silence.
    Asking ethtool for the link state makes the kernel do that work before it answers.
    """
    if not _ethtool(namespace, name, _ETHTOOL_GLINK, 0):
        raise OSError(errno.ENETDOWN, f"{name}: no carrier although both ends are up")


def _ethtool(namespace: Namespace, name: str, command: int, value: int) -> int:
    """Make a request of linux/ethtool.h that carries one value, and return what that is afterwards."""
    request = array.array("I", [command, value])
    with namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), request.buffer_info()[0]))
    return request[1]


def set_offload(link: Link, name: str, *, on: bool) -> None:
    """Switch what ethtool(8) calls "gro" or "tso"."""
    _ethtool(link.namespace, link.name, _ETHTOOL_SET[name], int(on))


def throttle(link: Link, rate: str, *, burst: int, limit: int) -> None:
    """Make the link's queue a token bucket, tc-tbf(8): up to `limit` bytes wait, what finds no room is dropped."""
    link.namespace.ip.tc("replace", kind="tbf", index=link.index, handle=0x10000, rate=rate, burst=burst, limit=limit)


def descriptors() -> dict[str, str]:
    """What this process has open, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed the directory
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


def is_asleep(task: str) -> bool:
    """Whether the thread of this /proc directory sleeps in a system call other than waiting for a lock (the GIL)."""
    with open(f"{task}/stat") as stat, open(f"{task}/wchan") as channel:
        return stat.read().rpartition(")")[2].split()[0] == "S" and not channel.read().startswith("futex")


def is_blocked(thread: threading.Thread) -> Callable[[], bool]:
    """A question to be asked until the answer is yes: whether the thread, which has begun, sleeps in the kernel."""
    return lambda: is_asleep(f"/proc/self/task/{thread.native_id}")


def in_poll(thread: threading.Thread) -> Callable[[], bool]:
    """The same for a thread that waits for sockets: it is in poll(2) or ppoll(2)."""

    def look() -> bool:
        with open(f"/proc/self/task/{thread.native_id}/syscall") as file:
            return file.read().split()[0] in _POLL

    return look


def require_signals() -> None:
    """Skip a test of handlers that run in the middle of a call where the system has no signals; here it has."""


def egress(link: Link) -> bytes:
    """What IP_MULTICAST_IF takes: a struct ip_mreqn."""
    return bytes(4) + socket.inet_aton(link.ipv4) + struct.pack("=i", link.index)


def join_request(group: str, index: int) -> bytes:
    """What IP_ADD_MEMBERSHIP takes: a struct ip_mreqn."""
    return socket.inet_aton(group) + struct.pack("=4xi", index)


def source_behind(link: Link) -> Any:
    """None: every link is in a namespace that tests can enter; see hostlab."""


def receiver_behind(link: Link, group: str, **options: Any) -> Any:
    """None, as source_behind()."""


def receiving_first(lan: Lan) -> tuple[Link, Link]:
    """The link on which a test of senders receives, and the one on which it sends."""
    return lan


def scaled(count: int) -> int:
    """How many datagrams a test sends that sends many; see hostlab."""
    return count


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Keep this process on one processor."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def wait_until(predicate: Callable[[], object], timeout: float = 10.0, *, what: str = "") -> None:
    """Return when the predicate holds; TimeoutError after `timeout` seconds. For states that other processes reach."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what or predicate}")
        time.sleep(0.002)


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many fresh namespaces, closed in the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Namespace())) for _ in range(count)]


@contextlib.contextmanager
def lan() -> Iterator[Lan]:
    """Two namespaces joined by a veth pair, IPv4 and IPv6."""
    with namespaces(2) as (receiver, sender):
        yield Lan(*connect(receiver, sender))


@contextlib.contextmanager
def lan3() -> Iterator[Lan3]:
    """A receiver and two sources, each in its namespace, on one network of IPv4 and IPv6."""
    with namespaces(4) as (switch, *hosts):
        yield Lan3(*join_by_switch(switch, hosts))
