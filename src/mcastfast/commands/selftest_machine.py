"""What `mcastfast selftest` tells of the machine: what decides how mcastfast behaves, and nothing of whose it is.

It is imported where the extension cannot be, too.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.metadata
import os
import platform
import re
import sys
import sysconfig
from ipaddress import ip_address, ip_network
from pathlib import Path

from mcastfast import __version__
from mcastfast.errors import CURRENT, Platform

_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])")
_FOLDERS = re.compile(r"(?:[A-Za-z]:)?[\\/](?:[^\s:;,\"'<>()\\/]+[\\/])+(?!\d+\b)")
_LISTING = re.compile(r"this host has .*")
_RESERVED = [ip_network(text) for text in ("192.0.2.0/24", "2001:db8::/32")]


def describe_machine() -> dict[str, str]:
    """Each fact by its name."""
    from mcastfast import _core

    return {
        "mcastfast": f"{_package()}, compiled by {_core.COMPILER}",
        "python": _python(),
        "system": _system(),
        "processors": str(os.cpu_count()),
        "engines": _core.listed_engines(),
        "interfaces": _interfaces(),
    }


def describe_without_extension() -> dict[str, str]:
    """The same, as far as it can be told where mcastfast._core cannot be imported."""
    folder = Path(__file__).parent.parent
    found = sorted(path.name for path in folder.glob("_core.*") if path.suffix in (".so", ".pyd"))
    return {
        "mcastfast": f"{_package()}, extension: {', '.join(found) or 'none'}",
        "python": _python(),
        "system": _system(),
    }


def anonymous(text: str) -> str:
    """The text without addresses of this host and its network, lists of interfaces, and folders."""
    text = _LISTING.sub("this host has others", text)
    return _FOLDERS.sub("", _ADDRESS.sub(_hide_address, text))


def _hide_address(match: re.Match[str]) -> str:
    try:
        address = ip_address(match[0])
    except ValueError:
        return match[0]
    is_nobodys = any(address in network for network in _RESERVED)
    return match[0] if address.is_loopback or address.is_multicast or is_nobodys else "(an address)"


def _package() -> str:
    return f"{__version__}, {', '.join(_wheel_tags()) or 'no wheel'}"


def _wheel_tags() -> list[str]:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        text = importlib.metadata.distribution("mcastfast").read_text("WHEEL") or ""
        return re.findall(r"^Tag: (\S+)", text, re.MULTILINE)
    return []


def _python() -> str:
    abi = importlib.machinery.EXTENSION_SUFFIXES[0].strip(".").rpartition(".")[0]
    threads = "free-threaded, " if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    gil = "on" if is_gil_enabled() else "off"
    return f"{platform.python_implementation()} {platform.python_version()}, {abi}, {threads}GIL {gil}"


def is_gil_enabled() -> bool:
    """Whether threads take turns in this process."""
    ask = getattr(sys, "_is_gil_enabled", None)
    return ask is None or bool(ask())


def _system() -> str:
    parts = {Platform.LINUX: _linux, Platform.MACOS: _macos, Platform.WINDOWS: _windows}[CURRENT]()
    return ", ".join([*filter(None, parts), sysconfig.get_platform()])


def _linux() -> list[str]:
    kernel = platform.uname()
    distribution = ""
    with contextlib.suppress(OSError):
        distribution = platform.freedesktop_os_release()["PRETTY_NAME"]
    return [f"Linux {kernel.release} {kernel.machine}", distribution, " ".join(platform.libc_ver())]


def _macos() -> list[str]:
    kernel = platform.uname()
    return [f"macOS {platform.mac_ver()[0]}", f"Darwin {kernel.release} {kernel.machine}"]


def _windows() -> list[str]:
    version = getattr(sys, "getwindowsversion")()  # noqa: B009 # of Windows alone
    wine = wine_version()
    return [
        f"Windows {version.major}.{version.minor}.{version.build}",
        f"Wine {wine}, which is not Windows" if wine else "",
    ]


@functools.cache
def wine_version() -> str:
    """The version of the Wine that this process runs on, "" where it runs on none."""
    import ctypes

    libraries = getattr(ctypes, "windll", None)
    ask = getattr(libraries.ntdll, "wine_get_version", None) if libraries else None
    if ask is None:
        return ""
    ask.restype = ctypes.c_char_p
    return str(ask().decode())


def _interfaces() -> str:
    from mcastfast import interfaces

    found = interfaces()
    texts = [f"{len(found)}, {sum(interface.is_up for interface in found)} of them up"]
    for interface in found:
        if interface.is_loopback:
            versions = sorted({f"IPv{address.version}" for address in interface.addresses})
            state = "up" if interface.is_up else "down"
            texts.append(f"loopback {state} with MTU {interface.mtu}, {' and '.join(versions) or 'no address'}")
    return "; ".join(texts)
