"""The parts of _scan.pyx that other compiled code may use without a Python call."""

from libc.stdint cimport int64_t, uint8_t


cdef struct Span:
    # The value of a header; `at` is NULL if the header is absent.
    const uint8_t* at
    Py_ssize_t size


cdef class Record:
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp
    cdef readonly bytes key
    cdef readonly bytes value
    cdef bytes batch
    cdef Py_ssize_t first_header
    cdef Py_ssize_t end
    cdef Py_ssize_t header_count


cdef class ScannedSend:
    cdef readonly Record record
    cdef readonly str chat_id
    cdef readonly str sender_id
    cdef readonly bytes command_key
    cdef readonly object reply_to
    cdef Span id
    cdef Span sender
    cdef Span clientid
    cdef Span traceparent


cdef class ScannedMessage:
    cdef readonly Record record
    cdef readonly str chat_id
    cdef readonly str sender_id
    cdef readonly int64_t index
    cdef readonly int64_t command_offset
    cdef readonly int64_t position
    cdef readonly int64_t seq
    cdef Span commandid
    cdef Span clientid


cpdef bint is_plain(bytes body) except -1
cdef int put_uuid(uint8_t* to, Span uuid) except -1
cdef Py_ssize_t put_text(uint8_t* to, bytes body) noexcept
cdef Span utf8(object text) except *
