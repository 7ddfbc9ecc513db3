# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Splits record batches into records and writes outcomes into them, in Kafka's format v2. Compiled.

The bytes are those of a record batch after its header, uncompressed:

    record: length, attributes (1 byte), timestamp − the batch's, offset − the batch's, key, value, headers
    numbers are zigzag varints; key and value have a length before them, −1 for null; headers have a count before them

plain_records.py splits a batch with the same results, and aiokafka's codec writes the same bytes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cimport cython

from schemas.wire._scan cimport Record, ScannedSend, Span, utf8
from schemas.wire._varints cimport put_varint, varint, varint_size, varlong

from schemas.types import EventType
from schemas.wire.encoding import Undecodable

cdef bytes MESSAGE_SENT = EventType.MESSAGE_SENT.value.encode()


@cython.final
cdef class Records:
    """Exactly `count` records of one batch, each made when it is asked for: record i is at base_offset + i, as a Record
    or, if it cannot be decoded or says that it is elsewhere, as an Undecodable. Iterating never raises."""

    cdef bytes batch
    cdef Py_ssize_t at
    cdef Py_ssize_t end
    cdef int64_t index
    cdef int64_t count
    cdef int64_t base_offset
    cdef int64_t base_timestamp
    cdef int64_t appended_at
    cdef bint framed  # whether `at` is where the next record begins
    cdef str broken

    def __init__(self, bytes batch, Py_ssize_t start, Py_ssize_t end, *, int64_t count, int64_t base_offset,
                 int64_t base_timestamp, int64_t appended_at):
        """`batch[start:end]` is what follows the batch's header; `appended_at` is the time of all, −1 where each has
        its own."""
        if not 0 <= start <= end <= PyBytes_GET_SIZE(batch):
            raise ValueError("a batch ends behind its bytes")
        self.batch = batch
        self.at = start
        self.end = end
        self.count = count
        self.base_offset = base_offset
        self.base_timestamp = base_timestamp
        self.appended_at = appended_at
        self.framed = True

    def __iter__(self):
        return self

    def __next__(self):
        if self.index >= self.count:
            raise StopIteration
        self.index += 1
        if not self.framed:
            return self._undecodable(self.broken)
        try:
            return self._next()
        except ValueError as error:  # UnicodeDecodeError, of a header's name, is one
            self.broken = str(error)
            return self._undecodable(self.broken)

    cdef object _undecodable(self, str reason):
        return Undecodable(self.base_offset + self.index - 1, reason, max(self.appended_at, 0))

    cdef Record _next(self):
        cdef const uint8_t* b = <const uint8_t*>PyBytes_AS_STRING(self.batch)
        cdef Py_ssize_t at = self.at
        self.framed = False
        cdef Py_ssize_t size = varint(b, &at, self.end)
        if not 0 < size <= self.end - at:
            raise ValueError("a record ends behind its batch")
        cdef Py_ssize_t end = at + size
        self.at = end
        self.framed = True
        cdef Record record = Record.__new__(Record)
        at += 1  # attributes: one byte, none of its bits in use, and ignored as by Kafka's clients
        cdef int64_t later = varlong(b, &at, end)
        record.timestamp = (
            self.appended_at if self.appended_at >= 0
            else <int64_t>(<uint64_t>self.base_timestamp + <uint64_t>later)
        )
        if varint(b, &at, end) != self.index - 1:
            raise ValueError("a record's offset is not its place in the batch")
        record.offset = self.base_offset + self.index - 1
        record.key = _nullable(b, &at, end)
        record.value = _nullable(b, &at, end)
        record.header_count = varint(b, &at, end)
        if record.header_count < 0:
            raise ValueError("a record has less than no headers")
        record.batch = self.batch
        record.first_header = at
        record.end = end
        for _ in range(record.header_count):
            size = varint(b, &at, end)
            if size < 0:
                raise ValueError("a header has no name")
            if size > end - at:
                raise ValueError("a record ends before what it holds")
            if not _is_ascii(b + at, size):
                PyUnicode_DecodeUTF8(<const char*>b + at, size, NULL)  # UnicodeDecodeError is a ValueError
            at += size
            size = varint(b, &at, end)
            if size > end - at:
                raise ValueError("a record ends before what it holds")
            if size > 0:
                at += size
        if at != end:
            raise ValueError("a record has more bytes than headers")
        return record


