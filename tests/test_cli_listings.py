"""`mcastfast interfaces` and `mcastfast groups` show what the system says, as tables and as JSON."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from clilab import run

from mcastfast import Receiver
from mcastfast.commands.output import format_table

if TYPE_CHECKING:
    from netlab import Lan

pytestmark = pytest.mark.needs("namespaces")


def test_interfaces_are_listed_in_columns(lan: Lan) -> None:
    result = run(lan.receiver.namespace, "interfaces")
    assert (result.code, result.stderr) == (0, "")
    head, *rows = result.text.splitlines()
    assert head.split() == ["INDEX", "NAME", "MTU", "FLAGS", "ADDRESSES"]
    cells = [row.split(maxsplit=4) for row in rows]
    assert [row[:4] for row in cells] == [
        ["1", "lo", "65536", "up,running,loopback"],
        [str(lan.receiver.index), lan.receiver.name, "1500", "up,running,multicast"],
    ]
    assert f"{lan.receiver.ipv4}/24" in cells[1][4].split()
    assert len({row.index(cell[4]) for row, cell in zip(rows, cells, strict=True)}) == 1


def test_interfaces_as_json(lan: Lan) -> None:
    lo, veth = json.loads(run(lan.receiver.namespace, "interfaces", "--json").text)
    assert (lo["name"], lo["loopback"], lo["multicast"]) == ("lo", True, False)
    assert "127.0.0.1/8" in lo["addresses"]
    assert veth == {
        "index": lan.receiver.index,
        "name": lan.receiver.name,
        "mtu": 1500,
        "up": True,
        "running": True,
        "multicast": True,
        "loopback": False,
        "point_to_point": False,
        "addresses": veth["addresses"],
    }


def test_groups_are_listed_by_interface(lan: Lan) -> None:
    name = lan.receiver.name
    with lan.receiver.namespace:
        asm = Receiver("239.1.2.3:5000", interface=name)
        ssm = Receiver("10.0.0.8,10.0.0.7@232.1.2.3:5000", interface=name)
        blocking = Receiver("239.1.2.4:5000", interface=name)
    with asm, ssm, blocking:
        blocking.block("239.1.2.4", "10.0.0.9")
        text = run(lan.receiver.namespace, "groups").text
        one = run(lan.receiver.namespace, "groups", "--json", "--interface", name).text
    head, *rows = text.splitlines()
    assert head.split() == ["INTERFACE", "GROUP", "USERS", "PROTOCOL", "SOURCES"]
    cells = [[cell.strip() for cell in re.split("  +", row)] for row in rows]
    assert [row[0] for row in cells if row[0]] == ["lo", name]
    assert {tuple(row[1:]) for row in cells} >= {
        ("239.1.2.3", "1", "IGMPv3", "any"),
        ("232.1.2.3", "1", "IGMPv3", "10.0.0.7, 10.0.0.8"),
        ("239.1.2.4", "1", "IGMPv3", "not 10.0.0.9"),
    }
    groups = {item["group"]: item for item in json.loads(one)}
    assert {item["interface"] for item in groups.values()} == {name}
    assert set(groups["232.1.2.3"]["included"]) == {"10.0.0.7", "10.0.0.8"}
    assert groups["239.1.2.4"]["excluded"] == ["10.0.0.9"]


@pytest.mark.needs("ipv6")
def test_sources_that_the_kernel_does_not_tell_are_not_said_to_be_any(lan: Lan) -> None:
    name = lan.receiver.name
    with lan.receiver.namespace, ExitStack() as stack:
        for group in (
            "10.0.0.7@232.1.2.3:5000",
            "239.1.2.3:5000",
            "fd77:1::7@[ff35::8000:3]:5000",
            "[ff15::1:3]:5000",
        ):
            stack.enter_context(Receiver(group, interface=name))
        text = run(lan.receiver.namespace, "groups").text
        objects = json.loads(run(lan.receiver.namespace, "groups", "--json", "-i", name).text)
    cells = [[cell.strip() for cell in re.split("  +", row)] for row in text.splitlines()]
    assert {tuple(row[1:]) for row in cells} >= {
        ("239.1.2.3", "1", "IGMPv3", "any"),
        ("232.1.2.3", "1", "IGMPv3", "not told"),
        ("ff15::1:3", "1", "MLD", "any"),
        ("ff35::8000:3", "1", "MLD", "not told"),
    }
    groups = {item["group"]: (item["included"], item["excluded"]) for item in objects}
    assert (groups["239.1.2.3"], groups["232.1.2.3"]) == (([], []), (None, None))


def test_groups_of_an_interface_that_does_not_exist_are_wrong_usage(lan: Lan) -> None:
    result = run(lan.receiver.namespace, "groups", "-i", "nosuch0")
    assert result.code == 2
    assert f"unknown interface 'nosuch0': this host has lo, {lan.receiver.name}" in result.stderr


@pytest.mark.needs("ipv6")
def test_ipv6_groups_are_listed_too(lan: Lan) -> None:
    name = lan.receiver.name
    with lan.receiver.namespace:
        asm = Receiver("[ff15::1:3]:5000", interface=name)
        ssm = Receiver("fd77:1::8,fd77:1::7@[ff35::8000:3]:5000", interface=name)
        blocking = Receiver("[ff15::1:4]:5000", interface=name)
    with asm, ssm, blocking:
        blocking.block("ff15::1:4", "fd77:1::9")
        text = run(lan.receiver.namespace, "groups").text
        one = run(lan.receiver.namespace, "groups", "--json", "-i", name).text
    cells = [[cell.strip() for cell in re.split("  +", row)] for row in text.splitlines()]
    assert {tuple(row[1:]) for row in cells} >= {
        ("ff15::1:3", "1", "MLD", "any"),
        ("ff35::8000:3", "1", "MLD", "fd77:1::7, fd77:1::8"),
        ("ff15::1:4", "1", "MLD", "not fd77:1::9"),
    }
    groups = {item["group"]: item for item in json.loads(one)}
    assert groups["ff15::1:3"] == {
        "interface": name,
        "index": lan.receiver.index,
        "group": "ff15::1:3",
        "users": 1,
        "version": None,
        "included": [],
        "excluded": [],
    }
    assert set(groups["ff35::8000:3"]["included"]) == {"fd77:1::7", "fd77:1::8"}
    assert groups["ff15::1:4"]["excluded"] == ["fd77:1::9"]


def test_columns_are_as_wide_as_their_cells() -> None:
    table = format_table(("A", "LONGER"), [("cell", "1"), ("", "1,000")], right=(1,))
    assert table == "A     LONGER\ncell       1\n       1,000"
