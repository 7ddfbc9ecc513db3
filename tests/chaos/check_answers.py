"""The clients' answers against the log: every answer matches exactly one outcome, with its figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from tests.chaos.acknowledged import ACCEPTED, REJECTED, Acknowledged, acknowledged_by, command_id_of
from tests.chaos.check_log import Folded
from tests.chaos.evidence import Op
from tests.chaos.judged import headers_of
from tests.chaos.violations import Kind, Violation
from tests.oracle.records import Outcome

INGEST_TOO: Final = frozenset({"malformed", "too_large", "invalid", "forbidden"})
"""Reasons that ingest returns by itself, before anything is in a log."""


def check_answers(ops: Sequence[Op], folded: Folded, violations: list[Violation]) -> int:
    """Check all answers that promise something against the log, and return their number."""
    told = [t for op in ops if (t := acknowledged_by(op)) is not None]
    for t in told:
        if t.index is not None:
            _one_outcome(t, folded, violations)
    _by_key(told, violations)
    _refusals(ops, told, folded, violations)
    return len(told) + _appends(ops, folded, violations) + _statuses(ops, folded, violations)


def _one_outcome(t: Acknowledged, folded: Folded, violations: list[Violation]) -> None:
    """Check an answer that names its outcome: it exists, is about this command, and has these figures."""
    assert t.partition is not None
    assert t.index is not None
    outcome = folded.by_index.get((t.partition, t.index))
    if outcome is None:
        what = f"{sorted(t.outcome)} by outcome {t.partition}:{t.index}, and there is none"
        violations.append(Violation(Kind.ANSWER_NOT_IN_LOG, t.place, what))
        return
    asked = t.op.asked
    differences = []
    if outcome.kind not in t.outcome:
        differences.append(f"outcome {sorted(t.outcome)}")
    if (outcome.chat, outcome.sender) != (asked["chat"], asked["sender"]):
        differences.append(f"chat {asked['chat']}, sender {asked['sender']}")
    if t.command_id is not None:
        if outcome.command_id != t.command_id:
            differences.append(f"command_id {t.command_id}")
        if outcome.kind in ("accepted", "duplicate"):
            state = folded.state
            differences += _figures(t, state.accepted.get(t.command_id), state.revisions.get(t.command_id))
        if t.reason is not None and outcome.body.get("reason") != t.reason:
            differences.append(f"reason {t.reason}")
    elif t.read_seq is not None and folded.read_seqs.get((t.partition, t.index)) != t.read_seq:
        differences.append(f"read_seq {t.read_seq}")
    if differences:
        what = f"told {', '.join(differences)}; {outcome.place} says otherwise: {outcome.kind} {outcome.body}"
        violations.append(Violation(Kind.ANSWER_DIFFERS, t.place, what[:600]))


def _figures(t: Acknowledged, original: Outcome | None, revision: int | None) -> list[str]:
    if original is None:
        return ["accepted"]
    body = {name: value for name, value in t.op.asked["body"].items() if value is not None}
    wrong = [] if original.body == body else ["another body than was accepted"]
    sides = (
        ("seq", t.seq, original.seq),
        ("position", t.position, original.position),
        ("revision", t.revision, revision),
        ("sent_at_ms", t.sent_at_ms, original.at_ms),
    )
    return wrong + [f"{name} {said}" for name, said, right in sides if said is not None and said != right]


def _by_key(told: Sequence[Acknowledged], violations: list[Violation]) -> None:
    """Check repeats of one key against each other, whatever the log says."""
    first: dict[str, Acknowledged] = {}
    figures: dict[str, Acknowledged] = {}
    for t in told:
        if t.command_id is None or t.outcome == REJECTED:
            continue
        if t.seq is not None:
            other = figures.setdefault(t.command_id, t)
            if other.figures != t.figures:
                what = f"{t.figures}, yet {other.place} was told {other.figures}"
                violations.append(Violation(Kind.REPEAT_DIFFERS, t.place, what))
        if t.outcome == ACCEPTED:
            other = first.setdefault(t.command_id, t)
            if other is not t:
                what = f"told that it was new, as was {other.place}, of the same command {t.command_id}"
                violations.append(Violation(Kind.TOLD_TWICE, t.place, what))


def _refusals(ops: Sequence[Op], told: Sequence[Acknowledged], folded: Folded, violations: list[Violation]) -> None:
    """Check the refusals.

    A refusal answers one copy of a command; only copies with unknown answers may have been accepted.
    """
    refused = [t for t in told if t.outcome == REJECTED and t.command_id is not None]
    refused_ops = {t.op.op for t in refused}
    open_keys = {command_id_of(op) for op in ops if op.kind == "command" and op.op not in refused_ops}
    counts: Counter[tuple[str, str]] = Counter()
    for t in refused:
        assert t.command_id is not None
        assert t.reason is not None
        accepted = folded.state.accepted.get(t.command_id)
        same = accepted is not None and accepted.body == t.op.asked["body"]
        if accepted is not None and same and (t.reason == "conflict" or t.command_id not in open_keys):
            what = f"told {t.reason}, yet it was accepted at {accepted.place}"
            violations.append(Violation(Kind.REFUSED_YET_ACCEPTED, t.place, what))
        if t.reason not in INGEST_TOO:
            counts[t.command_id, t.reason] += 1
    in_log: defaultdict[tuple[str, str], int] = defaultdict(int)
    for outcomes in folded.by_command_id.values():
        for outcome in outcomes:
            if outcome.kind == "rejected" and outcome.command_id is not None:
                in_log[outcome.command_id, outcome.body["reason"]] += 1
    for (command_id, reason), count in counts.items():
        if count > in_log[command_id, reason]:
            what = f"{count} answers say {reason}, the log does {in_log[command_id, reason]} times"
            violations.append(Violation(Kind.REFUSAL_NOT_IN_LOG, f"command {command_id}", what))


def _appends(ops: Sequence[Op], folded: Folded, violations: list[Violation]) -> int:
    """Check that each command whose append was acknowledged is at the acknowledged place."""
    checked = 0
    for op in ops:
        if op.kind != "command" or op.appended is None:
            continue
        checked += 1
        record = folded.commands.get(op.appended)
        command_id = command_id_of(op)
        if record is None or (command_id is not None and headers_of(record).get("ce_id") != command_id):
            place = f"commands {op.appended[0]}@{op.appended[1]}"
            what = f"{op.place} was acknowledged there, and it is not"
            violations.append(Violation(Kind.COMMAND_LOST, place, what))
    return checked


def _statuses(ops: Sequence[Op], folded: Folded, violations: list[Violation]) -> int:
    """Check the answers of the status route."""
    checked = 0
    for op in ops:
        if op.kind != "status" or op.answer is None or op.answer["http"] not in (200, 404):
            continue
        checked += 1
        partition, offset = (int(part) for part in op.asked["at"].split(":"))
        command_id = op.asked["command_id"]
        body = op.answer["body"] if op.answer["http"] == 200 else {"outcome": "unknown"}
        if not _is_right(body, command_id, folded, folded.by_command.get((partition, offset))):
            what = f"told {body} of command {command_id} at {op.asked['at']}; the log says otherwise"
            violations.append(Violation(Kind.ANSWER_DIFFERS, op.place, what))
    return checked


def _is_right(body: dict[str, object], command_id: str, folded: Folded, at: Outcome | None) -> bool:
    accepted = folded.state.accepted.get(command_id)
    match body["outcome"]:
        case "pending":
            return True
        case "accepted":
            if accepted is None:
                return False
            figures = body.get("seq", accepted.seq), body.get("position", accepted.position)
            return figures == (accepted.seq, accepted.position)
        case "unknown":
            return at is None or at.command_id != command_id
        case kind:
            found = folded.by_command_id.get(command_id, [])
            return any(o.kind == kind and o.body.get("reason") == body.get("reason") for o in found)
