"""Judges what one stream is written, against the truth of the log, frame by frame as the hub writes it.

For each chat it knows how far the stream has come (`reached`, a position) and whether its reader has to believe to be a
member (`believes`). What is between `reached` and the next frame and is *owed* is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from schemas.ids import ChatId, UserId, parse_token
from schemas.sync_cursor import SyncCursor, decode_sync_cursor
from tests.unit.live.world import CHATS, LOG_ID, PARTITION_OF, SMALL, Event, World


@final
class Judge:
    def __init__(
        self,
        world: World,
        user: UserId,
        reached: Mapping[ChatId, int],
        *,
        all_receipts: bool,
        knows_prev: bool,
        sizes_known: set[ChatId],
    ) -> None:
        """:param reached: the chats that may come, each with the position from which on.
        :param knows_prev: whether `prev` is known of each event whose chat had an event since `prev_since`.
        :param sizes_known: the chats of which the process has read how many members they have.
        """
        self.world = world
        self.user = user
        self.reached = dict(reached)
        self.believes = {chat: world.is_member(user, chat, position) for chat, position in reached.items()}
        self.all_receipts = all_receipts
        self.knows_prev = knows_prev
        self.sizes_known = sizes_known
        self.taken: Mapping[int, int] = {}
        """The hub's heads."""
        self.began: Mapping[int, int] = {}
        self.snapshot: Mapping[int, int] | None = None
        """What the stream goes on from at the moment, if that is not the log."""
        self.ended = False

    # What is owed

    def _owed(self, chat: ChatId, after: int, up_to: int) -> list[Event]:
        """Return the events that the stream must have been written, of those after a position."""
        events = self.world.events[chat][after:up_to]
        return [e for e in events if self.world.is_member(self.user, chat, e.position) and self._must_come(e)]

    def _must_come(self, event: Event) -> bool:
        if not event.is_receipt or event.sender == self.user or self.all_receipts:
            return True
        last = self.world.position_at(event.chat, self.taken[PARTITION_OF[event.chat]])
        return max(self.world.sizes(event.chat, 0, last)) <= SMALL

    def _may_come(self, event: Event) -> bool:
        if self._must_come(event) or event.chat not in self.sizes_known:
            return True
        last = self.world.position_at(event.chat, self.taken[PARTITION_OF[event.chat]])
        return min(self.world.sizes(event.chat, event.position, last)) <= SMALL

    # What comes

    def wrote(self, frame: dict[str, Any]) -> None:
        assert not self.ended, f"{frame} after the end"
        kind = frame["type"]
        if kind in ("lagged", "ready", "cursor", "bye"):
            if "cursor" in frame:
                self.said_cursor(frame["cursor"])
            return
        chat = ChatId(frame["chat_id"])
        assert chat in self.reached, f"{frame} of a chat that is not followed"
        if kind == "gap":
            self._gap(chat, frame["token"])
        elif kind == "removed":
            self._removed(chat)
        else:
            self._event(chat, frame)

    def _gap(self, chat: ChatId, at_least: str) -> None:
        partition, index = parse_token(at_least)
        assert partition == PARTITION_OF[chat]
        assert index <= len(self.world.log[partition])
        position = self.world.position_at(chat, index)
        assert self.world.is_member(self.user, chat, position), f"a gap of {chat} for {self.user}"
        assert position > self.reached[chat], f"a gap of {chat}, of which nothing is missing"
        self.reached[chat], self.believes[chat] = position, True

    def _removed(self, chat: ChatId) -> None:
        if self.snapshot is None:
            removals = [e for e in self.world.events[chat][self.reached[chat] :] if e.removes(self.user)]
            assert removals, f"a removal of {self.user} from {chat} that did not happen"
            assert removals[0].index <= self.taken[PARTITION_OF[chat]]
            position = removals[0].position
        else:
            position = self.world.position_at(chat, self.snapshot[PARTITION_OF[chat]])
            assert not self.world.is_member(self.user, chat, position), f"{self.user} is still a member of {chat}"
        self.reached[chat], self.believes[chat] = max(position, self.reached[chat]), False

    def _event(self, chat: ChatId, frame: dict[str, Any]) -> None:
        position = frame["position"]
        event = self.world.events[chat][position - 1]
        assert event.index <= self.taken[PARTITION_OF[chat]]
        assert parse_token(frame["token"]) == (PARTITION_OF[chat], event.index)
        assert self.world.is_member(self.user, chat, position), f"LEAK: {frame} to {self.user}"
        assert position > self.reached[chat], f"{frame} again, or late: {self.reached[chat]} was reached"
        if event.joins(self.user):
            assert not self.believes[chat], f"{self.user} joined {chat} again, and was never told of a removal"
        else:
            assert self.believes[chat], f"{frame} after `removed`, or before the reader joined"
            missing = self._owed(chat, self.reached[chat], position - 1)
            assert not missing, f"{frame} came, and before it were owed {missing}"
        assert self._may_come(event), f"{frame} of a large chat"
        self._check_prev(event, frame)
        self.reached[chat], self.believes[chat] = position, True

    def _check_prev(self, event: Event, frame: dict[str, Any]) -> None:
        if event.is_receipt:
            assert "prev" not in frame
            return
        before = self.world.content_before(event.chat, event.position)
        assert frame["prev"] in (None, before), f"{frame}: {before} is before it"
        if self.knows_prev and before is not None:
            was_read = self.world.events[event.chat][before - 1].index > self.began[PARTITION_OF[event.chat]]
            assert frame["prev"] is not None or not was_read, f"{frame}: {before} is before it, and was read"

    def said_cursor(self, text: str) -> None:
        """A reader who comes back with this cursor must be able to get the rest."""
        cursor: SyncCursor = decode_sync_cursor(text)
        assert cursor.log_id == LOG_ID
        for chat in self.reached:
            index = cursor.indexes.get(PARTITION_OF[chat])
            if index is None:
                assert not self.believes[chat], f"a cursor without the partition of {chat}, which the reader has"
            else:
                assert index <= self.taken[PARTITION_OF[chat]]
                self._check_complete(chat, index, "the cursor claims")

    def _check_complete(self, chat: ChatId, index: int, what: str) -> None:
        position = self.world.position_at(chat, index)
        if self.world.is_member(self.user, chat, position):
            missing = self._owed(chat, self.reached[chat], position)
            assert not missing, f"{what} {chat} up to {position}, but not written were {missing}"
            assert self.believes[chat] or self.reached[chat] > position, f"{what} that {self.user} is in {chat}"
        elif self.reached[chat] <= position:
            assert not self.believes[chat], f"{what} {chat} without {self.user}, who was not told"

    def check_live(self) -> None:
        """Everything up to the hub's head was written."""
        for chat in self.reached:
            self._check_complete(chat, self.taken[PARTITION_OF[chat]], "a live stream has")


def everything() -> dict[ChatId, int]:
    return dict.fromkeys(CHATS, 0)
