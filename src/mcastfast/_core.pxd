"""The C core (csrc/) as Cython sees it."""

from libc.stdint cimport int64_t, intptr_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "mcf.h" nogil:
    ctypedef intptr_t mcf_socket

    enum:
        MCF_FLAG_TRUNCATED
        MCF_FLAG_CONTROL_TRUNCATED
        MCF_FLAG_HARDWARE_TIME
        MCF_FLAG_SHARED_TIME
        MCF_META_DESTINATION
        MCF_META_TIMESTAMP
        MCF_META_DROPS
        MCF_META_HOPS
        MCF_META_TOS
        MCF_META_HARDWARE_TIMESTAMP
        MCF_IPV4
        MCF_IPV6
        MCF_MAX_BATCH
        MCF_NO_DEADLINE
        MCF_DO_NOT_WAIT
        MCF_ONE_LOOK
        MCF_PATIENCE_MS
        MCF_IF_UP
        MCF_IF_RUNNING
        MCF_IF_MULTICAST
        MCF_IF_LOOPBACK
        MCF_IF_POINTOPOINT

    const int mcf_so_timestampns
    const int mcf_so_timestamping

    ctypedef struct mcf_counter:
        pass
    int64_t mcf_counter_get(mcf_counter *counter)
    int64_t mcf_counter_settled(mcf_counter *counter)
    void mcf_counter_add(mcf_counter *counter, int64_t amount)
    void mcf_counter_bump(mcf_counter *counter, int64_t amount)

    ctypedef struct mcf_switch:
        pass
    bint mcf_switch_get(mcf_switch *switch)
    void mcf_switch_set(mcf_switch *switch, bint is_on)

    ctypedef struct mcf_latch:
        pass
    bint mcf_latch_try(mcf_latch *latch)
    bint mcf_latch_await(mcf_latch *latch)
    bint mcf_latch_free(mcf_latch *latch)
    void mcf_latch_woken(mcf_latch *latch)
    void mcf_latch_reset(mcf_latch *latch)

    ctypedef struct mcf_arena:
        uint8_t *data
        size_t data_size
        uint32_t rows
        uint32_t max_datagram
        uint32_t *offsets
        uint32_t *lengths
        uint16_t *flags
        void *sources  # rows of 16 bytes
        uint16_t *source_ports
        uint32_t *source_scopes
        void *destinations  # rows of 16 bytes
        uint32_t *interfaces
        int64_t *timestamps
        uint32_t *dropped
        uint8_t *hops
        uint8_t *tos
    ctypedef struct mcf_range:
        mcf_arena *arena
        uint32_t row
        uint32_t rows
        size_t data
        size_t data_size
    mcf_arena *mcf_arena_over(void *data, uint32_t rows, uint32_t max_datagram)
    mcf_arena *mcf_arena_copy(const mcf_range *batch)
    void mcf_arena_release(mcf_arena *arena)
    uint32_t mcf_range_copy(const mcf_range *batch, mcf_arena *arena, mcf_range *to)

    ctypedef struct mcf_pool:
        pass
    int mcf_pool_reserve(mcf_pool *pool, uint32_t wishes)
    uint32_t mcf_pool_arenas(mcf_pool *pool)

    enum:
        MCF_MEMORY_PREFAULT
        MCF_MEMORY_LOCK
        MCF_MEMORY_HUGE

    ctypedef struct mcf_member:
        uint8_t group[16]
        uint32_t interface_index
        uint32_t source_count
        const void *sources  # rows of 16 bytes
        uint8_t is_exclude
    ctypedef struct mcf_members:
        pass
    int mcf_members_set(mcf_members *members, const mcf_member *entries, uint32_t count)

    ctypedef struct mcf_ring_shape:
        uint32_t interface_index
        uint32_t block_size
        uint32_t blocks
        uint32_t retire_ms
    enum:
        MCF_FORK_BEFORE
        MCF_FORK_IN_PARENT
        MCF_FORK_IN_CHILD
    ctypedef struct mcf_tap_counts:
        int64_t lost
        int64_t copied
        int64_t fragments
        int64_t bad_checksums
        uint32_t held
    ctypedef struct mcf_tap:
        int (*probe)() noexcept
        int (*guard)(mcf_socket fd, int family, int on) noexcept
        int (*lend)(mcf_receiver *receiver, uint32_t blocks) noexcept nogil
        int (*open)(mcf_receiver *receiver, mcf_socket fd, uint16_t port, const mcf_ring_shape *shape) noexcept
        int (*follow)(mcf_receiver *receiver, const mcf_member *members, uint32_t count) noexcept
        void (*at_fork)(mcf_receiver *receiver, int moment) noexcept
        void (*count)(mcf_receiver *receiver, mcf_tap_counts *counts) noexcept

    ctypedef struct mcf_engine:
        const char *name
        const char *(*obstacle)() noexcept
        const mcf_engine *coalescing
        int (*open)(mcf_receiver *receiver) noexcept
        void (*settle)(mcf_receiver *receiver) noexcept nogil
        int (*wait)(mcf_receiver *receiver, int64_t deadline) noexcept
        int (*has_more)(const mcf_receiver *receiver) noexcept
        const mcf_tap *tap
        int can_segment
    const mcf_engine *mcf_engines[]

    ctypedef struct mcf_receiver:
        const mcf_engine *engine
        mcf_socket fd
        mcf_socket wake
        int family
        uint32_t metadata
        uint32_t batch_size
        uint8_t queues_errors
        uint8_t is_patient
        int64_t spin
        mcf_members filter
        mcf_pool *pool
        uint32_t carried
        uint32_t last_asked
        uint32_t last_count
        int64_t sleeps_at
        uint32_t looks
        uint32_t last_drops
        mcf_counter batches
        mcf_counter datagrams
        mcf_counter bytes
        mcf_counter truncated
        mcf_counter control_truncated
        mcf_counter foreign
        mcf_counter overrun
    enum:
        MCF_NO_ROOM
        MCF_NO_BLOCK
    mcf_socket mcf_polled(const mcf_receiver *receiver)
    uint64_t mcf_receiver_least_memory(const mcf_receiver *receiver, uint32_t max_datagram)
    int mcf_receiver_prepare(mcf_receiver *receiver, uint32_t max_datagram, uint64_t max_memory)
    void mcf_receiver_after_fork(mcf_receiver *receiver, int was_idle)
    void mcf_receiver_retire(mcf_receiver *receiver)
    void mcf_receiver_clear(mcf_receiver *receiver)
    int mcf_receive(mcf_receiver *receiver, int64_t deadline, mcf_range *got)
    int mcf_receive_into(mcf_receiver *receiver, mcf_arena *arena, int64_t deadline, mcf_range *got)

    ctypedef struct mcf_thread_options:
        const char *name
        const uint32_t *cpus
        uint32_t cpu_count
        int priority
    ctypedef struct mcf_background:
        pass
    int mcf_background_start(mcf_background **background, mcf_receiver *receiver, int64_t delay,
                             const mcf_thread_options *options)
    int mcf_background_take(mcf_background *background, uint32_t most, int64_t deadline, uint32_t *looks,
                            mcf_range *got)
    mcf_socket mcf_background_ready(const mcf_background *background)
    void mcf_background_stop(mcf_background *background)
    void mcf_background_abandon(mcf_background *background)

    ctypedef struct mcf_payload:
        const void *data
        size_t length
    enum:
        MCF_PACE_DATAGRAMS
        MCF_PACE_PAYLOAD
        MCF_PACE_WIRE
    ctypedef struct mcf_pace:
        uint64_t units
        uint64_t span
        uint32_t burst
        int counts
        int is_ipv6
        uint32_t mtu
    int64_t mcf_pace_turn(const mcf_pace *pace)
    enum:
        MCF_SEGMENT_NEVER
        MCF_SEGMENT_IF_ACCEPTED
        MCF_SEGMENT_ALWAYS
    ctypedef struct mcf_sender:
        const mcf_engine *engine
        mcf_socket fd
        mcf_socket wake
        int family
        int segment
        uint8_t queues_errors
        mcf_switch is_private
        mcf_pace pace
        uint32_t most_segments
        uint32_t largest_segment
        uint32_t largest_staged
        uint32_t staging_size
        uint8_t *staging
        mcf_counter batches
        mcf_counter datagrams
        mcf_counter bytes
        mcf_counter trains
        mcf_counter send_drops
        mcf_counter late_errors
        mcf_payload *payloads
    int mcf_sender_init(mcf_sender *sender)
    void mcf_sender_clear(mcf_sender *sender)
    void mcf_sender_share(mcf_sender *sender)
    int mcf_sender_look(mcf_sender *sender)
    int mcf_send(mcf_sender *sender, uint32_t *sent, uint32_t count, int64_t *deadline)
    int mcf_send_rows(mcf_sender *sender, const uint8_t *rows, size_t size, uint32_t count, uint32_t *sent)
    int mcf_send_one(mcf_sender *sender, const void *data, size_t length, int64_t *deadline)
    int mcf_queues_errors(mcf_socket fd, int family)
    int mcf_collect_errors(mcf_socket fd)
    int mcf_socket_begin(mcf_socket fd, int is_ours)
    void mcf_socket_end(mcf_socket fd, int waits)
    int mcf_error_number(int error)

    int64_t mcf_clock()
    int mcf_set_patience(mcf_socket fd, int milliseconds)
    size_t mcf_wait_many_size()
    int mcf_wait_many(const mcf_socket *fds, uint32_t count, uint8_t *ready, void *scratch, mcf_socket wake,
                      int64_t deadline, uint32_t *looks)
    mcf_socket mcf_wake_new()
    void mcf_wake_signal(mcf_socket wake)
    int mcf_wake_reset(mcf_socket wake)
    void mcf_wake_free(mcf_socket wake)

    cdef struct mcf_interface_address:
        char *name
        uint32_t index
        uint32_t flags
        uint32_t mtu
        int family
        uint8_t *address
        uint8_t prefix
    int mcf_interface_enumerate(mcf_interface_address **rows)
    void mcf_interface_free(mcf_interface_address *rows)
    int mcf_route_interface(int family, const uint8_t *destination)
    int mcf_interface_stamps(const char *name)
