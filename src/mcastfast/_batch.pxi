# Batches, and the views of their memory.

@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class _View:
    """Exports a part of a batch's memory. Its life is the export: while it lasts, the batch cannot be taken away."""

    cdef Batch batch
    cdef void *data
    cdef const char *format
    cdef int dimensions
    cdef Py_ssize_t item_size
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]

    def __dealloc__(self):
        if self.batch is not None:
            mcf_counter_add(&self.batch.exports, -1)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE or self.batch is None:
            raise BufferError("a batch is read-only; copy it to change it")
        buffer.buf = self.data
        buffer.obj = self
        buffer.itemsize = self.item_size
        buffer.readonly = 1
        buffer.ndim = self.dimensions
        buffer.format = <char *>self.format if flags & PyBUF_FORMAT else NULL
        buffer.shape = self.shape if flags & PyBUF_ND else NULL
        buffer.strides = self.strides if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL
        buffer.len = self.shape[0] * self.strides[0]


cdef _View _view(Batch batch, const void *data, const char *format, Py_ssize_t item_size, Py_ssize_t rows,
                 Py_ssize_t width):
    """A C-contiguous view: 1-D with width 0, else 2-D."""
    cdef _View view = _View.__new__(_View)
    view.data = <void *>data
    view.format = format
    view.item_size = item_size
    view.dimensions = 2 if width else 1
    view.shape[0] = rows
    view.shape[1] = width
    view.strides[0] = item_size * (width if width else 1)
    view.strides[1] = item_size
    mcf_counter_add(&batch.exports, 1)
    view.batch = batch
    return view


