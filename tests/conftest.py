"""Tests run in a network namespace of their process; fixtures make networks, marks say what a host must offer."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import capabilities
import netlab
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_REQUIRED = pytest.StashKey[frozenset[str]]()
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        metavar="NAMES",
        help="capabilities that must be there, comma-separated or 'all': a test that needs one and lacks it fails "
        "instead of being skipped (default: MCASTFAST_REQUIRE; all if CI=true)",
    )


def pytest_configure(config: pytest.Config) -> None:
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


def pytest_report_header() -> str:
    missing = [reason for name in capabilities.PROBES if (reason := capabilities.reason_missing(name))]
    return (
        f"network: {'private namespace' if not capabilities.refusal else 'the host'}; missing: {missing or 'nothing'}"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
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


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            _need(item.config, name)


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


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor open."""
    before = _descriptors()
    yield
    if request.node.stash.get(_FAILED, False):  # its traceback keeps what it had open
        return
    leaked = _descriptors().items() - before.items()
    if leaked:
        gc.collect()
        leaked = _descriptors().items() - before.items()
    assert not leaked, f"descriptors left open: {sorted(leaked)}"


@pytest.fixture
def isolated(request: pytest.FixtureRequest) -> None:
    """What a test takes that sends or joins in the process's own network: skips it if that is the host's."""
    _need(request.config, "namespaces")


@pytest.fixture
def namespace(isolated: None) -> Iterator[netlab.Namespace]:
    """A fresh namespace, lo up; the test enters it itself."""
    with netlab.namespaces(1) as (fresh,):
        yield fresh


@pytest.fixture
def loopback(namespace: netlab.Namespace) -> Iterator[netlab.Link]:
    """The lo of a fresh namespace with routes for multicast of both families; the test runs inside."""
    link = netlab.loopback(namespace)
    link.route_multicast()
    with namespace:
        yield link


@pytest.fixture
def lan(isolated: None) -> Iterator[netlab.Lan]:
    """Two namespaces joined by a veth pair, IPv4 and IPv6."""
    with netlab.namespaces(2) as (receiver, sender):
        yield netlab.Lan(*netlab.connect(receiver, sender))


@pytest.fixture
def lan3(isolated: None) -> Iterator[netlab.Lan3]:
    """A receiver and two sources, each in its namespace, on one network of IPv4 and IPv6."""
    with netlab.namespaces(4) as (switch, *hosts):
        yield netlab.Lan3(*netlab.join_by_switch(switch, hosts))
