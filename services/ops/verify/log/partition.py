"""Checks the rules of one partition of the log, in a fold over its records that names every violation.

There are two kinds of rules: what every reader relies on (the validity rule, index, seq and position without gaps,
the order of commands and of time), and what a correct writer decides (membership, repeats, cursors), by
docs/log-protocol.md. It shares no code with the writer. The nouns judge accepted events, this module the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from schemas import ids
from schemas.cursor import Decided, LogCursor, Opened, Stop, Void
from schemas.errors import LogCorrupt, Reason, UnknownType
from schemas.events import (
    AcceptedOutcome,
    OtherOutcome,
    Outcome,
    OutcomeKind,
    TermOpened,
    decode_accepted,
    decode_duplicate,
    decode_rejected,
    decode_unchanged,
)
from schemas.log import Head, Stamp
from schemas.types import COMMAND_OF, MARKS, CommandType
from schemas.wire.encoding import Record
from services.ops.verify.log.case import Case, Messages
from services.ops.verify.log.chat import Chat
from services.ops.verify.log.memory import AcceptedCommand, Memory
from services.ops.verify.log.nouns import judge_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule. `rule` is a fixed word, `detail` a sentence with both sides."""

    partition: int
    offset: int
    rule: str
    detail: str


class CannotContinue(Exception):
    """Nothing can be said about the records after this one; the violation is reported already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A valid outcome, with what is needed to compare it with its command."""

    offset: int
    stamp: Stamp
    outcome: Outcome
    original: AcceptedCommand | None
    """For a repeat or a conflict: what was accepted under this command_id before."""
    messages: Messages
    """The messages after it, until the next record is checked."""


@dataclass(slots=True)
class Counts:
    """Numbers of what was read in a partition."""

    records: int = 0
    outcomes: int = 0
    void: int = 0
    terms: int = 0


