# One datagram of a batch.

class DatagramFlag(IntFlag):
    """Bits of `Batch.flags`."""

    TRUNCATED = MCF_FLAG_TRUNCATED
    """The payload was longer than max_datagram; the rest is gone."""
    CONTROL_TRUNCATED = MCF_FLAG_CONTROL_TRUNCATED
    """The kernel had more metadata than there was room for."""
    HARDWARE_TIME = MCF_FLAG_HARDWARE_TIME
    """The timestamp is the device's, not the kernel's."""
    SHARED_TIME = MCF_FLAG_SHARED_TIME
    """The timestamp is that of the train in which the datagram came, with others."""


cdef object _socket_address(int family, const uint8_t *address, uint16_t port, uint32_t scope):
    """The tuple that socket.recvfrom gives for this address."""
    if family == MCF_IPV4:
        return (PyUnicode_FromFormat("%u.%u.%u.%u", <int>address[12], <int>address[13], <int>address[14],
                                     <int>address[15]), port)
    return (inet_ntop(AF_INET6, PyBytes_FromStringAndSize(<const char *>address, 16)), port, 0, scope)


@cython.final
@cython.no_gc
cdef class _SourceCache:
    """The last source of one receiver, which its batches share: the datagrams of a feed mostly come from one."""

    cdef object last
    cdef uint8_t address[16]
    cdef uint16_t port
    cdef uint32_t scope
    cdef int family

    cdef object find(self, int family, const uint8_t *address, uint16_t port, uint32_t scope):
        with cython.critical_section(self):
            if (family == self.family and port == self.port and scope == self.scope
                    and memcmp(address, self.address, 16) == 0):
                return self.last
        made = _socket_address(family, address, port, scope)
        with cython.critical_section(self):
            self.last = made
            memcpy(self.address, address, 16)
            self.port = port
            self.scope = scope
            self.family = family
        return made


cdef inline bint _needs_scope(const uint8_t *address) noexcept:
    """Link-local unicast, interface-local and link-local multicast (RFC 4007)."""
    if address[0] == 0xfe:
        return (address[1] & 0xc0) == 0x80
    return address[0] == 0xff and (address[1] & 0x0f) in (1, 2)


