"""What is said in a benchmark: chats of five, messages of 250 bytes, 2 % of them sent twice.

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
    """A group of five that its first member makes."""

    chat_id: ChatId
    members: Sequence[UserId]
    creation: Encoded

    def send(self, number: int) -> Encoded:
        """The chat's message of that number: the same number is the same command, so a repeat of it."""
        sender = self.members[number % MEMBERS]
        key = f"send-{number}"
        return encode_command(
            Command(
                offset=-1,
                type=CommandType.MESSAGE_SEND.value,
                body=message_body(number),
                chat_id=self.chat_id,
                sender_id=sender,
                client_generated_id=key,
                command_id=ids.command_id(self.chat_id, sender, key),
            ),
            SOURCE,
        )


def user(number: int) -> UserId:
    """A user id from a small number."""
    return UserId(str(UUID(int=number, version=4)))


def message_body(number: int) -> bytes:
    """250 bytes of canonical JSON, different for each number."""
    text = f"message {number} "
    return _BODY_START + text.encode() + b"x" * (BODY_BYTES - len(_BODY_START) - len(_BODY_END) - len(text)) + _BODY_END


_BODY_START, _BODY_END = canonical_body(MessageSend(text="|")).split(b"|")


def chats_of(partition: int, partitions: int, count: int) -> list[Chat]:
    """The first `count` chats that live in a partition."""
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
    """`count` sends to the chats in random order. Each repeat is of any send before it, the oldest as likely as the
    last: a key that was just written is cheaper to find again."""
    chance = random.Random(_SEED)
    chosen = array("I")
    """By the number of a send, its chat. Of millions, so that the records themselves are not kept."""
    for number in range(count):
        said = _no_repeat(chance.randrange(number)) if is_repeat(number) else number
        chosen.append(chance.randrange(len(chats)))
        yield chats[chosen[said]].send(said)


def _no_repeat(number: int) -> int:
    """The number itself, or the one before the repeats that it is among."""
    return min(number, number // 100 * 100 + 99 - REPEATS_PERCENT)


def is_repeat(number: int) -> bool:
    """Whether the send of that number is a repeat: two of each hundred."""
    return number % 100 >= 100 - REPEATS_PERCENT


def repeats_among(count: int) -> int:
    """How many of the first `count` sends are repeats."""
    return sum(is_repeat(number) for number in range(count % 100)) + count // 100 * REPEATS_PERCENT


def loads_of(*, partitions: int, chats: int, commands: int) -> list[Load]:
    """For each partition its share of the chats, and of the sends to them."""
    loads = []
    for partition in range(partitions):
        here = chats_of(partition, partitions, chats_in(partitions, chats, partition))
        creations = (chat.creation for chat in here)
        loads.append(built(chain(creations, sends(here, commands // partitions))))
    return loads


def chats_in(partitions: int, chats: int, partition: int) -> int:
    """How many of the chats a partition gets."""
    return chats // partitions + (partition < chats % partitions)


def add_member(chat: Chat, user_id: UserId) -> Encoded:
    """The command by which the chat's owner adds somebody."""
    return _command(chat.chat_id, chat.members[0], CommandType.MEMBER_ADD, MemberAdd(user_id=user_id, role="member"))


def _chat(chat_id: ChatId, members: Sequence[UserId]) -> Chat:
    body = ChatCreate(kind="group", name="bench", members=list(members[1:]))
    creation = _command(chat_id, members[0], CommandType.CHAT_CREATE, body)
    return Chat(chat_id=chat_id, members=members, creation=creation)


def _command(chat_id: ChatId, sender_id: UserId, command_type: CommandType, body: Body) -> Encoded:
    """Under a key that follows from what it says."""
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
