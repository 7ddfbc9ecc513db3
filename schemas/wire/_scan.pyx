# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Reads commands and outcomes from their records without an object for each header. Compiled.

Returns None for any record that is not in our canonical encoding; the caller then falls back to encoding.py. Every other
result equals that of encoding.py (tests/unit/schemas/test_records.py).

The records come from services/runtime/kafka/_framing.pyx, which splits a batch into them.
"""

from hashlib import sha1

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

cimport cython

from schemas.wire._varints cimport varint

from schemas import limits
from schemas.types import CommandType
from schemas.wire.encoding import Command, ReplyTo
from schemas.events import AcceptedOutcome, OtherOutcome
from schemas.types import COMMAND_OF, EventType
from schemas.log import Stamp

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void* PyUnicode_DATA(object text)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    UUID_CHARACTERS = 36
    DIGITS = 18  # at most, of a number, as in schemas/log.py; it is below 2^63
    HEADER_CHARACTERS = 256  # at most, of a type or a traceparent
    BEFORE_TEXT = 9  # characters of {"text":"
    AFTER_TEXT = 2  # of "}
    MET = 65_536  # chats, senders and types: then those that were met are forgotten


cdef object MESSAGE_SEND = CommandType.MESSAGE_SEND.value
cdef bytes MESSAGE_SENT = EventType.MESSAGE_SENT.value.encode()
cdef Py_ssize_t KEY_CHARACTERS = limits.CLIENT_GENERATED_ID_CHARACTERS
cdef Py_ssize_t TEXT_CHARACTERS = limits.TEXT_CHARACTERS
cdef Py_ssize_t REQUEST_ID_CHARACTERS = limits.REQUEST_ID_CHARACTERS


# --- records ------------------------------------------------------------------------------------------------------


@cython.final
@cython.freelist(1024)
cdef class Record:
    """A record from a broker: encoding.Record, whose headers become objects only when they are read."""

    @property
    def headers(self) -> list:
        cdef const uint8_t* b = <const uint8_t*>PyBytes_AS_STRING(self.batch)
        cdef Py_ssize_t at = self.first_header
        cdef Py_ssize_t size
        headers = []
        for _ in range(self.header_count):
            size = varint(b, &at, self.end)
            name = PyUnicode_DecodeUTF8(<const char*>b + at, size, NULL)
            at += size
            size = varint(b, &at, self.end)
            if size < 0:
                headers.append((name, None))
            else:
                headers.append((name, PyBytes_FromStringAndSize(<const char*>b + at, size)))
                at += size
        return headers


# --- headers ------------------------------------------------------------------------------------------------------


cdef struct Headers:
    Span specversion
    Span id
    Span type
    Span sender
    Span clientid
    Span replyto
    Span traceparent
    Span command
    Span commandid
    Span position
    Span seq


cdef bint _find(Record record, Headers* found) except -1:
    """Find the headers; if one is repeated, the last counts. Returns False if a header is null."""
    cdef const uint8_t* b = <const uint8_t*>PyBytes_AS_STRING(record.batch)
    cdef Py_ssize_t at = record.first_header
    cdef const uint8_t* name
    cdef Py_ssize_t size
    cdef Span value
    cdef Span* place
    memset(found, 0, sizeof(Headers))
    for _ in range(record.header_count):
        size = varint(b, &at, record.end)
        name = b + at
        at += size
        place = _place(found, name, size)
        value.size = varint(b, &at, record.end)
        value.at = b + at
        if value.size > 0:
            at += value.size
        if place != NULL:
            if value.size < 0:
                return False
            place[0] = value
    return True


cdef inline Span* _place(Headers* found, const uint8_t* name, Py_ssize_t size) noexcept:
    if size == 5:
        return &found.id if memcmp(name, b"ce_id", 5) == 0 else NULL
    if size == 6:
        return &found.seq if memcmp(name, b"ce_seq", 6) == 0 else NULL
    if size == 7:
        return &found.type if memcmp(name, b"ce_type", 7) == 0 else NULL
    if size == 9:
        return &found.sender if memcmp(name, b"ce_sender", 9) == 0 else NULL
    if size == 10:
        if memcmp(name, b"ce_command", 10) == 0:
            return &found.command
        return &found.replyto if memcmp(name, b"ce_replyto", 10) == 0 else NULL
    if size == 11:
        if memcmp(name, b"ce_clientid", 11) == 0:
            return &found.clientid
        if memcmp(name, b"ce_position", 11) == 0:
            return &found.position
        return &found.traceparent if memcmp(name, b"traceparent", 11) == 0 else NULL
    if size == 12:
        return &found.commandid if memcmp(name, b"ce_commandid", 12) == 0 else NULL
    if size == 14:
        return &found.specversion if memcmp(name, b"ce_specversion", 14) == 0 else NULL
    return NULL


cdef inline bint _is_visible(Span text, Py_ssize_t most) noexcept:
    """1 to `most` characters that are ASCII and no white space."""
    if not 0 < text.size <= most:
        return False
    for i in range(text.size):
        if not 0x21 <= text.at[i] <= 0x7E:
            return False
    return True


cdef inline bint _is_hex(const uint8_t* b, Py_ssize_t size) noexcept:
    """Lower-case."""
    for i in range(size):
        if not (48 <= b[i] <= 57 or 97 <= b[i] <= 102):
            return False
    return True


cdef inline bint _is_uuid(Span text) noexcept:
    """As ids.is_uuid."""
    cdef const uint8_t* b = text.at
    return (
        text.size == UUID_CHARACTERS
        and b[8] == b[13] == b[18] == b[23] == 45
        and _is_hex(b, 8) and _is_hex(b + 9, 4) and _is_hex(b + 14, 4) and _is_hex(b + 19, 4) and _is_hex(b + 24, 12)
    )


cdef inline bint _is_traceparent(Span text) noexcept:
    """As encoding.is_traceparent: version-trace-parent-flags in lower-case hex, no version ff, nothing all zeros."""
    cdef const uint8_t* b = text.at
    return (
        text.size == 55
        and b[2] == b[35] == b[52] == 45
        and _is_hex(b, 2) and _is_hex(b + 3, 32) and _is_hex(b + 36, 16) and _is_hex(b + 53, 2)
        and memcmp(b, b"ff", 2) != 0
        and memcmp(b + 3, b"00000000000000000000000000000000", 32) != 0
        and memcmp(b + 36, b"0000000000000000", 16) != 0
    )


cdef inline int64_t _number(const uint8_t* b, Py_ssize_t size) noexcept:
    """Return the number in 1 to 18 ASCII digits; −1 for anything else."""
    if not 0 < size <= DIGITS:
        return -1
    cdef int64_t number = 0
    for i in range(size):
        if not 48 <= b[i] <= 57:
            return -1
        number = 10 * number + (b[i] - 48)
    return number


cdef inline str _ascii(Span text):
    """Return the text of bytes that are known to be ASCII."""
    made = PyUnicode_New(text.size, 0x7F)
    memcpy(PyUnicode_DATA(made), text.at, text.size)
    return made


cdef inline bytes _bytes(Span text):
    return PyBytes_FromStringAndSize(<const char*>text.at, text.size)


# --- UUIDs ---------------------------------------------------------------------------------------------------------


def command_key(str chat_id, str command_id):
    """As ids.command_key."""
    cdef bytes key = PyBytes_FromStringAndSize(NULL, 33)
    cdef uint8_t* to = <uint8_t*>PyBytes_AS_STRING(key)
    to[0] = b"r"
    put_uuid(to + 1, utf8(chat_id))
    put_uuid(to + 17, utf8(command_id))
    return key


cdef Span utf8(object text) except *:
    """Return a span of a str that outlives it; NULL for None."""
    cdef Span made
    made.at = NULL
    made.size = 0
    if text is not None:
        made.at = <const uint8_t*>PyUnicode_AsUTF8AndSize(text, &made.size)
    return made


cdef const char* HEXADECIMAL = "0123456789abcdef"


cdef enum:
    EACH = 0x0101010101010101  # times a byte: eight of it in one word


cdef inline uint64_t _eight_digits(const uint8_t* b, uint8_t* to) noexcept:
    """Four bytes, of eight hexadecimal characters in lower case that are looked at as one word; not 0 where they are
    not."""
    cdef uint64_t word
    cdef uint64_t is_digit
    cdef uint64_t is_letter
    memcpy(&word, b, 8)
    # The highest bit of each byte says whether its character is between two others; one above 0x7F is none of ours.
    is_digit = (word + EACH * <uint64_t>(0x80 - 48)) & ~(word + EACH * <uint64_t>(0x7F - 57))
    is_letter = (word + EACH * <uint64_t>(0x80 - 97)) & ~(word + EACH * <uint64_t>(0x7F - 102))
    cdef uint64_t wrong = (~(is_digit | is_letter) | word) & (EACH * <uint64_t>0x80)
    word = (word & (EACH * <uint64_t>0x0F)) + 9 * ((word >> 6) & EACH)
    for i in range(4):
        to[i] = <uint8_t>((word << 4) | ((word >> 8) & 0x0F))
        word >>= 16
    return wrong


cdef int put_uuid(uint8_t* to, Span uuid) except -1:
    """The 16 bytes of a UUID in wire form. Raises ValueError where it is none."""
    cdef const uint8_t* b = uuid.at
    cdef uint8_t[8] middle
    cdef uint64_t wrong = uuid.size != UUID_CHARACTERS
    if not wrong:
        wrong = (b[8] ^ 45) | (b[13] ^ 45) | (b[18] ^ 45) | (b[23] ^ 45)
        wrong |= _eight_digits(b, to)
        memcpy(middle, b + 9, 4)
        memcpy(middle + 4, b + 14, 4)
        wrong |= _eight_digits(middle, to + 4)
        memcpy(middle, b + 19, 4)
        memcpy(middle + 4, b + 24, 4)
        wrong |= _eight_digits(middle, to + 8)
        wrong |= _eight_digits(b + 28, to + 12)
    if wrong:
        raise ValueError("no UUID in wire form")
    return 0


# --- plain bodies --------------------------------------------------------------------------------------------------


cpdef bint is_plain(bytes body) except -1:
    """Whether commands.parse_body accepts it as a text and nothing else, and its spelling is our own code's."""
    cdef const uint8_t* b = <const uint8_t*>PyBytes_AS_STRING(body)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(body) - AFTER_TEXT
    cdef Py_ssize_t i
    cdef Py_ssize_t characters  # bytes, where it is not ASCII: a text that is nearly too long is not plain
    cdef uint8_t all_bits = 0
    cdef uint8_t special = 0
    if end <= BEFORE_TEXT or memcmp(b, b'{"text":"', BEFORE_TEXT) != 0 or memcmp(b + end, b'"}', AFTER_TEXT) != 0:
        return False
    for i in range(BEFORE_TEXT, end):  # without a branch, so that the C compiler makes vectors of it
        all_bits |= b[i]
        special |= (b[i] < 0x20) | (b[i] == 34) | (b[i] == 92)
    characters = end - BEFORE_TEXT
    if special:
        i = BEFORE_TEXT
        while i < end:
            if b[i] < 0x20 or b[i] == 34:
                return False
            if b[i] == 92:  # nor is \uXXXX
                i += 1
                if i == end or b[i] not in b'"\\/bfnrt':
                    return False
                characters -= 1
            i += 1
    if all_bits > 0x7F:
        try:
            PyUnicode_DecodeUTF8(<const char*>b + BEFORE_TEXT, end - BEFORE_TEXT, NULL)
        except UnicodeDecodeError:
            return False
    return characters <= TEXT_CHARACTERS


