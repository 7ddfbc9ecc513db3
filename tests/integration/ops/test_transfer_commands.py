"""`gapless log export`, `import` and `restore-test` as operators run them: their output and their exit codes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from schemas.topics import TopicNames
from schemas.wire.encoding import Encoded
from services.runtime.settings import KafkaSettings
from tests.integration.ops.test_ops_commands import answer, gapless, variables
from tests.support.chat_log import ANNA, ChatLog, conversation
from tests.support.proving import append, kafka_settings, write_log


def a_log(kafka: str) -> tuple[KafkaSettings, ChatLog]:
    settings = kafka_settings(kafka)
    log = ChatLog()
    log.open()
    conversation(log)
    asyncio.run(write_log(settings, log))
    return settings, log


def test_a_log_is_exported_imported_and_restored_by_commands(kafka: str, tmp_path: Path) -> None:
    source, log = a_log(kafka)
    place = tmp_path / "backup"
    code, exported = answer("log", "export", "--to", str(place), **variables(source))
    assert code == 0
    assert exported["copied"] == {"events": len(log.events), "commands": len(log.commands)}
    assert not exported["went_on"]
    (partition,) = exported["partitions"]
    assert partition["stopped"] is None

    target = kafka_settings(kafka)
    code, imported = answer("log", "import", "--from", place.as_uri(), **variables(target))
    assert code == 0
    assert imported["written"] == len(log.events) + len(log.commands)
    assert imported["log"]["sound"]
    (read_back,) = imported["partitions"]
    assert read_back["events"] == partition["events_end"] == len(log.events)
    assert (read_back["term"], read_back["index"]) == (partition["term"], partition["index"])
    assert answer("log", "verify", **variables(target))[0] == 0

    code, restored = answer("log", "restore-test", "--from", str(place), "--work-dir", str(tmp_path / "work"))
    assert code == 0
    assert restored["sound"]
    assert restored["import"]["partitions"] == imported["partitions"], "the same digests"
    messages: Any = restored["projection"]["tables"]["chat_messages"]
    assert messages["log"] == messages["held"]
    assert messages["held"]["rows"] > 0
    assert restored["seconds"].keys() == {"check", "start", "import", "rebuild", "verify", "stop"}
    assert list((tmp_path / "work").iterdir()) == [], "nothing is left"


def test_what_cannot_be_done_is_one_sentence_and_an_exit_code(kafka: str, tmp_path: Path) -> None:
    source, _ = a_log(kafka)
    place = tmp_path / "backup"
    missing = gapless("log", "import", "--from", str(place), **variables(source))
    assert (missing.returncode, missing.stdout) == (2, "")
    assert str(place) in missing.stderr
    assert not place.exists()
    for command, option in (("export", "--to"), ("import", "--from")):
        strange = gapless("log", command, option, "ftp://somewhere", **variables(source))
        assert strange.returncode == 2
        assert "names no object store" in strange.stderr
    full = tmp_path / "full"
    full.mkdir()
    (full / "events").write_text("a file, where a folder is to be made")
    failed = gapless("log", "export", "--to", str(full), **variables(source))
    assert failed.returncode == 3
    assert f"{full} cannot be used" in failed.stderr
    assert gapless("log", "export", "--to", str(place), **variables(source)).returncode == 0
    other, _ = a_log(kafka)
    refused = gapless("log", "export", "--to", str(place), **variables(other))
    assert refused.returncode == 1
    assert f"{place}/manifest.json is of another log" in refused.stderr
    segment = next(place.rglob("*.zst"))
    segment.write_bytes(b"\0" + segment.read_bytes()[1:])
    damaged = gapless("log", "import", "--from", str(place), **variables(kafka_settings(kafka)))
    assert damaged.returncode == 1
    assert str(segment) in damaged.stderr
    assert gapless("log", "restore-test", "--from", str(place)).returncode == 1


def test_a_log_that_no_reader_can_pass_is_copied_whole_and_said_to_be(kafka: str, tmp_path: Path) -> None:
    source, log = a_log(kafka)
    foreign = log.append(Encoded(None, b"from another program", []))
    log.send(log.group_id(ANNA, log.name_here(ANNA, "ops")), ANNA, "behind it")
    names = TopicNames.prefixed(source.topic_prefix)
    asyncio.run(append(source, names.commands, 0, log.commands[-1:]))
    asyncio.run(append(source, names.events, 0, log.events[-2:]))
    code, exported = answer("log", "export", "--to", str(tmp_path), **variables(source))
    assert code == 1
    assert exported["copied"]["events"] == len(log.events)
    (partition,) = exported["partitions"]
    assert partition["stopped"]["offset"] == foreign.offset
    assert answer("log", "export", "--to", str(tmp_path), **variables(source))[0] == 1, "and said again"
    said = gapless("log", "export", "--to", str(tmp_path), **variables(source))
    assert f"partition 0, offset {foreign.offset}" in said.stdout
    code, imported = answer("log", "import", "--from", str(tmp_path), **variables(kafka_settings(kafka)))
    assert code == 1
    assert [v["offset"] for v in imported["log"]["violations"]] == [foreign.offset]
