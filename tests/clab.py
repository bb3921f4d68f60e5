"""C programs of the tests, built with the C core and a sanitizer."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

TESTS = Path(__file__).parent
CSRC = TESTS.parent / "csrc"
SETUP = TESTS.parent / "setup.py"

OVER_LINUX = {
    "linux": [],
    "darwin": ["-include", str(TESTS / "darwin/darwin.h"), "-rdynamic", str(TESTS / "darwin/msg_x.c"), "-ldl"],
}
"""What it takes to build a system's directories on Linux."""


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


def build(program: str, sanitizer: str, folder: Path, *, system: str = "linux") -> Path:
    """tests/c/<program>.c as a program in the folder, with the C core of a system."""
    target = folder / program
    sources = [TESTS / "c" / f"{program}.c", *core_sources(system)]
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
    command = ["cc", *flags, f"-I{CSRC}", "-o", str(target), *OVER_LINUX[system], *map(str, sources), "-lpthread"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment())
    assert result.returncode == 0, result.stderr
    return target
