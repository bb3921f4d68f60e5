"""Whatever goes wrong on the command line is one line and an exit code: 1 at run time, 2 for wrong usage."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clilab import COMMAND, TIMEOUT, Result, run

import mcastfast
from mcastfast import BufferClampedWarning
from mcastfast.cli import in_options, main
from mcastfast.commands import interfaces, output
from mcastfast.errors import Platform

if TYPE_CHECKING:
    from netlab import Lan, Link

GROUP = "239.1.2.3:5000"
COMMANDS = ("recv", "send", "relay", "interfaces", "groups", "bench", "selftest")


def error_of(stderr: str) -> str:
    """The one error line; the lines below it are hints."""
    first, *hints = stderr.splitlines()
    assert all(hint.startswith("  ") for hint in hints), stderr
    assert first.startswith("mcastfast: error: ")
    return first.removeprefix("mcastfast: error: ")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("fly",), "argument COMMAND: invalid choice: 'fly'"),
        (("recv",), "recv: the following arguments are required: GROUP"),
        (("recv", GROUP, "--interfac", "lo"), "recv: unrecognized arguments: --interfac"),
        (("relay", GROUP, GROUP, "--rate", "5"), "relay: unrecognized arguments: --rate 5"),
        (("--foo", "recv", GROUP), "unrecognized arguments: --foo"),
        (("recv", GROUP, "--count", "0"), "recv: argument -c/--count: '0' is not a positive number"),
        (("recv", GROUP, "--duration", "never"), "recv: argument -t/--duration: 'never' is not a time in seconds"),
        (("recv", GROUP, "--buffer", "8X"), "recv: argument --buffer: '8X' is not a size in bytes"),
        (("recv", GROUP, "-i", "lo", "--buffer", "4G"), "receive buffer must be from 1 to 2147483647"),
        (("recv", GROUP, "-i", "lo", "--background", "9999999G"), "--background 10737417166258176 is more than this"),
        (
            ("recv", GROUP, "--output", ""),
            "recv: argument -o/--output: it is empty: name a file, or - for standard out",
        ),
        (("recv", GROUP, "--hex", "--json"), "recv: argument --json: not allowed with argument --hex"),
        (("recv", GROUP, "--engine", "warp"), "recv: argument --engine: invalid choice: 'warp'"),
        (("recv", "239.1.2:5000"), "group '239.1.2:5000': group address '239.1.2' is not an IPv4 or IPv6 address"),
        (("recv", "239.1.2.3:0"), "group '239.1.2.3:0': port 0 is not in 1 to 65535"),
        (("recv", "239.1.2.3:70000"), "group '239.1.2.3:70000': port 70000 is not in 1 to 65535"),
        (("recv", "10.0.0.1:5000"), "group '10.0.0.1:5000': 10.0.0.1 is not a multicast address"),
        (("recv", "udp://239.1.2.3:5000?ttl=4"), "group 'udp://239.1.2.3:5000?ttl=4': the query '?ttl=4'"),
        (("recv", "239.1.2.3", "-i", "lo"), "group '239.1.2.3' has no port: write 239.1.2.3%lo:5000 or pass --port"),
        (("recv", GROUP, "-i", "nope"), "unknown interface 'nope': this host has lo"),
        (("recv", GROUP, "-i", "lo", "--batch-size", "2000"), "--batch-size 2000 is not in 1..1024 datagrams"),
        (("recv", GROUP, "-i", "lo", "--max-datagram", "1M"), "--max-datagram 1048576 is not in 1..65535 bytes"),
        (("recv", "232.1.2.3:5000", "-i", "lo"), "group '232.1.2.3:5000': 232.1.2.3 is in the source-specific range"),
        (("recv", "10.0.0.7@232.1.2.3:5000", "-s", "10.0.0.8"), "group '10.0.0.7@232.1.2.3:5000': source is 10.0.0.7"),
        (("recv", GROUP, "239.1.2.4:5000", "-i", "lo", "--bind", "group"), "--bind group binds one group, not 2: use "),
        (("recv", GROUP, "239.1.2.4:6000", "-i", "lo"), "a Receiver has one port and one family, not"),
        (("send", "239.1.2.3", "-c", "1"), "group '239.1.2.3': a destination needs a port"),
        (("send", GROUP, "--rate", "fast"), "send: argument -r/--rate: 'fast' is not a rate"),
        (("send", GROUP, "--rate", "0"), "send: argument -r/--rate: '0' is not a rate of 0.001 to 1,000,000,000 data"),
        (("send", GROUP, "--burst", "0"), "send: argument --burst: '0' is not a positive number"),
        (("send", GROUP, "-i", "lo", "--rate", "1", "--burst", "2000"), "--burst 2000 is not in 1 to 1024 datagrams"),
        (("send", GROUP, "-i", "lo", "--burst", "2"), "--burst 2 goes with a --rate: 1000, '100_000/s', '10k' (data"),
        (("send", GROUP, "--rate", "9", "--rate-counts", "wire"), "--rate-counts 'wire' goes with a rate in bits, suc"),
        (("send", GROUP, "-c", "1", "-i", "lo", "--ttl", "256"), "TTL or hop limit of multicast must be from 0 to 255"),
        (("send", GROUP, "--lines", "--size", "1316"), "send: argument --size: not allowed with argument --lines"),
        (("send", GROUP, "-i", "lo", "-i", "eth1"), "send: argument -i/--interface: is given twice; a group names its"),
        (("relay", GROUP, GROUP, "-O", "lo", "-O", "lo"), "relay: argument -O/--out-interface: is given twice"),
        (
            ("send", "10.77.1.2:5000"),
            "group '10.77.1.2:5000': 10.77.1.2 is not a multicast address (224.0.0.0/4 or ff00::/8); for unicast or br",
        ),
        (
            ("send", GROUP, "-i", "lo", "--size", "1G", "-c", "64"),
            "--size 1073741824 is over what a datagram carries, 6",
        ),
        (("relay", GROUP), "relay: the following arguments are required: TO"),
        (("bench", "--size", "70000"), "--size 70000 is over what a datagram carries, 65507 bytes"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(args: tuple[str, ...], error: str) -> None:
    result = run(None, *args)
    assert result.code == 2
    assert error_of(result.stderr).startswith(error)
    assert result.stdout == b""


@pytest.mark.parametrize(
    ("command", "query", "remedy"),
    [
        (("recv", "{}"), "ttl=3", "leave it out"),
        (("recv", "{}"), "buffer_size=65536&sources=10.0.0.7", "pass --buffer and --source"),
        (("recv", "{}"), "fifo_size=65536", "leave it out"),
        (("send", "{}"), "ttl=3&pkt_size=1316", "pass --ttl, and leave the rest out"),
        (("send", "{}"), "sources=10.0.0.7", "leave it out"),
        (("send", "{}"), "reuse=1", "leave it out"),
        (("relay", "{}", GROUP), "localaddr=10.0.0.5&buffer_size=65536", "pass --interface and --buffer"),
        (("relay", ":5000", "{}"), "localaddr=10.0.0.5&buffer_size=65536", "pass --out-interface and --send-buffer"),
    ],
)
def test_of_a_query_is_advised_what_the_command_has(command: tuple[str, ...], query: str, remedy: str) -> None:
    group = f"udp://{GROUP}?{query}"
    options = ("-O", "lo") if command[-1] == GROUP else ()
    result = run(None, *(argument.format(group) for argument in command), *options)
    assert result.code == 2
    assert error_of(result.stderr) == f"group '{group}': the query '?{query}' in the text is not read; {remedy}"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_a_command_has_not_points_to_its_help(command: str) -> None:
    operands = {"recv": [GROUP], "send": [GROUP], "relay": [GROUP, GROUP]}.get(command, [])
    assert run(None, command, *operands, "--foo").stderr == (
        f"mcastfast: error: {command}: unrecognized arguments: --foo\n  see mcastfast {command} --help\n"
    )


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("recv", GROUP, "-i", "lo", "-o", "/no/such/folder/file"), "/no/such/folder/file: No such file or directory"),
        (("send", GROUP, "/no/such/file", "-i", "lo"), "/no/such/file: No such file or directory"),
        (("recv", GROUP), "no route to 239.1.2.3 (Network is unreachable): name --interface; this host has lo"),
        (("send", GROUP, "-c", "1"), "no route to 239.1.2.3 (Network is unreachable): name --interface; this host"),
        (
            ("relay", "239.1.2.3%lo:5000", "239.1.2.4:5001"),
            "no route to 239.1.2.4 (Network is unreachable): name --out-",
        ),
    ],
)
def test_failure_at_run_time_is_one_line_and_code_1(lan: Lan, args: tuple[str, ...], error: str) -> None:
    result = run(lan.receiver.namespace, *args)
    assert result.code == 1
    assert error_of(result.stderr).startswith(error)


@pytest.mark.needs("namespaces")
def test_hints_stand_below_the_error(lan: Lan) -> None:
    groups = [f"239.1.3.{number}" for number in range(1, 23)]
    result = run(lan.receiver.namespace, "recv", *groups, "-p", "5000", "-i", lan.receiver.name)
    assert result.code == 1
    first, hint = result.stderr.splitlines()
    assert first == "mcastfast: error: join 239.1.3.21 on veth0: No buffer space available"
    assert re.match(r"  The kernel limits the groups of a socket \(net\.ipv4\.igmp_max_memberships", hint)


@pytest.mark.needs("namespaces")
def test_interface_that_is_down_is_a_failure(lan: Lan) -> None:
    lan.receiver.namespace.ip.link("set", index=lan.receiver.index, state="down")
    result = run(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name)
    assert (result.code, error_of(result.stderr).partition(":")[0]) == (1, "interface veth0 is down")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_fits_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: mcastfast {command} ")
    assert len(text.splitlines()) > 8
    assert max(map(len, text.splitlines())) <= 80
    assert text.endswith("  2  it was called wrongly\n")


def test_help_tells_of_a_ring_where_there_may_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("recv", "relay"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert ("with --engine packet --ring" in text) == (command == "recv")
        assert bool(re.search(r"\bring\b", text)) == (command == "recv")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert [command for command in COMMANDS if f"\n    {command} " not in text] == []


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"mcastfast {mcastfast.__version__}\n"


def test_the_installed_command_is_the_module() -> None:
    program = shutil.which("mcastfast", path=str(Path(sys.executable).parent))
    assert program
    done = subprocess.run([program, "recv"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (2, run(None, "recv").stderr)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_reading_the_output_is_no_error(monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nowhere:
        done = subprocess.run(
            [*COMMAND, "interfaces"], stdout=nowhere, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        for argument, code in (("interfaces", 0), ("fly", 2)):
            ended = subprocess.run([*COMMAND, argument], stdout=nowhere, stderr=nowhere, timeout=TIMEOUT, check=False)
            assert ended.returncode == code


def run_in_shell(redirection: str, *args: str) -> Result:
    shell = ["sh", "-c", f'"$@" {redirection}', "sh"]
    done = subprocess.run([*shell, *COMMAND, *args], capture_output=True, timeout=TIMEOUT, check=False)
    return Result(done.returncode, done.stdout, done.stderr.decode())


def test_closed_stream_for_errors_is_none() -> None:
    result = run_in_shell("2>&-", "interfaces")
    assert (result.code, result.stderr, result.text[:5]) == (0, "", "INDEX")


CLOSED = "mcastfast: error: standard output is closed, and nothing else takes the data: name a file with >\n"


@pytest.mark.parametrize(
    "args",
    [
        ("interfaces",),
        ("interfaces", "--json"),
        ("groups",),
        ("selftest", "--json", "--engine", "portable"),
        ("--help",),
        ("recv", "--help"),
        ("--version",),
    ],
    ids=" ".join,
)
def test_closed_stream_for_data_is_an_error(args: tuple[str, ...]) -> None:
    result = run_in_shell(">&-", *args)
    assert (result.code, result.stderr) == (1, CLOSED)


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("options", [("--json",), ("--hex",), ("--output", "-")], ids=" ".join)
def test_closed_stream_for_what_would_be_received_is_told_before_anything_is(
    loopback: Link, options: tuple[str, ...]
) -> None:
    result = run_in_shell(">&-", "recv", GROUP, "-i", "lo", *options)
    assert (result.code, result.stderr) == (1, CLOSED)


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize(
    "args",
    [
        ("recv", GROUP, "-i", "lo", "-t", "0.1"),
        ("recv", GROUP, "-i", "lo", "-t", "0.1", "-o", os.devnull),
        ("send", GROUP, "-i", "lo", "-c", "1"),
        ("relay", GROUP, "127.0.0.1:5001", "-i", "lo", "-t", "0.1"),
    ],
    ids=" ".join,
)
def test_closed_stream_that_a_command_does_not_write_to_is_no_error(loopback: Link, args: tuple[str, ...]) -> None:
    result = run_in_shell(">&- </dev/null", *args, "--quiet")
    assert (result.code, result.stderr) == (0, "")


def test_no_socket_has_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Whatever something in C wrote there would leave by it."""
    code = """
import socket, sys
from mcastfast.commands.output import standing_in_for_closed_streams
with standing_in_for_closed_streams(), socket.socket() as sock, open(sys.argv[1], "w") as file:
    file.write(str(sock.fileno()))
"""
    told = tmp_path / "number"
    command = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code, str(told)]
    subprocess.run(command, timeout=TIMEOUT, check=True)
    assert int(told.read_text()) > 2


