"""The verifier's own fold: the rows that a partition of the log means, by wire.md and read-model.md alone.

Written apart from the projector on purpose: there the rows of a batch are merged and counters kept by steps, here
every event is one or two plain statements on the scratch file and counters are counted. It must stay so: a line
shared with the projector would let one bug hide in both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, TypeVar

from schemas.bodies import Body, ChatCreate, Mark, MemberAdd, MemberRemove, MemberRole, MessageDelete, MessageSend
from schemas.errors import LogCorrupt, UnknownType
from schemas.events import Outcome, OutcomeKind, decode_accepted, decode_duplicate, decode_rejected, decode_unchanged
from schemas.log import Stamp
from schemas.types import COMMAND_OF, EventType
from services.ops.verify.projection.tables import Row, Table, Value, array_text, instant_us, metadata_text
from services.ops.verify.scratch import SCRATCH_SQL

B = TypeVar("B", bound=Body)
LONGER_SPANS: Final = (4_096, 65_536, 1_048_576)
"""Of the blocks in which deleted messages are counted, beside those of 256 seqs."""
_SQL: Final[Mapping[str, str]] = {name: SCRATCH_SQL.text(name) for name in SCRATCH_SQL.names}


class LogFold:
    """Folds the valid outcomes of one partition, in order, into an empty scratch database (`rows_schema`)."""

    def __init__(self, scratch: sqlite3.Connection, partition: int) -> None:
        self._scratch = scratch
        self._partition = partition

    def apply(self, stamp: Stamp, outcome: Outcome) -> None:
        """Folds one outcome that the validity rule found valid.

        Raises LogCorrupt where the log contradicts itself, UnknownType for an event this fold was built before.
        """
        if outcome.type == EventType.TERM_OPENED:
            raise LogCorrupt(f"a term.opened with the index of an outcome: {stamp}")
        if outcome.kind is OutcomeKind.ACCEPTED:
            fold = _FOLDS.get(outcome.type)
            if fold is None:
                raise UnknownType(f"the verifier does not know {outcome.type}; use the version of the writer")
            fold(self, outcome)
        self._remember(stamp, outcome)

    def finish(self) -> None:
        """Counts what is defined by counting. Call once, after the last outcome."""
        self._scratch.execute(_SQL["count_own_live"])
        self._scratch.execute(_SQL["count_deleted_places"])
        for span in LONGER_SPANS:
            self._scratch.execute(_SQL["count_deleted_blocks"], {"span": span})
        self._scratch.execute(_SQL["count_deleted"])

    def leave_out_details(self, indexes: Iterable[int]) -> None:
        """Clear the details of these rejections: the release that projected them did not store any."""
        self._scratch.executemany(_SQL["leave_out_detail"], ({"index": index} for index in indexes))

    def rows(self, table: Table, since_us: int) -> Iterator[Row]:
        """All rows of a table, in no order; of `outcomes` those not older than `since_us`."""
        return self._select(f"all_{table.name}", since=since_us)

    def group(self, table: Table, group: Value, since_us: int) -> Iterator[Row]:
        """The rows of one chat (or of the partition), in the order of their keys."""
        return self._select(f"group_{table.name}", group=group, since=since_us)

    def _select(self, block: str, **values: Value) -> Iterator[Row]:
        return self._scratch.execute(_SQL[block], values)

    def _must(self, block: str, outcome: Outcome, what: str, **values: Value) -> None:
        """Runs a statement that has to touch a row; one that does not means that the log contradicts itself."""
        if self._scratch.execute(_SQL[block], values).rowcount < 1:
            raise LogCorrupt(f"{outcome.type} at position {outcome.position} of chat {outcome.chat_id}: {what}")

    def chat_created(self, outcome: Outcome) -> None:
        body = _body(outcome, ChatCreate)
        self._must(
            "add_chat", outcome, "the chat exists already",
            chat=outcome.chat_id, kind=body.kind, name=body.name, sender=outcome.sender_id,
            at=outcome.at_ms * 1000, position=outcome.position,
        )  # fmt: skip
        others = "owner" if body.kind == "direct" else "member"
        roles = {**dict.fromkeys(body.members, others), str(outcome.sender_id): "owner"}
        for user_id, role in roles.items():
            self._join(outcome, user_id, role)

    def member_added(self, outcome: Outcome) -> None:
        body = _body(outcome, MemberAdd)
        self._chat_moved(outcome)
        self._join(outcome, body.user_id, body.role)

    def member_removed(self, outcome: Outcome) -> None:
        body = _body(outcome, MemberRemove)
        self._chat_moved(outcome)
        self._must(
            "leave", outcome, f"{body.user_id} is no member",
            chat=outcome.chat_id, user=body.user_id, at=outcome.at_ms * 1000, position=outcome.position,
        )  # fmt: skip

    def member_role_changed(self, outcome: Outcome) -> None:
        body = _body(outcome, MemberRole)
        self._chat_moved(outcome)
        self._must(
            "give_role", outcome, f"{body.user_id} is no member",
            chat=outcome.chat_id, user=body.user_id, role=body.role, position=outcome.position,
        )  # fmt: skip

    def message_sent(self, outcome: Outcome) -> None:
        body = _body(outcome, MessageSend)
        place: dict[str, Value] = {"chat": outcome.chat_id, "position": outcome.position}
        at_us = outcome.at_ms * 1000
        self._must("chat_got_message", outcome, "there is no such chat", **place, seq=outcome.seq, at=at_us)
        root_seq: int | None = None
        if body.reply_to_message_id is not None:
            found = self._select("root_of", reply_to=body.reply_to_message_id, chat=outcome.chat_id)
            root = next(found, (None,))[0]
            assert not isinstance(root, str)
            root_seq = root
            self._must("root_got_reply", outcome, "it answers a message that is not there", **place, root_seq=root_seq)
        self._must(
            "add_message", outcome, "a message of this seq or id is there already",
            **place,
            seq=outcome.seq,
            message_id=outcome.command_id,
            sender=outcome.sender_id,
            text=body.text,
            client_generated_id=outcome.client_generated_id,
            reply_to=body.reply_to_message_id,
            root_seq=root_seq,
            media_urls=array_text(body.media_urls or []),
            metadata=metadata_text(body.metadata) if body.metadata is not None else None,
            at=at_us,
            original_sent_at=_instant(body.original_sent_at),
        )  # fmt: skip

    def message_deleted(self, outcome: Outcome) -> None:
        self._chat_moved(outcome)
        self._must(
            "delete_message", outcome, "it deletes a message that is not there, or is deleted already",
            chat=outcome.chat_id, seq=_body(outcome, MessageDelete).seq, at=outcome.at_ms * 1000,
            position=outcome.position,
        )  # fmt: skip

    def read_advanced(self, outcome: Outcome) -> None:
        self._mark("read_up_to", outcome)

    def delivered_advanced(self, outcome: Outcome) -> None:
        self._mark("delivered_up_to", outcome)

    def _mark(self, block: str, outcome: Outcome) -> None:
        self._chat_moved(outcome)
        self._must(
            block, outcome, "its sender is no member",
            chat=outcome.chat_id, sender=outcome.sender_id, seq=_body(outcome, Mark).up_to_seq,
            at=outcome.at_ms * 1000, position=outcome.position,
        )  # fmt: skip

    def _chat_moved(self, outcome: Outcome) -> None:
        self._must("chat_moved", outcome, "there is no such chat", chat=outcome.chat_id, position=outcome.position)

    def _join(self, outcome: Outcome, user_id: str, role: str) -> None:
        self._must(
            "join", outcome, "there is no such chat",
            chat=outcome.chat_id, user=user_id, role=role, at=outcome.at_ms * 1000, position=outcome.position,
        )  # fmt: skip

    def _remember(self, stamp: Stamp, outcome: Outcome) -> None:
        """What a sender can ask for by command_id; an outcome without one cannot be asked for."""
        if outcome.command_id is None:
            return
        command_type: str | None = None
        reason: str | None = None
        detail: str | None = None
        seq, position = outcome.seq, outcome.position
        match outcome.kind:
            case OutcomeKind.DUPLICATE:
                original = decode_duplicate(outcome.body)
                seq, position = original.seq, original.position
            case OutcomeKind.UNCHANGED:
                position = decode_unchanged(outcome.body)
            case OutcomeKind.REJECTED:
                rejected = decode_rejected(outcome.body)
                command_type, reason, detail = rejected.command_type, rejected.reason.value, rejected.detail
            case OutcomeKind.ACCEPTED:
                command_type = COMMAND_OF[outcome.type].value
        self._scratch.execute(
            _SQL["add_outcome"],
            {
                "partition": self._partition,
                "index": stamp.index,
                "command_id": outcome.command_id,
                "sender": outcome.sender_id,
                "type": command_type,
                "outcome": outcome.kind.value,
                "reason": reason,
                "seq": seq,
                "position": position,
                "at": outcome.at_ms * 1000,
                "detail": detail,
            },
        )


_FOLDS: Final[dict[str, Callable[[LogFold, Outcome], None]]] = {
    EventType.CHAT_CREATED: LogFold.chat_created,
    EventType.MEMBER_ADDED: LogFold.member_added,
    EventType.MEMBER_REMOVED: LogFold.member_removed,
    EventType.MEMBER_ROLE_CHANGED: LogFold.member_role_changed,
    EventType.MESSAGE_SENT: LogFold.message_sent,
    EventType.MESSAGE_DELETED: LogFold.message_deleted,
    EventType.READ_ADVANCED: LogFold.read_advanced,
    EventType.DELIVERED_ADVANCED: LogFold.delivered_advanced,
}


def _body(outcome: Outcome, body_type: type[B]) -> B:
    body = decode_accepted(outcome)
    assert isinstance(body, body_type)
    return body


def _instant(text: str | None) -> int | None:
    """Microseconds since 1970 UTC of an RFC 3339 time that was checked when it was accepted."""
    return instant_us(datetime.fromisoformat(text)) if text is not None else None
