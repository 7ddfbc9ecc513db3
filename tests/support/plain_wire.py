"""Kafka as a foreign program sees it: by docs/asyncapi.yaml and a Kafka client, with none of our code.

The facts about the wire are repeated here on purpose.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.partitioner import murmur2

TIMEOUT_S = 60.0
CREATE_TIME, LOG_APPEND_TIME = 0, 1
UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
REPLY_TO = re.compile(r"([0-9]{1,5})/([\x21-\x7e]{1,64})")

COMMAND = {"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_sender", "content-type"}
OUTCOME = {
    "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_command", "ce_commandid", "ce_sender", "content-type",
}  # fmt: skip
ACCEPTED = {
    "chat.create.v1": "chat.created.v1",
    "member.add.v1": "member.added.v1",
    "member.remove.v1": "member.removed.v1",
    "message.send.v1": "message.sent.v1",
    "read.mark.v1": "read.advanced.v1",
    "delivered.mark.v1": "delivered.advanced.v1",
}
RECEIPTS = {"read.mark.v1", "delivered.mark.v1"}


def partition_of(chat_id: str, partitions: int) -> int:
    """Return the partition that Kafka's Java client chooses, as aiokafka computes it."""
    partition: int = (murmur2(chat_id.encode()) & 0x7FFFFFFF) % partitions
    return partition


def command_id(chat_id: str, sender_id: str, client_generated_id: str) -> str:
    return str(uuid.uuid5(uuid.UUID(chat_id), f"{sender_id}/{client_generated_id}"))


def headers_of(record: ConsumerRecord) -> dict[str, str]:
    """Return the headers as text, and assert that none is repeated."""
    found = {name: value.decode() for name, value in record.headers}
    assert len(found) == len(record.headers), "a header is there twice"
    return found


