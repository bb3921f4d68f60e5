# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False, freethreading_compatible=True
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The thin layer between Python and the C core: checks, GIL release, error mapping, buffer protocol. No policy.

One extension, in files by concept.

What threads may do to one object at a time is settled in two ways. The lock of its gate makes calls that wait exclude
each other. Everything short is one step: the GIL sees to that or, where there is none, the object's critical section,
which costs nothing where there is a GIL. So what a critical section guards must not run Python code half-way.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_SIMPLE,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_ExceptionMatches, PyErr_SetString
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.object cimport Py_EQ, Py_GT, Py_LE, Py_LT, Py_NE
from cpython.pythread cimport (
    NOWAIT_LOCK,
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.unicode cimport PyUnicode_FromFormat
from libc.errno cimport EAGAIN, EBADF, EINTR, EMSGSIZE, ENOMEM, EPERM, ETIMEDOUT
from libc.string cimport memcmp, memcpy

cdef extern from "<errno.h>":
    int ECANCELED

cdef extern from "Python.h":
    struct wrapperbase:
        pass
    ctypedef struct PyWrapperDescrObject:
        wrapperbase *d_base
    ctypedef struct PyTypeObject:
        object (*tp_iternext)(object)
        PyObject *tp_dict
    object PyDescr_NewWrapper(type cls, wrapperbase *base, void *wrapped)
    void PyType_Modified(type cls)

import os
import socket
from contextlib import suppress
from enum import IntFlag
from functools import partial
from operator import index as operator_index
from socket import AF_INET, AF_INET6, inet_ntop
from sys import is_finalizing
from weakref import ref as weak_reference

from mcastfast.errors import Operation, UnsupportedError, os_error

MAX_BATCH = MCF_MAX_BATCH

# metadata= names, in the order in which they are documented.
METADATA = {
    "destination": MCF_META_DESTINATION,
    "timestamp": MCF_META_TIMESTAMP,
    "hardware_timestamp": MCF_META_HARDWARE_TIMESTAMP,
    "drops": MCF_META_DROPS,
    "hops": MCF_META_HOPS,
    "tos": MCF_META_TOS,
}

# Numbers of Linux' options, 0 on other systems.
SO_TIMESTAMPNS = mcf_so_timestampns
SO_TIMESTAMPING = mcf_so_timestamping

# memory= names, in the order in which they are documented.
MEMORY = {
    "prefault": MCF_MEMORY_PREFAULT,
    "lock": MCF_MEMORY_LOCK,
    "huge": MCF_MEMORY_HUGE,
}

PACE_DATAGRAMS = MCF_PACE_DATAGRAMS
PACE_PAYLOAD = MCF_PACE_PAYLOAD
PACE_WIRE = MCF_PACE_WIRE

include "_datagram.pxi"
include "_batch.pxi"
include "_records.pxi"
include "_gate.pxi"
include "_receive.pxi"
include "_set.pxi"
include "_send.pxi"
include "_host.pxi"


cdef int _make_slot_of_next(type cls) except -1:
    """Makes __next__ what it is in types written in C: a view of the slot, which classes of Python then inherit.

    Cython makes a method of it, and so each step of a Receiver, which is a class of Python, would look that up first.
    """
    pattern = type(iter(())).__next__
    cdef void *slot = <void *>(<PyTypeObject *>cls).tp_iternext
    (<dict>(<PyTypeObject *>cls).tp_dict)["__next__"] = PyDescr_NewWrapper(
        cls, (<PyWrapperDescrObject *>pattern).d_base, slot)
    PyType_Modified(cls)
    return 0


_make_slot_of_next(ReceiverCore)
_make_slot_of_next(ReceiverSet)