cdef Py_ssize_t put_text(uint8_t* to, bytes body) noexcept:
    """Write the unescaped text of a plain body in UTF-8; return its size, which is below that of the body."""
    cdef const uint8_t* b = <const uint8_t*>PyBytes_AS_STRING(body) + BEFORE_TEXT
    cdef Py_ssize_t left = PyBytes_GET_SIZE(body) - BEFORE_TEXT - AFTER_TEXT
    cdef uint8_t* begin = to
    cdef const uint8_t* escape
    while left > 0:
        escape = <const uint8_t*>memchr(b, 92, left)
        if escape == NULL:
            memcpy(to, b, left)
            to += left
            break
        memcpy(to, b, escape - b)
        to += escape - b
        to[0] = _escaped(escape[1])
        to += 1
        left -= escape - b + 2
        b = escape + 2
    return to - begin


cdef inline uint8_t _escaped(uint8_t letter) noexcept:
    if letter == 98:
        return 8
    if letter == 102:
        return 12
    if letter == 110:
        return 10
    if letter == 114:
        return 13
    if letter == 116:
        return 9
    return letter


# --- commands -----------------------------------------------------------------------------------------------------


@cython.final
@cython.freelist(1024)
cdef class ScannedSend:
    """A well-formed message.send, as a view of its record: an encoding.SendView."""

    @property
    def offset(self):
        return self.record.offset

    @property
    def body(self):
        return self.record.value

    @property
    def command_id(self):
        return _ascii(self.id)

    def command(self):
        return _command(
            self.record, MESSAGE_SEND, self.chat_id, self.sender_id, self.id, _ascii(self.clientid), self.reply_to,
            self.traceparent,
        )


