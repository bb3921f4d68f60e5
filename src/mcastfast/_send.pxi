# Sending: one payload, many, a batch, the rows of an array.

cdef extern from "Python.h":
    PyObject **_items "PySequence_Fast_ITEMS"(object list_or_tuple)
    int _get_buffer "PyObject_GetBuffer"(object exporter, Py_buffer *buffer, int flags) noexcept

# Of a tuple and bytes that someone holds, which never change: no need of the GIL.
cdef extern from "Python.h" nogil:
    PyObject *_item "PyTuple_GET_ITEM"(PyObject *values, Py_ssize_t index)
    bint _is_bytes "PyBytes_CheckExact"(PyObject *value)
    const char *_octets "PyBytes_AS_STRING"(PyObject *value)
    Py_ssize_t _size "PyBytes_GET_SIZE"(PyObject *value)

cdef str _WANTED = "send_batch takes an iterable of bytes-like objects, a Batch or a 2-D array"


cdef str _WANTED_LENGTHS = "send_batch: lengths= takes an iterable of whole numbers"


cdef object _iterate(values, str wanted):
    if not isinstance(values, str):
        try:
            return iter(values)
        except TypeError:
            pass
    raise TypeError(f"{wanted}, not {type(values).__name__}")


cdef bint _holds_objects(const char *format) noexcept:
    """Whether a buffer's format (PEP 3118) has a Python object in it; the names of fields stand between colons."""
    cdef bint in_name = False
    while format != NULL and format[0]:
        if format[0] == b":":
            in_name = not in_name
        elif format[0] == b"O" and not in_name:
            return True
        format += 1
    return False


cdef bint _is_without_objects(payload) noexcept:
    """Whether an array says so by itself."""
    try:
        return payload.dtype.hasobject is False
    except Exception:
        return False


cdef int _hold_with_format(payload, Py_buffer *buffer, int flags) noexcept:
    """Gets a buffer with its format. NumPy has none for times (datetime64): then without, if there are no objects."""
    cdef int wanted = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
    if not _get_buffer(payload, buffer, wanted):
        return 0
    if PyErr_ExceptionMatches(ValueError):
        PyErr_Clear()
        wanted = flags if _is_without_objects(payload) else wanted
        return _get_buffer(payload, buffer, wanted)
    return -1


cdef inline int _hold(payload, Py_buffer *buffer, int flags) noexcept:
    """Gets a contiguous buffer, with its format where that may name Python objects: to ask for one costs too much.

    Returns -1 with an exception set. Callers pass that on by _reraise: a try statement would cost each call.
    """
    cdef int error = _get_buffer(payload, buffer, flags)
    if not error and <size_t>buffer.itemsize >= sizeof(PyObject *):
        PyBuffer_Release(buffer)
        error = _hold_with_format(payload, buffer, flags)
    return error


cdef inline int _hold_payload(payload, Py_buffer *buffer) noexcept:
    """Gets the buffer of one payload, as _hold."""
    cdef int error = _hold(payload, buffer, PyBUF_SIMPLE)
    if not error and _holds_objects(buffer.format):
        PyBuffer_Release(buffer)
        PyErr_SetString(ValueError, "an array of Python objects, which no datagram carries; use a plain dtype")
        error = -1
    return error


cdef int _raise_set() except -1:
    """Raises the exception that is set."""
    return -1


cdef int _reraise(str before) except -1:
    """Raises what _hold has set, with words before its own where it is of the kinds that buffers are refused by."""
    try:
        _raise_set()
    except TypeError as refusal:
        raise TypeError(before + str(refusal)) from None
    except ValueError as refusal:
        raise ValueError(before + str(refusal)) from None
    except BufferError as refusal:
        raise BufferError(before + str(refusal)) from None


cdef int _refuse_array() except -1:
    """The same for an array of rows."""
    try:
        _raise_set()
    except (ValueError, BufferError) as refusal:
        raise ValueError(f"send_batch needs a C-contiguous array: {refusal}") from None


cdef enum:
    SEND_UNITS = 4  # of a call, as LONGEST_KEPT
    MOST_KEPT_TRAINS = 4  # of a call with the GIL: 20 us to a member that coalesces, 2 ms to one for whom they are cut

# How the payloads of a batch lie.
cdef enum:
    IN_ROWS  # of one size, one behind the other
    IN_SIZED_ROWS
    IN_AN_ARENA
    IN_BYTES
    IN_BUFFERS


