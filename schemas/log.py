"""The validity rule: which records of `chat.events` count. Every reader applies it, and it is public.

Several processes may *try* to write a partition; by this rule each reader sees the same valid records, whoever
wrote and whenever. It is judged from the record's stamp alone, before its type is looked at:

    record    condition                                                              verdict
    opening   term > head.term                                                       OPENS
    opening   else                                                                   VOID
    outcome   term < head.term                                                       VOID (a fenced writer)
    outcome   term = head.term, index ≤ head.index                                   VOID (a repeated copy)
    outcome   term = head.term, index = head.index + 1, command_offset > head's      VALID
    outcome   anything else                                                          LogCorrupt

A reader starts at offset 0 or at a whole stored head, nowhere else. Why the rule is enough: docs/log-protocol.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from schemas.errors import LogCorrupt


class Head(Struct, frozen=True, gc=False):
    """A reader's state after the last valid record. With the log offset it is all that a reader needs to continue."""

    term: int = 0
    index: int = 0
    """1, 2, 3 … over the valid outcomes of the partition."""
    command_offset: int = -1
    """Offset of the last decided command."""
    last_timestamp_ms: int = 0


EMPTY: Final = Head()
"""Before the first record of a partition."""


class Stamp(Struct, frozen=True, gc=False):
    """The place that a record claims in its headers. An opening has index 0 and command_offset −1."""

    term: int
    index: int
    command_offset: int


class Verdict(Enum):
    OPENS = auto()
    VALID = auto()
    VOID = auto()


_CE_ID = re.compile(rb"(\d{1,18})/(\d{1,18})", re.ASCII)
_NUMBER = re.compile(rb"\d{1,18}", re.ASCII)


def read_stamp(headers: Sequence[tuple[str, bytes]]) -> Stamp:
    """Return the stamp of a record. Raises LogCorrupt if it has none: no writer of this log appended it."""
    ce_id = command_offset = None
    for name, value in headers:
        if name == "ce_id":
            ce_id = value
        elif name == "ce_command":
            command_offset = value
    match = _CE_ID.fullmatch(ce_id) if ce_id is not None else None
    if match is None:
        raise LogCorrupt(f"a record's ce_id is not term/index: {ce_id!r:.80}")
    term, index = int(match[1]), int(match[2])
    if index == 0:
        return Stamp(term, 0, -1)
    if command_offset is None or _NUMBER.fullmatch(command_offset) is None:
        raise LogCorrupt(f"outcome {term}/{index} does not say which command it answers: {command_offset!r:.80}")
    return Stamp(term, index, int(command_offset))


def classify(head: Head, stamp: Stamp) -> Verdict:
    """Apply the rule. Raises LogCorrupt with both sides of the contradiction."""
    if stamp.index == 0:
        return Verdict.OPENS if stamp.term > head.term else Verdict.VOID
    if stamp.term < head.term:
        return Verdict.VOID
    if stamp.term == head.term:
        if stamp.index <= head.index:
            return Verdict.VOID
        if stamp.index == head.index + 1 and stamp.command_offset > head.command_offset:
            return Verdict.VALID
    raise LogCorrupt(f"{stamp} cannot follow {head}")


def advance(head: Head, stamp: Stamp, timestamp_ms: int, commands_from: int | None = None) -> Head:
    """Return the head after a record that opens or is valid. `commands_from` is that of an opening, if it has one."""
    if stamp.index == 0:
        command_offset = head.command_offset if commands_from is None else commands_from - 1
        return Head(stamp.term, head.index, command_offset, max(head.last_timestamp_ms, timestamp_ms))
    return Head(stamp.term, stamp.index, stamp.command_offset, max(head.last_timestamp_ms, timestamp_ms))
