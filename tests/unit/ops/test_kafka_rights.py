"""The output of `gapless topics acls`, read back as a program would."""

from __future__ import annotations

import argparse
import re
import shlex

import yaml

from services.ops.rights.kafka import as_commands, as_strimzi, rights_by_service
from services.ops.rights.postgres import roles_sql
from services.runtime.kafka.acls import Resource, Right
from services.runtime.settings import KafkaSettings

RIGHTS = {name: set(rights) for name, rights in rights_by_service(KafkaSettings(topic_prefix="t.")).items()}


def test_the_calls_of_kafka_acls_are_the_rights() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True)
    parser.add_argument("--topic")
    parser.add_argument("--group")
    found: dict[str, set[Right]] = {}
    for line in as_commands(rights_by_service(KafkaSettings(topic_prefix="t."))).splitlines():
        program, options, *arguments = shlex.split(line)
        assert (program, options) == ("kafka-acls", "$KAFKA_ACLS_OPTIONS")
        asked = parser.parse_args(arguments)
        resource: Resource = "topic" if asked.topic else "group"
        name = asked.topic or asked.group
        service = asked.allow_principal.removeprefix("User:gapless-")
        found.setdefault(service, set()).update(
            Right(resource=resource, name=name, operation=operation) for operation in asked.operation
        )
    assert found == RIGHTS


def test_strimzis_users_have_the_rights() -> None:
    documents = list(yaml.safe_load_all(as_strimzi(rights_by_service(KafkaSettings(topic_prefix="t.")), cluster="k")))
    found = {}
    for document in documents:
        assert document["kind"] == "KafkaUser"
        assert document["metadata"]["labels"] == {"strimzi.io/cluster": "k"}
        assert document["spec"]["authentication"] == {"type": "scram-sha-512"}
        assert document["spec"]["authorization"]["type"] == "simple"
        found[document["metadata"]["name"].removeprefix("gapless-")] = {
            Right(resource=acl["resource"]["type"], name=acl["resource"]["name"], operation=operation)
            for acl in document["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
            if acl["resource"]["patternType"] == "literal"
        }
    assert found == RIGHTS


def test_a_process_of_ingest_and_live_has_the_rights_of_both() -> None:
    both = RIGHTS["ingest"] | RIGHTS["live"]
    readable = {right.name for right in both if right.operation == "Read"}
    implied = {right for right in both if right.operation == "Describe" and right.name in readable}
    assert RIGHTS["api"] == both - implied


def test_only_the_sequencer_may_write_to_the_log() -> None:
    writers = {name for name, rights in RIGHTS.items() for right in rights if right.operation == "Write"}
    assert {
        name for name in writers if Right(resource="topic", name="t.chat.events", operation="Write") in RIGHTS[name]
    } == {"sequencer"}
    assert all(right.name.startswith(("t.chat.", "t.gapless-")) for rights in RIGHTS.values() for right in rights)


def test_names_of_roles_are_quoted() -> None:
    text = roles_sql('my "db"', owner="o", reader="r")
    assert 'ON DATABASE "my ""db""" TO "o"' in text
    assert not re.search(r"\{\w+\}", text)
