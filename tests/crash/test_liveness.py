"""Real sequencers go on, or stop only what has to stop: idleness, outages, bad records, refused appends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devstack.kafka import KafkaCluster
from schemas.bodies import Body
from schemas.events import OtherOutcome, TermOpened, encode_term_opened
from schemas.log import Stamp
from schemas.topics import TopicNames, topic_specs
from schemas.wire.encoding import Encoded, encode_outcome, event_source, opening_outcome
from tests.chaos.collect import read_topic
from tests.chaos.judged import headers_of
from tests.support.group_members import members_of
from tests.support.running_stack import RunningStack
from tests.support.sequencer_process import SequencerProcess, connections
from tests.support.sequencing import ANNA, BEN, Chat, Scene
from tests.support.topic_settings import alter


def group_of(scene: Scene) -> str:
    """Return the consumer group of the scene's sequencers."""
    return scene.names.commands.removesuffix("chat.commands") + "gapless-sequencer"


# --- idleness -----------------------------------------------------------------------------------------------------


def test_an_idle_sequencer_keeps_its_place_in_the_group_beyond_the_poll_interval(kafka: str, tmp_path: Path) -> None:
    """An idle process keeps polling.

    aiokafka leaves the group permanently if a member does not poll for `max_poll_interval_ms`: a second process would
    then own everything, and no process would take over if that one died.
    """

    async def main() -> None:
        async with (
            Scene.on(kafka, partitions=2) as scene,
            SequencerProcess.on(scene, tmp_path, GAPLESS_KAFKA_MAX_POLL_INTERVAL_S="3") as sequencer,
        ):
            await sequencer.until_ready()
            before = await members_of(kafka, group_of(scene))
            assert list(before.values()) == [{0, 1}]
            await asyncio.sleep(10)  # more than three intervals without a command
            assert await members_of(kafka, group_of(scene)) == before
            assert await sequencer.troubles() == []
            chat = await scene.create("idle")
            offset = await scene.send(chat, "still there?", key="k")
            assert (await scene.outcome_of(chat.partition, offset)).seq == 1
            openings = [e.stamp.term for p in (0, 1) for e in await scene.log(p) if e.stamp.index == 0]
            assert openings == [1, 1], "nobody took over, and it did not have to begin again"

    asyncio.run(main())


def test_a_sequencer_that_starts_while_kafka_is_away_serves_as_soon_as_it_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = KafkaCluster(tmp_path / "kafka")
        await cluster.start()
        try:
            async with Scene.on(cluster.bootstrap_servers, partitions=1) as scene:
                chat = await scene.create("early")
                await cluster.brokers[0].kill()
                async with SequencerProcess.on(scene, tmp_path) as sequencer:
                    said = await sequencer.until_troubles(lambda t: any("Kafka" in each for each in t), "it waits")
                    assert said[0].startswith("The ")
                    await cluster.brokers[0].start()
                    await sequencer.until_ready()
                    assert (await scene.outcome_of(chat.partition, 0)).type == "chat.created.v1"
        finally:
            await cluster.stop()

    asyncio.run(main())


# --- an outage of the in-sync replicas ----------------------------------------------------------------------------

OUTAGE_S = 30.0
OPENINGS_PER_PARTITION = 8
"""Bound for the outage and what follows: an attempt takes the append's deadline of 5 s, and a pause that doubles."""
RECOVERY_S = 120.0
SPARE_CONNECTIONS = 24
"""Allowed growth of a process's connections.

A client that switches to another leader keeps its connection to the former one, and each of eight partitions has two
readers and a producer; an abandoned producer per attempt in each of them would be dozens more.
"""


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_an_outage_of_two_brokers_leaves_no_producer_no_storm_of_terms_and_one_owner(tmp_path: Path) -> None:
    """Two of three brokers are stopped: appends reach the third and are never acknowledged, but nothing fails by
    itself.
    """

    async def main() -> None:
        async with (
            RunningStack.up(tmp_path, "--brokers", "3", "--sequencers", "2") as stack,
            stack.client() as http,
        ):
            token = stack.token(str(uuid4()))
            chats = await _a_chat_in_each_partition(http, token)
            sending = asyncio.create_task(_keep_sending(http, token, chats))
            await asyncio.sleep(3)  # appends of commands and of outcomes are in flight in every partition
            kept = _connections(stack)
            openings = await _openings(stack)
            try:
                for name in ("kafka-2", "kafka-3"):
                    stack.signal(name, signal.SIGSTOP)
                await asyncio.sleep(OUTAGE_S)
                most = _connections(stack)
            finally:
                for name in ("kafka-2", "kafka-3"):
                    stack.signal(name, signal.SIGCONT)
            returned_s = time.monotonic()
            await _each_is_answered(http, token, chats, returned_s + RECOVERY_S)
            recovered_s = time.monotonic() - returned_s
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending

            for partition in range(stack.partitions):
                owners = await _owners(stack, partition)
                assert len(owners) == 1, f"partition {partition} is written by {owners}"
            opened = await _openings(stack)
            opened.subtract(openings)
            print(f"all partitions answered {recovered_s:.1f} s after the brokers' return; openings {dict(opened)}")
            assert max(opened.values()) <= OPENINGS_PER_PARTITION, opened
            await _let_go(stack, kept, most)
            assert (await stack.gapless("log", "verify"))["sound"]

    asyncio.run(main())
    for log_path in (tmp_path / "d" / "logs").glob("*-*.log"):  # abandoned work is reported at the end at the latest
        said = log_path.read_text(encoding="utf-8", errors="replace")
        assert "never retrieved" not in said, f"{log_path.name}: something was abandoned and failed unheard"


