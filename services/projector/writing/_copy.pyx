# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The COPY bytes of plain messages, built from their records: the same as copy.py builds from their rows. Compiled.

Everything that is the same in all rows comes from copy.py, so a new column changes nothing here.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from schemas._tokens cimport MOST, Token, find_tokens
from schemas.wire._scan cimport ScannedMessage, Span, put_text, put_uuid, utf8

cdef enum:
    FIXED_BYTES = 256  # more than a row has in addition to its text, its key and the constant bytes
    SCRATCH_BYTES = 16 * 1024


def message_rows(list rows, otherwise, bytes head, bytes tail, Py_ssize_t sent_at, Py_ssize_t position,
                 Py_ssize_t changed_position):
    """Return the rows of `copy_messages`; rows that are no plain messages are built by `otherwise`.

    `head`: the bytes before the chat; `tail`: those after the key, with the places of three numbers in it.
    """
    cdef ScannedMessage message
    cdef Piece piece = Piece()
    cdef uint8_t* to
    cdef Py_ssize_t size
    cdef Py_ssize_t fixed = FIXED_BYTES + PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(tail)
    if not 0 <= min(sent_at, position, changed_position) <= max(sent_at, position, changed_position) <= len(tail) - 8:
        raise ValueError("a number's place is outside the row")
    for row in rows:
        if type(row) is not ScannedMessage:
            piece.add(otherwise(row))
            continue
        message = <ScannedMessage>row
        to = piece.room(fixed + PyBytes_GET_SIZE(message.record.value) + message.clientid.size)
        to = _put(to, head)
        to = _put_uuid(to, utf8(message.chat_id))
        to = _put_bigint(to, message.seq)
        to = _put_uuid(to, message.commandid)
        to = _put_uuid(to, utf8(message.sender_id))
        size = put_text(to + 4, message.record.value)
        to = _put_length(to, size) + size
        to = _put_length(to, message.clientid.size)
        memcpy(to, message.clientid.at, message.clientid.size)
        to += message.clientid.size
        _put(to, tail)
        _put_integer(to + sent_at, _micros(message.record.timestamp), 8)
        _put_integer(to + position, message.position, 8)
        _put_integer(to + changed_position, message.position, 8)
        piece.end(to + PyBytes_GET_SIZE(tail))
    return piece.whole()


def outcome_rows(list rows, otherwise, bytes head, bytes told, bytes tail):
    """Return the rows of `copy_outcomes`; rows that are no plain messages are built by `otherwise`.

    `head`: the bytes before the index; `told`: the fields between sender and seq; `tail`: those after the time.
    """
    cdef ScannedMessage message
    cdef Piece piece = Piece()
    cdef uint8_t* to
    cdef Py_ssize_t fixed = FIXED_BYTES + PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(told) + PyBytes_GET_SIZE(tail)
    for row in rows:
        if type(row) is not ScannedMessage:
            piece.add(otherwise(row))
            continue
        message = <ScannedMessage>row
        to = piece.room(fixed)
        to = _put(to, head)
        to = _put_bigint(to, message.index)
        to = _put_uuid(to, message.commandid)
        to = _put_uuid(to, utf8(message.sender_id))
        to = _put(to, told)
        to = _put_bigint(to, message.seq)
        to = _put_bigint(to, message.position)
        to = _put_bigint(to, _micros(message.record.timestamp))
        to = _put(to, tail)
        piece.end(to)
    return piece.whole()


