"""Which groups and sources a socket has joined, and which step may follow: the state machine of RFC 3678.

For each group and interface a socket is in exclude mode (any source but those blocked) or in include mode (the sources
joined). Systems disagree about steps that the RFC forbids, with their codes and with what they do: on Linux a join of
one source after an any-source join succeeds and shuts out every other. So each step is checked here first and refused
with one code on every system, and only legal steps reach the kernel.

    step                  not joined      any-source (exclude)           sources (include)
    join the group        exclude         EADDRINUSE                     EADDRINUSE
    join a source         include         EADDRINUSE                     added; EADDRINUSE if it is there
    leave the group       EADDRNOTAVAIL   left, with its blocks          left, with all its sources
    leave a source        EADDRNOTAVAIL   EINVAL                         removed, left with the last; else EADDRNOTAVAIL
    block a source        EADDRNOTAVAIL   added; else EADDRNOTAVAIL      EINVAL
    unblock a source      EADDRNOTAVAIL   removed; else EADDRNOTAVAIL    EINVAL
"""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from mcastfast.address import IPAddress
from mcastfast.errors import CURRENT, Operation, Platform, os_error
from mcastfast.interface import Interface
from mcastfast.requests import Action, describe, request_membership

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcastfast.options import SocketLike


class FilterMode(StrEnum):
    """What the sources of a Membership are: RFC 3376, section 3.1."""

    INCLUDE = "include"
    """Datagrams from these sources only."""
    EXCLUDE = "exclude"
    """Datagrams from any source but these."""


class Membership(NamedTuple):
    """One group joined on one interface; `sources` are included or blocked, as `mode` says, in the order of calls."""

    group: IPAddress
    interface: Interface
    mode: FilterMode
    sources: tuple[IPAddress, ...] = ()

    def __str__(self) -> str:
        listed = ", ".join(map(str, self.sources))
        if self.mode is FilterMode.INCLUDE:
            return f"{self.group} from {listed} on {self.interface}"
        return f"{self.group} from any source{f' but {listed}' if listed else ''} on {self.interface}"


class Refusal(NamedTuple):
    """An interface that was skipped by a join on all interfaces, and why."""

    group: IPAddress
    interface: Interface
    error: OSError


class Step(NamedTuple):
    """One request; `source` is None where the whole group is joined or left."""

    action: Action
    group: IPAddress
    source: IPAddress | None
    interface: Interface

    @property
    def key(self) -> tuple[IPAddress, int]:
        """What it is about: the group and the interface's index."""
        return self.group, self.interface.index

    def __str__(self) -> str:
        return f"{self.action} {describe(self.group, self.source, self.interface)}"


def transition(before: Membership | None, step: Step) -> Membership | None:
    """The membership after a step, None for not joined; OSError as the table of this module says.

    Raises ValueError for a block or unblock without a source.
    """
    if before is not None:
        return _RULES[step.action](before, step)
    if step.action is not Action.JOIN:
        _refuse(step, errno.EADDRNOTAVAIL, "the group is not joined there")
    if step.source is None:
        return Membership(step.group, step.interface, FilterMode.EXCLUDE)
    return Membership(step.group, step.interface, FilterMode.INCLUDE, (step.source,))


def _join(before: Membership, step: Step) -> Membership:
    if before.mode is FilterMode.EXCLUDE:
        instead = "block the sources that are not wanted" if step.source else "block and unblock sources"
        _refuse(step, errno.EADDRINUSE, f"already joined, {before}: leave that first, or {instead}")
    if step.source is None:
        _refuse(step, errno.EADDRINUSE, f"already joined, {before}: leave that first, or join further sources")
    if step.source in before.sources:
        _refuse(step, errno.EADDRINUSE, f"already joined, {before}")
    return before._replace(sources=(*before.sources, step.source))


def _leave(before: Membership, step: Step) -> Membership | None:
    if step.source is None:
        return None
    if before.mode is FilterMode.EXCLUDE:
        _refuse(step, errno.EINVAL, f"joined is {before}: block the source, or leave the group")
    after = _without_source(before, step)
    return after if after.sources else None


def _block(before: Membership, step: Step) -> Membership:
    source = _source_to_filter(before, step)
    if source in before.sources:
        _refuse(step, errno.EADDRNOTAVAIL, "already blocked")
    return before._replace(sources=(*before.sources, source))