def _connections(stack: RunningStack) -> dict[str, int]:
    """Return service → its connections to brokers."""
    document = stack.document
    return {n: connections(int(document["processes"][n]), document["kafka"]) for n in document["ops_urls"]}


async def _a_chat_in_each_partition(http: httpx.AsyncClient, token: str) -> list[str]:
    chats: dict[int, str] = {}
    n = 0
    while len(chats) < 8:
        n += 1
        answer = await http.post(
            "/v1/chats",
            json={"kind": "group", "name": f"chat {n}", "members": []},
            headers={"Authorization": f"Bearer {token}", "Idempotency-Key": f"create-{n}", "Prefer": "wait=30"},
        )
        assert answer.status_code == 201, answer.text
        chats.setdefault(int(answer.json()["token"].split(":")[0]), answer.json()["chat_id"])
    return list(chats.values())


async def _send(http: httpx.AsyncClient, token: str, chat: str, key: str) -> int:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key, "Prefer": "wait=2"}
    try:
        answer = await http.post(f"/v1/chats/{chat}/messages", json={"text": key}, headers=headers, timeout=10.0)
    except httpx.TransportError:
        return 0
    assert answer.status_code in (200, 201, 202, 503), answer.text
    return answer.status_code


async def _keep_sending(http: httpx.AsyncClient, token: str, chats: list[str]) -> None:
    """Run producers that hang in the outage: one per partition that sends as fast as it is answered."""

    async def one(chat: str) -> None:
        n = 0
        while True:
            n += 1
            await _send(http, token, chat, f"k-{n}")

    await asyncio.gather(*(one(chat) for chat in chats))


async def _each_is_answered(http: httpx.AsyncClient, token: str, chats: list[str], deadline_s: float) -> None:
    async def until_answered(chat: str) -> None:
        while await _send(http, token, chat, "after-the-outage") not in (200, 201):
            assert time.monotonic() < deadline_s, f"chat {chat} is not served again"
            await asyncio.sleep(0.2)

    await asyncio.gather(*(until_answered(chat) for chat in chats))


async def _owners(stack: RunningStack, partition: int) -> list[str]:
    """Return the processes that believe that they own the partition; a superseded one notices a moment later."""
    deadline = time.monotonic() + 60
    while True:
        series = f'gapless_sequencer_term{{partition="{partition}"}}'
        owners = [n for n in ("sequencer-1", "sequencer-2") if await stack.metric(n, series) > 0]
        if len(owners) == 1 or time.monotonic() > deadline:
            return owners
        await asyncio.sleep(0.2)


async def _openings(stack: RunningStack) -> Counter[int]:
    """Return partition → openings in the log, including void ones."""
    records = await read_topic(stack.document["kafka"], TopicNames().events, stack.partitions)
    return Counter(r.partition for r in records if headers_of(r).get("ce_type") == "term.opened.v1")


async def _let_go(stack: RunningStack, before: dict[str, int], most: dict[str, int]) -> None:
    """Wait until each process has as many connections as before the outage, or only a few more."""
    deadline = time.monotonic() + 120
    while True:
        left = {name: count - before[name] for name, count in _connections(stack).items()}
        if max(left.values()) <= SPARE_CONNECTIONS:
            print(f"connections before {before}, in the outage {most}, more than before {left}")
            return
        assert time.monotonic() < deadline, f"before {before}, in the outage {most}, left behind {left}"
        await asyncio.sleep(0.5)


# --- bad records --------------------------------------------------------------------------------------------------


async def _foreign_opening(scene: Scene, partition: int, term: int) -> None:
    body = TermOpened(owner=str(uuid4()), host="elsewhere", partitions=scene.partitions)
    record = encode_outcome(
        opening_outcome(encode_term_opened(body), int(time.time() * 1000)), Stamp(term, 0, -1), event_source(partition)
    )
    await scene.append_raw(partition, record)


async def _corrupt(scene: Scene, chat: Chat) -> None:
    await scene.append_raw(chat.partition, Encoded(None, b"{}", [("ce_id", b"9/9"), ("ce_command", b"99")]))


