"""How many messages above a seq are deleted, without counting messages: kept by blocks of a chat's seqs. Pure.

A block of the shortest span has a bit for each of its seqs; a block of any span has the number of its deleted ones.
What lies above a seq is then the bits behind it in its own block, and of each span the blocks up to where one of the
next span begins: 15 rows at most of each, and of the longest as many as the chat has millions of messages
(sql/views.sql: chat.deleted_after). A deletion changes one row of each span; a batch changes each row once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from schemas.ids import ChatId
from services.projector.mapping.tables import BlockDeleted, ChatDeleted

SPANS: Final = (256, 4_096, 65_536, 1_048_576)
"""Seqs of a block. Each is sixteen times the one before: few rows to write, and few to read. sql/views.sql has the same
figures."""
_PLACES: Final = SPANS[0]


def chats_deleted(deleted: Iterable[tuple[ChatId, int]]) -> list[ChatDeleted]:
    """How many of these messages, (chat, seq), each chat has."""
    counts: dict[ChatId, int] = {}
    for chat_id, _ in deleted:
        counts[chat_id] = counts.get(chat_id, 0) + 1
    return [ChatDeleted(chat_id, count) for chat_id, count in counts.items()]


def blocks_deleted(deleted: Iterable[tuple[ChatId, int]]) -> list[BlockDeleted]:
    """The blocks that these messages, (chat, seq) each once, are counted in."""
    places: dict[tuple[ChatId, int], int] = {}
    for chat_id, seq in deleted:
        block, place = divmod(seq, _PLACES)
        # The first seq of a block is the leftmost bit: shifted to the left, those up to a seq fall out.
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
