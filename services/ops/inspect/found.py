"""What `gapless show` found of a command in the log and in the tables, and whether the two agree. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from schemas.bodies import MessageSend
from schemas.cursor import Decided
from schemas.errors import Reason
from schemas.events import AcceptedOutcome, Outcome, OutcomeKind, body_of, decode_duplicate, decode_rejected
from schemas.ids import ChatId
from schemas.log import Stamp
from schemas.types import TAKES_SEQ, EventType
from schemas.wire.encoding import Record, Undecodable, Unreadable, read_command
from services.ops.inspect.rows import ChatRow, MessageRow, OutcomeRow, Rows

OUTCOMES_MUST_EXIST_MS: Final = (7 * 86_400 - 600) * 1000
"""Age up to which a row of `outcomes` must exist: they are kept for 7 days, and the clocks of two machines differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFound:
    """A record of `chat.commands`."""

    partition: int
    offset: int
    at_ms: int
    type: str | None
    chat_id: str | None
    sender_id: str | None
    client_generated_id: str | None
    command_id: str | None
    body: bytes
    headers: tuple[tuple[str, str], ...]
    unreadable: str | None = None
    """Why it is no command, if it is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """The opening of a term: who decides in it."""

    owner: str
    host: str
    offset: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeFound:
    """A valid record of `chat.events` that answers the command."""

    partition: int
    offset: int
    stamp: Stamp
    outcome: Outcome
    writer: Writer | None = None

    @property
    def token(self) -> str:
        return f"{self.partition}:{self.stamp.index}"

    @property
    def reason(self) -> Reason | None:
        return decode_rejected(self.outcome.body).reason if self.outcome.kind is OutcomeKind.REJECTED else None

    @property
    def detail(self) -> str | None:
        return decode_rejected(self.outcome.body).detail if self.outcome.kind is OutcomeKind.REJECTED else None

    @property
    def figures(self) -> tuple[int | None, int | None]:
        """Seq and position; of a duplicate those of the original."""
        if self.outcome.kind is OutcomeKind.DUPLICATE:
            original = decode_duplicate(self.outcome.body)
            return original.seq, original.position
        return self.outcome.seq, self.outcome.position


@dataclass(slots=True, kw_only=True)
class Found:
    """All that was found of one command."""

    partition: int
    command: CommandFound | None = None
    outcomes: list[OutcomeFound] = field(default_factory=list)
    """Every outcome of its command_id that was found, in the order of the log."""
    rows: Rows
    differences: list[str] = field(default_factory=list)
    """What the log and the tables do not agree on, a sentence each."""
    notes: list[str] = field(default_factory=list)

    @property
    def telling(self) -> OutcomeFound | None:
        """The outcome that says what became of the command: the accepted one if there is one, else the last."""
        accepted = [each for each in self.outcomes if each.outcome.kind is OutcomeKind.ACCEPTED]
        return (accepted or self.outcomes)[-1] if self.outcomes else None

    @property
    def http_status(self) -> int:
        """The status of the response over HTTP to the command with the telling outcome."""
        telling = self.telling
        return 202 if telling is None else http_status(telling.outcome.type, telling.outcome.kind, telling.reason)


def outcome_found(partition: int, decided: Decided) -> OutcomeFound:
    return OutcomeFound(partition=partition, offset=decided.offset, stamp=decided.stamp, outcome=decided.outcome)


def command_found(record: Record, partition: int, partitions: int) -> CommandFound:
    read = read_command(record, partition, partitions)
    headers = () if isinstance(record, Undecodable) else record.headers
    return CommandFound(
        partition=partition,
        offset=record.offset,
        at_ms=record.timestamp,
        type=read.type,
        chat_id=read.chat_id,
        sender_id=read.sender_id,
        client_generated_id=read.client_generated_id,
        command_id=read.command_id,
        body=record.value or b"",
        headers=tuple((name, (value or b"").decode("utf-8", "replace")) for name, value in headers),
        unreadable=f"{read.reason}: {read.detail}" if isinstance(read, Unreadable) else None,
    )


def http_status(event_type: str, kind: OutcomeKind, reason: Reason | None) -> int:
    """Return the status with which ingest answers such an outcome: 201 if something with an address was created."""
    if kind is OutcomeKind.REJECTED:
        return reason.status or 500 if reason is not None else 500
    created = event_type in TAKES_SEQ or event_type == EventType.CHAT_CREATED
    return 201 if kind is OutcomeKind.ACCEPTED and created else 200


def compare(found: Found) -> None:
    """Add to `found` what the tables should hold by the log and do not, and the other way round."""
    rows, applied = found.rows, found.rows.applied(found.partition)
    held = {row.log_index: row for row in rows.outcomes if row.partition == found.partition}
    sent: OutcomeFound | None = None
    for each in found.outcomes:
        if each.outcome.type == EventType.MESSAGE_SENT:
            sent = each
        row = held.pop(each.stamp.index, None)
        if each.offset >= applied:
            found.notes.append(
                f"outcome {each.token} is not in {rows.version} yet: it is at offset {each.offset} of the log, and"
                f" {rows.version} has applied {applied} records"
            )
        elif row is None and each.outcome.command_id is not None:
            if rows.now_ms - each.outcome.at_ms < OUTCOMES_MUST_EXIST_MS:
                found.differences.append(f"outcomes has no row for outcome {each.token}")
        elif row is not None:
            found.differences += _outcome_differences(each, row)
    for index in held:
        found.differences.append(f"outcomes has a row for {found.partition}:{index}, and the log has no such outcome")
    found.differences += _message_differences(sent, rows.message, applied)


def _outcome_differences(each: OutcomeFound, row: OutcomeRow) -> Iterator[str]:
    seq, position = each.figures
    expected: dict[str, object] = {"outcome": each.outcome.kind.value, "reason": each.reason}
    shown: dict[str, object] = {"outcome": row.outcome, "reason": row.reason}
    if each.outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.DUPLICATE):
        expected |= {"seq": seq, "position": position}
        shown |= {"seq": row.seq, "position": row.position}
    for name, value in expected.items():
        if shown[name] != value:
            yield f"outcomes {each.token}: {name} is {shown[name]}, in the log {value}"


def _message_differences(sent: OutcomeFound | None, row: MessageRow | None, applied: int) -> Iterator[str]:
    if sent is None or sent.offset >= applied:
        if row is not None and sent is None:
            yield f"chat_messages has message {row.seq}, and the log has no outcome that sent it"
        return
    outcome = sent.outcome
    if row is None:
        yield f"chat_messages has no row for message {outcome.seq}"
        return
    pairs: list[tuple[str, object, object]] = [
        ("chat_id", row.chat_id, outcome.chat_id),
        ("seq", row.seq, outcome.seq),
        ("position", row.position, outcome.position),
        ("sender_id", row.sender_id, outcome.sender_id),
        ("message_id", row.message_id, outcome.command_id),
        ("client_generated_id", row.client_generated_id, outcome.client_generated_id),
        ("sent_at", row.sent_at_ms, outcome.at_ms),
    ]
    for name, shown, value in pairs:
        if shown != value:
            yield f"chat_messages {outcome.seq}: {name} is {shown}, in the log {value}"
    if row.revision == 0 and not row.deleted and row.text != _text(outcome):
        yield f"chat_messages {outcome.seq}: message_text is not the text in the log, and no edit is known"


def _text(outcome: Outcome) -> str | None:
    assert isinstance(outcome, AcceptedOutcome)
    return body_of(outcome, MessageSend).text


@dataclass(slots=True, kw_only=True)
class ChatFound:
    """All that was found of one chat."""

    chat_id: ChatId
    partition: int
    row: ChatRow | None
    rows: Rows
    created: OutcomeFound | None = None
    last: OutcomeFound | None = None
    """The last event of the chat that the serving projection has applied."""
    unapplied: list[OutcomeFound] = field(default_factory=list)
    """Events of the chat that it has not applied yet."""
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare_chat(found: ChatFound) -> None:
    """Add to `found` what the row of the chat and the log do not agree on."""
    row = found.row
    if row is None:
        if found.last is not None:
            found.differences.append("chats has no row for this chat, and the log has events of it")
        return
    if row.last_seq != (row.newest_seq or 0):
        found.differences.append(f"chats: last_seq is {row.last_seq}, and the newest message has {row.newest_seq}")
    if found.created is None:
        found.differences.append("chats has a row for this chat, and the log has no record that created it")
    elif found.created.outcome.sender_id != row.created_by:
        created_by = found.created.outcome.sender_id
        found.differences.append(f"chats: created_by is {row.created_by}, in the log {created_by}")
    if row.changed_index is None:
        found.notes.append("the row was written by a release that does not say at which outcome: not compared")
    elif found.last is None:
        found.differences.append(f"chats: the log has no outcome {found.partition}:{row.changed_index} of this chat")
    elif found.last.outcome.position != row.last_position:
        position = found.last.outcome.position
        found.differences.append(f"chats: last_position is {row.last_position}, in the log {position}")
    if found.unapplied:
        found.notes.append(f"{len(found.unapplied)} events of this chat are not in {found.rows.version} yet")
