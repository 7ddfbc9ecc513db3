"""Looks at the whole system, once or again and again: the log, the heartbeats, the projections, the processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from services.ops.inspect.asked import Asked, ask
from services.ops.inspect.heartbeats import Listener, listening
from services.ops.inspect.lag import Positions, backlog_of, projection_offsets
from services.ops.inspect.places import Places, open_places
from services.ops.inspect.status import Ends, LastOpening, PartitionStatus, Status, standbys_of, writer_of
from services.ops.verify.reading import topics_of
from services.runtime.kafka.errors import KafkaUnavailable, OffsetMissing
from services.runtime.postgres.pool import POSTGRES_UNAVAILABLE, connect
from services.runtime.postgres.sql import load_sql
from services.runtime.settings import KafkaSettings, PostgresSettings
from services.sequencer.peers.heartbeat import Heartbeat

_SQL: Final = load_sql("services.ops.inspect.sql", "lag.sql")


class Watch:
    """Keeps the readers open between two looks, made by `watching`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        postgres: PostgresSettings,
        topics: list[tuple[Places, Places]],
        listener: Listener | None,
        urls: Mapping[str, str],
        ca: str | None,
    ) -> None:
        self._kafka = kafka
        self._postgres = postgres
        self._topics = topics
        """The commands and the events of each partition."""
        self._listener = listener
        self._urls = urls
        self._ca = ca
        self._openings: dict[int, LastOpening] = {}

    async def look(self) -> Status:
        """Return the state now. Raises KafkaError; an outage of Postgres is a trouble of the status."""
        asked = await ask(self._urls, ca=self._ca) if self._urls else []
        troubles: list[str] = []
        serving: str | None = None
        fed_s: dict[int, float] = {}
        async with AsyncExitStack() as stack:
            positions: Positions = _unknown
            try:
                serving, fed_s = await _serving(self._postgres)
                positions = await stack.enter_async_context(projection_offsets(self._postgres))
            except (*POSTGRES_UNAVAILABLE, TimeoutError) as error:
                troubles.append(f"Postgres does not serve this: {str(error).strip().splitlines()[0]}.")
            looked = [await self._partition(partition, positions) for partition in range(self._kafka.partitions)]
        heard = await self._listener.heard() if self._listener is not None else None
        return Status(
            at_ms=int(time.time() * 1000),
            partitions=[_with_processes(each, heard or (), asked) for each in looked],
            heard=None if heard is None else [heartbeat.name for heartbeat in heard],
            processes=asked,
            serving=serving,
            fed_s=fed_s,
            troubles=troubles,
        )

    async def _partition(self, partition: int, positions: Positions) -> PartitionStatus:
        commands, events = self._topics[partition]
        backlog = await backlog_of(commands.reader, events.reader, partition, positions)
        _, end_of_commands = await commands.reader.bounds()
        events.start, events.end = await events.reader.bounds()
        last = await events.last()
        index = await events.last_index()
        opening = self._openings.get(partition)
        if last is not None and (opening is None or opening.term != last.stamp.term):
            found = await events.opening(last.stamp.term)
            opening = self._openings[partition] = LastOpening(
                partition=partition,
                term=last.stamp.term,
                owner=found[0].opening.owner if found is not None else "",
                host=found[0].opening.host if found is not None else "",
                at_ms=found[1] if found is not None else 0,
            )
        return PartitionStatus(
            partition=partition,
            opening=opening,
            writer=None,
            standbys=(),
            backlog=backlog,
            ends=Ends(commands=end_of_commands, events=events.end, index=index),
        )


def _with_processes(each: PartitionStatus, heard: list[Heartbeat] | tuple[()], asked: list[Asked]) -> PartitionStatus:
    term = each.opening.term if each.opening is not None else 0
    return PartitionStatus(
        partition=each.partition,
        opening=each.opening,
        writer=writer_of(each.partition, term, heard, asked),
        standbys=standbys_of(each.partition, heard),
        backlog=each.backlog,
        ends=each.ends,
    )


async def _unknown() -> dict[str, dict[int, int]]:
    """Positions while Postgres cannot be asked."""
    return {}


async def _serving(postgres: PostgresSettings) -> tuple[str | None, dict[int, float]]:
    """Return the serving projection, and the time since each of its partitions was fed."""
    connection = await connect(postgres, application_name="gapless-status", autocommit=True, read_only=True)
    try:
        async with connection.work():
            there = await (await connection.execute(_SQL.compose("there"))).fetchone()
            if there is None or not there[0]:
                return None, {}
            row = await (await connection.execute(_SQL.compose("serving"))).fetchone()
            fed = await (await connection.execute(_SQL.compose("fed"))).fetchall()
            return (f"v{row[0]}" if row is not None else None), {partition: float(since) for partition, since in fed}
    finally:
        await connection.close()


@asynccontextmanager
async def watching(
    kafka: KafkaSettings, postgres: PostgresSettings, urls: Mapping[str, str], ca: str | None
) -> AsyncIterator[Watch]:
    """Open what is looked at. Raises KafkaError, UsageError.

    :param urls: name → base URL of the processes to ask.
    """
    names = await topics_of(kafka)
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(kafka))
        topics = [
            (
                await stack.enter_async_context(open_places(kafka, names.commands, partition)),
                await stack.enter_async_context(open_places(kafka, names.events, partition)),
            )
            for partition in range(kafka.partitions)
        ]
        yield Watch(kafka, postgres, topics, listener, urls, ca)


async def looks(
    kafka: KafkaSettings,
    postgres: PostgresSettings,
    urls: Mapping[str, str],
    ca: str | None,
    *,
    interval_s: float,
    patient: bool,
) -> AsyncGenerator[Status | str]:
    """Yield a status every `interval_s`. If `patient`, an outage of Kafka is yielded as a sentence and waited for;
    otherwise it raises KafkaUnavailable."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with watching(kafka, postgres, urls, ca) as watch:
                while True:
                    began_s = loop.time()
                    yield await watch.look()
                    await asyncio.sleep(max(0.0, began_s + interval_s - loop.time()))
        except (KafkaUnavailable, OffsetMissing) as error:
            if not patient:
                raise
            yield f"Kafka cannot be read: {error}. Trying again."
            await asyncio.sleep(interval_s)
