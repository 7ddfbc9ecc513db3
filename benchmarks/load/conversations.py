"""The commands of a benchmark: chats of five, messages of 250 bytes, 2 % of them sent twice.

Deterministic: the same numbers give the same records, so that two runs measure the same work.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from itertools import chain
from typing import Final
from uuid import UUID

from benchmarks.load.filling import Load, built
from schemas import ids
from schemas.bodies import Body, ChatCreate, MemberAdd, MessageSend, canonical_body
from schemas.ids import ChatId, UserId
from schemas.types import CommandType
from schemas.wire.encoding import Command, Encoded, encode_command

BODY_BYTES: Final = 250
MEMBERS: Final = 5
REPEATS_PERCENT: Final = 2
SOURCE: Final = "/gapless/benchmarks"
_SEED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A group of five, created by its first member."""

    chat_id: ChatId
    members: Sequence[UserId]
    creation: Encoded

    def send(self, number: int, text: str | None = None) -> Encoded:
        """Return the chat's message of that number, with any text. The same number returns the same command, which is a
        repeat."""
        sender = self.members[number % MEMBERS]
        key = f"send-{number}"
        return encode_command(
            Command(
                offset=-1,
                type=CommandType.MESSAGE_SEND.value,
                body=message_body(number) if text is None else canonical_body(MessageSend(text=text)),
                chat_id=self.chat_id,
                sender_id=sender,
                client_generated_id=key,
                command_id=ids.command_id(self.chat_id, sender, key),
            ),
            SOURCE,
        )


def user(number: int) -> UserId:
    """Return a user id for a small number."""
    return UserId(str(UUID(int=number, version=4)))


def message_body(number: int) -> bytes:
    """Return 250 bytes of canonical JSON, different for each number."""
    text = f"message {number} "
    return _BODY_START + text.encode() + b"x" * (BODY_BYTES - len(_BODY_START) - len(_BODY_END) - len(text)) + _BODY_END


_BODY_START, _BODY_END = canonical_body(MessageSend(text="|")).split(b"|")


def chats_of(partition: int, partitions: int, count: int) -> list[Chat]:
    """Return the first `count` chats of a partition."""
    found: list[Chat] = []
    number = 0
    while len(found) < count:
        number += 1
        members = [user(number * 100 + m) for m in range(MEMBERS)]
        chat_id = ids.group_chat_id(members[0], "bench")
        if ids.partition_of(chat_id, partitions) == partition:
            found.append(_chat(chat_id, members))
    return found


def sends(chats: Sequence[Chat], count: int) -> Iterator[Encoded]:
    """Yield `count` sends to the chats in random order. A repeat is of any earlier send, the oldest as likely as the
    last, because a recently written key is cheaper to find."""
    chance = random.Random(_SEED)
    chosen = array("I")
    """Number of a send → its chat. Compact, because there are millions."""
    for number in range(count):
        said = _no_repeat(chance.randrange(number)) if is_repeat(number) else number
        chosen.append(chance.randrange(len(chats)))
        yield chats[chosen[said]].send(said)


def _no_repeat(number: int) -> int:
    """Return the number, or the last one before it that is not a repeat."""
    return min(number, number // 100 * 100 + 99 - REPEATS_PERCENT)


def is_repeat(number: int) -> bool:
    """Return whether the send of that number is a repeat: two of each hundred are."""
    return number % 100 >= 100 - REPEATS_PERCENT


def repeats_among(count: int) -> int:
    """Return the number of repeats among the first `count` sends."""
    return sum(is_repeat(number) for number in range(count % 100)) + count // 100 * REPEATS_PERCENT


def loads_of(*, partitions: int, chats: int, commands: int) -> list[Load]:
    """Return, for each partition, its share of the chats and of the sends to them."""
    loads = []
    for partition in range(partitions):
        here = chats_of(partition, partitions, chats_in(partitions, chats, partition))
        creations = (chat.creation for chat in here)
        loads.append(built(chain(creations, sends(here, commands // partitions))))
    return loads


def chats_in(partitions: int, chats: int, partition: int) -> int:
    """Return the number of chats that a partition gets."""
    return chats // partitions + (partition < chats % partitions)


def add_member(chat: Chat, user_id: UserId) -> Encoded:
    """Return the command with which the chat's owner adds a user."""
    return _command(chat.chat_id, chat.members[0], CommandType.MEMBER_ADD, MemberAdd(user_id=user_id, role="member"))


def _chat(chat_id: ChatId, members: Sequence[UserId]) -> Chat:
    body = ChatCreate(kind="group", name="bench", members=list(members[1:]))
    creation = _command(chat_id, members[0], CommandType.CHAT_CREATE, body)
    return Chat(chat_id=chat_id, members=members, creation=creation)


def _command(chat_id: ChatId, sender_id: UserId, command_type: CommandType, body: Body) -> Encoded:
    """Return a command under a key derived from its content."""
    raw = canonical_body(body)
    key = sha1(raw, usedforsecurity=False).hexdigest()
    return encode_command(
        Command(
            offset=-1,
            type=command_type.value,
            body=raw,
            chat_id=chat_id,
            sender_id=sender_id,
            client_generated_id=key,
            command_id=ids.command_id(chat_id, sender_id, key),
        ),
        SOURCE,
    )
