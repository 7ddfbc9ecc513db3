"""Listens to the sequencers' heartbeats: which processes run, what each serves, and what it stands by for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from schemas.topics import TopicNames, heartbeats_spec
from services.runtime.kafka.errors import KafkaError, KafkaRefused
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topic_reader import TopicReader
from services.runtime.process.tasks import end
from services.runtime.settings import KafkaSettings, load_settings
from services.sequencer.peers.heartbeat import Heartbeat, decode_heartbeat
from services.sequencer.settings import SequencerSettings

SILENT_INTERVALS: Final = 5
"""As many intervals without a heartbeat, and a process counts as silent: what its peers' failure detector takes."""
SILENT_S: Final = 1.0
_MANY: Final = 1_000
_READ_S: Final = 0.2


class Heard:
    """The newest heartbeat of each process, while it is not silent."""

    def __init__(self, silent_s: float) -> None:
        self.silent_s = silent_s
        self._newest: dict[str, tuple[Heartbeat, float]] = {}

    def take(self, heartbeat: Heartbeat, now_s: float) -> None:
        before = self._newest.get(heartbeat.process)
        if before is None or heartbeat.number > before[0].number:
            self._newest[heartbeat.process] = (heartbeat, now_s)

    def now(self, now_s: float) -> list[Heartbeat]:
        """Return the newest heartbeat of each process that is not silent, in the order of names."""
        heard = [heartbeat for heartbeat, heard_s in self._newest.values() if now_s - heard_s <= self.silent_s]
        return sorted(heard, key=lambda heartbeat: (heartbeat.name, heartbeat.process))


class Listener:
    """Reads the heartbeats while `run` runs, made by `listening`.

    They are read when they arrive, and not when someone asks: otherwise those of a process that has died since the last
    look would count as heard now.
    """

    def __init__(self, reader: PartitionReader, heard: Heard) -> None:
        self._reader = reader
        self._heard = heard
        self._since_s = asyncio.get_running_loop().time()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Read until cancelled, or until Kafka refuses; `heard` raises that error then."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                for record in await self._reader.read(max_records=_MANY, timeout_s=_READ_S):
                    try:
                        self._heard.take(decode_heartbeat(record.value or b""), loop.time())
                    except ValueError:
                        continue  # of another release, or of another program
        except KafkaError as error:
            self._failed.set_exception(error)
            self._failed.exception()  # so that asyncio does not report it as never retrieved

    async def heard(self) -> list[Heartbeat]:
        """Return the heartbeats of the processes that run. The first call listens until a silent process is known.

        Raises KafkaError.
        """
        loop = asyncio.get_running_loop()
        await asyncio.wait({self._failed}, timeout=max(0.0, self._since_s + self._heard.silent_s - loop.time()))
        if self._failed.done():
            self._failed.result()
        return self._heard.now(loop.time())


@asynccontextmanager
async def listening(kafka: KafkaSettings) -> AsyncIterator[Listener | None]:
    """Listen from now on. Yields None if there is no topic of heartbeats, or if we may not read it: without standbys
    (GAPLESS_SEQUENCER_STANDBY=0) sequencers send none. Raises KafkaError."""
    names = TopicNames.prefixed(kafka.topic_prefix)
    if not await _exists(kafka, names):
        yield None
        return
    reader = PartitionReader(
        kafka=kafka.connection, topic=names.heartbeats, partition=0, client_id=f"{kafka.client_id}-inspect"
    )
    await reader.start(0)
    tasks: list[asyncio.Task[None]] = []
    try:
        _, end_offset = await reader.bounds()
        await reader.seek(end_offset)
        interval_s = load_settings(SequencerSettings).heartbeat_s
        listener = Listener(reader, Heard(max(SILENT_S, SILENT_INTERVALS * interval_s)))
        tasks.append(asyncio.create_task(listener.run(), name="heartbeats"))
        yield listener
    finally:
        await end(tasks)
        await reader.close()


async def _exists(kafka: KafkaSettings, names: TopicNames) -> bool:
    topics = TopicReader(kafka.connection)
    try:
        return bool(await topics.describe([heartbeats_spec(names, replication_factor=1)]))
    except KafkaRefused:
        return False
    finally:
        await topics.close()
