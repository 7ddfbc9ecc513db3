"""Bad records straight into Kafka, through the whole system: after each, a good send is answered and visible."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from schemas import ids
from schemas.wire.encoding import Encoded
from tests.support.poison import ACCEPTED, REJECTED, put_undecodable
from tests.support.running_stack import RunningStack
from tests.support.sequencing import ANNA, Chat

COMMANDS = "chat.commands"


@pytest.mark.timeout(400)
def test_after_each_bad_record_the_next_send_is_answered_and_visible_in_history(tmp_path: Path) -> None:
    async def main() -> None:
        async with RunningStack.up(tmp_path, "--sequencers", "1") as stack, stack.client() as http:
            token = stack.token(ANNA)
            chat = await _create(http, token, stack.partitions)
            kafka = stack.document["kafka"]
            producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
            await producer.start()
            try:
                expected = 0
                for i, (name, (poison, _)) in enumerate(REJECTED.items()):
                    await _put(producer, chat, poison(chat, f"bad-{i}"))
                    expected += 1
                    await _good_send(http, token, chat, f"after {name}", expected)
                for i, (name, odd) in enumerate(ACCEPTED.items()):
                    await _put(producer, chat, odd(chat, f"odd-{i}"))
                    expected += 2
                    await _good_send(http, token, chat, f"after {name}", expected)
                await put_undecodable(kafka, COMMANDS, chat.partition)
                await _good_send(http, token, chat, "after what cannot be decoded", expected + 1)
            finally:
                await producer.stop()
            assert (await stack.gapless("log", "verify"))["sound"]
            assert (await stack.gapless("projection", "verify"))["equal"]

    asyncio.run(main())


async def _create(http: httpx.AsyncClient, token: str, partitions: int) -> Chat:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "create", "Prefer": "wait=30"}
    created = await http.post("/v1/chats", json={"kind": "group", "name": "poison", "members": []}, headers=headers)
    assert created.status_code == 201, created.text
    chat_id = ids.ChatId(created.json()["chat_id"])
    return Chat(chat_id=chat_id, partition=ids.partition_of(chat_id, partitions))


async def _put(producer: AIOKafkaProducer, chat: Chat, record: Encoded) -> None:
    await producer.send_and_wait(
        COMMANDS, value=record.value, key=record.key, headers=record.headers, partition=chat.partition
    )


async def _good_send(http: httpx.AsyncClient, token: str, chat: Chat, text: str, seq: int) -> None:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": text.replace(" ", "-"), "Prefer": "wait=30"}
    sent = await http.post(f"/v1/chats/{chat.chat_id}/messages", json={"text": text}, headers=headers)
    assert (sent.status_code, sent.json().get("seq")) == (201, seq), (text, sent.text)
    page = await http.get(
        f"/v1/chats/{chat.chat_id}/messages?limit=1",
        headers={"Authorization": f"Bearer {token}", "Gapless-At-Least": sent.json()["token"]},
    )
    assert page.status_code == 200, page.text
    assert [(m["seq"], m["text"]) for m in page.json()["messages"]] == [(seq, text)]
