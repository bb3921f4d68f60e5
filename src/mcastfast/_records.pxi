# Batches as NumPy arrays.

cdef object _numpy_module = None
cdef object _last_dtype = None  # which was found good
cdef object _records_guard = object()  # its critical section is that of both


cdef object _numpy():
    global _numpy_module
    with cython.critical_section(_records_guard):
        if _numpy_module is not None:
            return _numpy_module
    try:
        import numpy
    except ImportError:
        raise ImportError("Batch.records needs NumPy: pip install mcastfast[numpy]") from None
    with cython.critical_section(_records_guard):
        _numpy_module = numpy
    return numpy


cdef object _checked_dtype(dtype):
    global _last_dtype
    with cython.critical_section(_records_guard):
        if dtype is _last_dtype and dtype is not None:
            return dtype
    checked = _numpy().dtype(dtype)
    if checked.hasobject:
        raise ValueError(f"records: {checked} holds Python objects, which payloads cannot; use a plain dtype")
    if checked.itemsize == 0:
        raise ValueError(f"records: {checked} has no size")
    with cython.critical_section(_records_guard):
        _last_dtype = checked
    return checked


cdef object _records(Batch batch, checked, Py_ssize_t offset):
    cdef Py_ssize_t item_size = checked.itemsize
    cdef Py_ssize_t stride
    with cython.critical_section(batch):
        batch._check()
        stride = _check_records(batch, checked, item_size, offset)
        if stride:
            memory = _record_view(batch, item_size, offset, stride)
        else:
            stride = item_size
            memory = _gathered_records(batch, item_size, offset)
        count = batch.count
    return _numpy().ndarray((count,), checked, memory, 0, (stride,))


cdef Py_ssize_t _check_records(Batch batch, checked, Py_ssize_t item_size, Py_ssize_t offset) except -1:
    """The distance between records if it is the same everywhere, else 0."""
    cdef uint32_t count = batch.count
    cdef const uint32_t *offsets = batch.arena.offsets + batch.start
    cdef const uint32_t *lengths = batch.arena.lengths + batch.start
    cdef Py_ssize_t stride = <Py_ssize_t>offsets[1] - <Py_ssize_t>offsets[0] if count > 1 else item_size
    cdef bint even = stride > 0 and count > 0  # what was copied may lie behind what came later
    cdef uint32_t index
    if offset < 0:
        raise ValueError(f"records: offset={offset} is negative")
    for index in range(count):
        if offset > <Py_ssize_t>lengths[index] - item_size:
            cut = ""
            if batch.arena.flags[batch.start + index] & MCF_FLAG_TRUNCATED:
                cut = f"; it was cut at max_datagram={lengths[index]}: raise that"
            raise ValueError(f"records: datagram {index} has {lengths[index]} bytes, {checked} at offset {offset} "
                             f"needs {<object>offset + item_size}{cut}")
        even &= <Py_ssize_t>offsets[index] == <Py_ssize_t>offsets[0] + index * stride
    return stride if even else 0


cdef _View _record_view(Batch batch, Py_ssize_t item_size, Py_ssize_t offset, Py_ssize_t stride):
    cdef const uint8_t *first = batch._base() + batch.arena.offsets[batch.start] + offset
    return _view(batch, first, b"B", 1, (batch.count - 1) * stride + item_size, 0)


cdef bytes _gathered_records(Batch batch, Py_ssize_t item_size, Py_ssize_t offset):
    cdef bytes gathered = PyBytes_FromStringAndSize(NULL, batch.count * item_size)
    cdef char *to = PyBytes_AS_STRING(gathered)
    cdef const uint8_t *base = batch._base()
    cdef const uint32_t *offsets = batch.arena.offsets + batch.start
    cdef uint32_t index
    for index in range(batch.count):
        memcpy(to + index * item_size, base + offsets[index] + offset, item_size)
    return gathered
