"""The C core (csrc/) as Cython sees it."""

from libc.stdint cimport int64_t, intptr_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "mcf.h" nogil:
    ctypedef intptr_t mcf_socket

    enum:
        MCF_FLAG_TRUNCATED
        MCF_FLAG_CONTROL_TRUNCATED
        MCF_FLAG_HARDWARE_TIME
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
        MCF_PATIENCE_MS
        MCF_IF_UP
        MCF_IF_RUNNING
        MCF_IF_MULTICAST
        MCF_IF_LOOPBACK
        MCF_IF_POINTOPOINT

    ctypedef struct mcf_counter:
        pass
    int64_t mcf_counter_get(mcf_counter *counter)
    int64_t mcf_counter_add(mcf_counter *counter, int64_t amount)
    void mcf_counter_bump(mcf_counter *counter, int64_t amount)

    ctypedef struct mcf_arena:
        uint8_t *data
        size_t data_size
        uint32_t slots
        uint32_t slot_size
        uint32_t max_datagram
        uint32_t used
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
    size_t mcf_arena_size(uint32_t slots, uint32_t max_datagram)
    mcf_arena *mcf_arena_new(void *data, uint32_t slots, uint32_t max_datagram)
    mcf_arena *mcf_arena_copy(const mcf_arena *arena, uint32_t start, uint32_t count)
    void mcf_arena_retain(mcf_arena *arena)
    void mcf_arena_release(mcf_arena *arena)
    bint mcf_arena_is_sole(mcf_arena *arena)

    ctypedef struct mcf_pool:
        pass
    mcf_pool *mcf_pool_new(uint32_t slots, uint32_t max_datagram, uint64_t max_bytes)
    int mcf_pool_take(mcf_pool *pool, mcf_arena **arena)
    uint32_t mcf_pool_arenas(mcf_pool *pool)
    void mcf_pool_close(mcf_pool *pool)

    ctypedef struct mcf_filter_entry:
        uint8_t group[16]
        uint32_t interface_index
    ctypedef struct mcf_filter:
        pass
    int mcf_filter_set(mcf_filter *filter, const mcf_filter_entry *entries, uint32_t count)

    ctypedef struct mcf_engine:
        const char *name
        int can_segment
    const mcf_engine *mcf_engines[]

    ctypedef struct mcf_receiver:
        const mcf_engine *engine
        mcf_socket fd
        mcf_socket wake
        int family
        uint32_t metadata
        uint8_t is_patient
        mcf_filter filter
        uint32_t last_drops
        mcf_counter batches
        mcf_counter datagrams
        mcf_counter bytes
        mcf_counter truncated
        mcf_counter control_truncated
        mcf_counter foreign
    void mcf_receiver_init(mcf_receiver *receiver)
    int mcf_receiver_reserve(mcf_receiver *receiver, uint32_t slots)
    void mcf_receiver_after_fork(mcf_receiver *receiver)
    void mcf_receiver_clear(mcf_receiver *receiver)
    int mcf_receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, int64_t deadline,
                    uint32_t *kept)

    ctypedef struct mcf_payload:
        const void *data
        size_t length
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
        mcf_payload *payloads
        mcf_counter batches
        mcf_counter datagrams
        mcf_counter bytes
        mcf_counter trains
        mcf_counter send_drops
        mcf_counter late_errors
    int mcf_sender_init(mcf_sender *sender)
    void mcf_sender_clear(mcf_sender *sender)
    int mcf_send(mcf_sender *sender, uint32_t *sent, uint32_t count, int64_t deadline)
    int mcf_send_one(mcf_sender *sender, const void *data, size_t length, int64_t deadline)
    int mcf_collect_errors(mcf_socket fd)

    int64_t mcf_clock()
    int mcf_set_patience(mcf_socket fd, int milliseconds)
    size_t mcf_wait_many_size()
    int mcf_wait_many(const mcf_socket *fds, uint32_t count, uint8_t *ready, void *scratch, mcf_socket wake,
                      int64_t deadline)
    mcf_socket mcf_wake_new()
    void mcf_wake_signal(mcf_socket wake)
    void mcf_wake_reset(mcf_socket wake)
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
