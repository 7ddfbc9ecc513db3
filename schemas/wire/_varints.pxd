"""Kafka's zigzag varints, for every extension that reads or writes them."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef inline int64_t varlong(const uint8_t* b, Py_ssize_t* at, Py_ssize_t end) except? -4_611_686_018_427_387_904:
    """The number of at most 64 bits at `at`, which is moved behind it. Raises ValueError if it does not end before
    `end`."""
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef Py_ssize_t i = at[0]
    while True:
        if i >= end or shift > 63:
            raise ValueError("a number in a record has no end")
        value |= (<uint64_t>(b[i] & 0x7F)) << shift
        i += 1
        if b[i - 1] < 0x80:
            break
        shift += 7
    at[0] = i
    return <int64_t>(value >> 1) ^ -<int64_t>(value & 1)


cdef inline int32_t varint(const uint8_t* b, Py_ssize_t* at, Py_ssize_t end) except? -1_073_741_824:
    """As varlong, of at most 32 bits: bits beyond are dropped, as by Kafka's Java code, so that a broker and a reader
    agree on where a record ends."""
    cdef uint32_t value = 0
    cdef int shift = 0
    cdef Py_ssize_t i = at[0]
    while True:
        if i >= end or shift > 31:
            raise ValueError("a number in a record has no end")
        value |= (<uint32_t>(b[i] & 0x7F)) << shift
        i += 1
        if b[i - 1] < 0x80:
            break
        shift += 7
    at[0] = i
    return <int32_t>(value >> 1) ^ -<int32_t>(value & 1)


cdef inline Py_ssize_t varint_size(int64_t number) noexcept:
    cdef uint64_t left = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    cdef Py_ssize_t size = 1
    while left >= 0x80:
        left >>= 7
        size += 1
    return size


cdef inline uint8_t* put_varint(uint8_t* to, int64_t number) noexcept:
    cdef uint64_t left = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    while left >= 0x80:
        to[0] = <uint8_t>(left & 0x7F) | 0x80
        to += 1
        left >>= 7
    to[0] = <uint8_t>left
    return to + 1
