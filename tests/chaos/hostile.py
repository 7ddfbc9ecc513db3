"""A hostile producer with write access to chat.commands: it sends forged record batches among honest commands.

Nothing that it writes may harm others: each of its records has one outcome, at its true offset, and the checker judges
it like any other command.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from schemas import ids
from schemas.canonical import canonical_json
from schemas.ids import ChatId, UserId
from schemas.topics import TopicNames
from schemas.wire.encoding import Command, Encoded, encode_command
from tests.chaos.kafka_clients import APPEND_TIMEOUT_S, START_TIMEOUT_S, TROUBLES, in_time
from tests.chaos.stage import SEND, Stage
from tests.support.forged_batches import BatchRefused, RawProducer, any_batch, raw

TOPIC: Final = TopicNames().commands
MAX_RECORDS: Final = 4
OF_A_RECORD: Final = (
    "delta", "delta", "delta", "attributes", "timestamp", "header name", "key size", "value size", "size",
    "longer numbers", "high bits", "more", "no value",
)  # fmt: skip
"""The defects that the checker's own reader can parse."""


class HostileProducer:
    """Writes batches in which some records are forged, each as soon as the last was refused or accepted."""

    def __init__(self, stage: Stage, client: str, kafka: str) -> None:
        self._stage = stage
        self._client = client
        self._kafka = kafka
        self._rng = stage.rng(client)

    async def run(self) -> None:
        """Run until the stage closes."""
        while not self._stage.closing.is_set():
            with contextlib.suppress(*TROUBLES):
                await self._with_one_client()

    async def _with_one_client(self) -> None:
        producer, close = await in_time(START_TIMEOUT_S, RawProducer.open(self._kafka, TOPIC))
        try:
            while not self._stage.closing.is_set():
                partition, commands = self._commands()
                batch = raw(any_batch(self._rng, commands, of_a_record=OF_A_RECORD))
                with contextlib.suppress(BatchRefused):
                    await in_time(APPEND_TIMEOUT_S, producer.put(TOPIC, partition, batch))
                    self._stage.forged += 1
                await asyncio.sleep(self._rng.uniform(0.0, 0.2))
        finally:
            await in_time(3.0, close())

    def _commands(self) -> tuple[int, list[Encoded]]:
        """Return sends to one chat, and its partition."""
        chat = ChatId(self._rng.choice(self._stage.chats))
        return self._stage.partition_of(chat), [self._send(chat) for _ in range(self._rng.randint(1, MAX_RECORDS))]

    def _send(self, chat: ChatId) -> Encoded:
        sender = UserId(self._rng.choice(self._stage.users))
        key = self._stage.fresh_key(self._client)
        return encode_command(
            Command(
                offset=-1,
                type=SEND,
                body=canonical_json({"text": f"{key} from a stranger"}),
                chat_id=chat,
                sender_id=sender,
                client_generated_id=key,
                command_id=ids.command_id(chat, sender, key),
            ),
            "/hostile",
        )
