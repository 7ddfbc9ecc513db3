"""One append: commands decided against the state and against each other, encoded, and kept until it is settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from schemas.encoding import Command, Encoded, encode_outcome, outcome_size
from schemas.events import Outcome
from schemas.ids import ChatId
from schemas.log import Head, Stamp, after
from schemas.replies import Reply
from services.sequencer.decide import Decision, decide
from services.sequencer.evolve import evolve
from services.sequencer.ports import OutcomeBatch, Store
from services.sequencer.state import Changes, CommandKey, MemberKey, Overlay, command_key

APPEND_BYTES: Final = 900_000
"""An append is closed here, under Kafka's 1,048,588 for a record batch; one outcome is at most 256 KiB and headers."""


@dataclass(slots=True)
class Batch:
    """What one append carries, and what is to be done when it is found valid."""

    head: Head
    """After the last outcome."""
    view: Overlay
    """The state after it; its changes are what is applied."""
    records: OutcomeBatch
    last: Encoded | None = None
    """Of the records, by which the log is known again."""
    size: int = 0
    """Bytes, estimated from above."""
    full: bool = False
    """The next command would make it longer than an append may be."""
    replies: list[tuple[int, Reply]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    """Their types, for the metrics."""

    @property
    def changes(self) -> Changes:
        return self.view.changes


def new_batch(records: OutcomeBatch, *, store: Store, before: Batch | None) -> Batch:
    """An empty one. `before` is the batch that is being appended now, if there is one: what is decided into this one is
    decided on top of it, and worth nothing if it fails."""
    # The store may take over what is in flight at any moment; the values are the same, so nothing is seen to change.
    view = Overlay(store.load([], [], []), before.changes if before is not None else None)
    head = before.head if before is not None else store.position.head
    return Batch(head=head, view=view, records=records)


def decide_into(
    batch: Batch,
    commands: deque[Command],
    *,
    store: Store,
    partition: int,
    source: bytes,
    now_ms: Callable[[], int],
) -> None:
    """Takes commands from the left, as many as the append has room for, decides them on top of what the batch has, and
    adds their outcomes.

    Each outcome goes all its way, to the bytes of its record, before the next command is looked at: what it was made
    of is freed while the processor still has it at hand (measured: a fifth of the time of a batch).
    """
    view = batch.view
    view.below = store.load(*keys_of(commands, APPEND_BYTES - batch.size))
    head = batch.head
    at_ms = max(now_ms(), head.last_timestamp_ms)
    term, index, command_offset = head.term, head.index, head.command_offset
    changes, records, outcomes = view.changes, batch.records, batch.outcomes
    added: tuple[Outcome, Stamp] | None = None
    while commands:
        command = commands[0]
        decision = decide(view, command, at_ms)
        outcome = decision.outcome
        size = batch.size + outcome_size(outcome)
        if size > APPEND_BYTES and batch.size:
            batch.full = True
            break
        commands.popleft()
        batch.size = size
        evolve(view, outcome, changes)
        index, command_offset = index + 1, command.offset
        added = outcome, Stamp(term, index, command_offset)
        records.add(*added, source)
        outcomes.append(outcome.type)
        if command.reply_to is not None:
            place = (partition, index, command_offset)
            batch.replies.append((command.reply_to.partition, _reply(command.reply_to.request_id, decision, place)))
    if added is not None:  # else there was room for none, and the head's time is still that of the last one
        batch.last = encode_outcome(*added, source)
        batch.head = after(head, added[1], at_ms)


def keys_of(commands: deque[Command], room: int) -> tuple[list[ChatId], list[MemberKey], list[CommandKey]]:
    """What deciding will ask for, as far as headers tell; a body's references are read when they are met."""
    chats: list[ChatId] = []
    members: list[MemberKey] = []
    remembered: list[CommandKey] = []
    for command in commands:
        room -= len(command.body)
        if room < 0:
            break  # most likely of a later append; if not, it is read when it is asked for
        if command.fault is not None or command.chat_id is None or command.sender_id is None:
            continue
        chats.append(command.chat_id)
        members.append((command.chat_id, command.sender_id))
        if command.client_generated_id is not None and command.command_id is not None:
            remembered.append(command_key(command.chat_id, command.command_id))
    return chats, members, remembered


def _reply(request_id: str, decision: Decision, place: tuple[int, int, int]) -> Reply:
    outcome = decision.outcome
    partition, index, command_offset = place
    return Reply(
        request_id=request_id,
        command_id=outcome.command_id,
        outcome=outcome.kind,
        reason=decision.reason,
        detail=decision.detail,
        seq=decision.seq,
        position=decision.position,
        sent_at_ms=decision.sent_at_ms,
        updated_count=decision.updated_count,
        read_seq=decision.read_seq,
        partition=partition,
        index=index,
        command_offset=command_offset,
    )
