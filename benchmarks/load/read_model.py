"""A filled read model, created without a log: chats of seven members, five of whom wrote in turn."""

from __future__ import annotations

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


async def filled(log: Log, *, chats: int, messages: int) -> None:
    """Create the tables, and chats 1 to `chats` with `messages` messages each."""
    blocks = load_sql("benchmarks.load", "read_model.sql").bind()
    async with await session(log.dsn) as connection:
        await migrate(connection)
        values = {"from": 1, "to": chats, "messages": messages}
        for name in ("chats", "participants", "messages"):
            await connection.execute(blocks[name], values)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")


async def with_reactions(log: Log, *, chat: int, emojis: int, users: int) -> None:
    """Add, to each message of a chat, `emojis` different emojis of `users` users each."""
    blocks = load_sql("benchmarks.load", "read_model.sql").bind()
    async with await session(log.dsn) as connection:
        for name in ("reactions", "reaction_counts", "messages_reacted"):
            await connection.execute(blocks[name], {"chat": chat, "emojis": emojis, "users": users})
        await connection.execute("VACUUM ANALYZE")
