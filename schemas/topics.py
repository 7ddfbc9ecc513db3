"""The topics: names, settings, and what is wrong with the ones that a cluster has.

Each setting is one the protocol needs (docs/log-protocol.md says why), not a preference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FOREVER: Final = "-1"
_LONG_MAX: Final = str(2**63 - 1)
COMMAND_RECORD_BYTES: Final = 400_000
"""`max.message.bytes` of chat.commands: a command of 256 KiB with its headers, and no bomb. Uncompressed."""
EVENT_BATCH_BYTES: Final = 1_048_588
"""`max.message.bytes` of chat.events, at least: all outcomes of one append are one record batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicNames:
    """The topics of one log."""

    commands: str = "chat.commands"
    events: str = "chat.events"
    replies: str = "chat.replies"
    beats: str = "chat.beats"
    """Hints between sequencers (schemas/beats.py); no part of the log."""

    @classmethod
    def prefixed(cls, prefix: str) -> TopicNames:
        """Names of a second log in the same cluster: tests run side by side by it."""
        return cls(
            commands=f"{prefix}chat.commands",
            events=f"{prefix}chat.events",
            replies=f"{prefix}chat.replies",
            beats=f"{prefix}chat.beats",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as it must be."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFound:
    """A topic as a cluster describes it."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]
    log_start_offsets: Mapping[int, int]
    """Partition → first offset that is still there."""


def topic_specs(
    names: TopicNames,
    *,
    partitions: int,
    reply_partitions: int,
    replication_factor: int,
    min_insync_replicas: int | None = None,
) -> tuple[TopicSpec, TopicSpec, TopicSpec]:
    """Commands, events and replies with every setting the protocol needs.

    `min_insync_replicas`: 2 where there are copies, unless told: with 1 an acknowledged record may be on one broker
    alone, and is lost with it.
    """
    common = _common(replication_factor, min_insync_replicas)
    commands = common | {
        "cleanup.policy": "delete",
        "retention.ms": FOREVER,
        "retention.bytes": FOREVER,
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "uncompressed",
        "max.message.bytes": str(COMMAND_RECORD_BYTES),
    }
    events = common | {
        "cleanup.policy": "delete",
        "retention.ms": FOREVER,
        "retention.bytes": FOREVER,
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": _LONG_MAX,
        "message.timestamp.before.max.ms": _LONG_MAX,
        "max.message.bytes": str(EVENT_BATCH_BYTES),
    }
    replies = common | {
        "cleanup.policy": "delete",
        "retention.ms": "600000",
        "segment.ms": "600000",
        "message.timestamp.type": "LogAppendTime",  # by it the sequencers read the broker's clock
    }
    return (
        TopicSpec(name=names.commands, partitions=partitions, replication_factor=replication_factor, config=commands),
        TopicSpec(name=names.events, partitions=partitions, replication_factor=replication_factor, config=events),
        TopicSpec(
            name=names.replies,
            partitions=reply_partitions,
            replication_factor=replication_factor,
            config=replies,
        ),
    )


def beats_spec(names: TopicNames, *, replication_factor: int, min_insync_replicas: int | None = None) -> TopicSpec:
    """One partition, so that all beats have one order; in copies like the log itself, so that who cannot append
    outcomes cannot append beats either."""
    config = _common(replication_factor, min_insync_replicas) | {
        "cleanup.policy": "delete",
        "retention.ms": "600000",
        "segment.ms": "600000",
    }
    return TopicSpec(name=names.beats, partitions=1, replication_factor=replication_factor, config=config)


def _common(replication_factor: int, min_insync_replicas: int | None) -> dict[str, str]:
    return {
        "min.insync.replicas": str(min_insync_replicas or min(replication_factor, 2)),
        "unclean.leader.election.enable": "false",
    }


_NOT_FOR_TRUTH: Final = frozenset({"retention.ms", "segment.ms"})
"""Of chat.replies: another value wastes or saves disk, and nothing is lost by it."""


def faults(spec: TopicSpec, found: TopicFound, *, log_starts_at_zero: bool, replies: bool = False) -> list[str]:
    """What is wrong with a topic, each as a sentence with what to do; none where it is as it must be.

    `log_starts_at_zero` is for chat.events: whoever cut its beginning off took it from every future reader.
    """
    wrong: list[str] = []
    if found.partitions != spec.partitions:
        setting = "GAPLESS_KAFKA_REPLY_PARTITIONS" if replies else "GAPLESS_KAFKA_PARTITIONS"
        wrong.append(
            f"{found.name} has {found.partitions} partitions, not {spec.partitions}: the count is fixed for the"
            f" life of a log; set {setting} to what the topic has, or start a new log"
        )
    for name, wanted in spec.config.items():
        if replies and name in _NOT_FOR_TRUTH:
            continue
        value = found.config.get(name)
        if value is None:
            continue  # a broker too old to know the setting cannot be asked to have it
        if name == "min.insync.replicas":
            least = min(found.replication_factor, int(wanted) if spec.replication_factor > 1 else 2)
        elif name == "max.message.bytes" and spec.config.get("compression.type") != "uncompressed":
            least = int(wanted)
        else:
            least = None
        if least is None and value != wanted:
            wrong.append(f"{found.name} has {name}={value}; alter it to {wanted}")
        elif least is not None and int(value) < least:
            wrong.append(f"{found.name} has {name}={value}; alter it to at least {least}")
    if log_starts_at_zero:
        cut = {p: start for p, start in found.log_start_offsets.items() if start > 0}
        if cut:
            wrong.append(
                f"{found.name} no longer begins at offset 0 (partition: first offset {cut}): its history was"
                " deleted; restore the topic from a backup before anything reads it"
            )
    return wrong
