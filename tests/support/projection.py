"""Support for the projector's tests.

Random valid histories, records written to tables without Kafka or to Kafka without a sequencer, and the tables as plain
rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple
from uuid import uuid4

from hypothesis import strategies as st
from pydantic import SecretStr

from schemas.bodies import Mark, MessageSend
from schemas.errors import Reason
from schemas.events import OtherOutcome
from schemas.ids import ChatId, UserId
from schemas.log import Stamp
from schemas.topics import topic_specs
from schemas.types import CommandType, EventType
from schemas.wire.encoding import Record, encode_outcome, event_source
from services.projector.mapping.lookups import lookups_of
from services.projector.mapping.rows import changes_of
from services.projector.mapping.search import SearchChanges, search_changes_of
from services.projector.mapping.tables import RowChanges
from services.projector.mapping.validity import ReaderPosition, classify_records
from services.projector.settings import topic_names
from services.projector.writing.apply import COPY_FROM_ROWS, apply_sql, load_position, look_up, schema_name, write_batch
from services.projector.writing.guard import Move
from services.projector.writing.search import search_sql, write_search
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.topics import create_topics
from services.runtime.postgres.pool import Connection
from services.runtime.settings import KafkaSettings, PostgresSettings
from tests.support.chat_log import ChatLog, LogRecord, Sent

TOPIC_ID: Final = "6f6c1f0e-8a4b-4d3c-9b1a-0a1b2c3d4e5f"
USERS: Final = tuple(UserId(f"{n:08d}-0000-4000-8000-000000000000") for n in range(1, 6))


class Action(NamedTuple):
    """One step of a random history: its kind, and three numbers that choose among the possibilities at that point."""

    what: str
    a: int
    b: int
    c: int


WHAT: Final = (
    "send", "send", "send", "send", "reply", "reply", "read", "read", "read", "delivered", "leave", "join", "join",
    "role", "role", "react", "react", "react", "unreact", "unreact", "rename", "edit", "edit", "delete", "delete",
    "delete", "create", "refused", "repeated", "unchanged", "open", "fenced", "copy",
)  # fmt: skip

actions: Final = st.lists(
    st.builds(Action, st.sampled_from(WHAT), st.integers(0, 1_000), st.integers(0, 1_000), st.integers(0, 1_000)),
    min_size=25,
    max_size=80,
)
"""Any list of actions is a history: an action that is impossible at its turn becomes a possible one, or nothing."""


@dataclass(slots=True)
class _Chat:
    chat_id: ChatId
    present: dict[UserId, list[int]]
    """Member → [read_seq, delivered_seq]."""
    creator: UserId
    direct: bool = False
    """Whether members cannot join or leave."""
    sent: list[Sent] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    reactions: list[tuple[UserId, int, str]] = field(default_factory=list)
    """Those that are there: (user, seq, emoji)."""


class History:
    """Writes actions into a ChatLog, with just enough state to accept only what is valid."""

    def __init__(self, log: ChatLog | None = None) -> None:
        self.log = log or ChatLog()
        self._chats: list[_Chat] = []
        self.log.open()

    def run(self, steps: Sequence[Action]) -> list[LogRecord]:
        for step in steps:
            getattr(self, f"_{step.what}")(step)
        return self.log.events

    def _chat(self, step: Action) -> _Chat:
        if not self._chats:
            self._create(step)
        chat = self._chats[step.a % len(self._chats)]
        if not chat.present:  # all members have left: its creator joins again
            self.log.add(chat.chat_id, chat.creator, chat.creator, "owner")
            chat.present[chat.creator] = [len(chat.sent), len(chat.sent)]
        return chat

    def _member(self, chat: _Chat, step: Action) -> UserId:
        return sorted(chat.present)[step.b % len(chat.present)]

    def _create(self, step: Action) -> None:
        creator, other = USERS[step.b % len(USERS)], USERS[step.c % len(USERS)]
        if step.a % 4 == 0:
            if any(c.direct and set(c.present) == {creator, other} for c in self._chats):
                return
            direct = self.log.create_direct(creator, other)
            self._chats.append(_Chat(direct, {user: [0, 0] for user in (creator, other)}, creator, direct=True))
        else:
            others = [user for n, user in enumerate(USERS) if user != creator and step.c >> n & 1]
            name = self.log.name_here(creator, f"chat {len(self._chats)}")
            group = self.log.create(creator, name, others)
            self._chats.append(_Chat(group, {user: [0, 0] for user in (creator, *others)}, creator))

    def _send(self, step: Action, reply_to: str | None = None) -> None:
        chat = self._chat(step)
        metadata = {"n": step.c} if step.c % 7 == 0 else None
        sent = self.log.send(
            chat.chat_id, self._member(chat, step), f"text {step.c}", metadata=metadata, reply_to_message_id=reply_to
        )
        chat.sent.append(sent)

    def _reply(self, step: Action) -> None:
        chat = self._chat(step)
        if chat.sent:
            self._send(step, reply_to=chat.sent[-1 - step.c % min(6, len(chat.sent))].id)

    def _read(self, step: Action) -> None:
        self._mark(step, 0, self.log.read)

    def _delivered(self, step: Action) -> None:
        self._mark(step, 1, self.log.delivered)

    def _mark(self, step: Action, cursor: int, mark: Callable[[ChatId, UserId, int], Sent]) -> None:
        chat = self._chat(step)
        user = self._member(chat, step)
        now, last = chat.present[user][cursor], len(chat.sent)
        if now < last:
            chat.present[user][cursor] = now + 1 + step.c % (last - now)
            mark(chat.chat_id, user, chat.present[user][cursor])

    def _delete(self, step: Action) -> None:
        """Delete any message as any member: the projector does not check permissions."""
        chat = self._chat(step)
        live = [seq for seq in range(1, len(chat.sent) + 1) if seq not in chat.deleted]
        if live:
            seq = live[-1 - step.c % len(live)]
            chat.deleted.add(seq)
            chat.reactions = [each for each in chat.reactions if each[1] != seq]
            self.log.delete(chat.chat_id, self._member(chat, step), seq)

    def _edit(self, step: Action) -> None:
        """Any live message, by its author, present or not: rights are not the projector's to judge."""
        chat = self._chat(step)
        live = [seq for seq in range(1, len(chat.sent) + 1) if seq not in chat.deleted]
        if live:
            seq = live[-1 - step.c % len(live)]
            author = chat.sent[seq - 1].command.sender_id
            assert author is not None
            media_urls = (None, [], [f"https://example.org/{step.b}"])[step.b % 3]
            metadata = {"e": step.b} if step.b % 2 else None
            self.log.edit(chat.chat_id, author, seq, f"edit {step.b}", media_urls=media_urls, metadata=metadata)

    def _react(self, step: Action) -> None:
        chat = self._chat(step)
        live = [seq for seq in range(1, len(chat.sent) + 1) if seq not in chat.deleted]
        if live:
            reaction = (self._member(chat, step), live[-1 - step.c % min(3, len(live))], "👍❤é"[step.c % 3])
            if reaction not in chat.reactions:
                chat.reactions.append(reaction)
                self.log.react(chat.chat_id, *reaction)

    def _unreact(self, step: Action) -> None:
        """Remove any reaction, also of a member who has left: the projector does not check permissions."""
        chat = self._chat(step)
        if chat.reactions:
            self.log.react(chat.chat_id, *chat.reactions.pop(step.c % len(chat.reactions)), remove=True)

    def _leave(self, step: Action) -> None:
        chat = self._chat(step)
        if not chat.direct:
            user = self._member(chat, step)
            self.log.remove(chat.chat_id, user, user)
            del chat.present[user]

    def _join(self, step: Action) -> None:
        chat = self._chat(step)
        absent = [user for user in USERS if user not in chat.present]
        if absent and not chat.direct:
            user = absent[step.c % len(absent)]
            self.log.add(chat.chat_id, self._member(chat, step), user, "admin" if step.c % 3 else "member")
            chat.present[user] = [len(chat.sent), len(chat.sent)]

    def _role(self, step: Action) -> None:
        """Set any role as any member: the projector does not check permissions."""
        chat = self._chat(step)
        if not chat.direct:
            user, by = self._member(chat, step), sorted(chat.present)[step.c % len(chat.present)]
            self.log.role(chat.chat_id, by, user, ("owner", "admin", "member")[step.c % 3])

    def _rename(self, step: Action) -> None:
        chat = self._chat(step)
        if not chat.direct:
            self.log.rename(chat.chat_id, self._member(chat, step), f"name {step.c}")

    def _refused(self, step: Action) -> None:
        chat = self._chat(step)
        command = self.log.command(CommandType.MESSAGE_SEND, chat.chat_id, USERS[0], MessageSend(text="no"))
        self.log.reject(command, Reason.NOT_MEMBER)

    def _repeated(self, step: Action) -> None:
        chat = self._chat(step)
        if chat.sent:
            self.log.duplicate(chat.sent[step.c % len(chat.sent)])

    def _unchanged(self, step: Action) -> None:
        chat = self._chat(step)
        user = self._member(chat, step)
        self.log.unchanged(self.log.command(CommandType.READ_MARK, chat.chat_id, user, Mark(up_to_seq=0)))

    def _open(self, _: Action) -> None:
        self.log.open()

    def _fenced(self, step: Action) -> None:
        """Append a record of an earlier term, as a replaced writer would: void."""
        outcome = OtherOutcome(
            type=EventType.MESSAGE_SENT, at_ms=self.log.at_ms, body=b"not even read", position=1, seq=1
        )
        stamp = Stamp(self.log.term - 1, self.log.index + 1 + step.a, 1)
        self.log.append(encode_outcome(outcome, stamp, event_source(self.log.partition)))

    def _copy(self, step: Action) -> None:
        """Append a batch a second time: void."""
        again = self.log.events[-1 - step.a % min(4, len(self.log.events))]
        self.log.append(again.encoded())


