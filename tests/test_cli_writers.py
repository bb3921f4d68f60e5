"""What `recv` writes names interfaces as `mcastfast interfaces` does, on Windows too."""

from __future__ import annotations

import io
import json
import socket

import pytest
from traffic import feed

from mcastfast import Interface
from mcastfast.commands import writers
from mcastfast.errors import Platform
from mcastfast.reception import available


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
