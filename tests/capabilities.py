"""What a host must offer for some tests, found out by doing.

`@pytest.mark.needs("ffmpeg", "ipv6")` skips a test with the reason where one is missing, and fails it where the
capability is required: named by `--require` or MCASTFAST_REQUIRE (comma-separated; "all" is every one but OPTIONAL), or
CI=true without such a list.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import importlib.util
import mmap
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import netlab

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SO_RCVBUFFORCE = 33

KERNEL_HEADERS = tuple(
    f"/usr/include/{name}" for name in ("linux/in.h", "linux/in6.h", "linux/udp.h", "asm-generic/socket.h")
)
"""Where the numbers of socket options stand."""

refusal: str | None = None
"""Why this process could not move into its own network namespace."""


def _namespaces() -> str | None:
    return refusal and f"no network namespace: {refusal}"


def _ipv6() -> str | None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as trial:
            trial.bind(("::1", 0))
    except OSError as error:
        return f"no IPv6: {error}"
    return None


def _token_bucket() -> str | None:
    if missing := _namespaces():
        return missing
    from pyroute2 import NetlinkError

    with netlab.namespaces(1) as (fresh,):
        try:
            fresh.ip.tc("add", kind="tbf", index=1, handle=0x10000, rate="1gbit", burst=100_000, limit=100_000)
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return "the kernel has no token bucket filter (CONFIG_NET_SCH_TBF)"
            return f"no token bucket filter: {error}"
    return None


def _vlan() -> str | None:
    if missing := _namespaces():
        return missing
    from pyroute2 import NetlinkError

    with netlab.namespaces(1) as (fresh,):
        fresh.ip.link("add", ifname="under", kind="veth", peer="over")
        with fresh:
            index = socket.if_nametoindex("under")
        try:
            fresh.ip.link("add", ifname="under.6", kind="vlan", link=index, vlan_id=6)
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                return "the kernel has no VLAN interfaces (8021q, CONFIG_VLAN_8021Q)"
            return f"no VLAN interface: {error}"
    return None


def _tun() -> str | None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"no TUN device: {error}"
    return None


def _packet_socket() -> str | None:
    if missing := _namespaces():
        return missing
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError as error:
        return f"no packet socket: {error}"
    return None


def _kernel_headers() -> str | None:
    if missing := [name for name in KERNEL_HEADERS if not os.path.exists(name)]:
        return f"no {', '.join(missing)}"
    if os.uname().machine not in {"x86_64", "aarch64", "riscv64"}:
        return f"asm-generic/socket.h is not that of {os.uname().machine}"
    return None


def _forced_buffer() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4096)
        except OSError as error:
            return f"SO_RCVBUFFORCE needs CAP_NET_ADMIN on the host: {error}"
    return None


def _locked_memory() -> str | None:
    """Whether 64 MiB may be locked in memory: mlock(2)."""
    memory = mmap.mmap(-1, 64 << 20)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if ctypes.CDLL(None, use_errno=True).mlock(ctypes.c_void_p(address), ctypes.c_size_t(64 << 20)):
        return f"no 64 MiB may be locked in memory (ulimit -l): {os.strerror(ctypes.get_errno())}"
    return None


def _iperf() -> str | None:
    if missing := _program("iperf"):
        return missing
    answer = subprocess.run(["iperf", "--version"], capture_output=True, text=True, timeout=10, check=False)
    text = answer.stdout + answer.stderr
    return None if text.startswith("iperf version 2") else f"iperf is not version 2: {text.splitlines()[:1]}"


def _sanitizer(name: str) -> str | None:
    """Whether the compiler has the runtime, and whether that knows this kernel's memory layout."""
    if missing := _program("cc"):
        return missing
    environment = {name: text for name, text in os.environ.items() if name not in {"LD_PRELOAD", "ASAN_OPTIONS"}}
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "trial")
        for command in (["cc", f"-fsanitize={name}", "-x", "c", "-o", target, "-"], [target]):
            result = subprocess.run(
                command,
                input="int main(void) { return 0; }",
                capture_output=True,
                text=True,
                env=environment,
                check=False,
            )
            if result.returncode:
                return f"-fsanitize={name}: {result.stderr.strip().splitlines()[:1]}"
    return None


def _program(name: str) -> str | None:
    return None if shutil.which(name) else f"no {name} on PATH"


def _module(name: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"no module {name}"


MINGW = "x86_64-w64-mingw32-gcc"

PROBES: Mapping[str, Callable[[], str | None]] = {
    "namespaces": _namespaces,
    "ipv6": _ipv6,
    "forced_buffer": _forced_buffer,
    "locked_memory": _locked_memory,
    "token_bucket": _token_bucket,
    "tun": _tun,
    "vlan": _vlan,
    "packet_socket": _packet_socket,
    "kernel_headers": _kernel_headers,
    "iperf": _iperf,
    "socat": functools.partial(_program, "socat"),
    "ffmpeg": functools.partial(_program, "ffmpeg"),
    "ffprobe": functools.partial(_program, "ffprobe"),
    "cc": functools.partial(_program, "cc"),
    "mingw": functools.partial(_program, MINGW),
    "asan": functools.partial(_sanitizer, "address,undefined"),
    "tsan": functools.partial(_sanitizer, "thread"),
    "numpy": functools.partial(_module, "numpy"),
    "cibuildwheel": functools.partial(_module, "cibuildwheel"),
    "uvloop": functools.partial(_module, "uvloop"),
}
"""Each capability's probe: None, or the reason why the host lacks it."""


OPTIONAL = frozenset({"vlan"})
"""Capabilities that "all" leaves out, for many kernels are built without; named they are required as any other."""

LINUX_ONLY = frozenset(
    {"forced_buffer", "locked_memory", "token_bucket", "tun", "vlan", "packet_socket", "kernel_headers"}
)
"""Capabilities that only Linux can have, and that its calls find out."""


@functools.cache
def reason_missing(name: str) -> str | None:
    """None where the host has the capability, else why not, which may be that its probe failed."""
    if name in LINUX_ONLY and sys.platform != "linux":
        return f"{name} is Linux'"
    probe = PROBES[name]
    try:
        return probe()
    except Exception as error:
        return f"the probe of {name} failed: {error!r}"


def required(option: str | None, environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """The capabilities that must be there; ValueError for a name that no probe has."""
    text = option if option is not None else environment.get("MCASTFAST_REQUIRE")
    if text is None:
        text = "all" if environment.get("CI") == "true" else ""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if "all" in names:
        return frozenset(PROBES) - OPTIONAL | names - {"all"}
    check_known(names)
    return names


def check_known(names: frozenset[str]) -> None:
    """ValueError for a name that no probe has."""
    if unknown := sorted(names - PROBES.keys()):
        raise ValueError(f"unknown capability: {', '.join(unknown)}; known: all, {', '.join(PROBES)}")