@dataclass(frozen=True, slots=True)
class Written:
    position: ReaderPosition
    changes: RowChanges
    voids: int


async def write_records(
    connection: Connection,
    version: int,
    records: Sequence[Record],
    *,
    partition: int = 0,
    copy_from: int = COPY_FROM_ROWS,
) -> Written:
    """Write one batch to a projection with the projector's own functions; `connection` is in autocommit."""
    sql = apply_sql(version)
    _, start = await load_position(connection, sql, partition=partition, topic_id=TOPIC_ID)
    classified = classify_records(start, records, read_up_to=records[-1].offset + 1)
    assert classified.stop is None, classified.stop
    looked_up = await look_up(connection, sql, lookups_of(classified.events))
    changes = changes_of(classified.events, looked_up, partition=partition, outcomes_since_ms=0)
    move = Move(partition=partition, topic_id=TOPIC_ID, start=start, end=classified.end)
    await write_batch(connection, sql, move, changes, copy_from=copy_from)
    return Written(classified.end, changes, classified.voids)


async def write_search_records(
    connection: Connection,
    version: int,
    records: Sequence[Record],
    *,
    partition: int = 0,
    copy_from: int = COPY_FROM_ROWS,
) -> SearchChanges:
    """Write one batch to a projection's search with the projector's own functions; `connection` is in autocommit."""
    sql = search_sql(version)
    _, start = await load_position(connection, sql, partition=partition, topic_id=TOPIC_ID)
    classified = classify_records(start, records, read_up_to=records[-1].offset + 1)
    assert classified.stop is None, classified.stop
    changes = search_changes_of(classified.events)
    move = Move(partition=partition, topic_id=TOPIC_ID, start=start, end=classified.end)
    await write_search(connection, sql, move, changes, copy_from=copy_from)
    return changes


