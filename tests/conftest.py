"""Tests run in a network namespace of their process; fixtures make networks, marks say what a host must offer."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
from typing import TYPE_CHECKING

import pytest

# Tests import one of these as netlab: namespaces of their own or, where there are none, the host as it is.
LABS = {"linux": "netlab"}
netlab = sys.modules["netlab"] = importlib.import_module(LABS.get(sys.platform, "hostlab"))

import capabilities  # noqa: E402 # it imports netlab
import portable  # noqa: E402
from receivelab import FAMILIES, family_name  # noqa: E402
from sendlab import Wire  # noqa: E402
from wine import gaps  # noqa: E402

from mcastfast.commands.selftest_machine import wine_version  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from netlab import Lan, Lan3, Link, Namespace

_REQUIRED = pytest.StashKey[frozenset[str]]()
_FAILED = pytest.StashKey[bool]()

TREE = ("test_bench_*.py", "test_c_core.py", "test_package_*.py", "test_sanitizers.py", "test_source_*.py")
"""Tests of the source tree and its tools: what is left without them is run against every wheel, on every system."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        metavar="NAMES",
        help="capabilities that must be there, comma-separated or 'all': a test that needs one and lacks it fails "
        "instead of being skipped (default: MCASTFAST_REQUIRE; all if CI=true)",
    )
    parser.addoption(
        "--installed",
        action="store_true",
        help="leave out tests of the source tree and its tools",
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `&` ignores it, and what tests start would, too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "needs(*names): skip (or fail, see --require) where the host lacks one of these")
    try:
        config.stash[_REQUIRED] = capabilities.required(config.getoption("--require"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    # Here and not in a fixture: a user namespace can be had before the first thread only. Workers of pytest-xdist,
    # which have threads, inherit the user namespace and need only another network.
    try:
        netlab.enter_private_network()
    except OSError as error:
        capabilities.refusal = str(error)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files about one system are for that system, those about the source tree not for what is installed."""
    is_of_the_tree = config.getoption("--installed") and any(map(collection_path.match, TREE))
    return is_of_the_tree or portable.is_elsewhere(collection_path.name) or None


def pytest_report_header() -> str:
    missing = [reason for name in capabilities.PROBES if (reason := capabilities.reason_missing(name))]
    return (
        f"network: {'private namespace' if not capabilities.refusal else 'the host'}; missing: {missing or 'nothing'}"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for reason in portable.marks(item):
            item.add_marker(reason)
        for mark in item.iter_markers("needs"):
            try:
                capabilities.check_known(frozenset(mark.args))
            except ValueError as error:
                raise pytest.UsageError(f"{item.nodeid}: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `engine` runs with each engine that the host has."""
    if "engine" in metafunc.fixturenames:
        from mcastfast import ENGINES

        metafunc.parametrize("engine", ENGINES)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            _need(item.config, name)
    with portable.skipping_what_is_unsupported(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    with portable.forgetting_what_must_fail(item), portable.skipping_what_is_unsupported(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_FAILED] = report.failed or item.stash.get(_FAILED, False)
    return report


def _need(config: pytest.Config, name: str) -> None:
    reason = capabilities.reason_missing(name)
    if reason is None:
        return
    if name in config.stash[_REQUIRED]:
        pytest.fail(f"required capability {name!r} is missing: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor open."""
    before = netlab.descriptors()
    yield
    if request.node.stash.get(_FAILED, False):  # its traceback keeps what it had open
        return
    leaked = netlab.descriptors().items() - before.items()
    if leaked:
        gc.collect()
        leaked = netlab.descriptors().items() - before.items()
    assert not leaked, f"descriptors left open: {sorted(leaked)}"


@pytest.fixture(autouse=True)
def _swapped_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Wine, which hands on a struct ip_mreq_source as it is, though Linux has its last two members swapped."""
    if wine_version():
        monkeypatch.setattr("mcastfast.requests.set_option", gaps.set_swapped)


@pytest.fixture
def isolated(request: pytest.FixtureRequest) -> None:
    """What a test takes that sends or joins in the process's own network: skips it if that is the host's."""
    _need(request.config, "namespaces")


@pytest.fixture
def watchable(request: pytest.FixtureRequest) -> None:
    """Skips a test for engines whose sockets select(2) and its kin do not see: test_windows_iocp.py."""
    from mcastfast import _core

    if "engine" in request.fixturenames and not _core.is_watchable(request.getfixturevalue("engine")):
        pytest.skip("nothing to watch")


@pytest.fixture
def namespace(isolated: None) -> Iterator[Namespace]:
    """A fresh namespace, lo up; the test enters it itself."""
    with netlab.namespaces(1) as (fresh,):
        yield fresh


@pytest.fixture
def loopback(namespace: Namespace) -> Iterator[Link]:
    """The lo of a fresh namespace with routes for multicast of both families; the test runs inside."""
    link = netlab.loopback(namespace)
    link.route_multicast()
    with namespace:
        yield link


@pytest.fixture
def lan(isolated: None) -> Iterator[Lan]:
    """Two namespaces joined by a veth pair, IPv4 and IPv6."""
    with netlab.lan() as found:
        yield found


@pytest.fixture
def link(lan: Lan) -> Iterator[Link]:
    """The receiver's interface; the test runs in its namespace."""
    with lan.receiver.namespace:
        yield lan.receiver


@pytest.fixture(params=FAMILIES, ids=family_name)
def wire(request: pytest.FixtureRequest, lan: Lan, engine: str) -> Iterator[Wire]:
    """A sending host and what arrives of it."""
    with Wire(lan, request.param, engine) as wire:
        yield wire


@pytest.fixture
def lan3(isolated: None) -> Iterator[Lan3]:
    """A receiver and two sources, each in its namespace, on one network of IPv4 and IPv6."""
    with netlab.lan3() as found:
        yield found


@pytest.fixture
def never_switching() -> Iterator[None]:
    """Who has the GIL keeps it until it lets go by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)