def _unblock(before: Membership, step: Step) -> Membership:
    _source_to_filter(before, step)
    return _without_source(before, step)


def _source_to_filter(before: Membership, step: Step) -> IPAddress:
    if step.source is None:
        raise ValueError(f"{step}: name the source")
    if before.mode is FilterMode.INCLUDE:
        _refuse(step, errno.EINVAL, f"joined is {before}, and nothing else: join and leave sources instead")
    return step.source


def _without_source(before: Membership, step: Step) -> Membership:
    if step.source not in before.sources:
        _refuse(step, errno.EADDRNOTAVAIL, f"joined is {before}")
    return before._replace(sources=tuple(source for source in before.sources if source != step.source))


_RULES = {Action.JOIN: _join, Action.LEAVE: _leave, Action.BLOCK: _block, Action.UNBLOCK: _unblock}


def _refuse(step: Step, code: int, reason: str) -> NoReturn:
    raise os_error(Operation(step.action), describe(step.group, step.source, step.interface), code, reason=reason)


def _reverse(step: Step, before: Membership | None) -> list[Step]:
    """The steps that bring `before` back after a step."""
    if step.action is Action.LEAVE and step.source is None and before is not None:
        joins = [step._replace(action=Action.JOIN, source=source) for source in before.sources]
        if before.mode is FilterMode.INCLUDE:
            return joins
        return [step._replace(action=Action.JOIN), *(join._replace(action=Action.BLOCK) for join in joins)]
    opposite = {
        Action.JOIN: Action.LEAVE,
        Action.LEAVE: Action.JOIN,
        Action.BLOCK: Action.UNBLOCK,
        Action.UNBLOCK: Action.BLOCK,
    }
    return [step._replace(action=opposite[step.action])]