def test_a_process_without_streams_may_run_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that Windows' pythonw runs, which goes on afterwards."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", None)
        patched.setattr(sys, "stderr", None)
        assert main(["interfaces"]) == 1
        with pytest.raises(SystemExit, match="2"):
            main(["interfaces", "--fly"])
        assert (sys.stdout, sys.stderr) == (None, None)


@pytest.mark.parametrize(("argument", "unbuffered"), [("interfaces", ""), ("interfaces", "1"), ("--help", "")])
def test_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, argument: str, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "wb") as stdout:
        done = subprocess.run([*COMMAND, argument], stdout=stdout, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (1, b"mcastfast: error: No space left on device\n")


def test_warning_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def warn(args: object) -> int:
        warnings.simplefilter("default")
        warnings.warn("receive buffer: too small, see receive_buffer=", BufferClampedWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(interfaces, "run", warn)
    assert main(["interfaces"]) == 0
    assert capsys.readouterr().err == "mcastfast: warning: receive buffer: too small, see --buffer\n"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 1, "mcastfast: error: interrupted\n"),
        (mcastfast.UnsupportedError("not on\nthis system"), 1, "mcastfast: error: not on this system\n"),
        (BufferError("keep less"), 1, "mcastfast: error: keep less\n"),
        (MemoryError(), 1, "mcastfast: error: MemoryError\n"),
    ],
)
def test_every_kind_of_failure_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(interfaces, "run", fail)
    assert main(["interfaces"]) == code
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(
    ("system", "error", "code", "text"),
    [
        (Platform.WINDOWS, OSError(errno.EINVAL, os.strerror(errno.EINVAL)), 0, ""),
        (Platform.LINUX, OSError(errno.EINVAL, os.strerror(errno.EINVAL)), 1, os.strerror(errno.EINVAL)),
        (Platform.WINDOWS, OSError(errno.EINVAL, "join 239.1.2.3 on lo: no"), 1, "join 239.1.2.3 on lo: no"),
        (Platform.WINDOWS, OSError(errno.EIO, os.strerror(errno.EIO)), 1, os.strerror(errno.EIO)),
        (Platform.WINDOWS, BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)), 0, ""),
    ],
)
def test_only_what_windows_calls_a_broken_pipe_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: Platform,
    error: OSError,
    code: int,
    text: str,
) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(output, "CURRENT", system)
    monkeypatch.setattr(interfaces, "run", fail)
    assert main(["interfaces"]) == code
    assert capsys.readouterr().err == (text and f"mcastfast: error: {text}\n")


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("name interface=; this host has lo", "name --interface; this host has lo"),
        ('open it with bind="any" to join', "open it with --bind any to join"),
        ('or choose another with interface=.', "or choose another with --interface."),
        ("batch_size=0 is not in 1..1024", "--batch-size 0 is not in 1..1024"),
        ("segment=True: no trains by engine='portable'", "--segment: no trains by --engine 'portable'"),
        ("engine='x' is not known", "--engine 'x' is not known"),
        ("pass local= to Sender to choose", "pass --local to choose"),
        ("no longer of this host: open another Sender.", "no longer of this host: start the command again."),
        ("sysctl -w net.core.rmem_max=8 and mybind=", "sysctl -w net.core.rmem_max=8 and mybind="),
    ],
)  # fmt: skip
def test_keywords_are_spelled_as_options(text: str, translated: str) -> None:
    assert in_options(text) == translated


