# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The JSON of messages from their rows: the same as message_json.py:plain_messages. Compiled.

What is written, and in which order, comes from message_json.py:MEMBERS, so a new column changes nothing here.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    # The values of message_json.py:Form, whose names the constructor of Writer compares with FORMS.
    ID = 0
    NUMBER = 1
    STRING = 2
    STRINGS = 3
    JSON = 4
    ITEMS = 5
    INSTANT = 6
    CHAT = 7
    STATUS = 8

    MEMBERS = 32  # more than a message has
    FIXED_BYTES = 40  # more than a number, an instant or null takes
    DAY_BYTES = 11
    FIRST_BYTES = 32 * 1024

cdef int64_t MS_A_DAY = 24 * 60 * 60 * 1000
cdef int64_t NO_DAY = -(1 << 62)
cdef uint64_t ONES = 0x0101010101010101
cdef uint64_t HIGH = 0x8080808080808080

cdef uint8_t[256] ESCAPES  # 0: written as it is; `u`: as \u00XX; else after a backslash
memset(ESCAPES, 0, 256)
memset(ESCAPES, c"u", 0x20)
ESCAPES[8], ESCAPES[9], ESCAPES[10], ESCAPES[12], ESCAPES[13] = c"b", c"t", c"n", c"f", c"r"
ESCAPES[c'"'], ESCAPES[c"\\"] = c'"', c"\\"
cdef const char* HEX = b"0123456789abcdef"
FORMS = ["ID", "NUMBER", "STRING", "STRINGS", "JSON", "ITEMS", "INSTANT", "CHAT", "STATUS"]


cdef struct Place:
    int form
    Py_ssize_t column
    bint is_content
    const char* before
    Py_ssize_t before_bytes


cdef class Writer:
    """Writes messages with these members."""

    cdef Place[MEMBERS] places
    cdef int count
    cdef Py_ssize_t columns
    cdef Py_ssize_t sender, seq, deleted_at
    cdef list literals

    def __init__(self, members, forms):
        cdef Place* place
        if [form.name for form in forms] != FORMS or len(members) > MEMBERS:
            raise ValueError("these are not the forms that were compiled, or too many members")
        self.literals = []
        for member in members:
            place = &self.places[self.count]
            before = f'{"," if self.count else "{"}"{member.name}":'.encode()
            self.literals.append(before)
            place.form, place.is_content = member.form, member.is_content
            place.before, place.before_bytes = PyBytes_AS_STRING(before), PyBytes_GET_SIZE(before)
            self.count += 1
            if not member.has_column:
                continue
            place.column = self.columns
            if member.name == "sender_id":
                self.sender = self.columns
            elif member.name == "seq":
                self.seq = self.columns
            elif member.name == "deleted_at":
                self.deleted_at = self.columns
            self.columns += 1

    def messages(self, str chat_id, rows, steps_of):
        """Return the messages of the rows, separated by commas."""
        cdef Text text = Text()
        cdef dict steps = {}
        cdef bint is_first = True
        for row in rows:
            if not is_first:
                text.put(b",", 1)
            is_first = False
            self._message(text, chat_id, row, steps, steps_of)
        return PyBytes_FromStringAndSize(<char*>text.begin, text.used)

    cdef int _message(self, Text text, str chat_id, tuple row, dict steps, steps_of) except -1:
        cdef Place* place
        cdef int number
        if len(row) != self.columns:
            raise ValueError("a row has other columns")
        cdef bint is_deleted = row[self.deleted_at] is not None
        for number in range(self.count):
            place = &self.places[number]
            text.put(place.before, place.before_bytes)
            if place.form == CHAT:
                text.id(chat_id)
                continue
            if place.form == STATUS:
                sender = row[self.sender]
                of_sender = steps.get(sender)
                if of_sender is None:
                    of_sender = steps[sender] = steps_of(sender)
                text.id(_status_at(of_sender, row[self.seq]))
                continue
            value = None if is_deleted and place.is_content else row[place.column]
            if place.form == STRINGS:
                text.strings(value)
            elif place.form == ITEMS:
                text.put(b"[", 1)
                if value is not None:
                    text.verbatim(value)
                text.put(b"]", 1)
            elif value is None:
                text.put(b"null", 4)
            elif place.form == ID:
                text.id(value)
            elif place.form == NUMBER:
                text.number(value)
            elif place.form == STRING:
                text.string(value)
            elif place.form == JSON:
                text.verbatim(value)
            else:
                text.instant(value)
        text.put(b"}", 1)
        return 0


cdef str _status_at(tuple steps, int64_t seq):
    """The same as delivery_status.py:status_at."""
    for step in steps:
        if seq <= <int64_t>(<tuple>step)[0]:
            return (<tuple>step)[1]
    return "sent"


