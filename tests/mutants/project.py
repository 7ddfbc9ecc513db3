"""Curated bugs in the project around the services: the embedded servers, the tests' own judges, the build."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="a slow start is given up though it works",
        file="devstack/life.py",
        good="        if works or vitals.lines > self.seen.lines:\n",
        bad="        if vitals.lines > self.seen.lines:\n",
        check="tests/unit/devstack/test_life.py",
    ),
    Mutant(
        name="a server that repeats itself is taken for alive",
        file="devstack/life.py",
        good='self._noise.sub("", line)',
        bad="line",
        check="tests/unit/devstack/test_life.py",
    ),
    Mutant(
        name="the test oracle lets every member delete every message",
        file="tests/oracle/messages.py",
        good='chat.kind == "group" and me.role != "member"',
        bad='chat.kind == "group"',
        check="tests/unit/oracle/test_expected.py::test_a_message_is_deleted_by_its_author_or_a_moderator",
    ),
    Mutant(
        name="the database has a default password",
        file="compose.yaml",
        good="POSTGRES_PASSWORD: ${GAPLESS_POSTGRES_PASSWORD:?is",
        bad="POSTGRES_PASSWORD: ${GAPLESS_POSTGRES_PASSWORD:-is",
        check="tests/unit/house/test_compose.py::test_no_secret_has_a_default",
    ),
    Mutant(
        name="a library is free whose private parts are used",
        file="pyproject.toml",
        good='"psycopg[binary,pool]==3.3.9"',
        bad='"psycopg[binary,pool]>=3.3.9"',
        check="tests/unit/house/test_private_parts.py",
    ),
)