def test_rich_is_imported_only_for_a_live_display() -> None:
    code = (
        "import sys; from mcastfast.cli import main; main(['interfaces']); print({'rich', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*COMMAND, "interfaces"], capture_output=True, text=True, timeout=TIMEOUT, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "mcastfast: error: interrupted\n")


@pytest.mark.parametrize("is_broken", [False, True], ids=["none", "broken"])
def test_an_extension_that_cannot_be_loaded_is_reported_with_what_there_is(tmp_path: Path, is_broken: bool) -> None:
    source, package = Path(mcastfast.__file__).parent, tmp_path / "mcastfast"
    for path in source.rglob("*.py"):
        copy = package / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())  # Wine lacks what shutil calls
    extension = package / f"_core{EXTENSION_SUFFIXES[0]}"
    if is_broken:
        extension.write_bytes(b"no library")
    done = subprocess.run(
        [sys.executable, "-m", "mcastfast", "selftest"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert error_of(done.stderr).startswith("the extension cannot be loaded: ")
    assert f"  mcastfast: {mcastfast.__version__}, " in done.stderr
    assert f"extension: {extension.name if is_broken else 'none'}" in done.stderr
    assert "\n  python: " in done.stderr
    assert "\n  system: " in done.stderr
    assert str(tmp_path) not in done.stderr
    assert done.stderr.endswith("\n  where that does not help, please report all lines above\n")
