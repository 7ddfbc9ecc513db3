"""Mistakes seeded into the production code, a line each, to check that the simulation finds them.

A mutation names a line of the source as it is. If the line has changed, `seeded` fails, so nothing passes by accident.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from schemas import cursor
from services.sequencer.partition import batch, term
from services.sequencer.partition.term import Term
from services.sequencer.partition.writer import PartitionWriter
from services.sequencer.peers.failure_detector import FailureDetector
from services.sequencer.rules import evolve
from services.sequencer.rules.facts import FACTS, Fact
from services.sequencer.rules.state import Overlay, View
from services.sequencer.snapshots import restore as snapshot_restoring
from services.sequencer.store import fold as recovery
from tests.model.rule import (
    classify_any_opening,
    classify_without_copies,
    classify_without_fencing,
    classify_without_terms,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One function of the production code, with part of its text replaced."""

    owner: Any
    name: str
    old: str
    new: str

    def function(self) -> Callable[..., Any]:
        original = getattr(self.owner, self.name)
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.old) == 1, f"{self.name} no longer says {self.old!r} once; mutate it anew"
        made: dict[str, Any] = {}
        exec(compile(source.replace(self.old, self.new), f"<{self.name}, mutated>", "exec"), original.__globals__, made)
        mutated: Callable[..., Any] = made[self.name]
        return mutated


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """One name of a production module, bound to another object."""

    owner: Any
    name: str
    other: Any

    def function(self) -> Any:
        return self.other


Mutation = tuple[Change | Swap, ...]


def _not_in_flight(fact: Fact[Any, Any]) -> str:
    """Return the line that looks up every fact in the batch in flight but those of one kind."""
    return f"(None if key[0] == {fact.letter!r} else self.in_flight.facts.get(key))"


_ACKNOWLEDGED = "        base = append.acknowledged.result()\n"

