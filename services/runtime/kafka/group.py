"""Who should serve which partition: a consumer group that is only ever a hint.

The group's consumer never reads data: its partitions are paused and it calls `getmany` for its whole life, because
aiokafka leaves the group for good when nobody polls for `max_poll_interval_ms`. Two processes that both believe
they have a partition are safe (docs/log-protocol.md for the sequencer, the position guard for the projector).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import within
from services.runtime.kafka.errors import KafkaUnavailable
from services.runtime.kafka.refusals import opened
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.process.backoff import Backoff

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 5.0
LONGEST_PAUSE_S: Final = 5.0
HEARTBEAT_S: Final = 0.2
"""Members learn at their next heartbeat that another has come or gone, so this, and not the session, is what a
graceful hand-over waits for. It costs the coordinator five small requests a second for each process."""
KAFKAS_SHORTEST_SESSION_S: Final = 6.0
"""What group.min.session.timeout.ms is on a broker where nobody has set it."""
_POLL_MS: Final = 200

log = structlog.get_logger(__name__)


class GroupHint(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Membership in a consumer group on one topic, for as long as `run` runs."""

    def __init__(
        self,
        *,
        kafka: KafkaConnection,
        group_id: str,
        topic: str,
        partitions: int,
        client_id: str,
        on_assignment: Callable[[frozenset[int]], None],
        on_trouble: Callable[[str | None], None] = lambda _trouble: None,
        session_timeout_s: float = 3.0,
        max_poll_interval_s: float = 300.0,
    ) -> None:
        """`partitions` is how many the log has: those that the topic has beyond are given to nobody. `on_assignment`
        gets the partitions of this process each time the group has spoken, also when nothing changed.

        Between a revocation and the next word `partitions` is empty, and `on_assignment` is not called: most rebalances
        give everything back, and stopping in between would cost each one a pause. `on_trouble` hears why the group
        cannot be joined, and None when it was. A session that the brokers refuse as too short is made as long as
        Kafka's own default allows, and said so in the log: a hint that comes later is better than none.
        """
        self._topic = topic
        self._partitions = partitions
        self._on_assignment = on_assignment
        self._on_trouble = on_trouble
        self._kafka = kafka
        self._options = {
            "client_id": client_id,
            "group_id": group_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "max_poll_interval_ms": int(max_poll_interval_s * 1000),
            # A topic that vanishes leaves nobody with a partition: that it is there again is seen after this time.
            "metadata_max_age_ms": 20_000,
            "partition_assignment_strategy": (_assignor_of_the_first(partitions),),
        }
        self._session_timeout_s = session_timeout_s
        self._consumer: AIOKafkaConsumer | None = None
        self.partitions: frozenset[int] = frozenset()
        """What the group says is ours now; empty while it is making up its mind."""

    async def run(self) -> None:
        """A member for ever: one that could not join, or died, is followed by another. Cancel it to leave the group
        at once, so that it speaks now and not after the session's timeout."""
        backoff = Backoff(LONGEST_PAUSE_S)
        outside = False
        while True:
            consumer = self._consumer = AIOKafkaConsumer(
                **self._kafka.client_options(), **self._options, **_timing(self._session_timeout_s)
            )
            consumer.subscribe([self._topic], listener=self)
            try:
                await opened(self._kafka, START_TIMEOUT_S, "let us join a consumer group", consumer.start())
                backoff.reset()
                outside = False
                self._on_trouble(None)
                await self._poll(consumer)
            except KafkaUnavailable as error:
                if isinstance(error.__cause__, kafka_errors.InvalidSessionTimeoutError):
                    self._session_refused()
                else:
                    self._on_trouble(f"The consumer group cannot be joined: {error}.")
                    if not outside:  # once for an outage
                        log.warning("group.not_joined", topic=self._topic, reason=str(error))
                    outside = True
            except (kafka_errors.KafkaError, RuntimeError, AssertionError) as error:
                # The group is only a hint: whatever ails this membership, the next one is asked.
                warn_throttled(log, "group.left", topic=self._topic, reason=f"{error!r:.200}")
            finally:
                self.partitions = frozenset()
                with contextlib.suppress(KafkaUnavailable):
                    await within(STOP_TIMEOUT_S, "let us leave a consumer group", consumer.stop())
            await backoff.pause()

    def _session_refused(self) -> None:
        """Asks for less, once; after that only an operator can help."""
        refused_s = self._session_timeout_s
        advice = (
            f"The brokers refuse a consumer group's session of {refused_s:g} s: lower group.min.session.timeout.ms on"
            " the brokers, or raise GAPLESS_KAFKA_SESSION_TIMEOUT_S to what it says"
        )
        if refused_s < KAFKAS_SHORTEST_SESSION_S:
            self._session_timeout_s = KAFKAS_SHORTEST_SESSION_S
            log.warning("group.session_refused", advice=f"{advice}. Going on with {KAFKAS_SHORTEST_SESSION_S:g} s.")
        else:
            self._on_trouble(f"{advice} (or lower it to group.max.session.timeout.ms).")
            log.error("group.session_refused", advice=advice)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        self.partitions = frozenset()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        assert self._consumer is not None, "the group speaks to a consumer"
        self._consumer.pause(*assigned)
        # Whoever leads the group may be of an older release, and give away what is not the log's.
        self.partitions = frozenset(tp.partition for tp in assigned if tp.partition < self._partitions)
        log.info("group.assigned", topic=self._topic, partitions=sorted(self.partitions))
        self._on_assignment(self.partitions)

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await consumer.getmany(timeout_ms=_POLL_MS)


class _FirstPartitions:
    """A cluster's metadata, with the first partitions of each topic and no others."""

    def __init__(self, cluster: ClusterMetadata, count: int) -> None:
        self._cluster = cluster
        self._count = count

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        there = self._cluster.partitions_for_topic(topic)
        return None if there is None else {partition for partition in there if partition < self._count}


def _assignor_of_the_first(count: int) -> type[RoundRobinPartitionAssignor]:
    """Round robin over the partitions of the log, under the same name: partitions that somebody added are left out."""

    class Assignor(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka is not typed
        @classmethod
        def assign(
            cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            assigned: dict[str, ConsumerProtocolMemberAssignment] = super().assign(
                _FirstPartitions(cluster, count), members
            )
            return assigned

    return Assignor


def _timing(session_timeout_s: float) -> dict[str, int]:
    session_ms = int(session_timeout_s * 1000)
    return {
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": min(int(HEARTBEAT_S * 1000), session_ms // 6),
        "rebalance_timeout_ms": session_ms,
    }
