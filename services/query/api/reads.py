"""Runs the statements of a read in one snapshot, and checks membership.

The right to read is checked in SQL: each statement about a chat starts at the caller's own row among its members, and
looks up nothing else if it does not exist. So the statements of a read are sent together, in one snapshot, and a
non-member's cost the same as for a chat that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.ids import UserId
from services.query.api.delivery_status import ChatStanding, DeliveryCursors
from services.query.snapshot.at_least import Token, read_token
from services.query.snapshot.reader import Following, Row, SnapshotReader, Statement
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

    async def read_in_two(
        self, *statements: Statement, following: Following, at_least: Token | None
    ) -> list[list[Row]]:
        """Return their rows, then those of the statements that `following` makes of them, all of one snapshot."""
        return await self._snapshots.read(*statements, following=following, at_least=at_least)

    async def search(self, parameters: Mapping[str, object], *, at_least: Token | None) -> list[Row]:
        """Return the rows of the statement `search`."""
        _, rows = await self._snapshots.read(
            Statement("search_settings", {}), Statement("search", parameters), at_least=at_least, of_search=True
        )
        return rows

    async def read_as_member(
        self, block: str, caller: Caller, chat_id: str, at_least: Token | None, **parameters: object
    ) -> list[Row]:
        """Return the rows of a statement about a chat of which the caller is a present member."""
        (rows,) = await self.read_all_as_member((block,), caller, chat_id, at_least, **parameters)
        return rows

    async def read_all_as_member(
        self, blocks: Sequence[str], caller: Caller, chat_id: str, at_least: Token | None, **parameters: object
    ) -> list[list[Row]]:
        """Return the rows of several such statements, which share their parameters."""
        of_the_caller = {"chat_id": chat_id, "caller_id": caller.user_id}
        membership, *found = await self._snapshots.read(
            Statement("membership", of_the_caller),
            *(Statement(block, of_the_caller | parameters) for block in blocks),
            at_least=at_least,
        )
        _require_member(membership)
        return found

    async def read_with_standing(
        self, block: str, caller: Caller, chat_id: str, at_least: Token | None, **parameters: object
    ) -> tuple[ChatStanding, list[Row]]:
        """Return the same, with what every page of messages says of its chat, and what their delivery statuses depend
        on."""
        standing, (rows,) = await self.read_all_with_standing((block,), caller, chat_id, at_least, **parameters)
        return standing, rows

    async def read_all_with_standing(
        self, blocks: Sequence[str], caller: Caller, chat_id: str, at_least: Token | None, **parameters: object
    ) -> tuple[ChatStanding, list[list[Row]]]:
        """Return the same of several statements, which share their parameters."""
        of_the_caller = {"chat_id": chat_id, "caller_id": caller.user_id}
        standing, *found = await self._snapshots.read(
            Statement("standing", of_the_caller),
            *(Statement(block, of_the_caller | parameters) for block in blocks),
            at_least=at_least,
        )
        return standing_for_member(standing), found


def _require_member(membership: Sequence[Row]) -> None:
    if not membership:
        raise Problem("unknown_chat", "There is no chat with this id, or you never were a member of it.")
    (present,) = membership[0]
    if not present:
        raise Problem("not_member", "You are no longer a member of this chat.")


def standing_for_member(rows: Sequence[Row]) -> ChatStanding:
    """Return what rows of the statement `standing` hold. Raises Problem if the caller is not a present member."""
    of_kind: dict[str, list[tuple[UserId, int]]] = {"caller": [], "read": [], "delivered": [], "joined": []}
    of_chat: dict[str, int] = {}
    for kind, user_id, number in rows:
        if user_id is None:
            of_chat[kind] = number
        else:
            of_kind[kind].append((user_id, number))
    _require_member([(present == 1,) for _, present in of_kind["caller"]])
    return ChatStanding(
        position=of_chat["position"],
        last_seq=of_chat["last_seq"],
        cursors=DeliveryCursors(read=of_kind["read"], delivered=of_kind["delivered"], joined=of_kind["joined"]),
    )
