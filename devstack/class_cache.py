"""Creates the class cache: a broker that starts from it uses a third of the CPU.

Java 25 and later can write the classes that one run loaded and linked, with profiles of their methods, to a file from
which later runs start (an AOT cache: JEP 483, 514 and 515). `python -m devstack.class_cache` writes that file next to
Kafka's jars, once per set of jars and version of Java. `make test` and `make proofs` run it first, because they start
dozens of brokers. A broker uses the file if it exists (java.py) and starts without it otherwise; Java itself ignores a
file that does not fit.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import tempfile
from pathlib import Path
from typing import Final

from devstack.errors import DevstackError
from devstack.jars import kafka_jars
from devstack.java import QUIET, class_cache, java_executable
from devstack.kafka import KafkaCluster
from devstack.kafka_config import JVM_OPTIONS

DEADLINE_S: Final = 120.0
TOPIC: Final = "warm-up"
# Java writes the file at exit, which takes seconds without any output.
WRITING_SILENCE_S: Final = 120.0


def make_class_cache(cache_dir: Path | None = None) -> Path | None:
    """Return the class cache, created if it does not exist; None if this Java cannot create one. Blocking.

    Raises a DevstackError.
    """
    java = java_executable()
    jars = kafka_jars(cache_dir)
    target = class_cache(java, jars)
    if target is None or target.is_file():
        return target
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_file():  # else another process made it while this one waited
            draft = target.with_suffix(".draft")
            with tempfile.TemporaryDirectory(prefix="gapless-classes-") as folder:
                options = (*JVM_OPTIONS, f"-XX:AOTCacheOutput={draft}", QUIET)
                cluster = KafkaCluster(Path(folder), cache_dir=cache_dir, jvm_options=options)
                asyncio.run(_run(cluster))
                if not draft.is_file():
                    raise cluster.brokers[0].failure(
                        "Java wrote no class cache: brokers start without it, only slower."
                    )
            draft.rename(target)
    return target


async def _run(cluster: KafkaCluster) -> None:
    await cluster.start()
    try:
        await asyncio.wait_for(_use(cluster.bootstrap_servers), DEADLINE_S)
    finally:
        await cluster.stop(silence_s=WRITING_SILENCE_S)


async def _use(servers: str) -> None:
    """Use a broker as our services do, so that those classes are loaded too."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1, topic_configs={"compression.type": "zstd"})])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id=TOPIC, acks="all")
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(TOPIC, b"value", key=b"key", headers=[("name", b"value")])
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=servers, group_id=TOPIC, auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer.getone()
        await consumer.commit({TopicPartition(TOPIC, 0): 1})
    finally:
        await consumer.stop()


def main() -> None:
    try:
        make_class_cache()
    except DevstackError as error:
        # The cache is optional; programs that need jars or Java report their absence themselves.
        print(error, file=sys.stderr)  # noqa: T201 - a program


if __name__ == "__main__":
    main()