cdef struct _Payloads:
    int kind
    Py_ssize_t total
    const uint8_t *base  # of rows, the first of which is payload `origin`, and of an arena's data
    Py_ssize_t origin
    size_t width  # of a row
    const size_t *sizes  # of what is sent of each row
    mcf_arena *arena
    uint32_t start
    PyObject *values  # a tuple of bytes
    const Py_buffer *buffers


cdef class SenderCore(Gate):
    """The part of a Sender through which datagrams pass."""

    cdef object timeout
    cdef size_t largest  # payload that fits a datagram, bytes
    cdef mcf_sender io  # last, for it is large

    def __dealloc__(self):
        mcf_sender_clear(&self.io)

    cdef void _rewire(self) noexcept:
        self.io.wake = self.wake

    cdef void _at_fork(self, int moment) noexcept:
        if moment == MCF_FORK_BEFORE:
            mcf_sender_share(&self.io)

    cdef void _retire(self) noexcept:
        mcf_sender_share(&self.io)

    def _share(self):
        """Before somebody else gets the descriptor."""
        with cython.critical_section(self):  # nobody closes it meanwhile
            if _is_open(self):
                mcf_sender_share(&self.io)

    def _prepare(self, int family, *, engine, timeout):
        """Checks the arguments and makes the memory, before there is a socket; family: of what it sends."""
        if self.io.engine != NULL:
            raise RuntimeError("Sender.__init__ called twice")
        _deadline(timeout)
        self.timeout = None if timeout is None else float(timeout)  # whose use runs no Python
        self.largest = 65527 if family == AF_INET6 else 65507
        self.io.family = MCF_IPV6 if family == AF_INET6 else MCF_IPV4
        if is_tap(engine):
            raise ValueError(f"engine={engine!r} only receives; to send this system has 'auto', "
                             f"{', '.join(map(repr, ENGINES))}")
        self.io.engine = _find_engine(engine)
        if mcf_sender_init(&self.io):
            raise MemoryError

    def _set_pace(self, uint64_t units, uint64_t span, *, int counts, uint32_t burst, uint32_t mtu):
        """Paces what is sent from now on: so many units each `span` nanoseconds, counted as one of PACE_*."""
        cdef mcf_pace *pace = &self.io.pace
        pace.units = units
        pace.span = span
        pace.counts = counts
        pace.burst = burst
        pace.is_ipv6 = self.io.family == MCF_IPV6
        pace.mtu = mtu

    def _can_segment(self):
        """Whether the engine knows trains."""
        return bool(self.io.engine.can_segment)

    def _open(self, mcf_socket fd, segment, *, bint is_ours):
        """Sends on this connected descriptor from now on; segment: None tries trains, True insists, False never.

        is_ours: nobody else has the descriptor, until _share.
        """
        self.io.fd = fd
        self.io.queues_errors = mcf_queues_errors(fd, self.io.family)
        if segment is None:
            self.io.segment = MCF_SEGMENT_IF_ACCEPTED
        else:
            self.io.segment = MCF_SEGMENT_ALWAYS if segment else MCF_SEGMENT_NEVER
        self._admit()
        with cython.critical_section(self):  # a fork that begins from here on finds it, and shares it
            mcf_switch_set(&self.io.is_private, is_ours and not mcf_counter_get(&_forks))

    def _segments(self):
        return self.io.segment != MCF_SEGMENT_NEVER

    def _counters(self):
        """(batches, datagrams, bytes, send_drops, late_errors, trains), after a look at the socket's error queue."""
        cdef mcf_sender *io = &self.io
        with cython.critical_section(self):  # nobody closes it meanwhile
            if _is_open(self):
                mcf_counter_add(&io.late_errors, mcf_collect_errors(io.fd))
        return (mcf_counter_get(&io.batches), mcf_counter_get(&io.datagrams), mcf_counter_get(&io.bytes),
                mcf_counter_get(&io.send_drops), mcf_counter_get(&io.late_errors), mcf_counter_get(&io.trains))

    @property
    def delay(self):
        """Seconds until the next datagram may go at the rate; 0.0 if one may now, and always without a rate.

        A send waits that long by itself: this is for programs that have other work meanwhile, such as event loops. They
        sleep some 2 ms less and leave the end to the send, for a sleep that ends late costs part of the rate.
        RuntimeError: another thread is sending.
        """
        cdef int64_t left
        self._begin("delay", 0)
        left = mcf_pace_turn(&self.io.pace) - mcf_clock()
        self._exit()
        return left / 1e9 if left > 0 else 0.0

    cdef inline int _begin(self, str call, Py_ssize_t sent) except -1:
        """Takes the lock for a call that has sent so many."""
        if not _is_open(self):
            self._fail(call, -EBADF, sent)
        return self._enter(call)

    cdef int _fail(self, str call, int error, Py_ssize_t sent) except -1:
        """Raises the OSError for a send that stopped after `sent` datagrams."""
        try:
            if error == -EAGAIN:
                raise BlockingIOError(EAGAIN, f"{call} on {self._described()}: the send buffer is full")
            _raise_error(self, call, error)
        except OSError as raised:
            raised.sent = sent
            raise

    cdef int _refuse_size(self, str call, size_t size, str where) except -1:
        error = OSError(mcf_error_number(EMSGSIZE), f"{call} on {self._described()}: {size} bytes{where} are too many, "
                        f"a datagram carries at most {self.largest}")
        error.sent = 0
        raise error

    def send(self, payload):
        """Sends one datagram. Waits for its turn at the rate, if any, and up to ``timeout`` while the buffer is full.

        OSError: what the system answered, EMSGSIZE for a payload that no datagram carries, ENOBUFS when the device's
        queue dropped it. TimeoutError, BlockingIOError (timeout=0): the buffer stayed full. RuntimeError: another
        thread is sending.
        """
        cdef Py_buffer buffer
        cdef int64_t deadline
        cdef int64_t at_once = MCF_DO_NOT_WAIT
        cdef bint is_brief
        cdef int error = 0
        if not PyObject_CheckBuffer(payload):
            raise TypeError(f"send takes a bytes-like object, not {type(payload).__name__}")
        if _hold_payload(payload, &buffer):
            _reraise("send: ")
        try:
            if <size_t>buffer.len > self.largest:
                self._refuse_size("send", buffer.len, "")
            deadline = MCF_NO_DEADLINE if self.timeout is None else _deadline(self.timeout)
            self._begin("send", 0)
            while True:
                is_brief = self._may_send_at_once()
                if is_brief:
                    error = mcf_send_one(&self.io, buffer.buf, buffer.len, &at_once)
                    self._note_kept(SEND_UNITS, buffer.len)
                if not is_brief or (error == -EAGAIN and deadline != MCF_DO_NOT_WAIT):
                    self.kept = 0
                    with nogil:
                        error = mcf_send_one(&self.io, buffer.buf, buffer.len, &deadline)
                self._exit()
                if error != -EINTR:
                    break
                PyErr_CheckSignals()
                self._begin("send", 0)
            if error:
                self._fail("send", error, 0)
        finally:
            PyBuffer_Release(&buffer)

    def send_batch(self, payloads, lengths=None):
        """Sends many datagrams with few system calls, in order; returns how many, which is all of them.

        ``payloads``: an iterable of bytes-like objects; or a Batch, whose datagrams go out without a copy; or a 2-D
        C-contiguous array, one datagram a row, of which the first ``lengths[i]`` bytes are sent. Nothing is sent when
        an argument is wrong (TypeError, ValueError, EMSGSIZE). Errors of the system as send; they carry ``sent``, how
        many datagrams went before.
        """
        if PyObject_CheckBuffer(payloads):
            return self._send_rows(payloads, lengths)
        if isinstance(payloads, Batch):
            if lengths is not None:
                raise TypeError("send_batch: lengths= goes with a 2-D array, a batch knows its own")
            return self._send_received(payloads)
        if lengths is not None:
            raise TypeError("send_batch: lengths= goes with a 2-D array; slice the payloads instead")
        if type(payloads) is not list and type(payloads) is not tuple:
            payloads = tuple(_iterate(payloads, _WANTED))
        cdef Py_ssize_t sent = self._send_staged(payloads)
        return sent if sent else self._send_objects(tuple(payloads))

    @cython.final
    cdef inline bint _may_send_at_once(self) noexcept:
        """Whether to send what is one system call with the GIL, if it need not wait."""
        return self.io.pace.units == 0 and self._may_keep_gil()

    @cython.final
    cdef inline bint _fits_few_trains(self, Py_ssize_t total, size_t size) noexcept:
        """Whether the kernel takes so many payloads of this size in few pieces."""
        return (self.io.segment != MCF_SEGMENT_NEVER and 0 < size <= self.io.largest_segment
                and total <= MOST_KEPT_TRAINS * <Py_ssize_t>self.io.most_segments
                and total * size <= MOST_KEPT_TRAINS * <size_t>self.io.staging_size)

    @cython.final
    cdef inline bint _are_few_trains(self, const _Payloads *given) noexcept:
        """The same of these payloads, which are set: of one size, but for a shorter last."""
        cdef Py_ssize_t index, last = given.total - 1
        cdef size_t size = self.io.payloads[0].length
        if not self._fits_few_trains(given.total, size):
            return False
        if not 0 < self.io.payloads[last].length <= size:
            return False
        for index in range(1, last):
            if self.io.payloads[index].length != size:
                return False
        return True

    @cython.final
    cdef void _set(self, const _Payloads *given, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        """Makes the next `count` of the payloads, from `first` on, those of the next mcf_send."""
        cdef mcf_payload *payloads = self.io.payloads
        cdef Py_ssize_t index
        cdef PyObject *value
        if given.kind == IN_ROWS:
            for index in range(count):
                payloads[index].data = given.base + (first + index - given.origin) * given.width
                payloads[index].length = given.width
        elif given.kind == IN_SIZED_ROWS:
            for index in range(count):
                payloads[index].data = given.base + (first + index) * given.width
                payloads[index].length = given.sizes[first + index]
        elif given.kind == IN_AN_ARENA:
            for index in range(count):
                payloads[index].data = given.base + given.arena.offsets[given.start + first + index]
                payloads[index].length = given.arena.lengths[given.start + first + index]
        elif given.kind == IN_BYTES:
            for index in range(count):
                value = _item(given.values, first + index)
                payloads[index].data = _octets(value)
                payloads[index].length = _size(value)
        else:
            for index in range(count):
                payloads[index].data = given.buffers[first + index].buf
                payloads[index].length = given.buffers[first + index].len

    @cython.final
    cdef inline int _send(self, Py_ssize_t count, int64_t *deadline, Py_ssize_t *first) noexcept nogil:
        """Sends the `count` payloads that are set, and adds to *first how many went; 0 or what ended it early."""
        cdef uint32_t sent = 0
        cdef int error = mcf_send(&self.io, &sent, <uint32_t>count, deadline)
        first[0] += sent
        return error

    @cython.final
    cdef inline int _send_part(self, const _Payloads *given, Py_ssize_t *first, Py_ssize_t count,
                               int64_t *deadline) noexcept nogil:
        """Sends `count` of the payloads, from *first on, as _send."""
        cdef uint32_t gone = 0
        cdef int error = 0
        if given.kind == IN_ROWS:
            error = mcf_send_rows(&self.io, given.base + (first[0] - given.origin) * given.width, given.width,
                                  <uint32_t>count, &gone)
            first[0] += gone
            count -= gone
            if error or count == 0:
                return error
        self._set(given, first[0], count)
        return self._send(count, deadline, first)

    @cython.final
    cdef inline bint _is_brief(self, const _Payloads *given) noexcept:
        """Whether they are one payload, or few trains. Sets them, unless they are rows."""
        if given.kind == IN_ROWS:
            return given.total == 1 or self._fits_few_trains(given.total, given.width)
        if not 0 < given.total <= max(1, MOST_KEPT_TRAINS * <Py_ssize_t>self.io.most_segments):
            return False
        self._set(given, 0, given.total)
        return given.total == 1 or self._are_few_trains(given)

    @cython.final
    cdef Py_ssize_t _send_all(self, _Payloads *given) except -1:
        """Sends them: with the GIL what is one payload or few trains and need not wait, the rest without.

        The lock is held on entry, and free when this is over.
        """
        cdef int64_t deadline = MCF_NO_DEADLINE
        cdef int64_t at_once = MCF_DO_NOT_WAIT
        cdef int64_t before
        cdef Py_ssize_t first = 0
        cdef int error = 0
        if self.timeout is not None:
            deadline = _deadline(self.timeout)
        if given.total:
            mcf_counter_bump(&self.io.batches, 1)
        if self._may_send_at_once() and self._is_brief(given):
            before = mcf_counter_get(&self.io.bytes)
            if given.kind == IN_ROWS:
                error = self._send_part(given, &first, given.total, &at_once)
            else:
                error = self._send(given.total, &at_once, &first)
            self._note_kept(SEND_UNITS + (given.total >> 1), mcf_counter_get(&self.io.bytes) - before)
            if error == -EAGAIN and deadline != MCF_DO_NOT_WAIT:
                error = 0
        if first < given.total:
            self._send_rest(given, first, deadline, error)
        self._exit()
        return given.total

    cdef int _send_rest(self, _Payloads *given, Py_ssize_t first, int64_t deadline, int error) except -1:
        """Sends those from `first` on without the GIL, unless there was an error.

        The lock is held on entry and on return, and free when an exception ends it.
        """
        cdef Py_ssize_t count
        cdef bytes rest
        while first < given.total:
            if not error:
                self.kept = 0
                with nogil:
                    while first < given.total and not error:
                        count = min(given.total - first, <Py_ssize_t>MCF_MAX_BATCH)
                        error = mcf_sender_look(&self.io) if first else 0
                        if not error:
                            error = self._send_part(given, &first, count, &deadline)
            if error == -EINTR and given.base == self.io.staging and given.base != NULL:
                # The handler of a signal may send, and so use the same memory.
                try:
                    rest = PyBytes_FromStringAndSize(<const char *>given.base + first * given.width,
                                                     (given.total - first) * given.width)
                except MemoryError:
                    self._exit()
                    raise
                given.base, given.origin = <const uint8_t *>PyBytes_AS_STRING(rest), first
            if error:
                self._resume(error, first)
                error = 0
        return 0

    cdef int _resume(self, int error, Py_ssize_t sent) except -1:
        """Raises the error, but after a signal takes the lock again: payloads must then be set anew, since the handler
        may have sent. The lock is held on entry."""
        self._exit()
        if error != -EINTR:
            self._fail("send_batch", error, sent)
        try:
            PyErr_CheckSignals()
            self._begin("send_batch", sent)
        except BaseException as reason:  # of a handler; or another thread was faster
            with suppress(AttributeError):
                reason.sent = sent
            raise
        return 0

    @cython.final
    cdef Py_ssize_t _send_received(self, Batch batch) except -1:
        cdef _Payloads given
        cdef uint32_t index
        with cython.critical_section(batch):
            batch._check()
            if batch.filling:
                raise RuntimeError("send_batch: another thread is filling this batch")
            mcf_counter_add(&batch.exports, 1)  # from here on it stays as it is
        try:
            given.kind, given.total = IN_AN_ARENA, batch.count
            given.base, given.arena, given.start = batch._base(), batch.arena, batch.start
            for index in range(batch.count):
                if given.arena.lengths[given.start + index] > self.largest:
                    self._refuse_size("send_batch", given.arena.lengths[given.start + index], f" (datagram {index})")
            self._begin("send_batch", 0)
            return self._send_all(&given)
        finally:
            mcf_counter_add(&batch.exports, -1)

    @cython.final
    cdef Py_ssize_t _send_rows(self, payloads, lengths) except -1:
        cdef Py_buffer buffer
        cdef _Payloads given
        if _hold(payloads, &buffer, PyBUF_C_CONTIGUOUS):
            _refuse_array()
        try:
            if buffer.ndim != 2:
                remedy = "send() sends one payload"
                if buffer.ndim == 1 and buffer.itemsize > 1:
                    remedy = f"{remedy}, payloads.view('u1').reshape(len(payloads), -1) makes one of each element"
                raise TypeError(f"{_WANTED}, not {type(payloads).__name__} with ndim={buffer.ndim}; {remedy}")
            if _holds_objects(buffer.format):
                raise ValueError("send_batch: the array holds Python objects, which no datagram can; use a plain dtype")
            given.total = buffer.shape[0]
            given.width = buffer.shape[1] * buffer.itemsize
            given.base, given.origin = <const uint8_t *>buffer.buf, 0
            if lengths is not None:
                return self._send_sized_rows(&given, lengths)
            if given.total and given.width > self.largest:
                self._refuse_size("send_batch", given.width, " (a row)")
            given.kind = IN_ROWS
            self._begin("send_batch", 0)
            return self._send_all(&given)
        finally:
            PyBuffer_Release(&buffer)

    @cython.final
    cdef Py_ssize_t _send_sized_rows(self, _Payloads *given, lengths) except -1:
        cdef size_t *sizes
        cdef Py_ssize_t index = 0
        values = tuple(_iterate(lengths, _WANTED_LENGTHS))
        if len(values) != given.total:
            raise ValueError(f"send_batch: {len(values)} lengths for {given.total} rows")
        sizes = <size_t *>PyMem_Malloc(max(given.total, 1) * sizeof(size_t))
        if sizes == NULL:
            raise MemoryError
        try:
            for index in range(given.total):
                value = operator_index(values[index])
                if not 0 <= value <= given.width:
                    raise ValueError(f"send_batch: lengths[{index}]={value} is not in 0..{given.width}, the length of "
                                     "a row")
                if value > self.largest:
                    self._refuse_size("send_batch", value, f" (row {index})")
                sizes[index] = value
            given.kind, given.sizes = IN_SIZED_ROWS, sizes
            self._begin("send_batch", 0)
            return self._send_all(given)
        finally:
            PyMem_Free(sizes)

    @cython.final
    cdef Py_ssize_t _send_staged(self, payloads) except -1:
        """Sends payloads of a list or tuple that the engine wants one behind the other; 0 when these are not such."""
        cdef _Payloads given
        cdef Py_ssize_t size = 0
        if self.io.staging == NULL:
            return 0
        self._begin("send_batch", 0)
        if self.io.segment != MCF_SEGMENT_NEVER:
            with cython.critical_section(payloads):  # nobody changes the list meanwhile; afterwards nothing reads it
                given.total = len(payloads)
                size = self._stage(_items(payloads), given.total)
        if not size:
            self._exit()
            return 0
        given.kind, given.width = IN_ROWS, size
        given.base, given.origin = self.io.staging, 0
        return self._send_all(&given)

    @cython.final
    cdef Py_ssize_t _stage(self, PyObject **values, Py_ssize_t count) noexcept:
        """Copies payloads to where the engine wants them, and returns their size; 0 when it has no use for these."""
        cdef Py_ssize_t index
        cdef Py_ssize_t size
        cdef uint8_t *end = self.io.staging
        if not (2 <= count <= <Py_ssize_t>MCF_MAX_BATCH and _is_bytes(values[0])):
            return 0
        size = _size(values[0])
        if size > <Py_ssize_t>self.io.largest_staged or count * size > <Py_ssize_t>self.io.staging_size:
            return 0
        # The last first, for it is the most likely to be shorter.
        if not _is_bytes(values[count - 1]) or _size(values[count - 1]) != size:
            return 0
        for index in range(count):
            if not _is_bytes(values[index]) or _size(values[index]) != size:
                return 0
            memcpy(end, _octets(values[index]), size)
            end += size
        return size

    @cython.final
    cdef Py_ssize_t _send_objects(self, tuple payloads) except -1:
        """The tuple keeps the payloads while the GIL is away, whatever happens to the list it was made from."""
        cdef _Payloads given
        cdef Py_ssize_t index
        cdef PyObject *value
        given.kind, given.total, given.base = IN_BYTES, len(payloads), NULL
        given.values = <PyObject *>payloads
        for index in range(given.total):
            value = _item(given.values, index)
            if not _is_bytes(value):
                return self._send_buffers(payloads)
            if <size_t>_size(value) > self.largest:
                self._refuse_size("send_batch", _size(value), f" (payload {index})")
        self._begin("send_batch", 0)
        return self._send_all(&given)

    @cython.final
    cdef Py_ssize_t _send_buffers(self, tuple payloads) except -1:
        cdef _Payloads given
        cdef Py_ssize_t index
        cdef Py_ssize_t held = 0  # how many of `buffers` are to be released
        cdef Py_buffer *buffers = <Py_buffer *>PyMem_Malloc(len(payloads) * sizeof(Py_buffer))
        if buffers == NULL:
            raise MemoryError
        given.kind, given.total, given.base = IN_BUFFERS, len(payloads), NULL
        given.buffers = buffers
        try:
            for index in range(given.total):
                if _hold_payload(<object>PyTuple_GET_ITEM(payloads, index), &buffers[index]):
                    _reraise(f"send_batch: payload {index}: ")
                held += 1
                if <size_t>buffers[index].len > self.largest:
                    self._refuse_size("send_batch", buffers[index].len, f" (payload {index})")
            self._begin("send_batch", 0)
            return self._send_all(&given)
        finally:
            for index in range(held):
                PyBuffer_Release(&buffers[index])
            PyMem_Free(buffers)
