"""`mcastfast selftest`: whether mcastfast works on this machine, and what to report where it does not."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from mcastfast import ENGINES
from mcastfast.commands import arguments
from mcastfast.commands.output import print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mcastfast.commands.arguments import Subparsers
    from mcastfast.commands.selftest_checks import Check
    from mcastfast.commands.selftest_process import Outcome

TOTAL = 60.0
"""Seconds after which no further check is made; all of them take a few."""

_DETAILS = """\
Needs no network, no privileges and no set-up: some thousand datagrams are
multicast with TTL 0 or 1 by the loopback interface, to groups and ports
chosen at random. None leaves the host, which is checked before any is sent.

First comes what the machine is, then a line for each check:
  ok         it holds
  FAILED     it does not, and why; please report it, with all lines above
  absent     the system lacks what it is about, and what serves instead

What it prints names no address, host, user or folder. A check that hangs or
crashes has failed; none takes longer than 10 seconds. The exit code is 1
where a check failed, else 0.

--json writes one object: machine, and checks, a list of objects with the keys
check, subject, text, state, reason, hints, seconds, trace.

examples:
  mcastfast selftest
  mcastfast selftest --verbose > report.txt
  mcastfast selftest --engine socket
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = arguments.add_command(
        subparsers, "selftest", "check whether mcastfast works on this machine, and print what to report",
        _DETAILS,
    )  # fmt: skip
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="how long each check took, and where one failed in the code"
    )
    parser.add_argument(
        "--engine", action="append", choices=ENGINES, default=[],
        help="check this engine alone, again for another (default: all but apple, whose calls are private to macOS)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser


def run(args: argparse.Namespace) -> int:
    """Check, and say what was found."""
    from mcastfast.commands.selftest_machine import describe_machine
    from mcastfast.commands.selftest_process import State

    started = time.monotonic()
    machine = describe_machine()
    results = []
    if not args.json:
        _print_machine(machine)
    for check, outcome in _make_all(args.engine):
        results.append((check, outcome))
        if not args.json:
            _print_result(check, outcome, verbose=args.verbose)
    counts = Counter(outcome.state for _, outcome in results)
    if args.json:
        print_json({"machine": machine, "checks": [_as_object(*result) for result in results]})
    else:
        listed = ", ".join(f"{counts[state]} {state.lower()}" for state in State)
        print(f"\n{listed}, in {time.monotonic() - started:.1f} s")
        if counts[State.FAILED]:
            print("please report all lines above; they name no address, host, user or folder")
    return 1 if counts[State.FAILED] else 0


def _make_all(engines: list[str]) -> Iterator[tuple[Check, Outcome]]:
    """Make one check after the other, for these engines as plan() has it.

    Not those of a family that the loopback interface does not carry.
    """
    from mcastfast.commands.selftest_checks import plan
    from mcastfast.commands.selftest_process import CheckProcess, Outcome, State

    end = time.monotonic() + TOTAL
    closed = set()
    with CheckProcess() as process:
        for check in plan(engines):
            if check.version in closed:
                continue
            if time.monotonic() > end:
                yield check, Outcome(State.FAILED, f"neither it nor those after it were made: {TOTAL:g} s are over")
                return
            outcome = process.make(check)
            if check.opens_family and outcome.state is not State.OK:
                closed.add(check.version)
            yield check, outcome


def _print_machine(machine: dict[str, str]) -> None:
    width = max(map(len, machine))
    print(*(f"{name:<{width}}  {text}" for name, text in machine.items()), sep="\n", end="\n\n", flush=True)


def _print_result(check: Check, outcome: Outcome, *, verbose: bool) -> None:
    took = f"  ({outcome.seconds * 1e3:.1f} ms)" if verbose else ""
    reason = f": {outcome.reason}" if outcome.reason else ""
    print(f"{outcome.state:<6}  {check.subject:<13}  {check.text}{reason}{took}")
    below = [*outcome.hints, *(outcome.trace if verbose else ())]
    print(*(f"        {line}\n" for line in below), sep="", end="", flush=True)


def _as_object(check: Check, outcome: Outcome) -> dict[str, Any]:
    return {
        "check": check.key,
        "subject": check.subject,
        "text": check.text,
        "state": outcome.state,
        "reason": outcome.reason,
        "hints": outcome.hints,
        "seconds": outcome.seconds,
        "trace": outcome.trace,
    }
