# Receiving: one socket.

cdef class ReceiverCore(Gate):
    """The part of a Receiver through which datagrams pass."""

    cdef mcf_receiver io
    cdef mcf_pool *pool
    cdef mcf_arena *arena  # where the next batch goes, one reference is ours
    cdef uint32_t batch_size
    cdef uint16_t port
    cdef object set  # weak reference to the ReceiverSet that this receiver is a member of, or None

    def __dealloc__(self):
        self._retire()
        mcf_receiver_clear(&self.io)

    cdef void _retire(self) noexcept:
        if self.arena != NULL:
            mcf_arena_release(self.arena)
            self.arena = NULL
        if self.pool != NULL:
            mcf_pool_close(self.pool)
            self.pool = NULL

    cdef void _rewire(self) noexcept:
        self.io.wake = self.wake

    def _after_fork(self):
        mcf_receiver_after_fork(&self.io)
        Gate._after_fork(self)

    cdef void _wake_waiters(self) noexcept:
        cdef ReceiverSet owner = self._find_set()
        mcf_wake_signal(self.wake)
        if owner is not None:
            mcf_wake_signal(owner.wake)

    cdef ReceiverSet _find_set(self):
        return None if self.set is None else self.set()

    def _prepare(self, int family, *, engine, uint32_t metadata, batch_size, max_datagram, max_memory):
        """Checks the sizes and makes the memory, before there is a socket. ValueError: one is out of range."""
        cdef uint32_t slot_size = _datagram_size(max_datagram)
        if self.io.engine != NULL:
            raise RuntimeError("Receiver.__init__ called twice")
        batch_size, max_memory = operator_index(batch_size), operator_index(max_memory)
        if not 1 <= batch_size <= MCF_MAX_BATCH:
            raise ValueError(f"batch_size={batch_size!r} is not in 1..{MCF_MAX_BATCH} datagrams")
        self.batch_size = batch_size
        self.io.engine = _find_engine(engine)
        self.io.family = MCF_IPV6 if family == AF_INET6 else MCF_IPV4
        self.io.metadata = metadata
        cdef uint64_t least = 2 * mcf_arena_size(self.batch_size, slot_size)
        if max_memory < least:
            raise ValueError(f"max_memory={max_memory!r} is too small: batch_size={batch_size} with "
                             f"max_datagram={max_datagram} needs {least} bytes")
        self.pool = mcf_pool_new(self.batch_size, slot_size, min(max_memory, 2**63))
        if self.pool == NULL or mcf_receiver_reserve(&self.io, self.batch_size):
            raise MemoryError

    def _open(self, int fd, uint16_t port, *, uint32_t drops, bint is_ours):
        """Receives on this descriptor from now on; `drops` is the kernel's drop counter at this moment.

        A socket that is ours blocks, and has its receive timeout set; others keep what they have.
        """
        mcf_receiver_init(&self.io)
        self.io.fd = fd
        self.io.is_patient = is_ours and mcf_set_patience(fd, MCF_PATIENCE_MS) == 0
        self.io.last_drops = drops
        self.port = port
        self._admit()

    def _give_back(self):
        """After _shut(): makes the socket what it was before _open()."""
        if self.io.is_patient:
            mcf_set_patience(self.io.fd, 0)

    def _set_filter(self, entries):
        """Delivers only these (16-byte group, interface index) pairs, and unicast."""
        cdef uint32_t count = len(entries)
        cdef mcf_filter_entry *table = <mcf_filter_entry *>PyMem_Calloc(count or 1, sizeof(mcf_filter_entry))
        cdef uint32_t at = 0
        cdef int error
        if table == NULL:
            raise MemoryError
        try:
            for group, index in entries:
                if len(group) != 16:
                    raise ValueError("_set_filter: a group is 16 bytes")
                memcpy(table[at].group, PyBytes_AS_STRING(group), 16)
                table[at].interface_index = index
                at += 1
            with nogil:
                error = mcf_filter_set(&self.io.filter, table, count)
            if error:
                raise MemoryError
        finally:
            PyMem_Free(table)

    def _counters(self):
        """(batches, datagrams, bytes, truncated, control_truncated, foreign, arenas)."""
        cdef mcf_receiver *io = &self.io
        return (mcf_counter_get(&io.batches), mcf_counter_get(&io.datagrams), mcf_counter_get(&io.bytes),
                mcf_counter_get(&io.truncated), mcf_counter_get(&io.control_truncated), mcf_counter_get(&io.foreign),
                mcf_pool_arenas(self.pool) if self.pool != NULL else 0)

    cdef int _find_room(self, uint32_t *count) noexcept:
        """Makes self.arena one that has room; *count: how many slots of it. Returns 0 or -errno as mcf_pool_take.

        A batch goes behind the last one while half of the arena is left, so that lone datagrams share one, and a reader
        that looks at one batch while it receives the next walks over no more than two.
        """
        cdef mcf_arena *arena = self.arena
        cdef mcf_arena *fresh
        cdef uint32_t left = 0
        cdef int error
        if arena != NULL:
            if mcf_arena_is_sole(arena):
                arena.used = 0
            left = arena.slots - arena.used
            if left and 2 * left >= self.batch_size:
                count[0] = left
                return 0
        error = mcf_pool_take(self.pool, &fresh)
        if error == 0:
            if arena != NULL:
                mcf_arena_release(arena)
            self.arena = fresh
            count[0] = self.batch_size
            return 0
        count[0] = left
        return 0 if left else error

    cdef int _raise_no_room(self, int error) except -1:
        if error == -ENOMEM:
            raise MemoryError
        raise BufferError(f"recv_batch on {self._described()}: the batches that are kept fill max_memory; nothing was "
                          "received. Copy what is kept (bytes(datagram), batch.payloads(), batch.copy()) or raise "
                          "max_memory")

    cdef int _run_signal_handlers(self) except? -1:
        """Without the lock, which is held on entry and, without an exception, on return: handlers may close, or even
        receive. -EINTR: go on, looking at everything anew; -ECANCELED: closed."""
        self._leave()
        PyErr_CheckSignals()
        if self.is_open:
            self._enter("recv_batch")
            return -EINTR
        with nogil:
            PyThread_acquire_lock(self.lock, WAIT_LOCK)
        return -ECANCELED

    cdef Batch _batch(self, int64_t deadline, int *result):
        """One batch, or None and *result as mcf_receive."""
        cdef Batch batch = Batch.__new__(Batch)  # first: what was received must not be lost for want of memory
        cdef uint32_t count, start
        cdef uint32_t kept = 0
        cdef mcf_arena *arena
        cdef int used = -EINTR
        self._enter("recv_batch")
        while used == -EINTR:
            used = self._find_room(&count)
            if used:
                self._leave()
                self._raise_no_room(used)
            arena = self.arena
            start = arena.used
            with nogil:
                used = mcf_receive(&self.io, arena, start, count, deadline, &kept)
            if used == -EINTR:
                used = self._run_signal_handlers()
        result[0] = used
        if used > 0:
            mcf_arena_retain(arena)
            batch.arena = arena
            batch.start = start
            batch.count = kept
            batch.slots = used
            batch.metadata = self.io.metadata
            batch.family = self.io.family
            batch.port = self.port
            arena.used += used
        self._leave()
        return batch if used > 0 else None

    def recv_batch(self, timeout=None):
        """Waits for datagrams and returns up to batch_size of them as a Batch, never empty.

        ``timeout`` in seconds by the socket module's rules: None waits for ever, 0 returns at once. TimeoutError:
        nothing came in time. BlockingIOError: timeout=0 and nothing is there. BufferError: the batches that are kept
        use up max_memory; nothing was received. RuntimeError: another thread is receiving. OSError(EBADF): closed.
        """
        cdef int result = 0
        cdef Batch batch = self._batch(_deadline(timeout), &result)
        if batch is None:
            if result == 0:
                raise BlockingIOError(EAGAIN, f"recv_batch on {self._described()}: no datagram is there")
            _raise_error(self, "recv_batch", result)
        return batch

    def recv_batch_into(self, Batch batch not None, timeout=None):
        """Fills a batch over the caller's memory, ``Batch(buffer)``, from its start; returns how many datagrams it has.

        Timeouts and errors as recv_batch. BufferError: memoryviews or arrays of the previous fill live. RuntimeError:
        another thread is filling this batch, or receiving. The previous fill is gone when the call begins: after an
        exception the batch is empty.
        """
        batch._check()
        if not batch.refillable:
            raise ValueError("recv_batch_into needs a batch over memory of yours, Batch(buffer); a received one never "
                             "changes")
        cdef int64_t deadline = _deadline(timeout)
        cdef int used
        batch._claim("recv_batch_into")
        batch.filling = True
        try:
            self._enter("recv_batch_into")
            used = self._fill(batch, deadline)
        finally:
            batch.filling = False
        if used == 0:
            raise BlockingIOError(EAGAIN, f"recv_batch_into on {self._described()}: no datagram is there")
        if used < 0:
            _raise_error(self, "recv_batch_into", used)
        return batch.count

    cdef int _fill(self, Batch batch, int64_t deadline) except? -1:
        """Receives into a claimed batch, leaves the call, and gives the batch what it has now."""
        cdef uint32_t kept = 0
        cdef int used = -EINTR
        batch.count = 0
        batch.generation += 1
        while used == -EINTR:
            if mcf_receiver_reserve(&self.io, batch.arena.slots):
                self._leave()
                raise MemoryError
            with nogil:
                used = mcf_receive(&self.io, batch.arena, 0, batch.arena.slots, deadline, &kept)
            if used == -EINTR:
                used = self._run_signal_handlers()
        self._leave()
        if used > 0:
            batch.count = kept
            batch.metadata = self.io.metadata
            batch.family = self.io.family
            batch.port = self.port
        return used

    def __iter__(self):
        if not self.is_open:
            _raise_error(self, "iteration", -EBADF)
        return self

    def __next__(self):
        cdef int result = 0
        cdef Batch batch
        if not self.is_open:
            raise StopIteration
        batch = self._batch(MCF_NO_DEADLINE, &result)
        if batch is None:
            if result == -ECANCELED:
                raise StopIteration
            _raise_error(self, "iteration", result)
        return batch


cdef const mcf_engine *_find_engine(name) except NULL:
    cdef const mcf_engine **engine = <const mcf_engine **>mcf_engines
    while engine[0] != NULL:
        if name == "auto" or name == engine[0].name.decode("ascii"):
            return engine[0]
        engine += 1
    raise ValueError(f"engine={name!r} is not known; this system has 'auto', {', '.join(map(repr, ENGINES))}")