def search_rows(list rows, otherwise, bytes head, bytes chat_mark, bytes no_positions, int32_t before_tokens,
                time_lexemes, int64_t hour_ms, Py_ssize_t most, Py_ssize_t characters):
    """Return the rows of `copy_search`; rows that are no plain messages of ASCII without a URL are built by `otherwise`.

    `head`: the bytes before the chat; `no_positions`: those after a lexeme; `time_lexemes`: returns the lexemes of the
    hour of a time, with the bytes after each; `before_tokens`: the number of these and of the chat's;
    `most`, `characters`: the limits of the tokens.
    """
    cdef ScannedMessage message
    cdef Token[MOST] found
    cdef Piece piece = Piece()
    cdef bytearray scratch = bytearray(SCRATCH_BYTES)
    cdef bytes times = None
    cdef int64_t hour
    cdef int64_t hour_of_times = 0
    cdef uint8_t* to
    cdef uint8_t* vector
    cdef Span chat_id
    cdef Py_ssize_t count
    cdef Py_ssize_t size
    cdef Py_ssize_t after = PyBytes_GET_SIZE(no_positions)
    if not 0 < most <= MOST:
        raise ValueError("more tokens than there is room for")
    for row in rows:
        if type(row) is not ScannedMessage:
            piece.add(otherwise(row))
            continue
        message = <ScannedMessage>row
        size = PyBytes_GET_SIZE(message.record.value)
        if size > len(scratch):
            scratch.extend(bytes(size))
        size = put_text(<uint8_t*><char*>scratch, message.record.value)
        count = find_tokens(<uint8_t*><char*>scratch, size, found, most, characters)
        if count < 0:
            piece.add(otherwise(row))
            continue
        hour = message.record.timestamp // hour_ms
        if times is None or hour != hour_of_times:
            times, hour_of_times = time_lexemes(message.record.timestamp), hour
        chat_id = utf8(message.chat_id)
        to = piece.room(
            FIXED_BYTES + PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(chat_mark) + PyBytes_GET_SIZE(times) + size
            + (count + 1) * after
        )
        to = _put(to, head)
        to = _put_uuid(to, chat_id)
        to = _put_bigint(to, message.seq)
        to = _put_uuid(to, utf8(message.sender_id))
        to = _put_bigint(to, _micros(message.record.timestamp))
        vector = to + 4
        to = _put_integer(vector, before_tokens + count, 4)
        to = _put(to, chat_mark)
        memcpy(to, chat_id.at, chat_id.size)
        to = _put(to + chat_id.size, no_positions)
        to = _put(to, times)
        for i in range(count):
            memcpy(to, found[i].at, found[i].size)
            to = _put(to + found[i].size, no_positions)
        _put_length(vector - 4, to - vector)
        piece.end(to)
    return piece.whole()


cdef class Piece:
    """A growing buffer of bytes."""

    cdef bytearray made
    cdef Py_ssize_t used

    def __init__(self):
        self.made = bytearray(128 * 1024)

    cdef uint8_t* room(self, Py_ssize_t size):
        """Return space for at most `size` more bytes; `end` then sets how many were written."""
        if self.used + size > len(self.made):
            self.made.extend(bytes(max(size, len(self.made))))
        return <uint8_t*><char*>self.made + self.used

    cdef void end(self, uint8_t* at) noexcept:
        self.used = at - <uint8_t*><char*>self.made

    cdef int add(self, bytes more) except -1:
        cdef uint8_t* to = self.room(PyBytes_GET_SIZE(more))
        memcpy(to, PyBytes_AS_STRING(more), PyBytes_GET_SIZE(more))
        self.end(to + PyBytes_GET_SIZE(more))
        return 0

    cdef bytes whole(self):
        return PyBytes_FromStringAndSize(<char*>self.made, self.used)


# Numbers are big-endian. Each field follows its length, −1 for NULL.


cdef inline uint8_t* _put(uint8_t* to, bytes constant) noexcept:
    memcpy(to, PyBytes_AS_STRING(constant), PyBytes_GET_SIZE(constant))
    return to + PyBytes_GET_SIZE(constant)


cdef inline uint8_t* _put_integer(uint8_t* to, int64_t number, int size) noexcept:
    cdef int i
    for i in range(size):
        to[i] = <uint8_t>(<uint64_t>number >> (8 * (size - 1 - i)))
    return to + size


cdef inline uint8_t* _put_length(uint8_t* to, Py_ssize_t size) noexcept:
    return _put_integer(to, size, 4)


cdef inline uint8_t* _put_bigint(uint8_t* to, int64_t number) noexcept:
    return _put_integer(_put_length(to, 8), number, 8)


cdef inline uint8_t* _put_uuid(uint8_t* to, Span uuid) except NULL:
    to = _put_length(to, 16)
    put_uuid(to, uuid)
    return to + 16


cdef inline int64_t _micros(int64_t at_ms) noexcept:
    """Return a timestamptz: microseconds since 2000."""
    return (at_ms - 946_684_800_000) * 1_000