cdef inline bytes _nullable(const uint8_t* b, Py_ssize_t* at, Py_ssize_t end):
    cdef Py_ssize_t size = varint(b, at, end)
    if size < 0:
        return None
    if size > end - at[0]:
        raise ValueError("a record ends before what it holds")
    at[0] += size
    return PyBytes_FromStringAndSize(<const char*>b + at[0] - size, size)


cdef inline bint _is_ascii(const uint8_t* b, Py_ssize_t size) noexcept:
    for i in range(size):
        if b[i] > 0x7F:
            return False
    return True


# --- putting outcomes together --------------------------------------------------------------------------------------


@cython.final
cdef class OutcomeWriter:
    """The records of outcomes, one behind the other, as encoding.encode_outcome and Kafka's format spell them."""

    def __init__(self, Py_ssize_t most_bytes):
        """`most_bytes`: whoever adds more has not counted."""
        self.most_bytes = most_bytes
        self.written = bytearray(65_536)
        self.block = bytearray(2_048)

    def __len__(self):
        return self.count

    @property
    def size(self):
        """Bytes so far."""
        return self.used

    @property
    def timestamps(self):
        """Timestamp of the first record and the greatest one, ms since 1970."""
        return self.first_timestamp, self.last_timestamp

    def written_bytes(self):
        return bytes(memoryview(self.written)[: self.used])

    def add(self, outcome, stamp, bytes source):
        cdef OutcomeParts parts
        cdef bytes key = outcome.key
        cdef bytes body = outcome.body
        parts.at_ms = outcome.at_ms
        parts.term = stamp.term
        parts.index = stamp.index
        parts.command_offset = stamp.command_offset
        number = outcome.position
        parts.has_position = number is not None
        parts.position = number if number is not None else 0
        number = outcome.seq
        parts.has_seq = number is not None
        parts.seq = number if number is not None else 0
        parts.key = _span(key)
        parts.body = _span(body)
        parts.source = _span(source)
        parts.type = utf8(outcome.type)
        parts.command_id = utf8(outcome.command_id)
        parts.client_generated_id = utf8(outcome.client_generated_id)
        parts.sender_id = utf8(outcome.sender_id)
        parts.traceparent = utf8(outcome.traceparent)
        self._add(&parts)

    cdef int add_sent(
        self, ScannedSend send, int64_t at_ms, int64_t position, int64_t seq, int64_t term, int64_t index, bytes source
    ) except -1:
        """The outcome of a message.send that is accepted, from the bytes that it came in."""
        cdef OutcomeParts parts
        cdef bytes sent = MESSAGE_SENT
        parts.at_ms = at_ms
        parts.term = term
        parts.index = index
        parts.command_offset = send.record.offset
        parts.has_position = parts.has_seq = True
        parts.position = position
        parts.seq = seq
        parts.key = _span(send.record.key)
        parts.body = _span(send.record.value)
        parts.source = _span(source)
        parts.type = _span(sent)
        parts.command_id = send.id
        parts.client_generated_id = send.clientid
        parts.sender_id = send.sender
        parts.traceparent = send.traceparent
        return self._add(&parts)

    cdef int _add(self, OutcomeParts* parts) except -1:
        if self.count == 0:
            self.first_timestamp = self.last_timestamp = parts.at_ms
        cdef Py_ssize_t key_size = -1 if parts.key.at == NULL else parts.key.size
        cdef Py_ssize_t most = (
            512  # our names, our numbers, all lengths
            + parts.source.size + parts.type.size + parts.command_id.size + parts.client_generated_id.size
            + parts.sender_id.size + parts.traceparent.size
        )
        if len(self.block) < most:
            self.block = bytearray(2 * most)
        cdef uint8_t* block = <uint8_t*><char*>self.block
        cdef uint8_t* to = block
        cdef Py_ssize_t headers = 5
        to = _put_header(to, "ce_specversion", 14, "1.0", 3)
        to = _put_number_pair(to, "ce_id", 5, parts.term, parts.index)
        to = _put_span(to, "ce_source", 9, parts.source)
        to = _put_span(to, "ce_type", 7, parts.type)
        if parts.index:
            to = _put_number(to, "ce_command", 10, parts.command_offset)
            headers += 1
        if parts.command_id.at != NULL:
            to = _put_span(to, "ce_commandid", 12, parts.command_id)
            headers += 1
        if parts.client_generated_id.at != NULL:
            to = _put_span(to, "ce_clientid", 11, parts.client_generated_id)
            headers += 1
        if parts.sender_id.at != NULL:
            to = _put_span(to, "ce_sender", 9, parts.sender_id)
            headers += 1
        if parts.has_position:
            to = _put_number(to, "ce_position", 11, parts.position)
            headers += 1
        if parts.has_seq:
            to = _put_number(to, "ce_seq", 6, parts.seq)
            headers += 1
        if parts.traceparent.at != NULL:
            to = _put_span(to, "traceparent", 11, parts.traceparent)
            headers += 1
        to = _put_header(to, "content-type", 12, "application/json", 16)
        cdef Py_ssize_t block_size = to - block

        cdef int64_t later_ms = parts.at_ms - self.first_timestamp
        cdef Py_ssize_t size = (
            1
            + varint_size(later_ms)
            + varint_size(self.count)
            + varint_size(key_size) + max(key_size, 0)
            + varint_size(parts.body.size) + parts.body.size
            + varint_size(headers) + block_size
        )
        self._make_room(size + 10)
        cdef uint8_t* begin = <uint8_t*><char*>self.written + self.used
        to = put_varint(begin, size)
        to[0] = 0
        to = put_varint(to + 1, later_ms)
        to = put_varint(to, self.count)
        to = put_varint(to, key_size)
        if key_size > 0:
            to = _put(to, <const char*>parts.key.at, key_size)
        to = put_varint(to, parts.body.size)
        to = _put(to, <const char*>parts.body.at, parts.body.size)
        to = put_varint(to, headers)
        to = _put(to, <const char*>block, block_size)
        self.used += to - begin
        if self.used > self.most_bytes:
            raise AssertionError("an append is closed by bytes before it outgrows a record batch")
        self.count += 1
        self.last_timestamp = max(self.last_timestamp, parts.at_ms)
        return 0

    cdef int _make_room(self, Py_ssize_t size) except -1:
        if self.used + size > len(self.written):
            self.written.extend(bytes(max(size, len(self.written))))
        return 0


