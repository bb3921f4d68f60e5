"""Every row of docs/platforms.toml holds on this system, in both directions, and there is nothing that no row names.

Over the shim of `make test-apple` the C core is macOS', and what Python decides is Linux': see darwin/gaps.py.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import re
import sys
from socket import AF_INET
from typing import TYPE_CHECKING, Any

import pytest
from clilab import run
from contract import CONTRACT, PAGE, Row, rendered
from contractlab import (
    COMMANDS,
    CORE,
    FLAGS,
    RECEIVED,
    SENT,
    USES,
    Shown,
    assert_passes,
    is_here,
    is_sent,
    loopback_of,
    names,
    opened,
    shown_in_all_ways,
    stats_of_a_flow,
    stats_of_batches,
)
from receivelab import V4, V6, at, drain, exchange, member, sources
from traffic import PATIENCE, feed

import mcastfast
from mcastfast import (
    ENGINES,
    Background,
    Batch,
    DatagramFlag,
    Interface,
    Receiver,
    ReceiverStats,
    Sender,
    SenderStats,
    UnsupportedError,
    _core,
)
from mcastfast.address import Group
from mcastfast.binding import BIND_MODES, plan_binding
from mcastfast.cli import make_parser
from mcastfast.errors import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netlab import Link

needs_ipv6 = pytest.mark.needs("ipv6")

MACOS_15_6 = (24, 6)
"""Its Darwin."""

ERRORS: dict[str, type[Exception]] = {error.__name__: error for error in (UnsupportedError, ValueError, OSError)}


def rows(section: str) -> pytest.MarkDecorator:
    """A test for each row, by what it is."""
    return pytest.mark.parametrize("row", CONTRACT[section], ids=str)


def keywords(row: Row) -> dict[str, Any]:
    """Those that the row, as it stands there, passes."""
    passed: dict[str, Any] = eval(f"dict({row.code})")
    return passed


def all_keywords(section: str) -> set[str]:
    return {keyword for row in CONTRACT[section] for keyword in keywords(row)}


@contextlib.contextmanager
def held_to(row: Row) -> Iterator[None]:
    """What is done within must be as the row says: it works, or ends in the error that the row names."""
    if not is_here(row) and row.absent in ERRORS:
        with pytest.raises(ERRORS[row.absent]) as caught:
            yield
        assert type(caught.value) is ERRORS[row.absent]
        assert str(caught.value)
        return
    try:
        yield
    except OSError as error:
        notes = " ".join([str(error), *getattr(error, "__notes__", ())])
        if CORE is not Platform.LINUX or not row.right or row.right not in notes:
            raise
        pytest.skip(notes)


# There is nothing that no row names


def test_the_page_shows_these_rows() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rendered(page), "docs/platforms.md is not made from docs/platforms.toml: run `make docs`"


def test_there_is_no_other_name() -> None:
    assert names("names") == set(mcastfast.__all__)


def test_there_is_no_other_engine() -> None:
    with pytest.raises(ValueError, match="engine='none' is not known") as caught:
        Receiver("239.1.2.3:5000", interface="127.0.0.1", engine="none")
    _, _, listed = str(caught.value).partition("this system has 'auto', ")
    assert names("engines") == set(re.findall(r"(?:'|but not )(\w+)[':]", listed))
    assert names("engines") - names("engines", here=True) == set(re.findall(r"but not (\w+): for ", listed))
    assert set(ENGINES) <= names("engines", here=True)


def test_every_engine_of_this_system_is_here() -> None:
    """Without a network, so that it is seen on every host, where tests skip what is refused."""
    expected = names("engines", here=True) - {"packet"}  # which sends nothing, and is not among them
    if sys.platform == "darwin" and tuple(map(int, platform.release().split("."))) < MACOS_15_6:
        expected.discard("apple")
    assert set(ENGINES) == expected


@pytest.mark.parametrize(
    ("section", "call"),
    [
        ("receiver", Receiver.__init__),
        ("receiver", Receiver.from_socket.__func__),  # type: ignore[attr-defined]
        ("sender", Sender.__init__),
        ("sender", Sender.from_socket.__func__),  # type: ignore[attr-defined]
        ("background", Background.__new__),
    ],
    ids=lambda value: getattr(value, "__qualname__", value),
)
def test_there_is_no_other_keyword(section: str, call: Any) -> None:
    taken = set(call.__code__.co_varnames[: call.__code__.co_argcount + call.__code__.co_kwonlyargcount])
    taken -= {"self", "cls", "_cls", "group", "sock"}
    if call in (Receiver.__init__, Sender.__init__, Background.__new__):
        assert taken == all_keywords(section)
    else:
        assert taken <= all_keywords(section)


def test_there_is_no_other_value_of_a_keyword() -> None:
    passed = [keywords(row) for row in CONTRACT["receiver"]]
    assert {values["bind"] for values in passed if "bind" in values} == set(BIND_MODES)
    assert {value for values in passed for value in values.get("memory", ())} == set(_core.MEMORY)
    assert names("metadata") == set(_core.METADATA)


def test_there_is_no_other_field(loopback: Link) -> None:
    with opened(loopback) as (receiver, sender):
        sender.send(b"payload")
        batch = receiver.recv_batch(PATIENCE)
        empty = Batch(bytearray(1), max_datagram=1)
        columns = {name for name in dir(empty) if isinstance(getattr(empty, name), memoryview)}
        attributes = {name for name in dir(batch[0]) if not (name.startswith("_") or callable(getattr(batch[0], name)))}
    assert names("columns") == columns
    assert names("attributes") == attributes
    assert names("flags") == set(DatagramFlag.__members__)
    assert names("receiver_stats") == set(ReceiverStats._fields)
    assert names("sender_stats") == set(SenderStats._fields)
    assert names("interface") == set(Interface._fields)


def test_there_is_no_other_command() -> None:
    (choices,) = (action.choices for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert names("commands") == set(choices)


# What no system has to be run for


@pytest.mark.parametrize("platform", Platform)
@pytest.mark.parametrize("row", [row for found in CONTRACT.values() for row in found if row.option], ids=str)
def test_the_option_behind_it_is_there_on_the_same_systems(row: Row, platform: Platform) -> None:
    for family in row.families:
        assert row.find_option().supported(family, platform) == (platform in row.on)


def test_what_is_told_of_datagrams_is_asked_for_by_an_option() -> None:
    assert all(row.option for row in CONTRACT["metadata"])


@pytest.mark.parametrize("platform", Platform)
@pytest.mark.parametrize("row", [row for row in CONTRACT["receiver"] if "bind" in row.what], ids=str)
def test_what_is_bound_is_decided_by_the_system(row: Row, platform: Platform) -> None:
    joins: list[tuple[Group, tuple[Interface, ...]]] = [(Group.parse("239.1.2.3%eth0:5000"), (Interface("eth0", 1),))]
    mode = keywords(row)["bind"]
    if platform in row.on:
        assert bool(plan_binding(mode, joins, platform=platform).group) == (
            mode == "group" or (mode == "auto" and platform is not Platform.WINDOWS)
        )
    else:
        with pytest.raises(UnsupportedError, match=f"not available on {platform}"):
            plan_binding(mode, joins, platform=platform)


@pytest.mark.parametrize("platform", Platform)
@rows("memberships")
def test_a_membership_has_a_request(row: Row, platform: Platform) -> None:
    assert platform in row.on
    assert row.request(platform).name


# Names, engines, keywords


@rows("names")
def test_a_name_is_of_use(row: Row, loopback: Link) -> None:
    assert is_here(row)
    with opened(loopback) as (receiver, sender):
        sender.send_batch([b"payload"])
        assert USES[row.what](Shown(receiver, sender, receiver.recv_batch(PATIENCE), loopback))


@rows("engines")
def test_an_engine_receives_and_sends(row: Row, loopback: Link) -> None:
    with held_to(row), Receiver(at(V4.group, loopback), engine=row.what) as receiver:
        if row.what in ENGINES:
            with Sender(at(V4.group, loopback), engine=row.what) as sender:
                assert_passes(receiver, sender)
            return
        with Sender(at(V4.group, loopback)) as sender:
            assert_passes(receiver, sender)
        with pytest.raises(ValueError, match="only receives"):
            Sender(at(V4.group, loopback), engine=row.what)


SEEN: dict[str, Callable[[Receiver], bool]] = {
    'bind="any"': lambda receiver: receiver.address == ("0.0.0.0", 5000),
    'bind="group"': lambda receiver: receiver.address == (V4.group, 5000),
    "coalesce=True": lambda receiver: not receiver.stats.kernel_drops_exact,
    "max_memory=2**24": lambda receiver: receiver.stats.arenas > 0,
}
"""What else shows that a keyword of a receiver has done something."""


@rows("receiver")
def test_a_keyword_of_a_receiver(row: Row, loopback: Link) -> None:
    passed = {"port": 5000, "interface": loopback.name, **keywords(row)}
    if not passed.keys() & {"background", "max_memory"}:
        passed["max_memory"] = 2**22  # which may be locked
    with held_to(row), Receiver(V4.group, **passed) as receiver, Sender(at(V4.group, loopback)) as sender:
        assert_passes(receiver, sender)
        if has_seen := SEEN.get(row.what):
            assert has_seen(receiver)


@rows("background")
def test_a_field_of_a_background(row: Row, loopback: Link) -> None:
    background = Background(**{"size": "8 MiB", **keywords(row)})
    with held_to(row), opened(loopback, background=background) as (receiver, sender):
        assert_passes(receiver, sender)


@rows("sender")
def test_a_keyword_of_a_sender(row: Row, loopback: Link) -> None:
    passed = {"port": 5000, "interface": loopback.name, **keywords(row)}
    group = (V4 if AF_INET in row.families else V6).group
    with Receiver(at(group, loopback)) as receiver, held_to(row), Sender(group, **passed) as sender:
        assert_passes(receiver, sender)


# Datagrams


TOLD = {
    "destination": {"destination", "interface_index"},
    "timestamp": {"timestamp", "timestamp_kind"},
    "hardware_timestamp": {"timestamp", "timestamp_kind"},
    "drops": set(),
    "hops": {"hops"},
    "tos": {"tos"},
}
"""Which attributes metadata fills."""


@pytest.mark.filterwarnings("ignore::mcastfast.KernelTimestampWarning")
@rows("metadata")
def test_metadata_is_told_or_refused(row: Row) -> None:
    with held_to(row), feed(metadata=[row.what]) as quiet:
        (datagram,) = quiet.batch(b"payload")
        told = {name for name in names("attributes") if getattr(datagram, name) is not None}
        assert told == TOLD[row.what] | {"source", "truncated"}


@rows("columns")
def test_a_column_is_filled_or_refused(row: Row, loopback: Link) -> None:
    batches = shown_in_all_ways(loopback)
    with held_to(row):
        assert any(b"".join(bytes(getattr(batch, row.what)) for batch in batches)) == is_sent(row)


@rows("attributes")
def test_an_attribute_is_told_or_none(row: Row, loopback: Link) -> None:
    seen = [getattr(datagram, row.what) for batch in shown_in_all_ways(loopback) for datagram in batch]
    if is_here(row):
        assert None not in seen
        assert any(seen) == is_sent(row)
    else:
        assert set(map(repr, seen)) == {row.absent}


@rows("flags")
def test_a_flag_is_set(row: Row, loopback: Link) -> None:
    seen = FLAGS[row.what](loopback) & DatagramFlag[row.what]
    assert is_here(row) or row.absent == "0"
    assert bool(seen) == is_here(row)


# Counters


@needs_ipv6
@rows("receiver_stats")
def test_a_counter_of_a_receiver_counts(row: Row, loopback: Link) -> None:
    with held_to(row):
        assert_counts(row, RECEIVED.get(row.what, stats_of_a_flow)(loopback))


def assert_counts(row: Row, stats: ReceiverStats | SenderStats) -> None:
    value = repr(getattr(stats, row.what))
    if is_here(row):
        assert value not in ("0", row.absent)
    else:
        assert value == row.absent


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=pytest.mark.needs(*["token_bucket"] * (row.what == "send_drops")), id=row.what)
        for row in CONTRACT["sender_stats"]
    ],
)
def test_a_counter_of_a_sender_counts(row: Row, loopback: Link) -> None:
    assert_counts(row, SENT.get(row.what, stats_of_batches)(loopback))


# Memberships


@needs_ipv6
@rows("memberships")
def test_a_membership_opens_and_closes_a_group(row: Row, loopback: Link) -> None:
    method, group, named = row.call()
    family = V6 if ":" in group else V4
    with (
        Receiver(at(family.other, loopback), bind="any") as receiver,
        member(loopback.namespace, (group, loopback.index)) as observer,
        sources(loopback) as (source,),
    ):

        def is_heard() -> bool:
            exchange(observer, (source, group, b"payload"))
            return drain(receiver) == [b"payload"]

        assert not is_heard()
        if method == "block":
            receiver.join(group)
            assert is_heard()
            receiver.block(group, *named)
            assert not is_heard()
            receiver.unblock(group, *named)
            assert is_heard()
        else:
            receiver.join(group, *named)
            assert is_heard()
            receiver.leave(group, *named)
            assert not is_heard()
    assert is_here(row)


# Interfaces


@needs_ipv6
@rows("interface")
def test_an_interface_says_what_it_is(row: Row, loopback: Link) -> None:
    assert is_here(row)
    value = getattr(loopback_of(loopback), row.what)
    expected: dict[str, Any] = {
        "name": loopback.name,
        "index": loopback.index,
        "is_up": True,
        "is_running": True,
        "is_loopback": True,
        "is_point_to_point": False,
    }
    if row.what == "addresses":
        assert {loopback.ipv4, loopback.ipv6} <= {str(address.ip) for address in value}
    elif row.what == "mtu":
        assert value >= 0
    elif row.what == "is_multicast":
        assert isinstance(value, bool)
    else:
        assert value == expected[row.what]


# Commands


@rows("commands")
def test_a_command_does_its_work_or_says_why_not(row: Row, loopback: Link, tmp_path: Path) -> None:
    if is_here(row):
        assert COMMANDS[row.what](loopback, tmp_path)
    else:
        result = run(loopback.namespace, row.what)
        assert f"exit code {result.code}" == row.absent
        assert f"{CORE}" in result.stderr
