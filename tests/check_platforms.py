"""Compile and link what users of every system get, from Linux: `make check-platforms`.

For each target, with warnings as errors: the numbers and layouts of Python's tables against the system's own headers
(tests/c/platform_facts.c), the C core, and the generated extension. The C programs of the tests are also run for
another processor, under QEMU, and for 32 bits with a time_t of 64 on this one, for which the C core alone is made.
Compiled is not run: what a system does with it is not seen here.

Linux' headers are of a recent C library: the C core is compiled without what the glibc of wheels lacks of them
(tests/c/glibc_2.28). Python's headers are this Python's: on the targets built with them every size in pyconfig.h is the
same. For Windows they, and the names that it exports, are those of tests/wine/interpreters.py. Of the C libraries only
what links the most in the least time is made: Zig compiles those that a target wants.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import clab
import netlab
from wine.interpreters import INTERPRETERS

from mcastfast import errors, options, packing, requests
from mcastfast.errors import Platform
from mcastfast.interface import Interface
from mcastfast.packing import MembershipRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")

ROOT = clab.TESTS.parent
BUILD = ROOT / "build/platforms"
PYTHON_HEADERS = BUILD / "python"

WINDOWS_PYTHON = INTERPRETERS[0]

# One level for all that is linked: Zig builds its libraries for each.
LEVEL = ("-O1", "-fno-sanitize=undefined")
STANDARD = ("-std=c11", "-fvisibility=hidden", "-Wall", "-Werror")
OURS = ("-Wextra", "-Wshadow", "-Wconversion")
# MSVC, which makes the wheels for Windows, knows no extension of GNU C and no array of variable length.
PEDANTIC = ("-Wpedantic", "-Wvla")


class Target(NamedTuple):
    """What to compile for: Zig's name, sys.platform there, and what compiler and linker are told beyond."""

    name: str
    system: str
    compile: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()  # what Cython generates, beyond
    link: tuple[str, ...] = ()  # the extension
    program: tuple[str, ...] = ()
    qemu: str = ""
    is_short: bool = False  # 32 bits, for which there are no headers of a Python here: C alone, run by this host


# What Python brings is found when the extension is loaded; `-bundle` would silently make an empty file.
_MACOS = Target("", "darwin", compile=("-fPIC",), link=("-Wl,-undefined,dynamic_lookup",))
# Without mingw-w64's own part of the C library, which takes a minute to compile: what only that has does not link.
_UCRT = ("private", "heap", "utility", "string", "runtime", "stdio", "math", "convert", "time", "environment")
_WINDOWS = Target(
    "",
    "win32",
    compile=("-DNDEBUG", "-fno-stack-protector", "-D__fpclassify=_dclass"),
    # Names of methods become C's, and _leave and its like are keywords to MSVC; the headers here are for GCC.
    generated=("-fms-compatibility", "-fmsc-version=0", "-fgnuc-version=4.2.1"),
    link=(
        *("-nostdlib", "-lws2_32", "-liphlpapi", "-ladvapi32", "-lkernel32"),
        *(f"-lapi-ms-win-crt-{part}-l1-1-0" for part in _UCRT),
    ),
)
_GLIBC = Target("", "linux", compile=("-fPIC",))
# musl's CMSG_NXTHDR compares a size with a difference.
_MUSL = Target("", "linux", compile=("-fPIC", "-Wno-sign-compare"))
TARGETS = (
    _MACOS._replace(name="x86_64-macos.11.0"),
    _MACOS._replace(name="aarch64-macos.11.0"),
    _WINDOWS._replace(name="x86_64-windows-gnu"),
    _WINDOWS._replace(name="aarch64-windows-gnu"),
    _GLIBC._replace(name="aarch64-linux-gnu.2.28"),
    _MUSL._replace(name="aarch64-linux-musl", qemu="qemu-aarch64"),
    _MUSL._replace(name="x86_64-linux-musl", program=("-dynamic",)),
    _MUSL._replace(name="x86-linux-musl", is_short=True),
)

PLATFORMS = {"darwin": Platform.MACOS, "win32": Platform.WINDOWS, "linux": Platform.LINUX}

HEADERS = {
    "darwin": ("netinet/in.h", "netinet/udp.h", "sys/socket.h"),
    "linux": ("netinet/in.h", "netinet/udp.h", "sys/socket.h"),
    "win32": ("winsock2.h", "ws2tcpip.h", "mswsock.h"),
}
"""Where each system has its numbers."""

HANGS_AFTER = 1800.0
"""Seconds that nothing takes, on a slow machine that has other work either."""

QEMU_PROGRAMS = ("pace", "turns", "stamps", "frame", "netlink", "pool_race", "latch_race")
SHORT_PROGRAMS = (*QEMU_PROGRAMS, "times")
"""Of tests/c."""