cdef object _command(
    Record record, object command_type, str chat_id, str sender_id, Span id, str client_generated_id, object reply_to,
    Span traceparent,
):
    return Command(
        record.offset,
        command_type,
        record.value if record.value is not None else b"",
        chat_id,
        sender_id,
        client_generated_id,
        _ascii(id),
        reply_to,
        _ascii(traceparent) if traceparent.at != NULL else None,
    )


@cython.final
cdef class CommandScanner:
    """Reads the commands whose chat and sender an encoding.CommandReader has met, and leaves all others to it."""

    cdef dict chats
    cdef dict senders
    cdef dict types
    cdef object receipts
    cdef object otherwise
    cdef bytes last_type_value  # of the command before: most commands are sends
    cdef object last_type

    def __init__(self, dict chats, dict senders, dict types, receipts, otherwise):
        """`chats`: key → (chat_id, its 16 bytes); `senders`: value of ce_sender → user_id, both a CommandReader's own.
        `types`: value of ce_type → type; `receipts`: those of them that have no client_generated_id;
        `otherwise`: the CommandReader's `read`."""
        self.chats = chats
        self.senders = senders
        self.types = types
        self.receipts = receipts
        self.otherwise = otherwise
        self.last_type_value = b""

    def read(self, list records):
        """A ScannedSend, a Command or an Unreadable for each."""
        commands = []
        for record in records:
            command = self._scan(<Record>record) if type(record) is Record else None
            commands.append(command if command is not None else self.otherwise(record))
        return commands

    cdef object _scan(self, Record record):
        cdef Headers given
        cdef tuple chat = self.chats.get(record.key)
        if chat is None or not _find(record, &given):
            return None
        if given.type.at == NULL or given.sender.at == NULL:
            return None
        command_type = self._type(given.type)
        if command_type is None:
            return None
        cdef bytes sender = _bytes(given.sender)
        sender_id = self.senders.get(sender)
        if sender_id is None or given.specversion.size != 3 or memcmp(given.specversion.at, b"1.0", 3) != 0:
            return None
        cdef bytes command_key = None
        if command_type in self.receipts:
            if not _is_uuid(given.id):
                return None
        elif _is_visible(given.clientid, KEY_CHARACTERS):
            command_key = _key_of(given, <bytes>chat[1], sender)
            if command_key is None:
                return None
        else:
            return None
        reply_to = None
        if given.replyto.at != NULL:
            reply_to = _reply_to(given.replyto)
            if reply_to is None:
                return None
        if given.traceparent.at != NULL and not _is_traceparent(given.traceparent):
            return None
        cdef ScannedSend send
        if command_type is MESSAGE_SEND and record.value is not None:
            send = ScannedSend.__new__(ScannedSend)
            send.record = record
            send.chat_id = <str>chat[0]
            send.sender_id = <str>sender_id
            send.command_key = command_key
            send.reply_to = reply_to
            send.id = given.id
            send.sender = given.sender
            send.clientid = given.clientid
            send.traceparent = given.traceparent
            return send
        client_generated_id = _ascii(given.clientid) if command_key is not None else None
        return _command(
            record, command_type, <str>chat[0], <str>sender_id, given.id, client_generated_id, reply_to, given.traceparent
        )

    cdef object _type(self, Span value):
        cdef bytes last = self.last_type_value
        if value.size != PyBytes_GET_SIZE(last) or memcmp(value.at, PyBytes_AS_STRING(last), value.size) != 0:
            self.last_type_value = _bytes(value)
            self.last_type = self.types.get(self.last_type_value)
        return self.last_type


