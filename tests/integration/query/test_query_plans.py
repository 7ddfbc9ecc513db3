"""How Postgres runs the reads: with the index made for each, and with the plan that a prepared statement keeps.

The tests check generic plans, which know no values: those that a connection uses after a statement's fifth run.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from schemas.ids import UserId
from services.projector.versions.migrations import migrate
from services.query.snapshot.pipeline import Pipelines
from services.runtime.postgres.sql import load_sql
from tests.support.read_model import Api, World, read_model_database, run, world_of

STATEMENTS = load_sql("services.query.sql")
TICKS = {"chat_participants_read", "chat_participants_delivered", "chat_participants_joined"}
ONE_ROW = {"chat_participants_pkey", "chat_participants_user"}
"""Either has the caller's row in a chat."""
OF_A_MESSAGE = {"reactions_pkey", "reaction_counts_pkey"}
"""Looked up for each message that has changed since it was sent."""
LARGE = (
    "chat_messages",
    "chat_participants",
    "outcomes",
    "reactions",
    "reaction_counts",
    "earlier_texts",
    "message_search",
)


@pytest.fixture(scope="module")
def world(postgres: str) -> Iterator[World]:
    """200 chats of 50 messages by 40 members, one of 20,000 messages with 2,000 members, 20,000 outcomes."""
    with read_model_database(postgres) as dsn, world_of(dsn) as world:
        world.sql(
            "CREATE TEMP TABLE users AS SELECT u, gen_random_uuid() AS user_id FROM generate_series(1, 2000) u;"
            "CREATE TEMP TABLE sizes AS SELECT gen_random_uuid() AS chat_id, 50 AS messages, 40 AS members"
            " FROM generate_series(1, 200) UNION ALL SELECT gen_random_uuid(), 20000, 2000;"
            "INSERT INTO chats SELECT chat_id, 'group', 'g', chat_id, now(), messages, messages, now(), 0 FROM sizes;"
            "INSERT INTO chat_participants (chat_id, user_id, role, joined_at, joined_seq, read_seq, delivered_seq,"
            " own_live_after_read, changed_position)"
            " SELECT chat_id, user_id, 'member', now(), 0, random() * messages, random() * messages, 0, 1"
            " FROM sizes, LATERAL (SELECT user_id FROM users ORDER BY md5(chat_id::text || u) LIMIT members) m;"
            "INSERT INTO chat_messages (chat_id, seq, message_id, sender_id, message_text, client_generated_id,"
            " reply_count, media_urls, sent_at, position, changed_position)"
            " SELECT chat_id, seq, gen_random_uuid(), user_id, 'hello', seq, 0, '{}', now(), seq, seq"
            " FROM sizes, generate_series(1, messages) seq JOIN users ON u = 1 + seq % 2000;"
            "INSERT INTO reactions SELECT chat_id, seq, '👍', sender_id, seq FROM chat_messages;"
            "INSERT INTO reaction_counts SELECT chat_id, seq, '👍', 1, seq FROM chat_messages;"
            "INSERT INTO message_search SELECT chat_id, seq, sender_id, sent_at, array_to_tsvector(ARRAY[message_text,"
            " 'c:' || chat_id, 'h:' || div(extract(epoch FROM sent_at), 3600)]) FROM chat_messages;"
            "INSERT INTO earlier_texts SELECT chat_id, seq, 0, 'helo', sent_at FROM chat_messages;"
            "INSERT INTO outcomes"
            " SELECT i % 8, i, gen_random_uuid(), user_id, 't', 'rejected', 'forbidden', NULL, NULL, now()"
            " FROM generate_series(1, 20000) i JOIN users ON u = 1 + i % 2000;"
        )
        world.sql("ANALYZE")
        yield world


@dataclass(slots=True)
class Plan:
    kinds: set[str] = field(default_factory=set)
    indexes: set[str] = field(default_factory=set)
    scanned_whole: set[str] = field(default_factory=set)

    def add(self, node: dict[str, Any], *, of_a_message: bool = False) -> None:
        """Add a node and those below it. The reactions of one message are a plan of their own, and may be sorted."""
        of_a_message |= node.get("Parent Relationship") == "SubPlan"
        if not of_a_message:
            self.kinds.add(node["Node Type"])
        if "Index Name" in node:
            self.indexes.add(node["Index Name"])
        elif node.get("Relation Name") in LARGE and "Bitmap" not in node["Node Type"]:
            self.scanned_whole.add(node["Relation Name"])
        for child in node.get("Plans", []):
            self.add(child, of_a_message=of_a_message)


