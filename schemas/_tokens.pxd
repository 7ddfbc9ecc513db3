"""The parts of _tokens.pyx that other compiled code may use without a Python call."""

from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    MOST = 256  # tokens that callers have room for


cdef struct Token:
    const uint8_t* at
    Py_ssize_t size
    uint64_t hash


cdef Py_ssize_t find_tokens(uint8_t* text, Py_ssize_t size, Token* found, Py_ssize_t most, Py_ssize_t characters) noexcept