cdef bytes _key_of(Headers given, bytes chat, bytes sender):
    """The command_key of a command whose ce_id is ids.command_id_of this chat, sender and ce_clientid, a UUID of version
    5; None where it is not."""
    if given.id.size != UUID_CHARACTERS:
        return None
    cdef bytes named = PyBytes_FromStringAndSize(NULL, 16 + PyBytes_GET_SIZE(sender) + 1 + given.clientid.size)
    cdef char* to = PyBytes_AS_STRING(named)
    memcpy(to, PyBytes_AS_STRING(chat), 16)
    to += 16
    memcpy(to, PyBytes_AS_STRING(sender), PyBytes_GET_SIZE(sender))
    to += PyBytes_GET_SIZE(sender)
    to[0] = b"/"
    memcpy(to + 1, given.clientid.at, given.clientid.size)
    cdef bytes digest = sha1(named, usedforsecurity=False).digest()
    cdef bytes key = PyBytes_FromStringAndSize(NULL, 33)
    cdef uint8_t* d = <uint8_t*>PyBytes_AS_STRING(key)
    d[0] = b"r"
    memcpy(d + 1, PyBytes_AS_STRING(chat), 16)
    d += 17
    memcpy(d, PyBytes_AS_STRING(digest), 16)
    d[6] = (d[6] & 0x0F) | 0x50
    d[8] = (d[8] & 0x3F) | 0x80
    cdef const uint8_t* told = given.id.at
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            if told[0] != 45:
                return None
            told += 1
        if told[0] != <uint8_t>HEXADECIMAL[d[i] >> 4] or told[1] != <uint8_t>HEXADECIMAL[d[i] & 15]:
            return None
        told += 2
    return key


