"""The checker's own reading of the log: records to outcomes, by the table in docs/log-protocol.md and wire headers.

Written apart from `schemas` too, on purpose: a mistake in the rule that every service shares would hide in all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.evidence import Json, Record
from tests.chaos.violations import Kind, Violation

EVENT_TYPES: Final = {
    "chat.create.v1": "chat.created.v1",
    "member.add.v1": "member.added.v1",
    "member.remove.v1": "member.removed.v1",
    "member.role.v1": "member.role.changed.v1",
    "message.send.v1": "message.sent.v1",
    "message.delete.v1": "message.deleted.v1",
    "read.mark.v1": "read.advanced.v1",
    "delivered.mark.v1": "delivered.advanced.v1",
}
"""Command type → its accepted event, as far as a chaos run sends them."""
COMMAND_TYPES: Final = {event: command for command, event in EVENT_TYPES.items()}
MARKS: Final = frozenset({"read.mark.v1", "delivered.mark.v1"})
_KINDS: Final = {
    "command.duplicate.v1": "duplicate",
    "command.unchanged.v1": "unchanged",
    "command.rejected.v1": "rejected",
}
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A valid outcome."""

    partition: int
    offset: int
    term: int
    index: int
    command_offset: int
    type: str
    at_ms: int
    chat: str | None
    sender: str | None
    command_id: str | None
    client_id: str | None
    position: int | None
    seq: int | None
    raw: bytes
    body: Json

    @property
    def kind(self) -> str:
        """accepted, duplicate, unchanged or rejected."""
        return _KINDS.get(self.type, "accepted")

    @property
    def command_type(self) -> str | None:
        """Of an accepted one."""
        return COMMAND_TYPES.get(self.type)

    @property
    def place(self) -> str:
        return f"events {self.partition}@{self.offset}"


@dataclass(slots=True)
class Head:
    """After the last record that counts."""

    term: int = 0
    index: int = 0
    command_offset: int = -1
    last_timestamp_ms: int = 0
    next_offset: int = 0


@dataclass(slots=True)
class PartitionLog:
    """One partition, judged."""

    head: Head = field(default_factory=Head)
    outcomes: list[Outcome] = field(default_factory=list)
    terms: int = 0
    """Openings that count."""
    voids: int = 0
    void_openings: int = 0


def headers_of(record: Record) -> dict[str, str]:
    """As text; of a name that comes twice the last. What is no text is left out."""
    found: dict[str, str] = {}
    for name, value in record.headers:
        try:
            found[name] = value.decode()
        except UnicodeDecodeError:
            found.pop(name, None)
    return found


def uuid_or_none(raw: bytes | str | None) -> str | None:
    text = raw.decode("ascii", "replace") if isinstance(raw, bytes) else raw
    return text if text is not None and _UUID.fullmatch(text) is not None else None


def judge(records: Sequence[Record], violations: list[Violation]) -> dict[int, PartitionLog]:
    """Every partition by the rule; a partition is judged up to the first record that contradicts it."""
    logs: dict[int, PartitionLog] = {}
    for partition, of_partition in _by_partition(records):
        log = logs[partition] = PartitionLog()
        for record in of_partition:
            if record.offset != log.head.next_offset:
                what = f"offset {log.head.next_offset} is not there"
                violations.append(Violation(Kind.LOG_CORRUPT, f"events {partition}@{record.offset}", what))
                break
            trouble = take(log, record)
            if trouble is not None:
                violations.append(Violation(Kind.LOG_CORRUPT, f"events {partition}@{record.offset}", trouble))
                break
            log.head.next_offset = record.offset + 1
        _in_time(log, violations)
    return logs


def _by_partition(records: Iterable[Record]) -> Iterator[tuple[int, list[Record]]]:
    found: dict[int, list[Record]] = {}
    for record in records:
        found.setdefault(record.partition, []).append(record)
    for partition in sorted(found):
        yield partition, sorted(found[partition], key=lambda record: record.offset)


def take(log: PartitionLog, record: Record) -> str | None:
    """Applies the table to the next record; what contradicts it."""
    headers, head = headers_of(record), log.head
    stamp = re.fullmatch(r"(\d+)/(\d+)", headers.get("ce_id", ""))
    if stamp is None:
        return f"its ce_id is {headers.get('ce_id')!r}"
    term, index = int(stamp[1]), int(stamp[2])
    if index == 0:
        if term <= head.term:
            log.voids += 1
            log.void_openings += 1
            return None
        if headers.get("ce_type") != "term.opened.v1":
            return f"a {headers.get('ce_type')} opens term {term}"
        head.term = term
        head.last_timestamp_ms = max(head.last_timestamp_ms, record.timestamp_ms)
        log.terms += 1
        return None
    if term < head.term or (term == head.term and index <= head.index):
        log.voids += 1
        return None
    command = headers.get("ce_command", "")
    if term != head.term or index != head.index + 1 or not command.isdigit() or int(command) <= head.command_offset:
        return f"{term}/{index} of command {command!r} cannot follow {head}"
    try:
        outcome = _outcome(record, headers, term, index, int(command))
    except ValueError as error:
        return f"it cannot be read: {error}"
    head.index, head.command_offset = index, outcome.command_offset
    head.last_timestamp_ms = max(head.last_timestamp_ms, record.timestamp_ms)
    log.outcomes.append(outcome)
    return None


def _outcome(record: Record, headers: dict[str, str], term: int, index: int, command_offset: int) -> Outcome:
    position, seq = headers.get("ce_position"), headers.get("ce_seq")
    body = json.loads(record.value)
    if not isinstance(body, dict):
        raise ValueError("its body is no object")
    return Outcome(
        partition=record.partition,
        offset=record.offset,
        term=term,
        index=index,
        command_offset=command_offset,
        type=headers.get("ce_type", ""),
        at_ms=record.timestamp_ms,
        chat=uuid_or_none(record.key),
        sender=headers.get("ce_sender"),
        command_id=headers.get("ce_commandid"),
        client_id=headers.get("ce_clientid"),
        position=None if position is None else int(position),
        seq=None if seq is None else int(seq),
        raw=record.value,
        body=body,
    )


def _in_time(log: PartitionLog, violations: list[Violation]) -> None:
    before_ms = 0
    for outcome in log.outcomes:
        if outcome.at_ms < before_ms:
            what = f"its time {outcome.at_ms} is before {before_ms}, that of the outcome before it"
            violations.append(Violation(Kind.TIME, outcome.place, what))
        before_ms = outcome.at_ms
