"""SQL from named blocks: what is refused at start instead of failing in production."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.runtime.postgres.sql import SqlBlocks, SqlError, load_sql, parse_sql

GOOD = """\
-- What this file is for.

-- name: newest_page
-- Keyset, never OFFSET.
SELECT seq FROM {schema}.chat_messages
WHERE chat_id = %(chat_id)s AND media_urls <> '{}'::text[] AND metadata <> '{"a": 1}'

-- name: latest_seq
SELECT last_seq FROM {schema}.chats;
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that makes an importable package of .sql files."""

    def make(**files: str) -> str:
        folder = tmp_path / "sql_of_this_test"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        for name, text in files.items():
            (folder / f"{name}.sql").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        sys.modules.pop("sql_of_this_test", None)
        importlib.invalidate_caches()
        return "sql_of_this_test"

    return make


def test_blocks_are_found_by_name(package: Callable[..., str]) -> None:
    blocks = load_sql(package(reads=GOOD, writes="-- name: touch\nUPDATE {schema}.chats SET name = name"))
    assert blocks.names == ("newest_page", "latest_seq", "touch")
    assert blocks.text("latest_seq") == "SELECT last_seq FROM {schema}.chats;"


def test_identifiers_are_quoted_and_other_braces_stay() -> None:
    blocks = SqlBlocks(parse_sql(GOOD, origin="x.sql"), "x")
    text = blocks.bind(schema='chat"; DROP SCHEMA chat; --')["newest_page"].as_string(None)
    assert 'FROM "chat""; DROP SCHEMA chat; --".chat_messages' in text
    assert "'{}'::text[]" in text
    assert """'{"a": 1}'""" in text


def test_only_the_named_files_are_loaded(package: Callable[..., str]) -> None:
    name = package(reads=GOOD, writes="-- name: touch\nSELECT 1")
    assert load_sql(name, "writes.sql").names == ("touch",)


def test_an_unknown_block_is_refused_with_its_name() -> None:
    blocks = SqlBlocks(parse_sql(GOOD, origin="x.sql"), "x")
    assert "oldest" not in blocks.bind(schema="chat")
    assert "latest_seq" in blocks.bind(schema="chat")
    for look_up in (lambda: blocks.text("oldest"), lambda: blocks.bind(schema="chat")["oldest"]):
        with pytest.raises(SqlError, match="no SQL block 'oldest' in x"):
            look_up()


def test_a_placeholder_without_an_identifier_is_refused_at_once() -> None:
    with pytest.raises(SqlError, match=r"'newest_page' of x needs an identifier for \{schema\}"):
        SqlBlocks(parse_sql(GOOD, origin="x.sql"), "x").bind()


@pytest.mark.parametrize("identifier", ["", "a\0b"])
def test_what_cannot_be_an_identifier_is_refused(identifier: str) -> None:
    with pytest.raises(SqlError, match="cannot be an identifier"):
        SqlBlocks(parse_sql(GOOD, origin="x.sql"), "x").bind(schema=identifier)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1", "SQL before the first"),
        ("SELECT 1\n-- name: a\nSELECT 2", "SQL before the first"),
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "'a' of f.sql has the name of an earlier one"),
        ("-- name: a\n-- only words\n-- name: b\nSELECT 1", "'a' of f.sql is empty"),
        ("-- name: a", "'a' of f.sql is empty"),
        ("-- name: Two-Words\nSELECT 1", "no name for a block"),
        ("-- name:\nSELECT 1", "no name for a block"),
        ("-- fragment: A\nseq", "no name for a fragment"),
        ("-- fragment: a\n-- only words\n-- name: b\nSELECT 1", "Fragment 'a' of f.sql is empty"),
        ("-- fragment: a\nseq\n-- fragment: a\nseq\n-- name: b\nSELECT {fragment:a}", "'a' of f.sql has the name of"),
        ("-- fragment: a\nseq\n-- name: b\nSELECT {fragment:c}", "'b' of f.sql names an unknown fragment, 'c'"),
        ("-- name: b\nSELECT {fragment:}", "'b' of f.sql names an unknown fragment, ''"),
        ("-- fragment: a\nseq\n-- name: b\nSELECT 1", "No block uses the fragment 'a'"),
        ("-- fragment: a\nseq;\n-- name: b\nSELECT {fragment:a}", "'a' of f.sql is not a part of a statement"),
        (
            "-- fragment: a\nseq\n-- fragment: c\n{fragment:a}\n-- name: b\nSELECT {fragment:c}",
            "'c' of f.sql is not a part of a statement",
        ),
    ],
)
def test_a_malformed_file_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(SqlError, match=complaint):
        parse_sql(text, origin="f.sql")


def test_the_same_name_in_two_files_is_refused(package: Callable[..., str]) -> None:
    name = package(first="-- name: a\nSELECT 1", second="-- name: a\nSELECT 2")
    with pytest.raises(SqlError, match=r"Block 'a' of sql_of_this_test/second\.sql"):
        load_sql(name)


def test_a_fragment_stands_once_for_the_blocks_of_all_files(package: Callable[..., str]) -> None:
    name = package(
        first="-- fragment: shared\n-- In order.\nm.seq,\nm.name\n\n-- name: a\nSELECT {fragment:shared}",
        second="-- name: b\nSELECT {fragment:shared} FROM {schema}.m -- {fragment:derived}",
    )
    blocks = load_sql(name, fragments={"derived": "from code", "unused": "1"})
    assert blocks.names == ("a", "b")
    assert blocks.text("a") == "SELECT m.seq,\nm.name"
    assert blocks.text("b") == "SELECT m.seq,\nm.name FROM {schema}.m -- from code"


def test_a_fragment_of_a_file_cannot_have_the_name_of_one_that_code_derives(package: Callable[..., str]) -> None:
    name = package(first="-- fragment: shared\nseq\n-- name: a\nSELECT {fragment:shared}")
    with pytest.raises(SqlError, match=r"Fragment 'shared' of .* has the name of an earlier one"):
        load_sql(name, fragments={"shared": "from code"})


def test_a_missing_file_and_an_empty_package_are_refused(package: Callable[..., str]) -> None:
    name = package()
    with pytest.raises(SqlError, match=r"no file reads\.sql"):
        load_sql(name, "reads.sql")
    with pytest.raises(SqlError, match=r"no \.sql files"):
        load_sql(name)