cdef int _raise_stale() except -1:
    raise ValueError("the batch of this datagram was released or refilled; copy what is kept: bytes(datagram)")


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Datagram:
    """One received datagram: read-only, bytes-like, without a copy.

    ``len()``, ``bytes()``, ``in``, indexing, ``struct.unpack_from``, ``numpy.frombuffer`` and everything else that
    takes a buffer work on it. It compares and hashes as its bytes and pickles as bytes. It keeps its batch. ValueError:
    the batch was released or refilled.
    """

    cdef Batch batch
    cdef const uint8_t *data
    cdef uint32_t length
    cdef uint32_t row
    cdef int64_t generation

    def __init__(self, *_, **__):
        raise TypeError("datagrams come from batches")

    cdef inline int _check(self) except -1:
        if self.batch is None or self.generation != mcf_counter_get(&self.batch.generation):
            _raise_stale()
        return 0

    def __len__(self):
        self._check()
        return self.length

    def __bytes__(self):
        with cython.critical_section(self.batch):
            self._check()
            return PyBytes_FromStringAndSize(<const char *>self.data, self.length)

    def __buffer__(self, int flags, /):
        """A memoryview of it (PEP 688)."""
        return memoryview(self)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        with cython.critical_section(self.batch):
            self._check()
            PyBuffer_FillInfo(buffer, self, <void *>self.data, self.length, 1, flags)
            mcf_counter_add(&self.batch.exports, 1)

    def __releasebuffer__(self, Py_buffer *buffer):
        mcf_counter_add(&self.batch.exports, -1)

    def __getitem__(self, index):
        """An int for an index, bytes for a slice."""
        cdef Py_ssize_t at
        if isinstance(index, slice):
            return self.__bytes__()[index]
        at = index
        with cython.critical_section(self.batch):
            self._check()
            if at < 0:
                at += self.length
            if not 0 <= at < self.length:
                raise IndexError(f"datagram index out of range, the datagram has {self.length} bytes")
            return self.data[at]

    def __iter__(self):
        """As of bytes: its octets, which are copied for it."""
        return iter(self.__bytes__())

    def __contains__(self, part):
        """As of bytes: whether these bytes, or an octet of this value, are in it."""
        if isinstance(part, Datagram):
            part = (<Datagram>part).__bytes__()
        return part in self.__bytes__()

    def __richcmp__(self, other, int operation):
        cdef Py_buffer buffer
        cdef int order
        if isinstance(other, Datagram):
            (<Datagram>other)._check()
        elif not PyObject_CheckBuffer(other):
            return NotImplemented
        try:
            PyObject_GetBuffer(other, &buffer, PyBUF_SIMPLE)
        except (BufferError, ValueError):  # not contiguous (NumPy raises the latter): the other side may know better
            return NotImplemented
        try:
            with cython.critical_section(self.batch):
                self._check()
                order = memcmp(self.data, buffer.buf, min(<Py_ssize_t>self.length, buffer.len))
            if order == 0:
                order = (self.length > buffer.len) - (self.length < buffer.len)
        finally:
            PyBuffer_Release(&buffer)
        if operation == Py_EQ:
            return order == 0
        if operation == Py_NE:
            return order != 0
        if operation == Py_LT:
            return order < 0
        if operation == Py_LE:
            return order <= 0
        if operation == Py_GT:
            return order > 0
        return order >= 0

    def __hash__(self):
        return hash(self.__bytes__())

    def __reduce__(self):
        return bytes, (self.__bytes__(),)

    def __repr__(self):
        if self.batch is None or self.generation != mcf_counter_get(&self.batch.generation):
            return "<Datagram, its batch was released or refilled>"
        return f"<Datagram of {self.length} bytes from {self.source}>"

    @property
    def source(self):
        """Sender's address as socket.recvfrom gives it: (host, port), IPv6 (host, port, 0, scope)."""
        cdef mcf_arena *arena
        cdef _SourceCache sources
        cdef uint8_t address[16]  # a copy: making a tuple may run the collector, and that the end of the batch
        cdef uint16_t port
        cdef uint32_t scope
        cdef int family
        with cython.critical_section(self.batch):
            self._check()
            arena = self.batch.arena
            memcpy(address, <const uint8_t *>arena.sources + 16 * <size_t>self.row, 16)
            port = arena.source_ports[self.row]
            scope = arena.source_scopes[self.row]
            family = self.batch.family
            sources = self.batch.sources
        return sources.find(family, address, port, scope)

    @property
    def destination(self):
        """(group or local address, port) in the form of ``source``, or None without metadata="destination"."""
        cdef mcf_arena *arena
        cdef uint8_t address[16]
        cdef uint16_t port
        cdef uint32_t scope
        cdef int family
        with cython.critical_section(self.batch):
            self._check()
            if not self.batch.metadata & MCF_META_DESTINATION:
                return None
            arena = self.batch.arena
            memcpy(address, <const uint8_t *>arena.destinations + 16 * <size_t>self.row, 16)
            port = self.batch.port
            scope = arena.interfaces[self.row]
            family = self.batch.family
        return _socket_address(family, address, port, scope if _needs_scope(address) else 0)

    @property
    def interface_index(self):
        """Index of the interface it came in by, or None without metadata="destination"."""
        with cython.critical_section(self.batch):
            self._check()
            return self.batch.arena.interfaces[self.row] if self.batch.metadata & MCF_META_DESTINATION else None

    @property
    def timestamp(self):
        """When it was received, nanoseconds since the epoch, or None without metadata="timestamp" or
        "hardware_timestamp"; timestamp_kind says by whose clock."""
        with cython.critical_section(self.batch):
            self._check()
            if not self.batch.metadata & (MCF_META_TIMESTAMP | MCF_META_HARDWARE_TIMESTAMP):
                return None
            return self.batch.arena.timestamps[self.row]

    @property
    def timestamp_kind(self):
        """By whose clock timestamp is: "hardware" (the network device's), "kernel", or None without a timestamp."""
        with cython.critical_section(self.batch):
            self._check()
            if not self.batch.metadata & (MCF_META_TIMESTAMP | MCF_META_HARDWARE_TIMESTAMP):
                return None
            return "hardware" if self.batch.arena.flags[self.row] & MCF_FLAG_HARDWARE_TIME else "kernel"

    @property
    def hops(self):
        """Received TTL or hop limit, or None without metadata="hops"."""
        with cython.critical_section(self.batch):
            self._check()
            return self.batch.arena.hops[self.row] if self.batch.metadata & MCF_META_HOPS else None

    @property
    def tos(self):
        """Received TOS or traffic class, or None without metadata="tos"."""
        with cython.critical_section(self.batch):
            self._check()
            return self.batch.arena.tos[self.row] if self.batch.metadata & MCF_META_TOS else None

    @property
    def truncated(self):
        """True when it was longer than max_datagram: the rest is gone."""
        with cython.critical_section(self.batch):
            self._check()
            return (self.batch.arena.flags[self.row] & MCF_FLAG_TRUNCATED) != 0
