"""The form of an example record: its meaning and its encoding; and the users of the examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.bodies import Body
from schemas.events import Duplicate, Outcome, Rejected, TermOpened
from schemas.ids import ChatId, CommandId, UserId
from schemas.log import Stamp
from schemas.wire.encoding import Command, Encoded, encode_command, encode_outcome, event_source
from schemas.wire.replies import Reply, encode_replies

PARTITIONS: Final = 8
CREATOR: Final = UserId("11111111-1111-4111-8111-111111111111")
OTHER: Final = UserId("22222222-2222-4222-8222-222222222222")
THIRD: Final = UserId("33333333-3333-4333-8333-333333333333")
GROUP: Final = ChatId("f89e858f-5f2e-5152-b188-6a52cbec990b")
GROUP_PARTITION: Final = 5
DIRECT: Final = ChatId("92829b37-1415-5fdc-927d-ed03f0e25e16")
DIRECT_PARTITION: Final = 4
SENT_AT_MS: Final = 1_767_225_600_123
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FIRST_SEND: Final = CommandId("c6e6b694-c64b-5364-9024-70428ec7b06e")
"""Computed by hand: it is a test vector too."""

SOURCE: Final = "/gapless/ingest"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandExample:
    """A command: the record's content and the body in it."""

    name: str
    partition: int
    command: Command
    body: Body

    @property
    def topic(self) -> str:
        return "chat.commands"

    def encode(self) -> Encoded:
        return encode_command(self.command, SOURCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeExample:
    """An outcome or an opening: its place, the record's content, and the body in it."""

    name: str
    partition: int
    stamp: Stamp
    outcome: Outcome
    body: Body | Duplicate | Rejected | TermOpened | int | None
    """For `command.unchanged` the position, if it has one."""

    @property
    def topic(self) -> str:
        return "chat.events"

    def encode(self) -> Encoded:
        return encode_outcome(self.outcome, self.stamp, event_source(self.partition))


@dataclass(frozen=True, slots=True, kw_only=True)
class RepliesExample:
    """One record of replies."""

    name: str
    partition: int
    replies: tuple[Reply, ...]

    @property
    def topic(self) -> str:
        return "chat.replies"

    def encode(self) -> Encoded:
        return Encoded(None, encode_replies(self.replies), [])


def named(record_type: str, variant: str) -> str:
    """Return the name of an example: its type, with the variant if there is one."""
    return f"{record_type} {variant}" if variant else record_type
