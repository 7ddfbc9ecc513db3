"""Heartbeats are sent one at a time, news at once; late ones are marked late, and no Kafka error ends them."""

from __future__ import annotations

import asyncio
from random import Random

from schemas.wire.encoding import Encoded
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable
from services.sequencer.peers.exchange import SEND_TIMEOUT_S, HeartbeatExchange
from services.sequencer.peers.failure_detector import SUSPECTED_AFTER, FailureDetector
from services.sequencer.peers.heartbeat import Heartbeat, decode_heartbeat
from services.sequencer.ports import LogReader
from tests.support.simulated_log import Network, SimulatedLog, SimulatedReader
from tests.support.simulated_loop import SimulatedLoop, run_simulated

HEARTBEAT_S = 0.15


class Topic:
    """The topic, which can be unavailable: appends land when it is back, or their time runs out."""

    def __init__(self) -> None:
        self.log = SimulatedLog()
        self.network = Network(random=Random(1))
        self.back = asyncio.Event()
        self.back.set()
        self.under_way = 0
        self.most_under_way = 0
        self.landed_s: list[float] = []

    async def append(self, record: Encoded, timeout_s: float) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            async with asyncio.timeout(timeout_s):
                await self.back.wait()
                await asyncio.sleep(0.002)
        except TimeoutError:
            raise AppendUnknown("away") from None
        finally:
            self.under_way -= 1
        self.log.append([record])
        self.landed_s.append(asyncio.get_running_loop().time())

    async def read_from_end(self) -> LogReader:
        if not self.back.is_set():
            raise KafkaUnavailable("away")
        return SimulatedReader(self.log, self.network, self.log.end)

    @property
    def heartbeats(self) -> list[Heartbeat]:
        return [decode_heartbeat(record.value or b"") for record in self.log.records]


def heartbeats_on(
    topic: Topic, detector: FailureDetector, name: str = "a", *, serves: dict[int, int] | None = None
) -> HeartbeatExchange:
    return HeartbeatExchange(
        detector, topic, process=name, name=name,
        state=lambda: (serves or {}, frozenset()), on_news=lambda: None, every_s=HEARTBEAT_S,
    )  # fmt: skip


def test_heartbeats_come_at_their_pace_and_the_first_is_a_late_one() -> None:
    async def main(loop: SimulatedLoop) -> None:
        topic = Topic()
        task = asyncio.create_task(heartbeats_on(topic, FailureDetector("a", "a", standbys=1)).run())
        await asyncio.sleep(10.0)
        task.cancel()
        assert 60 <= len(topic.heartbeats) <= 67
        assert [b.late for b in topic.heartbeats] == [True] + [False] * (len(topic.heartbeats) - 1)

    run_simulated(1, main)


def test_news_go_out_at_once_and_between_the_heartbeats() -> None:
    async def main(loop: SimulatedLoop) -> None:
        topic = Topic()
        heartbeats = heartbeats_on(topic, FailureDetector("a", "a", standbys=1))
        task = asyncio.create_task(heartbeats.run())
        await asyncio.sleep(1.05)
        count = len(topic.heartbeats)
        heartbeats.announce_leaving()
        await asyncio.sleep(0.01)
        task.cancel()
        news = topic.heartbeats[count:]
        assert [(b.leaving, b.extra) for b in news] == [(True, True)]

    run_simulated(1, main)


def test_after_an_outage_one_heartbeat_comes_and_not_a_queue_of_them() -> None:
    """A queue of our heartbeats before the first of another process would make it seem silent, though it only waited
    too.
    """

    async def main(loop: SimulatedLoop) -> None:
        topic = Topic()
        task = asyncio.create_task(heartbeats_on(topic, FailureDetector("a", "a", standbys=1)).run())
        await asyncio.sleep(1.0)
        topic.back.clear()
        await asyncio.sleep(6.0)
        before = len(topic.heartbeats)
        topic.back.set()
        await asyncio.sleep(1.5)
        task.cancel()
        assert topic.most_under_way == 1
        after = topic.heartbeats[before:]
        assert any(b.late for b in after[:2]), "that time was lost is said"
        gaps = [b - a for a, b in zip(topic.landed_s[before:], topic.landed_s[before + 1 :], strict=False)]
        assert min(gaps) >= HEARTBEAT_S, "each stands a heartbeat behind the one before"

    run_simulated(1, main)


def test_two_that_lose_the_topic_together_find_each_other_well() -> None:
    """For any length of the outage; each has its own retries and pauses."""

    async def main(loop: SimulatedLoop) -> None:
        topic = Topic()
        mine, others = FailureDetector("a", "a", standbys=1), FailureDetector("b", "b", standbys=1)
        tasks = [
            asyncio.create_task(heartbeats_on(topic, mine, "a", serves={0: 1}).run()),
            asyncio.create_task(heartbeats_on(topic, others, "b", serves={1: 1}).run()),
        ]
        random = Random(2)
        for _ in range(100):
            await asyncio.sleep(5.0 + random.random())
            topic.back.clear()
            await asyncio.sleep(random.random() * 2 * SEND_TIMEOUT_S)
            topic.back.set()
        for task in tasks:
            task.cancel()
        assert (mine.false_suspicions, others.false_suspicions) == (0, 0)
        assert not mine.should_take_over(1, 1)
        assert not others.should_take_over(0, 1)

    run_simulated(1, main)


def test_one_that_ends_is_noticed_and_what_is_no_heartbeat_is_passed_over() -> None:
    async def main(loop: SimulatedLoop) -> None:
        topic = Topic()
        mine = FailureDetector("a", "a", standbys=1)
        task = asyncio.create_task(heartbeats_on(topic, mine).run())
        other = asyncio.create_task(
            heartbeats_on(topic, FailureDetector("b", "b", standbys=1), "b", serves={0: 3}).run()
        )
        await asyncio.sleep(1.0)
        topic.log.append([Encoded(None, b"not a heartbeat", [])])
        topic.log.append_undecodable()
        assert mine.live_peers == 1
        other.cancel()
        await asyncio.sleep((SUSPECTED_AFTER - 2) * HEARTBEAT_S)
        assert not mine.should_take_over(0, 3)
        await asyncio.sleep(3 * HEARTBEAT_S + 0.1)
        assert mine.should_take_over(0, 3)
        task.cancel()

    run_simulated(1, main)