_JOINS = "QEMU has its own answer to a join by index"
_FILTERS = "QEMU has its own answer to a socket filter"
NOT_UNDER_QEMU = {
    "background_race": "no time for it",
    "batch_race": _JOINS,
    "filter_race": _JOINS,
    "bpf": _FILTERS,
    "packet_race": _FILTERS,
    "ring": _FILTERS,
    "times": "QEMU does not know SO_TIMESTAMPNS",
    "late": "QEMU does not hand on where an error comes from",
    "share_race": "QEMU does not know IP_MTU, and without it there are no trains",
}
"""The others that test the C core of Linux, and why."""


def zig(target: Target, *arguments: str | Path) -> list[str]:
    """Zig's C compiler for a target."""
    return [sys.executable, "-m", "ziglang", "cc", "-target", target.name, *LEVEL, *map(str, arguments)]


# As many commands as processors, whoever runs them.
_turns = threading.Semaphore(os.cpu_count() or 1)


def run(command: Sequence[str]) -> None:
    """A command that says nothing; RuntimeError with all that it said instead."""
    cache = str(BUILD / "cache")
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    with _turns:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=HANGS_AFTER, check=False, cwd=ROOT, env=environment
        )
    if result.returncode or result.stderr:
        raise RuntimeError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")


# The numbers


def facts(platform: Platform) -> Iterator[str]:
    """What facts.h says: one assertion a line."""
    numbers: dict[str, int] = {}
    tables: list[Any] = [value for value in vars(options).values() if isinstance(value, options.Option)]
    tables += [*requests.INDEPENDENT_REQUESTS.values(), *requests.SPECIFIC_REQUESTS.values()]
    for option in tables:
        for row in option.rows:
            if (number := row.number(platform)) is not None:
                numbers[row.name] = number
    numbers |= {name: code for code, name in _error_codes(platform)}
    numbers |= {
        "SOL_SOCKET": options._SOL_SOCKET[platform],
        "IPPROTO_IP": options._IPPROTO_IP,
        "IPPROTO_IPV6": options._IPPROTO_IPV6,
        "IPPROTO_UDP": options._IPPROTO_UDP,
        "AF_INET": packing._AF_INET,
        "AF_INET6": packing._AF_INET6[platform],
    }
    for name, number in sorted(numbers.items()):
        yield f'static_assert({name} == {number}, "{name}");'
    yield from _layouts(platform)


def _error_codes(platform: Platform) -> Iterator[tuple[int, str]]:
    for code, name in errors._CODES[platform].items():
        if platform is not Platform.WINDOWS:
            yield code, name
        elif code > 10000:
            yield code, f"WSA{name}"


def _layouts(platform: Platform) -> Iterator[str]:
    """Where the parts of requests lie in what Python packs."""
    interface = Interface("eth7", 0x01020304, (ip_interface("10.11.12.13/24"), ip_interface("fd00::1/64")))
    group, source = ip_address("232.1.2.3"), ip_address("10.0.0.7")
    plain, sourced = MembershipRequest(group, None, interface), MembershipRequest(group, source, interface)

    def layout(name: str, packed: bytes, **members: bytes) -> Iterator[str]:
        yield f'static_assert(sizeof(struct {name}) == {len(packed)}, "{name}");'
        for member, value in members.items():
            at = packed.index(value)
            yield f'static_assert(offsetof(struct {name}, {member}) == {at}, "{name}: {member}");'

    def codec(option: Any, value: MembershipRequest, family: int = socket.AF_INET) -> bytes:
        packed: bytes = option.pack(value, family, platform)
        return packed

    action = requests.Action.JOIN
    start = packing._sockaddr(group, platform)[:8]
    independent = requests.INDEPENDENT_REQUESTS
    yield from layout("group_req", codec(independent[action, False], plain), gr_group=start)
    yield from layout(
        "group_source_req",
        codec(independent[action, True], sourced),
        gsr_group=start,
        gsr_source=packing._sockaddr(source, platform)[:8],
    )
    address = interface.local_address(socket.AF_INET)
    assert address
    specific = requests.SPECIFIC_REQUESTS
    index = interface.index.to_bytes(4, sys.byteorder)
    whole = codec(specific[action, False], plain)
    if platform is Platform.LINUX:
        yield from layout("ip_mreqn", whole, imr_multiaddr=group.packed, imr_address=address.packed, imr_ifindex=index)
    else:
        yield from layout("ip_mreq", whole, imr_multiaddr=group.packed, imr_interface=address.packed)
    yield from layout(
        "ip_mreq_source",
        codec(specific[action, True], sourced),
        imr_multiaddr=group.packed,
        imr_sourceaddr=source.packed,
        imr_interface=address.packed,
    )
    group6 = ip_address("ff3e::8000:1")
    packed = codec(specific[action, False], MembershipRequest(group6, None, interface), socket.AF_INET6)
    yield from layout("ipv6_mreq", packed, ipv6mr_multiaddr=group6.packed, ipv6mr_interface=index)
    if platform is Platform.MACOS:
        egress = packing.EGRESS_MREQN.pack
        assert egress
        yield from layout("ip_mreqn", egress(packing.Egress(interface.index, address), platform), imr_ifindex=index)
        yield 'static_assert(offsetof(struct sockaddr_in, sin_len) == 0, "lengths come first");'
        yield 'static_assert(offsetof(struct sockaddr_in, sin_family) == 1, "families come second");'
    sizes = {Platform.LINUX: 12, Platform.WINDOWS: 8, Platform.MACOS: 12}
    yield f'static_assert(sizeof({_PACKET_INFO[platform]}) == {sizes[platform]}, "packet information");'


