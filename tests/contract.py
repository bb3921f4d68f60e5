"""Which name, engine and field there is on which system: docs/platforms.toml, read.

`python tests/contract.py`, which `make docs` runs, makes the tables of docs/platforms.md from it.
"""

from __future__ import annotations

import ast
import re
import tomllib
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING, Any, NamedTuple

from mcastfast import options
from mcastfast.errors import Platform
from mcastfast.requests import Action, request_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mcastfast.options import Option, Place

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "platforms.md"

NAMES = {Platform.LINUX: "Linux", Platform.MACOS: "macOS", Platform.WINDOWS: "Windows"}
EVERYWHERE = frozenset(NAMES)
FAMILIES = (AF_INET, AF_INET6)

_FAMILY = re.compile(r" \(IPv([46])\)$")
_PLACE = re.compile(r"(<!-- table: (\w+) -->)\n.*?(<!-- end -->)", re.DOTALL)


class Row(NamedTuple):
    """One row; docs/platforms.toml says what each part means."""

    what: str
    on: frozenset[Platform]
    absent: str = ""
    right: str = ""
    option: str = ""
    text: str = ""

    def __str__(self) -> str:
        return self.what

    @property
    def code(self) -> str:
        """It without the family that some rows are about."""
        return _FAMILY.sub("", self.what)

    @property
    def families(self) -> tuple[int, ...]:
        """Those that it is about."""
        found = _FAMILY.search(self.what)
        return (FAMILIES[found[1] == "6"],) if found else FAMILIES

    def find_option(self) -> Option[Any]:
        """The socket option behind it."""
        found: Option[Any] = getattr(options, self.option)
        return found

    def call(self) -> tuple[str, str, list[str]]:
        """Of [memberships]: the method, the group and the sources."""
        method, _, operands = self.what.partition("(")
        group, *sources = ast.literal_eval(f"({operands.removesuffix(')')},)")
        return method, group, sources

    def request(self, platform: Platform) -> Place[Any]:
        """Of [memberships]: what the system is asked; UnsupportedError where it cannot be."""
        method, group_name, sources = self.call()
        group = ip_address(group_name)
        source = ip_address(sources[0]) if sources else None
        family = AF_INET if group.version == 4 else AF_INET6
        return request_option(Action(method), group, source, platform=platform).place(family, platform)


def _read_row(what: str, value: str | dict[str, str]) -> Row:
    parts = {"on": value} if isinstance(value, str) else dict(value)
    on = parts.pop("on")
    row = Row(what, EVERYWHERE if on == "everywhere" else frozenset(map(Platform, on.split())), **parts)
    if (row.on == EVERYWHERE) == bool(row.absent):
        raise ValueError(f"{what}: it is on {', '.join(sorted(row.on))}: absent= is for the others, and for them alone")
    return row


CONTRACT = {
    section: tuple(_read_row(what, value) for what, value in rows.items())
    for section, rows in tomllib.loads((DOCS / "platforms.toml").read_text(encoding="utf-8")).items()
}


def rendered(page: str) -> str:
    """The page with its tables as they follow from the rows; ValueError where a section has no place in it."""
    places = [section for _, section, _ in _PLACE.findall(page)]
    if missing := {*CONTRACT, "options"} ^ {*places}:
        raise ValueError(f"{PAGE.name}: either no table or no rows for {', '.join(sorted(missing))}")
    return _PLACE.sub(lambda found: "\n".join([found[1], *_lines(found[2]), found[3]]), page)


def _lines(section: str) -> Iterator[str]:
    if section == "options":
        yield from _table("option", _options())
        return
    rows = CONTRACT[section]
    asks = section == "memberships"
    same = [row for row in rows if row.on == EVERYWHERE and not (row.text or row.right or asks)]
    if same:
        yield f"Everywhere: {', '.join(f'`{row}`' for row in same)}."
        yield ""
    if others := [row for row in rows if row not in same]:
        cells = [(f"`{row}`", *(_cell(row, platform, asks=asks) for platform in NAMES), row.text) for row in others]
        yield from _table("", cells, notes=True)


def _table(what: str, cells: Iterable[tuple[str, ...]], *, notes: bool = False) -> Iterator[str]:
    headers = [what, *NAMES.values(), *[""] * notes]
    yield f"| {' | '.join(headers)} |"
    yield f"|{'---|' * len(headers)}"
    for row in cells:
        yield f"| {' | '.join(row)} |"
    yield ""


def _cell(row: Row, platform: Platform, *, asks: bool) -> str:
    if platform not in row.on:
        return row.absent if " " in row.absent or row.absent == "ignored" else f"`{row.absent}`"
    if asks:
        return f"`{row.request(platform).name}`"
    return f"with {row.right}" if row.right and platform is Platform.LINUX else "yes"


def _options() -> Iterator[tuple[str, ...]]:
    """A row for each of options.py, with what it is called where."""
    for option in vars(options).values():
        if isinstance(option, options.Option):
            names = ({row.name: None for row in option.rows if row.number(platform) is not None} for platform in NAMES)
            yield option.role, *(", ".join(f"`{name}`" for name in found) for found in names)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
