"""Search: messages of the caller's chats by their words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Response
from psycopg.types.numeric import Int8
from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from schemas.checks import parse_instant
from schemas.errors import Refused
from schemas.instants import instant_of
from services.query.api.cursors import HIGHEST_UUID, SearchCursor, decode_search, encode_search
from services.query.api.examples import ANNA, CHAT
from services.query.api.json_text import dumps
from services.query.api.parameters import AtLeastHeader, ListParameters, WireUuid
from services.query.api.reads import Reads
from services.query.api.route import OF_ANY, CallerOfRequest, json_response
from services.query.problems import invalid_parameter
from services.query.search.matching import find
from services.query.search.snippets import snippet_of
from services.query.search.terms import MAX_QUERY_CHARACTERS, NothingToSearch, SearchQuery, parse
from services.query.snapshot.at_least import Token
from services.query.snapshot.reader import Row
from services.runtime.access.auth import Caller
from services.runtime.web.openapi import example

FEW_CHATS: Final = 50
"""Number of the caller's chats up to which the index finds only messages of these; else each row found is checked."""
FEW_CHATS_OF_A_PREFIX: Final = 200
"""The same for a query of nothing but a prefix, which costs more."""
CANDIDATES: Final = 400
"""Maximum messages whose texts one request compares with a query."""
CANDIDATES_FOR_EACH: Final = 4
"""Candidates for each item of the page, if the index alone cannot answer the query."""
TEXT_CHARACTERS: Final = 200_000
"""Code points of text after which a request compares no more."""

_EXAMPLE: Final[dict[str, Any]] = {
    "chat_id": CHAT,
    "seq": 1,
    "message_id": "c6e6b694-c64b-5364-9024-70428ec7b06e",
    "sender_id": ANNA,
    "sent_at": "2026-01-31T12:00:00.045Z",
    "snippet": "Is the log gap-free?",
    "snippet_start": 0,
    "matches": [{"start": 7, "end": 10}],
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Match(BaseModel):
    """A part of the snippet, in Unicode code points: from `start` to before `end`."""

    start: int
    end: int


class FoundMessage(BaseModel):
    """A message that the search found. The snippet is plain text, never markup."""

    model_config = example(_EXAMPLE)

    chat_id: UUID
    seq: int
    message_id: UUID
    sender_id: UUID
    sent_at: datetime
    snippet: str = Field(description="The text around its first match: at most 200 code points.")
    snippet_start: int = Field(description="Where the snippet begins in the text, in code points.")
    matches: list[Match] = Field(description="Where the words are in the snippet, in its order.")


class FoundMessages(BaseModel):
    model_config = example({"items": [_EXAMPLE], "next": None})

    items: list[FoundMessage]
    next: str | None


def _instant(text: str) -> str:
    try:
        parse_instant(text)
    except Refused as refused:
        raise ValueError(refused.detail) from None
    return text


Instant = Annotated[str, AfterValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]


class SearchParameters(ListParameters):
    q: str = Field(
        max_length=MAX_QUERY_CHARACTERS,
        description="Words, all of which the text must have. The last one may go on, if it has three letters or more;"
        ' words in "quotes" must follow each other.',
    )
    chat_id: WireUuid | None = Field(default=None, description="Only messages of this chat.")
    sender_id: WireUuid | None = Field(default=None, description="Only messages of this sender.")
    before: Instant | None = Field(default=None, description="Only messages sent before this time.")
    after: Instant | None = Field(default=None, description="Only messages sent after this time.")


SearchParametersQuery = Annotated[SearchParameters, Query()]


class _Found(NamedTuple):
    """A row of the statement `search`."""

    chat_id: str
    seq: int
    sender_id: str
    sent_us: int
    message_id: str | None
    text: str | None
    """None if the message is deleted, or not yet in history."""

    @property
    def cursor(self) -> SearchCursor:
        return SearchCursor(sent_us=self.sent_us, chat_id=self.chat_id, seq=self.seq)


async def read_search(reads: Reads, caller: Caller, asked: SearchParameters, at_least: Token | None) -> bytes:
    """Return the newest messages that match. A page that has `next` may have fewer items than asked for, even none."""
    try:
        query = parse(asked.q)
    except NothingToSearch as nothing:
        raise invalid_parameter("query", "q", str(nothing)) from None
    fetch = min(asked.limit * (CANDIDATES_FOR_EACH if query.needs_text else 1), CANDIDATES)
    last = None if asked.cursor is None else decode_search(asked.cursor)
    parameters = {
        "caller_id": caller.user_id,
        "in_chat": asked.chat_id or "",
        "of_sender": asked.sender_id or "",
        "before": asked.before or "infinity",
        "after": asked.after or "-infinity",
        "cursor_at": "infinity" if last is None else (_EPOCH + timedelta(microseconds=last.sent_us)).isoformat(),
        "cursor_chat_id": HIGHEST_UUID if last is None else last.chat_id,
        "cursor_seq": Int8(0 if last is None else last.seq),
        "terms": query.tsquery,
        "again": query.exact_tsquery or query.tsquery,
        "has_prefix": "true" if query.has_prefix else "false",
        "few_chats": Int8(FEW_CHATS_OF_A_PREFIX if query.exact_tsquery is None else FEW_CHATS),
        "fetch": Int8(fetch + 1),
    }
    rows = await reads.search(parameters, at_least=at_least)
    return found_json(query, rows, fetch=fetch, limit=asked.limit)


def found_json(query: SearchQuery, rows: list[Row], *, fetch: int, limit: int) -> bytes:
    """Return the page: the rows whose texts match, up to `limit`. There is a next page if rows remain."""
    candidates = [_Found(*row) for row in rows[:fetch]]
    items: list[dict[str, Any]] = []
    compared = characters = 0
    for row, item in zip(candidates, _items(query, candidates), strict=True):
        compared += 1
        characters += len(row.text or "")
        if item is not None:
            items.append(item)
        if len(items) == limit or characters > TEXT_CHARACTERS:
            break
    more = compared < len(rows)
    return dumps({"items": items, "next": encode_search(candidates[compared - 1].cursor) if more else None})


def _items(query: SearchQuery, candidates: list[_Found]) -> Iterator[dict[str, Any] | None]:
    for row in candidates:
        matches = None if row.text is None else find(query, row.text)
        if row.text is None or matches is None:
            yield None
            continue
        snippet = snippet_of(row.text, matches)
        yield {
            "chat_id": row.chat_id,
            "seq": row.seq,
            "message_id": row.message_id,
            "sender_id": row.sender_id,
            "sent_at": instant_of(row.sent_us // 1000),
            "snippet": snippet.text,
            "snippet_start": snippet.start,
            "matches": [{"start": match.start, "end": match.end} for match in snippet.matches],
        }


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/search", response_model=FoundMessages, responses=OF_ANY)
    async def search_messages(
        caller: CallerOfRequest, asked: SearchParametersQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """Messages of your chats that have all words of `q`, newest first.

        Case, accents and full width make no difference. A page may have fewer items than `limit`, or none, and still a
        `next`: request on until it is null.
        """
        return json_response(await read_search(reads, caller, asked, reads.token_of(at_least)))
