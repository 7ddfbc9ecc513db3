"""A separate log on a real broker, with a client that uses only the wire contract, and writers in this process.

async with Scene.on(kafka) as scene:
    async with scene.writer(chat.partition):
        offset = await scene.command(...)
        outcome = await scene.outcome_of(partition, offset)
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer

from schemas import ids
from schemas.bodies import Body, ChatCreate, MessageSend, canonical_body
from schemas.cursor import Decided, LogCursor, Opened, Stop, Void
from schemas.events import Outcome, decode_rejected
from schemas.ids import ChatId, CommandId, UserId
from schemas.log import Stamp, Verdict
from schemas.topics import TopicNames, topic_specs
from schemas.types import MARKS
from schemas.wire.encoding import Command, Encoded, ReplyTo, encode_command, read_outcome
from schemas.wire.replies import Reply, decode_replies
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import create_topics
from services.sequencer.clock import wall_clock_ms
from services.sequencer.kafka import KafkaLogs, KafkaReplyPublisher
from services.sequencer.partition.hint import OwnershipHint
from services.sequencer.partition.term import TermSettings
from services.sequencer.partition.writer import PartitionWriter, Status
from services.sequencer.ports import Logs, SnapshotSource
from services.sequencer.store.rocks import RocksStore

ANNA = UserId("11111111-1111-4111-8111-111111111111")
BEN = UserId("22222222-2222-4222-8222-222222222222")
DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    chat_id: ChatId
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A record of the event log, with its verdict."""

    offset: int
    stamp: Stamp
    verdict: Verdict
    outcome: Outcome


_VERDICTS: Final = {Opened: Verdict.OPENS, Decided: Verdict.VALID, Void: Verdict.VOID}


@dataclass(slots=True)
class Running:
    """A writer in this process, whose ownership hint the test controls."""

    writer: PartitionWriter
    hint: OwnershipHint
    task: asyncio.Task[None]
    state_dir: Path
    stores: list[RocksStore]
    """All stores that the writer opened, in order."""

    async def until(self, *statuses: Status) -> None:
        await until(lambda: self.writer.status in statuses, f"the writer is {statuses}")


