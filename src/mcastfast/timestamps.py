"""Timestamps of network devices: which interfaces give them, and what to do about those that do not."""

from __future__ import annotations

import errno
import os
import warnings
from typing import TYPE_CHECKING

from mcastfast._core import interface_stamps
from mcastfast.interface import Interface, interfaces
from mcastfast.options import BOUND_DEVICE, get_option
from mcastfast.sockets import host_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable


class KernelTimestampWarning(RuntimeWarning):
    """Datagrams from an interface carry the kernel's timestamps though the device's were asked for; says why."""


def warn_of_kernel_timestamps(interfaces: Iterable[Interface]) -> None:
    """A KernelTimestampWarning, for who called the caller, of each interface that does not stamp every datagram."""
    for interface in interfaces:
        if reason := _obstacle(interface):
            warnings.warn(
                f'metadata "hardware_timestamp": {interface} {reason}; its datagrams carry the kernel\'s timestamps',
                KernelTimestampWarning,
                stacklevel=3,
            )


def arrival_interfaces(sock: socket.socket) -> tuple[Interface, ...]:
    """The interfaces by which datagrams may come to a bound socket, whatever it has joined.

    That is the device that it is bound to; loopback, if it is bound to such an address or there is nothing else; or
    every one that is up.
    """
    up = [interface for interface in interfaces() if interface.is_up]
    if device := get_option(sock, BOUND_DEVICE):
        return tuple(interface for interface in up if interface.name == device)
    outward = [interface for interface in up if not interface.is_loopback]
    if host_of(sock.getsockname()).is_loopback or not outward:
        return tuple(interface for interface in up if interface.is_loopback)
    return tuple(outward)


def _obstacle(interface: Interface) -> str | None:
    try:
        if interface_stamps(interface.name):
            return None
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return "has no clock for what it receives"
        if error.errno == errno.ENOMSG:
            return f"stamps messages of protocols such as PTP alone, {_stamp_all(interface)} makes it stamp all"
        return f"does not say whether it stamps what it receives ({os.strerror(error.errno or 0)})"
    return f"has its clock switched off, {_stamp_all(interface)} switches it on"


def _stamp_all(interface: Interface) -> str:
    return f"`hwstamp_ctl -i {interface.name} -r 1` (linuxptp)"
