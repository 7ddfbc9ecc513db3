"""Every setting that the protocol needs is checked, and each wrong one is named with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from schemas import limits
from schemas.topics import (
    AS_THE_SETTINGS,
    UNREADABLE,
    LogPartitions,
    TopicFound,
    TopicNames,
    TopicSpec,
    faults,
    notes,
    short_of_replicas,
    topic_specs,
)

NAMES: Final = TopicNames()
COMMANDS, EVENTS, REPLIES = topic_specs(NAMES, partitions=8, reply_partitions=16, replication_factor=3)
ALONE: Final = topic_specs(NAMES, partitions=8, reply_partitions=16, replication_factor=1)


def _found(spec: TopicSpec, **config: str) -> TopicFound:
    """Return the topic as the cluster describes it; names of settings have underscores for dots."""
    return TopicFound(
        name=spec.name,
        copies=dict.fromkeys(range(spec.partitions), spec.replication_factor),
        config={**spec.config, **{name.replace("_", "."): value for name, value in config.items()}},
        log_start_offsets=dict.fromkeys(range(spec.partitions), 0),
    )


def _faults(spec: TopicSpec, found: TopicFound, log_partitions: LogPartitions = 8) -> list[str]:
    return faults(
        spec,
        found,
        log_starts_at_zero=spec.name == NAMES.events,
        replies=spec.name == NAMES.replies,
        log_partitions=log_partitions,
    )


def _with(spec: TopicSpec, *, partitions: int, copies: int | None = None) -> TopicFound:
    copies = spec.replication_factor if copies is None else copies
    return replace(
        _found(spec),
        copies=dict.fromkeys(range(partitions), copies),
        log_start_offsets=dict.fromkeys(range(partitions), 0),
    )


@pytest.mark.parametrize("spec", [COMMANDS, EVENTS, REPLIES, *ALONE], ids=lambda spec: spec.name)
def test_a_topic_as_it_was_made_has_no_fault(spec: TopicSpec) -> None:
    assert _faults(spec, _found(spec)) == []


def test_the_settings_are_the_contracts() -> None:
    """From the section on topics of docs/log-protocol.md."""
    common = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false", "cleanup.policy": "delete"}
    for_ever = {"retention.ms": "-1", "retention.bytes": "-1"}
    assert COMMANDS.config == common | for_ever | {
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "uncompressed",
        "max.message.bytes": "400000",
    }
    assert EVENTS.config == common | for_ever | {
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": "9223372036854775807",
        "message.timestamp.before.max.ms": "9223372036854775807",
        "max.message.bytes": "1048588",
    }
    assert REPLIES.config == common | {
        "retention.ms": "600000",
        "segment.ms": "600000",
        "message.timestamp.type": "LogAppendTime",
    }
    assert (COMMANDS.partitions, EVENTS.partitions, REPLIES.partitions) == (8, 8, 16)
    assert {spec.config["min.insync.replicas"] for spec in ALONE} == {"1"}
    assert int(COMMANDS.config["max.message.bytes"]) > limits.COMMAND_BYTES


_OTHER = {
    "cleanup.policy": ["compact", "compact,delete"],
    "retention.ms": ["604800000", "0"],
    "retention.bytes": ["1073741824"],
    "message.timestamp.type": ["CreateTime", "LogAppendTime"],
    "compression.type": ["producer", "zstd"],
    "unclean.leader.election.enable": ["true"],
    "message.timestamp.after.max.ms": ["3600000"],
    "message.timestamp.before.max.ms": ["3600000"],
    "segment.ms": ["1"],
}
WRONG = [
    (spec, name, value)
    for spec in (COMMANDS, EVENTS)
    for name, right in spec.config.items()
    for value in _OTHER.get(name, [])
    if value != right
]


@pytest.mark.parametrize(("spec", "name", "value"), WRONG, ids=lambda part: getattr(part, "name", part))
def test_each_wrong_setting_is_named_with_what_to_do(spec: TopicSpec, name: str, value: str) -> None:
    found = replace(_found(spec), config={**spec.config, name: value})
    assert _faults(spec, found) == [f"{spec.name} has {name}={value}; alter it to {spec.config[name]}"]


def test_every_setting_but_those_of_size_and_number_has_a_wrong_value_above() -> None:
    asked = {(spec.name, name) for spec in (COMMANDS, EVENTS) for name in spec.config}
    tried = {(spec.name, name) for spec, name, _ in WRONG}
    assert {name for _, name in asked - tried} == {"max.message.bytes", "min.insync.replicas"}


@pytest.mark.parametrize("value", ["399999", "400001", "1048588"])
def test_chat_commands_has_one_size_neither_less_nor_more(value: str) -> None:
    (fault,) = _faults(COMMANDS, _found(COMMANDS, max_message_bytes=value))
    assert fault == f"chat.commands has max.message.bytes={value}; alter it to 400000"


def test_chat_events_may_have_larger_batches_but_no_smaller_ones() -> None:
    assert _faults(EVENTS, _found(EVENTS, max_message_bytes="2000000")) == []
    (fault,) = _faults(EVENTS, _found(EVENTS, max_message_bytes="1048587"))
    assert fault == "chat.events has max.message.bytes=1048587; alter it to at least 1048588"


@pytest.mark.parametrize(
    ("replication_factor", "in_sync", "least"),
    [(1, "1", None), (1, "0", 1), (2, "1", 2), (3, "1", 2), (3, "2", None), (3, "3", None)],
)
def test_two_replicas_acknowledge_wherever_there_are_two(
    replication_factor: int, in_sync: str, least: int | None
) -> None:
    _, events, _ = topic_specs(NAMES, partitions=8, reply_partitions=16, replication_factor=replication_factor)
    found = _found(events, min_insync_replicas=in_sync)
    expected = [f"chat.events has min.insync.replicas={in_sync}; alter it to at least {least}"]
    assert _faults(events, found) == (expected if least is not None else [])


@pytest.mark.parametrize("replication_factor", [2, 3])
def test_one_replica_in_sync_is_enough_only_where_it_is_told(replication_factor: int) -> None:
    sides = {"partitions": 8, "reply_partitions": 16, "replication_factor": replication_factor}
    _, untold, _ = topic_specs(NAMES, **sides)
    _, told, _ = topic_specs(NAMES, **sides, min_insync_replicas=1)
    assert (untold.config["min.insync.replicas"], told.config["min.insync.replicas"]) == ("2", "1")
    found = _found(told)
    assert _faults(told, found) == []
    assert _faults(untold, found) == ["chat.events has min.insync.replicas=1; alter it to at least 2"]


@pytest.mark.parametrize("spec", [COMMANDS, EVENTS, REPLIES], ids=lambda spec: spec.name)
def test_fewer_partitions_than_the_log_has_are_refused(spec: TopicSpec) -> None:
    (fault,) = _faults(spec, _with(spec, partitions=spec.partitions - 1))
    assert fault.startswith(f"{spec.name} has {spec.partitions - 1} partitions, not {spec.partitions}")
    assert f"set {'GAPLESS_KAFKA_REPLY_PARTITIONS' if spec is REPLIES else 'GAPLESS_KAFKA_PARTITIONS'} to" in fault


@pytest.mark.parametrize("spec", [COMMANDS, EVENTS, REPLIES], ids=lambda spec: spec.name)
def test_partitions_beyond_those_of_the_log_are_no_fault_and_noted(spec: TopicSpec) -> None:
    n = spec.partitions
    more = replace(
        _with(spec, partitions=n + 2),
        log_start_offsets={**dict.fromkeys(range(n), 0), n: 4, n + 1: 0},
        end_offsets={n: 7, n + 1: 0},
    )
    more = replace(more, copies={**more.copies, n: 1, n + 1: 1})
    assert _faults(spec, more) == [], "neither is it looked at where they begin, and how many copies they have"
    (note,) = notes(spec, more)
    assert note.startswith(
        f"{spec.name} has {n + 2} partitions and the log uses {n}: partitions {n}, {n + 1} are ignored"
    )
    assert "ever read or decided (3 records are there)" in note
    assert notes(spec, _found(spec)) == []


@pytest.mark.parametrize(("topics_have", "log_has"), [(9, 9), (9, 16), (8, 9), (16, 4)])
def test_what_the_log_was_written_for_decides_and_not_what_the_topics_have(topics_have: int, log_has: int) -> None:
    """A process that followed the topics' count would assign every chat to another partition."""
    (fault,) = _faults(EVENTS, _with(EVENTS, partitions=topics_have), log_has)
    assert fault.startswith(f"the log in chat.events was written for {log_has} partitions, not 8: set")
    assert f"GAPLESS_KAFKA_PARTITIONS to {log_has} in every process" in fault


