"""Checks a run from outside, record by record: by the wire contract and simple statements, not by the writer's code.

Which records count is decided here by an independent reading of the rule, and the outcome of a command by the oracle
(tests/oracle). So an error in `classify`, `decide` or `evolve` is not hidden by the check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NoReturn

from schemas.errors import LogCorrupt
from schemas.events import Outcome, OutcomeKind, decode_rejected, decode_term_opened, decode_unchanged
from schemas.log import EMPTY, Head, Verdict, advance, classify, read_stamp
from schemas.types import COMMAND_OF, CommandType, EventType
from schemas.wire.encoding import Command, Record, Unreadable, read_command, read_outcome
from schemas.wire.replies import Figures, Reply
from tests.oracle import oracle
from tests.oracle.chats import chat_id_of_key
from tests.oracle.records import read_outcome as read_plainly
from tests.oracle.records import text_headers
from tests.oracle.rule import Answer
from tests.oracle.state import State
from tests.support.simulated_log import SimulatedLog

_FIGURES = (*Figures.__struct_fields__, "sent_at_ms")
"""The figures of a reply."""
_COUNTED: dict[str, str] = {
    CommandType.MESSAGE_EDIT: "edits",
    CommandType.MESSAGE_DELETE: "deletions",
    CommandType.MEMBER_ROLE: "roles",
    CommandType.REACTION_ADD: "reactions",
    CommandType.REACTION_REMOVE: "removed reactions",
}


class Violation(Exception):
    """A statement that must hold in every run does not hold in this one."""


class Checker:
    """Sees every record as it lands and every reply as it is sent. Each method raises Violation."""

    def __init__(
        self,
        commands: SimulatedLog,
        *,
        partition: int,
        partitions: int,
        text_characters_of: Callable[[str], int],
    ) -> None:
        """`text_characters_of` returns the longest text that a host's program accepts; hosts may run different
        versions.
        """
        self._text_characters_of = text_characters_of
        self._host = ""
        self._commands = commands
        self._partition = partition
        self._partitions = partitions
        self._state = State()
        self._answered: list[tuple[Command | Unreadable, Answer]] = []
        """By index, from 1."""
        self._next_command = 0
        """The command that has to be answered next, counted in the commands' records."""
        self._last_at_ms = 0
        self._returns = 0
        """How often a creator rejoined a chat that all members had left."""
        self.term = 0
        self.voids = 0
        self.heads: list[Head] = [EMPTY]
        """The head before each offset of the log, and at its end, by the production rule."""

    @property
    def decided(self) -> int:
        """Number of commands that have their outcome."""
        return self._next_command

    @property
    def figures(self) -> dict[str, int]:
        """Figures of the run, which show what it covered."""
        found: dict[str, int] = {
            "terms": self.term, "void records": self.voids, "returns": self._returns, "chats by key": 0, "roles": 0,
        }  # fmt: skip
        for command, answer in self._answered:
            found[answer.kind] = found.get(answer.kind, 0) + 1
            if answer.kind == OutcomeKind.ACCEPTED and command.type in _COUNTED:
                found[_COUNTED[command.type]] = found.get(_COUNTED[command.type], 0) + 1
            if answer.kind == OutcomeKind.ACCEPTED and command.type == CommandType.CHAT_CREATE:
                by_key = chat_id_of_key(str(command.sender_id), str(command.client_generated_id))
                found["chats by key"] += command.chat_id == by_key
        return found

    def landed(self, records: Sequence[Record]) -> None:
        """Check records that have just become part of the event log."""
        for record in records:
            self._judge(record)

    def _judge(self, record: Record) -> None:
        term, index = (int(n) for n in dict(record.headers)["ce_id"].decode().split("/"))
        stamp = read_stamp(record.headers)
        if index == 0:
            counts = term > self.term
            if counts:
                self._host = decode_term_opened(read_outcome(record).body).host
            self.term = max(term, self.term)
        else:
            if term > self.term or (term == self.term and index > len(self._answered) + 1):
                self._fail(record, f"outcome {term}/{index} in term {self.term} after index {len(self._answered)}")
            counts = term == self.term and index == len(self._answered) + 1
        try:
            verdict = classify(self.heads[-1], stamp)
        except LogCorrupt as corrupt:
            self._fail(record, f"the log is corrupt: {corrupt}")
        if (verdict is not Verdict.VOID) != counts:
            self._fail(record, f"{term}/{index} is {verdict.name} by the production rule, and not by this reading")
        self.heads.append(advance(self.heads[-1], stamp, record.timestamp) if counts else self.heads[-1])
        if not counts:
            self.voids += 1
        elif index:
            self._check_outcome(record, stamp.command_offset)

    def _check_outcome(self, record: Record, command_offset: int) -> None:
        if self._next_command >= len(self._commands.records):
            self._fail(record, "an outcome of no command")
        asked = self._commands.records[self._next_command]
        if command_offset != asked.offset:
            self._fail(record, f"answers command {command_offset}, and {asked.offset} is the next")
        self._next_command += 1
        command = read_command(asked, self._partition, self._partitions)
        outcome = read_outcome(record)
        if record.timestamp < self._last_at_ms:
            self._fail(record, f"its time {record.timestamp} is before {self._last_at_ms}")
        self._last_at_ms = record.timestamp
        answer = oracle.expected(
            self._state, asked.key, asked.value, text_headers(asked.headers), partition=self._partition,
            partitions=self._partitions, at_ms=record.timestamp, text_characters=self._text_characters_of(self._host),
        )  # fmt: skip
        self._compare(record, command, outcome, answer)
        self._apply(record, command)
        self._answered.append((command, answer))

    def _apply(self, record: Record, command: Command | Unreadable) -> None:
        """Advance the state past the outcome."""
        plain = read_plainly(
            record.key, record.value, text_headers(record.headers), partition=self._partition, offset=record.offset,
            at_ms=record.timestamp, stamp=(self.term, len(self._answered) + 1, command.offset),
        )  # fmt: skip
        for _, what in oracle.apply(self._state, plain):
            self._fail(record, what)
        if plain.kind == OutcomeKind.ACCEPTED and command.type == CommandType.MEMBER_ADD:
            self._returns += len(self._state.chats[str(plain.chat)].present()) == 1

    def _compare(self, record: Record, command: Command | Unreadable, outcome: Outcome, answer: Answer) -> None:
        """Compare the outcome with the oracle's answer to the command."""
        checks: list[tuple[str, object, object]] = [("kind", outcome.kind, answer.kind)]
        if answer.kind == OutcomeKind.ACCEPTED:
            checks += [
                ("type", COMMAND_OF.get(outcome.type), command.type),
                ("body", outcome.body, command.body if isinstance(command, Command) else None),
                ("seq", outcome.seq, answer.figures.get("seq")),
                ("position", outcome.position, answer.figures["position"]),
            ]
        elif outcome.type == EventType.DUPLICATE:
            checks.append(("the original", json.loads(outcome.body), answer.figures))
        elif outcome.type == EventType.UNCHANGED:
            checks.append(("position", decode_unchanged(outcome.body), answer.figures.get("position")))
        elif outcome.type == EventType.REJECTED:
            checks.append(("reason", decode_rejected(outcome.body).reason, answer.reason))
        checks += [("command_id", outcome.command_id, command.command_id), ("chat", outcome.chat_id, command.chat_id)]
        for what, found, expected in checks:
            if found != expected:
                self._fail(record, f"command {command.offset} ({command.type}): {what} is {found}, not {expected}")

    def told(self, reply_partition: int, reply: Reply) -> None:
        """Check a reply on its way to a client: its outcome must be in the log by now, and say the same."""
        if not 0 < reply.index <= len(self._answered):
            raise Violation(f"a client is told of index {reply.index}, which is not in the log: {reply}")
        command, answer = self._answered[reply.index - 1]
        if command.reply_to != (reply_partition, reply.request_id):
            raise Violation(f"the reply to {reply.request_id} goes out for the command {command.offset}: {reply}")
        figures = {name: figure for name in _FIGURES if (figure := getattr(reply, name)) is not None}
        told = Answer(kind=reply.outcome, reason=reply.reason, figures=figures)
        if (reply.command_offset, reply.partition, told) != (command.offset, self._partition, answer):
            raise Violation(f"a client is told {told} of command {reply.command_offset}; the log says {answer}")

    def moved(self, next_offset: int, head: Head) -> None:
        """Check a state on a disk that has moved to an offset of the log."""
        if next_offset >= len(self.heads):
            raise Violation(f"a state is at offset {next_offset} of a log that ends at {len(self.heads) - 1}")
        if head != self.heads[next_offset]:
            raise Violation(f"a state at offset {next_offset} has {head}; the log says {self.heads[next_offset]}")

    def _fail(self, record: Record, what: str) -> NoReturn:
        raise Violation(f"offset {record.offset} of the log: {what}")
