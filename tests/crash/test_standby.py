"""A standby takes over ahead of the group: the group's session is far longer than the tests wait."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.log import Verdict
from tests.support.sequencer_process import SequencerProcess
from tests.support.sequencing import Chat, LogEntry, Scene

LONG_SESSION: dict[str, str] = {"GAPLESS_KAFKA_SESSION_TIMEOUT_S": "60"}
DEADLINE_S = 25.0
"""Far below the session timeout, so the group cannot have caused what happens within it."""


@asynccontextmanager
async def owner_and_standby(
    scene: Scene, folder: Path, partition: int, **environment: str
) -> AsyncIterator[tuple[SequencerProcess, SequencerProcess]]:
    """Run two processes: the one that serves the partition, and its standby."""
    settings = {**LONG_SESSION, **environment}
    async with SequencerProcess.on(scene, folder, **settings) as one:
        await one.until_ready()
        async with SequencerProcess.on(scene, folder, **settings) as two:
            await two.until_ready()
            await one.until_ready()
            pair = (one, two)
            deadline = time.monotonic() + DEADLINE_S
            while True:
                for owner, other in (pair, pair[::-1]):
                    if await serves(owner, partition) and await stands_by(other, partition):
                        yield owner, other
                        return
                assert time.monotonic() < deadline, "nobody stands by"
                await asyncio.sleep(0.05)


async def serves(process: SequencerProcess, partition: int) -> bool:
    return await term_of(process, partition) > 0


async def term_of(process: SequencerProcess, partition: int) -> float:
    """Return the term in which it reports to serve, or 0 if it does not."""
    return await process.metric(f'gapless_sequencer_term{{partition="{partition}"}}')


async def until_it_serves(process: SequencerProcess, partition: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await serves(process, partition):
        assert time.monotonic() < deadline, "nobody took over"
        await asyncio.sleep(0.05)


async def stands_by(process: SequencerProcess, partition: int) -> bool:
    series = f'gapless_sequencer_partition_status{{partition="{partition}",status="standing_by"}}'
    return await process.metric(series) == 1


async def called(process: SequencerProcess, partition: int) -> float:
    return await process.metric(f'gapless_sequencer_standby_takeovers_total{{partition="{partition}"}}')


@asynccontextmanager
async def sending(scene: Scene, chat: Chat) -> AsyncIterator[list[int]]:
    """Send ten commands a second, and yield their offsets."""
    sent: list[int] = []

    async def go_on() -> None:
        while True:
            sent.append(await scene.send(chat, "text", key=f"m{len(sent)}"))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(go_on())
    try:
        yield sent
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def each_has_one_outcome(scene: Scene, chat: Chat, sent: list[int]) -> list[LogEntry]:
    """Check that all commands are decided once, in order, and return the valid records of the log."""
    await scene.outcome_of(chat.partition, sent[-1])
    valid = [e for e in await scene.log(chat.partition) if e.verdict is Verdict.VALID]
    assert [e.stamp.index for e in valid] == list(range(1, len(valid) + 1))
    seqs = {e.stamp.command_offset: e.outcome.seq for e in valid}
    assert [seqs[offset] for offset in sent] == list(range(1, len(sent) + 1))
    return valid


async def terms(scene: Scene, partition: int) -> int:
    return max(e.stamp.term for e in await scene.log(partition))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_standby_takes_over_from_one_that_fell_silent_though_the_group_says_nothing(
    kafka: str, tmp_path: Path, number: signal.Signals
) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            chat = await scene.create("standby")
            async with (
                owner_and_standby(scene, tmp_path, chat.partition) as (owner, standby),
                sending(scene, chat) as sent,
            ):
                await scene.outcome_of(chat.partition, await scene.send(chat, "before", key="before"))
                sent.clear()
                before = await terms(scene, chat.partition)
                owner.process.send_signal(number)
                await until_it_serves(standby, chat.partition)
                assert await called(standby, chat.partition) == 1
                if number is signal.SIGSTOP:
                    owner.process.send_signal(signal.SIGCONT)
                last = await scene.send(chat, "after", key="after")
                outcome = await scene.outcome_of(chat.partition, last)
                assert outcome.type == "message.sent.v1"
                assert await terms(scene, chat.partition) == before + 1, "one opening, and no duel"
            valid = [e for e in await scene.log(chat.partition) if e.verdict is Verdict.VALID]
            assert [e.stamp.index for e in valid] == list(range(1, len(valid) + 1))

    asyncio.run(main())


def test_one_that_was_relieved_while_it_stood_still_finds_out_though_nothing_comes_in(
    kafka: str, tmp_path: Path
) -> None:
    """The group never notices and keeps the assignment, and no append shows that it was fenced."""

    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            chat = await scene.create("idle")
            async with owner_and_standby(scene, tmp_path, chat.partition) as (owner, standby):
                before = await terms(scene, chat.partition)
                owner.process.send_signal(signal.SIGSTOP)
                await until_it_serves(standby, chat.partition)
                owner.process.send_signal(signal.SIGCONT)
                deadline = time.monotonic() + DEADLINE_S
                while await term_of(owner, chat.partition) == before:
                    assert time.monotonic() < deadline, "it still says that it serves, in a term that is over"
                    await asyncio.sleep(0.05)

    asyncio.run(main())


def test_one_that_is_asked_to_stop_writes_on_until_another_does(kafka: str, tmp_path: Path) -> None:
    """The standby stays stopped until the old owner has decided a command that came after the request to stop.

    Whether the heartbeats or the group's assignment then make the standby take over is open: the owner leaves the group
    at the same moment.
    """

    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            chat = await scene.create("hand-over")
            async with owner_and_standby(scene, tmp_path, chat.partition) as (owner, standby):
                async with sending(scene, chat) as sent:
                    while len(sent) < 5:
                        await asyncio.sleep(0.05)
                    before = await terms(scene, chat.partition)
                    standby.process.send_signal(signal.SIGSTOP)
                    owner.process.terminate()
                    asked = len(sent) + 1  # one may be in flight
                    while len(sent) <= asked:
                        await asyncio.sleep(0.01)
                    assert await scene.outcome_of(chat.partition, sent[asked]), "it decides nothing any more"
                    standby.process.send_signal(signal.SIGCONT)
                    assert await asyncio.wait_for(owner.process.wait(), DEADLINE_S) == 0
                    await until_it_serves(standby, chat.partition)
                    assert await terms(scene, chat.partition) == before + 1
                valid = await each_has_one_outcome(scene, chat, sent)
                by_the_old = {e.stamp.command_offset for e in valid if e.stamp.term == before}
                assert sent[asked] in by_the_old, "it went on deciding after it was asked to stop"

    asyncio.run(main())


def test_an_owner_that_stalls_again_and_again_costs_a_few_terms_and_no_answer(kafka: str, tmp_path: Path) -> None:
    """Eight stalls of a second, longer than five heartbeats: the timeout doubles, so not each of them is a takeover."""

    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            chat = await scene.create("stalls")
            async with owner_and_standby(scene, tmp_path, chat.partition) as (first, second):
                async with sending(scene, chat) as sent:
                    before = await terms(scene, chat.partition)
                    for _ in range(8):
                        first.process.send_signal(signal.SIGSTOP)
                        await asyncio.sleep(1.0)  # the stall itself
                        first.process.send_signal(signal.SIGCONT)
                        await asyncio.sleep(0.5)  # and the time between two
                    opened = await terms(scene, chat.partition) - before
                await each_has_one_outcome(scene, chat, sent)
                alarms = await second.metric("gapless_sequencer_false_suspicions_total")
                assert 1 <= alarms <= 3
                # It is taken over at the first stall; returning to the group's assignment takes ten seconds.
                assert 1 <= opened <= 4

    asyncio.run(main())


def test_without_standbys_nobody_sends_heartbeats_and_the_group_alone_decides(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            Scene.on(kafka, partitions=1) as scene,
            SequencerProcess.on(scene, tmp_path, GAPLESS_SEQUENCER_STANDBY="0") as one,
        ):
            await one.until_ready()
            async with SequencerProcess.on(scene, tmp_path, GAPLESS_SEQUENCER_STANDBY="0") as two:
                await two.until_ready()
                await one.until_ready()
                owner, other = (one, two) if await serves(one, 0) else (two, one)
                assert await owner.metric("gapless_sequencer_peers_heard") == 0
                owner.process.kill()
                chat = await scene.create("without")
                await scene.outcome_of(chat.partition, await scene.send(chat, "text", key="k"))
                assert await serves(other, 0)
                assert await called(other, 0) == 0

    asyncio.run(main())
