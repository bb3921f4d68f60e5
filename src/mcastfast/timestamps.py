"""Timestamps of network devices: which interfaces give them, and what to do about those that do not."""

from __future__ import annotations

import errno
import os
import warnings
from typing import TYPE_CHECKING

from mcastfast._core import interface_stamps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcastfast.interface import Interface


class KernelTimestampWarning(RuntimeWarning):
    """Datagrams from an interface carry the kernel's timestamps though the device's were asked for; says why."""


def warn_of_kernel_timestamps(interfaces: Iterable[Interface], *, stacklevel: int = 2) -> None:
    """A KernelTimestampWarning, `stacklevel` frames up, for each interface whose device stamps nothing it receives."""
    for interface in interfaces:
        if reason := _obstacle(interface):
            warnings.warn(
                f'metadata "hardware_timestamp": {interface} {reason}; its datagrams carry the kernel\'s timestamps',
                KernelTimestampWarning,
                stacklevel=stacklevel + 1,
            )


def _obstacle(interface: Interface) -> str | None:
    try:
        if interface_stamps(interface.name):
            return None
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return "has no clock for what it receives"
        return f"does not say whether it stamps what it receives ({os.strerror(error.errno or 0)})"
    return f"has its clock switched off, `hwstamp_ctl -i {interface.name} -r 1` (linuxptp) switches it on"
