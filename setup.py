"""Picks the C sources of this platform and the compiler flags; everything else stands in pyproject.toml."""

import os
import sys
from glob import glob

from setuptools import Extension, setup

# Each platform's own backend, and the portable one beside it.
BACKENDS = {"linux": ["linux", "posix"]}

if sys.platform not in BACKENDS:
    sys.exit(f"mcastfast has no backend for {sys.platform} yet; it has one for: {', '.join(BACKENDS)}")

folders = ["csrc", *(f"csrc/{backend}" for backend in BACKENDS[sys.platform])]
sources = sorted(source for folder in folders for source in glob(f"{folder}/*.c"))
headers = sorted(header for folder in folders for header in glob(f"{folder}/*.h"))

flags = ["-std=c11", "-O3", "-fvisibility=hidden"]
warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"]
link_flags = []
if os.environ.get("MCASTFAST_WERROR") == "1":
    warnings.append("-Werror")
if sanitizers := os.environ.get("MCASTFAST_SANITIZE"):
    flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]
    link_flags.append(f"-fsanitize={sanitizers}")

setup(
    libraries=[
        # The warnings are for our C alone: what Cython generates converts freely.
        (
            "mcastfast_c",
            {
                "sources": sources,
                "obj_deps": {"": headers},
                "include_dirs": ["csrc"],
                "cflags": [*flags, *warnings],
            },
        )
    ],
    ext_modules=[
        Extension(
            "mcastfast._core",
            ["src/mcastfast/_core.pyx"],
            depends=[*glob("src/mcastfast/*.px[di]"), *sources, *headers],
            include_dirs=["csrc"],
            extra_compile_args=flags,
            extra_link_args=link_flags,
        )
    ],
)
