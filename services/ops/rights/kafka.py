"""The least rights that each service needs on a Kafka with ACLs, in the formats of administrators.

A test runs the whole system with exactly these rights, and checks in the broker's log that none was missing or unused:
tests/acceptance/test_secure_stack.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

from schemas.topics import TopicNames
from services.projector.app import GROUP as PROJECTOR_GROUP
from services.runtime.kafka.acls import Operation, Right
from services.runtime.settings import KafkaSettings
from services.sequencer.assignment import GROUP as SEQUENCER_GROUP

USER_PREFIX: Final = "gapless-"
STRIMZI_API: Final = "kafka.strimzi.io/v1"

_LOOK: Final[tuple[Operation, ...]] = ("Describe", "DescribeConfigs")


def rights_by_service(kafka: KafkaSettings) -> dict[str, tuple[Right, ...]]:
    """Return service → the rights it needs. Query is not included: it does not use Kafka.

    `ops` reads and checks (log, lag, show, status, verify, rebuild); `admin` creates the topics. Idempotent producers
    need no right beyond Write on a topic (Kafka 3.0 and newer).
    """
    names = TopicNames.prefixed(kafka.topic_prefix)
    read: tuple[Operation, ...] = ("Read", "DescribeConfigs")
    write: tuple[Operation, ...] = ("Write", "DescribeConfigs")

    def group(name: str) -> Right:
        return Right(resource="group", name=f"{kafka.topic_prefix}{name}", operation="Read")

    return {
        "ingest": (
            *_on(names.commands, write),
            *_on(names.events, _LOOK),
            *_on(names.replies, read),
        ),
        "sequencer": (
            # Delete: decided commands are trimmed.
            *_on(names.commands, ("Read", "Delete", "DescribeConfigs")),
            *_on(names.events, ("Read", "Write", "DescribeConfigs")),
            *_on(names.replies, write),
            # The first sequencer creates the topic of the heartbeats.
            *_on(names.heartbeats, ("Create", "Read", "Write")),
            group(SEQUENCER_GROUP),
        ),
        "live": _live(kafka),
        # `gapless api` runs ingest and live in one process, with one identity.
        "api": (
            *_on(names.commands, write),
            *_on(names.replies, read),
            *_live(kafka),
        ),
        "projector": (*_on(names.events, read), group(PROJECTOR_GROUP)),
        "ops": (
            *_on(names.commands, read),
            *_on(names.events, read),
            *_on(names.replies, _LOOK),
            *_on(names.heartbeats, read),
        ),
        "admin": tuple(
            right
            for name in (names.commands, names.events, names.replies)
            for right in _on(name, ("Create", "Describe", "DescribeConfigs"))
        ),
    }


def _live(kafka: KafkaSettings) -> tuple[Right, ...]:
    names = TopicNames.prefixed(kafka.topic_prefix)
    return (
        *_on(names.events, ("Read", "DescribeConfigs")),
        # The first process creates the topic of the signals.
        *_on(names.signals, ("Create", "Read", "Write")),
    )


def _on(topic: str, operations: Iterable[Operation]) -> Iterable[Right]:
    return (Right(resource="topic", name=topic, operation=operation) for operation in operations)


def as_commands(rights: Mapping[str, Iterable[Right]], *, user_prefix: str = USER_PREFIX) -> str:
    """Return calls of `kafka-acls`, for a shell with $KAFKA_ACLS_OPTIONS set to reach the brokers as an admin."""
    lines = []
    for service, needed in rights.items():
        for (resource, name), operations in _by_resource(needed):
            asked = " ".join(f"--operation {operation}" for operation in operations)
            lines.append(
                f"kafka-acls $KAFKA_ACLS_OPTIONS --add --allow-principal User:{user_prefix}{service} {asked}"
                f" --{resource} {name}"
            )
    return "\n".join(lines)


def as_strimzi(rights: Mapping[str, Iterable[Right]], *, cluster: str, user_prefix: str = USER_PREFIX) -> str:
    """Return KafkaUser resources for Strimzi's User Operator, which creates a SCRAM-SHA-512 password for each."""
    return "\n---\n".join(
        "\n".join(
            [
                f"apiVersion: {STRIMZI_API}",
                "kind: KafkaUser",
                "metadata:",
                f"  name: {_text(user_prefix + service)}",
                "  labels:",
                f"    strimzi.io/cluster: {_text(cluster)}",
                "spec:",
                "  authentication:",
                "    type: scram-sha-512",
                "  authorization:",
                "    type: simple",
                "    acls:",
                *(
                    f"      - resource: {{type: {resource}, name: {_text(name)}, patternType: literal}}\n"
                    f"        operations: [{', '.join(operations)}]"
                    for (resource, name), operations in _by_resource(needed)
                ),
            ]
        )
        for service, needed in rights.items()
    )


def _by_resource(rights: Iterable[Right]) -> Iterable[tuple[tuple[str, str], list[str]]]:
    for resource, group in groupby(rights, key=lambda right: (right.resource, right.name)):
        yield resource, [right.operation for right in group]


def _text(value: str) -> str:
    """Return a YAML scalar that is read as a string whatever it contains."""
    return json.dumps(value)