async def write_changes(connection: Connection, version: int, changes: RowChanges) -> None:
    """Write any changes as the next batch of partition 0, whatever log they come from."""
    sql = apply_sql(version)
    _, start = await load_position(connection, sql, partition=0, topic_id=TOPIC_ID)
    end = replace(start, next_offset=start.next_offset + 1)
    await write_batch(connection, sql, Move(partition=0, topic_id=TOPIC_ID, start=start, end=end), changes)


TABLES: Final = {
    "chats": "chat_id",
    "chat_participants": "chat_id, user_id",
    "chat_messages": "chat_id, seq",
    "earlier_texts": "chat_id, seq, revision",
    "deleted_blocks": "chat_id, span, block",
    "reactions": "chat_id, seq, emoji, user_id",
    "reaction_counts": "chat_id, seq, emoji",
    "outcomes": "partition, index",
    "projection_positions": "partition",
    "message_search": "chat_id, seq",
    "search_positions": "partition",
}


NOT_DUMPED: Final = {"updated_at", "last_record", "last_record_at"}
"""Columns of a position that say when it was written and identify its last record."""


async def dump(connection: Connection, schema: str) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table, without the times at which they were written."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for table, order in TABLES.items():
        cursor = await connection.execute(f"SELECT * FROM {schema}.{table} ORDER BY {order}".encode())
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
        rows[table] = [{k: v for k, v in row.items() if k not in NOT_DUMPED} for row in found]
    return rows


