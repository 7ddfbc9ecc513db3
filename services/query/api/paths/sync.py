"""Sync: what changed in all of the caller's chats since a cursor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel, ConfigDict, Field

from schemas.sync_cursor import MAX_CHARACTERS, SyncCursor
from services.query.api.change_pages import COMMA, MAX_ANSWER_BYTES, Changed, newest_that_fit, shares
from services.query.api.examples import CHAT
from services.query.api.json_text import boolean, dumps
from services.query.api.message_json import SEQ
from services.query.api.parameters import MAX_LIMIT, AtLeastHeader, Limit, QueryParameters, WireUuid
from services.query.api.paths.changes import (
    CHANGES_EXAMPLE,
    HEAD_EXAMPLE,
    RESERVED_BYTES,
    ChangesOfChat,
    ChatHead,
    changed_members,
    changed_messages,
    lists_json,
)
from services.query.api.paths.chats import chat_head_json
from services.query.api.reads import Reads, standing_for_member
from services.query.api.route import OF_ANY, CallerOfRequest, json_response
from services.query.api.sync_pages import SyncFrom, SyncRow, changed_rows, decode_since, next_of, pinned_by
from services.query.api.windows import MAX_SEQ
from services.query.errors import InvalidCursor, ReadModelUnavailable
from services.query.problems import invalid_parameter
from services.query.snapshot.at_least import Token
from services.query.snapshot.reader import Row, Statement
from services.runtime.access.auth import Caller
from services.runtime.web.openapi import example, problem_responses
from services.runtime.web.problems import Problem

MAX_NAMED_CHATS: Final = 200
MESSAGES_OF_A_CHAT: Final = 50
"""Maximum messages of each named chat."""
MEMBERS_OF_A_CHAT: Final = 200
"""Maximum members of each named chat: all that changed, or none."""
MAX_SINCE_CHARACTERS: Final = 2 * MAX_CHARACTERS + 1_024
"""A cursor between two pages has two others in it."""
HEADS_BYTES: Final = MAX_ANSWER_BYTES // 2
"""Maximum size of the heads in an answer that has changes too."""
BYTES_OF_AN_ENTRY: Final = 256
"""What the changes of a named chat take if nothing of them fits."""

_SINCE: Final = "AW9sHw6KS008mxoKGyw9Tl8AAQI"
_SYNC_EXAMPLE: Final[dict[str, Any]] = {"chats": [HEAD_EXAMPLE], "removed": [], "next": _SINCE, "has_more": False}
_CHANGES_EXAMPLE: Final[dict[str, Any]] = CHANGES_EXAMPLE | {"limited": False}
_RESPONSES: Final = OF_ANY | problem_responses("cursor_of_another_log")


class Sync(BaseModel):
    """The chats that changed, newest activity first. A page has at most `limit` chats, counting removed ones."""

    model_config = example(_SYNC_EXAMPLE)

    chats: list[ChatHead]
    removed: list[UUID] = Field(description="Chats that you left or were removed from.")
    next: str = Field(description="`since` of the next page if `has_more`, else of the next time. Valid permanently.")
    has_more: bool


class LimitedChanges(ChangesOfChat):
    """What changed in a chat that you named, or, if it is much, the newest messages of it."""

    model_config = example(_CHANGES_EXAMPLE)

    chat: ChatHead | None = Field(description="Null if nothing has changed, or it did not fit.")
    limited: bool = Field(
        description="Whether there is more: `messages` are the newest that changed, and the rest follows from"
        " `GET /v1/chats/{chat_id}/changes?after_position=` with `next_position`, which stays what you named."
    )


class SyncWithChanges(Sync):
    model_config = example(_SYNC_EXAMPLE | {"changes": {CHAT: _CHANGES_EXAMPLE}})

    changes: dict[UUID, LimitedChanges] = Field(
        description="Changes of the chats that you named and are a member of; those that you left are in `removed`."
    )


_SINCE_TEXT: Final = "`next` of the previous answer, or a cursor of the live stream. Without it: all your chats."


class SyncParameters(QueryParameters):
    since: str | None = Field(default=None, description=_SINCE_TEXT)
    limit: Limit = MAX_LIMIT


SyncQuery = Annotated[SyncParameters, Query()]


class SyncRequest(BaseModel):
    """A cursor that is too long for a query string fits a body."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"since": _SINCE, "chats": {CHAT: 1}, "limit": MAX_LIMIT}]},
    )

    since: str | None = Field(default=None, strict=True, max_length=MAX_SINCE_CHARACTERS, description=_SINCE_TEXT)
    chats: dict[WireUuid, Annotated[int, Field(strict=True, ge=0, le=MAX_SEQ)]] = Field(
        default_factory=dict,
        max_length=MAX_NAMED_CHATS,
        description="Chats whose changes you want, each with the position up to which you have it all.",
    )
    limit: Annotated[int, Field(strict=True, ge=1, le=MAX_LIMIT)] = Field(
        default=MAX_LIMIT, description="Maximum page size."
    )


