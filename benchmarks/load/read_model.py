"""A filled read model, created without a log: chats of seven members, five of whom wrote in turn; on request of two and
of many members."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import md5
from uuid import UUID

from benchmarks.servers.database import session
from benchmarks.servers.ground import Log
from schemas.ids import ChatId, UserId
from services.projector.versions.migrations import migrate
from services.runtime.postgres.sql import load_sql

READER_OF_NOTHING = 5
"""The user who has read no message."""
READER_OF_ALL_BUT_TEN = 6


def chat_id(number: int) -> ChatId:
    """Return a chat id as read_model.sql creates it."""
    return ChatId(str(UUID(bytes=md5(f"chat {number}".encode(), usedforsecurity=False).digest())))


def user_id(number: int) -> UserId:
    return UserId(str(UUID(bytes=md5(f"user {number}".encode(), usedforsecurity=False).digest())))


async def filled(log: Log, *, chats: int, messages: int, of_two: int = 0, of_many: int = 0, many: int = 0) -> None:
    """Create the tables, and chats 1 to `chats` with `messages` messages each.

    :param of_two: the chat in which only the two readers are still present.
    :param of_many: the chat that has `many` members.
    """
    blocks = load_sql("benchmarks.load", "read_model.sql").bind()
    async with await session(log.dsn) as connection:
        await migrate(connection)
        values = {"from": 1, "to": chats, "messages": messages}
        for name in ("chats", "participants", "messages"):
            await connection.execute(blocks[name], values)
        if of_two:
            await connection.execute(blocks["all_but_two_left"], {"chat": of_two})
        if of_many:
            await connection.execute(blocks["many_joined"], {"chat": of_many, "members": many})
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")


async def with_reactions(log: Log, *, chat: int, emojis: int, users: int) -> None:
    """Add, to each message of a chat, `emojis` different emojis of `users` users each."""
    blocks = load_sql("benchmarks.load", "read_model.sql").bind()
    async with await session(log.dsn) as connection:
        for name in ("reactions", "reaction_counts", "messages_reacted"):
            await connection.execute(blocks[name], {"chat": chat, "emojis": emojis, "users": users})
        await connection.execute("VACUUM ANALYZE")


async def changed_since(
    log: Log, log_id: str, seen_index: int, *, partitions: int, readers: Mapping[int, int], changed: int
) -> None:
    """Add readers who have read everything, each to that many of the first chats, and let the last message of the first
    `changed` chats be after index `seen_index` of their partitions. All others have that index, or less."""
    blocks = load_sql("benchmarks.load", "read_model.sql").bind()
    async with await session(log.dsn) as connection:
        for reader, chats in readers.items():
            await connection.execute(blocks["reader_of_all"], {"user": reader, "to": chats})
        await connection.execute(blocks["changed_chats"], {"index": seen_index, "changed": changed})
        positions = {"partitions": partitions, "topic_id": log_id, "index": seen_index + 1}
        await connection.execute(blocks["positions"], positions)
        await connection.execute("VACUUM ANALYZE")