async def empty(connection: Connection, version: int) -> None:
    schema = schema_name(version)
    for table in (
        "deleted_blocks", "earlier_texts", "reactions", "reaction_counts", "chat_participants", "chat_messages",
        "chats", "outcomes", "projection_positions", "message_search", "search_positions",
    ):  # fmt: skip
        await connection.execute(f"DELETE FROM {schema}.{table}".encode())


CONTRADICTIONS: Final = """
    SELECT 'own_live_after_read', p.chat_id::text, p.user_id::text FROM {s}.chat_participants p
    WHERE p.own_live_after_read <> (
        SELECT count(*) FROM {s}.chat_messages m
        WHERE m.chat_id = p.chat_id AND m.sender_id = p.user_id AND m.seq > p.read_seq AND m.deleted_at IS NULL)
    UNION ALL
    SELECT 'reply_count', m.chat_id::text, m.seq::text FROM {s}.chat_messages m
    WHERE (m.reply_count, coalesce(m.last_reply_seq, 0)) <> (
        SELECT count(*), coalesce(max(r.seq), 0) FROM {s}.chat_messages r
        WHERE r.chat_id = m.chat_id AND r.root_seq = m.seq AND r.deleted_at IS NULL)
    UNION ALL
    SELECT 'root_seq', r.chat_id::text, r.seq::text
    FROM {s}.chat_messages r JOIN {s}.chat_messages a ON a.message_id = r.reply_to_message_id
    WHERE r.root_seq IS DISTINCT FROM coalesce(a.root_seq, a.seq)
    UNION ALL
    SELECT 'changed_position', m.chat_id::text, m.seq::text FROM {s}.chat_messages m
    WHERE m.deleted_at IS NULL AND m.edited_at IS NULL AND m.changed_position < greatest(m.position, (
        SELECT max(r.position) FROM {s}.chat_messages r WHERE r.chat_id = m.chat_id AND r.root_seq = m.seq), (
        SELECT max(r.changed_position) FROM {s}.chat_messages r
        WHERE r.chat_id = m.chat_id AND r.root_seq = m.seq AND r.deleted_at IS NOT NULL AND r.reply_count = 0), (
        SELECT max(r.changed_position) FROM {s}.reactions r WHERE r.chat_id = m.chat_id AND r.seq = m.seq))
    UNION ALL
    SELECT 'reaction_counts', coalesce(c.chat_id, r.chat_id)::text, coalesce(c.emoji, r.emoji)
    FROM {s}.reaction_counts c FULL JOIN (
        SELECT chat_id, seq, emoji, count(*) AS users, min(changed_position) AS earliest
        FROM {s}.reactions GROUP BY 1, 2, 3
    ) r ON r.chat_id = c.chat_id AND r.seq = c.seq AND r.emoji = c.emoji
    WHERE c.users IS DISTINCT FROM r.users OR c.first_position > r.earliest
    UNION ALL
    SELECT 'revision', m.chat_id::text, m.seq::text FROM {s}.chat_messages m
    WHERE (m.revision = 0) <> (m.edited_at IS NULL)
    UNION ALL
    SELECT 'earlier_texts', m.chat_id::text, m.seq::text FROM {s}.chat_messages m
    WHERE (SELECT count(*) FROM {s}.earlier_texts t WHERE t.chat_id = m.chat_id AND t.seq = m.seq)
        <> CASE WHEN m.deleted_at IS NULL THEN m.revision ELSE 0 END
    UNION ALL
    SELECT 'changed_index', c.chat_id::text, c.changed_index::text FROM {s}.chats c
    WHERE c.changed_index IS NULL OR c.changed_index < coalesce((
        SELECT max(p.changed_index) FROM {s}.chat_participants p WHERE p.chat_id = c.chat_id), 0)
    UNION ALL
    SELECT 'deleted', m.chat_id::text, m.seq::text FROM {s}.chat_messages m
    WHERE (m.deleted_at IS NULL) <> (m.message_text IS NOT NULL)
       OR m.deleted_at IS NOT NULL AND (m.media_urls <> '{}' OR m.metadata IS NOT NULL)
    UNION ALL
    SELECT 'deleted_total', c.chat_id::text, c.deleted_total::text FROM {s}.chats c
    WHERE c.deleted_total <> (
        SELECT count(*) FROM {s}.chat_messages m WHERE m.chat_id = c.chat_id AND m.deleted_at IS NOT NULL)
    UNION ALL
    SELECT 'deleted_blocks', b.chat_id::text, b.span || '/' || b.block FROM {s}.deleted_blocks b
    WHERE b.deleted <> (
        SELECT count(*) FROM {s}.chat_messages m
        WHERE m.chat_id = b.chat_id AND m.seq / b.span = b.block AND m.deleted_at IS NOT NULL)
       OR (b.span = 256) <> (b.places IS NOT NULL) OR bit_count(b.places) <> b.deleted
    UNION ALL
    SELECT 'last_seq', c.chat_id::text, c.last_seq::text FROM {s}.chats c, LATERAL (
        SELECT coalesce(max(seq), 0) AS last, count(*) AS all_of_them, max(sent_at) AS at
        FROM {s}.chat_messages WHERE chat_id = c.chat_id) m
    WHERE c.last_seq <> m.last OR c.last_seq <> m.all_of_them OR c.last_message_at IS DISTINCT FROM m.at
"""
"""Recomputes columns from the rows that they summarise; each row of the result is a wrong value."""


