"""Invalid records for chat.commands, each with the reason why it is rejected."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.record import _crc32c
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas import ids
from schemas.wire.encoding import Encoded
from tests.support.sequencing import ANNA, Chat

Headers = list[tuple[str, bytes]]


def headers(chat: Chat, key: str, command_type: str = "message.send.v1") -> Headers:
    """Return the headers of a send, as docs/asyncapi.yaml defines them, written without our encoder."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", ids.command_id(chat.chat_id, ANNA, key).encode()),
        ("ce_source", b"/plain"),
        ("ce_type", command_type.encode()),
        ("ce_sender", ANNA.encode()),
        ("ce_clientid", key.encode()),
        ("content-type", b"application/json"),
    ]


def without(found: Headers, name: str) -> Headers:
    return [(n, v) for n, v in found if n != name]


def with_(found: Headers, name: str, value: bytes) -> Headers:
    return [*without(found, name), (name, value)]


Poison = Callable[[Chat, str], Encoded]

TEXT = b'{"text":"x"}'


def _send(body: bytes) -> Poison:
    return lambda chat, key: Encoded(chat.chat_id.encode(), body, headers(chat, key))


def _metadata(raw: bytes) -> Poison:
    return _send(b'{"text":"x","metadata":{"a":' + raw + b"}}")


REJECTED: dict[str, tuple[Poison, str]] = {
    "no headers": (lambda chat, key: Encoded(chat.chat_id.encode(), TEXT, []), "malformed"),
    "no key": (lambda chat, key: Encoded(None, TEXT, headers(chat, key)), "malformed"),
    "broken JSON": (_send(b'{"text":'), "malformed"),
    "not UTF-8": (_send(b'{"text":"\xff"}'), "malformed"),
    "null value": (lambda chat, key: Encoded(chat.chat_id.encode(), None, headers(chat, key)), "malformed"),  # type: ignore[arg-type]
    "unknown type": (
        lambda chat, key: Encoded(chat.chat_id.encode(), TEXT, headers(chat, key, "message.sing.v1")),
        "unknown_type",
    ),
    "a later version of a type": (
        lambda chat, key: Encoded(
            chat.chat_id.encode(), b'{"seq":1,"emoji":"y"}', headers(chat, key, "reaction.add.v2")
        ),
        "unknown_type",
    ),
    "a key that is no chat": (lambda chat, key: Encoded(b"ops", TEXT, headers(chat, key)), "malformed"),
    "a 300 kB key": (lambda chat, key: Encoded(b"k" * 300_000, TEXT, headers(chat, key)), "malformed"),
    "a key of 36 bytes that is no text": (
        lambda chat, key: Encoded(b"\xff" * 36, TEXT, headers(chat, key)),
        "malformed",
    ),
    "a key of 36 characters that is no chat": (
        lambda chat, key: Encoded(b"k" * 36, TEXT, headers(chat, key)),
        "malformed",
    ),
    "metadata of 100,000 numbers": (_metadata(b"[" + b"1," * 100_000 + b"1]"), "too_large"),
    "foreign command_id": (
        lambda chat, key: Encoded(
            chat.chat_id.encode(), TEXT, with_(headers(chat, key), "ce_id", str(uuid4()).encode())
        ),
        "malformed",
    ),
    "sender is no user": (
        lambda chat, key: Encoded(chat.chat_id.encode(), TEXT, with_(headers(chat, key), "ce_sender", b"anna")),
        "malformed",
    ),
    "no client id": (
        lambda chat, key: Encoded(chat.chat_id.encode(), TEXT, without(headers(chat, key), "ce_clientid")),
        "malformed",
    ),
    "a 300 kB body": (_send(b'{"text":"' + b"x" * 300_000 + b'"}'), "too_large"),
    "a text of 16,385 characters": (_send(b'{"text":"' + b"x" * 16_385 + b'"}'), "too_large"),
    "U+0000 in the text": (_send(b'{"text":"a\\u0000b"}'), "invalid"),
    "metadata with 1e400": (_metadata(b"1e400"), "invalid"),
    "metadata with NaN": (_metadata(b"NaN"), "malformed"),
    "metadata with U+0000": (_metadata(b'"\\u0000"'), "invalid"),
    "metadata with 20,000 levels": (_metadata(b"[" * 20_000 + b"]" * 20_000), "invalid"),
    "metadata with a number of 4,000 digits": (_metadata(b"1" * 4_000), "invalid"),
    "a lone surrogate": (_send(b'{"text":"\\ud800"}'), "malformed"),
    "a reply to a message that is not there": (
        _send(b'{"text":"x","reply_to_message_id":"' + str(uuid4()).encode() + b'"}'),
        "unknown_message",
    ),
    "unknown chat": (
        lambda chat, key: _of_stranger(chat, key),
        "unknown_chat",
    ),
}


def _of_stranger(chat: Chat, key: str) -> Encoded:
    stranger = ids.UserId(str(uuid4()))
    found = with_(headers(chat, key), "ce_sender", stranger.encode())
    return Encoded(
        chat.chat_id.encode(), TEXT, with_(found, "ce_id", ids.command_id(chat.chat_id, stranger, key).encode())
    )


ACCEPTED: dict[str, Poison] = {
    "a 100 kB traceparent": lambda chat, key: Encoded(
        chat.chat_id.encode(), TEXT, [*headers(chat, key), ("traceparent", b"0" * 100_000)]
    ),
    "a reply wanted in a partition that is not there": lambda chat, key: Encoded(
        chat.chat_id.encode(), TEXT, [*headers(chat, key), ("ce_replyto", b"99999/r-1")]
    ),
    "a reply wanted nowhere": lambda chat, key: Encoded(
        chat.chat_id.encode(), TEXT, [*headers(chat, key), ("ce_replyto", b"\xff\xfe")]
    ),
    "headers of no meaning": lambda chat, key: Encoded(
        chat.chat_id.encode(), TEXT, [*headers(chat, key), ("x", b"\xff"), ("", b""), ("x", b"again")]
    ),
}


async def put_undecodable(kafka: str, topic: str, partition: int) -> int:
    """Append a record batch whose header key is not UTF-8 but whose checksum is right.

    The batch is built whole, patched and sent as it is.
    """
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=10_000,
    )  # fmt: skip
    builder.append(0, timestamp=int(time.time() * 1000), key=b"k", value=b"v", headers=[("zz", b"1")])
    raw = bytearray(builder.build())
    at = raw.index(b"zz")
    raw[at : at + 2] = b"\xff\xfe"
    raw[17:21] = struct.pack(">I", _crc32c.crc(bytes(raw[21:])))
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        return await _send_bytes(producer, topic, partition, bytes(raw))
    finally:
        await producer.stop()


async def _send_bytes(producer: AIOKafkaProducer, topic: str, partition: int, raw: bytes) -> int:
    batch = producer.create_batch()
    batch.append(key=b"k", value=b"v", timestamp=0, headers=[("zz", b"1")])
    batch.close()
    batch._buffer = bytearray(raw)
    done = await producer.send_batch(batch, topic, partition=partition)
    try:
        metadata = await asyncio.wait_for(done, 120)
    except KafkaError as error:
        raise AssertionError(f"the broker refused the patched batch: {error!r}") from error
    return int(metadata.offset)