MUTATIONS: dict[str, Mutation] = {
    "the fold goes on where it was, not where the snapshot ends": (
        Change(
            owner=snapshot_restoring, name="fold",
            old="    if reader.position != store.position.next_offset:\n", new="    if False:\n",
        ),
    ),
    "reply before acknowledgement": (
        Change(
            owner=Term, name="_send", old="    crash_point(CRASH_BEFORE_APPEND)\n",
            new="    crash_point(CRASH_BEFORE_APPEND)\n    self._replies.publish(batch.replies)\n",
        ),
    ),
    "apply before acknowledgement": (
        Change(
            owner=Term, name="_send", old="    crash_point(CRASH_BEFORE_APPEND)\n",
            new="    crash_point(CRASH_BEFORE_APPEND)\n"
            "    end = self._store.position.next_offset + len(batch.records)\n"
            "    self._store.apply(batch.changes, LogPosition(next_offset=end, head=batch.head,"
            " last_record=record_digest(_AsRecord(batch))))\n",
        ),
        Change(
            owner=Term, name="_settle", old="expected = self._store.position.next_offset\n",
            new="expected = self._store.position.next_offset - len(batch.records)\n",
        ),
    ),
    "resume at the head's command": (
        Change(owner=Term, name="serve", old="resume = self._store.position.head.command_offset + 1\n",
            new="resume = max(0, self._store.position.head.command_offset)\n",
        ),
    ),
    "resume one too far": (
        Change(owner=Term, name="serve", old="head.command_offset + 1\n", new="head.command_offset + 2\n"),
    ),
    "a later term is not looked for": (Change(owner=Term, name="_check_term", old="later != self._term", new="False"),),
    "whose opening it is does not matter": (
        Change(owner=Term, name="open", old="not isinstance(ours, Opened) or ours.opening.owner != owner", new="False"),
    ),
    "the term does not rise": (
        Change(owner=Term, name="open", old="Stamp(head.term + 1, 0, -1)", new="Stamp(max(1, head.term), 0, -1)"),
    ),
    "any higher offset is as good": (
        Change(owner=Term, name="_settle", old="if base == expected:", new="if base >= expected:"),
    ),
    "any offset is as good": (
        Change(owner=Term, name="_settle", old="if base == expected:", new="if True:"),
    ),
    "a lower offset is believed": (
        Change(owner=Term, name="_settle", old="if base == expected:", new="if base <= expected:"),
    ),
    "a fold through, and no look at its verdicts": (
        Change(owner=Term, name="_fold_through", old="if ours != {Decided}:", new="if False:"),
    ),
    "an unknown batch is forgotten and the term goes on": (
        Change(
            owner=Term, name="_settle", old=_ACKNOWLEDGED.removeprefix("    "),
            new="    if append.acknowledged.exception() is not None:\n        return\n"
            + _ACKNOWLEDGED.removeprefix("    "),
        ),
    ),
    "an unknown batch is taken for good": (
        Change(
            owner=Term, name="_settle", old=_ACKNOWLEDGED.removeprefix("    "),
            new="    if append.acknowledged.exception() is not None:\n        base = self._store.position.next_offset\n"
            "    else:\n    " + _ACKNOWLEDGED.removeprefix("    "),
        ),
    ),
    "commands of an ended term are kept": (
        Change(
            owner=Term, name="__init__", old="self._waiting: deque[CommandRead] = deque()",
            new="self._waiting = logs.__dict__.setdefault('kept', deque())",
        ),
    ),
    "the batch in flight is not looked at": (
        Swap(owner=batch, name="Overlay", other=lambda below, in_flight=None: _overlay(below)),
    ),
    "the head of the batch in flight is not looked at": (
        Change(
            owner=batch, name="new_batch", old="before.head if before is not None else store.position.head",
            new="store.position.head",
        ),
    ),
    "what was accepted is not dedup": (
        Change(
            owner=evolve, name="evolve", old="if outcome.client_generated_id is not None and", new="if False and",
        ),
    ),
    "whose message it is, is not looked up in the batch in flight": (
        Change(owner=Overlay, name="author", old="or self.in_flight.author(chat_id, seq)", new=""),
    ),
    "how the batch in flight changes a member is not looked up": (
        Change(owner=Overlay, name="member", old="found = in_flight.get(key)", new="pass"),
    ),
    **{
        f"a fact in flight is not looked up: {fact.name}": (
            Change(owner=Overlay, name="fact", old="self.in_flight.facts.get(key)", new=_not_in_flight(fact)),
        )
        for fact in FACTS
    },
    "what was deleted or edited is forgotten": (Swap(owner=Overlay, name="fact", other=lambda *_: None),),
    "time may fall": (
        Change(owner=batch._Filler, name="__init__", old="max(at_ms, head.last_timestamp_ms)", new="at_ms"),
    ),
    "the rule: no terms": (Swap(owner=cursor, name="classify", other=classify_without_terms),),
    "the rule: no row for the fenced": (Swap(owner=cursor, name="classify", other=classify_without_fencing),),
    "the rule: no row for copies": (Swap(owner=cursor, name="classify", other=classify_without_copies),),
    "the rule: any opening opens": (Swap(owner=cursor, name="classify", other=classify_any_opening),),
    "missing commands are believed": (
        Change(owner=Term, name="_check_commands", old="await self._check_still_ours()", new="pass"),
    ),
    "a superseded writer waits for a word that does not come": (
        Change(
            owner=PartitionWriter, name="_one_term", old="self._hint.wait_assignment(self._assignment_timeout_s)",
            new="self._hint.wait_assignment(1e9)",
        ),
    ),
    "who lost the hint never looks": (
        Change(owner=Term, name="_nothing_came", old="if not self._is_uncontested(self._term):", new="if False:"),
    ),
    "no standby is ever called": (Swap(owner=FailureDetector, name="should_take_over", other=lambda *_: False),),
    "a standby passes over what it has read": (
        Change(
            owner=PartitionWriter, name="_stand_by", old="fold_read(found, events.position,",
            new="fold_read([], events.position,",
        ),
    ),
}  # fmt: skip
"""What is wrong → where."""


def _overlay(below: View) -> Overlay:
    return Overlay(below)


@contextmanager
def seeded(mutation: Mutation) -> Iterator[None]:
    """Put the mistake into the production code."""
    with ExitStack() as stack:
        for change in mutation:
            function = change.function()
            # Also in modules that import it by name.
            for owner in (change.owner, *_IMPORTERS.get(change.name, ())):
                stack.enter_context(mock.patch.object(owner, change.name, function))
        yield


_IMPORTERS: dict[str, tuple[Any, ...]] = {"evolve": (batch, recovery), "decide_into": (term,), "new_batch": (term,)}
