"""Plain Kafka clients by the wire contract: producers, which learn outcomes from a reply or from the log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors

from schemas import ids
from schemas.canonical import canonical_json
from schemas.ids import ChatId, UserId
from schemas.topics import TopicNames
from schemas.wire.encoding import Command, ReplyTo, encode_command
from tests.chaos.evidence import Json, Record
from tests.chaos.judged import PartitionLog, take
from tests.chaos.stage import SEND, Sent, Stage
from tests.oracle.records import Outcome

TOPICS: Final = TopicNames()
START_TIMEOUT_S: Final = 20.0
APPEND_TIMEOUT_S: Final = 10.0
OUTCOME_TIMEOUT_S: Final = 6.0
ANSWER_DEADLINE_S: Final = 180.0
SILENCE_S: Final = 15.0
"""A consumer that returned nothing for so long is replaced: a client library may hang instead of failing."""
TROUBLES: Final = (kafka_errors.KafkaError, OSError, TimeoutError, AssertionError)


async def in_time(timeout_s: float, work: Any) -> Any:
    """Await the work; raise TimeoutError on time even if the work does not react to its cancellation."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=timeout_s)
    if not task.done():
        task.cancel()
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        raise TimeoutError
    if task.cancelled():
        raise TimeoutError("the client cancelled its own work")  # seen: a consumer that stops while a broker is away
    return task.result()


def as_record(raw: Any) -> Record:
    """Convert a record of aiokafka to the checker's form."""
    return Record(
        partition=raw.partition, offset=raw.offset, timestamp_ms=raw.timestamp, key=raw.key, value=raw.value or b"",
        headers=tuple(raw.headers),
    )  # fmt: skip


async def records_for_ever(
    kafka: str, topic: str, positions: dict[int, int], *, from_end: bool = False
) -> AsyncIterator[list[Record]]:
    """Yield the records from `positions` on, which are kept current, whatever the brokers do."""
    while True:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="none", request_timeout_ms=10_000
        )
        try:
            await in_time(START_TIMEOUT_S, consumer.start())
            tps = [TopicPartition(topic, partition) for partition in positions]
            consumer.assign(tps)
            if from_end:
                ends = await in_time(START_TIMEOUT_S, consumer.end_offsets(tps))
                positions.update({tp.partition: end for tp, end in ends.items()})
                from_end = False
            for tp in tps:
                consumer.seek(tp, positions[tp.partition])
            heard_s = time.monotonic()
            while time.monotonic() - heard_s < SILENCE_S:
                found = await in_time(SILENCE_S, consumer.getmany(timeout_ms=500, max_records=500))
                for tp, raws in found.items():
                    heard_s = time.monotonic()
                    positions[tp.partition] = raws[-1].offset + 1
                    yield [as_record(raw) for raw in raws]
        except TROUBLES:
            await asyncio.sleep(0.2)
        finally:
            with contextlib.suppress(*TROUBLES):
                await in_time(3.0, consumer.stop())


class Outcomes(Protocol):
    """A producer's source of outcomes."""

    def reply_to(self, request_id: str) -> ReplyTo | None:
        """Return the reply address to put into the command, or None."""

    async def outcome(self, request_id: str, at: tuple[int, int]) -> Json | None:
        """Return the outcome, or None if it does not arrive in time. `at`: (partition, offset) of the command."""


class LogFollower:
    """Reads the whole log by the validity rule, as any reader can, and records what it received for the checker."""

    def __init__(self, stage: Stage, kafka: str, client: str) -> None:
        self._stage = stage
        self._kafka = kafka
        self._client = client
        self._logs = {partition: PartitionLog() for partition in range(stage.partitions)}
        self._found: dict[tuple[int, int], Outcome] = {}
        self._came = asyncio.Condition()

    async def run(self) -> None:
        """Run until cancelled."""
        positions = dict.fromkeys(range(self._stage.partitions), 0)
        async for records in records_for_ever(self._kafka, TOPICS.events, positions):
            op = self._stage.recorder.ask(self._client, "tail", partition=records[0].partition)
            self._stage.recorder.answer(op, {"records": [[r.offset, r.digest] for r in records]})
            async with self._came:
                for record in records:
                    self._take(record)
                self._came.notify_all()

    def _take(self, record: Record) -> None:
        log = self._logs[record.partition]
        take(log, record)  # the checker reports what contradicts the rule, with the whole log
        for outcome in log.outcomes:
            self._found[outcome.partition, outcome.command_offset] = outcome
        log.outcomes.clear()

    def reply_to(self, request_id: str) -> ReplyTo | None:
        return None

    async def outcome(self, request_id: str, at: tuple[int, int]) -> Json | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OUTCOME_TIMEOUT_S), self._came:
                await self._came.wait_for(lambda: at in self._found)
                return _told(self._found[at])
        return None


def _told(outcome: Outcome) -> Json:
    told: Json = {"outcome": outcome.kind, "partition": outcome.partition, "index": outcome.index}
    if outcome.kind == "rejected":
        return told | {"reason": outcome.body["reason"]}
    if outcome.kind == "accepted":
        return told | {"seq": outcome.seq, "position": outcome.position, "sent_at_ms": outcome.at_ms}
    return told | outcome.body


