"""Runs the statements of a read in one snapshot, and checks membership.

The right to read is checked in SQL: each statement about a chat starts at the caller's own row among its members, and
looks up nothing else if it does not exist. So the statements of a read are sent together, in one snapshot, and a
non-member's cost the same as for a chat that does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.ids import UserId
from services.query.api.delivery_status import DeliveryCursors
from services.query.snapshot.at_least import Token, read_token
from services.query.snapshot.reader import Row, SnapshotReader, Statement
from services.runtime.access.auth import Caller
from services.runtime.web.problems import Problem


class Reads:
    """The snapshots of the read model. Every method raises Problem, ReadModelUnavailable or NotCaughtUp (both 503).

    `at_least` is the token that the snapshot must contain.
    """

    def __init__(self, snapshots: SnapshotReader, *, partitions: int) -> None:
        self._snapshots = snapshots
        self.partitions = partitions
        """Number of partitions of the log, to validate tokens and find a chat's partition."""

    def token_of(self, at_least: str | None) -> Token | None:
        """Return the token of the header, or None if it is absent. Raises Problem if it is invalid."""
        return None if at_least is None else read_token(at_least, self.partitions)

    async def read(self, *statements: Statement, at_least: Token | None) -> list[list[Row]]:
        """Return the rows of each statement."""
        return await self._snapshots.read(*statements, at_least=at_least)

    async def read_as_member(
        self, block: str, caller: Caller, chat_id: str, at_least: Token | None, **parameters: object
    ) -> list[Row]:
        """Return the rows of a statement about a chat of which the caller is a present member."""
        of_the_caller = {"chat_id": chat_id, "caller_id": caller.user_id}
        membership, rows = await self._snapshots.read(
            Statement("membership", of_the_caller),
            Statement(block, of_the_caller | parameters),
            at_least=at_least,
        )
        _require_member(membership)
        return rows

    async def read_with_cursors(
        self, block: str, caller: Caller, chat_id: str, at_least: Token | None, **parameters: object
    ) -> tuple[DeliveryCursors, list[Row]]:
        """Return the same, with the cursors of the chat that the delivery statuses of its messages depend on."""
        of_the_caller = {"chat_id": chat_id, "caller_id": caller.user_id}
        standing, rows = await self._snapshots.read(
            Statement("membership_and_cursors", of_the_caller),
            Statement(block, of_the_caller | parameters),
            at_least=at_least,
        )
        return _cursors_for_member(standing), rows


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