_PACKET_INFO = {
    Platform.LINUX: "struct in_pktinfo",
    Platform.WINDOWS: "IN_PKTINFO",
    Platform.MACOS: "struct in_pktinfo",
}


def check_facts(target: Target, folder: Path) -> Path:
    """Compile platform_facts.c; the object."""
    platform = PLATFORMS[target.system]
    (folder / "facts.h").write_text("\n".join(facts(platform)) + "\n")
    (folder / "facts_headers.h").write_text("".join(f"#include <{header}>\n" for header in HEADERS[target.system]))
    made = folder / "platform_facts.o"
    run(zig(target, *STANDARD, f"-I{folder}", "-c", clab.TESTS / "c/platform_facts.c", "-o", made))
    return made


# The code


def side_by_side(function: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Call it for each, as far as there are processors."""
    with ThreadPoolExecutor(len(items)) as pool:
        list(pool.map(function, items))


def check_core(target: Target, folder: Path) -> list[Path]:
    """Compile csrc for a target; the objects."""
    sources = clab.core_sources(target.system)
    made = [folder / f"{source.parent.name}_{source.stem}.o" for source in sources]
    ours = (*OURS, *((f"-I{clab.OLD_HEADERS}",) if target.system == "linux" else PEDANTIC))
    side_by_side(
        run,
        [
            zig(target, *STANDARD, *ours, *target.compile, f"-I{clab.CSRC}", "-c", source, "-o", name)
            for source, name in zip(sources, made, strict=True)
        ],
    )
    return made


def check_program(target: Target, folder: Path, objects: Sequence[Path]) -> None:
    """Link a program: nothing may be missing of what the parts of the C core want of each other and of the system."""
    run(zig(target, *target.program, "-o", folder / "core", *objects))


def check_extension(target: Target, folder: Path, core: Sequence[Path]) -> None:
    """Compile and link the extension; it must hold the C core whole and show its entry."""
    made, generated = folder / "_core.so", folder / "_core.o"
    headers = WINDOWS_PYTHON.python / "include" if target.system == "win32" else PYTHON_HEADERS
    flags = ("-O0", *target.compile, *target.generated, f"-I{clab.CSRC}", f"-I{headers}")
    run(zig(target, *STANDARD, *flags, "-c", BUILD / "_core.c", "-o", generated))
    if target.system == "win32":
        entry = ("-Wl,-e,PyInit__core", python_library(target, folder))
        run(zig(target, "-shared", *entry, "-o", made, generated, *core, *target.link))
        return  # where nothing may be missing
    run(zig(target, "-shared", "-s", *target.link, "-o", made, generated, *core))
    content = made.read_bytes()
    if b"PyInit__core\0" not in content:
        raise RuntimeError(f"{made} has no PyInit__core")
    wanted = _wanted_macho(content) if target.system == "darwin" else _wanted_elf(content)
    if wanted:
        raise RuntimeError(f"{clab.backends()[target.system]} of csrc lack {', '.join(wanted)}")


def python_library(target: Target, folder: Path) -> Path:
    """What links with Windows' CPython on the target's processor: the names that the one of x86_64 exports."""
    names = {name.decode() for name in re.findall(rb"(?<=__imp_)\w+(?=\0)", WINDOWS_PYTHON.import_library.read_bytes())}
    dll = WINDOWS_PYTHON.import_library.stem + ".dll"
    definitions, made = folder / "python.def", folder / "python.lib"
    definitions.write_text("\n".join([f"LIBRARY {dll}", "EXPORTS", *sorted(names)]) + "\n")
    machine = {"x86_64": "i386:x86-64", "aarch64": "arm64"}[target.name.partition("-")[0]]
    run([sys.executable, "-m", "ziglang", "dlltool", "-m", machine, "-d", str(definitions), "-l", str(made)])
    return made


def _wanted_elf(content: bytes) -> list[str]:
    """Functions of csrc that are to come from elsewhere: a stripped library names no others."""
    return [name.decode() for name in re.findall(rb"(?<=\0)mcf_\w+(?=\0)", content)]


def _wanted_macho(content: bytes) -> list[str]:
    """The same: <mach-o/loader.h>, <mach-o/nlist.h>."""
    symbol_table, undefined_mask = 2, 0x0E
    count, *_ = struct.unpack_from("<I", content, 16)
    at, found = 32, []
    for _ in range(count):
        command, size, symbols, number, strings, _ = struct.unpack_from("<6I", content, at)
        if command == symbol_table:
            for position in range(symbols, symbols + 16 * number, 16):
                name, kind = struct.unpack_from("<IB", content, position)
                if not kind & undefined_mask:
                    found.append(content[strings + name : content.index(b"\0", strings + name)].decode())
        at += size
    if not any(name.startswith("_Py") for name in found):
        raise RuntimeError("the library wants nothing of Python")
    return [name for name in found if name.startswith("_mcf_")]


def run_programs(target: Target, folder: Path, core: Sequence[Path], names: Sequence[str]) -> None:
    """Run C programs of the tests on another processor, or on this one."""

    def program(name: str) -> None:
        made = folder / name
        source = clab.TESTS / f"c/{name}.c"
        run(zig(target, *STANDARD, "-UNDEBUG", f"-I{clab.CSRC}", "-static", "-o", made, source, *core))
        run([*filter(None, [target.qemu]), str(made)])

    side_by_side(program, names)


def run_here(target: Target, folder: Path, core: Sequence[Path]) -> str:
    """Run those of a processor that this one is, too; what was done."""
    try:
        run_programs(target, folder, core, SHORT_PROGRAMS)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return "no C programs, which this host does not run"
    return f"{len(SHORT_PROGRAMS)} C programs run here"


def prepare() -> None:
    """Generate the extension's C, and copy Python's headers with the pyconfig.h that is this build's."""
    shutil.rmtree(PYTHON_HEADERS, ignore_errors=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "-m", "cython", "-3", "src/mcastfast/_core.pyx", "-o", str(BUILD / "_core.c")])
    include = Path(sysconfig.get_path("include"))
    shutil.copytree(include, PYTHON_HEADERS)
    # Debian keeps the real one by architecture, behind one that knows only Debian's own.
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    real = include.parent / multiarch / include.name / "pyconfig.h"
    if real.is_file():
        shutil.copy(real, PYTHON_HEADERS / "pyconfig.h")


