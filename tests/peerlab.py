"""Other people's programs in the namespaces of a test: started, awaited without sleeping, ended in any case."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

from netlab import Link, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 20.0
"""Seconds that any one step with a peer may take."""


@contextlib.contextmanager
def running(link: Link, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A program in the link's namespace, its output in pipes; killed in the end if it still runs."""
    with link.namespace:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(link: Link, *command: str, stdin: bytes = b"") -> str:
    """Run a program in the link's namespace to its end; its standard output. AssertionError if it fails."""
    with link.namespace:
        result = subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT, check=False)
    assert result.returncode == 0, (command, result.stdout, result.stderr)
    return result.stdout.decode()


def output(process: subprocess.Popen[str]) -> str:
    """What the program wrote by its end, both streams; TimeoutExpired if it does not end."""
    return "".join(process.communicate(timeout=TIMEOUT))


def wait_for_member(
    process: subprocess.Popen[str], link: Link, group: str, port: int, *, source: str | None = None
) -> None:
    """Return when the kernel shows the link's host bound to the port and the link joined to the group (and source)."""
    if ":" in group:
        suffix, member = "6", socket.inet_pton(socket.AF_INET6, group).hex()
    else:
        suffix, member = "", f"{struct.unpack('=I', socket.inet_aton(group))[0]:08X}"

    def joined() -> bool:
        assert process.poll() is None, f"{process.args!r} ended: {output(process)}"
        bound = f":{port:04X} " in link.namespace.proc(f"udp{suffix}")
        if source is None:
            return bound and member in link.namespace.proc(f"igmp{suffix}")
        family = socket.AF_INET6 if suffix else socket.AF_INET
        prefix = "" if suffix else "0x"
        wanted = [prefix + socket.inet_pton(family, address).hex() for address in (group, source)]
        return bound and any(
            line.split()[2:4] == wanted for line in link.namespace.proc(f"mcfilter{suffix}").splitlines()
        )

    wait_until(joined, TIMEOUT, what=f"{process.args!r} joins {group} port {port}")
