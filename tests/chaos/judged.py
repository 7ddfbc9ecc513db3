"""The checker's own reading of the log: records to outcomes, by the table in docs/log-protocol.md and wire headers.

It is independent of `schemas` on purpose: a mistake in the rule that all services share would otherwise go unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos.evidence import Record
from tests.chaos.violations import Kind, Violation
from tests.oracle.records import Outcome, read_outcome, text_headers


@dataclass(slots=True)
class Head:
    """The figures after the last record that counts."""

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
    """Return a record's headers as text."""
    return text_headers(record.headers)


def judge(records: Sequence[Record], violations: list[Violation]) -> dict[int, PartitionLog]:
    """Judge every partition by the rule, up to the first record that contradicts it."""
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
    """Apply the table to the next record, and return what contradicts it, or None."""
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
        outcome = read_outcome(
            record.key, record.value, headers, partition=record.partition, offset=record.offset,
            at_ms=record.timestamp_ms, stamp=(term, index, int(command)),
        )  # fmt: skip
    except ValueError as error:
        return f"it cannot be read: {error}"
    head.index, head.command_offset = index, outcome.command_offset
    head.last_timestamp_ms = max(head.last_timestamp_ms, record.timestamp_ms)
    log.outcomes.append(outcome)
    return None


def _in_time(log: PartitionLog, violations: list[Violation]) -> None:
    before_ms = 0
    for outcome in log.outcomes:
        if outcome.at_ms < before_ms:
            what = f"its time {outcome.at_ms} is before {before_ms}, that of the outcome before it"
            violations.append(Violation(Kind.TIME, outcome.place, what))
        before_ms = outcome.at_ms