cdef object _reply_to(Span text):
    """partition/request id; None where it is not."""
    cdef Span request = text
    cdef int64_t partition
    for i in range(min(text.size, 6)):
        if text.at[i] == 47:
            partition = _number(text.at, i)
            request.at += i + 1
            request.size -= i + 1
            if partition < 0 or not _is_visible(request, REQUEST_ID_CHARACTERS):
                return None
            return ReplyTo(partition, _ascii(request))
    return None


# --- outcomes -----------------------------------------------------------------------------------------------------


@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class ScannedMessage:
    """A message.sent of a text and nothing else, all of it in order, as it lies in its record: a records.MessageView."""

    @property
    def is_view(self):
        return True

    @property
    def at_ms(self):
        return self.record.timestamp

    @property
    def message_id(self):
        """The command_id of its send."""
        return _ascii(self.commandid)

    @property
    def client_generated_id(self):
        return _ascii(self.clientid)

    @property
    def text(self):
        cdef bytes body = self.record.value
        cdef bytearray text = bytearray(PyBytes_GET_SIZE(body))
        cdef Py_ssize_t size = put_text(<uint8_t*><char*>text, body)
        return text[:size].decode()


cdef inline bint _read_stamp(Headers* given, int64_t* term, int64_t* index, int64_t* command_offset) noexcept:
    """False where log.read_stamp has to say it."""
    cdef Py_ssize_t slash = 0
    while slash < given.id.size and given.id.at[slash] != 47:
        slash += 1
    term[0] = _number(given.id.at, slash)
    index[0] = _number(given.id.at + slash + 1, given.id.size - slash - 1)
    command_offset[0] = _number(given.command.at, given.command.size) if index[0] > 0 else -1
    return term[0] >= 0 and index[0] >= 0 and (index[0] == 0 or command_offset[0] >= 0)


