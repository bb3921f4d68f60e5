# Batches as NumPy arrays.

cdef object _numpy = None
# The dtype of the last call, as it was given and as it was checked.
cdef object _last_dtype = None
cdef object _last_checked = None


cdef object _checked_dtype(dtype):
    global _numpy, _last_dtype, _last_checked
    if dtype is _last_dtype and dtype is not None:
        return _last_checked
    if _numpy is None:
        try:
            import numpy
        except ImportError:
            raise ImportError("Batch.records needs NumPy: pip install mcastfast[numpy]") from None
        _numpy = numpy
    checked = _numpy.dtype(dtype)
    if checked.hasobject:
        raise ValueError(f"records: {checked} holds Python objects, which payloads cannot; use a plain dtype")
    if checked.itemsize == 0:
        raise ValueError(f"records: {checked} has no size")
    if isinstance(dtype, _numpy.dtype):
        _last_dtype = dtype
        _last_checked = checked
    return checked


cdef object _records(Batch batch, checked, Py_ssize_t offset):
    cdef Py_ssize_t item_size = checked.itemsize
    cdef uint32_t count = batch.count
    cdef const uint32_t *offsets = batch.arena.offsets + batch.start
    cdef const uint32_t *lengths = batch.arena.lengths + batch.start
    cdef const uint8_t *base = batch._base()
    cdef Py_ssize_t stride = <Py_ssize_t>offsets[1] - <Py_ssize_t>offsets[0] if count > 1 else item_size
    cdef bint even = True
    cdef uint32_t index
    if offset < 0:
        raise ValueError(f"records: offset={offset} is negative")
    for index in range(count):
        if offset > <Py_ssize_t>lengths[index] - item_size:
            raise ValueError(f"records: datagram {index} has {lengths[index]} bytes, {checked} at offset {offset} "
                             f"needs {<object>offset + item_size}")
        even &= <Py_ssize_t>offsets[index] == <Py_ssize_t>offsets[0] + index * stride
    cdef _View view
    if even and count:
        view = _view(batch, base + offsets[0] + offset, b"B", 1, (count - 1) * stride + item_size, 0)
        return _numpy.ndarray((count,), checked, view, 0, (stride,))
    gathered = PyBytes_FromStringAndSize(NULL, count * item_size)
    cdef char *to = PyBytes_AS_STRING(gathered)
    for index in range(count):
        memcpy(to + index * item_size, base + offsets[index] + offset, item_size)
    return _numpy.ndarray((count,), checked, gathered)
