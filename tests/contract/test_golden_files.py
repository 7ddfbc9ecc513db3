"""Old logs stay readable: what is written today equals the golden files, and their content is understood.

A failing test here means that existing logs can no longer be read. Add the new form as a new type (`.v2`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas import log
from schemas.commands import parse_body
from schemas.cursor import Decided, LogCursor, Opened
from schemas.events import (
    AcceptedOutcome,
    OutcomeKind,
    decode_accepted,
    decode_duplicate,
    decode_rejected,
    decode_term_opened,
    decode_unchanged,
)
from schemas.types import CommandType, EventType
from schemas.wire.encoding import Command, read_command, read_outcome
from schemas.wire.replies import decode_replies
from tests.contract.example_commands import COMMANDS
from tests.contract.example_outcomes import OUTCOMES, REPLIES
from tests.contract.example_records import PARTITIONS, CommandExample, OutcomeExample
from tests.contract.golden_files import (
    EXAMPLES,
    GOLDEN,
    Example,
    load,
    load_encoded,
    load_record,
    main,
    path_of,
    render,
)


def _named(example: Example) -> str:
    return path_of(example).stem


every_example = pytest.mark.parametrize("example", EXAMPLES, ids=_named)


@every_example
def test_a_record_is_written_as_its_golden_file_says(example: Example) -> None:
    assert example.encode() == load_encoded(GOLDEN / path_of(example))
    assert render(example) == (GOLDEN / path_of(example)).read_text(encoding="utf-8")


@pytest.mark.parametrize("example", COMMANDS, ids=_named)
def test_a_golden_command_is_read_as_it_was_meant(example: CommandExample) -> None:
    command = read_command(load_record(GOLDEN / path_of(example)), example.partition, PARTITIONS)
    assert isinstance(command, Command)
    assert command == example.command
    assert parse_body(command.type, command.body) == example.body


@pytest.mark.parametrize("example", OUTCOMES, ids=_named)
def test_a_golden_outcome_is_read_as_it_was_meant(example: OutcomeExample) -> None:
    record = load_record(GOLDEN / path_of(example))
    assert log.read_stamp(record.headers) == example.stamp
    outcome = read_outcome(record)
    assert outcome == example.outcome
    if isinstance(outcome, AcceptedOutcome):
        assert decode_accepted(outcome) == example.body
        assert outcome.kind is OutcomeKind.ACCEPTED
        return
    decode = {
        EventType.DUPLICATE.value: decode_duplicate,
        EventType.UNCHANGED.value: decode_unchanged,
        EventType.REJECTED.value: decode_rejected,
        EventType.TERM_OPENED.value: decode_term_opened,
    }[outcome.type]
    assert decode(outcome.body) == example.body


def test_golden_replies_are_read_as_they_were_meant() -> None:
    record = load_record(GOLDEN / path_of(REPLIES))
    assert record.key is None
    assert decode_replies(record.value or b"") == list(REPLIES.replies)


def test_every_type_has_a_golden_file_and_every_file_an_example() -> None:
    files = {path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file()}
    assert files == {path_of(example) for example in EXAMPLES}
    for topic, types in (("chat.commands", CommandType), ("chat.events", EventType)):
        told = {load(GOLDEN / path)["headers"]["ce_type"] for path in files if path.parts[0] == topic}
        assert told == {member.value for member in types}
    assert len({reply.outcome for reply in REPLIES.replies}) == len(OutcomeKind)


def test_the_golden_outcomes_of_a_partition_are_a_log() -> None:
    for partition in {example.partition for example in OUTCOMES}:
        cursor = LogCursor()
        examples = [example for example in OUTCOMES if example.partition == partition]
        for example in examples:
            event = cursor.read_one(load_record(GOLDEN / path_of(example)))
            assert isinstance(event, Decided if example.stamp.index else Opened)
        assert cursor.head.index == sum(example.stamp.index > 0 for example in examples)


# --- how the files come to be ---------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a folder of golden files in which one is missing and one differs."""
    assert main(["--write"], golden=tmp_path) == 0
    (tmp_path / path_of(COMMANDS[0])).unlink()
    changed = tmp_path / path_of(COMMANDS[1])
    fields = json.loads(changed.read_text(encoding="utf-8"))
    changed.write_text(json.dumps(fields | {"value": "{}"}), encoding="utf-8")
    return tmp_path


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.json")}


def test_to_look_at_the_files_changes_none(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _contents(copied)
    assert main([], golden=copied) == 1
    assert _contents(copied) == before
    told = capsys.readouterr().out
    assert f"missing: {path_of(COMMANDS[0])}" in told
    assert f"differs: {path_of(COMMANDS[1])}" in told


def test_to_write_the_missing_files_leaves_those_that_differ(copied: Path) -> None:
    before = _contents(copied)
    assert main(["--write"], golden=copied) == 1
    after = _contents(copied)
    assert after.keys() - before.keys() == {copied / path_of(COMMANDS[0])}
    assert {path: after[path] for path in before} == before


def test_a_file_is_written_anew_only_by_its_name(copied: Path) -> None:
    assert main(["--write", "--replace", str(path_of(COMMANDS[1]))], golden=copied) == 0
    assert main([], golden=copied) == 0
