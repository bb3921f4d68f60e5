# Receiving: one socket.

cdef mcf_member *_new_table(str call, members, list sources) except NULL:
    """Members as _set_members takes them, for the C core; `sources` gets what the table points to."""
    cdef mcf_member *table = <mcf_member *>PyMem_Calloc(len(members) or 1, sizeof(mcf_member))
    cdef uint32_t at = 0
    if table == NULL:
        raise MemoryError
    try:
        for group, index, is_exclude, addresses in members:
            joined = b"".join(addresses)
            if len(group) != 16 or len(joined) != 16 * len(addresses):
                raise ValueError(f"{call}: an address is 16 bytes")
            sources.append(joined)
            memcpy(table[at].group, PyBytes_AS_STRING(group), 16)
            table[at].interface_index = index
            table[at].is_exclude = is_exclude
            table[at].source_count = <uint32_t>len(addresses)
            table[at].sources = <const void *>PyBytes_AS_STRING(joined)
            at += 1
    except:
        PyMem_Free(table)
        raise
    return table


cdef class ReceiverCore(Gate):
    """The part of a Receiver through which datagrams pass."""

    cdef mcf_receiver io
    cdef mcf_background *background  # the thread that receives, NULL = whoever calls
    cdef bint is_behind  # the last call took all that it could, several datagrams, so that more may be there
    cdef bint is_orphan  # a forked child, whose parent has the thread, or the ring
    cdef uint16_t port
    cdef uint32_t metadata  # what batches show
    cdef _SourceCache sources
    cdef object set  # weak reference to the ReceiverSet that this receiver is a member of, or None

    def __cinit__(self, *_, **__):
        self.sources = _SourceCache.__new__(_SourceCache)

    def __dealloc__(self):
        self._stop_background()
        mcf_receiver_clear(&self.io)

    cdef void _settle(self) noexcept:
        if self.io.engine != NULL and self.io.engine.settle != NULL:
            with nogil:
                self.io.engine.settle(&self.io)

    cdef void _retire(self) noexcept:
        self._stop_background()
        mcf_receiver_retire(&self.io)

    cdef void _stop_background(self) noexcept:
        if self.background != NULL:
            mcf_wake_signal(self.wake)
            mcf_background_stop(self.background)
            self.background = NULL

    cdef void _rewire(self) noexcept:
        self.io.wake = self.wake

    cdef int _set_up(self) except -1:
        cdef int error = 0
        if self.io.engine.open != NULL:
            error = self.io.engine.open(&self.io)
        if error:
            raise system_error(-error)
        return 0

    def _after_fork(self):
        cdef bint was_idle = mcf_latch_try(&self.lock)
        if was_idle:
            self._exit()
        if self.background != NULL:
            mcf_background_abandon(self.background)
            self.background = NULL
            self.is_orphan = True
            was_idle = False  # the thread was always in a call
        if self._has_tap():
            self._at_fork(MCF_FORK_IN_CHILD)
            self.is_orphan = True
            was_idle = False  # what it was in the middle of is the ring's to say
        mcf_receiver_after_fork(&self.io, was_idle)
        Gate._after_fork(self)

    cdef void _at_fork(self, int moment) noexcept:
        if self._has_tap():
            self.io.engine.tap.at_fork(&self.io, moment)

    cdef inline bint _has_tap(self) noexcept:
        return self.io.engine != NULL and self.io.engine.tap != NULL

    cdef void _wake_waiters(self) noexcept:
        cdef ReceiverSet owner = self._find_set()
        self._signal()
        if owner is not None:
            owner._signal()

    @cython.critical_section
    cdef ReceiverSet _find_set(self):
        return None if self.set is None else self.set()

    @cython.critical_section
    cdef bint _enlist(self, owner) noexcept:
        """Makes it a member of this set (a weak reference), or of none (None); False: it is a member of another."""
        if owner is not None and self.set is not None and self.set() is not None:
            return False
        self.set = owner
        return True

    def _prepare(self, int family, *, engine, bint coalesce, uint32_t metadata, batch_size, max_datagram, max_memory,
                 str memory_name, int64_t spin):
        """Checks the sizes and makes the memory, before there is a socket. ValueError: one is out of range.

        spin is in nanoseconds.
        """
        cdef uint32_t size = _datagram_size(max_datagram)
        if self.io.engine != NULL:
            raise RuntimeError("Receiver.__init__ called twice")
        batch_size, max_memory = _whole("batch_size", batch_size), operator_index(max_memory)
        if not 1 <= batch_size <= MCF_MAX_BATCH:
            raise ValueError(f"batch_size={batch_size!r} is not in 1..{MCF_MAX_BATCH} datagrams")
        self.io.batch_size = batch_size
        self.io.engine = _find_engine(engine)
        if coalesce:
            self.io.engine = self.io.engine.coalescing
        self.io.family = MCF_IPV6 if family == AF_INET6 else MCF_IPV4
        self.io.metadata = self.metadata = metadata
        self.io.spin = spin
        cdef uint64_t least = mcf_receiver_least_memory(&self.io, size)
        if max_memory < least:
            raise ValueError(f"{memory_name}={max_memory!r} is too small: batch_size={batch_size} with "
                             f"max_datagram={max_datagram}{' and coalescing' if coalesce else ''} needs {least} bytes")
        if mcf_receiver_prepare(&self.io, size, min(max_memory, 2**63)):
            raise MemoryError

    def _reserve(self, uint32_t wishes):
        """Maps all of the memory now, as MEMORY's bits say. OSError: the system's answer."""
        cdef int error
        with nogil:
            error = mcf_pool_reserve(self.io.pool, wishes)
        if error:
            raise system_error(-error)

    def _lend(self, uint32_t blocks):
        """Maps what describes the blocks of a ring, as _reserve, after it and before _open_tap."""
        cdef int error
        with nogil:
            error = self.io.engine.tap.lend(&self.io, blocks)
        if error:
            raise system_error(-error)

    def _open(self, mcf_socket fd, uint16_t port, *, uint32_t drops, bint may_wait):
        """Receives on this descriptor from now on; `drops` is the kernel's drop counter at this moment.

        may_wait: it blocks, and may have its receive timeout set and calls that wait for datagrams; of somebody else's
        both stay as they are. OSError: the system's answer; EBUSY: the engine needs a socket for itself, and this
        one is somebody else's.
        """
        self.io.fd = fd
        self.io.queues_errors = mcf_queues_errors(fd, self.io.family)
        self.io.is_patient = may_wait and mcf_set_patience(fd, MCF_PATIENCE_MS) == 0
        self.io.last_drops = drops
        self.port = port
        self._admit()

    def _open_tap(self, int fd, uint16_t port, *, uint32_t interface_index, uint32_t block_size, uint32_t blocks,
                  uint32_t retire_ms):
        """Receives from a ring beside this bound socket from now on, nothing before _set_members.

        interface_index: 0 for all. OSError: the system's answer.
        """
        cdef mcf_ring_shape shape
        shape.interface_index, shape.block_size = interface_index, block_size
        shape.blocks, shape.retire_ms = blocks, retire_ms
        cdef int error = self.io.engine.tap.open(&self.io, fd, port, &shape)
        if error:
            raise system_error(-error)
        self.port = port
        self._admit()

    def _start_background(self, *, name, cpus, int priority, int64_t delay):
        """Has a thread receive from now on; delay in nanoseconds. OSError: the system's answer."""
        cdef mcf_thread_options options
        cdef bytes encoded = os.fsencode(name)
        cdef uint32_t *processors = <uint32_t *>PyMem_Calloc(len(cpus) or 1, sizeof(uint32_t))
        cdef Py_ssize_t index
        cdef int error
        if processors == NULL:
            raise MemoryError
        try:
            for index in range(len(cpus)):
                processors[index] = cpus[index]
            options.name = encoded
            options.cpus = processors
            options.cpu_count = <uint32_t>len(cpus)
            options.priority = priority
            error = mcf_background_start(&self.background, &self.io, delay, &options)
        finally:
            PyMem_Free(processors)
        if error:
            raise system_error(-error)

    def _check_watchable(self, str call):
        """Raises UnsupportedError where select and its kin do not see that there is something to receive."""
        if self.io.engine.wait != NULL:
            raise UnsupportedError(f"{call} on {self._described()}: its socket is never readable, for datagrams go "
                                   f"straight into memory; open it with engine='socket', or call recv_batch()")

    @cython.critical_section
    def _ready_fileno(self):
        """The descriptor that is readable while the thread or the ring has something; -1 without either."""
        return <int>self._polled() if self.background != NULL or self._has_tap() else -1

    cdef mcf_socket _polled(self) noexcept:
        """What is readable while there is something to receive."""
        return mcf_polled(&self.io) if self.background == NULL else mcf_background_ready(self.background)

    cdef bint _has_carried(self) noexcept:
        """Whether there is something to receive that _polled does not show."""
        return self.background == NULL and self.io.carried > 0

    def _may_have_news(self):
        """Whether a receive would tell what no wait ends for, as that the device of a ring is gone."""
        return self._has_news()

    @cython.final
    cdef bint _has_news(self) noexcept:
        cdef bint found = False
        if self.io.engine.has_more != NULL and self._may_begin():
            found = self.io.engine.has_more(&self.io)
            self._exit()
        return found

    def _give_back(self):
        """After _shut(): makes the socket what it was before _open()."""
        if self.io.is_patient:
            mcf_set_patience(self.io.fd, 0)

    def _set_filter(self, entries):
        """Delivers only these (16-byte group, interface index) pairs, and what is no multicast."""
        members = [(group, index, True, ()) for group, index in entries]
        cdef list sources = []
        cdef uint32_t count = <uint32_t>len(members)
        cdef mcf_member *table = _new_table("_set_filter", members, sources)
        cdef int error
        with nogil:
            error = mcf_members_set(&self.io.filter, table, count)
        PyMem_Free(table)
        if error:
            raise MemoryError

    def _set_members(self, members):
        """Has the tap deliver what is for these (group, interface index, is exclude mode, sources), addresses 16 bytes.

        In a forked child, which does not receive, it does nothing.
        """
        cdef list sources = []
        cdef uint32_t count = <uint32_t>len(members)
        cdef mcf_member *table = _new_table("_set_members", members, sources)
        cdef int error = 0
        with cython.critical_section(self):  # nobody closes it meanwhile
            if not self.is_orphan:
                error = self.io.engine.tap.follow(&self.io, table, count)
        PyMem_Free(table)
        if error == -ENOMEM:
            raise MemoryError
        if error:
            raise system_error(-error)

    @cython.critical_section
    def _tap_counts(self):
        """(lost, copied, fragments, bad checksums, held blocks), all 0 without a tap."""
        cdef mcf_tap_counts counts
        if not self._has_tap():
            return 0, 0, 0, 0, 0
        self.io.engine.tap.count(&self.io, &counts)
        return counts.lost, counts.copied, counts.fragments, counts.bad_checksums, counts.held

    @cython.critical_section
    def _counters(self):
        """(batches, datagrams, bytes, overrun, truncated, control_truncated, foreign, arenas)."""
        cdef mcf_receiver *io = &self.io
        return (mcf_counter_get(&io.batches), mcf_counter_get(&io.datagrams), mcf_counter_get(&io.bytes),
                mcf_counter_get(&io.overrun), mcf_counter_get(&io.truncated), mcf_counter_get(&io.control_truncated),
                mcf_counter_get(&io.foreign), mcf_pool_arenas(io.pool) if io.pool != NULL else 0)

    cdef int _raise_failure(self, str call, int error) except -1:
        """Raises the exception for a negative result of a receive."""
        if error == MCF_NO_ROOM:
            raise BufferError(f"{call} on {self._described()}: the batches that are kept fill max_memory; nothing was "
                              "received. Copy what is kept (bytes(datagram), batch.payloads(), batch.copy()) or raise "
                              "max_memory")
        if error == MCF_NO_BLOCK:
            raise BufferError(f"{call} on {self._described()}: the batches that are kept hold the ring's next block, "
                              "and nothing can come until they go. Copy what is kept (bytes(datagram), "
                              "batch.payloads(), batch.copy()) or ask for a larger ring=")
        if error == -ENOMEM:
            raise MemoryError
        return _raise_error(self, call, error)

    cdef int _run_signal_handlers(self) except? -1:
        """Without the lock, which is held on entry and, without an exception, on return: handlers may close, or even
        receive. -EINTR: go on, looking at everything anew; -ECANCELED: closed."""
        self._exit()
        PyErr_CheckSignals()
        if _is_open(self):
            self._begin("recv_batch")  # in a child that a handler has forked it refuses
            return -EINTR
        self._enter_at_last()
        return -ECANCELED

    cdef int _refuse(self, str call) except -1:
        if self.is_orphan and _is_open(self):
            owned = "ring that it receives from" if self._has_tap() else "thread that receives"
            raise RuntimeError(f"{call} on {self._described()}: the {owned} is the parent process's; open a Receiver "
                               "in the child")
        return Gate._refuse(self, call)

    cdef inline bint _may_begin(self) noexcept:
        return not self.is_orphan and self._try_enter()

    cdef inline int _begin(self, str call) except -1:
        if not self._may_begin():
            self._refuse(call)
        return 0

    @cython.final
    cdef void _describe(self, Batch batch, const mcf_range *got) noexcept:
        """Makes the batch what was received."""
        batch.start = got.row
        batch.count = got.rows
        batch.metadata = self.metadata
        batch.family = self.io.family
        batch.port = self.port
        batch.sources = self.sources

    @cython.final
    cdef inline bint _takes_at_once(self, int64_t deadline) noexcept:
        """Whether to look, with the GIL, for what is there already: what a thread has is, without a system call."""
        return ((self.is_behind or deadline == MCF_DO_NOT_WAIT or self.background != NULL) and self._may_keep_gil())

    @cython.final
    cdef inline int _take_once(self, mcf_arena *into, int64_t deadline, mcf_range *got) noexcept nogil:
        """mcf_receive or, into an arena of somebody else's, mcf_receive_into."""
        return mcf_receive(&self.io, deadline, got) if into == NULL else mcf_receive_into(&self.io, into, deadline, got)

    @cython.final
    cdef int _take_from_thread(self, mcf_arena *into, int64_t deadline, uint32_t *looks,
                               mcf_range *got) noexcept nogil:
        """The same of what the thread has received."""
        cdef mcf_range taken
        cdef int used
        if into == NULL:
            return mcf_background_take(self.background, self.io.batch_size, deadline, looks, got)
        used = mcf_background_take(self.background, into.rows, deadline, looks, &taken)
        if used > 0:
            mcf_counter_add(&self.io.truncated, mcf_range_copy(&taken, into, got))
            mcf_arena_release(taken.arena)
        return used

    @cython.final
    cdef int _take(self, mcf_arena *into, int64_t deadline, mcf_range *got) except? -1:
        """The same, with the GIL if it need not wait, and again after signals. The lock is held on entry and, without
        an exception, on return."""
        cdef int used = -EINTR
        cdef uint32_t looks = 0
        cdef int64_t before
        if self.background == NULL:
            self.io.sleeps_at = 0
            self.io.looks = 0
        if self._takes_at_once(deadline):
            if self.background != NULL:
                used = self._take_from_thread(into, MCF_DO_NOT_WAIT, &looks, got)
                self._note_kept(1, got.data_size if used > 0 and into != NULL else 0)
            else:
                before = mcf_counter_get(&self.io.bytes)
                used = self._take_once(into, MCF_ONE_LOOK, got)
                self._note_kept(1 + (got.rows if used > 0 else 0), mcf_counter_get(&self.io.bytes) - before)
            if used == 0 and deadline != MCF_DO_NOT_WAIT:
                used = -EINTR
        while used == -EINTR:
            self.kept = 0
            with nogil:
                if self.background == NULL:
                    used = self._take_once(into, deadline, got)
                else:
                    used = self._take_from_thread(into, deadline, &looks, got)
            if used == -EINTR:
                used = self._run_signal_handlers()
        if self.background == NULL:  # else it is the thread that knows
            self.is_behind = (used > 0 and got.rows > 1
                              and (self.io.carried > 0 or self.io.last_count >= self.io.last_asked))
        return used

    @cython.final
    cdef Batch _batch(self, int64_t deadline, int *result):
        """One batch, or None and *result as mcf_receive."""
        cdef Batch batch = Batch.__new__(Batch)  # first: what was received must not be lost for want of memory
        cdef mcf_range got
        cdef int used
        if not self._may_begin():
            if _is_open(self):
                self._refuse("recv_batch")
            result[0] = -ECANCELED
            return None
        used = self._take(NULL, deadline, &got)
        result[0] = used
        if used > 0:
            batch.arena = got.arena
            batch.data_start = got.data
            batch.data_size = got.data_size
            self._describe(batch, &got)
        self._exit()
        return batch if used > 0 else None

    def recv_batch(self, timeout=None):
        """Waits for datagrams and returns up to batch_size of them as a Batch, never empty.

        ``timeout`` in seconds by the socket module's rules: None waits for ever, 0 returns at once. TimeoutError:
        nothing came in time. BlockingIOError: timeout=0 and nothing is there. BufferError: the batches that are kept
        use up max_memory or, with engine="packet", hold the next block of the ring; nothing was received. RuntimeError:
        another thread is receiving. OSError(EBADF): closed.
        """
        cdef int result = 0
        cdef Batch batch = self._batch(_deadline(timeout), &result)
        if batch is None:
            if result == 0:
                raise BlockingIOError(EAGAIN, f"recv_batch on {self._described()}: no datagram is there")
            self._raise_failure("recv_batch", result)
        return batch

    def recv_batch_into(self, batch, timeout=None):
        """Fills a batch over the caller's memory, ``Batch(buffer)``, from its start; returns how many datagrams it has.

        Timeouts and errors as recv_batch. BufferError: memoryviews or arrays of the previous fill live. RuntimeError:
        another thread is filling this batch, or receiving. The previous fill is gone when it begins to receive: also
        where nothing comes, or receiving fails, the batch is empty then.
        """
        cdef int64_t deadline = _deadline(timeout)
        cdef int used
        cdef Batch filled
        if not isinstance(batch, Batch):
            raise TypeError(f"recv_batch_into fills a Batch, not {type(batch).__name__}: Batch(buffer) makes one of "
                            "your memory")
        filled = batch
        filled._begin_fill()
        try:
            self._begin("recv_batch_into")
            used = self._fill(filled, deadline)
        finally:
            filled._end_fill()
        if used == 0:
            raise BlockingIOError(EAGAIN, f"recv_batch_into on {self._described()}: no datagram is there")
        if used < 0:
            self._raise_failure("recv_batch_into", used)
        return used

    @cython.final
    cdef int _fill(self, Batch batch, int64_t deadline) except? -1:
        """Receives into a claimed batch, leaves the call, and gives the batch what it has now; how many that are."""
        cdef mcf_range got
        cdef int used
        with cython.critical_section(batch):
            batch.count = 0
            mcf_counter_bump(&batch.generation, 1)
        used = self._take(batch.arena, deadline, &got)
        self._exit()
        if used > 0:
            used = <int>got.rows
            with cython.critical_section(batch):
                self._describe(batch, &got)
        return used

    def __iter__(self):
        if not _is_open(self):
            _raise_error(self, "iteration", -EBADF)
        return self

    def __next__(self):
        cdef int result = 0
        cdef Batch batch
        PyErr_CheckSignals()  # for loops in C, as that of deque(receiver)
        batch = self._batch(MCF_NO_DEADLINE, &result)
        if batch is None:
            if result == -ECANCELED:
                raise StopIteration
            self._raise_failure("iteration", result)
        return batch
