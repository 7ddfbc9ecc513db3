"""What errors, problems, log lines and pages tell people to use exists: commands, paths, headers, fields, types.

The code is read as its syntax tree: every string literal, an f-string with X for each inserted value.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from schemas.types import CommandType
from services.ops.processes.api import ApiSettings, create_app
from services.runtime.settings import AuthSettings
from services.runtime.web.problem_types import PROBLEM_TYPES
from services.sequencer.rules.nouns import RULES
from tests.unit.house.test_docs import PAGES, ROOT, benchmarks, commands, name_of, spans

CODE: Final = ("schemas", "services", "devstack")
CONTRACTS: Final = [*PAGES, ROOT / "docs/asyncapi.yaml", ROOT / "docs/asyncapi-live.yaml"]
NOT_OURS: Final = {"X-Forwarded-For", "X-Forwarded-Proto"}
"""Headers that only pages mention."""


class Said(NamedTuple):
    """A string of the code."""

    place: str
    text: str
    is_docstring: bool


@cache
def said() -> tuple[Said, ...]:
    return tuple(
        found
        for folder in CODE
        for path in sorted((ROOT / folder).rglob("*.py"))
        for found in strings(path, ast.parse(path.read_text(encoding="utf-8")))
    )


def strings(path: Path, tree: ast.Module) -> Iterator[Said]:
    inside: set[ast.AST] = set()  # parts of an f-string, reported with it
    documents = {
        node.body[0].value
        for node in ast.walk(tree)
        if hasattr(node, "body") and isinstance(node.body, list) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        place = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.JoinedStr):
            inside |= set(node.values)
            parts = [str(value.value) if isinstance(value, ast.Constant) else "X" for value in node.values]
            yield Said(place, "".join(parts), False)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield Said(place, node.value, node in documents)


def sentences() -> Iterator[Said]:
    """Yield the strings that people may read."""
    return (each for each in said() if " " in each.text)


@cache
def literals() -> frozenset[str]:
    """Return every string and bytes literal of the code in lower case, which includes every header that is read or
    set.
    """
    found = {each.text.lower() for each in said()}
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                    found.add(node.value.decode("latin-1").lower())
    return frozenset(found)


def check_call(place: str, words: list[str]) -> None:
    there = commands() | benchmarks()
    groups = {name.split()[0] for name in there if " " in name}
    of_all = words[0] in groups | {"bench"} and words[1:] in ([], ["…"], ["NAME"], ["--help"])
    if words in (["…"], ["<command>"]) or of_all:
        return
    name = " ".join(words[:2]) if words[0] in groups else words[0]
    assert name in there, f"{place} names `gapless {' '.join(words)}`: there is no such command"
    unknown = {word for word in words if word.startswith("--")} - there[name] - {"--help"}
    assert not unknown, f"{place}: `gapless {name}` has no {unknown}"


def test_every_command_that_the_code_names_is_there_with_its_options() -> None:
    found = 0
    for each in said():
        for call in re.findall(r"`gapless ([^`\n]+?)`", each.text.replace("\n    ", " ")):
            check_call(each.place, call.split())
            found += 1
        if not each.is_docstring:
            for group, name in re.findall(r"(?<![\w`/.-])gapless (log|projection|topics) ([a-z-]+)", each.text):
                check_call(each.place, [group, name])
    assert found > 30


@cache
def served() -> dict[str, set[str]]:
    """Return path → its methods."""
    app, *_ = create_app(ApiSettings(auth=AuthSettings.model_validate({"secret": "x" * 32})))
    return {path: {method.upper() for method in methods} for path, methods in app.openapi()["paths"].items()}


def methods_of(path: str) -> set[str] | None:
    """Return the methods of the path in a text, whatever it calls its parameters, or None if it is unknown."""
    parts = path.rstrip("/").split("/")
    for known, methods in served().items():
        wanted = known.split("/")
        if len(parts) == len(wanted) and all(w.startswith("{") or w == p for w, p in zip(wanted, parts, strict=True)):
            return methods
    return None


PATH: Final = re.compile(r"(?:\b(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) )?(/v1/(?:[\w:.~-]|\{[^}\n]*\}|<[^>\n]*>|/)+)")


NOT_THERE: Final = re.compile(r"^## What is not there\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
"""The paths in it must be absent, which test_openapi.py checks."""


def check_paths(place: str, text: str) -> int:
    found = 0
    for method, path in PATH.findall(text):
        methods = methods_of(path.rstrip(".:"))
        assert methods is not None, f"{place} names {path}: there is no such path"
        assert not method or method in methods | {"HEAD", "OPTIONS"}, f"{place}: {path} does not know {method}"
        found += 1
    return found


def test_every_path_that_the_code_names_is_served() -> None:
    assert sum(check_paths(each.place, each.text) for each in said()) > 15


@pytest.mark.parametrize("page", CONTRACTS, ids=name_of)
def test_every_path_that_a_page_names_is_served(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    check_paths(name_of(page), re.sub(NOT_THERE, "", text))


def test_every_command_type_that_a_sentence_of_ours_names_is_decided() -> None:
    """The contract may have more types; an error that recommended one of those would mislead its reader."""
    undecided = {each.value.removesuffix(".v1") for each in CommandType if each not in RULES}
    for each in sentences():
        if not each.is_docstring:
            named = {name for name in undecided if re.search(rf"\b{re.escape(name)}\b", each.text)}
            assert not named, f"{each.place} names {named}, and nobody decides it: {each.text!r}"


def fields() -> set[str]:
    """Return the field names of the API's bodies and answers."""
    app, *_ = create_app(ApiSettings(auth=AuthSettings.model_validate({"secret": "x" * 32})))
    found: set[str] = set()

    def walk(schema: Any) -> None:
        if isinstance(schema, dict):
            if isinstance(schema.get("properties"), dict):
                found.update(schema["properties"])
            for value in schema.values():
                walk(value)
        elif isinstance(schema, list):
            for value in schema:
                walk(value)

    walk(app.openapi())
    return found


