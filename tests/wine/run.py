"""Builds mcastfast for Windows' CPython and runs the portable part of the tests on it, under Wine: `make test-wine`.

Wine is not Windows: what runs here is the Windows backend over Wine's Winsock over Linux' sockets. gaps.py says what
Wine lacks, and which tests must fail for that. Everything is made in build/wine: the interpreters and what the tests
import (interpreters.py), and mcastfast's own wheel, compiled with Debian's mingw-w64 and installed by that Python's
pip. Wine runs in a network namespace of this process, joined by a veth pair to another in which Linux' mcastfast is
the other end (far_end.py); no packet can leave them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS))

import netlab  # noqa: E402 # of this folder's parent

from wine.far_end import FarEnd  # noqa: E402
from wine.interpreters import BUILD, INTERPRETERS, Interpreter  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMPILER = "x86_64-w64-mingw32-gcc"
PROGRAMS = {
    "wine": ("wine", "wine64"),
    COMPILER: ("gcc-mingw-w64-x86-64-posix", "mingw-w64-x86-64-dev"),
}
"""What is run, and the Debian packages that have it."""

FLAGS = ("-std=c11", "-O2", "-DMS_WIN64=", "-I", "csrc")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
LIBRARIES = ("-lws2_32", "-liphlpapi", "-ladvapi32")

C_PROGRAMS = ("iocp_race", "windows_answers")
"""Of tests/c, for Windows: tests start them, and find them in MCASTFAST_C_PROGRAMS."""

SUMMARY = re.compile(r"^=* ?\d+ passed.* in \d", re.MULTILINE)
"""What pytest ends with."""

FIRST_BOOT = 120.0
"""Seconds that Wine may take to make its prefix."""

HANGS_AFTER = 180
"""Seconds that no test takes, on a slow machine that has other runs either."""

PARTS = 2
"""Runs of an interpreter that share its test files, at the same time: half of what one does is waiting."""


class Run(NamedTuple):
    """Tests on an interpreter, with a Wine and a network of their own."""

    interpreter: Interpreter
    number: int
    arguments: Sequence[str]

    @property
    def folder(self) -> Path:
        return self.interpreter.folder / f"run-{self.number}"

    @property
    def log(self) -> Path:
        return self.folder / "log"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", choices=[one.version for one in INTERPRETERS], help="this one only")
    parser.add_argument("--share", action="store_true", help="each test file on one CPython only")
    parser.add_argument("--timeout", type=float, default=2400.0, help="seconds that a run may take")
    parser.add_argument("arguments", nargs="*", help="options and files for pytest, after --")
    options = parser.parse_args()
    chosen = [one for one in INTERPRETERS if options.python in (None, one.version)]
    install_programs()
    os.chdir(ROOT)
    generate()
    sources = sorted([*Path("csrc").glob("*.c"), *Path("csrc/windows").glob("*.c")])
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        objects = list(workers.map(compile_core, sources))
        wheels = list(workers.map(lambda one: pack_wheel(one, objects), chosen))
        list(workers.map(lambda name: compile_program(name, objects), C_PROGRAMS))
    netlab.enter_private_network()
    groups = [chosen] if options.share else [[one] for one in chosen]
    runs = [run for group in groups for run in plan(group, options.arguments)]
    with ThreadPoolExecutor(len(runs)) as workers:
        codes = list(workers.map(lambda run: test(run, wheels[chosen.index(run.interpreter)], options.timeout), runs))
    for run, code in zip(runs, codes, strict=True):
        title = f"CPython {run.interpreter.version} for Windows, under Wine, run {run.number}"
        print(f"\n=== {title}\n{run.log.read_text(errors='replace')}")
        print(f"=== {title}: pytest's exit code is {code}")
    return int(any(codes))


def plan(interpreters: Sequence[Interpreter], arguments: Sequence[str]) -> list[Run]:
    """All test files in PARTS runs of each that shares them, neighbours apart, for they are about the same; what was
    asked for in one run of each.
    """
    if arguments:
        return [Run(interpreter, 1, arguments) for interpreter in interpreters]
    files = sorted(f"tests/{path.name}" for path in TESTS.glob("test_*.py"))
    takers = [(interpreter, number) for number in range(1, PARTS + 1) for interpreter in interpreters]
    # A file that is named would be imported, whatever conftest.py says of it.
    return [
        Run(*taker, [f"--ignore={name}" for name in files if name not in files[part :: len(takers)]])
        for part, taker in enumerate(takers)
    ]


def install_programs() -> None:
    """Installs what is missing with apt, as root; else says what to install."""
    missing = [package for program, packages in PROGRAMS.items() if not shutil.which(program) for package in packages]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    if os.geteuid() or not shutil.which("apt-get"):
        sys.exit(f"test-wine needs programs that are not there; install them, on Debian as root: {' '.join(command)}")
    subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def generate() -> None:
    """The extension's C, the same for every version."""
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cython", "-3", "src/mcastfast/_core.pyx", "-o", str(BUILD / "_core.c")]
    subprocess.run(command, check=True)


def compile_core(source: Path) -> Path:
    """One file of the C core, with warnings as errors."""
    target = BUILD / "objects" / f"{source.parent.name}-{source.stem}.o"
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([COMPILER, *FLAGS, *WARNINGS, "-c", str(source), "-o", str(target)], check=True)
    return target


