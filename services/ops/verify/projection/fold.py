"""The verifier's own fold: the rows that a partition implies, by docs/log-protocol.md and docs/read-model.md.

Written independently of the projector on purpose. The projector merges the rows of a batch and updates counters in
steps; here every event is one or two plain statements on the scratch file (the nouns), and counters are counted. It
must stay so: a line shared with the projector would let one bug hide in both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

from schemas.bodies import MessageEdit
from schemas.errors import LogCorrupt, UnknownType
from schemas.events import (
    AcceptedOutcome,
    Outcome,
    OutcomeKind,
    body_of,
    decode_duplicate,
    decode_rejected,
    decode_unchanged,
)
from schemas.log import Stamp
from schemas.types import COMMAND_OF, EventType
from services.ops.verify.projection.nouns import FOLDS
from services.ops.verify.projection.statements import SQL, Statements
from services.ops.verify.projection.tables import Row, Table, Value

LONGER_SPANS: Final = (4_096, 65_536, 1_048_576)
"""Spans of the blocks in which deleted messages are counted, in addition to those of 256 seqs."""


class LogFold:
    """Folds the valid outcomes of one partition, in order, into an empty scratch database (ROWS_SCHEMA)."""

    def __init__(self, scratch: sqlite3.Connection, partition: int) -> None:
        self._scratch = scratch
        self._rows = Statements(scratch)
        self._partition = partition

    def apply(self, stamp: Stamp, outcome: Outcome) -> None:
        """Fold one valid outcome.

        Raises LogCorrupt if the log contradicts itself, UnknownType for an event that this fold does not know.
        """
        if outcome.type == EventType.TERM_OPENED:
            raise LogCorrupt(f"a term.opened with the index of an outcome: {stamp}")
        kind = outcome.kind
        if kind is OutcomeKind.ACCEPTED:
            fold = FOLDS.get(outcome.type)
            if fold is None or not isinstance(outcome, AcceptedOutcome):
                raise UnknownType(f"the verifier does not know {outcome.type}; use the version of the writer")
            self._rows.index = stamp.index
            fold(self._rows, outcome)
        self._remember(stamp, outcome, kind)

    def finish(self) -> None:
        """Count what is defined by counting. Call once, after the last outcome."""
        self._scratch.execute(SQL["count_own_live"])
        self._scratch.execute(SQL["count_replies"])
        self._scratch.execute(SQL["drop_empty_counts"])
        self._scratch.execute(SQL["count_deleted_places"])
        for span in LONGER_SPANS:
            self._scratch.execute(SQL["count_deleted_blocks"], {"span": span})
        self._scratch.execute(SQL["count_deleted"])

    def leave_out_details(self, indexes: Iterable[int]) -> None:
        """Clear the details of these rejections: the release that projected them did not store any."""
        self._scratch.executemany(SQL["leave_out_detail"], ({"index": index} for index in indexes))

    def rows(self, table: Table, since_us: int) -> Iterator[Row]:
        """Return all rows of a table, in no order; of `outcomes` those not older than `since_us`."""
        return self._rows.select(f"all_{table.name}", since=since_us)

    def group(self, table: Table, group: Value, since_us: int) -> Iterator[Row]:
        """Return the rows of one chat (or of the partition), in key order."""
        return self._rows.select(f"group_{table.name}", group=group, since=since_us)

    def _remember(self, stamp: Stamp, outcome: Outcome, kind: OutcomeKind) -> None:
        """Store what a sender can look up by command_id; an outcome without one cannot be looked up."""
        if outcome.command_id is None:
            return
        command_type: str | None = None
        reason: str | None = None
        detail: str | None = None
        revision: Value = None
        seq, position = outcome.seq, outcome.position
        match kind:
            case OutcomeKind.DUPLICATE:
                original = decode_duplicate(outcome.body)
                seq, position, revision = original.seq, original.position, original.revision
            case OutcomeKind.UNCHANGED:
                position = decode_unchanged(outcome.body)
            case OutcomeKind.REJECTED:
                rejected = decode_rejected(outcome.body)
                command_type, reason, detail = rejected.command_type, rejected.reason.value, rejected.detail
            case OutcomeKind.ACCEPTED:
                command_type = COMMAND_OF[outcome.type].value
                revision = self._revision(outcome)
        self._scratch.execute(
            SQL["add_outcome"],
            {
                "partition": self._partition,
                "index": stamp.index,
                "command_id": outcome.command_id,
                "sender": outcome.sender_id,
                "type": command_type,
                "outcome": kind.value,
                "reason": reason,
                "seq": seq,
                "position": position,
                "at": outcome.at_ms * 1000,
                "detail": detail,
                "revision": revision,
            },
        )

    def _revision(self, outcome: Outcome) -> Value:
        """Return the revision after an edit that has just been folded, or None for any other outcome."""
        if not isinstance(outcome, AcceptedOutcome) or outcome.type != EventType.MESSAGE_EDITED:
            return None
        seq = body_of(outcome, MessageEdit).seq
        return next(self._rows.select("revision_of", chat=outcome.chat_id, seq=seq))[0]
