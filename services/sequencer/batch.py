"""One append: commands decided against the state and against each other, encoded, and kept until it is settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from schemas.encoding import Command, Encoded, encode_outcome, outcome_size
from schemas.ids import ChatId
from schemas.log import Head, Stamp, after
from schemas.replies import Reply
from services.sequencer.decide import Decision, decide
from services.sequencer.evolve import evolve
from services.sequencer.ports import Store
from services.sequencer.state import Changes, CommandKey, MemberKey, Overlay

APPEND_BYTES: Final = 900_000
"""An append is closed here, under Kafka's 1,048,588 for a record batch; one outcome is at most 256 KiB and headers."""


@dataclass(slots=True)
class Batch:
    """What one append carries, and what is to be done when it is found valid."""

    head: Head
    """After the last outcome."""
    view: Overlay
    """The state after it; its changes are what is applied."""
    records: list[Encoded] = field(default_factory=list)
    replies: list[tuple[int, Reply]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    """Their types, for the metrics."""

    @property
    def changes(self) -> Changes:
        return self.view.changes


def decide_batch(
    commands: deque[Command],
    *,
    store: Store,
    before: Batch | None,
    head: Head,
    partition: int,
    source: bytes,
    now_ms: Callable[[], int],
) -> Batch:
    """Takes commands from the left, as many as one append holds, and decides them.

    `before` is the batch that is being appended now, if there is one; this one is decided on top of it and is worth
    nothing if it fails. `head` is the one after `before`, or the store's.
    """
    # The store may take over what is in flight at any moment; the values are the same, so nothing is seen to change.
    view = Overlay(store.load(*_keys(commands)), before.changes if before is not None else None)
    batch = Batch(head=head, view=view)
    size = 0
    at_ms = max(now_ms(), head.last_timestamp_ms)
    stamp = Stamp(head.term, head.index, head.command_offset)
    while commands:
        command = commands[0]
        decision = decide(view, command, at_ms)
        outcome = decision.outcome
        size += outcome_size(outcome)
        if size > APPEND_BYTES and batch.records:
            break
        commands.popleft()
        evolve(view, outcome, view.changes)
        stamp = Stamp(head.term, stamp.index + 1, command.offset)
        batch.records.append(encode_outcome(outcome, stamp, source))
        batch.outcomes.append(outcome.type)
        if command.reply_to is not None:
            batch.replies.append(
                (command.reply_to.partition, _reply(command.reply_to.request_id, decision, stamp, partition))
            )
    batch.head = after(head, stamp, at_ms)
    return batch


def _keys(commands: deque[Command]) -> tuple[list[ChatId], list[MemberKey], list[CommandKey]]:
    """What deciding will ask for, as far as headers tell; a body's references are read when they are met."""
    chats: dict[ChatId, None] = {}
    members: dict[MemberKey, None] = {}
    remembered: list[CommandKey] = []
    room = APPEND_BYTES
    for command in commands:
        room -= len(command.body)
        if room < 0:
            break  # most likely of a later append; if not, it is read when it is asked for
        if command.fault is not None or command.chat_id is None or command.sender_id is None:
            continue
        chats[command.chat_id] = None
        members[command.chat_id, command.sender_id] = None
        if command.client_generated_id is not None and command.command_id is not None:
            remembered.append((command.chat_id, command.command_id))
    return list(chats), list(members), remembered


def _reply(request_id: str, decision: Decision, stamp: Stamp, partition: int) -> Reply:
    outcome = decision.outcome
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
        index=stamp.index,
        command_offset=stamp.command_offset,
    )