def compile_program(name: str, objects: Sequence[Path]) -> None:
    """One of the C programs of the tests, by itself."""
    command = [
        *(COMPILER, *FLAGS, *WARNINGS, "-static", str(TESTS / "c" / f"{name}.c"), *map(str, objects), *LIBRARIES),
        *("-o", str(BUILD / f"{name}.exe")),
    ]
    subprocess.run(command, check=True)


def pack_wheel(interpreter: Interpreter, objects: Sequence[Path]) -> Path:
    """Compiles the extension, and packs the wheel as users get it."""
    folder = interpreter.folder / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / "mcastfast"
    shutil.copytree(
        ROOT / "src" / "mcastfast", package, ignore=shutil.ignore_patterns("*.so", "_core.c", "__pycache__")
    )
    command = [sys.executable, "setup.py", "--quiet", "dist_info", "--output-dir", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (information,) = folder.glob("*.dist-info")
    tag = f"{interpreter.tag}-{interpreter.tag}-win_amd64"
    (information / "WHEEL").write_text(f"Wheel-Version: 1.0\nGenerator: mingw\nRoot-Is-Purelib: false\nTag: {tag}\n")
    python = interpreter.python
    command = [
        *(COMPILER, *FLAGS, "-shared", "-static-libgcc", "-I", str(python / "include"), str(BUILD / "_core.c")),
        *map(str, objects),
        *(str(interpreter.import_library), *LIBRARIES),
        *("-o", str(package / f"_core.{interpreter.tag}-win_amd64.pyd")),
    ]
    subprocess.run(command, check=True)
    command = [sys.executable, "-m", "wheel", "pack", "--dest-dir", str(interpreter.folder), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = interpreter.folder.glob(f"mcastfast-*-{tag}.whl")
    return wheel


def install_wheel(run: Run, wheel: Path) -> None:
    """Installs it by the pip that comes with that Python, under Wine."""
    python = run.interpreter.python
    (pip,) = (python / "Lib" / "ensurepip" / "_bundled").glob("pip-*.whl")
    command = [
        *("wine", str(python / "python.exe"), in_windows(pip / "pip"), "install"),
        *("--no-index", "--no-deps", "--no-compile", "--target", in_windows(run.folder / "package")),
        in_windows(wheel),
    ]
    done = subprocess.run(command, env=environment(run), capture_output=True, text=True, check=False)
    if done.returncode or not (run.folder / "package" / "mcastfast").exists():
        version = run.interpreter.version
        sys.exit(f"pip of CPython {version} does not install {wheel.name}:\n{done.stdout}{done.stderr}")


def in_windows(path: Path) -> str:
    """The path as Wine shows it."""
    return "Z:" + str(path).replace("/", "\\")


def environment(run: Run) -> dict[str, str]:
    folders = [run.folder / "package", run.interpreter.folder / "wheels", TESTS]
    return {
        **{name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "MCASTFAST_"))},
        "WINEPREFIX": str(run.folder / "prefix"),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml,wbemprox=",
        "PYTHONPATH": ";".join(map(in_windows, folders)),
        "MCASTFAST_REQUIRE": "namespaces,ipv6,numpy",
        "MCASTFAST_C_PROGRAMS": in_windows(BUILD),
        "PYTHONPYCACHEPREFIX": in_windows(run.folder / "cache"),
    }


def test(run: Run, wheel: Path, timeout: float) -> int:
    """Installs the wheel, and runs the tests on it; pytest's exit code."""
    shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir()
    python = str(run.interpreter.python / "python.exe")
    command = [
        *("wine", python, "-m", "pytest", "-p", "no:cacheprovider", f"--timeout={HANGS_AFTER}"),
        *run.arguments,
    ]
    with netlab.namespaces(4) as (switch, near, *others):
        netlab.loopback(near).route_multicast()
        links = netlab.join_by_switch(switch, [near, *others])
        with wine(run, near), contextlib.closing(FarEnd(near, links[1:])) as far_end:
            with near:
                install_wheel(run, wheel)
            network = {
                "links": [[link.name, link.ipv4, link.ipv6, link.link_local] for link in links],
                "far_end": far_end.address,
            }
            variables = environment(run) | {"MCASTFAST_NETWORK": json.dumps(network)}
            code = run_in(near, command, variables, timeout, run.log)
    # Wine's own code is 0 when the program it runs has crashed.
    return code or int(not SUMMARY.search(run.log.read_text(errors="replace")))


@contextlib.contextmanager
def wine(run: Run, namespace: netlab.Namespace) -> Iterator[None]:
    """Wine's server in the namespace: it is the one that opens the sockets."""
    variables = environment(run)
    with namespace:
        subprocess.run(["wineboot", "--init"], check=True, env=variables, timeout=FIRST_BOOT, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["wineserver", "--kill"], check=False, env=variables, timeout=FIRST_BOOT)
            subprocess.run(["wineserver", "--wait"], check=False, env=variables, timeout=FIRST_BOOT)


def run_in(
    namespace: netlab.Namespace, command: Sequence[str], variables: dict[str, str], timeout: float, log: Path
) -> int:
    """Runs a command to its end. CPython for Windows does not start when its output is a file: it is a pipe."""
    with namespace, log.open("wb") as file:
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        watchdog = threading.Timer(timeout, process.kill)
        watchdog.start()
        with process:
            assert process.stdout
            for line in process.stdout:
                file.write(line)
                file.flush()
        watchdog.cancel()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