class _Named(NamedTuple):
    """A chat that the client named, of which the caller is or was a member."""

    chat_id: str
    present: bool
    position: int | None
    """Position of the chat, and seq of its newest message; None if the caller is no longer a member."""
    last_seq: int | None


class _Found(NamedTuple):
    """What changed, before anything is read of it."""

    pinned: SyncCursor
    rows: Sequence[SyncRow]
    """The chats of this page and of those after it."""
    named: Sequence[_Named]
    """In the order of the request."""


class _SyncRead:
    """One sync: first which chats changed, then, in the same snapshot, what to show of them.

    :param chats: the chats that the client names, with its positions; None if it cannot.
    """

    def __init__(
        self, caller: Caller, asked: SyncFrom, limit: int, chats: Mapping[str, int] | None, partitions: int
    ) -> None:
        self._caller_id = caller.user_id
        self._asked = asked
        self._limit = limit
        self._after = chats or {}
        self._has_changes = chats is not None
        self._partitions = partitions
        self._found: _Found | None = None

    def statements(self) -> list[Statement]:
        above = Int8(self._asked.above(self._partitions))
        which = [
            Statement("sync_settings", {}),
            Statement("vector", {}),
            Statement("places_of_caller", {"caller_id": self._caller_id, "above": above}),
        ]
        return [*which, self._of_chats("named_chats", self._after)] if self._after else which

    def following(self, rows: Sequence[list[Row]]) -> list[Statement]:
        """Return the statements for what the first ones found.

        Raises ReadModelUnavailable if no projector has begun, and Problem if the cursor is of another log.
        """
        _settings, *which = rows
        found = self._found = self._found_in(*which)
        changed = {chat.chat_id: self._after[chat.chat_id] for chat in found.named if self._is_changed(chat)}
        shown = [row.chat_id for row in found.rows[: self._limit] if row.present]
        statements = [self._of_chats("heads_of_chats", dict.fromkeys((*shown, *changed)))]
        if changed:
            of_each = {
                "after_positions": _array(changed.values()),
                "fetch": Int8(MESSAGES_OF_A_CHAT + 1),
                "fetch_members": Int8(MEMBERS_OF_A_CHAT + 1),
                "max_bytes": Int8(MAX_ANSWER_BYTES),
            }
            names = ("standings", "newest_changed_messages", "some_changed_members")
            statements += [self._of_chats(name, changed, of_each) for name in names]
        return statements

    def answer(self, rows: Sequence[list[Row]]) -> bytes:
        """Return the answer from the rows of the following statements."""
        found = self._found
        assert found is not None
        heads = {row[0]: chat_head_json(*row) for row in rows[0]}
        present = [chat for chat in found.named if chat.present]
        left = [chat.chat_id for chat in found.named if not chat.present]
        budget = MAX_ANSWER_BYTES - RESERVED_BYTES - BYTES_OF_AN_ENTRY * len(found.named)
        shown = _that_fit(found.rows[: self._limit], heads, HEADS_BYTES if self._after else budget)
        has_more = len(shown) < len(found.rows)
        text = b'{"chats":[%b],"removed":%b,"next":%b,"has_more":%b' % (
            b",".join(heads[row.chat_id] for row in shown if row.present),
            dumps(list(dict.fromkeys([*(row.chat_id for row in shown if not row.present), *left]))),
            dumps(next_of(self._asked, found.pinned, shown, has_more=has_more)),
            boolean(has_more).encode(),
        )
        if not self._has_changes:
            return text + b"}"
        changed = [chat for chat in present if self._is_changed(chat)]
        entries = _changes_json(changed, self._after, rows, budget - len(text)) if changed else {}
        for chat in present:
            if chat.chat_id not in entries:
                seen = max(self._after[chat.chat_id], chat.position or 0)
                entries[chat.chat_id] = _entry(chat, [], [], None, seen, limited=False)
        of_chats = b",".join(b'"%b":%b' % (chat_id.encode(), entry) for chat_id, entry in entries.items())
        return b'%b,"changes":{%b}}' % (text, of_chats)

    def _found_in(self, vector: list[Row], places: list[Row], named: Sequence[Row] = ()) -> _Found:
        log_ids = {topic_id for _, _, topic_id in vector}
        if len(log_ids) != 1:
            raise ReadModelUnavailable("No projector has written to the read model yet; ask again.")
        (log_id,) = log_ids
        if self._asked.log_id not in (None, log_id):
            raise Problem("cursor_of_another_log", "The cursor is of another log: sync without one.")
        heads = {partition: index for partition, index, _ in vector}
        rows = [SyncRow(*row) for row in places]
        of_chat = {row[0]: _Named(*row) for row in named}
        return _Found(
            pinned_by(self._asked, log_id, heads, rows, self._partitions),
            changed_rows(self._asked, rows, self._partitions),
            [of_chat[chat_id] for chat_id in self._after if chat_id in of_chat],
        )

    def _is_changed(self, chat: _Named) -> bool:
        """Return whether the client lacks anything of the chat. It may be ahead, by the live stream."""
        return chat.position is not None and chat.position > self._after[chat.chat_id]

    def _of_chats(self, name: str, chat_ids: Iterable[str], more: Mapping[str, object] | None = None) -> Statement:
        return Statement(name, {"caller_id": self._caller_id, "chat_ids": _array(chat_ids), **(more or {})})