class ReplyListener:
    """Listens to one partition of chat.replies, for producers that name it in `ce_replyto`."""

    def __init__(self, kafka: str, partition: int) -> None:
        self._kafka = kafka
        self._partition = partition
        self._waiting: dict[str, asyncio.Future[Json]] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        positions = {self._partition: 0}
        async for records in records_for_ever(self._kafka, TOPICS.replies, positions, from_end=True):
            for record in records:
                for reply in json.loads(record.value):
                    waiting = self._waiting.pop(reply["request_id"], None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(reply)

    def reply_to(self, request_id: str) -> ReplyTo | None:
        self._waiting[request_id] = asyncio.get_running_loop().create_future()
        return ReplyTo(self._partition, request_id)

    async def outcome(self, request_id: str, at: tuple[int, int]) -> Json | None:
        waiting = self._waiting.get(request_id)
        try:
            async with asyncio.timeout(OUTCOME_TIMEOUT_S):
                return await waiting if waiting is not None else None
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(request_id, None)


class KafkaProducer:
    """Sends like a service that has only a Kafka client: not idempotent, so its library repeats records."""

    def __init__(self, stage: Stage, client: str, kafka: str, outcomes: Outcomes) -> None:
        self._stage = stage
        self._client = client
        self._kafka = kafka
        self._outcomes = outcomes
        self._rng = stage.rng(client)
        self._producer: AIOKafkaProducer | None = None
        self._requests = 0

    async def run(self) -> None:
        try:
            while not self._stage.closing.is_set():
                await self._one()
                await asyncio.sleep(self._rng.uniform(0.0, 0.1))
        finally:
            await self._renew()

    async def _one(self) -> None:
        stage, chance = self._stage, self._rng.random()
        chat, sender = self._rng.choice(stage.chats), self._rng.choice(stage.users)
        if chance < 0.8 or not stage.sent:
            key = stage.fresh_key(self._client)
            body: Json = {"text": f"{key} over Kafka"}
            answer = await self.send(chat, sender, key, body)
            if answer is not None and answer["outcome"] in ("accepted", "duplicate"):
                stage.sent.append(Sent(chat=chat, sender=sender, key=key, body=body, seq=answer.get("seq")))
            return
        old = self._rng.choice(stage.sent)
        body = old.body if chance < 0.93 else {**old.body, "text": "something else"}
        await self.send(old.chat, old.sender, old.key, body)

    async def send(self, chat: str, sender: str, key: str, body: Json) -> Json | None:
        """Send under the same key until an attempt has an outcome; returns None after the deadline."""
        deadline = time.monotonic() + ANSWER_DEADLINE_S
        asked = {"via": "kafka", "type": SEND, "chat": chat, "sender": sender, "key": key, "body": body}
        while time.monotonic() < deadline:
            self._requests += 1
            request_id = f"{self._client}-{self._requests}"
            command = Command(
                offset=-1, type=SEND, body=canonical_json(_ordered(body)), chat_id=ChatId(chat),
                sender_id=UserId(sender), client_generated_id=key,
                command_id=ids.command_id(ChatId(chat), UserId(sender), key),
                reply_to=self._outcomes.reply_to(request_id),
            )  # fmt: skip
            op = self._stage.recorder.ask(self._client, "command", **asked)
            at = await self._append(command)
            if at is not None:
                self._stage.recorder.appended(op, *at)
                answer = await self._outcomes.outcome(request_id, at)
                if answer is not None:
                    self._stage.recorder.answer(op, answer)
                    if answer.get("seq") is not None:
                        self._stage.told(chat, answer["seq"], ids.token(answer["partition"], answer["index"]))
                    return answer
            await asyncio.sleep(self._rng.uniform(0.05, 0.5))
        self._stage.unanswered.append(f"{self._client}: {asked}")
        return None

    async def _append(self, command: Command) -> tuple[int, int] | None:
        """Append a command and return (partition, offset), or None if that is unknown.

        After an error the producer is replaced.
        """
        record = encode_command(command, "/chaos")
        assert record.key is not None
        partition = self._stage.partition_of(record.key.decode())
        try:
            if self._producer is None:
                producer = AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all", request_timeout_ms=5_000)
                self._producer = producer
                await in_time(START_TIMEOUT_S, producer.start())
            sending = self._producer.send_and_wait(
                TOPICS.commands, key=record.key, value=record.value, headers=record.headers, partition=partition
            )
            metadata = await in_time(APPEND_TIMEOUT_S, sending)
        except TROUBLES:
            await self._renew()
            return None
        return metadata.partition, metadata.offset

    async def _renew(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(*TROUBLES):
                await in_time(3.0, producer.stop())


def _ordered(body: Json) -> Json:
    """Order the fields as in the canonical form, so that a repeat of a command sent over HTTP has the same bytes."""
    order = ("text", "reply_to_message_id", "media_urls", "metadata")
    return {name: body[name] for name in order if name in body}