def test_more_partitions_than_the_settings_say_are_refused_while_the_log_is_empty() -> None:
    """Nothing says yet which of the two is intended."""
    (fault,) = _faults(EVENTS, _with(EVENTS, partitions=9), None)
    assert "nothing is in the log yet" in fault
    assert _faults(EVENTS, _found(EVENTS), None) == []


def test_a_service_that_may_not_read_the_log_says_what_it_needs_where_the_topics_have_more_partitions() -> None:
    (fault,) = _faults(COMMANDS, _with(COMMANDS, partitions=9), UNREADABLE)
    assert "grant it READ there" in fault
    assert _faults(COMMANDS, _found(COMMANDS), AS_THE_SETTINGS) == []


@pytest.mark.parametrize("spec", [COMMANDS, EVENTS, REPLIES], ids=lambda spec: spec.name)
def test_fewer_copies_than_the_settings_say_are_a_fault_in_whichever_partition(spec: TopicSpec) -> None:
    found = _found(spec)
    few = replace(found, copies={**found.copies, 2: 1, 5: 1})
    assert [fault for fault in _faults(spec, few) if "copy" in fault] == [
        f"{spec.name} has 1 copy of partitions 2, 5, not 3: what is acknowledged can be lost with a broker; add copies"
        " with kafka-reassign-partitions.sh (docs/operations.md), or set GAPLESS_KAFKA_REPLICATION_FACTOR to what the"
        " topic has"
    ]
    more = replace(found, copies={**found.copies, 2: 5})
    assert _faults(spec, more) == []