class _Changed(NamedTuple):
    """What changed in a named chat: everything, or the newest."""

    chat: _Named
    head: bytes
    messages: Sequence[Changed]
    members: Sequence[Changed]
    limited: bool

    @property
    def size(self) -> int:
        return len(self.head) + sum(each.size for each in (*self.messages, *self.members))

    def json(self, after: int, budget: int) -> bytes:
        """Return it as far as it fits: the head, then the members, all or none, then the newest messages."""
        limited = self.limited or self.size > budget
        head = self.head if len(self.head) <= budget else None
        budget -= len(head or b"")
        of_members = sum(each.size for each in self.members)
        members = self.members if of_members <= budget else []
        budget -= of_members if members else 0
        messages = newest_that_fit(self.messages, budget)
        next_position = after if limited else self.chat.position or 0
        return _entry(self.chat, messages, members, head, next_position, limited=limited)


def _changes_json(
    chats: Sequence[_Named], after: Mapping[str, int], rows: Sequence[list[Row]], budget: int
) -> dict[str, bytes]:
    """Return what changed in each chat, from the rows of the statements about all of them."""
    heads = {row[0]: chat_head_json(*row) for row in rows[0]}
    standings, messages, members = map(_by_chat, rows[1:])
    found: list[_Changed] = []
    for chat in chats:
        standing = standing_for_member(standings[chat.chat_id])
        of_chat, of_members = messages.get(chat.chat_id, []), members.get(chat.chat_id, [])
        there = [row for row in of_chat if row[SEQ] is not None]
        shown = changed_messages(chat.chat_id, there, standing)[-MESSAGES_OF_A_CHAT:]
        too_many = len(of_members) > MEMBERS_OF_A_CHAT
        limited = too_many or len(shown) < len(of_chat)
        shown_members = [] if too_many else changed_members(of_members)
        found.append(_Changed(chat, heads[chat.chat_id], shown, shown_members, limited))
    share = shares({each.chat.chat_id: each.size for each in found}, budget)
    return {each.chat.chat_id: each.json(after[each.chat.chat_id], share[each.chat.chat_id]) for each in found}


