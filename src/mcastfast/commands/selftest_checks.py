"""The checks of `mcastfast selftest`. The first line of what each says of itself is what must hold.

A check returns where it holds, raises CheckError where it does not, and UnsupportedError where the host lacks what it
is about. Whatever else is raised is a failure, too.
"""

from __future__ import annotations

import errno
import importlib.metadata
import socket
import sysconfig
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from mcastfast import ENGINES, UnsupportedError, __version__
from mcastfast.commands.loopback import Loopback, PinnedSender
from mcastfast.commands.selftest_lab import (
    PATIENCE,
    CheckError,
    Lab,
    make_payloads,
    random_groups,
)
from mcastfast.commands.selftest_machine import is_gil_enabled, wine_version
from mcastfast.commands.selftest_traffic import TRAFFIC_CHECKS, delivers_named_sources
from mcastfast.errors import CURRENT, Platform
from mcastfast.requests import Action, request_membership

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


class Check(NamedTuple):
    """A check to be made; version (of IP) and engine are what it is made with: 0 and "" where it is about neither."""

    function: Callable[..., None]
    version: int = 0
    engine: str = ""

    @property
    def key(self) -> str:
        """One word that no other check has."""
        return "-".join(filter(None, (self.function.__name__, f"IPv{self.version}" * bool(self.version), self.engine)))

    @property
    def subject(self) -> str:
        """What it is made with."""
        return f"IPv{self.version} {self.engine}".rstrip() if self.version else "package"

    @property
    def text(self) -> str:
        """What must hold."""
        if self.function.__doc__ is None:  # python -OO
            return self.function.__name__.replace("_", " ").capitalize()
        return self.function.__doc__.partition("\n")[0].removesuffix(".")

    @property
    def opens_family(self) -> bool:
        """Whether the others of this family have no chance where it does not hold."""
        return self.function is reaches_plain_socket

    def make(self) -> None:
        """Make it."""
        if not self.version:
            self.function()
        elif not self.engine:
            self.function(self.version)
        else:
            with Lab(Loopback.find(self.version), self.engine) as lab:
                self.function(lab)


PRIVATE = frozenset({"apple"})
"""Engines by calls that are private to the system, which nobody gets unasked."""


def plan(engines: Collection[str] = ()) -> Iterator[Check]:
    """The checks of this host that need no privileges: for these engines or, where there are none, all but PRIVATE."""
    engines = engines or [engine for engine in ENGINES if engine not in PRIVATE]
    yield Check(is_of_one_version)
    yield Check(leaves_the_gil_off)
    for version in (4, 6):
        yield Check(reaches_plain_socket, version)
        for engine in engines:
            for function in TRAFFIC_CHECKS:
                yield Check(function, version, engine)


def known_cause(check: Check, error: Exception) -> str | None:
    """What the error shows to be missing under Wine, which is not Windows; None where nothing is known."""
    if CURRENT is not Platform.WINDOWS or not isinstance(error, OSError) or not (wine := wine_version()):
        return None
    if error.errno == errno.ENOPROTOOPT:
        return f"Wine {wine} lacks the option"
    if check.function is delivers_named_sources and check.version == 4:
        return f"Wine {wine} hands source and interface of a join to the system in the wrong order"
    return None


# The package


def is_of_one_version() -> None:
    """The package is the one that is installed."""
    try:
        installed = importlib.metadata.version("mcastfast")
    except importlib.metadata.PackageNotFoundError:
        raise UnsupportedError("nothing tells what is installed: the package has no metadata beside it") from None
    if installed != __version__:
        raise CheckError(f"version {__version__} is imported, and {installed} is installed: install it anew")


def leaves_the_gil_off() -> None:
    """Importing mcastfast leaves the GIL off."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise UnsupportedError("this Python always has a GIL")
    if is_gil_enabled():
        raise CheckError("it is on: PYTHON_GIL, -X gil or an extension switched it on")


# The system


def reaches_plain_socket(version: int) -> None:
    """Multicast over the loopback interface reaches a plain socket."""
    try:
        loopback = Loopback.find(version)
    except UnsupportedError as error:
        if version == 4:
            raise CheckError(str(error)) from None
        raise
    group, port = random_groups(version)[0], loopback.free_port()
    (payload,) = make_payloads(100)
    with socket.socket(loopback.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(("", port))
        request_membership(sock, Action.JOIN, ip_address(group), None, loopback.interface)
        with _open_if_routed(group, loopback, port) as sender:
            sender.send(payload)
        try:
            received = sock.recv(200)
        except TimeoutError:
            raise CheckError(
                f"nothing came within {PATIENCE:g} s: does a firewall, a VPN or security software keep multicast from "
                "the loopback interface?"
            ) from None
    if received != payload:
        raise CheckError("something else came than was sent")


def _open_if_routed(group: str, loopback: Loopback, port: int) -> PinnedSender:
    """A sender; UnsupportedError where the system has no route for IPv6 multicast by its loopback interface."""
    try:
        return PinnedSender(group, loopback, port=port)
    except OSError as error:
        if loopback.version == 4 or error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
            raise
        absent = UnsupportedError(str(error))
        for hint in getattr(error, "__notes__", ()):
            absent.add_note(hint)
        raise absent from None