@cython.final
cdef class OutcomeScanner:
    """Reads what a writer appended, and remembers the chats, senders and types that it has met: they repeat."""

    cdef dict uuids
    cdef dict types

    def __init__(self):
        self.uuids = {}
        self.types = {}

    def stamp(self, object any_record):
        """As log.read_stamp; None where that has to say it."""
        cdef Headers given
        cdef int64_t term
        cdef int64_t index
        cdef int64_t command_offset = -1
        if type(any_record) is not Record or not _find(<Record>any_record, &given):
            return None
        if not _read_stamp(&given, &term, &index, &command_offset):
            return None
        return Stamp(term, index, command_offset)

    def messages(self, records, Py_ssize_t start, int64_t term, int64_t index, int64_t command_offset):
        """From record `start` on, those that the rule finds valid one after the other, as long as each is of the term
        and a message of a text and nothing else: see records.messages_from."""
        cdef int64_t its_term
        cdef int64_t its_index
        cdef int64_t its_command
        cdef Headers given
        cdef ScannedMessage message
        cdef Record record
        found = []
        for at in range(start, len(records)):
            any_record = records[at]
            if type(any_record) is not Record or not _find(<Record>any_record, &given):
                break
            if not _read_stamp(&given, &its_term, &its_index, &its_command):
                break
            if its_term != term or its_index != index + 1 or its_command <= command_offset:
                break
            message = self._message(<Record>any_record, &given)
            if message is None:
                break
            index = message.index = its_index
            command_offset = message.command_offset = its_command
            found.append(message)
        return found

    cdef ScannedMessage _message(self, Record record, Headers* given):
        cdef bytes sent = MESSAGE_SENT
        if given.type.size != PyBytes_GET_SIZE(sent) or memcmp(given.type.at, PyBytes_AS_STRING(sent), given.type.size):
            return None
        if record.key is None or record.value is None:
            return None
        cdef ScannedMessage message = ScannedMessage.__new__(ScannedMessage)
        message.chat_id = self._uuid(record.key)
        message.sender_id = self._uuid(_bytes(given.sender)) if given.sender.at != NULL else None
        message.position = _number(given.position.at, given.position.size)
        message.seq = _number(given.seq.at, given.seq.size)
        if message.chat_id is None or message.sender_id is None or message.position < 0 or message.seq < 0:
            return None
        if not _is_uuid(given.commandid) or not _is_visible(given.clientid, KEY_CHARACTERS):
            return None
        if given.traceparent.at != NULL and not _is_visible(given.traceparent, HEADER_CHARACTERS):
            return None
        if not is_plain(record.value):
            return None
        message.record = record
        message.commandid = given.commandid
        message.clientid = given.clientid
        return message

    def outcome(self, object any_record):
        """As encoding.read_outcome; None where that has to say it."""
        cdef Headers given
        if type(any_record) is not Record or not _find(<Record>any_record, &given):
            return None
        cdef Record record = <Record>any_record
        outcome_type = self._type(given.type)
        if outcome_type is None:
            return None
        chat_id = sender_id = command_id = client_generated_id = position = seq = traceparent = None
        if record.key is not None:
            chat_id = self._uuid(record.key)
            if chat_id is None:
                return None
        if given.sender.at != NULL:
            sender_id = self._uuid(_bytes(given.sender))
            if sender_id is None:
                return None
        if given.commandid.at != NULL:
            if not _is_uuid(given.commandid):
                return None
            command_id = _ascii(given.commandid)
        if given.clientid.at != NULL:
            if not _is_visible(given.clientid, KEY_CHARACTERS):
                return None
            client_generated_id = _ascii(given.clientid)
        cdef int64_t number
        if given.position.at != NULL:
            number = _number(given.position.at, given.position.size)
            if number < 0:
                return None
            position = number
        if given.seq.at != NULL:
            number = _number(given.seq.at, given.seq.size)
            if number < 0:
                return None
            seq = number
        if given.traceparent.at != NULL:
            if not _is_visible(given.traceparent, HEADER_CHARACTERS):
                return None
            traceparent = _ascii(given.traceparent)
        body = record.value if record.value is not None else b""
        if outcome_type not in COMMAND_OF:
            return OtherOutcome(
                outcome_type, record.timestamp, body, chat_id, sender_id, position, seq, command_id, client_generated_id,
                traceparent, record.key,
            )
        if chat_id is None or sender_id is None or position is None:
            return None
        return AcceptedOutcome(
            outcome_type, record.timestamp, body, chat_id, sender_id, position, seq, command_id, client_generated_id,
            traceparent,
        )

    cdef str _uuid(self, bytes raw):
        known = self.uuids.get(raw)
        if known is not None:
            return known
        cdef Span text
        text.at = <const uint8_t*>PyBytes_AS_STRING(raw)
        text.size = PyBytes_GET_SIZE(raw)
        if not _is_uuid(text):
            return None
        if len(self.uuids) >= MET:
            self.uuids.clear()
        made = self.uuids[raw] = _ascii(text)
        return made

    cdef str _type(self, Span text):
        if not _is_visible(text, HEADER_CHARACTERS):
            return None
        raw = _bytes(text)
        known = self.types.get(raw)
        if known is not None:
            return known
        if len(self.types) >= MET:
            self.types.clear()
        made = self.types[raw] = _ascii(text)
        return made
