"""What `recv` writes names interfaces as `mcastfast interfaces` does, on Windows too; null is what a system refuses."""

from __future__ import annotations

import errno
import io
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from traffic import feed

from mcastfast import Interface, Receiver, Sender, UnsupportedError, options
from mcastfast.cli import main
from mcastfast.commands import writers
from mcastfast.errors import CURRENT, Platform
from mcastfast.reception import available

if TYPE_CHECKING:
    from netlab import Link

    from mcastfast import Batch
    from mcastfast.options import Option

GROUP = "239.1.2.3:5000"


class Host:
    """Windows with these interfaces, which if_indextoname calls otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[Interface] = []
        self.asked = 0
        self.now = 1000.0
        monkeypatch.setattr(writers, "CURRENT", Platform.WINDOWS)
        monkeypatch.setattr(writers, "_NAMES", writers._Names())
        monkeypatch.setattr(writers, "interfaces", self.interfaces)
        monkeypatch.setattr(writers, "monotonic", lambda: self.now)
        monkeypatch.setattr(socket, "if_indextoname", "ethernet_{}".format)

    def interfaces(self) -> tuple[Interface, ...]:
        self.asked += 1
        return tuple(self.found)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def named(index: int) -> str:
    """What is shown of a link-local address on the interface."""
    return writers._host(("fe80::7", 5000, 0, index)).removeprefix("fe80::7%")


@pytest.mark.parametrize("writer", [writers.JsonWriter, writers.HexWriter])
def test_each_datagram_is_told_with_the_name_that_users_see(
    host: Host, writer: type[writers.JsonWriter | writers.HexWriter]
) -> None:
    stream = io.StringIO()
    with feed(metadata=available(writer.metadata)) as busy:
        busy.send(b"one", b"two", b"three")
        batches = busy.receive(3)
        host.found = [Interface("Ethernet 2", batches[0].interface_indexes[0])]
        for batch in batches:
            writer(stream).write(batch)
    if writer is writers.JsonWriter:
        assert [json.loads(line)["interface"] for line in stream.getvalue().splitlines()] == ["Ethernet 2"] * 3
    else:
        assert stream.getvalue().count("  Ethernet 2  ") == 3
    assert host.asked == 1


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize(
    ("option", "key", "told"),
    [(options.DROP_COUNTER, "dropped", 0), (options.RECEIVE_HOPS, "hops", 1), (options.RECEIVE_TOS, "tos", 0)],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize(
    "error", [OSError(errno.EINVAL, "refused"), UnsupportedError("not here")], ids=["errno", "lack"]
)
def test_what_the_system_refuses_is_null(
    loopback: Link,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    option: Option[bool],
    key: str,
    told: int,
    error: Exception,
) -> None:
    """As Windows Server 2022 is said to refuse options that Windows has."""
    set_option = options.set_option

    def refuse(sock: socket.socket, asked: Option[Any], value: Any, **keywords: Any) -> None:
        if asked is option:
            raise error
        set_option(sock, asked, value, **keywords)

    def receive() -> dict[str, Any]:
        """What is written of one datagram."""
        assert main(["recv", GROUP, "-i", "lo", "--json", "-c", "1", "--quiet"]) == 0
        shown: dict[str, Any] = json.loads(capfd.readouterr().out)
        return shown

    recv_batch = Receiver.recv_batch_into

    def send_first(receiver: Receiver, batch: Batch, timeout: float | None = None) -> int:
        with Sender(GROUP, interface="lo") as sender:
            sender.send(b"x")
        return recv_batch(receiver, batch, timeout)

    monkeypatch.setattr(Receiver, "recv_batch_into", send_first, raising=False)
    every = receive()
    assert every[key] == (told if CURRENT is Platform.LINUX or key != "dropped" else None)
    monkeypatch.setattr(options, "set_option", refuse)
    left = receive()
    assert left.pop(key) is None
    assert left.keys() | {key} == every.keys()
    assert [name for name in left if left[name] is None] == [name for name in left if every[name] is None]


def test_an_interface_that_came_later_is_named_at_once(host: Host) -> None:
    host.found = [Interface("Ethernet 2", 7)]
    assert named(7) == "Ethernet 2"
    host.found += [Interface("Wi-Fi", 8)]
    assert (named(8), named(7), named(8)) == ("Wi-Fi", "Ethernet 2", "Wi-Fi")
    assert host.asked == 2


def test_one_that_is_gone_has_its_number_and_is_asked_for_once_a_second(host: Host) -> None:
    host.found = [Interface("Ethernet 2", 7)]
    assert [named(index) for index in (9, 9, 7, 10, 9, 10)] == ["9", "9", "Ethernet 2", "10", "9", "10"]
    assert host.asked == 2
    host.found += [Interface("Wi-Fi", 9)]
    assert (named(9), host.asked) == ("9", 2)
    host.now += 1.0
    assert (named(9), named(9), host.asked) == ("Wi-Fi", "Wi-Fi", 3)
