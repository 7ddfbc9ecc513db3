"""What happens before the first frame of a stream: limits, the caller's memberships, the cursor."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.ids import ChatId, UserId, partition_of, token
from schemas.sync_cursor import SyncCursor, decode_sync_cursor
from services.live import metrics
from services.live.connections.connection import Connection
from services.live.connections.streams import Streams
from services.live.errors import LiveError, NotReading
from services.live.frames import control
from services.live.frames.frame import Form, Frame
from services.live.hub.hub import Hub, UserStanding
from services.live.hub.stream import Stream
from services.runtime.web.problems import Problem


@dataclass(slots=True, kw_only=True)
class Opening:
    """A stream that can be opened. Nothing was written to its connection."""

    stream: Stream
    first: list[Frame]
    standing: UserStanding | None
    """The user's chats in the read model, if events that the stream has not got are no longer in the ring."""


class Opener:
    """Opens streams."""

    def __init__(self, hub: Hub, streams: Streams, *, heartbeat_s: float) -> None:
        self._hub = hub
        self._streams = streams
        self._heartbeat_s = heartbeat_s

    def refuse_if_full(self, user_id: UserId | None) -> None:
        """Raises Problem."""
        reason = self._streams.refusal(user_id)
        if reason is None:
            return
        metrics.REFUSED.labels(reason=reason).inc()
        if reason == "full_for_user":
            raise Problem("rate_limited", "You have as many streams open as one user may have.", retry_after_s=5)
        detail = "is stopping" if reason == "draining" else "has as many streams as it takes"
        raise Problem("unavailable", f"This process {detail}: ask again, another may have room.", retry_after_s=1)

    def _refuse_before_reading(self) -> None:
        if not self._hub.log_id:
            raise NotReading("The log is not read yet; ask again.")

    async def of_all(
        self,
        user_id: UserId,
        connection: Connection,
        form: Form,
        *,
        since: str | None,
        only: frozenset[ChatId] | None,
        all_receipts: bool,
    ) -> Opening:
        """Return a stream of all of the user's chats, or of some. Raises Problem, LiveError."""
        self._refuse_before_reading()
        cursor = None if since is None else _cursor_of(since)
        if cursor is not None:
            if cursor.log_id != self._hub.log_id:
                raise Problem("cursor_of_another_log", "The cursor is of another log: sync without one.")
            await self._streams.reach(dict(cursor.indexes))
        user = await self._streams.user(user_id)
        stream = Stream(user, connection, form, only=only, all_receipts=all_receipts)
        joined = self._hub.start_at(cursor, stream)
        first = [control.ready(self._hub.cursor_of(stream), self._heartbeat_s)]
        first += [control.gap(chat_id, self._token(chat_id)) for chat_id in joined]
        standing = await self._streams.standing(user_id) if self._hub.missed_partitions(stream) else None
        return Opening(stream=stream, first=first, standing=standing)

    async def of_one(
        self,
        user_id: UserId,
        connection: Connection,
        form: Form,
        chat_id: ChatId,
        *,
        after_position: int | None,
        all_receipts: bool,
    ) -> Opening:
        """Return a stream of one chat. Raises Problem if the user is not a member, LiveError."""
        self._refuse_before_reading()
        user = await self._streams.user(user_id)
        if chat_id not in user.chats:
            raise await self._streams.no_member(user_id, chat_id)
        stream = Stream(
            user, connection, form, only=frozenset((chat_id,)), all_receipts=all_receipts, ends_with_chat=True
        )
        first = [control.ready(None, self._heartbeat_s)]
        partition = partition_of(chat_id, self._hub.partitions)
        head = self._hub.heads[partition]
        if after_position is None:
            stream.at = {partition: head}
            return Opening(stream=stream, first=first, standing=None)
        await self._streams.reach_position(chat_id, after_position)
        index = self._hub.ring.index_at(chat_id, after_position)
        if index is None:
            # Whether anything was missed is known to the read model alone: it compares by index, and 0 is before all.
            standing = await self._streams.standing(user_id)
            shown = next((chat for chat in standing.chats if chat.chat_id == chat_id), None)
            if shown is None or not shown.is_member:
                index = self._hub.heads[partition]  # the user joined again after the snapshot
            else:
                index = standing.heads.get(partition, 0)
            if shown is None or not shown.is_member or shown.last_position > after_position:
                metrics.GAPS.inc()
                first.append(control.gap(chat_id, token(partition, index)))
            stream.at = {partition: index}
            return Opening(stream=stream, first=first, standing=standing)
        stream.at = {partition: index}
        return Opening(stream=stream, first=first, standing=None)

    def _token(self, chat_id: ChatId) -> str:
        partition = partition_of(chat_id, self._hub.partitions)
        return token(partition, self._hub.heads[partition])


def _cursor_of(text: str) -> SyncCursor:
    try:
        return decode_sync_cursor(text)
    except ValueError:
        raise Problem("malformed", "`since` is not a cursor: send one as you got it.") from None


def problem_of(error: LiveError) -> Problem:
    """Return the problem of an error."""
    return Problem("unavailable", str(error), retry_after_s=1)
