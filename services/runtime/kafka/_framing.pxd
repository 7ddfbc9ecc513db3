"""The parts of _framing.pyx that other compiled code may use without a Python call."""

from libc.stdint cimport int64_t

from schemas.wire._scan cimport ScannedSend, Span


cdef struct OutcomeParts:
    # What a record says of an outcome; texts are NULL where it does not.
    int64_t at_ms
    int64_t term
    int64_t index
    int64_t command_offset
    bint has_position
    int64_t position
    bint has_seq
    int64_t seq
    Span key
    Span body
    Span source
    Span type
    Span command_id
    Span client_generated_id
    Span sender_id
    Span traceparent


cdef class OutcomeWriter:
    cdef bytearray written
    cdef Py_ssize_t used
    cdef bytearray block
    cdef Py_ssize_t most_bytes
    cdef Py_ssize_t count
    cdef int64_t first_timestamp
    cdef int64_t last_timestamp

    cdef int add_sent(
        self, ScannedSend send, int64_t at_ms, int64_t position, int64_t seq, int64_t term, int64_t index, bytes source
    ) except -1
    cdef int _add(self, OutcomeParts* parts) except -1
    cdef int _make_room(self, Py_ssize_t size) except -1
