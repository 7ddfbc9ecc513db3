"""The checker: reads what a chaos run left and reports every violation.

It runs no server and shares no code with the services except the ids of the wire contract. The oracle (tests/oracle)
determines the outcome of a command and the meaning of an event. Each check is a module of its own;
tests/unit/chaos/test_checker.py plants a violation of every kind and checks that it is found.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.chaos.check_answers import check_answers
from tests.chaos.check_live import check_live
from tests.chaos.check_log import check_log, check_tails
from tests.chaos.check_order import check_order
from tests.chaos.check_readers import check_readers
from tests.chaos.check_snapshots import check_snapshots
from tests.chaos.check_tables import check_tables
from tests.chaos.evidence import Evidence
from tests.chaos.rows import rows_of
from tests.chaos.violations import Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found, and how much was checked."""

    violations: tuple[Violation, ...]
    commands: int
    outcomes: dict[str, int]
    terms: int
    voids: int
    void_openings: int
    answers: int
    """Answers that promise something: outcomes, refusals, acknowledged appends, statuses."""
    ordered: int
    """Commands checked against real time."""
    reads: int
    """Reads of history, checked by seq."""
    snapshots: dict[str, int]
    """Reads checked against the one state of the log that they show, by kind."""
    live: dict[str, int]
    """Connections, frames of events, gaps, removals and copies of streams."""
    tailed: int
    rows: int


def check(evidence: Evidence) -> Report:
    """Run all checks."""
    violations: list[Violation] = []
    folded = check_log(evidence.commands, evidence.events, evidence.partitions, violations)
    answers = check_answers(evidence.ops, folded, violations)
    ordered = check_order(evidence.ops, folded, violations)
    reads = check_readers(evidence.ops, folded, violations)
    snapshots = check_snapshots(evidence.ops, folded, violations)
    live = check_live(evidence.ops, folded, violations)
    tailed = check_tails(evidence.ops, evidence.events, violations)
    rows = check_tables(evidence.tables, rows_of(folded.state, folded.logs), violations)
    logs = folded.logs.values()
    return Report(
        violations=tuple(violations),
        commands=len(evidence.commands),
        outcomes=dict(Counter(outcome.kind for log in logs for outcome in log.outcomes)),
        terms=sum(log.terms for log in logs),
        voids=sum(log.voids for log in logs),
        void_openings=sum(log.void_openings for log in logs),
        answers=answers,
        ordered=ordered,
        reads=reads,
        snapshots=snapshots,
        live=live,
        tailed=tailed,
        rows=rows,
    )