async def _unknown(scene: Scene, chat: Chat) -> None:
    """Append what a newer sequencer would have written: the outcome of a command type that does not exist yet."""
    head = (await scene.log(chat.partition))[-1].stamp
    await _foreign_opening(scene, chat.partition, head.term + 1)
    offset = await scene.command(chat, "message.pin.v1", Body(), key="pin")
    outcome = OtherOutcome(
        type="message.pinned.v1", at_ms=int(time.time() * 1000), body=b"{}", key=chat.chat_id.encode(),
        chat_id=chat.chat_id, sender_id=ANNA, position=99,
    )  # fmt: skip
    stamp = Stamp(head.term + 1, head.index + 1, offset)
    await scene.append_raw(chat.partition, encode_outcome(outcome, stamp, event_source(chat.partition)))


@pytest.mark.parametrize(("plant", "says"), [(_corrupt, "LogCorrupt"), (_unknown, "UnknownType")])
def test_a_bad_record_stops_its_partition_and_no_other_also_after_a_restart(
    kafka: str, tmp_path: Path, plant: Callable[[Scene, Chat], Any], says: str
) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            bad, good = await _chats_apart(scene)
            async with SequencerProcess.on(scene, tmp_path) as sequencer:
                await sequencer.until_ready()
                for chat in (bad, good):
                    await scene.outcome_of(chat.partition, await scene.send(chat, "before", key="k0"))
                await plant(scene, bad)
                await scene.send(bad, "never decided", key="k1")
                await _stopped(sequencer, bad.partition, says)
                assert (await scene.outcome_of(good.partition, await scene.send(good, "after", key="k1"))).seq == 2
                assert await sequencer.metric(_status(bad.partition, "stopped")) == 1
                assert await sequencer.metric(_status(good.partition, "serving")) == 1
                sequencer.process.terminate()
                assert await asyncio.wait_for(sequencer.process.wait(), 120) == 0, "it can be stopped as ever"
            async with SequencerProcess.on(scene, tmp_path) as sequencer:
                await _stopped(sequencer, bad.partition, says)
                assert (await scene.outcome_of(good.partition, await scene.send(good, "again", key="k2"))).seq == 3
                assert sequencer.process.returncode is None

    asyncio.run(main())


async def _chats_apart(scene: Scene) -> tuple[Chat, Chat]:
    """Create one chat in each of two partitions."""
    chats: dict[int, Chat] = {}
    n = 0
    while len(chats) < 2:
        n += 1
        chat = scene.group(f"chat {n}")
        if chat.partition not in chats:
            chats[chat.partition] = await scene.create(f"chat {n}", members=[BEN])
    return chats[0], chats[1]


async def _stopped(sequencer: SequencerProcess, partition: int, says: str) -> None:
    """Wait until the process reports this partition, no other, and the cause."""
    head = f"partition {partition} is stopped: {says}"
    (said,) = await sequencer.until_troubles(lambda t: any(head in each for each in t), f"it stops {partition}")
    assert said.startswith(head)
    assert ";" not in said.split(says)[0], "of one partition"
    assert "partition.stopped" in sequencer.said


def _status(partition: int, status: str) -> str:
    return f'gapless_sequencer_partition_status{{partition="{partition}",status="{status}"}}'


# --- appends that can never succeed -------------------------------------------------------------------------------


def test_an_append_that_is_refused_each_time_is_tried_at_growing_intervals(kafka: str, tmp_path: Path) -> None:
    """The broker accepts the opening, and refuses each batch as too large: every attempt is a new term."""

    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene, SequencerProcess.on(scene, tmp_path) as sequencer:
            await sequencer.until_ready()
            chat = await scene.create("refused")
            await scene.outcome_of(0, await scene.send(chat, "small", key="k0"))
            _, events, _ = topic_specs(
                scene.names, partitions=1, reply_partitions=scene.reply_partitions, replication_factor=1
            )
            await alter(kafka, events, max_message_bytes="4000")
            offset = await scene.send(chat, "x" * 10_000, key="k1")
            deadline = time.monotonic() + 120
            while not (refused := await _pauses(scene)) or refused[-1] <= max(2.5, 4 * refused[0]):
                assert time.monotonic() < deadline, f"the pauses do not grow: {refused}"
                await asyncio.sleep(0.5)
            print(f"seconds between openings: {refused}")
            assert len(refused) <= 16, "no storm"
            # Between an opening and its refusal it serves for a moment; in the pause after it, it reports its state.
            states = ("backing_off", "opening", "folding")
            await sequencer.until_troubles(
                lambda troubles: any(state in each for each in troubles for state in states), "it says so"
            )

            await alter(kafka, events)
            deadline = time.monotonic() + 60  # the current pause, at most 30 s
            while not any(e.stamp.command_offset == offset for e in await scene.log(0)):
                assert time.monotonic() < deadline, "it does not go on though nothing is refused any more"
                await asyncio.sleep(0.2)
            assert (await scene.outcome_of(0, offset)).seq == 2
            await sequencer.until_ready()

    asyncio.run(main())


async def _pauses(scene: Scene) -> list[float]:
    """Return the seconds between openings, from the second on: the first was that of the start."""
    times = [e.outcome.at_ms / 1000 for e in await scene.log(0) if e.stamp.index == 0][1:]
    return [round(after - before, 2) for before, after in pairwise(times)]