@cython.final
@cython.no_gc
@cython.freelist(32)
cdef class Batch:
    """Batch(buffer, *, max_datagram=2048)\n--\n\nDatagrams received together, as a struct of arrays.

    ``len(batch)``, ``batch[i]`` and iteration give :class:`Datagram` objects; the columns (``lengths``,
    ``source_addresses``, ...) are read-only memoryviews with one row per datagram, and ``numpy.asarray`` makes arrays
    of them without a copy (those of addresses, 16 octets a row, need that to be indexed: a memoryview of two dimensions
    gives no row). A column that was not asked for by ``metadata=`` is a ValueError. A received batch never changes and
    may be read by any number of threads; its memory goes back to the receiver when the last view of it does.

    ``Batch(buffer, max_datagram=2048)`` describes the caller's own writable, C-contiguous buffer for
    ``Receiver.recv_batch_into``: room for ``len(buffer) // max_datagram`` datagrams, at most 1024 a call. BufferError:
    the buffer is read-only or not contiguous. ValueError: it is smaller than one datagram, or max_datagram is not in
    1..65535.
    """

    cdef mcf_arena *arena
    cdef uint32_t start  # the first row
    cdef uint32_t count
    cdef size_t data_start
    cdef size_t data_size
    cdef uint32_t metadata
    cdef int family
    cdef uint16_t port
    cdef bint refillable  # over the caller's memory
    cdef bint filling
    cdef mcf_counter generation
    cdef mcf_counter exports
    cdef _SourceCache sources
    cdef Py_buffer memory

    def __init__(self, buffer, *, max_datagram=2048):
        if self.arena != NULL:
            raise RuntimeError("Batch.__init__ called twice")
        cdef uint32_t size = _datagram_size(max_datagram)
        cdef Py_buffer memory
        if not PyObject_CheckBuffer(buffer):
            raise TypeError(f"Batch takes a writable buffer, such as bytearray(64 * 2048), not {type(buffer).__name__}")
        try:
            PyObject_GetBuffer(buffer, &memory, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
        except (BufferError, ValueError) as error:  # NumPy raises the latter
            raise BufferError(f"Batch needs a writable, C-contiguous buffer: {error}") from None
        cdef Py_ssize_t slots = memory.len // size
        try:
            if slots == 0:
                raise ValueError(f"a buffer of {memory.len} bytes is too small for one datagram of max_datagram={size} "
                                 "bytes")
            self._cover(&memory, <uint32_t>min(slots, <Py_ssize_t>MCF_MAX_BATCH), size)
        except:
            PyBuffer_Release(&memory)
            raise

    @cython.critical_section
    cdef int _cover(self, Py_buffer *memory, uint32_t rows, uint32_t max_datagram) except -1:
        if self.arena != NULL:  # by the buffer's own Python code, or another thread
            raise RuntimeError("Batch.__init__ called twice")
        self.arena = mcf_arena_over(memory.buf, rows, max_datagram)
        if self.arena == NULL:
            raise MemoryError
        self.data_size = self.arena.data_size
        self.memory = memory[0]
        self.refillable = True
        return 0

    def __dealloc__(self):
        self._drop()

    cdef void _drop(self) noexcept:
        cdef Py_buffer memory
        if self.arena != NULL:
            mcf_arena_release(self.arena)
            self.arena = NULL
        if self.refillable:
            self.refillable = False
            memory = self.memory
            PyBuffer_Release(&memory)  # last: it may run Python code

    cdef inline int _check(self) except -1:
        if self.arena == NULL:
            raise ValueError("the batch was released")
        return 0

    cdef inline int _check_told(self, str column, uint32_t metadata, str names) except -1:
        """The batch is there, and what the column holds was asked for."""
        self._check()
        if self.count and not self.metadata & metadata:
            raise ValueError(f"batch.{column} was not asked for: open the Receiver with metadata=[{names}]")
        return 0

    cdef inline const uint8_t *_base(self) noexcept:
        return self.arena.data + self.data_start

    cdef inline Datagram _datagram(self, uint32_t index):
        cdef Datagram datagram = Datagram.__new__(Datagram)
        cdef uint32_t row = self.start + index
        datagram.batch = self
        datagram.data = self._base() + self.arena.offsets[row]
        datagram.length = self.arena.lengths[row]
        datagram.row = row
        datagram.generation = mcf_counter_get(&self.generation)
        return datagram

    @cython.critical_section
    def __len__(self):
        self._check()
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            raise TypeError("a batch has no slices: list(batch)[0:2] has datagrams, batch.payloads()[0:2] their bytes")
        return self._at(index)

    @cython.critical_section
    cdef Datagram _at(self, Py_ssize_t index):
        self._check()
        if index < 0:
            index += self.count
        if not 0 <= index < self.count:
            raise IndexError(f"batch index out of range, the batch has {self.count} datagrams")
        return self._datagram(<uint32_t>index)

    @cython.critical_section
    def __iter__(self):
        self._check()
        cdef _BatchIterator iterator = _BatchIterator.__new__(_BatchIterator)
        iterator.batch = self
        iterator.generation = mcf_counter_get(&self.generation)
        return iterator

    @cython.critical_section
    def __repr__(self):
        if self.arena == NULL:
            return "<Batch, released>"
        return f"<Batch of {self.count} datagrams>"

    @cython.critical_section
    def __enter__(self):
        self._check()
        return self

    def __exit__(self, kind, *_):
        try:
            self.release()
        except BufferError:
            if kind is None:  # else what was raised in the block is to be seen, and may hold what lives
                raise

    @cython.critical_section
    def release(self):
        """Gives the memory back now. BufferError while memoryviews or arrays of it live; datagrams become invalid.

        A second release does nothing.
        """
        if self.arena == NULL:
            return
        self._claim("release")
        mcf_counter_bump(&self.generation, 1)
        self.start = self.count = 0
        self.data_start = 0
        self._drop()

    cdef int _claim(self, str what) except -1:
        """Nobody may look at the memory from now on, or the caller is told why not."""
        cdef int64_t exports = mcf_counter_settled(&self.exports)
        if self.filling:
            raise RuntimeError(f"{what}: another thread is filling this batch")
        if exports:
            raise BufferError(f"{what}: {exports} memoryviews or arrays of this batch are still alive; drop them first")
        return 0

    @cython.critical_section
    cdef int _begin_fill(self) except -1:
        self._check()
        if not self.refillable:
            raise ValueError("recv_batch_into needs a batch over memory of yours, Batch(buffer); a received one never "
                             "changes")
        self._claim("recv_batch_into")
        self.filling = True
        return 0

    @cython.critical_section
    cdef void _end_fill(self) noexcept:
        self.filling = False

    @cython.critical_section
    def copy(self):
        """A batch with the same datagrams in memory of its own, packed without gaps; it holds no arena."""
        self._check()
        cdef Batch batch = Batch.__new__(Batch)
        cdef mcf_range own
        own.arena, own.row, own.rows = self.arena, self.start, self.count
        own.data, own.data_size = self.data_start, self.data_size
        batch.arena = mcf_arena_copy(&own)
        if batch.arena == NULL:
            raise MemoryError
        batch.count = self.count
        batch.data_size = batch.arena.data_size
        batch.metadata = self.metadata
        batch.family = self.family
        batch.port = self.port
        batch.sources = self.sources
        return batch

    def __reduce__(self):
        raise TypeError("a batch cannot be pickled, for it is memory of this process: pickle batch.payloads()")

    @cython.critical_section
    def payloads(self):
        """The payloads as a list of bytes: one copy each, cheaper than a view for small datagrams."""
        self._check()
        cdef int64_t generation = mcf_counter_get(&self.generation)
        cdef list result = PyList_New(self.count)
        if generation != mcf_counter_get(&self.generation):  # making a list may run the collector, and that end it
            _raise_stale()
        cdef const uint8_t *base = self._base()
        cdef const uint32_t *offsets = self.arena.offsets + self.start
        cdef const uint32_t *lengths = self.arena.lengths + self.start
        cdef uint32_t index
        for index in range(self.count):
            payload = PyBytes_FromStringAndSize(<const char *>base + offsets[index], lengths[index])
            Py_INCREF(payload)
            PyList_SET_ITEM(result, index, payload)
        return result

    def records(self, dtype, *, Py_ssize_t offset=0):
        """A read-only NumPy array with one record per datagram, read from byte ``offset`` of each payload.

        No copy where the datagrams lie at equal distances (as a receiver lays them out); gathered otherwise. The array
        keeps the batch. ValueError: the dtype holds Python objects or is empty, offset is negative, or a datagram is
        shorter than offset + dtype.itemsize (named with its index and length).
        """
        return _records(self, _checked_dtype(dtype), offset)

    @property
    @cython.critical_section
    def capacity(self):
        """How many datagrams there is room for (a received batch: how many it has)."""
        self._check()
        return self.arena.rows if self.refillable else self.count

    @property
    @cython.critical_section
    def data(self):
        """The memory that the datagrams lie in, bytes; ``offsets`` count from its start."""
        self._check()
        if self.filling:
            raise RuntimeError("data: another thread is filling this batch")
        return memoryview(_view(self, self._base(), b"B", 1, <Py_ssize_t>self.data_size, 0))

    @property
    @cython.critical_section
    def offsets(self):
        """Where each payload starts in ``data``, bytes (u4)."""
        self._check()
        return memoryview(_view(self, self.arena.offsets + self.start, b"I", 4, self.count, 0))

    @property
    @cython.critical_section
    def lengths(self):
        """Payload lengths as received, bytes (u4)."""
        self._check()
        return memoryview(_view(self, self.arena.lengths + self.start, b"I", 4, self.count, 0))

    @property
    @cython.critical_section
    def flags(self):
        """Bits of :class:`DatagramFlag` (u2)."""
        self._check()
        return memoryview(_view(self, self.arena.flags + self.start, b"H", 2, self.count, 0))

    @property
    @cython.critical_section
    def timestamps(self):
        """When the kernel received each datagram, nanoseconds since the epoch, CLOCK_REALTIME (i8).

        ValueError without metadata="timestamp" or "hardware_timestamp". Linux: SO_TIMESTAMPNS, socket(7).
        """
        self._check_told("timestamps", MCF_META_TIMESTAMP | MCF_META_HARDWARE_TIMESTAMP, '"timestamp"')
        return memoryview(_view(self, self.arena.timestamps + self.start, b"q", 8, self.count, 0))

    @property
    @cython.critical_section
    def source_addresses(self):
        """Source addresses, 16 bytes a row, IPv4 as ::ffff:a.b.c.d (u1, shape (n, 16))."""
        self._check()
        cdef const uint8_t *first = <const uint8_t *>self.arena.sources + 16 * <size_t>self.start
        return memoryview(_view(self, first, b"B", 1, self.count, 16))

    @property
    @cython.critical_section
    def source_ports(self):
        """Source ports (u2)."""
        self._check()
        return memoryview(_view(self, self.arena.source_ports + self.start, b"H", 2, self.count, 0))

    @property
    @cython.critical_section
    def destination_addresses(self):
        """Destination addresses, as source_addresses (IP_PKTINFO, RFC 3542).

        ValueError without metadata="destination".
        """
        self._check_told("destination_addresses", MCF_META_DESTINATION, '"destination"')
        cdef const uint8_t *first = <const uint8_t *>self.arena.destinations + 16 * <size_t>self.start
        return memoryview(_view(self, first, b"B", 1, self.count, 16))

    @property
    @cython.critical_section
    def interface_indexes(self):
        """Index of the interface each datagram came in by (u4). ValueError without metadata="destination"."""
        self._check_told("interface_indexes", MCF_META_DESTINATION, '"destination"')
        return memoryview(_view(self, self.arena.interfaces + self.start, b"I", 4, self.count, 0))

    @property
    @cython.critical_section
    def hops(self):
        """Received TTL or hop limit (u1). ValueError without metadata="hops"."""
        self._check_told("hops", MCF_META_HOPS, '"hops"')
        return memoryview(_view(self, self.arena.hops + self.start, b"B", 1, self.count, 0))

    @property
    @cython.critical_section
    def tos(self):
        """Received TOS or traffic class byte (u1). ValueError without metadata="tos"."""
        self._check_told("tos", MCF_META_TOS, '"tos"')
        return memoryview(_view(self, self.arena.tos + self.start, b"B", 1, self.count, 0))

    @property
    @cython.critical_section
    def dropped(self):
        """Datagrams that the kernel dropped between the row before and this one (u4).

        ValueError without metadata="drops". Linux: SO_RXQ_OVFL, socket(7). Drops after the last datagram show in
        Receiver.stats only.
        """
        self._check_told("dropped", MCF_META_DROPS, '"drops"')
        return memoryview(_view(self, self.arena.dropped + self.start, b"I", 4, self.count, 0))


cdef object _whole(str keyword, value):
    """The number, or TypeError with the keyword."""
    try:
        return operator_index(value)
    except TypeError:
        raise TypeError(f"{keyword}={value!r} is not a whole number") from None


cdef uint32_t _datagram_size(max_datagram) except 0:
    max_datagram = _whole("max_datagram", max_datagram)
    if not 1 <= max_datagram <= 65535:
        raise ValueError(f"max_datagram={max_datagram!r} is not in 1..65535 bytes")
    return max_datagram


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class _BatchIterator:
    cdef Batch batch
    cdef uint32_t next
    cdef int64_t generation

    def __iter__(self):
        return self

    def __next__(self):
        with cython.critical_section(self.batch):  # which guards the iterator, too
            if self.batch is None or self.generation != mcf_counter_get(&self.batch.generation):
                _raise_stale()
            if self.next < self.batch.count:
                self.next += 1
                return self.batch._datagram(self.next - 1)
        raise StopIteration
