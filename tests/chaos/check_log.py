"""The log against itself and against the commands: every command has one outcome, in order, and the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.evidence import Op, Record
from tests.chaos.judged import PartitionLog, headers_of, judge
from tests.chaos.violations import Kind, Violation
from tests.oracle.oracle import COMMAND_TYPES, apply, expected
from tests.oracle.records import Json, Outcome, uuid_or_none
from tests.oracle.rule import Answer
from tests.oracle.state import State


@dataclass(slots=True)
class Folded:
    """The folded log, which all other checks compare their evidence with."""

    logs: dict[int, PartitionLog]
    state: State = field(default_factory=State)
    commands: dict[tuple[int, int], Record] = field(default_factory=dict)
    """(partition, offset) → record of chat.commands."""
    by_index: dict[tuple[int, int], Outcome] = field(default_factory=dict)
    by_command: dict[tuple[int, int], Outcome] = field(default_factory=dict)
    """(partition, offset of the command) → its outcome."""
    by_command_id: dict[str, list[Outcome]] = field(default_factory=dict)
    read_seqs: dict[tuple[int, int], int] = field(default_factory=dict)
    """(partition, index) of an outcome → its sender's read cursor after it."""


def check_log(
    commands: Sequence[Record], events: Sequence[Record], partitions: int, violations: list[Violation]
) -> Folded:
    """Judge and fold the log, and check each outcome against its command and the state in which it was decided."""
    folded = Folded(judge(events, violations))
    folded.commands = {(record.partition, record.offset): record for record in commands}
    for partition in folded.logs:
        for outcome in folded.logs[partition].outcomes:
            folded.by_index[partition, outcome.index] = outcome
            folded.by_command[partition, outcome.command_offset] = outcome
            if outcome.command_id is not None:
                folded.by_command_id.setdefault(outcome.command_id, []).append(outcome)
            _against_command(folded, outcome, partitions, violations)
            _apply(folded, outcome, violations)
    for partition, offset in sorted(folded.commands.keys() - folded.by_command.keys()):
        decided = folded.logs[partition].head.command_offset if partition in folded.logs else -1
        what = f"no outcome answers it; the last that is decided there is {decided}"
        violations.append(Violation(Kind.COMMAND_SKIPPED, f"commands {partition}@{offset}", what))
    return folded


def _apply(folded: Folded, outcome: Outcome, violations: list[Violation]) -> None:
    violations += [Violation(Kind(word), outcome.place, what) for word, what in apply(folded.state, outcome)]
    chat = folded.state.chats.get(outcome.chat or "")
    member = chat.members.get(outcome.sender or "") if chat is not None else None
    if member is not None:
        folded.read_seqs[outcome.partition, outcome.index] = member.read_seq


def _against_command(folded: Folded, outcome: Outcome, partitions: int, violations: list[Violation]) -> None:
    command = folded.commands.get((outcome.partition, outcome.command_offset))
    if command is None:
        what = f"it answers command {outcome.command_offset}, which is not there"
        violations.append(Violation(Kind.COMMAND_INVENTED, outcome.place, what))
        return
    headers = headers_of(command)
    right = expected(
        folded.state, command.key, command.value, headers, partition=command.partition, partitions=partitions,
        at_ms=outcome.at_ms,
    )  # fmt: skip
    said = outcome.kind, outcome.body.get("reason") if outcome.kind == "rejected" else None
    if said != (right.kind, right.reason):
        what = f"command {outcome.command_offset} is {said[0]} ({said[1]}), and has to be {right}"
        violations.append(Violation(Kind.WRONG_DECISION, outcome.place, what))
    elif outcome.kind in _FIGURES and outcome.body != (figures := _FIGURES[outcome.kind](right)):
        what = f"it says {outcome.body}, and has to say {figures}"
        violations.append(Violation(Kind.WRONG_DECISION, outcome.place, what))
    if right.reason in ("malformed", "wrong_partition"):
        return  # such a command's fields need not be repeated
    about = uuid_or_none(command.key), headers.get("ce_id"), headers.get("ce_sender"), headers.get("ce_clientid")
    if (outcome.chat, outcome.command_id, outcome.sender, outcome.client_id) != about:
        what = f"it is not about its command {outcome.command_offset}: {about}"
        violations.append(Violation(Kind.COMMAND_INVENTED, outcome.place, what))
    elif outcome.kind == "accepted" and (
        outcome.raw != command.value or COMMAND_TYPES.get(outcome.type) != headers.get("ce_type")
    ):
        what = f"a {outcome.type} whose body or type is not that of its command {outcome.command_offset}"
        violations.append(Violation(Kind.COMMAND_INVENTED, outcome.place, what))


def _all(right: Answer) -> Json:
    return right.figures


def _position(right: Answer) -> Json:
    return {name: figure for name, figure in right.figures.items() if name == "position"}


_FIGURES: Final = {"duplicate": _all, "unchanged": _position}
"""The body of an outcome that only refers to an earlier one."""


def check_tails(ops: Sequence[Op], events: Sequence[Record], violations: list[Violation]) -> int:
    """Check what readers of the log received against its present content, and return the number of records."""
    digests = {(record.partition, record.offset): record.digest for record in events}
    checked = 0
    for op in ops:
        if op.kind != "tail" or op.answer is None:
            continue
        partition = op.asked["partition"]
        for offset, digest in op.answer["records"]:
            checked += 1
            there = digests.get((partition, offset))
            if there != digest:
                what = f"{op.client} was given {digest}, now there is {there}"
                violations.append(Violation(Kind.LOG_REWRITTEN, f"events {partition}@{offset}", what))
    return checked
