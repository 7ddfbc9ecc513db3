"""Send one message straight to Kafka, by docs/asyncapi.yaml and with no code of Gapless.

python examples/producer_kafka.py CHAT_ID SENDER_ID TEXT [KEY]

The record is stored when this returns; what became of it is in chat.events (examples/reader.py) and in history. Sent
again under the same key it is one message, whatever crashed in between.
"""

import asyncio
import json
import os
import sys
import uuid

from aiokafka import AIOKafkaProducer


async def main(chat_id: str, sender_id: str, text: str, key: str) -> None:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(uuid.uuid5(uuid.UUID(chat_id), f"{sender_id}/{key}")),  # the message's id
        "ce_source": "/examples",
        "ce_type": "message.send.v1",
        "ce_sender": sender_id,
        "ce_clientid": key,
        "content-type": "application/json",
    }
    body = json.dumps({"text": text}, separators=(",", ":"), ensure_ascii=False)
    async with AIOKafkaProducer(bootstrap_servers=os.environ["GAPLESS_KAFKA_BOOTSTRAP"], acks="all") as producer:
        await producer.send_and_wait(
            "chat.commands",
            key=chat_id.encode(),  # the default partitioner of every Kafka client puts a chat where it belongs
            value=body.encode(),
            headers=[(name, value.encode()) for name, value in headers.items()],
        )


chat_id, sender_id, text, *rest = sys.argv[1:]
asyncio.run(main(chat_id, sender_id, text, rest[0] if rest else str(uuid.uuid4())))
