"""A chat with half its messages deleted, written to the tables by the projector's own mapping and statements.

Only the log is left out: the events are created here as the projector decodes them. Takes half a minute for a million
messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from benchmarks.load.read_model import READER_OF_ALL_BUT_TEN, READER_OF_NOTHING, chat_id, user_id
from benchmarks.servers.database import session
from benchmarks.servers.ground import Log
from schemas.bodies import Body, ChatCreate, Mark, MessageDelete, MessageSend
from schemas.ids import CommandId, UserId
from schemas.types import EventType
from services.projector.mapping.decode import ChangeEvent, Event, MessageEvent
from services.projector.mapping.lookups import lookups_of
from services.projector.mapping.rows import changes_of
from services.projector.mapping.validity import ReaderPosition
from services.projector.versions.migrations import migrate
from services.projector.writing.apply import apply_sql, load_position, look_up, write_batch
from services.projector.writing.guard import Move

WRITER: Final = 0
"""The user who has read nothing and wrote a tenth of the messages, none of which is deleted; of those of
read_model.filled it wrote a fifth."""
LIVE_UNREAD: Final = 10
"""Number of live messages above the cursor of READER_OF_ALL_BUT_TEN, in addition to as many deleted ones."""
_AT_MS: Final = 1_700_000_000_000
_BATCH: Final = 20_000
_TEXT: Final = "x" * 239


async def filled_and_half_deleted(log: Log, *, messages: int) -> None:
    """Create the tables and chat 1. `messages` is a multiple of ten."""
    sql = apply_sql(1)
    async with await session(log.dsn) as connection:
        await migrate(connection)
        _, start = await load_position(connection, sql, partition=0, topic_id="benchmark")
        events_to_come = _events(messages)
        while events := list(islice(events_to_come, _BATCH)):
            looked_up = await look_up(connection, sql, lookups_of(events))
            changes = changes_of(events, looked_up, partition=0, outcomes_since_ms=_AT_MS + 1)
            end = ReaderPosition(next_offset=start.next_offset + len(events), head=start.head)
            move = Move(partition=0, topic_id="benchmark", start=start, end=end, durable=False)
            await write_batch(connection, sql, move, changes)
            start = end
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")


def _events(messages: int) -> Iterator[Event]:
    """Yield the creation, the messages in turn, one receipt, and then the deletion of every other message."""
    members = [user_id(number) for number in range(7)]
    yield _event(1, EventType.CHAT_CREATED, members[0], ChatCreate(kind="group", name="bench", members=[*members[1:]]))
    for seq in range(1, messages + 1):
        yield _event(1 + seq, EventType.MESSAGE_SENT, _sender(members, seq), MessageSend(text=_TEXT), seq)
    reader = members[READER_OF_ALL_BUT_TEN]
    yield _event(2 + messages, EventType.READ_ADVANCED, reader, Mark(messages - 2 * LIVE_UNREAD))
    for seq in range(1, messages + 1, 2):
        yield _event(3 + messages + seq // 2, EventType.MESSAGE_DELETED, members[0], MessageDelete(seq))


def _sender(members: Sequence[UserId], seq: int) -> UserId:
    writers = members[WRITER + 1 : READER_OF_NOTHING]
    return members[WRITER] if seq % 10 == 0 else writers[seq % len(writers)]


def _event(position: int, event: EventType, sender_id: UserId, body: Body, seq: int | None = None) -> Event:
    command_id = CommandId(f"00000000-0000-5000-8000-{position:012x}")
    shared = (position, event.value, _AT_MS, chat_id(1), sender_id, position, body)
    if seq is None:
        return ChangeEvent(*shared, seq=None, command_id=command_id)
    return MessageEvent(*shared, seq=seq, command_id=command_id, client_generated_id=f"k-{position}")