def generic_plan(world: World, statement: str) -> dict[str, Any]:
    numbers: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    text = re.sub(r"%\((\w+)\)s", numbered, STATEMENTS.text(statement))
    ((explained,),) = world.sql(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {text}")
    root: dict[str, Any] = explained[0]["Plan"]
    return root


def unordered(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan without the order of a filter's conditions: under a policy, those that tell nothing come first."""
    return {
        key: [unordered(each) for each in value]
        if key == "Plans"
        else sorted(value[1:-1].split(" AND "))
        if key == "Filter"
        else value
        for key, value in plan.items()
    }


def plan_of(world: World, statement: str) -> Plan:
    plan = Plan()
    plan.add(generic_plan(world, statement))
    return plan


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        ("membership", {"chat_participants_pkey"}),
        ("standing", TICKS),
        ("page", {"chat_messages_pkey"}),
        ("page_of_sender", {"chat_messages_sender"}),
        ("message", {"chat_messages_pkey"}),
        ("replies", {"chat_messages_thread"}),
        ("threads", {"chat_messages_threads"}),
        ("edits", {"earlier_texts_pkey"}),
        ("receipts_of_message", {"chat_messages_pkey", "chat_participants_pkey"}),
        ("members", {"chat_participants_pkey"}),
        ("read_state", {"chat_participants_pkey"}),
        ("accepted_message", {"chat_messages_message_id_key"}),
    ],
)
def test_a_read_walks_its_index_in_order_and_sorts_nothing(world: World, statement: str, indexes: set[str]) -> None:
    plan = plan_of(world, statement)
    assert not plan.scanned_whole
    assert plan.indexes <= indexes | ONE_ROW | OF_A_MESSAGE
    if statement != "membership":
        assert plan.indexes >= indexes
    assert "Sort" not in plan.kinds


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        ("unread_of_chat", set()),
        ("receipt_counts", {"chat_messages_pkey"}),
        ("unread_of_all", {"chat_participants_user"}),
        ("chats_of_caller", {"chat_participants_user", *TICKS}),
        ("chat_of_caller", TICKS),
        ("outcome_of_command", {"outcomes_command"}),
        ("places_of_caller", {"chat_participants_user", "chat_participants_left"}),
        ("named_chats", {"chat_participants_pkey"}),
        ("heads_of_chats", TICKS),
        ("standings", TICKS),
        ("changed_messages", {"chat_messages_changed", "chat_messages_pkey"}),
        ("newest_changed_messages", {"chat_messages_changed", "chat_messages_pkey"}),
        ("changed_members", set()),
        ("some_changed_members", set()),
    ],
)
def test_no_read_scans_a_large_table(world: World, statement: str, indexes: set[str]) -> None:
    plan = plan_of(world, statement)
    assert not plan.scanned_whole
    assert indexes <= plan.indexes