def test_every_field_and_header_that_a_problem_names_is_there() -> None:
    there, named = fields(), 0
    for each in sentences():
        if not each.place.startswith(("services/ingest", "services/query", "services/runtime/web/problem")):
            continue
        for field in re.findall(r"\bfield `?([a-z_]{3,})\b`?", each.text) if not each.is_docstring else ():
            assert field in there, f"{each.place}: there is no field {field}"
            named += 1
        for header in re.findall(r"\b[Hh]eader `?([A-Z][A-Za-z]+(?:-[A-Za-z]+)*)\b", each.text):
            assert header.lower() in literals(), f"{each.place}: nobody reads or sets the header {header}"
            named += 1
    assert named > 10


def test_every_example_of_a_problem_says_what_the_code_says() -> None:
    written = [
        re.compile(re.escape(each.text.rstrip(".")).replace("X", ".+"), re.IGNORECASE)
        for each in sentences()
        if not each.is_docstring and "problem_types" not in each.place and len(each.text.replace("X", "").split()) > 2
    ]
    for reason, kind in PROBLEM_TYPES.items():
        details = [kind.example["detail"], *(error["detail"] for error in kind.example.get("errors", ()))]
        for detail in details:
            text = detail.rstrip(".")
            # The last is pydantic's own; of two sentences of validation_problem, the second begins after the colon.
            known = any(pattern.fullmatch(text) for pattern in written) or text.endswith(": see errors")
            assert known or text == "Field required", f"{reason}: no code says {detail!r}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_header_that_a_page_names_is_read_or_set(page: Path) -> None:
    for span in spans(page):
        match = re.match(r"((?:Gapless|Idempotency|Preference|X|Retry|Content)-[A-Z][A-Za-z-]+)(?::|$)", span)
        if match is not None and match[1] not in NOT_OURS:
            assert match[1].lower() in literals(), f"{name_of(page)}: nobody reads or sets {match[1]}"


def test_every_log_line_that_the_operations_page_names_is_written() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    named = [
        name
        for names in re.findall(r"^\| ((?:`[a-z_.]+`(?:, | and )?)+) in the log", text, re.MULTILINE)
        for name in re.findall(r"`([a-z_.]+)`", names)
    ]
    assert named
    assert set(named) <= literals()


def test_every_passage_of_a_page_that_the_code_names_is_there() -> None:
    found = 0
    for each in said():
        for page, passage in re.findall(r"\((docs/[\w/.-]+\.md), ([\w ]+)\)", each.text):
            assert passage in (ROOT / page).read_text(encoding="utf-8"), f"{each.place}: {page} has no {passage!r}"
            found += 1
    assert found