cdef class Text:
    """A growing buffer of JSON text."""

    cdef uint8_t* begin
    cdef Py_ssize_t used, size
    cdef int64_t day
    cdef uint8_t[DAY_BYTES] day_text

    def __cinit__(self):
        self.size = FIRST_BYTES
        self.begin = <uint8_t*>PyMem_Malloc(self.size)
        if self.begin == NULL:
            raise MemoryError
        self.day = NO_DAY

    def __dealloc__(self):
        PyMem_Free(self.begin)

    cdef uint8_t* room(self, Py_ssize_t more) except NULL:
        """Return space for at most `more` bytes; whoever writes them adds to `used`."""
        cdef uint8_t* grown
        if self.used + more > self.size:
            grown = <uint8_t*>PyMem_Realloc(self.begin, 2 * self.size + more)
            if grown == NULL:
                raise MemoryError
            self.begin, self.size = grown, 2 * self.size + more
        return self.begin + self.used

    cdef int put(self, const char* at, Py_ssize_t size) except -1:
        memcpy(self.room(size), at, size)
        self.used += size
        return 0

    cdef int verbatim(self, str value) except -1:
        cdef Py_ssize_t size
        cdef const char* at = PyUnicode_AsUTF8AndSize(value, &size)
        return self.put(at, size)

    cdef int id(self, str value) except -1:
        cdef Py_ssize_t size
        cdef const char* at = PyUnicode_AsUTF8AndSize(value, &size)
        cdef uint8_t* to = self.room(size + 2)
        to[0] = c'"'
        memcpy(to + 1, at, size)
        to[size + 1] = c'"'
        self.used += size + 2
        return 0

    cdef int strings(self, value) except -1:
        cdef bint is_first = True
        self.put(b"[", 1)
        for each in value or ():
            if not is_first:
                self.put(b",", 1)
            is_first = False
            self.string(each)
        return self.put(b"]", 1)

    cdef int string(self, str value) except -1:
        cdef Py_ssize_t size
        cdef const uint8_t* at = <const uint8_t*>PyUnicode_AsUTF8AndSize(value, &size)
        cdef const uint8_t* end = at + size
        cdef uint8_t* to = self.room(6 * size + 2)
        cdef uint8_t* begin = to
        cdef uint64_t eight
        cdef uint8_t escape
        to[0] = c'"'
        to += 1
        while at < end:
            if end - at >= 8:
                memcpy(&eight, at, 8)
                if not _needs_escapes(eight):
                    memcpy(to, at, 8)
                    at += 8
                    to += 8
                    continue
            escape = ESCAPES[at[0]]
            if escape == 0:
                to[0] = at[0]
                to += 1
            else:
                to[0], to[1] = c"\\", escape
                to += 2
                if escape == c"u":
                    to[0] = to[1] = c"0"
                    to[2], to[3] = HEX[at[0] >> 4], HEX[at[0] & 15]
                    to += 4
            at += 1
        to[0] = c'"'
        self.used += to + 1 - begin
        return 0

    cdef int number(self, int64_t value) except -1:
        cdef uint8_t[20] digits
        cdef int count = 0
        cdef uint64_t left = <uint64_t>value
        cdef uint8_t* to = self.room(FIXED_BYTES)
        if value < 0:
            to[0] = c"-"
            to += 1
            self.used += 1
            left = 0 - left
        while True:
            digits[count] = <uint8_t>(c"0" + left % 10)
            count += 1
            left //= 10
            if left == 0:
                break
        self.used += count
        while count:
            count -= 1
            to[0] = digits[count]
            to += 1
        return 0

    cdef int instant(self, int64_t at_ms) except -1:
        """Write RFC 3339 in UTC, as json_text.py:instant_of does."""
        cdef int64_t day = at_ms // MS_A_DAY  # rounds down, as in Python
        cdef int64_t ms = at_ms % MS_A_DAY
        cdef uint8_t* to = self.room(FIXED_BYTES)
        if day != self.day:
            _write_day(self.day_text, day)
            self.day = day
        to[0] = c'"'
        memcpy(to + 1, self.day_text, DAY_BYTES)
        to += 1 + DAY_BYTES
        _digits(to, ms // 3_600_000, 2)
        to[2] = c":"
        _digits(to + 3, ms // 60_000 % 60, 2)
        to[5] = c":"
        _digits(to + 6, ms // 1_000 % 60, 2)
        to[8] = c"."
        _digits(to + 9, ms % 1_000, 3)
        to[12], to[13] = c"Z", c'"'
        self.used += 1 + DAY_BYTES + 14
        return 0


cdef inline bint _needs_escapes(uint64_t eight) noexcept:
    """Return whether one of eight bytes is below 0x20, a quotation mark or a backslash."""
    cdef uint64_t quote = eight ^ (ONES * <uint64_t>c'"')
    cdef uint64_t backslash = eight ^ (ONES * <uint64_t>c"\\")
    return (
        ((eight - ONES * <uint64_t>0x20) & ~eight) | ((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash)
    ) & HIGH != 0


cdef inline void _digits(uint8_t* to, int64_t value, int count) noexcept:
    while count:
        count -= 1
        to[count] = <uint8_t>(c"0" + value % 10)
        value //= 10


cdef int _write_day(uint8_t* to, int64_t day) except -1:
    """Write `YYYY-MM-DDT`."""
    from datetime import date, timedelta
    text = f"{date(1970, 1, 1) + timedelta(days=day)}T".encode()
    memcpy(to, PyBytes_AS_STRING(text), DAY_BYTES)
    return 0