async def until(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Poll until a condition in this process holds; fail with `what` after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"in vain, for {timeout_s:g} s: {what}"
        await asyncio.sleep(0.01)


@dataclass(slots=True, kw_only=True)
class Scene:
    """Three topics, a producer, and the tests' operations on them."""

    kafka: str
    names: TopicNames
    partitions: int
    reply_partitions: int
    producer: Producer
    _readers: list[PartitionReader] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def on(cls, kafka: str, *, partitions: int = 4, reply_partitions: int = 2) -> AsyncIterator[Scene]:
        names = TopicNames.prefixed(f"t{uuid.uuid4().hex[:8]}.")
        specs = topic_specs(names, partitions=partitions, reply_partitions=reply_partitions, replication_factor=1)
        await create_topics(KafkaConnection.plain(kafka), specs)
        producer = Producer(kafka=KafkaConnection.plain(kafka), client_id="test")
        scene = cls(
            kafka=kafka, names=names, partitions=partitions, reply_partitions=reply_partitions, producer=producer
        )
        try:
            yield scene
        finally:
            await producer.stop()
            for reader in scene._readers:
                await reader.close()

    # --- commands ---------------------------------------------------------------------------------------------

    def group(self, name: str, creator: UserId = ANNA) -> Chat:
        chat_id = ids.group_chat_id(creator, name)
        return Chat(chat_id=chat_id, partition=ids.partition_of(chat_id, self.partitions))

    async def create(self, name: str, members: Sequence[UserId] = (BEN,), creator: UserId = ANNA) -> Chat:
        """Append the creation of a group to its partition, whether or not it is sequenced."""
        chat = self.group(name, creator)
        body = ChatCreate(kind="group", name=name, members=list(members))
        await self.command(chat, "chat.create.v1", body, key=f"create {name}".replace(" ", "-"), sender=creator)
        return chat

    async def send(self, chat: Chat, text: str, *, key: str, sender: UserId = ANNA) -> int:
        """Append a message to its partition and return its offset."""
        return await self.command(chat, "message.send.v1", MessageSend(text=text), key=key, sender=sender)

    async def command(
        self,
        chat: Chat,
        command_type: str,
        body: Body,
        *,
        key: str,
        sender: UserId = ANNA,
        reply_to: ReplyTo | None = None,
    ) -> int:
        command = Command(
            offset=-1,
            type=command_type,
            body=canonical_body(body),
            chat_id=chat.chat_id,
            sender_id=sender,
            client_generated_id=None if command_type in MARKS else key,
            command_id=ids.command_id(chat.chat_id, sender, key)
            if command_type not in MARKS
            else CommandId(str(uuid.uuid4())),
            reply_to=reply_to,
        )
        return await self.put(chat.partition, encode_command(command, "/tests"))

    async def put(self, partition: int, record: Encoded) -> int:
        """Append any record to chat.commands."""
        return await self.producer.send(self.names.commands, partition, record, DEADLINE_S)

    @asynccontextmanager
    async def plain_producer(self, **options: object) -> AsyncIterator[AIOKafkaProducer]:
        """Yield a Kafka producer without any of our code around it."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", **options)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    # --- the log ----------------------------------------------------------------------------------------------

    async def append_raw(self, partition: int, record: Encoded) -> int:
        """Append straight to chat.events, as another writer would."""
        return await self.producer.send(self.names.events, partition, record, DEADLINE_S)

    async def log(self, partition: int) -> list[LogEntry]:
        """Return the whole event log of a partition as it is now, each record with its verdict."""
        reader = await self.reader(self.names.events, partition)
        _, end = await reader.bounds()
        cursor, entries = LogCursor(compiled=False), []
        while reader.position < end:
            records = await reader.read(max_records=10_000, timeout_s=1.0)
            for record, event in zip(records, cursor.read(records), strict=False):
                if isinstance(event, Stop):
                    raise event.error
                entries.append(
                    LogEntry(
                        offset=event.offset,
                        stamp=event.stamp,
                        verdict=_VERDICTS[type(event)],
                        outcome=read_outcome(record),
                    )
                )
        return entries

    async def outcome_of(self, partition: int, command_offset: int) -> Outcome:
        """Return the valid outcome of a command, as soon as it is in the log."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            for entry in await self.log(partition):
                if entry.verdict is Verdict.VALID and entry.stamp.command_offset == command_offset:
                    return entry.outcome
            await asyncio.sleep(0.05)
        raise AssertionError(f"command {command_offset} of partition {partition} has no outcome")

    async def reason_of(self, partition: int, command_offset: int) -> str:
        """Return why a command was rejected."""
        outcome = await self.outcome_of(partition, command_offset)
        assert outcome.type == "command.rejected.v1", outcome
        return decode_rejected(outcome.body).reason.value

    async def replies(self, partition: int) -> list[Reply]:
        """Return all replies of a reply partition as they are now."""
        reader = await self.reader(self.names.replies, partition)
        _, end = await reader.bounds()
        found: list[Reply] = []
        while reader.position < end:
            for record in await reader.read(max_records=1_000, timeout_s=1.0):
                found += decode_replies(record.value or b"[]")
        return found

    async def answers(self, reply_partition: int, command_offset: int) -> list[Reply]:
        """Return all replies to a command, once there is one. The outcome is in the log before its reply."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            found = [r for r in await self.replies(reply_partition) if r.command_offset == command_offset]
            if found:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"nobody was told of command {command_offset}")

    async def reader(self, topic: str, partition: int) -> PartitionReader:
        reader = PartitionReader(
            kafka=KafkaConnection.plain(self.kafka), topic=topic, partition=partition, client_id="test"
        )
        await reader.start(0)
        self._readers.append(reader)
        return reader

    # --- writers ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def writer(
        self,
        partition: int,
        *,
        state_dir: Path | None = None,
        logs: Callable[[Logs], Logs] = lambda logs: logs,
        assignment_timeout_s: float = 1.0,
        partitions: int | None = None,
        snapshots: SnapshotSource | None = None,
    ) -> AsyncIterator[Running]:
        """Run a writer that believes that it owns the partition until the test says otherwise; stop it at the end."""
        with tempfile.TemporaryDirectory(prefix="state-") as fresh:
            folder = state_dir if state_dir is not None else Path(fresh)
            hint = OwnershipHint(still_ours=lambda: True)
            stores: list[RocksStore] = []

            def open_store(topic_id: str) -> RocksStore:
                stores.append(RocksStore(folder / str(partition), topic_id))
                return stores[-1]

            replies = KafkaReplyPublisher(self.producer, topic=self.names.replies, partitions=self.reply_partitions)
            writer = PartitionWriter(
                TermSettings(partition=partition, partitions=partitions or self.partitions, host="test"),
                hint=hint,
                logs=logs(
                    KafkaLogs(
                        kafka=KafkaConnection.plain(self.kafka),
                        names=self.names,
                        partition=partition,
                        client_id="test-writer",
                    )
                ),
                open_store=open_store,
                snapshots=snapshots,
                replies=replies,
                now_ms=wall_clock_ms,
                assignment_timeout_s=assignment_timeout_s,
            )
            hint.on_assignment(ours=True)
            task = asyncio.create_task(writer.run())
            running = Running(writer, hint, task, folder, stores)
            try:
                yield running
            finally:
                writer.stop()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait_for(task, DEADLINE_S)
                await replies.drain()
