"""What macOS' C core over Linux' calls cannot do, and the tests of it: a plugin of pytest for `make test-apple`."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

GAPS = {
    "there are no trains of datagrams": (
        "test_background_batches.py::test_it_coalesces_by_itself*",
        "test_docs_recipes.py::test_an_event_loop_*coalesce*",
        "test_receiver_looks.py::*coalesce*",
        "test_background_readiness.py::test_a_set_serves_members_with_and_without_a_thread_in_turn*",
        "test_fork_receiver.py::test_detach_in_the_child_leaves_the_parents_socket_its_trains*",
        "test_receiver_from_socket.py::test_one_that_fails_leaves_the_socket_as_it_was",
        "test_receiver_memory.py::*trains*",
        "test_receiver_busy_poll.py::test_datagrams_come_as_ever*trains*",
        "test_coalesce_availability.py::test_a_thread_on_an_old_kernel*",
        "test_receiver_spin.py::test_trains_are_watched_for_too*",
        "test_sender_gil.py::test_a_train_*",
        "test_sender_pacing.py::test_a_train_has_no_more_segments_than_the_burst*",
        "test_sender_trains*.py::*",
    ),
    "there is no packet ring": (
        "test_background_fork.py::test_a_child_that_a_handler_forks_*packet*",
        "test_binding_plan.py::test_a_receiver_on_all_*packet*",
        "test_binding_updates.py::test_a_leave_of_another_thread_*packet*",
        "test_receiver_gil.py::test_a_loop_in_c_*",
        "test_receiver_memory.py::test_a_limit_on_locked_memory_is_named_for_what_describes_a_ring*",
        "test_receiver_memory.py::test_prefaulted_memory_beside_a_ring*",
        "test_receiver_timestamps.py::test_a_ring_asks_the_device*",
        "test_receiver_gil.py::test_blocks_of_the_ring_keep_the_gil*",
        "test_threads_sockets_hammered.py::test_fork_beside_rings_*",
        "test_threads_sockets_hammered.py::test_memberships_that_threads_change_*packet*",
    ),
    "late errors have no queue": (
        "test_receiver_readiness.py::test_an_error_report_is_taken_by_whoever_finds_nothing*",
        "test_receiver_readiness.py::test_reports_that_the_socket_was_not_known_to_queue_*",
        "test_sender_late_errors.py::test_a_send_that_waits_for_room_sleeps_until_its_timeout_whatever_is_queued*",
        "test_sender_late_errors.py::test_an_ipv6_socket_that_sends_ipv4_has_the_queue_of_ipv4*",
        "test_sender_late_errors.py::test_answers_are_counted_when_nothing_more_is_sent*",
        "test_sender_late_errors.py::test_batches_to_a_closed_port_all_go_out*",
        "test_sender_late_errors.py::test_lone_sends_to_a_closed_port_all_go_out*",
        "test_sender_late_errors.py::test_looking_at_the_stats_does_not_blame_the_next_payload*",
        "test_threads_close.py::test_error_reports_of_the_socket_hold_up_neither_deadline_nor_close*",
    ),
    "no message counts drops": (
        "test_contract.py::test_a_command_does_its_work_or_says_why_not*selftest*",
        "test_cli_selftest.py::test_a_check_fails_for_its_fault*places_drops*",
        "test_cli_selftest.py::test_every_check_is_made*",
        "test_cli_selftest.py::test_only_the_engines_that_are_named_*",
        "test_cli_selftest.py::test_the_check_holds*places_drops*",
        "test_cli_selftest.py::test_the_report_is_*",
        "test_cli_selftest.py::test_ipv6_without_a_route_*",
        "test_background_overrun.py::test_kernel_drops_during_an_overrun_show_in_the_next_batch*",
        "test_loss_counter.py::test_the_column_of_drops_wraps_with_the_counter*",
        "test_loss_kernel.py::test_drops_before_foreign_datagrams_stand_at_the_next_that_is_ours*",
        "test_loss_kernel.py::test_drops_stand_at_the_datagram_that_came_after_them*",
    ),
    "what Python decides, and not the C core, is Linux' here": (
        "test_contract.py::test_a_command_does_its_work_or_says_why_not*bench*",
        "test_contract.py::test_a_command_does_its_work_or_says_why_not*groups*",
        "test_contract.py::test_a_counter_of_a_receiver_counts*kernel_drops]",
        "test_contract.py::test_a_keyword_of_a_receiver*busy_poll*",
        "test_contract.py::test_metadata_is_told_or_refused*drops*",
        "test_contract.py::test_metadata_is_told_or_refused*hardware_timestamp*",
    ),
    "devices have no clock": (
        "test_receiver_timestamps.py::test_a_device_without_a_clock_leaves_the_kernels_time*",
        "test_receiver_timestamps.py::test_a_prepared_socket_is_warned*",
        "test_receiver_timestamps.py::test_over_loopback_it_is*",
        "test_receiver_timestamps.py::test_an_interface_that_does_not_exist_stamps_nothing*",
    ),
    "threads are not confined to processors": (
        "test_background_options.py::test_processors_that_are_not_there_are_an_error_with_the_remedy*",
        "test_background_options.py::test_the_thread_has_its_name_and_its_processors*",
    ),
    "there are no huge pages": ("test_receiver_memory.py::test_huge_pages_are_asked_for*",),
    "a route is known by the address that it sends from": (
        "test_interface_resolve.py::test_an_interface_that_the_route_chose_needs_no_address_of_its_own*",
    ),
    "getifaddrs(3) is Linux', which gives the label of an address as the name of its interface": (
        "test_interface_enumerate.py::*label*",
    ),
    "a thread wakes by a pipe": ("test_background_signal.py::*",),
    "a thread that rests is told by ppoll(2), which Darwin has not": (
        "test_background_end.py::test_close_does_not_wait_for_the_delay*",
        "test_background_options.py::test_a_delay_lets_more_gather*",
    ),
    "a queue of smaller batches touches more of its memory": (
        "test_background_rest.py::test_memory_does_not_grow_over_a_million_datagrams*",
    ),
    "the shim's control messages have other sizes than Linux'": (
        "test_batch_columns.py::test_metadata_that_was_cut_off_is_absent*",
    ),
}
"""Patterns by reason."""


def reason_for(test: str) -> str | None:
    """Why a test, as `file::name[parameters]`, has nothing to show here."""
    for reason, patterns in GAPS.items():
        if any(fnmatch(test, pattern) for pattern in patterns):
            return reason
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if reason := reason_for(item.nodeid.rpartition("/")[2]):
            item.add_marker(pytest.mark.skip(reason=reason))
