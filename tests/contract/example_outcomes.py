"""An example of every outcome type, of an opening, and of a record of replies.

The outcomes form one story in the order of their indexes, so those of a partition are a log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from schemas.errors import Reason
from schemas.events import (
    AcceptedOutcome,
    Duplicate,
    OtherOutcome,
    Outcome,
    OutcomeKind,
    Rejected,
    TermOpened,
    encode_duplicate,
    encode_rejected,
    encode_term_opened,
    encode_unchanged,
)
from schemas.log import Stamp
from schemas.types import EVENT_OF, CommandType, EventType
from schemas.wire.encoding import Command, opening_outcome
from schemas.wire.replies import Reply
from tests.contract.example_commands import DIRECT_CREATE, IN_THE_GROUP
from tests.contract.example_records import (
    DIRECT_PARTITION,
    FIRST_SEND,
    GROUP_PARTITION,
    PARTITIONS,
    SENT_AT_MS,
    CommandExample,
    OutcomeExample,
    RepliesExample,
    named,
)


def _opening(variant: str, partition: int, term: int, body: TermOpened) -> OutcomeExample:
    return OutcomeExample(
        name=named(EventType.TERM_OPENED, variant),
        partition=partition,
        stamp=Stamp(term, 0, -1),
        outcome=opening_outcome(encode_term_opened(body), SENT_AT_MS),
        body=body,
    )


def _accepted(example: CommandExample, stamp: Stamp, position: int, seq: int | None) -> OutcomeExample:
    command = example.command
    event = EVENT_OF[command.type]
    return OutcomeExample(
        name=named(event, example.name.removeprefix(command.type).strip()),
        partition=example.partition,
        stamp=stamp,
        outcome=AcceptedOutcome(
            event.value,
            SENT_AT_MS + stamp.index,
            command.body,
            command.chat_id,
            command.sender_id,
            position,
            seq,
            command.command_id,
            command.client_generated_id,
            command.traceparent,
        ),
        body=example.body,
    )


def _without_effect(
    variant: str,
    event: EventType,
    example: CommandExample,
    stamp: Stamp,
    raw: bytes,
    body: Duplicate | Rejected | int | None,
) -> OutcomeExample:
    return OutcomeExample(
        name=named(event, variant),
        partition=example.partition,
        stamp=stamp,
        outcome=_answering(example.command, event, stamp, raw),
        body=body,
    )


def _answering(command: Command, event: EventType, stamp: Stamp, body: bytes) -> Outcome:
    return OtherOutcome(
        type=event.value,
        at_ms=SENT_AT_MS + stamp.index,
        body=body,
        key=command.key,
        chat_id=command.chat_id,
        command_id=command.command_id,
        client_generated_id=command.client_generated_id,
        sender_id=command.sender_id,
        traceparent=command.traceparent,
    )


def _outcomes_of_the_group() -> Iterator[OutcomeExample]:
    owner = "77777777-7777-4777-8777-777777777777"
    yield _opening("", GROUP_PARTITION, 3, TermOpened(owner=owner, host="sequencer-0", partitions=PARTITIONS))
    sends = 0
    for index, example in enumerate(IN_THE_GROUP, start=1):
        send = example.command.type == CommandType.MESSAGE_SEND
        sends += send
        yield _accepted(example, Stamp(3, index, 100 + index), position=index, seq=sends if send else None)
    by_name = {example.name: example for example in IN_THE_GROUP}
    sent, renaming, role = by_name["message.send.v1 text only"], by_name["chat.rename.v1"], by_name["member.role.v1"]
    again = Duplicate(seq=1, position=6, sent_at_ms=SENT_AT_MS + 6)
    yield _without_effect("", EventType.DUPLICATE, sent, Stamp(3, 14, 120), encode_duplicate(again), again)
    renamed = Duplicate(seq=None, position=5, sent_at_ms=SENT_AT_MS + 5)
    yield _without_effect(
        "of no message", EventType.DUPLICATE, renaming, Stamp(3, 15, 121), encode_duplicate(renamed), renamed
    )
    yield _without_effect("", EventType.UNCHANGED, role, Stamp(3, 16, 122), encode_unchanged(None), None)
    conflict = Rejected(
        command_type=CommandType.MESSAGE_SEND.value,
        reason=Reason.CONFLICT,
        detail="this client_generated_id was used with another payload",
    )
    yield _without_effect("", EventType.REJECTED, sent, Stamp(3, 17, 123), encode_rejected(conflict), conflict)
    undecodable = Rejected(command_type=None, reason=Reason.MALFORMED, detail="the record cannot be decoded")
    yield OutcomeExample(
        name=named(EventType.REJECTED, "of what cannot be read"),
        partition=GROUP_PARTITION,
        stamp=Stamp(3, 18, 124),
        outcome=OtherOutcome(type=EventType.REJECTED.value, at_ms=SENT_AT_MS + 18, body=encode_rejected(undecodable)),
        body=undecodable,
    )


def _outcomes_of_the_direct_chat() -> Iterator[OutcomeExample]:
    body = TermOpened(
        owner="88888888-8888-4888-8888-888888888888", host="sequencer-1", partitions=PARTITIONS, commands_from=40
    )
    yield _opening("commands from", DIRECT_PARTITION, 1, body)
    yield _accepted(DIRECT_CREATE, Stamp(1, 1, 40), position=1, seq=None)
    yield _without_effect(
        "with its position", EventType.UNCHANGED, DIRECT_CREATE, Stamp(1, 2, 41), encode_unchanged(1), 1
    )


OUTCOMES: Final = (*_outcomes_of_the_group(), *_outcomes_of_the_direct_chat())

REPLIES: Final = RepliesExample(
    name="replies",
    partition=3,
    replies=(
        Reply(
            request_id="b7d1.42",
            command_id="0571bf11-af65-5161-bdff-aa0dd9ea05e6",
            outcome=OutcomeKind.ACCEPTED,
            seq=2,
            position=7,
            sent_at_ms=SENT_AT_MS + 7,
            partition=GROUP_PARTITION,
            index=7,
            command_offset=107,
        ),
        Reply(
            request_id="b7d1.43",
            command_id="55555555-5555-4555-8555-555555555555",
            outcome=OutcomeKind.ACCEPTED,
            position=12,
            sent_at_ms=SENT_AT_MS + 12,
            updated_count=2,
            read_seq=2,
            partition=GROUP_PARTITION,
            index=12,
            command_offset=112,
        ),
        Reply(
            request_id="b7d1.44",
            command_id=FIRST_SEND,
            outcome=OutcomeKind.DUPLICATE,
            seq=1,
            position=6,
            sent_at_ms=SENT_AT_MS + 6,
            partition=GROUP_PARTITION,
            index=14,
            command_offset=120,
        ),
        Reply(
            request_id="b7d1.45",
            outcome=OutcomeKind.REJECTED,
            reason=Reason.MALFORMED,
            detail="ce_sender is not a user_id",
            partition=GROUP_PARTITION,
            index=18,
            command_offset=124,
        ),
        Reply(
            request_id="b7d1.46",
            command_id="3c758a32-e139-5540-9daf-797359a89611",
            outcome=OutcomeKind.UNCHANGED,
            position=1,
            sent_at_ms=SENT_AT_MS + 2,
            partition=DIRECT_PARTITION,
            index=2,
            command_offset=41,
        ),
    ),
)
