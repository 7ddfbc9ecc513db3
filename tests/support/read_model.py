"""A read model written by hand: rows as the projector writes them, inserted by plain SQL, and query on top of it.

    with read_model_database(postgres) as dsn, world_of(dsn) as world:
        chat = world.chat(anna, ben)
        world.send(chat, anna, "hello")
        async with Api(dsn) as api:
            await api.json(f"/v1/chats/{chat}/messages", ben)

Each test makes its own chats and users, so the tests of a module share a database.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import psycopg
from fastapi import FastAPI
from psycopg.types.json import Jsonb

from schemas import ids
from schemas.ids import ChatId, UserId
from schemas.search import lexemes
from services.projector.versions.migrations import migrate
from services.query.app import QueryService, create_app
from services.query.settings import QueryProcessSettings, QuerySettings
from services.runtime.access.auth import mint_token
from services.runtime.settings import AuthSettings, KafkaSettings, PostgresSettings
from tests.support.stack import fresh_database

SECRET = "a secret of at least thirty-two bytes"
PARTITIONS = 8
T = TypeVar("T")


def somebody() -> UserId:
    """Return a new user."""
    return UserId(str(uuid4()))


@contextmanager
def read_model_database(postgres: str) -> Iterator[str]:
    """Yield the DSN of an empty database, migrated as the projector's release needs it."""

    async def prepare(dsn: str) -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await migrate(connection)

    with fresh_database(postgres) as dsn:
        asyncio.run(prepare(dsn))
        yield dsn


@contextmanager
def world_of(dsn: str, schema: str = "chat_v1") -> Iterator[World]:
    with psycopg.connect(dsn, autocommit=True, options=f"-c search_path={schema}") as connection:
        yield World(connection, dsn)


