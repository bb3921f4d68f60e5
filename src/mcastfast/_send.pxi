# Sending: one payload, many, a batch, the rows of an array.

cdef extern from "Python.h":
    PyObject **_items "PySequence_Fast_ITEMS"(object list_or_tuple)

# Of a tuple and bytes that someone holds, which never change: no need of the GIL.
cdef extern from "Python.h" nogil:
    PyObject *_item "PyTuple_GET_ITEM"(PyObject *values, Py_ssize_t index)
    bint _is_bytes "PyBytes_CheckExact"(PyObject *value)
    const char *_octets "PyBytes_AS_STRING"(PyObject *value)
    Py_ssize_t _size "PyBytes_GET_SIZE"(PyObject *value)

cdef str _WANTED = "send_batch takes an iterable of bytes-like objects, a Batch or a 2-D array"


cdef object _iterate(payloads):
    if not isinstance(payloads, str):
        try:
            return iter(payloads)
        except TypeError:
            pass
    raise TypeError(f"{_WANTED}, not {type(payloads).__name__}")


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


cdef enum:
    BRIEF_SENDS = 65536  # calls that keep the GIL before one lets go


cdef class SenderCore(Gate):
    """The part of a Sender through which datagrams pass."""

    cdef object timeout
    cdef uint32_t calls  # that might keep the GIL
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
        """Checks the arguments and makes the memory, before there is a socket."""
        if self.io.engine != NULL:
            raise RuntimeError("Sender.__init__ called twice")
        _deadline(timeout)
        self.timeout = timeout
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
        mcf_switch_set(&self.io.is_private, is_ours)
        if segment is None:
            self.io.segment = MCF_SEGMENT_IF_ACCEPTED
        else:
            self.io.segment = MCF_SEGMENT_ALWAYS if segment else MCF_SEGMENT_NEVER
        self._admit()

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

        A send waits that long by itself: this is for programs that have other work meanwhile, such as event loops.
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
        cdef int error
        if not PyObject_CheckBuffer(payload):
            raise TypeError(f"send takes a bytes-like object, not {type(payload).__name__}")
        PyObject_GetBuffer(payload, &buffer, PyBUF_SIMPLE)
        try:
            if <size_t>buffer.len > self.largest:
                self._refuse_size("send", buffer.len, "")
            deadline = MCF_NO_DEADLINE if self.timeout is None else _deadline(self.timeout)
            self._begin("send", 0)
            while True:
                error = -EAGAIN
                if self._may_keep_gil():
                    error = mcf_send_one(&self.io, buffer.buf, buffer.len, &at_once)
                if error == -EAGAIN:
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
        if isinstance(payloads, Batch):
            if lengths is not None:
                raise TypeError("send_batch: lengths= goes with a 2-D array, a batch knows its own")
            return self._send_received(payloads)
        if PyObject_CheckBuffer(payloads):
            return self._send_rows(payloads, lengths)
        if lengths is not None:
            raise TypeError("send_batch: lengths= goes with a 2-D array; slice the payloads instead")
        if type(payloads) is not list and type(payloads) is not tuple:
            payloads = tuple(_iterate(payloads))
        cdef Py_ssize_t sent = self._send_staged(payloads)
        return sent if sent else self._send_objects(tuple(payloads))

    cdef inline int _begin_batch(self, Py_ssize_t total) except -1:
        self._begin("send_batch", 0)
        if total:
            mcf_counter_bump(&self.io.batches, 1)
        return 0

    @cython.final
    cdef int _send(self, Py_ssize_t count, bint are_alike, int64_t *deadline, Py_ssize_t *first) noexcept nogil:
        """Sends the first `count` of io.payloads, and adds to *first how many went; 0 or what ended it early.

        are_alike: they have one size and lie one behind the other, and only the first is set.
        """
        cdef uint32_t sent = 0
        cdef int error = mcf_sender_look(&self.io) if first[0] else 0
        if error:
            return error
        self.io.alike = <uint32_t>count if are_alike else 0
        error = mcf_send(&self.io, &sent, <uint32_t>count, deadline)
        first[0] += sent
        return error

    @cython.final
    cdef inline bint _may_keep_gil(self) noexcept:
        """Whether to keep the GIL for what one system call sends without waiting.

        Such a call is over before another thread has taken the GIL, and from a busy thread it would not come back for
        5 ms (sys.getswitchinterval). One call in many lets go all the same: in a loop in C, such as that of
        deque(map(sender.send, payloads)), nobody else does.
        """
        self.calls += 1
        return self.io.pace.units == 0 and self.calls % BRIEF_SENDS != 0

    @cython.final
    cdef inline bint _is_train(self, Py_ssize_t count, size_t size) noexcept:
        """Whether the kernel takes so many payloads of that size as one train."""
        return (self.io.segment != MCF_SEGMENT_NEVER and 0 < size <= self.io.largest_segment
                and count <= <Py_ssize_t>self.io.most_segments and count * size <= self.io.staging_size)

    @cython.final
    cdef inline int _send_at_once(self, Py_ssize_t count, bint are_alike, Py_ssize_t *first) noexcept:
        """As _send, with the GIL where that is allowed; a full buffer is no error, for who can wait comes next."""
        cdef int64_t at_once = MCF_DO_NOT_WAIT
        cdef int error = self._send(count, are_alike, &at_once, first) if self._may_keep_gil() else 0
        return 0 if error == -EAGAIN else error

    @cython.final
    cdef int _send_alike(self, Py_ssize_t count, size_t size, const void *data, Py_ssize_t *first) noexcept:
        """Sends `count` payloads of one size that lie one behind the other, if they are one train and need not wait:
        with the GIL. Returns 0 or an error that ended it; what went is in *first.
        """
        if not self._is_train(count, size):
            return 0
        self.io.payloads[0].data = data
        self.io.payloads[0].length = size
        return self._send_at_once(count, True, first)

    @cython.final
    cdef int _send_set(self, Py_ssize_t count, Py_ssize_t *first) noexcept:
        """The same for the `count` payloads that are set, wherever they lie, the last of which may be shorter, and for
        one alone."""
        cdef size_t size = self.io.payloads[0].length
        cdef Py_ssize_t index
        if count > 1:
            if not self._is_train(count, size) or not 0 < self.io.payloads[count - 1].length <= size:
                return 0
            for index in range(1, count - 1):
                if self.io.payloads[index].length != size:
                    return 0
        return self._send_at_once(count, False, first)

    @cython.final
    cdef inline bint _may_be_train(self, Py_ssize_t count) noexcept:
        return 0 < count <= max(1, <Py_ssize_t>self.io.most_segments)

    cdef int _resume(self, int error, Py_ssize_t sent) except -1:
        """Raises the error, but after a signal takes the lock again: payloads must then be set anew, since the handler
        may have sent. The lock is held on entry."""
        self._exit()
        if error != -EINTR:
            self._fail("send_batch", error, sent)
        PyErr_CheckSignals()
        self._begin("send_batch", sent)
        return 0

    @cython.final
    cdef inline void _set_rows(self, const uint8_t *base, mcf_arena *arena, uint32_t row,
                               Py_ssize_t count) noexcept nogil:
        cdef Py_ssize_t index
        for index in range(count):
            self.io.payloads[index].data = base + arena.offsets[row + <uint32_t>index]
            self.io.payloads[index].length = arena.lengths[row + <uint32_t>index]

    @cython.final
    cdef Py_ssize_t _send_received(self, Batch batch) except -1:
        cdef int64_t deadline = _deadline(self.timeout)
        cdef const uint8_t *base
        cdef mcf_arena *arena
        cdef Py_ssize_t index, count, total
        cdef Py_ssize_t first = 0
        cdef int error = 0
        with cython.critical_section(batch):
            batch._check()
            if batch.filling:
                raise RuntimeError("send_batch: another thread is filling this batch")
            mcf_counter_add(&batch.exports, 1)  # from here on it stays as it is
        try:
            base = batch._base()
            arena = batch.arena
            total = batch.count
            for index in range(total):
                if arena.lengths[batch.start + index] > self.largest:
                    self._refuse_size("send_batch", arena.lengths[batch.start + index], f" (datagram {index})")
            self._begin_batch(total)
            if self._may_be_train(total):
                self._set_rows(base, arena, batch.start, total)
                error = self._send_set(total, &first)
            while first < total:
                with nogil:
                    while first < total and not error:
                        count = min(total - first, <Py_ssize_t>MCF_MAX_BATCH)
                        self._set_rows(base, arena, batch.start + <uint32_t>first, count)
                        error = self._send(count, False, &deadline, &first)
                if error:
                    self._resume(error, first)
                    error = 0
            self._exit()
            return total
        finally:
            mcf_counter_add(&batch.exports, -1)

    @cython.final
    cdef Py_ssize_t _send_rows(self, payloads, lengths) except -1:
        cdef Py_buffer buffer
        cdef Py_ssize_t width, index, count, rows
        cdef Py_ssize_t first = 0
        cdef const uint8_t *base
        cdef size_t *sizes = NULL
        cdef int64_t deadline = _deadline(self.timeout)
        cdef int error = 0
        try:
            PyObject_GetBuffer(payloads, &buffer, PyBUF_C_CONTIGUOUS)
            if <size_t>buffer.itemsize >= sizeof(PyObject *):  # to ask for a format that says nothing costs too much
                PyBuffer_Release(&buffer)
                PyObject_GetBuffer(payloads, &buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (BufferError, ValueError) as refusal:
            raise ValueError(f"send_batch needs a C-contiguous array: {refusal}") from None
        try:
            if buffer.ndim != 2:
                raise TypeError(f"{_WANTED}, not {type(payloads).__name__} with ndim={buffer.ndim}; send() sends one "
                                "payload")
            if _holds_objects(buffer.format):
                raise ValueError("send_batch: the array holds Python objects, which no datagram can; use a plain dtype")
            rows = buffer.shape[0]
            width = buffer.shape[1] * buffer.itemsize
            base = <const uint8_t *>buffer.buf
            sizes = self._row_sizes(rows, width, lengths)
            self._begin_batch(rows)
            if sizes == NULL:
                error = self._send_alike(rows, width, base, &first)
            while first < rows:
                with nogil:
                    while first < rows and not error:
                        count = min(rows - first, <Py_ssize_t>MCF_MAX_BATCH)
                        for index in range(count if sizes != NULL else 1):
                            self.io.payloads[index].data = base + (first + index) * width
                            self.io.payloads[index].length = sizes[first + index] if sizes != NULL else <size_t>width
                        error = self._send(count, sizes == NULL, &deadline, &first)
                if error:
                    self._resume(error, first)
                    error = 0
            self._exit()
            return rows
        finally:
            PyMem_Free(sizes)
            PyBuffer_Release(&buffer)

    @cython.final
    cdef size_t *_row_sizes(self, Py_ssize_t rows, Py_ssize_t width, lengths) except? NULL:
        """The checked lengths, or NULL when every row goes out whole."""
        cdef size_t *sizes
        cdef Py_ssize_t index = 0
        if lengths is None:
            if rows and <size_t>width > self.largest:
                self._refuse_size("send_batch", width, " (a row)")
            return NULL
        values = tuple(lengths)
        if len(values) != rows:
            raise ValueError(f"send_batch: {len(values)} lengths for {rows} rows")
        sizes = <size_t *>PyMem_Malloc(max(rows, 1) * sizeof(size_t))
        if sizes == NULL:
            raise MemoryError
        try:
            for index in range(rows):
                value = operator_index(values[index])
                if not 0 <= value <= width:
                    raise ValueError(f"send_batch: lengths[{index}]={value} is not in 0..{width}, the length of a row")
                if value > self.largest:
                    self._refuse_size("send_batch", value, f" (row {index})")
                sizes[index] = value
        except:
            PyMem_Free(sizes)
            raise
        return sizes

    @cython.final
    cdef Py_ssize_t _send_staged(self, payloads) except -1:
        """Sends payloads of a list or tuple that the engine wants one behind the other; 0 when these are not such."""
        cdef int64_t deadline
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t first = 0
        cdef Py_ssize_t origin = 0  # the payload at `base`
        cdef const uint8_t *base = self.io.staging
        cdef bytes rest
        cdef int error
        if base == NULL:
            return 0
        deadline = MCF_NO_DEADLINE if self.timeout is None else _deadline(self.timeout)
        self._begin("send_batch", 0)
        if self.io.segment != MCF_SEGMENT_NEVER:
            with cython.critical_section(payloads):  # nobody changes the list meanwhile; afterwards nothing reads it
                size = self._stage(_items(payloads), len(payloads))
                total = len(payloads)
        if not size:
            self._exit()
            return 0
        mcf_counter_bump(&self.io.batches, 1)
        error = self._send_alike(total, size, base, &first)
        while first < total:
            if not error:
                with nogil:
                    self.io.payloads[0].data = base + (first - origin) * size
                    self.io.payloads[0].length = size
                    error = self._send(total - first, True, &deadline, &first)
            if error:
                if error != -EINTR:
                    self._resume(error, first)
                try:  # the handler of a signal may send, and so use the same memory
                    rest = PyBytes_FromStringAndSize(<const char *>base + (first - origin) * size,
                                                     (total - first) * size)
                except MemoryError:
                    self._exit()
                    raise
                self._resume(error, first)
                base = <const uint8_t *>PyBytes_AS_STRING(rest)
                origin = first
                error = 0
        self._exit()
        return total

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
    cdef inline void _set_octets(self, PyObject *values, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        cdef Py_ssize_t index
        cdef PyObject *value
        for index in range(count):
            value = _item(values, first + index)
            self.io.payloads[index].data = _octets(value)
            self.io.payloads[index].length = _size(value)

    @cython.final
    cdef inline void _set_buffers(self, const Py_buffer *buffers, Py_ssize_t count) noexcept nogil:
        cdef Py_ssize_t index
        for index in range(count):
            self.io.payloads[index].data = buffers[index].buf
            self.io.payloads[index].length = buffers[index].len

    @cython.final
    cdef Py_ssize_t _send_objects(self, tuple payloads) except -1:
        """The tuple keeps the payloads while the GIL is away, whatever happens to the list it was made from."""
        cdef Py_ssize_t total = len(payloads)
        cdef Py_ssize_t index, count
        cdef Py_ssize_t first = 0
        cdef Py_ssize_t held = 0  # how many of `buffers` are to be released
        cdef Py_buffer *buffers = NULL
        cdef int64_t deadline = MCF_NO_DEADLINE if self.timeout is None else _deadline(self.timeout)
        cdef int error = 0
        cdef PyObject *values = <PyObject *>payloads
        cdef PyObject *value
        for index in range(total):
            value = _item(values, index)
            if not _is_bytes(value):
                break
            if <size_t>_size(value) > self.largest:
                self._refuse_size("send_batch", _size(value), f" (payload {index})")
        else:
            self._begin_batch(total)
            if self._may_be_train(total):
                self._set_octets(values, 0, total)
                error = self._send_set(total, &first)
            while first < total:
                with nogil:
                    while first < total and not error:
                        count = min(total - first, <Py_ssize_t>MCF_MAX_BATCH)
                        self._set_octets(values, first, count)
                        error = self._send(count, False, &deadline, &first)
                if error:
                    self._resume(error, first)
                    error = 0
            self._exit()
            return total

        buffers = <Py_buffer *>PyMem_Malloc(total * sizeof(Py_buffer))
        if buffers == NULL:
            raise MemoryError
        try:
            for index in range(total):
                try:
                    PyObject_GetBuffer(<object>PyTuple_GET_ITEM(payloads, index), &buffers[index], PyBUF_SIMPLE)
                except (TypeError, ValueError, BufferError) as refusal:
                    raise type(refusal)(f"send_batch: payload {index}: {refusal}") from None
                held += 1
                if <size_t>buffers[index].len > self.largest:
                    self._refuse_size("send_batch", buffers[index].len, f" (payload {index})")
            self._begin_batch(total)
            if self._may_be_train(total):
                self._set_buffers(buffers, total)
                error = self._send_set(total, &first)
            while first < total:
                with nogil:
                    while first < total and not error:
                        count = min(total - first, <Py_ssize_t>MCF_MAX_BATCH)
                        self._set_buffers(buffers + first, count)
                        error = self._send(count, False, &deadline, &first)
                if error:
                    self._resume(error, first)
                    error = 0
            self._exit()
            return total
        finally:
            for index in range(held):
                PyBuffer_Release(&buffers[index])
            PyMem_Free(buffers)