cdef inline Span _span(bytes held):
    """Return a span of bytes that outlive it; NULL for None."""
    cdef Span made
    made.at = NULL
    made.size = 0
    if held is not None:
        made.at = <const uint8_t*>PyBytes_AS_STRING(held)
        made.size = PyBytes_GET_SIZE(held)
    return made


cdef inline uint8_t* _put(uint8_t* to, const char* what, Py_ssize_t size) noexcept:
    memcpy(to, what, size)
    return to + size


cdef inline uint8_t* _put_header(uint8_t* to, const char* name, Py_ssize_t name_size, const char* value, Py_ssize_t size) noexcept:
    to = _put(put_varint(to, name_size), name, name_size)
    return _put(put_varint(to, size), value, size)


cdef inline uint8_t* _put_span(uint8_t* to, const char* name, Py_ssize_t name_size, Span value) noexcept:
    return _put_header(to, name, name_size, <const char*>value.at, value.size)


cdef inline uint8_t* _put_number(uint8_t* to, const char* name, Py_ssize_t name_size, int64_t number) noexcept:
    cdef char text[24]
    return _put_header(to, name, name_size, text, _decimal(text, number))


cdef inline uint8_t* _put_number_pair(uint8_t* to, const char* name, Py_ssize_t name_size, int64_t first, int64_t second) noexcept:
    """Two numbers with a slash between them."""
    cdef char text[48]
    cdef Py_ssize_t size = _decimal(text, first)
    text[size] = 47
    size += 1
    size += _decimal(text + size, second)
    return _put_header(to, name, name_size, text, size)


cdef inline Py_ssize_t _decimal(char* to, int64_t number) noexcept:
    cdef char text[24]
    cdef int at = 24
    cdef uint64_t left = <uint64_t>number if number >= 0 else 0 - <uint64_t>number
    while True:
        at -= 1
        text[at] = <char>(48 + left % 10)
        left //= 10
        if left == 0:
            break
    if number < 0:
        at -= 1
        text[at] = 45
    memcpy(to, &text[at], 24 - at)
    return 24 - at