class World:
    """Writes into the tables of one projection; every method commits."""

    def __init__(self, connection: psycopg.Connection, dsn: str) -> None:
        self._connection = connection
        self.dsn = dsn

    def sql(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Run any statement, with table names without a schema."""
        cursor = self._connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description is not None else []

    def columns(self, statement: str) -> tuple[str, ...]:
        """Return the names of a statement's columns."""
        return tuple(column.name for column in self._connection.execute(statement.encode()).description or ())

    def transaction(self) -> AbstractContextManager[object]:
        """Return a transaction: what is written inside becomes visible at its end, all at once."""
        return self._connection.transaction()

    def chat(self, *members: UserId, name: str = "ops", created_at: str = "2026-01-01T00:00:00Z") -> ChatId:
        """Create a group of these members, the first its owner."""
        chat_id = ChatId(str(uuid4()))
        self.copy_chat(chat_id, members, name, created_at)
        return chat_id

    def copy_chat(self, chat_id: ChatId, members: Iterable[UserId], name: str, created_at: str) -> None:
        owner, *others = members
        self.sql(
            "INSERT INTO chats (chat_id, kind, name, created_by, created_at, last_seq, last_position)"
            " VALUES (%(chat)s, 'group', %(name)s, %(owner)s, %(at)s, 0, 1)",
            chat=chat_id, name=name, owner=owner, at=created_at,
        )  # fmt: skip
        self.join(chat_id, owner, role="owner", at=created_at)
        for user in others:
            self.join(chat_id, user, at=created_at)

    def join(self, chat: ChatId, user: UserId, *, role: str = "member", at: str = "2026-01-01T00:00:00Z") -> None:
        """Add a member, or a former one, whose cursors then start anew."""
        self.sql(
            "INSERT INTO chat_participants (chat_id, user_id, role, joined_at, joined_seq, read_seq, delivered_seq,"
            " own_live_after_read, changed_position) SELECT chat_id, %(user)s, %(role)s, %(at)s, last_seq, last_seq,"
            " last_seq, 0, last_position FROM chats WHERE chat_id = %(chat)s"
            " ON CONFLICT (chat_id, user_id) DO UPDATE SET role = excluded.role,"
            " joined_at = excluded.joined_at, joined_seq = excluded.joined_seq, left_at = NULL,"
            " read_seq = excluded.read_seq, delivered_seq = excluded.delivered_seq, own_live_after_read = 0",
            chat=chat, user=user, role=role, at=at,
        )  # fmt: skip

    def leave(self, chat: ChatId, user: UserId) -> None:
        self.sql(
            "UPDATE chat_participants SET left_at = now() WHERE chat_id = %(chat)s AND user_id = %(user)s",
            chat=chat, user=user,
        )  # fmt: skip

    def send(self, chat: ChatId, sender: UserId, text: str = "hello", **columns: object) -> int:
        """Insert one message and return its seq. `columns` overrides what the row holds."""
        with self._connection.transaction():
            ((seq, position),) = self.sql(
                "UPDATE chats SET last_seq = last_seq + 1, last_position = last_position + 1,"
                " last_message_at = coalesce(%(at)s, now()) WHERE chat_id = %(chat)s RETURNING last_seq, last_position",
                chat=chat, at=columns.get("sent_at"),
            )  # fmt: skip
            key = f"k-{seq}"
            row: dict[str, object] = {
                "chat_id": chat, "seq": seq, "message_id": ids.command_id(chat, sender, key), "sender_id": sender,
                "message_text": text, "client_generated_id": key, "reply_count": 0, "media_urls": [],
                "sent_at": "now", "position": position, "changed_position": position,
            }  # fmt: skip
            row |= {name: Jsonb(value) if name == "metadata" else value for name, value in columns.items()}
            values = ", ".join(f"%({name})s" for name in row)
            self.sql(f"INSERT INTO chat_messages ({', '.join(row)}) VALUES ({values})", **row)
            self.sql(
                "UPDATE chat_participants SET own_live_after_read = own_live_after_read + 1"
                " WHERE chat_id = %(chat)s AND user_id = %(sender)s",
                chat=chat, sender=sender,
            )  # fmt: skip
            self.index(chat, seq)
        return int(seq)

    def index(self, chat: ChatId, seq: int) -> None:
        """Make the row of search what the message's row says. Only `send` does so by itself."""
        self.sql("DELETE FROM message_search WHERE chat_id = %(chat)s AND seq = %(seq)s", chat=chat, seq=seq)
        ((text, sent_ms),) = self.sql(
            "SELECT message_text, (extract(epoch FROM sent_at) * 1000)::bigint FROM chat_messages"
            " WHERE chat_id = %(chat)s AND seq = %(seq)s",
            chat=chat, seq=seq,
        )  # fmt: skip
        if text is not None:
            self.sql(
                "INSERT INTO message_search (chat_id, seq, sender_id, sent_at, tokens) SELECT chat_id, seq, sender_id,"
                " sent_at, array_to_tsvector(%(lexemes)s::text[]) FROM chat_messages"
                " WHERE chat_id = %(chat)s AND seq = %(seq)s",
                chat=chat, seq=seq, lexemes=lexemes(chat, sent_ms, text),
            )  # fmt: skip

    def delete(self, chat: ChatId, seq: int) -> None:
        with self._connection.transaction():
            self.sql(
                "UPDATE chat_messages SET message_text = NULL, media_urls = '{}', metadata = NULL, deleted_at = now()"
                " WHERE chat_id = %(chat)s AND seq = %(seq)s",
                chat=chat, seq=seq,
            )  # fmt: skip
            self.sql(
                "UPDATE chat_participants p SET own_live_after_read = own_live_after_read - 1 FROM chat_messages m"
                " WHERE m.chat_id = %(chat)s AND m.seq = %(seq)s AND p.chat_id = m.chat_id AND p.user_id = m.sender_id"
                " AND p.read_seq < m.seq",
                chat=chat, seq=seq,
            )  # fmt: skip
            self.sql("UPDATE chats SET deleted_total = deleted_total + 1 WHERE chat_id = %(chat)s", chat=chat)
            self.sql(
                "INSERT INTO deleted_blocks AS b SELECT %(chat)s, span, %(seq)s / span, 1,"
                " CASE WHEN span = 256 THEN set_bit(repeat('0', 256)::bit(256), %(seq)s %% 256, 1) END"
                " FROM unnest(ARRAY[256, 4096, 65536, 1048576]) AS span ON CONFLICT (chat_id, span, block)"
                " DO UPDATE SET deleted = b.deleted + 1, places = b.places | excluded.places",
                chat=chat, seq=seq,
            )  # fmt: skip

    def react(self, chat: ChatId, seq: int, user: UserId, emoji: str) -> None:
        """Add a reaction, and count it."""
        (position,) = self.sql(
            "UPDATE chats SET last_position = last_position + 1 WHERE chat_id = %(chat)s RETURNING last_position",
            chat=chat,
        )[0]
        values = {"chat": chat, "seq": seq, "user": user, "emoji": emoji, "position": position}
        self.sql(
            "INSERT INTO reactions (chat_id, seq, emoji, user_id, changed_position)"
            " VALUES (%(chat)s, %(seq)s, %(emoji)s, %(user)s, %(position)s)",
            **values,
        )
        self.sql(
            "INSERT INTO reaction_counts (chat_id, seq, emoji, users, first_position)"
            " VALUES (%(chat)s, %(seq)s, %(emoji)s, 1, %(position)s)"
            " ON CONFLICT (chat_id, seq, emoji) DO UPDATE SET users = reaction_counts.users + 1",
            **values,
        )
        self.sql(
            "UPDATE chat_messages SET changed_position = %(position)s WHERE chat_id = %(chat)s AND seq = %(seq)s",
            chat=chat, seq=seq, position=position,
        )  # fmt: skip

    def mark(self, chat: ChatId, user: UserId, *, read: int | None = None, delivered: int | None = None) -> None:
        self.sql(
            "UPDATE chat_participants p SET read_seq = coalesce(%(read)s, read_seq),"
            " last_read_at = CASE WHEN %(read)s::bigint IS NULL THEN last_read_at ELSE '2026-02-03T04:05:06.789Z' END,"
            " delivered_seq = coalesce(%(delivered)s, delivered_seq), own_live_after_read = (SELECT count(*) FROM"
            " chat_messages m WHERE m.chat_id = p.chat_id AND m.sender_id = p.user_id AND m.deleted_at IS NULL"
            " AND m.seq > coalesce(%(read)s, p.read_seq)) WHERE chat_id = %(chat)s AND user_id = %(user)s",
            chat=chat, user=user, read=read, delivered=delivered,
        )  # fmt: skip

    def head(self, partition: int, *, index: int, command_offset: int = 0, table: str = "projection_positions") -> None:
        """Set how far the projection of a partition, or its search, has come."""
        self.sql(
            f"INSERT INTO {table} (partition, topic_id, next_offset, term, index, command_offset,"
            " last_timestamp_ms, updated_at) VALUES (%(partition)s, 't', %(index)s, 1, %(index)s, %(offset)s, 0, now())"
            " ON CONFLICT (partition) DO UPDATE SET index = excluded.index, command_offset = excluded.command_offset",
            partition=partition, index=index, offset=command_offset,
        )  # fmt: skip

    def outcome(
        self, partition: int, index: int, command_id: str, sender: UserId, outcome: str, **more: object
    ) -> None:
        row: dict[str, object] = {
            "partition": partition, "index": index, "command_id": command_id, "sender_id": sender,
            "outcome": outcome, "type": f"command.{outcome}.v1", "at": "now", **more,
        }  # fmt: skip
        values = ", ".join(f"%({name})s" for name in row)
        self.sql(f"INSERT INTO outcomes ({', '.join(row)}) VALUES ({values})", **row)


class Api:
    """Query's application on a database, called without a socket."""

    def __init__(
        self, dsn: str, *, at_least_timeout_s: float = 20.0, read_timeout_s: float = 10.0, **pool: Any
    ) -> None:
        query = QuerySettings(
            postgres=PostgresSettings(dsn=dsn, **pool),
            kafka=KafkaSettings(partitions=PARTITIONS),
            at_least_timeout_s=at_least_timeout_s,
            read_timeout_s=read_timeout_s,
        )
        self.app: FastAPI
        self.service: QueryService
        self.app, self.service = create_app(QueryProcessSettings(query=query, auth=AuthSettings(secret=SECRET)))
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://query")

    async def __aenter__(self) -> Api:
        await self.service.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        await self.service.stop()

    async def get(
        self,
        path: str,
        user: UserId,
        *,
        at_least: str | None = None,
        if_none_match: str | None = None,
        scopes: Iterable[str] = (),
        **query: object,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {mint_token(SECRET, user, scopes=scopes)}"}
        if at_least is not None:
            headers["Gapless-At-Least"] = at_least
        if if_none_match is not None:
            headers["If-None-Match"] = if_none_match
        given = {name: str(value) for name, value in query.items() if value is not None}
        return await self._client.get(path, headers=headers, params=given)

    async def post(self, path: str, user: UserId, body: object, *, at_least: str | None = None) -> httpx.Response:
        return await self.post_raw(path, user, json.dumps(body).encode(), "application/json", at_least=at_least)

    async def post_raw(
        self, path: str, user: UserId, body: bytes, content_type: str, *, at_least: str | None = None
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {mint_token(SECRET, user)}", "Content-Type": content_type}
        if at_least is not None:
            headers["Gapless-At-Least"] = at_least
        return await self._client.post(path, headers=headers, content=body)

    async def json(self, path: str, user: UserId, **more: Any) -> Any:
        """Return the body of an answer that must be 200."""
        answer = await self.get(path, user, **more)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()


def run(dsn: str, story: Callable[[Api], Awaitable[T]], **settings: Any) -> T:
    """Return the result of a story that runs with a started Api."""

    async def inside() -> T:
        async with Api(dsn, **settings) as api:
            return await story(api)

    return asyncio.run(inside())
