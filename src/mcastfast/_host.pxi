# What this host has: engines, interfaces, routes.

cdef list _engine_names():
    cdef const mcf_engine **engine = <const mcf_engine **>mcf_engines
    names = []
    while engine[0] != NULL:
        names.append(engine[0].name.decode("ascii"))
        engine += 1
    return names


# Names for engine=, the one that "auto" picks first.
ENGINES = tuple(_engine_names())

IF_UP = MCF_IF_UP
IF_RUNNING = MCF_IF_RUNNING
IF_MULTICAST = MCF_IF_MULTICAST
IF_LOOPBACK = MCF_IF_LOOPBACK
IF_POINTOPOINT = MCF_IF_POINTOPOINT


def interface_rows():
    """One tuple per interface and address: (name, index, flags, mtu, family, address, prefix).

    flags are IF_* bits; family 0 and an empty address stand for an interface without one.
    """
    cdef mcf_interface_address *rows
    cdef mcf_interface_address *row
    cdef int count
    with nogil:
        count = mcf_interface_enumerate(&rows)
    if count < 0:
        raise OSError(-count, os.strerror(-count))
    try:
        result = []
        for index in range(count):
            row = &rows[index]
            size = 4 if row.family == AF_INET else 16 if row.family == AF_INET6 else 0
            address = PyBytes_FromStringAndSize(<const char *>row.address, size)
            name = os.fsdecode(<bytes>row.name)
            result.append((name, row.index, row.flags, row.mtu, row.family, address, row.prefix))
        return result
    finally:
        mcf_interface_free(rows)


def route_interface(int family, bytes address):
    """Index of the interface that the system routes this address to. OSError: no route."""
    cdef uint8_t destination[16]
    cdef Py_ssize_t size = PyBytes_GET_SIZE(address)
    if size != (4 if family == AF_INET else 16):
        raise ValueError(f"route_interface: an address of {size} bytes does not fit family {family}")
    memcpy(destination, PyBytes_AS_STRING(address), size)
    cdef int index
    with nogil:
        index = mcf_route_interface(family, destination)
    if index < 0:
        raise OSError(-index, os.strerror(-index))
    return index


def interface_stamps(str name):
    """Whether the device puts a time on what it receives; OSError(EOPNOTSUPP): it cannot."""
    cdef bytes encoded = os.fsencode(name)
    cdef const char *device = encoded
    cdef int result
    with nogil:
        result = mcf_interface_stamps(device)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result != 0
