"""Picks the C sources of this platform and the compiler flags; everything else stands in pyproject.toml."""

import os
import sys
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib

# Each platform's own backend, the portable one beside it where it serves, and what they link with.
BACKENDS = {"linux": ["linux", "posix"], "darwin": ["apple", "posix"], "win32": ["windows"]}
LIBRARIES = {"win32": ["ws2_32", "iphlpapi", "advapi32"]}

# By compiler: flags for everything, warnings for our own C, what makes errors of them. With Python's own -g wheels are
# four times as large and name the folder that they were built in; who sets CFLAGS=-g has it.
FLAGS = {
    "gcc": (
        ["-std=c11", "-O3", "-g0", "-fvisibility=hidden"],
        ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"],
        "-Werror",
    ),
    "msvc": (["/std:c11", "/experimental:c11atomics", "/O2"], ["/W3"], "/WX"),
}

# Tests build what belongs to another system, over a shim: `make test-apple`.
system = os.environ.get("MCASTFAST_SYSTEM", sys.platform)
if system not in BACKENDS:
    sys.exit(f"mcastfast has no backend for {system} yet; it has one for: {', '.join(BACKENDS)}")

folders = ["csrc", *(f"csrc/{backend}" for backend in BACKENDS[system])]
sources = sorted(source for folder in folders for source in glob(f"{folder}/*.c"))
headers = sorted(header for folder in folders for header in glob(f"{folder}/*.h"))

# Windows' CPython is built with MSVC and expects it; MSYS2's, whose platform is mingw_*, is not.
flags, warnings, as_errors = FLAGS["msvc" if sysconfig.get_platform().startswith("win") else "gcc"]
link_flags = []
if any(flag.startswith("-g") for flag in os.environ.get("CFLAGS", "").split()):
    flags = [flag for flag in flags if flag != "-g0"]
if os.environ.get("MCASTFAST_WERROR") == "1":
    warnings = [*warnings, as_errors]
if system != sys.platform or "MCASTFAST_SANITIZE" in os.environ:  # for tests alone, where compiling takes the longest
    flags = [*flags, "-O1"]
if sanitizers := os.environ.get("MCASTFAST_SANITIZE"):
    flags = [*flags, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]
    link_flags.append(f"-fsanitize={sanitizers}")


class BuildArchive(build_clib):
    """Makes the archive anew: in one that is there ar leaves what is of no source any more."""

    def build_libraries(self, libraries):
        for name, _ in libraries:
            Path(self.compiler.library_filename(name, output_dir=self.build_clib)).unlink(missing_ok=True)
        super().build_libraries(libraries)


setup(
    cmdclass={"build_clib": BuildArchive},
    libraries=[
        # The warnings are for our C alone: what Cython generates converts freely.
        (
            "mcastfast_c",
            {"sources": sources, "obj_deps": {"": headers}, "include_dirs": ["csrc"], "cflags": [*flags, *warnings]},
        )
    ],
    ext_modules=[
        Extension(
            "mcastfast._core",
            ["src/mcastfast/_core.pyx"],
            depends=[*glob("src/mcastfast/*.px[di]"), *sources, *headers],
            include_dirs=["csrc"],
            libraries=LIBRARIES.get(system, []),
            extra_compile_args=flags,
            extra_link_args=link_flags,
        )
    ],
)
