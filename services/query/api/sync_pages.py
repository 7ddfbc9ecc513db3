"""Which chats a sync shows, and the cursors between its pages: pure.

A sync lists the chats that changed since a cursor, the newest activity first. Its pages are made one by one from
snapshots that differ, so the cursor of the next page pins how far the first one saw the log; the last page's `next` is
that. A change made while a client pages is after the pinned indexes: the next sync shows it, wherever in the order it
was then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from schemas.ids import ChatId, is_uuid, partition_of
from schemas.sync_cursor import SyncCursor, decode_sync_cursor, encode_sync_cursor
from services.query.errors import InvalidCursor

_PAGE: Final = re.compile(r"p\.(0|[1-9][0-9]{0,15})\.([0-9a-f-]{36})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)", re.ASCII)


class Place(NamedTuple):
    """A place in the order of a sync, which is descending: a time in ms since 1970, then the chat."""

    at_ms: int
    chat_id: str


class SyncRow(NamedTuple):
    """A row of the statement `places_of_caller`."""

    chat_id: ChatId
    present: bool
    changed_index: int
    at_ms: int

    @property
    def place(self) -> Place:
        return Place(self.at_ms, self.chat_id)


class SyncFrom(Struct, frozen=True):
    """Where a page begins: what the client sent as `since`."""

    since: SyncCursor | None = None
    """What the client had seen before the first page; None if nothing."""
    pinned: SyncCursor | None = None
    """How far the first page saw the log; None on the first page."""
    after: Place | None = None
    """The last place of the previous page; None on the first page."""

    @property
    def log_id(self) -> str | None:
        cursor = self.pinned or self.since
        return None if cursor is None else cursor.log_id

    @property
    def partitions(self) -> Iterable[int]:
        """The partitions that it names."""
        cursor = self.pinned or self.since
        return () if cursor is None else cursor.indexes.keys()

    def above(self, partitions: int) -> int:
        """Return an index that no change since then is below, in any of the log's partitions."""
        if self.since is None:
            return -1
        return min(self.since.indexes.get(partition, 0) for partition in range(partitions))


def decode_since(text: str) -> SyncFrom:
    """Return where a page begins, from a final `next` or one between pages. Raises InvalidCursor."""
    match = _PAGE.fullmatch(text)
    try:
        if match is None:
            return SyncFrom(since=decode_sync_cursor(text))
        at_ms, chat_id, pinned_text, behind_text = match.groups()
        pinned = decode_sync_cursor(pinned_text)
        since = _before(pinned, decode_sync_cursor(behind_text)) if behind_text else None
    except ValueError:
        raise InvalidCursor from None
    if not is_uuid(chat_id):
        raise InvalidCursor
    return SyncFrom(since=since, pinned=pinned, after=Place(int(at_ms), chat_id))


def encode_page(pinned: SyncCursor, since: SyncCursor | None, after: Place) -> str:
    """Return the `next` of a page that is not the last one."""
    behind = "" if since is None else encode_sync_cursor(_behind(pinned, since))
    return f"p.{after.at_ms}.{after.chat_id}.{encode_sync_cursor(pinned)}.{behind}"


def _behind(pinned: SyncCursor, since: SyncCursor) -> SyncCursor:
    """Return how many outcomes were new in each partition: small numbers, which have a short text."""
    return SyncCursor(pinned.log_id, {p: index - since.indexes.get(p, 0) for p, index in pinned.indexes.items()})


def _before(pinned: SyncCursor, behind: SyncCursor) -> SyncCursor:
    """Return the cursor that is so far behind. Raises ValueError if that is before the log."""
    if behind.log_id != pinned.log_id or behind.indexes.keys() != pinned.indexes.keys():
        raise ValueError("the two are of one log and name the same partitions")
    since = {p: index - behind.indexes[p] for p, index in pinned.indexes.items()}
    if min(since.values(), default=0) < 0:
        raise ValueError("no cursor is before the beginning of the log")
    return SyncCursor(pinned.log_id, since)


def changed_rows(asked: SyncFrom, rows: Iterable[SyncRow], partitions: int) -> list[SyncRow]:
    """Return the rows that a page and those after it show, in their order.

    :param rows: all rows that changed after `asked.above(partitions)`, and any others.
    :param partitions: number of partitions of the log.
    """
    if asked.since is None:
        changed = [row for row in rows if row.present]  # a client that has no chats has none to remove
    else:
        seen = asked.since.indexes
        changed = [row for row in rows if row.changed_index > seen.get(partition_of(row.chat_id, partitions), 0)]
    if asked.after is not None:
        changed = [row for row in changed if row.place < asked.after]
    changed.sort(key=lambda row: row.place, reverse=True)
    return changed


def pinned_by(
    asked: SyncFrom, log_id: str, heads: Mapping[int, int], rows: Iterable[SyncRow], partitions: int
) -> SyncCursor:
    """Return how far a sync sees the log: what the first page saw.

    The partitions are those that the client named, and those of the rows. By the live stream, a client may be ahead of
    the read model; it does not go back.
    """
    if asked.pinned is not None:
        return asked.pinned
    seen: Mapping[int, int] = {} if asked.since is None else asked.since.indexes
    named = seen.keys() | {partition_of(row.chat_id, partitions) for row in rows}
    return SyncCursor(log_id, {p: max(heads.get(p, 0), seen.get(p, 0)) for p in named})


def next_of(asked: SyncFrom, pinned: SyncCursor, shown: Sequence[SyncRow], *, has_more: bool) -> str:
    """Return `next`: the following page, or, after the last one, the following sync."""
    if has_more:
        return encode_page(pinned, asked.since, shown[-1].place)
    return encode_sync_cursor(pinned)
