# Who may use a socket when: one exclusive call at a time, close() from any thread, fork.

# A weak reference to every open one; another thread never sees a table that is half changed. By a token of each, for a
# subclass may call two of them equal.
_gates = {}

cdef mcf_counter _forks  # under way


cdef list _open_gates():
    return [gate for entry in list(_gates.values()) if (gate := entry()) is not None]


def _renew_gates():
    mcf_counter_add(&_forks, -mcf_counter_get(&_forks))  # of other threads, too, which are not here
    failures = []
    for gate in _open_gates():
        try:
            gate._after_fork()
        except (MemoryError, OSError) as error:  # it is closed now; the others must not share the parent's lock
            failures.append(error)
    if failures:
        raise failures[0]


cdef int _tell_gates(int moment) except -1:
    cdef Gate gate
    for gate in _open_gates():
        with cython.critical_section(gate):  # a close in another thread, or another fork
            gate._at_fork(moment)
    return 0


def _before_fork():
    mcf_counter_add(&_forks, 1)  # first: what is opened from here on is not told
    _tell_gates(MCF_FORK_BEFORE)


def _after_in_parent():
    _tell_gates(MCF_FORK_IN_PARENT)
    mcf_counter_add(&_forks, -1)


if hasattr(os, "fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_renew_gates)


cdef int64_t _deadline(timeout) except? -2:
    """A timeout in seconds, by the socket module's rules, as a time of mcf_clock."""
    if timeout is None:
        return MCF_NO_DEADLINE
    cdef double seconds
    try:
        seconds = timeout
    except TypeError:
        raise TypeError(f"timeout={timeout!r} is not a number of seconds, 0 or None") from None
    if seconds == 0:
        return MCF_DO_NOT_WAIT
    if not seconds > 0:
        raise ValueError(f"timeout={timeout!r} is not a positive number of seconds, 0 or None")
    if seconds > 9e9:
        raise OverflowError(f"timeout={timeout!r} is too large; None waits for ever")
    return mcf_clock() + <int64_t>(seconds * 1e9)


# Windows' own words for the errors of its sockets, by number.
cdef dict _SOCKET_ERRORS = getattr(socket, "errorTab", {})


def system_error(int code, str before=""):
    """The OSError, as the socket module would raise it, for an error code of the C core or of the errno module.

    Its text is the system's, with `before` in front.
    """
    cdef int number = mcf_error_number(code)
    if number in _SOCKET_ERRORS:
        return OSError(number, before + _SOCKET_ERRORS[number], None, number)
    return OSError(number, before + os.strerror(number))


cdef int _raise_error(object owner, str call, int error) except -1:
    """Raises the exception for a negative result of the C core, with the call and the socket in its text."""
    if error == -ETIMEDOUT:
        raise TimeoutError(f"{call} on {owner._described()}: timed out")
    if error == -ECANCELED or error == -EBADF:
        raise OSError(EBADF, f"{call} on {owner._described()}: it is closed")
    raise owner._failure(call, -error)


cdef inline bint _is_open(Gate gate) noexcept:
    return mcf_switch_get(&gate.is_open)


cdef PyThread_type_lock _new_bell() except NULL:
    cdef PyThread_type_lock bell = PyThread_allocate_lock()
    if bell == NULL:
        raise MemoryError
    PyThread_acquire_lock(bell, NOWAIT_LOCK)
    return bell


cdef enum:
    LONGEST_KEPT = 65536  # microseconds, give or take a factor of two: what calls do with the GIL before one lets go


cdef class Gate:
    """What receivers, senders and sets share: an open socket, and the order in which threads may use it.

    The lock is held through an exclusive call, GIL or no GIL. close() sets the flag, wakes whoever waits in C, and
    takes the lock: when it has it, no call is in flight and the descriptor can go. So nothing that may run Python code
    (a description, the collector, a signal handler) happens under the lock: it could close this object, and would wait
    for itself. A forked child starts with a lock and a wake-up descriptor of its own: the parent's may be in use there,
    and must not be signalled from here.
    """

    cdef mcf_latch lock  # calls refuse and do not sleep for it: PyThread's own lock costs them five times as much
    cdef PyThread_type_lock bell  # held; letting go of it rings, for one who does sleep for the lock
    cdef mcf_socket wake
    cdef uint32_t kept  # what was done with the GIL since a call last let it go, as LONGEST_KEPT
    cdef mcf_switch is_open  # only goes off in the critical section: what looks there first may use the descriptor
    cdef object token  # of _gates
    cdef object __weakref__

    def __cinit__(self, *_, **__):
        self.wake = -1
        self.bell = _new_bell()

    def __dealloc__(self):
        if self.wake >= 0:
            mcf_wake_free(self.wake)
        if self.bell != NULL:
            PyThread_free_lock(self.bell)

    def __reduce__(self):
        raise TypeError(f"{self!r} cannot be pickled, for its socket is this process's: open a "
                        f"{type(self).__name__} in each process")

    @property
    def closed(self):
        """True after close() or detach(), and before the socket was opened."""
        return not _is_open(self)

    cdef int _make_wake(self) except -1:
        cdef mcf_socket wake = mcf_wake_new()
        if wake < 0:
            raise os_error(Operation.OPEN, "a descriptor that wakes calls", <int>-wake)
        if self.wake >= 0:
            mcf_wake_free(self.wake)
        self.wake = wake
        return 0

    def _after_fork(self):
        """In the child: a new lock, for the thread that may hold the old one does not exist here, and a new wake-up."""
        try:
            self.bell = _new_bell()
            mcf_latch_reset(&self.lock)
            self._make_wake()
        except (MemoryError, OSError):
            mcf_switch_set(&self.is_open, False)
            raise
        self._rewire()

    cdef void _at_fork(self, int moment) noexcept:
        """MCF_FORK_*: around a fork."""

    cdef int _admit(self) except -1:
        """Opens the gate."""
        self._make_wake()
        self._rewire()
        self._set_up()
        self.token = object()
        _gates[self.token] = weak_reference(self, partial(_gates.pop, self.token))
        mcf_switch_set(&self.is_open, True)
        return 0

    cdef void _rewire(self) noexcept:
        """Tells the C struct about a new wake-up descriptor."""

    cdef int _set_up(self) except -1:
        """Before the gate opens, with every descriptor in its place."""

    cdef void _signal(self) noexcept:
        with cython.critical_section(self):  # a close in another thread frees the descriptor
            if self.wake >= 0:
                mcf_wake_signal(self.wake)

    cdef void _wake_waiters(self) noexcept:
        """Makes every call that waits for this object's socket return."""
        self._signal()

    cdef inline bint _try_enter(self) noexcept:
        if not mcf_latch_try(&self.lock):
            return False
        if not _is_open(self):
            self._exit()
            return False
        return True

    cdef inline int _enter(self, str call) except -1:
        if not self._try_enter():
            self._refuse(call)
        return 0

    cdef int _refuse(self, str call) except -1:
        """Raises the reason why _try_enter failed."""
        if not _is_open(self):
            _raise_error(self, call, -EBADF)
        raise RuntimeError(f"{call} on {self._described()}: another thread is in a call that excludes this one")

    cdef inline void _exit(self) noexcept:  # not _leave, a keyword of MSVC
        if mcf_latch_free(&self.lock):
            PyThread_release_lock(self.bell)

    cdef inline bint _may_keep_gil(self) noexcept:
        """Whether a call that is over soon, since it need not wait, may keep the GIL.

        From a thread that runs Python the GIL would come back after 5 ms (sys.getswitchinterval), call by call. After
        many such calls one lets go all the same: in a loop in C, as that of deque(receiver), nobody else does.
        """
        return self.kept < LONGEST_KEPT

    cdef inline void _note_kept(self, int64_t units, int64_t octets) noexcept:
        """Counts what a call did with the GIL: a KiB costs about as much as a datagram beside others."""
        self.kept += <uint32_t>(units + (octets >> 10))

    cdef void _enter_at_last(self) noexcept:
        """Takes the lock as soon as it is free, open or closed."""
        with nogil:
            while not mcf_latch_await(&self.lock):
                PyThread_acquire_lock(self.bell, WAIT_LOCK)
                mcf_latch_woken(&self.lock)

    def _shut(self):
        """Ends the use of the descriptor: when this returns, no call uses it and none will.

        A signal handler may end it in the middle; a second call does what is left.
        """
        cdef bint was_open
        with cython.critical_section(self):
            was_open = _is_open(self)
            mcf_switch_set(&self.is_open, False)
        if was_open:
            self._wake_waiters()
        if is_finalizing():  # a daemon thread comes no further than to the GIL now, and keeps the lock
            return
        self._enter_at_last()
        self._settle()
        self._exit()
        with cython.critical_section(self):  # two threads may have come so far
            self._retire()
            if self.wake >= 0:
                mcf_wake_free(self.wake)
                self.wake = -1
        _gates.pop(self.token, None)  # last: a child that is forked before needs a lock of its own

    cdef void _settle(self) noexcept:
        """No call is in flight, and none will be: waits, without the GIL, for what they left under way. Under the lock,
        and perhaps a second time."""

    cdef void _retire(self) noexcept:
        """No call is in flight, and none will be: gives back what only calls need. In the critical section."""
