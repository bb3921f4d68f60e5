# What this host has: engines, interfaces, routes; and what made this extension.

cdef extern from *:
    """
    #define MCF_TEXT_OF(number) #number
    #define MCF_AS_TEXT(macro) MCF_TEXT_OF(macro)
    #if defined(__clang__)
    #define MCF_COMPILER __VERSION__
    #elif defined(__GNUC__)
    #define MCF_COMPILER "GCC " __VERSION__
    #else
    #define MCF_COMPILER "MSVC " MCF_AS_TEXT(_MSC_FULL_VER)
    #endif
    """
    const char *MCF_COMPILER

# What compiled the extension, and its version.
COMPILER = MCF_COMPILER.decode("ascii")


cdef list _engine_names():
    cdef const mcf_engine **engine = <const mcf_engine **>mcf_engines
    names = []
    while engine[0] != NULL:
        if engine[0].tap == NULL and _obstacle(engine[0]) is None:
            names.append(engine[0].name.decode("ascii"))
        engine += 1
    return names


cdef str _obstacle(const mcf_engine *engine):
    """Why this host cannot have the engine, None when it can."""
    cdef const char *reason = NULL
    if engine.obstacle != NULL:
        reason = engine.obstacle()
    return None if reason == NULL else reason.decode("ascii")


# Names for engine= that serve any socket, the one that "auto" picks first.
ENGINES = tuple(_engine_names())


# Those that not every system has, and which do.
cdef dict _SYSTEMS = {"portable": "Linux and macOS", "packet": "Linux", "iocp": "Windows", "apple": "macOS"}


cdef const mcf_engine *_find_engine(name) except NULL:
    cdef const mcf_engine **engine = <const mcf_engine **>mcf_engines
    while engine[0] != NULL:
        if name == "auto" or name == engine[0].name.decode("ascii"):
            reason = _obstacle(engine[0])
            if reason is not None:
                raise UnsupportedError(f"engine={name!r} cannot be had: {reason}; use 'auto'")
            return engine[0]
        engine += 1
    for other, systems in _SYSTEMS.items():
        if name == other:
            raise UnsupportedError(f"engine={name!r} is for {systems}; this system has 'auto', {listed_engines()}")
    raise ValueError(f"engine={name!r} is not known; this system has 'auto', {listed_engines()}")


cpdef str listed_engines():
    """The names for engine= that can be had, with the reason for those that cannot."""
    cdef const mcf_engine **engine = <const mcf_engine **>mcf_engines
    cdef int error
    listed = []
    others = dict(_SYSTEMS)
    while engine[0] != NULL:
        name = engine[0].name.decode("ascii")
        others.pop(name, None)
        reason = _obstacle(engine[0])
        error = 0 if engine[0].tap == NULL else engine[0].tap.probe()
        if error:
            reason = "needs CAP_NET_RAW" if error == -EPERM else os.strerror(-error)
        if reason is not None:
            listed.append(f"but not {name}: {reason}")
        else:
            listed.append(repr(name) if engine[0].tap == NULL else f"{name!r} (only to receive)")
        engine += 1
    listed += [f"but not {name}: for {systems}" for name, systems in others.items()]
    return ", ".join(listed)


def is_tap(engine):
    """Whether this is the name of an engine that reads packets off the link, and only receives."""
    return engine not in (*ENGINES, "auto") and _find_engine(engine).tap != NULL


def guard_socket(str engine, int fd, int family, *, bint on):
    """Has a socket leave out what the engine's tap shows, or no more. OSError: the system's answer."""
    cdef int error = _find_engine(engine).tap.guard(fd, MCF_IPV6 if family == AF_INET6 else MCF_IPV4, on)
    if error:
        raise system_error(-error)


def begin_socket(mcf_socket fd, bint is_ours):
    """Makes a socket one that the core can use, until end_socket. OSError: the system's answer."""
    cdef int error = mcf_socket_begin(fd, is_ours)
    if error:
        raise system_error(-error)


def end_socket(mcf_socket fd, bint waits):
    """Makes a socket what it was before begin_socket: one whose calls wait (gettimeout() is None), or not."""
    mcf_socket_end(fd, waits)


def is_watchable(str engine):
    """Whether a socket on which this engine receives is readable while there is something. ValueError: there is no such
    engine."""
    return _find_engine(engine).wait == NULL


def can_coalesce(str engine):
    """Whether the engine takes trains of datagrams apart. ValueError: there is no such engine."""
    return _find_engine(engine).coalescing != NULL


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
        raise os_error(Operation.OPEN, "the list of interfaces", -count)
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
        raise system_error(-index)
    return index


def interface_stamps(str name):
    """Whether the device puts a time on all that it receives; OSError: ENOMSG on PTP's alone, EOPNOTSUPP it cannot."""
    cdef bytes encoded = os.fsencode(name)
    cdef const char *device = encoded
    cdef int result
    with nogil:
        result = mcf_interface_stamps(device)
    if result < 0:
        raise system_error(-result)
    return result != 0
