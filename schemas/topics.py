"""The topics: names, settings, and faults of the ones that a cluster has.

Each setting is one the protocol needs (docs/log-protocol.md says why), not a preference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Literal

FOREVER: Final = "-1"
_LONG_MAX: Final = str(2**63 - 1)
COMMAND_RECORD_BYTES: Final = 400_000
"""`max.message.bytes` of chat.commands: a command of 256 KiB with its headers, uncompressed."""
EVENT_BATCH_BYTES: Final = 1_048_588
"""Minimum `max.message.bytes` of chat.events: all outcomes of one append are one record batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicNames:
    """The topics of one log."""

    commands: str = "chat.commands"
    events: str = "chat.events"
    replies: str = "chat.replies"
    heartbeats: str = "chat.heartbeats"
    """Hints between sequencers (services/sequencer/peers/heartbeat.py); not part of the log."""
    signals: str = "chat.signals"
    """Typing and presence (services/live/signals); not part of the log."""

    @classmethod
    def prefixed(cls, prefix: str) -> TopicNames:
        """Return the names of another log in the same cluster, so that tests can run side by side."""
        return cls(
            commands=f"{prefix}chat.commands",
            events=f"{prefix}chat.events",
            replies=f"{prefix}chat.replies",
            heartbeats=f"{prefix}chat.heartbeats",
            signals=f"{prefix}chat.signals",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """The required properties of a topic."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFound:
    """The properties of a topic in a cluster."""

    name: str
    copies: Mapping[int, int]
    """Partition → number of brokers that should have a copy."""
    config: Mapping[str, str]
    log_start_offsets: Mapping[int, int]
    """Partition → first offset that still exists."""
    in_sync: Mapping[int, int] = field(default_factory=dict)
    """Partition → number of brokers that are in sync."""
    end_offsets: Mapping[int, int] = field(default_factory=dict)
    """Partition → end offset, of the partitions that were asked for."""

    @property
    def partitions(self) -> int:
        return len(self.copies)


def topic_specs(
    names: TopicNames,
    *,
    partitions: int,
    reply_partitions: int,
    replication_factor: int,
    min_insync_replicas: int | None = None,
) -> tuple[TopicSpec, TopicSpec, TopicSpec]:
    """Return the topics of commands, events and replies with every setting the protocol needs.

    `min_insync_replicas` defaults to 2 if there are replicas: with 1, an acknowledged record may be on one broker only
    and is lost with it.
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
        "message.timestamp.type": "LogAppendTime",  # the sequencers read the broker's clock by it
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


def heartbeats_spec(names: TopicNames, *, replication_factor: int, min_insync_replicas: int | None = None) -> TopicSpec:
    """Return the heartbeat topic: one partition, so that heartbeats have one order; replicated like the log, so that a
    process that cannot append outcomes cannot append heartbeats either."""
    config = _common(replication_factor, min_insync_replicas) | {
        "cleanup.policy": "delete",
        "retention.ms": "600000",
        "segment.ms": "600000",
    }
    return TopicSpec(name=names.heartbeats, partitions=1, replication_factor=replication_factor, config=config)


def signals_spec(names: TopicNames, *, replication_factor: int) -> TopicSpec:
    """Return the topic of typing and presence: one partition, kept for a minute. Losing it loses nothing."""
    config = {"cleanup.policy": "delete", "retention.ms": "60000", "segment.ms": "60000", "min.insync.replicas": "1"}
    return TopicSpec(name=names.signals, partitions=1, replication_factor=replication_factor, config=config)


def _common(replication_factor: int, min_insync_replicas: int | None) -> dict[str, str]:
    return {
        "min.insync.replicas": str(min_insync_replicas or min(replication_factor, 2)),
        "unclean.leader.election.enable": "false",
    }


_NOT_FOR_TRUTH: Final = frozenset({"retention.ms", "segment.ms"})
"""Settings of chat.replies with no effect on correctness: other values only use more or less disk."""


class _Unasked(Enum):
    AS_THE_SETTINGS = auto()
    UNREADABLE = auto()


AS_THE_SETTINGS: Final = _Unasked.AS_THE_SETTINGS
"""The log was not asked for its number of partitions, because the topics have as many as the settings say."""
UNREADABLE: Final = _Unasked.UNREADABLE
"""The log cannot be read with our rights."""
LogPartitions = int | Literal[_Unasked.AS_THE_SETTINGS, _Unasked.UNREADABLE] | None
"""Number of partitions in the log's first opening; None if the log has no opening yet."""


def faults(
    spec: TopicSpec,
    found: TopicFound,
    *,
    log_starts_at_zero: bool,
    replies: bool = False,
    log_partitions: LogPartitions = None,
) -> list[str]:
    """Return the faults of a topic, each as a sentence with what to do.

    `log_starts_at_zero` is for chat.events: whoever cut its beginning off took it from every future reader.
    """
    wrong = []
    if log_starts_at_zero and isinstance(log_partitions, int) and log_partitions != spec.partitions:
        wrong.append(
            f"the log in {found.name} was written for {log_partitions} partitions, not {spec.partitions}: set"
            f" GAPLESS_KAFKA_PARTITIONS to {log_partitions} in every process (partitions added since are ignored)"
        )
    else:
        wrong += _wrong_partitions(spec, found, replies=replies, log_partitions=log_partitions)
    wrong += _too_few_copies(spec, found)
    for name, wanted in spec.config.items():
        if replies and name in _NOT_FOR_TRUTH:
            continue
        value = found.config.get(name)
        if value is None:
            continue  # a broker that is too old does not know the setting
        if name == "min.insync.replicas":
            copies = min((found.copies[p] for p in _of_log(spec, found)), default=spec.replication_factor)
            least = min(copies, int(wanted) if spec.replication_factor > 1 else 2)
        elif name == "max.message.bytes" and spec.config.get("compression.type") != "uncompressed":
            least = int(wanted)
        else:
            least = None
        if least is None and value != wanted:
            wrong.append(f"{found.name} has {name}={value}; alter it to {wanted}")
        elif least is not None and int(value) < least:
            wrong.append(f"{found.name} has {name}={value}; alter it to at least {least}")
    if log_starts_at_zero:
        cut = {p: start for p, start in found.log_start_offsets.items() if start > 0 and p < spec.partitions}
        if cut:
            wrong.append(
                f"{found.name} no longer begins at offset 0 (partition: first offset {cut}): its history was"
                " deleted; restore the topic from a backup before anything reads it"
            )
    return wrong


def _of_log(spec: TopicSpec, found: TopicFound) -> list[int]:
    """Return the partitions that the log uses; later ones are ignored."""
    return sorted(p for p in found.copies if p < spec.partitions)


def _wrong_partitions(spec: TopicSpec, found: TopicFound, *, replies: bool, log_partitions: LogPartitions) -> list[str]:
    """Fewer partitions than the log has are a fault; more are not, once the log says how many it has."""
    setting = "GAPLESS_KAFKA_REPLY_PARTITIONS" if replies else "GAPLESS_KAFKA_PARTITIONS"
    if found.partitions < spec.partitions:
        return [
            f"{found.name} has {found.partitions} partitions, not {spec.partitions}: the count is fixed for the"
            f" life of a log; set {setting} to what the topic has, or start a new log"
        ]
    if found.partitions > spec.partitions and log_partitions is UNREADABLE and not replies:
        return [
            f"{found.name} has {found.partitions} partitions, not {spec.partitions}, and this service may not read the"
            f" events topic, which says how many the log has: grant it READ there, or set {setting} to what the log has"
        ]
    if found.partitions > spec.partitions and log_partitions is None and not replies:
        return [
            f"{found.name} has {found.partitions} partitions, not {spec.partitions}, and nothing is in the log yet: set"
            f" {setting} to what the topic has, or create the topics anew"
        ]
    return []


def _too_few_copies(spec: TopicSpec, found: TopicFound) -> list[str]:
    few = [p for p in _of_log(spec, found) if found.copies[p] < spec.replication_factor]
    if not few:
        return []
    counts = sorted({found.copies[p] for p in few})
    have = " or ".join(str(count) for count in counts)
    return [
        f"{found.name} has {have} {'copy' if counts == [1] else 'copies'} of {_numbers(few)}, not"
        f" {spec.replication_factor}: what is acknowledged can be lost with a broker; add copies with"
        " kafka-reassign-partitions.sh (docs/operations.md), or set GAPLESS_KAFKA_REPLICATION_FACTOR to what the topic"
        " has"
    ]


def extra_partitions(spec: TopicSpec, found: TopicFound) -> list[int]:
    """Return the partitions added after the log was created: Kafka cannot remove them, and they are ignored."""
    return sorted(p for p in found.copies if p >= spec.partitions)


def notes(spec: TopicSpec, found: TopicFound) -> list[str]:
    """Return notes for operators about a topic without faults."""
    extra = extra_partitions(spec, found)
    if not extra:
        return []
    ends = [found.end_offsets[p] - found.log_start_offsets.get(p, 0) for p in extra if p in found.end_offsets]
    records = sum(ends)
    said = f" ({records} records are there)" if records else ""
    return [
        f"{found.name} has {found.partitions} partitions and the log uses {spec.partitions}: {_numbers(extra)}"
        f" {'is' if len(extra) == 1 else 'are'} ignored, and nothing in {'it' if len(extra) == 1 else 'them'} is ever"
        f" read or decided{said}; docs/operations.md says what to do"
    ]


def short_of_replicas(spec: TopicSpec, found: TopicFound) -> str | None:
    """Return why appends to some partitions are refused (too few replicas in sync), or None."""
    needed = int(found.config.get("min.insync.replicas", 1))
    short = [p for p in _of_log(spec, found) if found.in_sync.get(p, needed) < needed]
    if not short:
        return None
    return (
        f"{found.name}: fewer than {needed} in-sync replicas of {_numbers(short)}, so Kafka refuses appends there; look"
        " at the brokers"
    )


def _numbers(partitions: list[int]) -> str:
    shown = ", ".join(str(p) for p in partitions[:20])
    more = f" and {len(partitions) - 20} more" if len(partitions) > 20 else ""
    return f"partition{'s' if len(partitions) > 1 else ''} {shown}{more}"
