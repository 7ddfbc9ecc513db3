"""A sequencer with a wrong clock does not serve, and reports it; its outcomes carry the broker's time within
minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from devstack.ports import choose_ports
from schemas.log import Verdict
from services.runtime.kafka.broker_time import BrokerTime, Reading
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import KafkaUnavailable
from services.runtime.process.lifecycle import Supervisor
from services.runtime.settings import HttpSettings, KafkaSettings
from services.sequencer import app, clock
from services.sequencer.settings import SequencerSettings
from tests.support.sequencing import DEADLINE_S, Scene, until

DAY_MS = 24 * 3600 * 1000
YEARS_MS = 10 * 365 * DAY_MS


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_the_broker_tells_its_time_and_a_topic_with_producers_times_cannot(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            connection = KafkaConnection.plain(kafka)
            told = BrokerTime(kafka=connection, client_id="test", topic=scene.names.replies, value=app.NO_REPLIES)
            before = _now_ms()
            reading = await _once_led(told)
            assert before - 1_000 <= reading.broker_ms <= _now_ms() + 1_000, "the broker is on this machine"
            assert reading.sent_s <= reading.answered_s
            assert await scene.replies(0) == [], "the record concerns no one"
            await told.close()
            other = BrokerTime(kafka=connection, client_id="test", topic=scene.names.events, value=b"")
            with pytest.raises(KafkaUnavailable, match="LogAppendTime"):
                await _once_led(other)

    asyncio.run(main())


async def _once_led(told: BrokerTime) -> Reading:
    """Read the clock as soon as the new topic has a leader that knows of it."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await told.read()
        except KafkaUnavailable as error:
            if "Leader" not in str(error) or time.monotonic() > deadline:
                raise


@asynccontextmanager
async def _sequencer(scene: Scene, state_dir: Path) -> AsyncIterator[tuple[Supervisor, asyncio.Task[None], str]]:
    """Run the whole service in this process, and yield its ops address."""
    [port] = choose_ports(1)
    prefix = scene.names.events.removesuffix("chat.events")
    settings = SequencerSettings(
        kafka=KafkaSettings(
            bootstrap_servers=scene.kafka,
            topic_prefix=prefix,
            partitions=scene.partitions,
            reply_partitions=scene.reply_partitions,
            replication_factor=1,
        ),
        http=HttpSettings(ops_port=port),
        state_dir=state_dir,
    )
    supervisor = Supervisor()
    serving = asyncio.create_task(app.run(settings, supervisor))
    try:
        yield supervisor, serving, f"http://127.0.0.1:{port}"
    finally:
        supervisor.request_stop("the test is over")
        await asyncio.wait({serving}, timeout=60)
        await supervisor.cancel_all()


def test_a_clock_that_is_years_ahead_opens_nothing_and_one_that_jumps_pushes_no_time(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong_ms = YEARS_MS
    monkeypatch.setattr(clock, "wall_clock_ms", lambda: _now_ms() + wrong_ms)

    async def main() -> None:
        nonlocal wrong_ms
        async with Scene.on(kafka) as scene:
            chat = await scene.create("by the clock")
            async with (
                _sequencer(scene, tmp_path) as (supervisor, serving, ops),
                httpx.AsyncClient(trust_env=False, verify=False) as http,
            ):
                said: list[str] = []

                async def reasons() -> list[str]:
                    try:
                        return list((await http.get(f"{ops}/readyz")).json()["reasons"])
                    except httpx.HTTPError:
                        return []

                while not any("ahead of the broker's" in reason for reason in said):
                    assert not serving.done(), serving.exception()
                    said = await reasons()
                    await asyncio.sleep(0.05)
                assert await scene.log(chat.partition) == [], "nothing is opened"
                wrong_ms = 0
                first = await scene.send(chat, "in time", key="k1")
                assert abs((await scene.outcome_of(chat.partition, first)).at_ms - _now_ms()) < DAY_MS
                wrong_ms = YEARS_MS
                second = await scene.send(chat, "after the jump", key="k2")
                at_ms = (await scene.outcome_of(chat.partition, second)).at_ms
                assert abs(at_ms - _now_ms()) < DAY_MS, "the broker's clock took the place of ours"
                await until(lambda: supervisor.failure is not None, "the watch finds the jump")
                assert isinstance(supervisor.failure, clock.ClockWrong)
                await asyncio.wait({serving}, timeout=60)
            for entry in await scene.log(chat.partition):
                assert entry.verdict is Verdict.VALID or entry.stamp.index == 0
                assert entry.outcome.at_ms < _now_ms() + DAY_MS

    asyncio.run(main())
