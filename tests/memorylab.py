"""How much memory this process has, and whether something makes it grow."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = mmap.PAGESIZE
SANITIZED = "MCASTFAST_SANITIZED" in os.environ
"""Whether AddressSanitizer runs beside the tests: it keeps freed memory back."""


def _pages(field: int) -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[field])


def reserved() -> int:
    """Bytes of this process's address space."""
    return _pages(0) * PAGE


def least_growth(run: Callable[[], None]) -> int:
    """Return the least number of pages by which one of three runs grows this process, after one that does not count.

    A leak grows in each; what is allocated once, whoever does it and when, does not.
    """
    run()
    grown = []
    for _ in range(3):
        before = _pages(1)
        run()
        grown.append(_pages(1) - before)
    return min(grown)