class Memberships:
    """The memberships of one socket, changed by steps that are legal only.

    A call makes one step for each interface and source. Every step is checked before the first is made; when the system
    refuses one, those made before it are taken back, and the error says which it was. An exception out of a signal
    handler leaves those made before it, and the table true. Any thread may call at any time, also while another is
    blocked in a receive. There is no close(): the kernel ends memberships with the last holder of the socket.

    Addresses are those of a Group, of the family of the socket. ValueError: no source where one is needed. OSError: an
    illegal step, with the codes of this module's table, or what the system answers, with a note where cause and remedy
    are known.
    """

    def __init__(self, sock: SocketLike, *, is_ours: bool = True) -> None:
        """`is_ours`: nothing is joined but by this table."""
        self._sock = sock
        self._is_ours = is_ours
        self._lock = threading.RLock()  # a signal handler may ask, too, or print its receiver
        self._table: dict[tuple[IPAddress, int], Membership] = {}
        self._refusals: dict[tuple[IPAddress, int], Refusal] = {}

    def after_fork(self) -> None:
        """In a forked child: forget a lock that a thread of the parent may have held."""
        self._lock = threading.RLock()

    @property
    def memberships(self) -> tuple[Membership, ...]:
        """What is joined now, in the order of the joins."""
        with self._lock:
            return tuple(self._table.values())

    @property
    def skipped(self) -> tuple[Refusal, ...]:
        """The interfaces that join(skip_refusals=True) passed over, until they are joined or their group is left."""
        with self._lock:
            return tuple(self._refusals.values())

    def join(
        self,
        group: IPAddress,
        sources: Iterable[IPAddress],
        interfaces: Iterable[Interface],
        *,
        skip_refusals: bool = False,
    ) -> None:
        """Join a group, or with `sources` only these, on each of the interfaces.

        With `skip_refusals` what is joined already is well, and an interface on which it fails is passed over and
        listed in `skipped`; what fails on every interface is an OSError with the code of the first. A limit of the
        socket is no interface's refusal: beyond it all that the call has joined is left again, and it is an OSError.
        """
        sources = tuple(sources)
        plans = [_plan(Action.JOIN, group, sources, interface) for interface in interfaces]
        with self._lock:
            if not skip_refusals:
                self._check_even(Action.JOIN, group, plans)
                self._make([step for plan in plans for step in plan])
                return
            missing = [[step for step in plan if not self._is_made(step)] for plan in plans]
            self._check_even(Action.JOIN, group, missing, skip_refusals=True)
            refusals: list[Refusal] = []
            made: list[Step] = []
            for plan in filter(None, missing):
                if refusal := self._try(plan):
                    refusals.append(refusal)
                    if refusal.error.errno in _LIMITS:
                        self._take_back([(step, None) for step in made], refusal.error)
                        raise refusal.error
                else:
                    made += plan
            if refusals and len(refusals) == len(plans):
                raise _every_interface_refuses(group, refusals)
            self._refusals.update({(group, refusal.interface.index): refusal for refusal in refusals})

    def leave(
        self, group: IPAddress, sources: Iterable[IPAddress] = (), interfaces: Iterable[Interface] | None = None
    ) -> None:
        """Leave a group with all its sources, or with `sources` only these, on `interfaces` (None: where it is joined).

        The last source that is left takes the group with it. On an interface that is gone the membership has ended
        already, and leaving it just forgets it.
        """
        self._change(Action.LEAVE, group, sources, interfaces)
        with self._lock:
            if not any(joined.group == group for joined in self._table.values()):
                self._refusals = {key: refusal for key, refusal in self._refusals.items() if refusal.group != group}

    def forget(self, group: IPAddress, interfaces: Iterable[Interface]) -> None:
        """Leave a group on those of the interfaces, which are gone, where it is joined."""
        with self._lock:
            plans = [_plan(Action.LEAVE, group, (), interface) for interface in interfaces]
            self._make([step for plan in plans for step in plan if step.key in self._table])

    def block(
        self, group: IPAddress, sources: Iterable[IPAddress], interfaces: Iterable[Interface] | None = None
    ) -> None:
        """Shut sources out of a group that was joined from any source, on `interfaces` (None: where it is joined)."""
        self._change(Action.BLOCK, group, sources, interfaces)

    def unblock(
        self, group: IPAddress, sources: Iterable[IPAddress], interfaces: Iterable[Interface] | None = None
    ) -> None:
        """Let blocked sources in again, on `interfaces` (None: where the group is joined)."""
        self._change(Action.UNBLOCK, group, sources, interfaces)

    def _change(
        self, action: Action, group: IPAddress, sources: Iterable[IPAddress], interfaces: Iterable[Interface] | None
    ) -> None:
        sources = tuple(sources)
        with self._lock:
            if interfaces is None:
                interfaces = [joined.interface for joined in self._table.values() if joined.group == group]
                if not interfaces:
                    listed = ", ".join(map(str, self._table.values())) or "nothing"
                    raise os_error(Operation(action), str(group), errno.EADDRNOTAVAIL, reason=f"joined is {listed}")
            plans = [_plan(action, group, sources, interface) for interface in interfaces]
            self._check_even(action, group, plans)
            self._make([step for plan in plans for step in plan])

    def _check_even(
        self, action: Action, group: IPAddress, plans: list[list[Step]], *, skip_refusals: bool = False
    ) -> None:
        """Refuse what would leave an IPv6 group with different sources on different interfaces.

        Linux looks for a socket's sources by the group alone there, and applies those of one interface to all.
        """
        if self._sock.family == socket.AF_INET:
            return
        expected: dict[tuple[IPAddress, int], Membership | None] = dict(self._table)
        for plan in plans:
            try:
                expected = _after(expected, plan)
            except OSError:
                if not skip_refusals:
                    raise
        joined = [membership for membership in expected.values() if membership and membership.group == group]
        if len({(membership.mode, frozenset(membership.sources)) for membership in joined}) > 1:
            listed = ", ".join(map(str, joined))
            raise os_error(
                Operation(action),
                str(group),
                errno.EINVAL,
                reason=f"an IPv6 socket has one list of sources for a group, whatever the interface, and this makes "
                f"{listed}: use a Receiver for each interface, and ReceiverSet([...]) to receive on all",
            )

    def _is_made(self, step: Step) -> bool:
        """Whether a join has happened already."""
        joined = self._table.get(step.key)
        if joined is None:
            return False
        if step.source is None:
            return joined.mode is FilterMode.EXCLUDE
        return joined.mode is FilterMode.INCLUDE and step.source in joined.sources

    def _try(self, steps: list[Step]) -> Refusal | None:
        try:
            self._make(steps)
        except OSError as error:
            return Refusal(steps[0].group, steps[0].interface, error)
        return None

    def _make(self, steps: list[Step]) -> None:
        """Make all the steps or none. Called with the lock held."""
        _after({**self._table}, steps)
        made: list[tuple[Step, Membership | None]] = []
        for step in steps:
            before = self._table.get(step.key)
            try:
                self._ask(step)
            except OSError as error:
                self._take_back(made, error)
                raise
            made.append((step, before))

    def _take_back(self, made: list[tuple[Step, Membership | None]], error: OSError) -> None:
        undone = []
        for done, before in reversed(made):
            try:
                for step in _reverse(done, before):
                    self._ask(step)
            except OSError as another:
                error.add_note(f"{done} was made before and could not be taken back: {another}")
            else:
                undone.append(done)
        if undone:
            more = f" and {len(undone) - 1} more were made before and are" if undone[1:] else " was made before and is"
            error.add_note(f"{undone[-1]}{more} taken back.")

    def _ask(self, step: Step) -> None:
        """Ask the system for one legal step and note the outcome."""
        before = self._table.get(step.key)
        if before is None and step.action is Action.LEAVE:
            return  # the step before found the interface gone
        after = transition(before, step)
        try:
            self._note(step, self._request(step, after))
        except BaseException as error:
            is_answer = isinstance(error, OSError) and error.errno
            if not is_answer and self._table.get(step.key) == before:
                self._settle(step, before, after)
            raise

    def _request(self, step: Step, after: Membership | None) -> Membership | None:
        """Ask the system, and return what is joined then, if it does not refuse."""
        # Who leaves the last source leaves the group: macOS would keep an empty membership, and join there no more.
        # Linux does so by itself, and keeps sources that others joined by this socket.
        source = step.source if after or CURRENT is Platform.LINUX else None
        try:
            request_membership(self._sock, step.action, step.group, source, step.interface)
        except OSError as error:
            if self._is_ours and step.key not in self._table and source and error.errno in _LIMITS:
                self._leave_remains(step)  # Linux joins the group first, then adds the source
            if step.action is not Action.LEAVE or error.errno not in _NOT_THERE | _INTERFACE_GONE:
                raise
            if error.errno in _INTERFACE_GONE:
                if source:
                    self._leave_remains(step)
                return None
        return after

    def _note(self, step: Step, joined: Membership | None) -> None:
        if joined is None:
            self._table.pop(step.key, None)
        else:
            self._table[step.key] = joined
            self._refusals.pop(step.key, None)

    def _settle(self, step: Step, before: Membership | None, after: Membership | None) -> None:
        """Make system and table alike after an exception out of a signal handler: the step may be made or not.

        Joins and blocks are taken back, leaves and unblocks made again: no limit keeps the system from either.
        """
        action = _REMOVALS[step.action]
        kept = after if action is step.action else before
        with suppress(OSError):
            kept = self._request(step._replace(action=action), kept)
        self._note(step, kept)

    def _leave_remains(self, step: Step) -> None:
        """Free the place in the socket's list, which Linux keeps without the interface or room for a source."""
        with suppress(OSError):
            request_membership(self._sock, Action.LEAVE, step.group, None, step.interface)


