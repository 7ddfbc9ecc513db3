"""Read every message in the log, in order, by docs/asyncapi.yaml and with no code of Gapless.

python examples/reader.py [CHAT_ID]

A record counts if it has the latest term and the next index of its partition; any other was written by a sequencer that
had been replaced, and every reader skips it. A program that runs for long stores (term, index) with what it derives.
"""

import asyncio
import json
import os
import sys

from aiokafka import AIOKafkaConsumer, TopicPartition

TOPIC = "chat.events"


async def main(only_chat: str | None) -> None:
    partitions = int(os.environ["GAPLESS_KAFKA_PARTITIONS"])
    places = [TopicPartition(TOPIC, number) for number in range(partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=os.environ["GAPLESS_KAFKA_BOOTSTRAP"]) as consumer:
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        heads = dict.fromkeys(places, (0, 0))  # partition → (term, index) of its last valid record
        while any([await consumer.position(place) < ends[place] for place in places]):
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    term, index = map(int, headers["ce_id"].split("/"))
                    last_term, last_index = heads[place]
                    if index == 0:  # a sequencer opened a term
                        heads[place] = (max(term, last_term), last_index)
                    elif (term, index) == (last_term, last_index + 1):
                        heads[place] = (term, index)
                        if headers["ce_type"] == "message.sent.v1" and only_chat in (None, record.key.decode()):
                            text = json.loads(record.value)["text"]
                            print(record.key.decode(), headers["ce_seq"], headers["ce_sender"], text)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
