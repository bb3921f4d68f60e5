"""That `make sanitize` runs what it claims to run: without these a build that lost its flags would pass."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from mcastfast import _core

pytestmark = pytest.mark.skipif("MCASTFAST_SANITIZED" not in os.environ, reason="not the sanitized run (make sanitize)")

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "sanitize"


def test_imported_extension_is_the_instrumented_build() -> None:
    path = Path(_core.__file__)
    assert path.is_relative_to(BUILD)
    content = path.read_bytes()
    assert b"__asan_report_load" in content
    assert b"__ubsan_handle" in content
    assert b".debug_info" in content  # for the lines of what they report


def test_every_object_of_the_c_core_is_instrumented() -> None:
    objects = {str(path.relative_to(BUILD)).partition("csrc/")[2]: path.read_bytes() for path in BUILD.rglob("mcf_*.o")}
    csrc = ROOT / "csrc"
    built = [path for folder in (csrc, csrc / "linux", csrc / "posix") for path in folder.glob("*.c")]
    sources = {str(path.relative_to(csrc).with_suffix(".o")) for path in built}
    assert sources <= set(objects)
    assert {name for name, content in objects.items() if b"__asan_init" not in content} == set()


def test_address_sanitizer_watches_the_allocator() -> None:
    runtime = ctypes.CDLL(None)
    runtime.malloc.restype = ctypes.c_void_p
    runtime.free.argtypes = runtime.__asan_address_is_poisoned.argtypes = [ctypes.c_void_p]
    block = runtime.malloc(64)
    assert not runtime.__asan_address_is_poisoned(block)
    assert runtime.__asan_address_is_poisoned(block + 64)
    runtime.free(block)
    assert runtime.__asan_address_is_poisoned(block)