class PartitionChecks:
    """Checks every record of a partition from offset 0; violations go to `report`, in log order."""

    def __init__(
        self, *, partition: int, partitions: int, scratch: sqlite3.Connection, report: Callable[[Violation], None]
    ) -> None:
        """:param scratch: an empty database with `accepted_schema`, for this partition alone."""
        self.counts = Counts()
        self._cursor = LogCursor(compiled=False)
        self.chats: dict[str, Chat] = {}
        self.commands_from: int | None = None
        """Set by an opening that has it, for the reader of the commands: earlier outcomes answered other commands."""
        self._partition = partition
        self._partitions = partitions
        self._memory = Memory(scratch)
        self._report = report
        self._offset = 0

    @property
    def head(self) -> Head:
        return self._cursor.head

    def record(self, record: Record) -> Answered | None:
        """Check the next record. Returns an outcome to compare with its command, or None for void and openings.

        Raises CannotContinue if no reader could continue.
        """
        self._offset = record.offset
        self.counts.records += 1
        before = self.head
        event = self._cursor.read_one(record)
        try:
            match event:
                case Decided():
                    return self._outcome(event, before)
                case Opened():
                    # Its time may be before the last outcome's: an owner still writes while its successor opens a term.
                    self._opening(event.opening)
                case Void():
                    self.counts.void += 1
                case Stop():
                    raise event.error
        except LogCorrupt as error:
            self.violation("corrupt", f"{error}; no reader goes past it: export up to here and import into a new log")
            raise CannotContinue from None
        except UnknownType as error:
            self.violation("unknown_type", f"{error}; use the version of the writer")
            raise CannotContinue from None
        return None

    def violation(self, rule: str, detail: str, offset: int | None = None) -> None:
        """Report a violation at the current record, or at `offset`."""
        at = self._offset if offset is None else offset
        self._report(Violation(partition=self._partition, offset=at, rule=rule, detail=detail))

    def _opening(self, opening: TermOpened) -> None:
        if opening.partitions != self._partitions:
            self.violation(
                "partitions", f"it was opened for {opening.partitions} partitions, the topic has {self._partitions}"
            )
        if opening.commands_from is not None:
            self.commands_from = opening.commands_from
        self.counts.terms += 1

    def _outcome(self, decided: Decided, before: Head) -> Answered:
        """Check an outcome, and its index, order and time again, independently of the validity rule."""
        stamp, outcome = decided.stamp, decided.outcome
        if outcome.at_ms < before.last_timestamp_ms:
            self.violation(
                "time", f"its time {outcome.at_ms} is before that of the record before it, {before.last_timestamp_ms}"
            )
        self.counts.outcomes += 1
        if stamp.index != self.counts.outcomes:
            self.violation("index", f"index {stamp.index} is outcome number {self.counts.outcomes} of the partition")
        if stamp.command_offset <= before.command_offset:
            self.violation(
                "command_order", f"it answers command {stamp.command_offset} after command {before.command_offset}"
            )
        original = self._memory.recall(outcome.command_id)
        if isinstance(outcome, AcceptedOutcome):
            self._accepted(outcome, original)
        else:
            self._not_accepted(outcome, original)
        return Answered(offset=self._offset, stamp=stamp, outcome=outcome, original=original, messages=self._memory)

    def _accepted(self, outcome: AcceptedOutcome, original: AcceptedCommand | None) -> None:
        command_type = COMMAND_OF[outcome.type]
        self._identity(outcome, command_type)
        if original is not None and command_type not in MARKS:
            self.violation(
                "accepted_twice",
                f"command {outcome.command_id} was accepted before, at position {original.position}",
            )
        revision = self._judge(outcome)
        self._count(outcome, command_type, self.chats[outcome.chat_id])
        if command_type not in MARKS:
            self._memory.accepted(command_type, outcome, revision)

    def _judge(self, outcome: AcceptedOutcome) -> int | None:
        """Check an accepted event against rights and state, then apply it. Returns the revision after an edit."""
        chat = self.chats.get(outcome.chat_id)
        known = chat is not None
        if chat is None:
            chat = Chat(kind="group")
        case = Case(outcome, decode_accepted(outcome), chat, known, self._memory, self._memory)
        judge = judge_of(outcome.type)
        for rule, detail in judge.check(case):
            self.violation(rule, detail)
        revision = judge.apply(case)
        self.chats[outcome.chat_id] = chat
        return revision

    def _identity(self, outcome: AcceptedOutcome, command_type: CommandType) -> None:
        chat_id, sender_id, key = outcome.chat_id, outcome.sender_id, outcome.client_generated_id
        if ids.partition_of(chat_id, self._partitions) != self._partition:
            home = ids.partition_of(chat_id, self._partitions)
            self.violation("wrong_partition", f"chat {chat_id} lives in partition {home}")
        if not ids.is_uuid(sender_id):
            self.violation("identity", f"{outcome.type} in chat {chat_id} has a ce_sender that is no UUID")
        elif command_type not in MARKS and (
            key is None or ids.command_id(chat_id, sender_id, key) != outcome.command_id
        ):
            self.violation(
                "identity", f"command_id {outcome.command_id} is not that of its chat, sender and ce_clientid"
            )

    def _count(self, outcome: AcceptedOutcome, command_type: CommandType, chat: Chat) -> None:
        """Compare position and seq with the chat's, then continue from the record's own: one gap is one violation."""
        if outcome.position != chat.last_position + 1:
            self.violation(
                "position",
                f"position {outcome.position} of chat {outcome.chat_id} follows position {chat.last_position}",
            )
        chat.last_position = outcome.position
        if command_type is CommandType.MESSAGE_SEND:
            if outcome.seq != chat.last_seq + 1:
                self.violation("seq", f"seq {outcome.seq} of chat {outcome.chat_id} follows seq {chat.last_seq}")
            chat.last_seq = outcome.seq if outcome.seq is not None else chat.last_seq + 1
        elif outcome.seq is not None:
            self.violation("seq", f"a {outcome.type} has a seq, {outcome.seq}")

    def _not_accepted(self, outcome: OtherOutcome, original: AcceptedCommand | None) -> None:
        if outcome.kind is OutcomeKind.ACCEPTED:
            self.violation("unknown_type", f"{outcome.type} is no event of this version; use the version of the writer")
            raise CannotContinue
        if outcome.position is not None or outcome.seq is not None:
            self.violation("trace", f"a {outcome.type} leaves no trace, yet has position {outcome.position}")
        match outcome.kind:
            case OutcomeKind.DUPLICATE:
                self._duplicate(outcome, original)
            case OutcomeKind.UNCHANGED:
                position = decode_unchanged(outcome.body)
                last = chat.last_position if (chat := self.chats.get(outcome.chat_id or "")) is not None else 0
                if position is not None and position > last:
                    self.violation("unchanged", f"it names position {position}, the chat is at {last}")
            case _:
                self._rejected(outcome, original)

    def _duplicate(self, outcome: OtherOutcome, original: AcceptedCommand | None) -> None:
        body = decode_duplicate(outcome.body)
        if original is None:
            self.violation("duplicate", f"it repeats command {outcome.command_id}, which was never accepted")
            return
        said = (body.seq, body.position, body.sent_at_ms, body.revision)
        if said != (original.seq, original.position, original.at_ms, original.revision):
            self.violation(
                "duplicate",
                f"it says seq {body.seq}, position {body.position}, time {body.sent_at_ms}, revision {body.revision};"
                f" the original has seq {original.seq}, position {original.position}, time {original.at_ms}, revision"
                f" {original.revision}",
            )

    def _rejected(self, outcome: OtherOutcome, original: AcceptedCommand | None) -> None:
        body = decode_rejected(outcome.body)
        chat = self.chats.get(outcome.chat_id or "")
        sender = outcome.sender_id
        match body.reason:
            case Reason.CONFLICT if original is None:
                self.violation("rejected", f"conflict, yet command {outcome.command_id} was never accepted")
            case Reason.CHAT_EXISTS if chat is None:
                self.violation("rejected", f"chat_exists, yet chat {outcome.chat_id} does not")
            case Reason.UNKNOWN_CHAT if chat is not None and sender in chat.members:
                self.violation("rejected", f"unknown_chat, yet {sender} is or was a member of {outcome.chat_id}")
            case Reason.NOT_MEMBER if chat is None or not chat.was_member(sender):
                self.violation("rejected", f"not_member, yet {sender} is no former member of {outcome.chat_id}")
            case Reason.FORBIDDEN if chat is None or chat.present(sender) is None:
                self.violation("rejected", f"forbidden, yet {sender} is no member of {outcome.chat_id}")
        before_repeats = body.reason in (Reason.CONFLICT, Reason.MALFORMED, Reason.WRONG_PARTITION)
        if original is not None and not before_repeats and body.command_type not in MARKS:
            self.violation(
                "repeat", f"command {outcome.command_id} was accepted before: its repeat is a duplicate or a conflict,"
                f" never {body.reason.value}",
            )  # fmt: skip
