"""Real time: a command that was answered precedes every command that was sent only after the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.chaos.acknowledged import acknowledged_by, command_id_of
from tests.chaos.check_log import Folded
from tests.chaos.evidence import Op
from tests.chaos.violations import Kind, Violation


class _Answered(NamedTuple):
    at_s: float
    number: int
    place: str


class _Sent(NamedTuple):
    at_s: float
    number: int
    place: str


def check_order(ops: Sequence[Op], folded: Folded, violations: list[Violation]) -> int:
    """Check that every acknowledged outcome precedes the outcome of any command that was first sent later.

    The order is checked per partition, which is stricter than per chat. Returns how many commands were checked.
    """
    answered: defaultdict[int, list[_Answered]] = defaultdict(list)
    for op in ops:
        told = acknowledged_by(op)
        if told is not None and told.index is not None and told.partition is not None:
            answered[told.partition].append(_Answered(told.answered_s, told.index, told.place))
    sent: defaultdict[int, list[_Sent]] = defaultdict(list)
    for partition, one in _sent(ops, folded):
        sent[partition].append(one)
    for partition, ones in sent.items():
        _sweep(partition, sorted(answered[partition]), sorted(ones), violations)
    return sum(len(ones) for ones in sent.values())


def _sent(ops: Sequence[Op], folded: Folded) -> Iterator[tuple[int, _Sent]]:
    """Yield each command whose outcome is known, with the time of its first send."""
    first_asked: dict[str, Op] = {}
    for op in ops:
        if op.kind != "command":
            continue
        command_id = command_id_of(op)
        if command_id is not None and (command_id not in first_asked or op.asked_s < first_asked[command_id].asked_s):
            first_asked[command_id] = op
        told = acknowledged_by(op)
        # A coalesced receipt may have been sent together with an earlier one.
        if command_id is not None and told is not None and told.index is not None and told.partition is not None:
            yield told.partition, _Sent(op.asked_s, told.index, told.place)
    for command_id, op in first_asked.items():
        for outcome in folded.by_command_id.get(command_id, []):
            place = f"{outcome.place}, first sent by {op.place}"
            yield outcome.partition, _Sent(op.asked_s, outcome.index, place)


def _sweep(partition: int, answered: list[_Answered], sent: list[_Sent], violations: list[Violation]) -> None:
    highest: _Answered | None = None
    following = 0
    for one in sent:
        while following < len(answered) and answered[following].at_s < one.at_s:
            if highest is None or answered[following].number > highest.number:
                highest = answered[following]
            following += 1
        if highest is not None and one.number <= highest.number:
            what = (
                f"its outcome {partition}:{one.number} stands before {partition}:{highest.number}, of which"
                f" {highest.place} was told {one.at_s - highest.at_s:.3f} s before it was sent"
            )
            violations.append(Violation(Kind.REAL_TIME, one.place, what))
