"""Every counter exists before anything is counted: Prometheus sees no increase in a series that did not exist."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any, cast

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, Counter

import services.ingest.metrics
import services.projector.metrics
import services.query.metrics
import services.runtime.observe.metrics
import services.sequencer.metrics
from services.projector.following.consumer import PartitionConsumer
from services.projector.following.worker import PartitionWorker
from services.query.settings import QuerySettings
from services.query.snapshot.reader import SnapshotReader
from services.runtime.health.health import Readiness
from services.runtime.settings import KafkaSettings
from services.runtime.web.middleware import RequestContextMiddleware
from services.sequencer.partition.term import TermSettings
from services.sequencer.partition.writer import PartitionWriter

MODULES = (
    services.runtime.observe.metrics,
    services.ingest.metrics,
    services.query.metrics,
    services.projector.metrics,
    services.sequencer.metrics,
)


def _begin() -> None:
    """Create what a process creates before it counts anything."""
    nothing = cast("Any", None)
    feed = PartitionConsumer(version=7, partition=3, pool=nothing, kafka=KafkaSettings(), topic=nothing)
    PartitionWorker(feed, readiness=Readiness(), max_batch_records=1, backoff_max_s=1)
    settings = TermSettings(partition=3, partitions=8, host="here")
    PartitionWriter(settings, hint=nothing, logs=nothing, open_store=nothing, replies=nothing, now_ms=nothing)
    SnapshotReader(QuerySettings())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_counter_is_there_before_anything_is_counted(module: ModuleType) -> None:
    _begin()
    counters = [value for value in vars(module).values() if isinstance(value, Counter)]
    assert counters
    assert [counter for counter in counters if not next(iter(counter.collect())).samples] == []


def test_an_application_shows_the_errors_of_each_route_when_it_starts() -> None:
    app = FastAPI()
    app.add_middleware(RequestContextMiddleware)

    @app.get("/of-this-test")
    def _answer() -> None: ...

    said = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(said)}

    async def send(_: object) -> None: ...

    asyncio.run(app({"type": "lifespan", "state": {}}, receive, send))
    labels = {"route": "/of-this-test"}
    assert REGISTRY.get_sample_value("gapless_http_unhandled_errors_total", labels) == 0