async def read_topic(bootstrap_servers: str, topic: str, partitions: int) -> list[list[ConsumerRecord]]:
    """Return every record that is in the topic now: by partition, in the order of the log."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    found: list[list[ConsumerRecord]] = [[] for _ in places]
    async with asyncio.timeout(TIMEOUT_S):
        await consumer.start()
        try:
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < end for place, end in ends.items()]):
                for place, records in (await consumer.getmany(timeout_ms=500)).items():
                    found[place.partition] += [record for record in records if record.offset < ends[place]]
        finally:
            await consumer.stop()
    return found


def check_commands(
    partitions: list[list[ConsumerRecord]], reply_partitions: int
) -> dict[tuple[int, int], ConsumerRecord]:
    """Check records of chat.commands that our own services wrote against the contract.

    Returns them by (partition, offset).
    """
    found = {}
    for partition, records in enumerate(partitions):
        for record in records:
            headers = headers_of(record)
            command_type = headers["ce_type"]
            assert command_type in ACCEPTED
            keyed = set() if command_type in RECEIPTS else {"ce_clientid"}
            assert headers.keys() - {"ce_replyto", "traceparent"} == COMMAND | keyed, headers
            assert headers["ce_specversion"] == "1.0"
            assert headers["content-type"] == "application/json"
            chat_id, sender_id = record.key.decode(), headers["ce_sender"]
            assert all(UUID_TEXT.fullmatch(text) for text in (chat_id, sender_id, headers["ce_id"]))
            assert partition == partition_of(chat_id, len(partitions))
            if keyed:
                assert headers["ce_id"] == command_id(chat_id, sender_id, headers["ce_clientid"])
            if "ce_replyto" in headers:
                reply_to = REPLY_TO.fullmatch(headers["ce_replyto"])
                assert reply_to is not None
                assert int(reply_to[1]) < reply_partitions
            assert TRACEPARENT.fullmatch(headers.get("traceparent", "00-" + "1" * 32 + "-" + "1" * 16 + "-01"))
            assert record.timestamp_type == LOG_APPEND_TIME
            assert record.value == canonical(json.loads(record.value))
            found[partition, record.offset] = record
    return found


def canonical(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def check_events(
    partitions: list[list[ConsumerRecord]], commands: dict[tuple[int, int], ConsumerRecord]
) -> list[dict[str, Any]]:
    """Check chat.events against the contract, by the validity rule, and return the messages that were sent."""
    messages: list[dict[str, Any]] = []
    positions: defaultdict[str, int] = defaultdict(int)
    seqs: defaultdict[str, int] = defaultdict(int)
    for partition, records in enumerate(partitions):
        head_term, head_index, head_command, last_ms = 0, 0, -1, 0
        for offset, record in enumerate(records):
            assert record.offset == offset, "offsets of chat.events are dense"
            headers = headers_of(record)
            term, index = map(int, headers["ce_id"].split("/"))
            assert headers["ce_specversion"] == "1.0"
            assert headers["ce_source"] == f"/gapless/chat.events/{partition}"
            assert record.timestamp_type == CREATE_TIME
            assert record.timestamp >= last_ms
            last_ms = record.timestamp
            body = json.loads(record.value)
            if headers["ce_type"] == "term.opened.v1":
                assert index == 0
                assert record.key is None
                assert "ce_command" not in headers
                assert body.keys() == {"owner", "host", "partitions"}
                assert body["partitions"] == len(partitions)
                head_term = max(head_term, term)
                continue
            if term < head_term:
                continue  # by a replaced writer
            assert (term, index) == (head_term, head_index + 1)
            head_index = index
            at = int(headers["ce_command"])
            assert at > head_command
            head_command = at
            command = commands[partition, at]
            asked = headers_of(command)
            assert record.key == command.key
            assert [headers.get(n) for n in ("ce_commandid", "ce_sender", "ce_clientid")] == [
                asked.get(n) for n in ("ce_id", "ce_sender", "ce_clientid")
            ]
            assert headers.get("traceparent") == asked.get("traceparent")
            assert headers.keys() >= OUTCOME
            optional = headers.keys() - OUTCOME - {"ce_clientid", "traceparent"}
            if headers["ce_type"] in ACCEPTED.values():
                chat_id = record.key.decode()
                assert headers["ce_type"] == ACCEPTED[asked["ce_type"]]
                assert record.value == command.value, "the body of an accepted command, byte for byte"
                positions[chat_id] += 1
                assert int(headers["ce_position"]) == positions[chat_id]
                if headers["ce_type"] == "message.sent.v1":
                    seqs[chat_id] += 1
                    assert optional == {"ce_position", "ce_seq"}
                    assert int(headers["ce_seq"]) == seqs[chat_id]
                    messages.append(_message(record, headers, body))
                else:
                    assert optional == {"ce_position"}
            else:
                assert optional == set()
                assert body.keys() <= OTHER_BODIES[headers["ce_type"]]
    return messages


OTHER_BODIES = {
    "command.duplicate.v1": {"seq", "position", "sent_at_ms"},
    "command.unchanged.v1": {"position"},
    "command.rejected.v1": {"command_type", "reason", "detail"},
}


def _message(record: ConsumerRecord, headers: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
    """Return the message as HTTP represents it."""
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return {
        "chat_id": record.key.decode(),
        "message_id": headers["ce_commandid"],
        "seq": int(headers["ce_seq"]),
        "position": int(headers["ce_position"]),
        "sender_id": headers["ce_sender"],
        "client_generated_id": headers["ce_clientid"],
        "text": body["text"],
        "sent_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


async def send_message(
    bootstrap_servers: str, *, chat_id: str, sender_id: str, key: str, body: dict[str, Any], partitions: int
) -> tuple[int, int]:
    """Send a message as the contract defines it; return (partition, offset)."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    partition = partition_of(chat_id, partitions)
    async with asyncio.timeout(TIMEOUT_S):
        await producer.start()
        try:
            sent = await producer.send_and_wait(
                "chat.commands",
                key=chat_id.encode(),
                value=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(),
                partition=partition,
                headers=[
                    ("ce_specversion", b"1.0"),
                    ("ce_id", command_id(chat_id, sender_id, key).encode()),
                    ("ce_source", b"/somebody/else"),
                    ("ce_type", b"message.send.v1"),
                    ("ce_sender", sender_id.encode()),
                    ("ce_clientid", key.encode()),
                    ("content-type", b"application/json"),
                ],
            )
        finally:
            await producer.stop()
    return partition, int(sent.offset)
