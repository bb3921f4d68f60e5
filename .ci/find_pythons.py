"""The CPythons of this machine that wheels are for, a path a line: .ci/wheels makes one for each.

Those named python3.NN, also with a t, on PATH and in pyenv's versions (PYENV_ROOT), and the one that runs this. One for
each ABI, the first that is found; one that does not start, or lacks what a build or an environment takes, is none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST = (3, 11)
NAME = re.compile(r"python3\.\d+t?")
ASK = f"""
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
if sys.implementation.name == "cpython" and sys.version_info >= {LEAST} and os.path.exists(header):
    print(sysconfig.get_config_var("SOABI"))
"""


def candidates() -> Iterator[Path]:
    """Whatever is called like one."""
    yield Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    folders = [*filter(None, os.environ.get("PATH", "").split(os.pathsep)), *sorted(pyenv.glob("*/bin"))]
    for folder in map(Path, folders):
        yield from sorted(path for path in folder.glob("python3.*") if NAME.fullmatch(path.name))


def abi_of(python: Path) -> str:
    """What its extensions are for, "" where it is none of those wanted."""
    try:
        answer = subprocess.run([python, "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def main() -> None:
    """Print them."""
    found: dict[str, Path] = {}
    for python in candidates():
        if abi := abi_of(python):
            found.setdefault(abi, python)
    print(*found.values(), sep="\n")


if __name__ == "__main__":
    main()
