"""Sizes of memory, as numbers of bytes or as text."""

from __future__ import annotations

import operator
import os
import re
import sys
from contextlib import suppress
from typing import TypeAlias

Size: TypeAlias = int | str
"""Bytes, or text such as "256 MiB": a number, and a unit of B, kB, MB, GB, KiB, MiB or GiB."""

MOST_DIGITS = sys.int_info.str_digits_check_threshold
"""How many digits of a number Python reads, whatever its limit is set to."""

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TEXT = re.compile(rf"([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?)\s*({'|'.join(_UNITS)})")


def parse_size(size: Size, *, what: str) -> int:
    """The size in bytes; `what` names it in errors.

    Raises TypeError for what is neither a whole number nor text, ValueError for text that is no size, and for a size
    that is not above 0 or is more than this machine's memory.
    """
    octets = parse_octets(size, what=what)
    if octets <= 0:
        raise ValueError(f"{what}={size!r} is not above 0 bytes")
    memory = _memory()
    if memory and octets > memory:
        raise ValueError(f"{what}={size!r} is more than this machine's memory, {memory} bytes")
    return octets


def parse_octets(size: Size, *, what: str) -> int:
    """The same of a size whose range is somebody else's to check."""
    if isinstance(size, str):
        match = _TEXT.fullmatch(size.strip())
        if not match or len(match[1]) > MOST_DIGITS:
            raise ValueError(
                f'{what}={size!r} is not a size: write bytes, or text like "256 MiB" ({", ".join(_UNITS)})'
            )
        whole, _, part = match[1].replace("_", "").partition(".")
        octets: int = int(whole + part) * _UNITS[match[2]] // 10 ** len(part)
        return octets
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f'{what}={size!r} is not a size: give bytes as a whole number, or text like "256 MiB"')
    return operator.index(size)


def _memory() -> int:
    """Bytes of memory that this machine has, 0 where the system does not tell."""
    if sys.platform != "win32":
        with suppress(OSError, ValueError):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0
