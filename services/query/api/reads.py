"""The statements of each read, and the check of membership.

The right to read is checked in SQL: each statement about a chat starts at the caller's own row among its members, and
looks up nothing else if it does not exist. So the statements of a read are sent together, in one snapshot, and a
non-member's cost the same as for a chat that does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.types.numeric import Int8

from schemas.ids import ChatId, CommandId, UserId
from services.query.api import serializers
from services.query.api.cursors import (
    HIGHEST_UUID,
    LOWEST_UUID,
    ChatsCursor,
    decode_chats,
    decode_members,
    encode_chats,
    encode_members,
)
from services.query.api.delivery_status import DeliveryCursors
from services.query.api.windows import Window, cut
from services.query.snapshot.at_least import Token
from services.query.snapshot.reader import Row, SnapshotReader, Statement
from services.runtime.web.problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The status of a command."""

    body: bytes
    pending: bool = False
    message_seq: int | None = None
    """The seq of the message that the command sent; None if it sent none."""


class Reads:
    """Runs reads and returns JSON. Every method raises Problem, ReadModelUnavailable or NotCaughtUp (both 503).

    `at_least` is the token that the snapshot must contain.
    """

    def __init__(self, snapshots: SnapshotReader) -> None:
        self._snapshots = snapshots

    async def history(
        self, caller_id: UserId, chat_id: ChatId, window: Window, sender_id: UserId | None, at_least: Token | None
    ) -> bytes:
        """Return a page of messages, ascending by seq; only those of one sender if sender_id is given."""
        parameters = {
            "chat_id": chat_id,
            "caller_id": caller_id,
            "split": Int8(window.split),
            "fetch_below": Int8(window.fetch_below),
            "fetch_above": Int8(window.fetch_above),
        }
        if sender_id is None:
            page = Statement("page", parameters)
        else:
            page = Statement("page_of_sender", {**parameters, "sender_id": sender_id})
        standing, rows = await self._snapshots.read(
            Statement("membership_and_cursors", {"chat_id": chat_id, "caller_id": caller_id}),
            page,
            at_least=at_least,
        )
        cursors = _cursors_for_member(standing)
        below = [row for row in rows if row[serializers.SEQ] < window.split]
        above = [row for row in rows if row[serializers.SEQ] >= window.split]
        return serializers.history(chat_id, cut(window, below, above), cursors)

    async def message(self, caller_id: UserId, chat_id: ChatId, seq: int, at_least: Token | None) -> bytes:
        standing, rows = await self._snapshots.read(
            Statement("membership_and_cursors", {"chat_id": chat_id, "caller_id": caller_id}),
            Statement("message", {"chat_id": chat_id, "caller_id": caller_id, "seq": Int8(seq)}),
            at_least=at_least,
        )
        cursors = _cursors_for_member(standing)
        if not rows:
            raise Problem("unknown_message", "The chat has no message with this seq.")
        return serializers.message_writer(chat_id, cursors.status)(*rows[0]).encode()

    async def latest_seq(self, caller_id: UserId, chat_id: ChatId, at_least: Token | None) -> bytes:
        """Return the seq of the newest message, 0 in a chat without messages."""
        membership, rows = await self._snapshots.read(
            _membership(caller_id, chat_id),
            Statement("latest_seq", {"chat_id": chat_id, "caller_id": caller_id}),
            at_least=at_least,
        )
        _require_member(membership)
        return serializers.dumps({"seq": rows[0][0]})

    async def unread(self, caller_id: UserId, chat_id: ChatId, at_least: Token | None) -> bytes:
        membership, rows = await self._snapshots.read(
            _membership(caller_id, chat_id),
            Statement("unread_of_chat", {"chat_id": chat_id, "caller_id": caller_id}),
            at_least=at_least,
        )
        _require_member(membership)
        return serializers.dumps({"unread": rows[0][0]})

    async def unread_of_all(self, caller_id: UserId, at_least: Token | None) -> bytes:
        (rows,) = await self._snapshots.read(Statement("unread_of_all", {"caller_id": caller_id}), at_least=at_least)
        return serializers.unread_of_all(rows)

    async def members(
        self, caller_id: UserId, chat_id: ChatId, cursor: str | None, limit: int, at_least: Token | None
    ) -> bytes:
        rows, next_cursor = await self._present_members("members", caller_id, chat_id, cursor, limit, at_least)
        return serializers.dumps({"items": [serializers.member(row) for row in rows], "next": next_cursor})

    async def read_state(
        self, caller_id: UserId, chat_id: ChatId, cursor: str | None, limit: int, at_least: Token | None
    ) -> bytes:
        rows, next_cursor = await self._present_members("read_state", caller_id, chat_id, cursor, limit, at_least)
        return serializers.dumps({"items": [serializers.read_state(row) for row in rows], "next": next_cursor})

    async def chat(self, caller_id: UserId, chat_id: ChatId, at_least: Token | None) -> bytes:
        membership, rows = await self._snapshots.read(
            _membership(caller_id, chat_id),
            Statement("chat_of_caller", {"chat_id": chat_id, "caller_id": caller_id}),
            at_least=at_least,
        )
        _require_member(membership)
        return serializers.chat(*rows[0]).encode()

    async def chats(self, caller_id: UserId, cursor: str | None, limit: int, at_least: Token | None) -> bytes:
        """Return the caller's chats, newest activity first."""
        after = None if cursor is None else decode_chats(cursor)
        (rows,) = await self._snapshots.read(
            Statement(
                "chats_of_caller",
                {
                    "caller_id": caller_id,
                    "active_at": "infinity" if after is None else after.active_at.isoformat(),
                    "chat_id": HIGHEST_UUID if after is None else after.chat_id,
                    "fetch": Int8(limit + 1),
                },
            ),
            at_least=at_least,
        )
        given = rows[:limit]
        next_cursor = None
        if len(rows) > limit:
            next_cursor = encode_chats(ChatsCursor(active_at=given[-1][serializers.ACTIVE_AT], chat_id=given[-1][0]))
        return serializers.items([serializers.chat(*row) for row in given], next_cursor)

    async def command_status(
        self,
        caller_id: UserId,
        chat_id: ChatId,
        command_id: CommandId,
        partition: int,
        command_offset: int | None,
        *,
        any_sender: bool,
        at_least: Token | None,
    ) -> CommandResult:
        """Return the status of a command: pending while the projection has not reached command_offset.

        :param partition: the chat's partition.
        :param any_sender: whether the caller may query commands that another user sent.
        """
        known_to = {"command_id": command_id, "caller_id": caller_id, "any_sender": any_sender}
        head, messages, outcomes = await self._snapshots.read(
            Statement("head", {"partition": Int8(partition)}),
            Statement("accepted_message", {**known_to, "chat_id": chat_id}),
            Statement("outcome_of_command", {**known_to, "partition": Int8(partition)}),
            at_least=at_least,
        )
        reached = head[0][1] if head else -1
        if command_offset is not None and command_offset > reached:
            return CommandResult(body=serializers.command_pending(chat_id, command_id), pending=True)
        status = serializers.command_status(chat_id, command_id, partition, _first(messages), _first(outcomes))
        if status is None:
            raise Problem("unknown_command", "No outcome of a command with this id is known to you.")
        body, seq = status
        return CommandResult(body=body, message_seq=seq)

    async def _present_members(
        self,
        statement: str,
        caller_id: UserId,
        chat_id: ChatId,
        cursor: str | None,
        limit: int,
        at_least: Token | None,
    ) -> tuple[list[Row], str | None]:
        from_user_id = LOWEST_UUID if cursor is None else decode_members(cursor)
        membership, rows = await self._snapshots.read(
            _membership(caller_id, chat_id),
            Statement(
                statement,
                {
                    "chat_id": chat_id,
                    "caller_id": caller_id,
                    "from_user_id": from_user_id,
                    "fetch": Int8(limit + 1),
                },
            ),
            at_least=at_least,
        )
        _require_member(membership)
        next_cursor = encode_members(UserId(rows[limit][0])) if len(rows) > limit else None
        return rows[:limit], next_cursor


def _membership(caller_id: UserId, chat_id: ChatId) -> Statement:
    return Statement("membership", {"chat_id": chat_id, "caller_id": caller_id})


def _require_member(membership: Sequence[Row]) -> None:
    if not membership:
        raise Problem("unknown_chat", "There is no chat with this id, or you never were a member of it.")
    (present,) = membership[0]
    if not present:
        raise Problem("not_member", "You are no longer a member of this chat.")


def _cursors_for_member(rows: Sequence[Row]) -> DeliveryCursors:
    """Return the cursors in rows of membership_and_cursors. Raises Problem if the caller is not a present member."""
    _require_member([(present == 1,) for kind, _, present in rows if kind == "caller"])
    return DeliveryCursors(
        read=[(UserId(user_id), seq) for kind, user_id, seq in rows if kind == "read"],
        delivered=[(UserId(user_id), seq) for kind, user_id, seq in rows if kind == "delivered"],
        joined=[(UserId(user_id), seq) for kind, user_id, seq in rows if kind == "joined"],
    )


def _first(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows else None
