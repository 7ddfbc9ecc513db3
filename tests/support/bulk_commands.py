"""Many commands written straight into chat.commands, by a plain producer with large batches, for a long log quickly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from schemas import ids
from schemas.bodies import Body, Mark, MessageSend, canonical_body
from schemas.ids import ChatId, UserId
from schemas.types import CommandType
from schemas.wire.encoding import Command, encode_command

SOURCE = "/test/bulk"
BATCH_BYTES = 256 * 1024
"""Below the limit of chat.commands, 400,000."""
UNDER_WAY = 5_000
TIMEOUT_S = 120.0
ROOTS = 5
"""Number of each chat's first messages that the others reply to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """Sends by a chat's members in turn, with replies and marks; no other process may write to the chat meanwhile."""

    chat_id: ChatId
    members: Sequence[UserId]
    messages: int

    def commands(self) -> Iterator[Command]:
        for seq in range(1, self.messages + 1):
            sender = self.members[seq % len(self.members)]
            reply_to = self.message_id(seq % ROOTS + 1) if seq > ROOTS and seq % 7 == 0 else None
            body = MessageSend(
                text=f"bulk message {seq}",
                reply_to_message_id=reply_to,
                metadata={"n": seq} if seq % 11 == 0 else None,
            )
            yield self._command(CommandType.MESSAGE_SEND, body, sender, _key(seq))
            if seq % 40 == 0:
                reader = self.members[seq // 40 % len(self.members)]
                yield self._command(CommandType.READ_MARK, Mark(up_to_seq=seq - seq % 3), reader)
                yield self._command(CommandType.DELIVERED_MARK, Mark(up_to_seq=seq), reader)

    def message_id(self, seq: int) -> str:
        return ids.command_id(self.chat_id, self.members[seq % len(self.members)], _key(seq))

    def _command(self, command_type: CommandType, body: Body, sender: UserId, key: str | None = None) -> Command:
        command_id = ids.CommandId(str(uuid4())) if key is None else ids.command_id(self.chat_id, sender, key)
        return Command(
            offset=-1,
            type=command_type.value,
            body=canonical_body(body),
            chat_id=self.chat_id,
            sender_id=sender,
            client_generated_id=key,
            command_id=command_id,
        )


async def put_commands(bootstrap_servers: str, commands: Iterable[Command], *, partitions: int) -> int:
    """Append the commands and return their number once all are acknowledged."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        max_batch_size=BATCH_BYTES,
    )
    count = 0
    async with asyncio.timeout(TIMEOUT_S):
        await producer.start()
        under_way: set[asyncio.Future[object]] = set()
        for command in commands:
            assert command.chat_id is not None
            record = encode_command(command, SOURCE)
            under_way.add(
                await producer.send(
                    "chat.commands",
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                    partition=ids.partition_of(command.chat_id, partitions),
                )
            )
            count += 1
            if len(under_way) >= UNDER_WAY:
                await asyncio.gather(*under_way)
                under_way.clear()
        await asyncio.gather(*under_way)
        await producer.stop()
    return count


def _key(seq: int) -> str:
    return f"bulk-{seq}"