def test_too_few_replicas_in_sync_are_said_for_the_partitions_of_the_log() -> None:
    found = _found(EVENTS)
    assert short_of_replicas(EVENTS, replace(found, in_sync=dict.fromkeys(range(8), 2))) is None
    short = short_of_replicas(EVENTS, replace(found, in_sync={**dict.fromkeys(range(8), 2), 3: 1, 8: 0}))
    assert short is not None
    assert short.startswith("chat.events: fewer than 2 in-sync replicas of partition 3, so Kafka refuses appends there")


def test_a_log_without_its_beginning_is_refused() -> None:
    cut = replace(_found(EVENTS), log_start_offsets={0: 0, 3: 17})
    (fault,) = _faults(EVENTS, cut)
    assert "no longer begins at offset 0" in fault
    assert "{3: 17}" in fault
    assert "restore" in fault


def test_commands_may_be_trimmed_at_their_beginning() -> None:
    assert _faults(COMMANDS, replace(_found(COMMANDS), log_start_offsets={3: 17})) == []


def test_how_long_replies_are_kept_is_a_matter_of_taste() -> None:
    assert _faults(REPLIES, _found(REPLIES, retention_ms="1000", segment_ms="1000")) == []
    assert len(_faults(REPLIES, _found(REPLIES, cleanup_policy="compact"))) == 1


def test_a_setting_that_the_broker_does_not_know_is_not_asked_for() -> None:
    older = {name: value for name, value in EVENTS.config.items() if not name.startswith("message.timestamp.after")}
    assert _faults(EVENTS, replace(_found(EVENTS), config=older)) == []


def test_all_faults_are_named_at_once() -> None:
    found = replace(
        _with(EVENTS, partitions=3),
        config=_found(EVENTS, retention_ms="1", cleanup_policy="compact").config,
        log_start_offsets={0: 5},
    )
    assert len(_faults(EVENTS, found)) == 4


def test_a_second_log_has_topics_of_its_own() -> None:
    other = TopicNames.prefixed("test-7.")
    assert (other.commands, other.events, other.replies) == (
        "test-7.chat.commands", "test-7.chat.events", "test-7.chat.replies",
    )  # fmt: skip
    specs = topic_specs(other, partitions=8, reply_partitions=1, replication_factor=1)
    assert [spec.name for spec in specs] == [other.commands, other.events, other.replies]