# What takes a step away again or, where the step itself takes away, does so once more.
_REMOVALS = {
    Action.JOIN: Action.LEAVE,
    Action.LEAVE: Action.LEAVE,
    Action.BLOCK: Action.UNBLOCK,
    Action.UNBLOCK: Action.UNBLOCK,
}
# The answers to a leave when the system's list and ours differ: a forked child, which shares the socket, may have left.
_NOT_THERE = frozenset({errno.EADDRNOTAVAIL, errno.EINVAL})
_INTERFACE_GONE = frozenset({errno.ENODEV, errno.ENXIO})
# The answers to a join where a socket has as many groups or sources as it may.
_LIMITS = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})


def _after(
    table: dict[tuple[IPAddress, int], Membership | None], steps: list[Step]
) -> dict[tuple[IPAddress, int], Membership | None]:
    """The table as the steps would leave it; OSError for an illegal one."""
    table = dict(table)
    for step in steps:
        table[step.key] = transition(table.get(step.key), step)
    return table


def _plan(action: Action, group: IPAddress, sources: tuple[IPAddress, ...], interface: Interface) -> list[Step]:
    return [Step(action, group, source, interface) for source in sources or (None,)]


def _every_interface_refuses(group: IPAddress, refusals: list[Refusal]) -> OSError:
    first = refusals[0].error
    listed = "; ".join(str(refusal.error) for refusal in refusals)
    made = os_error(Operation.JOIN, f"{group} on every interface", first, reason=f"all refuse: {listed}")
    for note in getattr(first, "__notes__", ()):
        made.add_note(note)
    return made