def check(target: Target) -> str:
    """All of it for one target; what was done."""
    folder = BUILD / target.name
    folder.mkdir(parents=True, exist_ok=True)
    if target.is_short:
        return f"C core, {run_here(target, folder, check_core(target, folder))}"
    done = ["numbers and layouts", "C core", "extension"]
    assertions = check_facts(target, folder)
    core = check_core(target, folder)
    if target.system != "win32":
        check_program(target, folder, [assertions, *core])
    check_extension(target, folder, core)
    if target.qemu:
        run_programs(target, folder, core, QEMU_PROGRAMS)
        done.append(f"{len(QEMU_PROGRAMS)} C programs run by {target.qemu}")
    return ", ".join(done)


def check_types() -> None:
    """Nothing in Python is used that a system's Python does not have, as far as its stubs know."""
    for system in clab.backends():
        result = subprocess.run(
            [sys.executable, "-m", "mypy", "--platform", system, "src"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        if result.returncode:
            raise RuntimeError(f"mypy --platform {system}\n{result.stdout}{result.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="target", help="those whose names begin so (default: all)")
    chosen = parser.parse_args().targets
    targets = [target for target in TARGETS if not chosen or target.name.startswith(tuple(chosen))]
    if not targets:
        parser.error(f"no target begins so; there are {', '.join(target.name for target in TARGETS)}")
    began = time.monotonic()
    netlab.enter_private_network()
    prepare()
    failed = 0
    with ThreadPoolExecutor(len(targets)) as pool:
        checks = {pool.submit(check, target): target for target in targets}
        for ended in as_completed(checks):
            try:
                print(f"{checks[ended].name}: {ended.result()} ({time.monotonic() - began:.0f} s)", flush=True)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"{checks[ended].name}: FAILED\n{error}", file=sys.stderr, flush=True)
    try:
        check_types()
        print(f"types for {', '.join(clab.backends())} ({time.monotonic() - began:.0f} s)")
    except RuntimeError as error:
        failed += 1
        print(error, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
