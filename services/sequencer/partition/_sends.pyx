# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Fast path for plain sends whose state is already loaded, without the objects of decide.py and evolve.py; and the keys
to load. Compiled.

A plain send is a `message.send` of a text and nothing else, under an unused key, by a member of the chat. Nearly every
command is one. Any other command ends the run, and batch.py decides it on the slow path. Both paths decide a plain send
alike (tests/unit/sequencer/test_sends.py).
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from schemas.wire._scan cimport ScannedSend, is_plain
from services.runtime.kafka._framing cimport OutcomeWriter

from schemas.types import CommandType
from schemas.commands import digest_begun
from schemas.wire.encoding import OUTCOME_BYTES, Unreadable
from services.sequencer.rules.state import Chat, pack_dedup

cdef object MESSAGE_SEND = CommandType.MESSAGE_SEND.value
cdef Py_ssize_t OUTCOME = OUTCOME_BYTES


def decide_sends(run, commands, Py_ssize_t most_bytes):
    """As sends.decide_sends, for a run with a writer."""
    cdef ScannedSend send
    cdef ScannedSend last = None
    cdef Py_ssize_t more
    cdef Py_ssize_t count = 0
    cdef int64_t seq = 0
    cdef int64_t position = 0
    cdef int64_t index = run.index
    cdef int64_t command_offset = run.command_offset
    cdef Py_ssize_t size = run.size
    cdef int64_t at_ms = run.at_ms
    cdef int64_t term = run.term
    cdef bytes source = run.source
    cdef OutcomeWriter writer = run.writer
    layers, changes = run.layers, run.changes
    cdef tuple chats = tuple([layer.chats for layer in layers])
    cdef tuple members = tuple([layer.members for layer in layers])
    cdef tuple dedup = tuple([layer.dedup for layer in layers])
    cdef dict new_chats = changes.chats
    cdef dict new_dedup = changes.dedup
    senders = changes.senders
    begun = digest_begun(MESSAGE_SEND)
    awaited = []
    for command in commands:
        if type(command) is not ScannedSend:
            break
        send = <ScannedSend>command
        if send.record.offset <= command_offset:
            break
        more = (  # as encoding.outcome_size
            OUTCOME + PyBytes_GET_SIZE(send.record.value) + PyBytes_GET_SIZE(send.record.key) + send.clientid.size
        )
        if size and size + more > most_bytes:
            break
        if not is_plain(send.record.value) or _known(dedup, send.command_key) is not None:
            break
        chat = _known(chats, send.chat_id)
        if chat is None or chat is NOT_PREFETCHED:
            break
        member = _known(members, (send.chat_id, send.sender_id))
        if member is None or member is NOT_PREFETCHED or not member.present:
            break
        seq = chat.last_seq + 1
        position = chat.last_position + 1
        index += 1
        command_offset = send.record.offset
        new_chats[send.chat_id] = Chat(
            kind=chat.kind, last_seq=seq, last_position=position, members=chat.members, owners=chat.owners
        )
        senders[send.chat_id].append(send.sender_id)
        digest = begun.copy()  # as commands.digest, without a call of Python per send
        digest.update(send.record.value)
        new_dedup[send.command_key] = pack_dedup(digest.digest(), seq, position, at_ms)
        writer.add_sent(send, at_ms, position, seq, term, index, source)
        if send.reply_to is not None:
            awaited.append((send, send.reply_to, index, seq, position))
        size += more
        count += 1
        last = send
    run.index, run.command_offset, run.size = index, command_offset, size
    run.count, run.last, run.seq, run.position, run.awaited = count, last, seq, position, awaited


def keys_of(commands, Py_ssize_t room):
    """As sends.keys_of."""
    cdef ScannedSend send
    cdef list chats = []
    cdef list members = []
    cdef list dedup = []
    for command in commands:
        if type(command) is ScannedSend:
            send = <ScannedSend>command
            room -= PyBytes_GET_SIZE(send.record.value)
            if room < 0:
                break
            chats.append(send.chat_id)
            members.append((send.chat_id, send.sender_id))
            dedup.append(send.command_key)
        elif type(command) is not Unreadable:
            room -= len(command.body)
            if room < 0:
                break
            chats.append(command.chat_id)
            members.append((command.chat_id, command.sender_id))
            key = command.command_key
            if key is not None:
                dedup.append(key)
    return chats, members, dedup


cdef object NOT_PREFETCHED = object()


cdef inline object _known(tuple layers, object key):
    """Return the value in the first layer that knows the key: None if it does not exist; NOT_PREFETCHED if unknown."""
    cdef PyObject* value
    cdef dict layer
    for layer in layers:
        if not layer:
            continue  # often there is no change of members: the key need not be hashed
        value = PyDict_GetItemWithError(layer, key)
        if value != NULL:
            return <object>value
    return NOT_PREFETCHED