@pytest.fixture(scope="module")
def role_of_query(world: World) -> Iterator[str]:
    """A role that may read the views and owns nothing, as `gapless projection roles` makes for query."""
    role = f"query_{uuid4().hex[:8]}"
    world.sql(
        f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA chat TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA chat TO {role}"
    )
    try:
        asyncio.run(_start_a_projector(world.dsn))
        yield role
    finally:
        world.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def _start_a_projector(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await migrate(connection)


@pytest.mark.parametrize("statement", [name for name in STATEMENTS.names if "SELECT" in STATEMENTS.text(name)])
def test_row_level_security_changes_no_plan_of_querys_role(world: World, role_of_query: str, statement: str) -> None:
    of_the_owner = generic_plan(world, statement)
    world.sql(f"SET ROLE {role_of_query}")
    try:
        assert unordered(generic_plan(world, statement)) == unordered(of_the_owner)
    finally:
        world.sql("RESET ROLE")


ABOUT_A_CHAT = [name for name in STATEMENTS.names if "%(chat_id)s" in STATEMENTS.text(name)]
OF_ITS_SENDER = {"accepted_message"}
"""Only its sender may ask for a command's status, and need not be a member."""
OF_ALL_CHATS = {"chats_of_caller"}
"""Its chat_id is a cursor."""


def executed(world: World, statement: str, chat_id: object, caller_id: object, *, plan: str) -> tuple[list[str], int]:
    """Return the tables that were read, each as often as the plan names it, and the number of pages."""
    values = {
        "chat_id": chat_id,
        "caller_id": caller_id,
        "sender_id": caller_id,
        "split": 40,
        "seq": 40,
        "from_user_id": "00000000-0000-0000-0000-000000000000",
    }
    return executed_with(world, statement, defaultdict(lambda: 50, values), plan=plan)


def executed_with(
    world: World, statement: str, values: Mapping[str, object], *, plan: str = "auto"
) -> tuple[list[str], int]:
    """The same with these parameters."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", STATEMENTS.text(statement))))
    text = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", STATEMENTS.text(statement))
    given = ", ".join(f"'{values[name]}'" for name in names)
    world.sql(f"SET plan_cache_mode = {plan}")
    world.sql(f"PREPARE asked AS {text}")
    try:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked ({given})"
        world.sql(explain)  # the first one reads the catalogue too
        ((explained,),) = world.sql(explain)
    finally:
        world.sql("DEALLOCATE asked")
        world.sql("RESET plan_cache_mode")
    found: list[str] = []
    _look(explained[0]["Plan"], found)
    root = explained[0]["Plan"]
    return found, root["Shared Hit Blocks"] + root["Shared Read Blocks"]


def _look(node: dict[str, Any], found: list[str]) -> None:
    if node["Actual Loops"] and "Relation Name" in node:
        found.append(node["Relation Name"])
    for child in node.get("Plans", []):
        _look(child, found)


@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("statement", [s for s in ABOUT_A_CHAT if s not in OF_ITS_SENDER | OF_ALL_CHATS])
def test_for_a_stranger_nothing_is_looked_up_but_the_row_that_is_not_there(
    world: World, statement: str, plan: str
) -> None:
    ((chat_id, member),) = world.sql(
        "SELECT chat_id, user_id FROM chat_participants WHERE left_at IS NULL ORDER BY md5(chat_id::text) LIMIT 1"
    )
    ((stranger, nowhere),) = world.sql("SELECT gen_random_uuid(), gen_random_uuid()")
    ((former,),) = world.sql("SELECT gen_random_uuid()")
    world.join(chat_id, former)
    world.leave(chat_id, former)
    own_row = ["chat_participants"]

    looked_up, pages = executed(world, statement, chat_id, stranger, plan=plan)
    assert looked_up == own_row
    assert executed(world, statement, chat_id, former, plan=plan)[0] == own_row
    assert executed(world, statement, nowhere, stranger, plan=plan) == (own_row, pages), "a chat that does not exist"
    assert statement == "membership" or len(executed(world, statement, chat_id, member, plan=plan)[0]) > 1


def test_a_strangers_question_over_http_does_not_run_the_members_statements(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time would tell what exists. Every path about a chat, with exactly the statements that it sends."""
    asked: list[tuple[str, Mapping[str, object]]] = []
    run_together = Pipelines.run

    async def noted(self: Pipelines, connection: Any, statements: Any, **how: Any) -> Any:
        asked.extend((name, values) for name, values in statements if values)  # what frames a read has no parameter
        return await run_together(self, connection, statements, **how)

    monkeypatch.setattr(Pipelines, "run", noted)
    ((chat_id, member, stranger, nowhere, command_id),) = world.sql(
        "SELECT chat_id::text, user_id::text, gen_random_uuid()::text, gen_random_uuid()::text, gen_random_uuid()::text"
        " FROM chat_participants"
        " WHERE left_at IS NULL ORDER BY md5(chat_id::text) LIMIT 1"
    )

    async def story(api: Api) -> None:
        document = await api.json("/openapi.json", stranger)
        paths = [path for path, methods in document["paths"].items() if "{chat_id}" in path and "get" in methods]
        assert len(paths) >= 8
        for path in paths:

            async def ask(chat: object, user: object, path: str = path) -> tuple[int, list[tuple[str, list[str], int]]]:
                asked.clear()
                of_path = {"chat_id": chat, "seq": 40, "command_id": command_id, "emoji": "👍"}
                answer = await api.get(path.format(**of_path), UserId(str(user)))
                return answer.status_code, [(name, *executed_with(world, name, values)) for name, values in asked]

            of_the_chat, of_nothing = await ask(chat_id, stranger), await ask(nowhere, stranger)
            of_a_member = await ask(chat_id, member)
            assert of_the_chat == of_nothing, path
            status, statements = of_the_chat
            assert status == 404, path
            assert statements, path
            names = {name for name, _, _ in statements}
            if not names & OF_ITS_SENDER:
                assert of_a_member[0] == 200, path
                assert all(tables == ["chat_participants"] for _, tables, _ in statements), path
                assert sum(len(tables) for _, tables, _ in of_a_member[1]) > len(statements), path

    run(world.dsn, story)


def test_every_statement_reads_through_the_views_and_names_its_columns() -> None:
    for name in STATEMENTS.names:
        text = re.sub(r"--.*", "", STATEMENTS.text(name))
        relations = re.findall(r"\b(?:FROM|JOIN|TABLE)\s+(\w[\w.]*\b)(?!\()", text)
        tables = set(re.findall(r"\b(\w+) AS MATERIALIZED \(", text)) | {"LATERAL"}
        assert all(r.startswith("chat.") or r in tables for r in relations), name
        subqueries = "|".join(re.findall(r"\) AS (\w+)\n", text)) or "none"
        named = re.sub(rf"\b(?:{subqueries})\.\*", "", text)  # all columns of a subquery, which names them itself
        assert not re.search(r"(?:SELECT\s|[.,])\s*\*", named), name
        assert "OFFSET" not in text.upper().replace("COMMAND_OFFSET", ""), name
