# Receiving on many receivers.

cdef enum:
    LOOK_EVERY = 256  # rounds: at what no descriptor shows


@cython.final
cdef class ReceiverSet(Gate):
    """ReceiverSet(receivers)\n--\n\nReceives on many receivers at once, fairly: yields (receiver, batch).

    Every receiver that has datagrams gives one batch before any gives a second. The receivers stay usable by
    themselves; one that is closed leaves the set, and iteration ends with the last. close() closes them all. One thread
    at a time receives on a set.

    ValueError: no receiver, the same one twice, or one that belongs to another set. UnsupportedError: one whose engine
    is "iocp".
    """

    cdef bint busy  # a thread receives; only that one changes the two lists
    cdef tuple everyone  # who was a member from the start, for close()
    cdef list members  # who is open, as far as is known
    cdef uint32_t rounds
    cdef list ready  # members that had datagrams when last asked and have not had their turn
    cdef mcf_socket *fds
    cdef uint8_t *flags
    cdef void *scratch

    def __cinit__(self, *receivers, **_):
        if len(receivers) > 1 or (receivers and isinstance(receivers[0], ReceiverCore)):
            shown = "receiver" if len(receivers) == 1 else "first, second"
            raise TypeError(f"ReceiverSet takes receivers in a list: ReceiverSet([{shown}])")

    def __init__(self, receivers):
        members = list(receivers)
        cdef ReceiverCore member
        if self.fds != NULL:
            raise RuntimeError("ReceiverSet.__init__ called twice")
        if not members:
            raise ValueError("a ReceiverSet needs at least one receiver")
        self.fds = <mcf_socket *>PyMem_Malloc(len(members) * sizeof(mcf_socket))
        self.flags = <uint8_t *>PyMem_Malloc(len(members))
        self.scratch = PyMem_Malloc((len(members) + 1) * mcf_wait_many_size())
        if self.fds == NULL or self.flags == NULL or self.scratch == NULL:
            raise MemoryError
        self.ready = []
        this = weak_reference(self)
        for position, item in enumerate(members):
            if not isinstance(item, ReceiverCore):
                raise TypeError(f"ReceiverSet takes receivers, not {type(item).__name__}")
            member = item
            if any(item is other for other in members[:position]):
                raise ValueError(f"{member._described()} is in the list twice")
            if member._find_set() is not None:
                raise ValueError(f"{member._described()} belongs to another ReceiverSet")
            if not _is_open(member):
                _raise_error(member, "ReceiverSet", -EBADF)
            member._check_watchable("ReceiverSet")
        enlisted = []
        try:
            for member in members:
                if not member._enlist(this):  # another thread was faster
                    raise ValueError(f"{member._described()} belongs to another ReceiverSet")
                enlisted.append(member)
            self.everyone = tuple(members)
            self._keep(members)
            self._admit()
        except:
            self.everyone = None
            self._keep(None)
            for member in enlisted:
                member._enlist(None)
            raise

    def __del__(self):
        # Before the members go: one that is closed by that looks for its set, and on free-threaded Python a weak
        # reference still finds an object whose parts are being released.
        cdef ReceiverCore member
        for member in self.everyone or ():
            member._enlist(None)

    def __dealloc__(self):
        PyMem_Free(self.fds)
        PyMem_Free(self.flags)
        PyMem_Free(self.scratch)

    def _after_fork(self):
        self.busy = False
        Gate._after_fork(self)

    @cython.critical_section
    cdef void _keep(self, list members) noexcept:
        self.members = members

    @cython.critical_section
    cdef list _members(self):
        return self.members or []

    @cython.critical_section
    cdef bint _become_busy(self) noexcept:
        if self.busy:
            return False
        self.busy = True
        return True

    @cython.critical_section
    cdef void _become_idle(self) noexcept:
        self.busy = False

    def __repr__(self):
        members = ", ".join(member._described() for member in self._members())
        return f"<ReceiverSet of {members or 'no receivers'}{' (closed)' if self.closed else ''}>"

    def _described(self):
        return f"a set of {len(self._members())} receivers"

    def _failure(self, str call, int code):
        return system_error(code, f"{call} on {self._described()}: ")

    @property
    def receivers(self):
        """The receivers of the set that are open."""
        return tuple(member for member in self._members() if not member.closed)

    cdef int _drop_closed(self) except -1:
        cdef ReceiverCore member
        still_open = []
        for member in self.members:
            if _is_open(member):
                still_open.append(member)
            else:
                member._enlist(None)
        self._keep(still_open)
        return 0

    cdef int _wait(self, int64_t deadline, uint32_t *looks) except? -1:
        """mcf_wait_many over all members. Their locks and the set's are held meanwhile: close() waits until a
        descriptor is no longer looked at, and wakes this set for it. -ECANCELED: woken, or something is closed."""
        cdef list members = self.members  # close() may replace the list
        cdef ReceiverCore member
        cdef ReceiverCore refusing = None
        cdef uint32_t count = <uint32_t>len(members)
        cdef uint32_t entered = 0
        cdef uint32_t index
        cdef uint32_t carried = 0
        cdef bint may_be_there = deadline == MCF_DO_NOT_WAIT
        cdef bint looks_first
        cdef int found = -ECANCELED
        if not self._try_enter():
            return -ECANCELED
        for member in members:
            if not member._may_begin():
                refusing = member
                break
            self.fds[entered] = member._polled()
            carried += member._has_carried()
            may_be_there |= member.is_behind
            entered += 1
        if refusing is None:
            if carried:
                deadline = MCF_DO_NOT_WAIT
            found = 0
            looks_first = (may_be_there or carried) and self._may_keep_gil()
            if looks_first:
                found = mcf_wait_many(self.fds, count, self.flags, self.scratch, self.wake, MCF_DO_NOT_WAIT, looks)
                self._note_kept(count, 0)
            if found == 0 and not (looks_first and deadline == MCF_DO_NOT_WAIT):
                self.kept = 0
                with nogil:
                    found = mcf_wait_many(self.fds, count, self.flags, self.scratch, self.wake, deadline, looks)
            if found == -ECANCELED:
                mcf_wake_reset(self.wake)
        for index in range(entered):
            member = members[index]
            if found >= 0 and member._has_carried():
                found += not self.flags[index]
                self.flags[index] = True
            member._exit()
        self._exit()
        if refusing is not None and _is_open(refusing):
            refusing._refuse("recv_batch")
        if found > 0:
            self.ready = [members[index] for index in range(<int>count - 1, -1, -1) if self.flags[index]]
        return found

    cdef object _next(self, int64_t deadline, int *result):
        """(receiver, batch), or None and *result as mcf_receive.

        Much of it is Python's work, so the lock is held in _wait only, and `busy` keeps other threads out.
        """
        cdef uint32_t looks = 0
        while True:
            if not _is_open(self):
                result[0] = -ECANCELED
                return None
            if not self._become_busy():
                self._refuse("recv_batch")
            try:
                pair = self._turn(deadline, &looks, result)
            finally:
                self._become_idle()
            if pair is not None or result[0] != -EINTR:
                return pair
            PyErr_CheckSignals()

    cdef object _turn(self, int64_t deadline, uint32_t *looks, int *result):
        """The next batch of this round or, when the round is over, of a new one."""
        cdef ReceiverCore member
        cdef Batch batch
        cdef int found = 0
        cdef bint asked = False
        cdef bint has_looked = False
        while True:
            while self.ready:
                member = self.ready.pop()
                if not _is_open(member):
                    continue
                batch = member._batch(MCF_DO_NOT_WAIT, &found)
                if batch is not None:
                    self._note_kept(1 + batch.count, 0)
                    return member, batch
                if found < 0 and found != -ECANCELED:
                    member._raise_failure("recv_batch", found)
            self._drop_closed()
            if not _is_open(self) or not self.members:
                result[0] = -ECANCELED
                return None
            if asked:
                # Ready and yet nothing: foreign datagrams, error reports. They must not hold up deadlines and signals.
                if deadline == MCF_DO_NOT_WAIT:
                    result[0] = 0
                else:
                    result[0] = -ETIMEDOUT if 0 < deadline <= mcf_clock() else -EINTR
                return None
            found = self._wait(deadline, looks)
            self.rounds += 1
            if found <= 0 or self.rounds % LOOK_EVERY == 0:
                for member in self.members:
                    if member._has_news():
                        self.ready.append(member)
            if found == 0 and self.ready and not has_looked:
                has_looked = True
                continue
            asked = found > 0
            if found < 0 and found != -ECANCELED:
                result[0] = found
                return None
            elif found == 0:
                result[0] = 0 if deadline == MCF_DO_NOT_WAIT else -ETIMEDOUT
                return None

    def recv_batch(self, timeout=None):
        """Waits for datagrams on any receiver and returns (receiver, batch).

        Timeouts and errors as Receiver.recv_batch.

        OSError(EBADF): the set, or every receiver in it, is closed.
        """
        cdef int result = 0
        pair = self._next(_deadline(timeout), &result)
        if pair is None:
            if result == 0:
                raise BlockingIOError(EAGAIN, f"recv_batch on {self._described()}: no datagram is there")
            _raise_error(self, "recv_batch", result)
        return pair

    def __iter__(self):
        if not _is_open(self):
            _raise_error(self, "iteration", -EBADF)
        return self

    def __next__(self):
        cdef int result = 0
        PyErr_CheckSignals()  # for loops in C, as that of deque(receivers)
        pair = self._next(MCF_NO_DEADLINE, &result)
        if pair is None:
            if result == -ECANCELED:
                raise StopIteration
            _raise_error(self, "iteration", result)
        return pair

    def __aiter__(self):
        """Iterates over (receiver, batch) in an event loop of asyncio, which goes on while there is none.

        As a Receiver's; a receiver that is closed leaves the set, and the iteration ends with the last. A task that
        waits for a set waits for each of its receivers: RuntimeError where another of the loop does.
        """
        if not _is_open(self):
            _raise_error(self, "iteration", -EBADF)
        from mcastfast import aio  # asyncio is for those who use it
        return aio.Batches(self, lambda: self.receivers)

    def close(self):
        """Closes every receiver of the set, and the set. A blocked call ends. A second close does nothing."""
        self._shut()
        if self.everyone is not None:
            for member in self.everyone:  # closed ones too: their close() may have been interrupted
                member.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
