"""A filled search: messages with words as often as in a natural language, created by the server; and what is asked."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from benchmarks.servers.database import session
from benchmarks.servers.ground import Log
from services.projector.versions.migrations import index_projection, migrate
from services.runtime.postgres.sql import load_sql

NEWEST: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
READER: Final = 1
"""The user who is in the first `mine` chats."""
_SQL: Final = load_sql("benchmarks.load", "search_rows.sql").bind()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRows:
    """How much there is to search."""

    messages: int
    chats: int
    mine: int
    words: int
    """Number of different words; the word of rank r is as frequent as 1/r."""
    days: int
    """Time between the oldest and the newest message."""


async def filled(log: Log, rows: SearchRows) -> float:
    """Create the tables and their rows. Returns the seconds in which the index of search was built."""
    values = {
        "messages": rows.messages, "chats": rows.chats, "mine": rows.mine, "words": rows.words, "days": rows.days,
        "newest": NEWEST, "from": 0, "to": rows.messages,
    }  # fmt: skip
    async with await session(log.dsn) as connection:
        await migrate(connection)
        await connection.execute(_SQL["forget_index"])
        await connection.execute(_SQL["forget_step"])
        for name in ("words", "words_by_rank", "chats", "participants", "messages", "search"):
            await connection.execute(_SQL[name], values)
        began = datetime.now(UTC)
        await index_projection(lambda: nullcontext(connection), 1, lambda _name: None)
        built_s = (datetime.now(UTC) - began).total_seconds()
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    return built_s


async def queries(log: Log, rows: SearchRows, count: int) -> Mapping[str, Sequence[str]]:
    """Return `count` queries of each kind: words by their rank, and words of messages that the reader can find."""
    chance = random.Random(5)
    async with await session(log.dsn) as connection:
        words: dict[int, str] = dict(await (await connection.execute(_SQL["words_by_their_rank"])).fetchall())
        found = await (await connection.execute(_SQL["texts"], {"count": 4 * count})).fetchall()
    texts = [text.split() for (text,) in found if text.count(" ") >= 3]
    few = max(2, rows.words // 5_000)

    def of_rank(first: int, last: int) -> list[str]:
        return [_exact(words[chance.randint(first, last)]) for _ in range(count)]

    def of_messages(number: int) -> list[list[str]]:
        return [chance.sample(chance.choice(texts), number) for _ in range(count)]

    return {
        "a common word": of_rank(1, few),
        "a less common word": of_rank(few, few * 10),
        "a rare word": of_rank(few * 100, rows.words),
        "a word of a message": [_exact(word) for (word,) in of_messages(1)],
        "two words of a message": [" ".join(map(_exact, pair)) for pair in of_messages(2)],
        "a phrase": ['"{} {}"'.format(*chance.choice(texts)[1:3]) for _ in range(count)],
        "a prefix of four letters": [word[:4] for (word,) in of_messages(1)],
    }


def _exact(word: str) -> str:
    return f'"{word}"'