async def contradictions(connection: Connection, schema: str) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(CONTRADICTIONS.replace("{s}", schema).encode())
    return list(await cursor.fetchall())


def postgres_of(dsn: str) -> PostgresSettings:
    return PostgresSettings(dsn=SecretStr(dsn))


def log_of_its_own(kafka: str, *, partitions: int = 1) -> KafkaSettings:
    """Return settings of a log that no other test uses."""
    return KafkaSettings(
        bootstrap_servers=kafka, topic_prefix=f"t{uuid4().hex[:10]}.", partitions=partitions, session_timeout_s=6.0
    )


async def make_topics(kafka: KafkaSettings, *, commands: bool = False) -> None:
    """Create the events topic of a separate log with the production settings, and the commands topic if `commands`."""
    names = topic_names(kafka)
    specs = topic_specs(
        names, partitions=kafka.partitions, reply_partitions=kafka.reply_partitions, replication_factor=1
    )
    await create_topics(kafka.connection, [spec for spec in specs if spec.name == names.events or commands])


class LogWriter:
    """Appends the content of a ChatLog to its partition of `chat.events`, in order."""

    def __init__(self, kafka: KafkaSettings, log: ChatLog) -> None:
        self._topic = topic_names(kafka).events
        self._log = log
        self._producer = Producer(kafka=kafka.connection, client_id="test")
        self._sent = 0

    async def __aenter__(self) -> LogWriter:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def flush(self) -> int:
        """Append everything new and return the end offset of the partition."""
        end = self._sent
        while self._sent < len(self._log.events):
            records = self._log.events[self._sent : self._sent + 500]
            offsets = await asyncio.gather(
                *(self._producer.send(self._topic, self._log.partition, r.encoded(), 20.0) for r in records)
            )
            assert list(offsets) == [r.offset for r in records], "the log in Kafka is not the one in memory"
            self._sent += len(records)
            end = offsets[-1] + 1
        return end


async def until(met: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float = 120.0) -> None:
    """Poll until the condition holds; fail with `what` after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not await met():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.01)
