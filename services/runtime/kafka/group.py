"""Membership in a consumer group, a hint about which process should serve which partition.

The group's consumer never reads data: its partitions are paused, and it calls `getmany` all the time only because
aiokafka leaves the group permanently if it is not polled for `max_poll_interval_ms`. Two processes that both believe
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
"""Interval of group heartbeats. Members learn at their next heartbeat that another joined or left, so this, not the
session timeout, bounds a graceful handover. It costs the coordinator five small requests a second per process."""
KAFKAS_SHORTEST_SESSION_S: Final = 6.0
"""Kafka's default of group.min.session.timeout.ms."""
_POLL_MS: Final = 200

log = structlog.get_logger(__name__)


class GroupHint(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Membership in a consumer group on one topic, while `run` runs."""

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
        """Prepare the membership; see `run`.

        `partitions` is the number that the log has: partitions added to the topic beyond it are not assigned.
        `on_assignment` gets the partitions of this process after each rebalance, even if nothing changed. It is not
        called between a revocation and the next assignment, while `self.partitions` is empty: most rebalances return
        all partitions, and stopping in between would pause each of them. `on_trouble` gets the reason why the group
        cannot be joined, and None once it was. If the brokers refuse the session timeout as too short, Kafka's own
        default is used, with a warning in the log: a late hint is better than none.
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
            # If a topic vanishes, no member has a partition; the new topic is noticed after this time.
            "metadata_max_age_ms": 20_000,
            "partition_assignment_strategy": (_assignor_of_the_first(partitions),),
        }
        self._session_timeout_s = session_timeout_s
        self._consumer: AIOKafkaConsumer | None = None
        self.partitions: frozenset[int] = frozenset()
        """The partitions assigned to us; empty during a rebalance."""

    async def run(self) -> None:
        """Stay a member until cancelled: a consumer that could not join, or died, is replaced. Cancellation leaves the
        group at once, so that it rebalances now and not after the session timeout."""
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
                # The group is only a hint: after any error the process joins again.
                warn_throttled(log, "group.left", topic=self._topic, reason=f"{error!r:.200}")
            finally:
                self.partitions = frozenset()
                with contextlib.suppress(KafkaUnavailable):
                    await within(STOP_TIMEOUT_S, "let us leave a consumer group", consumer.stop())
            await backoff.pause()

    def _session_refused(self) -> None:
        """Fall back to Kafka's default session timeout, once; after that only an operator can help."""
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
        assert self._consumer is not None, "only a consumer gets assignments"
        self._consumer.pause(*assigned)
        # The group's leader may be of an older release, and assign partitions that are not part of the log.
        self.partitions = frozenset(tp.partition for tp in assigned if tp.partition < self._partitions)
        log.info("group.assigned", topic=self._topic, partitions=sorted(self.partitions))
        self._on_assignment(self.partitions)

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await consumer.getmany(timeout_ms=_POLL_MS)


class _FirstPartitions:
    """A cluster's metadata, restricted to the first partitions of each topic."""

    def __init__(self, cluster: ClusterMetadata, count: int) -> None:
        self._cluster = cluster
        self._count = count

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        there = self._cluster.partitions_for_topic(topic)
        return None if there is None else {partition for partition in there if partition < self._count}


def _assignor_of_the_first(count: int) -> type[RoundRobinPartitionAssignor]:
    """Return a round-robin assignor, under the standard name, that leaves out partitions added beyond the log's."""

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
