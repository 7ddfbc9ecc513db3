"""Who should serve which partition: a consumer group that is only ever a hint.

The group's consumer never reads data: its partitions are paused and it calls `getmany` for its whole life, because
aiokafka leaves the group for good when nobody polls for `max_poll_interval_ms`. Two processes that both believe
they have a partition are safe (docs/log-protocol.md for the sequencer, the position guard for the projector).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from services.runtime.backoff import Backoff
from services.runtime.kafka.deadline import within
from services.runtime.kafka.errors import KafkaUnavailable

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 5.0
LONGEST_PAUSE_S: Final = 5.0
_POLL_MS: Final = 200

log = structlog.get_logger(__name__)


class GroupHint(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Membership in a consumer group on one topic, for as long as `run` runs."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        group_id: str,
        topic: str,
        client_id: str,
        on_word: Callable[[frozenset[int]], None],
        on_trouble: Callable[[str | None], None] = lambda _trouble: None,
        session_timeout_s: float = 6.0,
        max_poll_interval_s: float = 300.0,
    ) -> None:
        """`on_word` gets the partitions of this process each time the group has spoken, also when nothing changed.

        Between a revocation and the next word `partitions` is empty, and `on_word` is not called: most rebalances
        give everything back, and stopping in between would cost each one a pause. `on_trouble` hears why the group
        cannot be joined, and None when it was.
        """
        self._topic = topic
        self._on_word = on_word
        self._on_trouble = on_trouble
        self._options = {
            "bootstrap_servers": bootstrap_servers,
            "client_id": client_id,
            "group_id": group_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "session_timeout_ms": int(session_timeout_s * 1000),
            "heartbeat_interval_ms": int(session_timeout_s * 1000 / 6),
            "rebalance_timeout_ms": int(session_timeout_s * 1000),
            "max_poll_interval_ms": int(max_poll_interval_s * 1000),
            # A topic that vanishes leaves nobody with a partition: that it is there again is seen after this time.
            "metadata_max_age_ms": 20_000,
            "partition_assignment_strategy": (RoundRobinPartitionAssignor,),
        }
        self._consumer: AIOKafkaConsumer | None = None
        self.partitions: frozenset[int] = frozenset()
        """What the group says is ours now; empty while it is making up its mind."""

    async def run(self) -> None:
        """A member for ever: one that could not join, or died, is followed by another. Cancel it to leave the group
        at once, so that it speaks now and not after the session's timeout."""
        backoff = Backoff(LONGEST_PAUSE_S)
        while True:
            consumer = self._consumer = AIOKafkaConsumer(**self._options)
            consumer.subscribe([self._topic], listener=self)
            try:
                await within(START_TIMEOUT_S, "let us join a consumer group", consumer.start())
                backoff.reset()
                self._on_trouble(None)
                await self._poll(consumer)
            except KafkaUnavailable as error:
                self._on_trouble(f"The consumer group cannot be joined: {error}.")
                log.warning("group.not_joined", topic=self._topic, reason=str(error))
            except (kafka_errors.KafkaError, RuntimeError, AssertionError) as error:
                # The group is only a hint: whatever ails this membership, the next one is asked.
                log.warning("group.left", topic=self._topic, reason=f"{error!r:.200}")
            finally:
                self.partitions = frozenset()
                with contextlib.suppress(KafkaUnavailable):
                    await within(STOP_TIMEOUT_S, "let us leave a consumer group", consumer.stop())
            await backoff.pause()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        self.partitions = frozenset()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        assert self._consumer is not None, "the group speaks to a consumer"
        self._consumer.pause(*assigned)
        self.partitions = frozenset(tp.partition for tp in assigned)
        log.info("group.word", topic=self._topic, partitions=sorted(self.partitions))
        self._on_word(self.partitions)

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await consumer.getmany(timeout_ms=_POLL_MS)
