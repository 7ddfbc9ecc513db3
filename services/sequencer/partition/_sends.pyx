# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Plain sends decided on the fast path: what decide.py and evolve.py say of them, without their objects. Compiled.

A plain send is a `message.send` of a text and nothing else, under a key that is not used up, by somebody who is in the
chat, where all that has to be known is at hand. Nearly every command is one. Of any other nothing is said here: it ends
the run, and batch.py decides it on the slow path. So each answer of this file is one that the slow path gives too
(tests/unit/sequencer/test_sends.py).
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from schemas.wire._records cimport OutcomeWriter, ScannedSend, is_plain

from schemas.types import CommandType
from schemas.commands import digest
from schemas.wire.encoding import OUTCOME_BYTES
from services.sequencer.rules.state import Chat, pack_dedup

cdef object MESSAGE_SEND = CommandType.MESSAGE_SEND.value
cdef Py_ssize_t OUTCOME = OUTCOME_BYTES


def decide_sends(
    commands, layers, changes, OutcomeWriter writer, int64_t at_ms, int64_t term, int64_t index, int64_t command_offset,
    bytes source, Py_ssize_t size, Py_ssize_t most_bytes,
):
    """Decides commands, from the first to the first that is no plain send or has no room; adds what they change to
    `changes`, and their outcomes to `writer`.

    `layers`: what is known, each over the next (state.Prefetched, or Changes); `index` and `command_offset`: of the last
    outcome, and a command that does not come after it ends the run; `size`: bytes that the batch is believed to hold,
    of `most_bytes`.

    Gives how many were decided, with the last of them and its seq and position; those that somebody waits for, each
    with index, seq and position; and `size` after them.
    """
    cdef ScannedSend send
    cdef ScannedSend last = None
    cdef Py_ssize_t more
    cdef Py_ssize_t count = 0
    cdef int64_t seq = 0
    cdef int64_t position = 0
    cdef tuple chats = tuple([layer.chats for layer in layers])
    cdef tuple members = tuple([layer.members for layer in layers])
    cdef tuple dedup = tuple([layer.dedup for layer in layers])
    cdef dict new_chats = changes.chats
    cdef dict new_dedup = changes.dedup
    senders = changes.senders
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
        new_dedup[send.command_key] = pack_dedup(digest(MESSAGE_SEND, send.record.value), seq, position, at_ms)
        writer.add_sent(send, at_ms, position, seq, term, index, source)
        if send.reply_to is not None:
            awaited.append((send, index, seq, position))
        size += more
        count += 1
        last = send
    return count, last, seq, position, awaited, size


cdef object NOT_PREFETCHED = object()


cdef inline object _known(tuple layers, object key):
    """The value that the first layer has that has one, or None where it says that there is none; else NOT_AT_HAND."""
    cdef PyObject* value
    cdef dict layer
    for layer in layers:
        value = PyDict_GetItemWithError(layer, key)
        if value != NULL:
            return <object>value
    return NOT_PREFETCHED
