"""How many messages above a seq are deleted, counted by blocks of a chat's seqs instead of by message. Pure.

A block of the shortest span has a bit for each of its seqs; a block of any span has the number of its deleted
messages. The count above a seq is then the sum of the bits after it in its own block and, of each span, the blocks up
to where a block of the next span begins: at most 15 rows of each span, and of the longest as many as the chat has
millions of messages (sql/views.sql: chat.deleted_after). A deletion changes one row of each span; a batch changes each
row once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from schemas.ids import ChatId
from services.projector.mapping.tables import BlockDeleted, ChatDeleted

SPANS: Final = (256, 4_096, 65_536, 1_048_576)
"""Numbers of seqs in a block. Each is sixteen times the one before: few rows to write, and few to read. sql/views.sql
has the same numbers."""
_PLACES: Final = SPANS[0]


def chats_deleted(deleted: Iterable[tuple[ChatId, int]]) -> list[ChatDeleted]:
    """Return how many of these messages, (chat, seq), each chat has."""
    counts: dict[ChatId, int] = {}
    for chat_id, _ in deleted:
        counts[chat_id] = counts.get(chat_id, 0) + 1
    return [ChatDeleted(chat_id, count) for chat_id, count in counts.items()]


def blocks_deleted(deleted: Iterable[tuple[ChatId, int]]) -> list[BlockDeleted]:
    """Return the blocks in which these messages, (chat, seq) each once, are counted."""
    places: dict[tuple[ChatId, int], int] = {}
    for chat_id, seq in deleted:
        block, place = divmod(seq, _PLACES)
        # The first seq of a block is the leftmost bit: a left shift drops the bits up to a seq.
        places[chat_id, block] = places.get((chat_id, block), 0) | 1 << (_PLACES - 1 - place)
    rows: list[BlockDeleted] = []
    counts: dict[tuple[ChatId, int, int], int] = {}
    for (chat_id, block), bits in places.items():
        rows.append(BlockDeleted(chat_id, _PLACES, block, bits.bit_count(), f"{bits:0{_PLACES}b}"))
        for span in SPANS[1:]:
            key = (chat_id, span, block * _PLACES // span)
            counts[key] = counts.get(key, 0) + bits.bit_count()
    rows += [BlockDeleted(*key, count, None) for key, count in counts.items()]
    return rows
