"""C programs of the tests, built with the C core and a sanitizer, and libraries that are preloaded."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
CSRC = TESTS.parent / "csrc"
SETUP = TESTS.parent / "setup.py"

OLD_HEADERS = TESTS / "c" / "glibc_2.28"
"""To be found before Linux' own: what the glibc of wheels lacks of those."""

# What it takes to build a system's directories on Linux.
DECLARED = {"linux": [], "darwin": ["-include", str(TESTS / "darwin/darwin.h")]}
LINKED = {"linux": [], "darwin": ["-rdynamic", str(TESTS / "darwin/msg_x.c"), "-ldl"]}


def backends() -> dict[str, list[str]]:
    """The directories of csrc for each system (sys.platform), as setup.py has them."""
    for node in ast.parse(SETUP.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "BACKENDS":
            table: dict[str, list[str]] = ast.literal_eval(node.value)
            return table
    raise AssertionError("setup.py has no table BACKENDS")


def environment(**more: str) -> dict[str, str]:
    """Without what the sanitized test run preloads: each program brings its own runtime."""
    return {name: text for name, text in os.environ.items() if name not in {"LD_PRELOAD", "ASAN_OPTIONS"}} | more


def core_sources(system: str) -> list[Path]:
    """The C core of a system."""
    folders = [CSRC, *(CSRC / backend for backend in backends()[system])]
    return [path for folder in folders for path in sorted(folder.glob("*.c"))]


def _compile(sanitizer: str, system: str, *arguments: str | Path, folder: Path) -> None:
    flags = [
        "-std=c11",
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-fsanitize={sanitizer}",
        "-fno-sanitize-recover=all",
    ]
    command = ["cc", *flags, f"-I{CSRC}", *DECLARED[system], *map(str, arguments)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment(), cwd=folder
    )
    assert result.returncode == 0, result.stderr


def build_core(sanitizer: str, folder: Path, *, system: str = "linux") -> list[Path]:
    """The C core of a system as objects in the folder, for programs to be built with."""
    sources = core_sources(system)
    _compile(sanitizer, system, "-c", *sources, folder=folder)
    return [folder / f"{source.stem}.o" for source in sources]


def build(program: str, sanitizer: str, folder: Path, core: list[Path], *, system: str = "linux") -> Path:
    """tests/c/<program>.c as a program in the folder, with the objects of a system's C core."""
    source = TESTS / "c" / f"{program}.c"
    _compile(sanitizer, system, "-o", program, source, *core, *LINKED[system], "-lpthread", folder=folder)
    return folder / program


def build_shim(name: str, folder: Path) -> str:
    """tests/c/<name>.c as a library in the folder, to be preloaded; its path."""
    target = str(folder / f"{name}.so")
    flags = ["-std=c11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    source = str(TESTS / "c" / f"{name}.c")
    subprocess.run(["cc", *flags, "-o", target, source, "-ldl"], check=True, timeout=60, env=environment())
    return target


def run_preloaded(shim: str, program: str, *arguments: str, **variables: str) -> str:
    """What a Python program with this library says. What the sanitized run preloads stays, and comes first."""
    preloaded = [text for text in (os.environ.get("LD_PRELOAD"), shim) if text]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables, "LD_PRELOAD": ":".join(preloaded)},
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout
