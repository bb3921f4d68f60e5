"""Which tests are for every system, and which are about one: the rest of the tests is the portable part.

LINUX_ONLY names files, and tests of others as "file::test", with what of Linux they are about. What a system lacks that
mcastfast uses there is not its place: such tests are skipped by a capability (capabilities.py) or, under Wine, must
fail (wine/gaps.py).
"""

from __future__ import annotations

import contextlib
import gc
import sys
import traceback
import warnings
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest
from wine import gaps

from mcastfast.commands.selftest_machine import wine_version
from mcastfast.errors import CURRENT, Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

LINUX_ONLY = {
    "test_background_fork.py": "fork(2)",
    "test_background_options.py": "threads as /proc shows them",
    "test_background_end.py::test_a_collected_receiver_*": "threads as /proc shows them",
    "test_background_end.py::test_close_does_not_wait_*": "threads as /proc shows them",
    "test_background_end.py::test_close_ends_the_thread*": "threads as /proc shows them",
    "test_background_end.py::test_detached_socket_*": "options by Linux' numbers",
    "test_background_end.py::test_the_thread_takes_no_signals*": "threads as /proc shows them",
    "test_background_overrun.py::test_foreign_datagrams_*": "threads as /proc shows them",
    "test_background_readiness.py::test_an_error_of_the_socket_*": "threads as /proc shows them",
    "test_background_readiness.py::test_asyncio_reader_*": "add_reader, which Windows' default event loop lacks",
    "test_background_readiness.py::test_epoll_*": "epoll(7)",
    "test_background_readiness.py::test_readable_while_*": "threads as /proc shows them",
    "test_batch_columns.py::test_metadata_option_that_the_socket_has_*": "options by Linux' numbers",
    "test_batch_columns.py::test_more_control_data_*": "options by Linux' numbers",
    "test_background_overrun.py::test_every_datagram_*": "SO_MEMINFO",
    "test_background_rest.py": "threads as /proc shows them",
    "test_binding_plan.py::test_a_receiver_on_all_*": "rtnetlink(7), the packet ring",
    "test_binding_plan.py::test_a_ring_*": "the packet ring",
    "test_binding_updates.py::test_a_child_forked_*": "fork(2)",
    "test_bench_*.py": "the benchmarks, which run on Linux",
    "test_cli_errors.py::test_closed_stream_*": "a shell that closes streams",
    "test_cli_errors.py::test_no_socket_has_the_number_*": "a shell that closes streams",
    "test_cli_errors.py::test_failure_at_run_time_*": "the words of Linux' errors, and no routes",
    "test_cli_errors.py::test_full_disk_*": "/dev/full",
    "test_cli_errors.py::test_hints_stand_below_*": "net.ipv4.igmp_max_memberships",
    "test_cli_errors.py::test_nobody_reading_*": "EPIPE",
    "test_cli_errors.py::test_the_installed_command_*": "an installed script",
    "test_cli_errors.py::test_wrong_usage_*more than this*": "how much memory the machine has",
    "test_cli_errors.py::test_wrong_usage_*one group*": "a socket that is bound to a group",
    "test_cli_listings.py": "lo, veth pairs, /proc/net/igmp",
    "test_cli_options.py::test_bind_decides_*": "a socket that is bound to a group",
    "test_cli_options.py::test_option_sets_*": "options by Linux' numbers",
    "test_cli_options.py::test_quiet_*bench*": "mcastfast bench",
    "test_cli_recv.py::test_reader_of_the_pipe_*": "EPIPE",
    "test_cli_recv.py::test_silence_is_*": "rp_filter, and rtnetlink(7)",
    "test_cli_recv.py::test_signal_*": "signals that end a process",
    "test_cli_send.py::test_closed_standard_input_*": "a shell that closes streams",
    "test_cli_send.py::test_signal_*": "signals that end a process",
    "test_cli_send.py::test_burst_lets_trains_go*": "trains: UDP_GRO",
    "test_cli_send.py::test_segment_*": "trains: UDP_SEGMENT",
    "test_cli_selftest.py::test_a_crash_*": "SIGSEGV",
    "test_cli_selftest.py::test_ipv6_without_a_route_*": "a network namespace without routes",
    "test_cli_progress.py": "terminals: pty(7)",
    "test_interface_enumerate.py::test_a_point_to_point_*": "/dev/net/tun",
    "test_interface_enumerate.py::*label*": "labels of addresses, rtnetlink(7)",
    "test_interface_enumerate.py::test_out_of_descriptors_*": "RLIMIT_NOFILE",
    "test_memory_steady.py": "/proc/self/statm",
    "test_receiver_set.py::test_the_receivers_of_a_set_that_could_not_be_made_*": "RLIMIT_NOFILE",
    "test_c_core.py": "the C tests, built for this host",
    "test_capabilities.py": "the tests' own namespaces",
    "test_cli_bench.py": "mcastfast bench, which counts the kernel's drops",
    "test_coalesce_*.py": "coalescing: UDP_GRO",
    "test_engines.py": "system calls, counted by a preloaded library",
    "test_exit_interpreter.py": "signals that end a process, fork(2)",
    "test_fork_receiver.py": "fork(2)",
    "test_host_groups.py": "/proc/net/igmp",
    "test_loss_*.py": "SO_MEMINFO, SO_RXQ_OVFL",
    "test_membership_calls.py": "requests by Linux' numbers, on a stand-in for a socket",
    "test_membership_interfaces.py": "rtnetlink(7)",
    "test_membership_kernel.py": "/proc/net/igmp",
    "test_membership_traffic.py": "sockets of one process in several network namespaces",
    "test_netlab.py": "the tests' own namespaces",
    "test_options_kernel.py": "the kernel's headers and answers",
    "test_package_artifacts.py": "the sdist and the wheel that this system builds",
    "test_package_typing.py": "mypy, the same everywhere",
    "test_package_wheels.py::test_wheels_are_made_here_*": "the CPythons of a machine, by their names on PATH",
    "test_packet_*.py": "the packet ring",
    "test_peer_*.py": "tools of Linux",
    "test_options_buffers.py::test_size_within_the_limit_*": "a buffer that is doubled",
    "test_options_buffers.py::test_clamp_is_a_warning_*": "a buffer that is clamped",
    "test_options_errors.py::test_error_of_a_closed_socket_*": "EBADF in Linux' words",
    "test_receiver_options.py::*buffer*": "a buffer that is clamped, and doubled",
    "test_receiver_options.py::test_a_warning_that_is_an_error_*": "a buffer that is clamped",
    "test_bad_input_receive.py::test_a_port_that_another_socket_keeps_*": "a socket that is bound to a group",
    "test_bad_input_receive.py::test_reuse_false_keeps_*": "a socket that is bound to a group",
    "test_bad_input_receive.py::test_all_interfaces_where_none_*": "a network namespace with lo alone",
    "test_bad_input_receive.py::test_loopback_without_the_multicast_flag_*": "lo, which lacks the flag",
    "test_bad_input_receive.py::test_no_route_and_no_interface_*": "a network namespace without routes",
    "test_bad_input_receive.py::test_a_prepared_socket_*_unix*": "AF_UNIX",
    "test_bad_input_send.py::test_a_port_that_is_taken_*": "EADDRINUSE in Linux' words",
    "test_bad_input_send.py::test_too_many_descriptors_*": "EMFILE by Linux' number",
    "test_bad_input_send.py::test_an_address_that_is_not_of_this_host_*": "EADDRNOTAVAIL in Linux' words",
    "test_bad_input_send.py::test_loopback_without_the_multicast_flag_*": "lo, which lacks the flag",
    "test_bad_input_send.py::test_without_a_route_*": "a network namespace without routes",
    "test_bad_input_*.py::test_a_wrong_*engine=*": "its engines",
    "test_bad_input_*.py::test_a_wrong_*interface*": "a network namespace with lo alone",
    "test_docs_recipes.py": "add_reader, which Windows' default event loop lacks, and coalescing",
    "test_error_hints.py::test_bare_number_*": "the words of Linux' errors",
    "test_error_hints.py::test_reason_stands_*": "the words of Linux' errors",
    "test_error_hints.py::test_text_carries_*": "the words of Linux' errors",
    "test_interface_enumerate.py::test_a_thread_sees_*": "network namespaces, which a thread can enter",
    "test_interface_enumerate.py::test_lo_is_listed_*": "lo",
    "test_interface_errors.py::test_all_of_nothing_*": "a network namespace with lo alone",
    "test_interface_errors.py::test_no_route_is_*": "a network namespace without routes",
    "test_interface_errors.py::test_what_is_not_there_*": "a network namespace with lo alone",
    "test_options_errors.py::test_error_names_option_*": "the code of Linux",
    "test_receiver_end.py::test_a_close_in_the_middle_*": "a socket that is bound to a group",
    "test_receiver_end.py::test_close_gives_every_descriptor_*": "/proc/self/fd",
    "test_receiver_end.py::test_what_it_was_is_still_shown_*": "a socket that is bound to a group",
    "test_receiver_refusals.py::test_a_join_beyond_the_limit_*": "net.ipv4.igmp_max_memberships",
    "test_receiver_refusals.py::test_a_receiver_of_too_many_groups_*": "net.ipv4.igmp_max_memberships",
    "test_receiver_refusals.py::test_more_sources_than_allowed_*": "net.ipv4.igmp_max_msf",
    "test_receiver_refusals.py::test_another_group_on_a_bound_*": "a socket that is bound to a group",
    "test_receiver_refusals.py::test_another_interface_on_a_bound_*": "a socket that is bound to a group",
    "test_receiver_refusals.py::*deleted*": "rtnetlink(7)",
    "test_receiver_refusals.py::test_a_join_on_all_*": "rtnetlink(7)",
    "test_receiver_from_socket.py::test_a_join_that_*": "a socket that is bound to a group",
    "test_receiver_from_socket.py::test_joins_are_made_on_*": "a socket that is bound to an interface",
    "test_receiver_spin.py::test_multicast_is_watched_*": "threads as /proc shows them",
    "test_sender_relay.py::test_a_datagram_that_only_ipv6_*": "a batch that was received across namespaces",
    "test_sender_options.py::test_ttl_0_leaves_*": "what Linux makes of a TTL of 0",
    "test_sender_options.py::test_ttl_0_without_loopback_*": "what Linux makes of a TTL of 0",
    "test_sender_options.py::test_ttl_0_by_the_loopback_*": "a network namespace with lo beside the link",
    "test_sender_options.py::test_the_send_buffer_*": "a buffer that is doubled",
    "test_sender_options.py::test_a_clamped_*": "a buffer that is clamped",
    "test_sender_lifecycle.py::*fork*": "fork(2)",
    "test_binding_unicast.py::test_*_to_the_port_does_not_*": "a socket that is bound to a group",
    "test_receiver_from_socket.py::test_a_socket_of_both_families_tells_*": "options of IPv4 on an IPv6 socket",
    "test_receiver_from_socket.py::test_detach_gives_back_the_very_*": "options by Linux' numbers",
    "test_receiver_options.py::test_without_metadata_the_kernel_*": "socket.recvmsg",
    "test_cli_relay.py::test_a_local_address_*10.9.9.9*": "a bind that is refused, which Wine takes",
    "test_cli_relay.py::test_a_relay_to_all_hosts_*": "rtnetlink(7)",
    "test_cli_relay.py::test_multicast_to_broadcast": "a socket that is bound to a broadcast address",
    "test_cli_relay.py::test_a_relay_to_an_address_*ffff*": "IPv4 by an IPv6 socket",
    "test_cli_relay.py::test_groups_that_another_*": "IP_MULTICAST_ALL",
    "test_receiver_readiness.py::test_an_error_report_*": "IP_RECVERR",
    "test_receiver_readiness.py::test_reports_that_*": "SO_TIMESTAMPING",
    "test_receiver_set.py::test_what_the_system_refuses_*": "RLIMIT_NOFILE",
    "test_aio_set.py::test_too_few_descriptors_*": "RLIMIT_NOFILE",
    "test_sender_errors.py::test_the_mtu_that_*": "rtnetlink(7)",
    "test_receiver_spin.py::test_a_wait_that_a_handler_*": "pthread_kill(3), SIGUSR1",
    "test_receiver_readiness.py::test_the_descriptor_is_*": "/proc/self/fd",
    "test_receiver_from_socket.py::test_a_late_error_*": "an error of ICMP, which ends no receive elsewhere",
    "test_receiver_memory.py::test_prefaulted_*": "/proc/self/smaps",
    "test_receiver_memory.py::test_kept_batches_outlive_*": "/proc/self/maps",
    "test_receiver_memory.py::test_huge_pages_*": "/proc/self/smaps",
    "test_receiver_memory.py::test_a_refusal_leaves_*": "RLIMIT_MEMLOCK",
    "test_receiver_memory.py::test_a_limit_on_locked_*": "RLIMIT_MEMLOCK",
    "test_receiver_looks.py": "poll(2), by a preloaded library",
    "test_receiver_signals.py": "pthread_kill(3), SIGUSR1",
    "test_receiver_spin.py::test_a_thread_of_its_own_*": "threads as /proc shows them",
    "test_receiver_spin.py::test_it_runs_*": "threads as /proc shows them",
    "test_receiver_spin.py::test_close_ends_it*": "threads as /proc shows them",
    "test_receiver_spin.py::test_signal_handlers_*": "pthread_kill(3), SIGUSR1",
    "test_receiver_timestamps.py": "timestamps of the kernel and of devices",
    "test_batch_reentrancy.py::*handler*": "pthread_kill(3), SIGUSR1",
    "test_batch_reentrancy.py::test_ctrl_c_*": "pthread_kill(3), SIGUSR1",
    "test_receiver_reentry.py::*": "pthread_kill(3), SIGUSR1",
    "test_sender_signals.py": "pthread_kill(3), SIGUSR1",
    "test_receiver_busy_poll.py": "SO_BUSY_POLL",
    "test_receiver_gil.py::test_a_loop_*": "the packet ring",
    "test_receiver_gil.py::test_blocks_*": "the packet ring",
    "test_ring_traffic.py": "the packet ring",
    "test_sanitizers.py": "the sanitized build",
    "test_sender_late_errors.py": "IP_RECVERR",
    "test_threads_close.py::test_shut_down_socket_*": "shutdown(2) of a socket that is shared",
    "test_threads_sockets_hammered.py::test_fork_*": "fork(2)",
    "test_sender_alike.py": "trains: UDP_SEGMENT",
    "test_sender_gil.py::test_a_train_*": "trains: UDP_SEGMENT",
    "test_sender_trains.py": "trains: UDP_SEGMENT",
    "test_sender_trains_kept.py": "trains: UDP_SEGMENT",
    "test_sender_trains_path.py": "trains: UDP_SEGMENT",
    "test_sender_trains_rows.py": "trains: UDP_SEGMENT",
    "test_sender_trains_system.py": "trains: UDP_SEGMENT",
    "test_background_signal.py": "eventfd(2), by a preloaded library",
    "test_background_batches.py::test_it_coalesces_*": "coalescing: UDP_GRO",
    "test_source_*.py": "the sources, the same everywhere",
}


OTHER_SYSTEMS = {"win32": "test_windows_*.py"}
"""The files about each of the others."""


REFUSALS = "test_contract.py"
"""The file that says what mcastfast may refuse."""


@contextlib.contextmanager
def skipping_what_is_unsupported(item: pytest.Item) -> Iterator[None]:
    """Skip a test that asks for what mcastfast says this system does not have, with its words. On Linux it has all."""
    from mcastfast import UnsupportedError

    try:
        yield
        return
    except UnsupportedError as error:
        if CURRENT is Platform.LINUX or item.path.name == REFUSALS:
            raise
        reason = str(error)
        _forget(error)
    pytest.skip(reason)


@contextlib.contextmanager
def forgetting_what_must_fail(item: pytest.Item) -> Iterator[None]:
    """Close what a test that must fail, or ends in a skip, leaves open, before another test is blamed for it.

    WrongFailureError: it failed, and not as the gap of Wine has it.
    """
    try:
        yield
    except (Exception, pytest.skip.Exception) as error:
        must_fail = item.get_closest_marker("xfail")
        if must_fail or isinstance(error, pytest.skip.Exception):
            _forget(error)
        if must_fail and isinstance(error, Exception):
            _check_failure(item, error)
        raise


class WrongFailureError(Exception):
    """Of a test that must fail for a gap of Wine: another failure than that."""


def _check_failure(item: pytest.Item, error: BaseException) -> None:
    found = [gaps.GAPS[gap] for gap in gaps.of(_name(item))]
    if found and not any(gap.is_shown_by(error) for gap in found):
        raise WrongFailureError(f"it must fail for {found[0].text}, and did not for that: {error!r}") from error


def _name(item: pytest.Item) -> str:
    return f"{item.path.name}::{item.name}"


def _forget(error: BaseException) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        traceback.clear_frames(error.__traceback__)
        gc.collect()


def is_elsewhere(name: str) -> bool:
    """Whether a file of tests is about another system than this one."""
    others = [pattern for system, pattern in OTHER_SYSTEMS.items() if system != sys.platform]
    return any(fnmatch(name, pattern) for pattern in (others if CURRENT is Platform.LINUX else [*others, *LINUX_ONLY]))


def marks(item: pytest.Item) -> Iterator[pytest.MarkDecorator]:
    """What a test gets for the system that it runs on."""
    if is_elsewhere(item.path.name):  # named on the command line, so not left out
        yield pytest.mark.skip(reason="about another system")
    if CURRENT is Platform.LINUX:
        return
    name = _name(item)
    version = wine_version()
    for gap in gaps.of(name) if version else ():
        # That they fail is asked of the Wine they were tried with, Debian 12's. Later ones may have closed some: with
        # ci.yml's Ubuntu, which has 9.0, one that passes is in order, and one that fails in another way is not.
        yield pytest.mark.xfail(
            reason=f"Wine lacks {gap}: {gaps.GAPS[gap].text}",
            raises=gaps.GAPS[gap].raises,
            strict=version.startswith("8."),
        )
    for pattern, subject in LINUX_ONLY.items():
        if "::" in pattern and fnmatch(name, pattern):
            yield pytest.mark.skip(reason=f"about Linux: {subject}")