def _entry(
    chat: _Named,
    messages: Sequence[Changed],
    members: Sequence[Changed],
    head: bytes | None,
    next_position: int,
    *,
    limited: bool,
) -> bytes:
    return b'{%b,"chat":%b,"next_position":%d,"position":%d,"last_seq":%d,"limited":%b}' % (
        lists_json(messages, members),
        b"null" if head is None else head,
        next_position,
        chat.position or 0,
        chat.last_seq or 0,
        boolean(limited).encode(),
    )


def _that_fit(rows: Sequence[SyncRow], heads: Mapping[str, bytes], budget: int) -> Sequence[SyncRow]:
    """Return the first rows: as many as fit an answer, and at least one."""
    for n, row in enumerate(rows):
        budget -= COMMA + (len(heads[row.chat_id]) if row.present else len(row.chat_id) + 2)
        if budget < 0 and n:
            return rows[:n]
    return rows


def _by_chat(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of each chat, without their first column, which is the chat."""
    found: dict[str, list[Row]] = {}
    for chat_id, *row in rows:
        found.setdefault(chat_id, []).append(tuple(row))
    return found


def _array(values: Iterable[object]) -> str:
    """Return an array of ids or numbers as Postgres reads it."""
    return f"{{{','.join(map(str, values))}}}"


async def read_sync(
    reads: Reads,
    caller: Caller,
    asked: SyncFrom,
    at_least: Token | None,
    *,
    limit: int,
    chats: Mapping[str, int] | None = None,
) -> bytes:
    """Return a page of the chats that changed, and what changed in those that are named."""
    sync = _SyncRead(caller, asked, limit, chats, reads.partitions)
    first = sync.statements()
    rows = await reads.read_in_two(*first, following=sync.following, at_least=at_least)
    return sync.answer(rows[len(first) :])


def _since(place: str, text: str | None, partitions: int) -> SyncFrom:
    if text is None:
        return SyncFrom()
    try:
        since = decode_since(text)
    except InvalidCursor:
        raise invalid_parameter(place, "since", "This is no cursor of a sync: sync without it.") from None
    if max(since.partitions, default=0) >= partitions:
        raise invalid_parameter(
            place, "since", f"since names a partition that is not there: 0 to {partitions - 1} are."
        )
    return since


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/sync", response_model=Sync, responses=_RESPONSES)
    async def sync_chats(caller: CallerOfRequest, asked: SyncQuery, at_least: AtLeastHeader = None) -> Response:
        """The chats that changed since a cursor, newest activity first, and those that you have left since.

        Request the next page while `has_more`. A change made while you page is in the next sync.
        """
        since = _since("query", asked.since, reads.partitions)
        return json_response(await read_sync(reads, caller, since, reads.token_of(at_least), limit=asked.limit))

    @router.post("/sync", response_model=SyncWithChanges, responses=_RESPONSES)
    async def sync_chats_and_changes(
        caller: CallerOfRequest, body: SyncRequest, at_least: AtLeastHeader = None
    ) -> Response:
        """The same, and what changed in each of the chats that you name. It changes nothing, and needs no key.

        The whole answer is of one moment, and has at most 1 MiB.
        """
        since = _since("body", body.since, reads.partitions)
        token = reads.token_of(at_least)
        return json_response(await read_sync(reads, caller, since, token, limit=body.limit, chats=body.chats))
