"""What a person or a tool that connects to Postgres itself sees, as a login role in `gapless_reader`.

The database is made as `gapless projection roles` says: its owner is no superuser and can create no roles.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from schemas.ids import ChatId, UserId
from services.ops.rights.postgres import roles_sql
from services.projector.versions.migrations import create_projection, index_projection, migrate
from services.projector.versions.registry import REGISTRY, point_views
from services.runtime.postgres.pool import Connection
from tests.support.chat_log import ChatLog, conversation
from tests.support.projection import contradictions, write_records
from tests.support.read_model import World, run, somebody, world_of
from tests.support.stack import fresh_database

OF_A_CHAT: Final = (
    "chats", "chat_participants", "chat_messages", "earlier_texts", "deleted_blocks", "reactions", "reaction_counts",
)  # fmt: skip
"""The tables, and views of the same names, whose rows belong to a chat."""
TABLES: Final = {
    **{table: {"of_my_chats"} for table in OF_A_CHAT},
    "outcomes": {"of_my_commands"},
    "projection_positions": set(),
    "message_search": set(),
    "search_positions": set(),
}
"""Table of a projection → the policies for people. This is the decision about each table: a new one needs an entry."""
SHOWN: Final = {*OF_A_CHAT, "outcomes"}
"""The views that people may read."""
IN_CHAT: Final = {
    "active_projection": True,  # readers lock it
    "projections": False,
    "cutovers": False,
    "operations": False,
    "verifications": False,
    "schema_migrations": False,
}
"""Table of schema chat → whether people may read it."""
FUNCTIONS: Final = {
    "my_user_id": False,
    "my_chat_ids": True,
    "deleted_after": False,
    "get_unread_count": False,
    "get_latest_seq": False,
    "get_messages": False,
}
"""Function of schema chat → whether it runs with the rights of its owner. People may call all of them."""
PASSWORD: Final = "a password"
LARGE: Final = 3_000
"""Messages of a chat that is expensive to read as a whole."""


@dataclass(frozen=True, slots=True)
class Names:
    """The roles of a database, one with a name that has to be quoted. Roles belong to the server: each has its own."""

    owner: str
    query: str
    person: str


@dataclass(frozen=True, slots=True)
class Database:
    admin_dsn: str
    names: Names
    world: World
    """Writes into chat_v1 as a superuser."""

    def dsn(self, role: str) -> str:
        return make_conninfo(self.admin_dsn, user=role, password=PASSWORD)

    @contextmanager
    def session(self, user: object = None, *, role: str = "") -> Iterator[psycopg.Connection]:
        """Yield a session of the person that reads for `user`."""
        with psycopg.connect(self.dsn(role or self.names.person), autocommit=True) as connection:
            if user is not None:
                connection.execute("SELECT set_config('app.user_id', %s, false)", [str(user)])
            yield connection

    def as_owner(self, work: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
        async def inside() -> None:
            dsn = self.dsn(self.names.owner)
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                await work(connection)

        asyncio.run(inside())


def names_here() -> Names:
    mark = uuid4().hex[:8]
    return Names(f"owner_{mark}", f"Query {mark}", f"person_{mark}")


def make_roles(admin: psycopg.Connection, names: Names) -> None:
    """Do what the pages tell an administrator to do."""
    admin.execute(sql.SQL(roles_sql(admin.info.dbname, owner=names.owner, reader=names.query)))
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE gapless_reader").format(sql.Identifier(names.person)))
    for role in (names.owner, names.query, names.person):
        admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))


@contextmanager
def roles_of(postgres: str) -> Iterator[Names]:
    """Yield names of roles, and drop the roles at the end, after their databases."""
    names = names_here()
    try:
        yield names
    finally:
        with psycopg.connect(postgres, autocommit=True) as admin:
            for role in (names.person, names.query, names.owner):
                admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


@pytest.fixture(scope="module", autouse=True)
def _no_role_is_left(postgres: str) -> Iterator[None]:
    """Other tests of this server find it without the role of this module."""
    yield
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS gapless_reader")


@pytest.fixture(scope="module")
def database(postgres: str, _no_role_is_left: None) -> Iterator[Database]:
    with roles_of(postgres) as names, fresh_database(postgres) as dsn:
        with psycopg.connect(dsn, autocommit=True) as admin:
            make_roles(admin, names)

        async def prepare() -> None:
            owner = make_conninfo(dsn, user=names.owner, password=PASSWORD)
            async with await psycopg.AsyncConnection.connect(owner, autocommit=True) as connection:
                await migrate(connection)

        asyncio.run(prepare())
        with world_of(dsn) as world:
            yield Database(dsn, names, world)


@dataclass(frozen=True, slots=True)
class Talk:
    """A chat with rows in every table: three messages of `first`, of which the first is deleted and has a reply."""

    chat: ChatId
    first: UserId
    second: UserId


def talk(world: World) -> Talk:
    first, second = somebody(), somebody()
    chat = world.chat(first, second)
    for text in ("one", "two", "three"):
        world.send(chat, first, text)
    world.delete(chat, 1)
    world.react(chat, 2, second, "👍")
    world.sql("INSERT INTO earlier_texts VALUES (%(chat)s, 3, 0, 'thre', now())", chat=chat)
    world.outcome(
        0, world.sql("SELECT coalesce(max(index), 0) + 1 FROM outcomes")[0][0], str(uuid4()), first, "accepted"
    )
    return Talk(chat, first, second)


def chats_seen(session: psycopg.Connection) -> dict[str, set[str]]:
    """Return the chats of which a session sees rows, by view."""
    return {
        view: {str(chat) for (chat,) in session.execute(f"SELECT chat_id FROM chat.{view}".encode()).fetchall()}
        for view in OF_A_CHAT
    }


def functions_of(session: psycopg.Connection, chat: object, user: object) -> tuple[Any, ...]:
    row = session.execute(
        "SELECT chat.get_unread_count(%(c)s, %(u)s), chat.get_latest_seq(%(c)s), chat.deleted_after(%(c)s, 0),"
        " (SELECT array_agg(m.seq) FROM chat.get_messages(%(c)s) m),"
        " (SELECT array_agg(m.seq) FROM chat.get_messages(%(c)s, 3, 1) m)",
        {"c": chat, "u": user},
    ).fetchone()
    assert row is not None
    return row


NOTHING: Final[dict[str, set[str]]] = {view: set() for view in OF_A_CHAT}
NOTHING_OF_A_CHAT: Final = (None, None, 0, None, None)


def only(chat: ChatId) -> dict[str, set[str]]:
    return {view: {chat} for view in OF_A_CHAT}


def test_a_present_member_sees_each_of_their_chats_and_no_other(database: Database) -> None:
    mine, other = talk(database.world), talk(database.world)
    with database.session(mine.first) as anna:
        assert chats_seen(anna) == only(mine.chat)
        assert functions_of(anna, mine.chat, mine.first) == (0, 3, 1, [1, 2, 3], [2])
        assert anna.execute("SELECT DISTINCT sender_id FROM chat.outcomes").fetchall() == [(UUID(mine.first),)]
    with database.session(mine.second) as ben:
        assert chats_seen(ben) == only(mine.chat)
        assert functions_of(ben, mine.chat, mine.second) == (2, 3, 1, [1, 2, 3], [2])
        assert ben.execute("SELECT count(*) FROM chat.outcomes").fetchone() == (0,)
    with database.session(other.first) as carl:
        assert chats_seen(carl) == only(other.chat)


def test_a_former_member_sees_nothing_and_one_who_joined_again_sees_all(database: Database) -> None:
    there = talk(database.world)
    with database.session(there.second) as ben:
        database.world.leave(there.chat, there.second)
        assert chats_seen(ben) == NOTHING
        assert functions_of(ben, there.chat, there.second) == NOTHING_OF_A_CHAT
        database.world.send(there.chat, there.first)
        database.world.join(there.chat, there.second)
        assert chats_seen(ben) == only(there.chat)
        assert functions_of(ben, there.chat, there.second) == (0, 4, 1, [1, 2, 3, 4], [2])


@pytest.mark.parametrize(
    "user", [None, "", " ", "nobody", "0", "{", "' OR true --", "00000000-0000-0000-0000-00000000000"]
)
def test_a_session_that_names_no_user_sees_nothing_and_gets_no_error(database: Database, user: str | None) -> None:
    there = talk(database.world)
    with database.session(user) as session:
        assert chats_seen(session) == NOTHING
        assert functions_of(session, there.chat, there.first) == NOTHING_OF_A_CHAT
        assert session.execute("SELECT count(*) FROM chat.outcomes").fetchone() == (0,)


def test_the_user_may_be_a_default_of_the_login_role_and_change_within_a_session(database: Database) -> None:
    one, other = talk(database.world), talk(database.world)
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        set_it = sql.SQL("ALTER ROLE {} SET app.user_id = {}")
        admin.execute(set_it.format(sql.Identifier(database.names.person), sql.Literal(one.first.upper())))
        try:
            with database.session() as session:
                assert chats_seen(session) == only(one.chat)
                with session.transaction():
                    session.execute(sql.SQL("SET LOCAL app.user_id = {}").format(sql.Literal(other.first)))
                    assert chats_seen(session) == only(other.chat)
                assert chats_seen(session) == only(one.chat)
        finally:
            admin.execute(sql.SQL("ALTER ROLE {} RESET app.user_id").format(sql.Identifier(database.names.person)))


def test_a_foreign_chat_looks_like_one_that_does_not_exist(database: Database) -> None:
    mine, foreign = talk(database.world), talk(database.world)
    nowhere = uuid4()
    with database.session(mine.first) as anna:
        for user in (mine.first, foreign.first, uuid4()):
            assert functions_of(anna, foreign.chat, user) == NOTHING_OF_A_CHAT
            assert functions_of(anna, nowhere, user) == NOTHING_OF_A_CHAT


def test_a_person_learns_the_unread_count_of_no_other_member(database: Database) -> None:
    there = talk(database.world)
    with database.session(there.first) as anna:
        assert functions_of(anna, there.chat, there.second) == (None, 3, 1, [1, 2, 3], [2])
    with psycopg.connect(database.admin_dsn) as service:
        assert functions_of(service, there.chat, there.second)[0] == 2


def crowd(world: World) -> None:
    """Fill the tables until a scan of a whole one is no plan: 3,000 chats with 5 members and 10 messages each."""
    if world.sql("SELECT count(*) > 3000 FROM chats") == [(True,)]:
        return
    world.sql(
        "INSERT INTO chats SELECT gen_random_uuid(), 'group', 'crowd', gen_random_uuid(), now(), 10, 10, now(), 0"
        " FROM generate_series(1, 3000);"
        "INSERT INTO chat_participants SELECT chat_id, gen_random_uuid(), 'member', now(), 0, NULL, 0, NULL, 0, 0, 1"
        " FROM chats, generate_series(1, 5) WHERE name = 'crowd';"
        "INSERT INTO chat_messages (chat_id, seq, message_id, sender_id, message_text, client_generated_id,"
        " reply_count, media_urls, sent_at, position, changed_position) SELECT chat_id, seq, gen_random_uuid(),"
        " created_by, 'hello', seq, 0, '{}', now(), seq, seq FROM chats, generate_series(1, 10) seq"
        " WHERE name = 'crowd';"
        "INSERT INTO reactions SELECT chat_id, last_seq, '👍', created_by, 1 FROM chats WHERE name = 'crowd';"
        "INSERT INTO reaction_counts SELECT chat_id, last_seq, '👍', 1, 1 FROM chats WHERE name = 'crowd';"
        "INSERT INTO deleted_blocks SELECT chat_id, 4096, 0, 1 FROM chats WHERE name = 'crowd';"
    )


def test_a_question_about_a_foreign_chat_reads_no_page_of_it(database: Database) -> None:
    """Otherwise its time tells that the chat exists, and how large it is."""
    crowd(database.world)
    mine, foreign = talk(database.world), talk(database.world)
    database.world.sql(
        "INSERT INTO chat_messages (chat_id, seq, message_id, sender_id, message_text, client_generated_id,"
        " reply_count, media_urls, sent_at, position, changed_position) SELECT %(chat)s, seq, gen_random_uuid(),"
        " %(user)s, 'hello', seq, 0, '{}', now(), seq, seq FROM generate_series(4, %(last)s) seq",
        chat=foreign.chat, user=foreign.first, last=LARGE,
    )  # fmt: skip
    database.world.sql("UPDATE chats SET last_seq = %(last)s WHERE chat_id = %(chat)s", chat=foreign.chat, last=LARGE)
    database.world.sql("ANALYZE")
    with database.session(mine.first) as anna:
        for asked in (
            "SELECT last_seq FROM chat.chats WHERE chat_id = %s",
            "SELECT * FROM chat.get_messages(%s)",
            "SELECT count(*) FROM chat.chat_messages WHERE chat_id = %s",
            "SELECT user_id FROM chat.chat_participants WHERE chat_id = %s",
            "SELECT emoji FROM chat.reactions WHERE chat_id = %s AND seq = 2",
            "SELECT users FROM chat.reaction_counts WHERE chat_id = %s",
            "SELECT places FROM chat.deleted_blocks WHERE chat_id = %s",
            "SELECT chat.get_latest_seq(%s)",
            "SELECT chat.get_unread_count(%s, chat.my_user_id())",
        ):
            for mode in ("force_custom_plan", "force_generic_plan"):
                anna.execute(sql.SQL("SET plan_cache_mode = {}").format(sql.Identifier(mode)))
                of_mine, of_nothing, of_foreign = (pages(anna, asked, c) for c in (mine.chat, uuid4(), foreign.chat))
                assert of_foreign == of_nothing < of_mine, (asked, mode)


def pages(session: psycopg.Connection, asked: str, chat: object) -> int:
    """Return the number of pages that an execution reads, once the catalogue is known to the session."""
    explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked ({})").format(sql.Literal(str(chat)))
    session.execute(f"PREPARE asked (uuid) AS {asked.replace('%s', '$1')}".encode())
    try:
        session.execute(explain)
        ((found,),) = session.execute(explain).fetchall()
    finally:
        session.execute("DEALLOCATE asked")
    return int(found[0]["Plan"]["Shared Hit Blocks"] + found[0]["Plan"]["Shared Read Blocks"])


def test_a_statement_asks_for_the_chats_once_and_uses_the_index_on_them(database: Database) -> None:
    crowd(database.world)
    mine = talk(database.world)
    database.world.sql("ANALYZE")
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:  # only a superuser may set it
        of_the_role = sql.SQL("ALTER ROLE {} SET track_functions = 'all'")
        admin.execute(of_the_role.format(sql.Identifier(database.names.person)))
    with database.session(mine.first) as anna, anna.transaction():
        assert anna.execute("SELECT count(*) FROM chat.chat_messages").fetchone() == (3,)
        calls = "SELECT calls FROM pg_stat_xact_user_functions WHERE funcname = 'my_chat_ids'"
        assert anna.execute(calls).fetchall() == [(1,)]
        ((found,),) = anna.execute("EXPLAIN (FORMAT JSON) SELECT * FROM chat.chat_messages").fetchall()
    nodes = list(walk(found[0]["Plan"]))
    assert [node["Subplan Name"] for node in nodes if node.get("Parent Relationship") == "InitPlan"] == ["InitPlan 1"]
    conditions = [node["Index Cond"] for node in nodes if "Index Cond" in node]
    assert conditions == ["(chat_id = ANY ((InitPlan 1).col1))"]
    assert all("Filter" not in node for node in nodes)


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)


WRITES: Final = (
    *(f"INSERT INTO {{s}}.{view} DEFAULT VALUES" for view in sorted(TABLES)),
    *(f"DELETE FROM {{s}}.{view}" for view in sorted(TABLES)),
    *(f"SELECT * FROM {{s}}.{view} FOR UPDATE" for view in sorted(TABLES)),
    "UPDATE {s}.chats SET name = 'mine'",
    "UPDATE {s}.chat_participants SET role = 'owner', left_at = NULL",
    "UPDATE {s}.chat_messages SET message_text = 'mine'",
    "COPY {s}.chats FROM STDIN",
    "MERGE INTO {s}.chats c USING {s}.chats o ON c.chat_id = o.chat_id WHEN MATCHED THEN DELETE",
)


@pytest.mark.parametrize("schema", ["chat", "chat_v1"])
def test_every_write_is_refused(database: Database, schema: str) -> None:
    mine, person = talk(database.world), sql.Identifier(database.names.person)
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin, database.session(mine.first) as anna:
        admin.execute(sql.SQL("GRANT USAGE ON SCHEMA chat_v1 TO {}").format(person))  # not needed to see it refused
        try:
            for statement in WRITES:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    anna.execute(statement.format(s=schema).encode())
            for table in TABLES:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    anna.execute(f"TRUNCATE chat_v1.{table}".encode())
        finally:
            admin.execute(sql.SQL("REVOKE USAGE ON SCHEMA chat_v1 FROM {}").format(person))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chat.active_projection SET version = 1",
        "LOCK TABLE chat.active_projection IN ROW EXCLUSIVE MODE",
        "LOCK TABLE chat.active_projection IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE chat.chats IN SHARE MODE",
        "CREATE TABLE chat.mine (x int)",
        "CREATE FUNCTION chat.mine() RETURNS int RETURN 1",
        "CREATE OR REPLACE FUNCTION chat.my_user_id() RETURNS uuid RETURN NULL::uuid",
        "CREATE OR REPLACE VIEW chat.chats AS SELECT 1",
        "ALTER VIEW chat.chats SET (security_invoker = false)",
        "ALTER FUNCTION chat.my_chat_ids() SECURITY INVOKER",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine (x int)",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT lo_import('/etc/hostname')",
        "SET SESSION AUTHORIZATION {owner}",
        "SET ROLE {owner}",
        'SET ROLE "{query}"',
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{admin}'",
    ],
)
def test_nothing_but_reading_is_permitted(database: Database, statement: str) -> None:
    mine, admin = talk(database.world), conninfo_to_dict(database.admin_dsn)["user"]
    named = statement.format(owner=database.names.owner, query=database.names.query, admin=admin).encode()
    with (
        database.session(mine.first) as anna,
        anna.transaction(force_rollback=True),  # LOCK needs a transaction
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        anna.execute(named)


def test_the_schema_of_a_version_is_closed_and_its_policies_hold_for_one_who_gets_in(database: Database) -> None:
    mine = talk(database.world)
    talk(database.world)
    with (
        psycopg.connect(database.admin_dsn, autocommit=True) as admin,
        database.session(mine.first) as anna,
    ):
        for table in TABLES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="schema chat_v1"):
                anna.execute(f"SELECT * FROM chat_v1.{table}".encode())
        person = sql.Identifier(database.names.person)
        admin.execute(sql.SQL("GRANT USAGE ON SCHEMA chat_v1 TO {}").format(person))
        try:
            for table in OF_A_CHAT:
                found = anna.execute(f"SELECT DISTINCT chat_id::text FROM chat_v1.{table}".encode()).fetchall()
                assert found == [(mine.chat,)], table
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                anna.execute("SELECT * FROM chat_v1.projection_positions")
            anna.execute("SET row_security = off")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                anna.execute("SELECT * FROM chat_v1.chats")
        finally:
            admin.execute(sql.SQL("REVOKE USAGE ON SCHEMA chat_v1 FROM {}").format(person))


def test_no_condition_of_a_person_is_evaluated_on_a_foreign_row(database: Database) -> None:
    """An error in a condition would quote the row."""
    anna = somebody()
    chat = database.world.chat(anna)
    database.world.send(chat, anna, "1")
    talk(database.world)  # whose texts are no numbers
    for asked in (
        "SELECT message_text::int FROM chat.chat_messages WHERE message_text::int > 0",
        "SELECT 1 FROM chat.chat_messages m JOIN chat.chats c ON c.chat_id = m.chat_id AND m.message_text::int = 1",
        "SELECT max(message_text::int) FROM chat.chat_messages WHERE message_text::int > 0 AND seq > 0",
    ):
        with database.session(anna) as session:
            assert session.execute(asked.encode()).fetchall() == [(1,)]


def test_statistics_show_no_values_of_foreign_rows(database: Database) -> None:
    mine, _ = talk(database.world), talk(database.world)
    database.world.sql("ANALYZE")
    values = "SELECT count(*) FROM pg_stats WHERE schemaname = 'chat_v1' AND most_common_vals IS NOT NULL"
    assert database.world.sql(values) > [(0,)]
    with database.session(mine.first) as anna:
        assert anna.execute(values.encode()).fetchone() == (0,)


def test_a_person_may_take_the_lock_of_readers_and_read_nothing_about_the_service(database: Database) -> None:
    with database.session(somebody()) as anna:
        with anna.transaction():
            anna.execute("LOCK TABLE chat.active_projection IN ACCESS SHARE MODE")
            assert anna.execute("SELECT version FROM chat.active_projection").fetchone() == (1,)
        for closed in ("projection_positions", "projections", "schema_migrations"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                anna.execute(f"SELECT * FROM chat.{closed}".encode())


def test_every_table_view_and_function_has_a_decision(database: Database) -> None:
    """A new one is closed to people until its author decides, here and in the SQL, what they may see of it."""
    asked = database.world.sql
    policies = {
        table: set(names)
        for table, names in asked(
            "SELECT c.relname, array_remove(array_agg(p.polname::text), 'every_row') FROM pg_class c"
            " LEFT JOIN pg_policy p ON p.polrelid = c.oid WHERE c.relnamespace = 'chat_v1'::regnamespace"
            " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') GROUP BY c.relname"
        )
    }
    assert {table: {n for n in names if n} for table, names in policies.items()} == TABLES
    assert (
        asked(
            "SELECT relname FROM pg_class WHERE relnamespace = 'chat_v1'::regnamespace AND relkind = 'r'"
            " AND (NOT relrowsecurity OR relforcerowsecurity)"
        )
        == []
    ), "row-level security for all but the owner"
    person = database.names.person
    readable = dict(
        asked(
            "SELECT relname, has_table_privilege(%(person)s, oid, 'SELECT') FROM pg_class"
            " WHERE relnamespace = 'chat'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')",
            person=person,
        )
    )
    assert readable == {view: view in SHOWN for view in TABLES} | IN_CHAT
    of_version = "SELECT relname FROM pg_class WHERE relnamespace = 'chat_v1'::regnamespace AND relkind = 'r'"
    granted = asked(f"{of_version} AND has_table_privilege(%(person)s, oid, 'SELECT')", person=person)
    assert {name for (name,) in granted} == SHOWN
    assert (
        asked(
            "SELECT relname FROM pg_class WHERE relnamespace = 'chat'::regnamespace AND relkind = 'v'"
            " AND NOT coalesce('security_invoker=true' = ANY (reloptions), false)"
        )
        == []
    ), "a view with the rights of its owner passes every policy"
    functions = asked(
        "SELECT proname, prosecdef, coalesce(array_to_string(proconfig, ','), '') FROM pg_proc"
        " WHERE pronamespace = 'chat'::regnamespace"
    )
    assert {name: definer for name, definer, _ in functions} == FUNCTIONS
    assert all("search_path=pg_catalog, pg_temp" in config for _, definer, config in functions if definer)


def test_the_owner_feeds_and_verifies_every_row_whatever_app_user_id_says(database: Database) -> None:
    async def feed(connection: Connection) -> None:
        await connection.execute("SET app.user_id = 'nobody'")
        await create_projection(connection, 7)
        log = ChatLog()
        log.open()
        conversation(log)
        await write_records(connection, 7, log.events, copy_from=1)
        await index_projection(lambda: nullcontext(connection), 7, lambda _name: None)
        row = await (await connection.execute("SELECT count(*) FROM chat_v7.chat_messages")).fetchone()
        assert row is not None
        assert row[0] > 0
        assert await contradictions(connection, "chat_v7") == []
        await forget(connection, 7)

    database.as_owner(feed)


def test_query_reads_every_chat_with_a_role_that_is_under_the_policies(database: Database) -> None:
    there = talk(database.world)

    async def read(api: Any) -> None:
        page = await api.json(f"/v1/chats/{there.chat}/messages", there.second)
        assert [m["seq"] for m in page["messages"]] == [1, 2, 3]
        assert (await api.json("/v1/chats", there.second))["items"][0]["unread"] == 2

    role = sql.Identifier(database.names.query)
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER ROLE {} SET app.user_id = {}").format(role, sql.Literal(somebody())))  # by mistake
        try:
            run(database.dsn(database.names.query), read)
        finally:
            admin.execute(sql.SQL("ALTER ROLE {} RESET app.user_id").format(role))
    with database.session(role=database.names.query) as query:
        assert query.execute("SELECT count(*) FROM chat.chats").fetchall() == database.world.sql(
            "SELECT count(*) FROM chats"
        )
        assert functions_of(query, there.chat, there.second) == (2, 3, 1, [1, 2, 3], [2])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="schema chat_v1"):
            query.execute("SELECT * FROM chat_v1.chats")


def test_a_grant_on_the_views_does_not_free_a_person_from_the_policies(database: Database) -> None:
    mine = talk(database.world)
    talk(database.world)
    person = sql.Identifier(database.names.person)
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA chat TO {}").format(person))
        admin.execute("GRANT SELECT ON chat.chats TO PUBLIC")
        try:
            database.as_owner(migrate)
            with database.session(mine.first) as anna:
                assert chats_seen(anna) == only(mine.chat)
        finally:
            admin.execute(sql.SQL("REVOKE SELECT ON ALL TABLES IN SCHEMA chat FROM {}").format(person))
            admin.execute("REVOKE SELECT ON chat.chats FROM PUBLIC")


def test_a_role_that_may_no_longer_read_a_view_loses_its_policy(database: Database) -> None:
    query = sql.Identifier(database.names.query)
    admitted = (
        "SELECT c.relname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE polname = 'every_row'"
        " AND c.relnamespace = 'chat_v1'::regnamespace"
    )
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("REVOKE SELECT ON chat.outcomes FROM {}").format(query))
        try:
            database.as_owner(migrate)
            assert {name for (name,) in admin.execute(admitted.encode()).fetchall()} == TABLES.keys() - {"outcomes"}
        finally:
            admin.execute(sql.SQL("GRANT SELECT ON chat.outcomes TO {}").format(query))
        database.as_owner(migrate)
        assert {name for (name,) in admin.execute(admitted.encode()).fetchall()} == TABLES.keys()


def test_a_start_that_finds_all_rights_in_place_changes_and_locks_nothing(database: Database) -> None:
    rows = (
        "SELECT 'class', oid, xmin FROM pg_class WHERE relnamespace IN ('chat'::regnamespace, 'chat_v1'::regnamespace)"
        " UNION ALL SELECT 'policy', oid, xmin FROM pg_policy"
        " UNION ALL SELECT 'schema', oid, xmin FROM pg_namespace ORDER BY 1, 2"
    )
    before = database.world.sql(rows)
    with psycopg.connect(database.admin_dsn) as reader:  # an open transaction that has read every view
        for view in TABLES:
            reader.execute(f"SELECT FROM chat.{view}".encode())

        async def start(connection: Connection) -> None:
            await connection.execute("SET lock_timeout = '10s'")
            await migrate(connection)

        database.as_owner(start)
    assert database.world.sql(rows) == before


def test_without_the_role_a_projector_starts_and_one_that_starts_later_grants_its_rights(postgres: str) -> None:
    with roles_of(postgres) as names, fresh_database(postgres) as dsn, psycopg.connect(dsn, autocommit=True) as admin:
        owner = sql.Identifier(names.owner)
        exists = admin.execute("SELECT to_regrole('gapless_reader') IS NOT NULL").fetchone()
        if exists == (True,):  # the database of the other tests needs it again
            admin.execute("ALTER ROLE gapless_reader RENAME TO gapless_reader_of_others")
        try:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN NOCREATEROLE PASSWORD {}").format(owner, sql.Literal(PASSWORD)))
            admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(admin.info.dbname), owner))
            with world_of(dsn) as world:
                database = Database(dsn, names, world)
                database.as_owner(migrate)
                there = talk(world)
                make_roles(admin, names)
                with database.session(there.first) as anna, pytest.raises(psycopg.errors.InsufficientPrivilege):
                    anna.execute("SELECT * FROM chat.chats")
                database.as_owner(migrate)
                with database.session(there.first) as anna:
                    assert chats_seen(anna) == only(there.chat)
                with database.session(role=names.query) as query:
                    assert chats_seen(query) == only(there.chat)
            admin.execute("DROP OWNED BY gapless_reader")
            admin.execute("DROP ROLE gapless_reader")
        finally:
            if exists == (True,):
                admin.execute("ALTER ROLE gapless_reader_of_others RENAME TO gapless_reader")


def test_an_upgrade_needs_no_administrator_and_takes_nothing_from_query(postgres: str) -> None:
    """A database of the release before has views with the rights of their owner, and grants on the views only."""
    with roles_of(postgres) as names, fresh_database(postgres) as dsn, psycopg.connect(dsn, autocommit=True) as admin:
        make_roles(admin, names)
        with world_of(dsn) as world:
            database = Database(dsn, names, world)
            database.as_owner(migrate)
            database.as_owner(downgrade)
            one, other = talk(world), talk(world)
            with database.session(role=names.query) as query:
                query.prepare_threshold = 0
                assert set(chats_seen(query)["chats"]) == {one.chat, other.chat}
                database.as_owner(migrate)
                assert all(chats == {one.chat, other.chat} for chats in chats_seen(query).values())
                assert query.execute("SELECT count(*) FROM chat.outcomes").fetchone() == (2,)
                query.execute("SELECT * FROM chat.projection_positions")
            with database.session(one.second) as ben:
                assert chats_seen(ben) == only(one.chat)


def test_an_upgrade_deadlocks_with_no_reader(postgres: str) -> None:
    """The steps lock every table and view: a reader that holds one of them must not wait for another."""
    with roles_of(postgres) as names, fresh_database(postgres) as dsn, psycopg.connect(dsn, autocommit=True) as admin:
        make_roles(admin, names)
        with world_of(dsn) as world, ThreadPoolExecutor(3) as readers:
            database = Database(dsn, names, world)
            database.as_owner(migrate)
            enough = threading.Event()
            try:
                reading = [readers.submit(read_on, database, enough) for _ in range(3)]
                for _ in range(10):

                    async def before(connection: Connection) -> None:
                        async with connection.transaction():
                            await connection.execute("LOCK TABLE chat.active_projection IN ACCESS EXCLUSIVE MODE")
                            await downgrade(connection)

                    database.as_owner(before)
                    database.as_owner(migrate)
            finally:
                enough.set()
            assert all(each.result() > 0 for each in reading)


def read_on(database: Database, enough: threading.Event) -> int:
    """Read every view in one transaction, again and again, as query does. Returns how often."""
    reads = 0
    with database.session(role=database.names.query) as query:
        while not enough.is_set():
            with query.transaction():
                query.execute("LOCK TABLE chat.active_projection IN ACCESS SHARE MODE")
                for view in TABLES:
                    query.execute(f"SELECT count(*) FROM chat.{view}".encode())
            reads += 1
    return reads


async def downgrade(connection: Connection) -> None:
    """Undo what this release's steps have made."""
    await connection.execute(
        """
        DO $$
        DECLARE
            name text;
        BEGIN
            FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'chat'::regnamespace AND relkind = 'v' LOOP
                EXECUTE format('ALTER VIEW chat.%I RESET (security_invoker)', name);
                EXECUTE format('ALTER TABLE chat_v1.%I DISABLE ROW LEVEL SECURITY', name);
                EXECUTE format('DROP POLICY IF EXISTS of_my_chats ON chat_v1.%I', name);
                EXECUTE format('DROP POLICY IF EXISTS of_my_commands ON chat_v1.%I', name);
                EXECUTE format('DROP POLICY IF EXISTS every_row ON chat_v1.%I', name);
                EXECUTE format('REVOKE ALL ON chat_v1.%I FROM gapless_reader', name);
                EXECUTE format('REVOKE ALL ON chat.%I FROM gapless_reader', name);
            END LOOP;
            FOR name IN SELECT quote_ident(rolname) FROM pg_roles WHERE rolname LIKE 'Query %' LOOP
                EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA chat_v1 FROM %s', name);
            END LOOP;
            DROP FUNCTION chat.get_unread_count;
            DROP FUNCTION chat.my_chat_ids;
            DROP FUNCTION chat.my_user_id;
            DELETE FROM chat.schema_migrations WHERE (scope, number) IN (('control', 3), ('chat_v1/tables', 9));
        END
        $$
        """
    )


def test_a_version_that_is_built_has_its_rights_before_the_cutover(database: Database) -> None:
    """A policy needs a lock on a table that projectors feed: a cutover is no time to wait for it."""
    rights = (
        "SELECT c.relname, c.relacl, (SELECT array_agg((polname, polroles)::text ORDER BY polname) FROM pg_policy"
        " WHERE polrelid = c.oid) FROM pg_class c WHERE relnamespace = '{s}'::regnamespace AND relkind = 'r' ORDER BY 1"
    )

    async def build(connection: Connection) -> None:
        await create_projection(connection, 8)

    database.as_owner(build)
    try:
        assert database.world.sql(rights.format(s="chat_v8")) == database.world.sql(rights.format(s="chat_v1"))
    finally:
        database.as_owner(lambda connection: forget(connection, 8))


async def forget(connection: Connection, version: int) -> None:
    """Drop a version that never served."""
    await connection.execute(REGISTRY["unregister"], {"version": version})
    await connection.execute(f"DROP SCHEMA chat_v{version} CASCADE".encode())
    await connection.execute(REGISTRY["forget_migrations"], {"schema": f"chat_v{version}"})


def test_a_session_sees_the_new_version_with_the_statements_that_it_has_prepared(database: Database) -> None:
    there, other = talk(database.world), talk(database.world)
    unread = "SELECT chat.get_unread_count(%s, %s)"
    counted = "SELECT chat_id::text, count(*) FROM chat.chat_messages GROUP BY 1"

    async def build(connection: Connection) -> None:
        await create_projection(connection, 2)

    async def show(connection: Connection, version: int) -> None:
        async with connection.transaction():
            await point_views(connection, version)
            await connection.execute(REGISTRY["activate"], {"version": version})

    database.as_owner(build)
    with database.session(there.first) as anna, database.session(role=database.names.query) as query:
        for session in (anna, query):
            session.prepare_threshold = 0

        def seen(session: psycopg.Connection) -> dict[str, int]:
            return dict(session.execute(counted).fetchall())

        assert seen(anna) == {there.chat: 3}
        assert anna.execute(unread, [there.chat, there.first]).fetchone() == (0,)
        assert seen(query).items() >= {there.chat: 3, other.chat: 3}.items()
        with world_of(database.admin_dsn, "chat_v2") as second:  # in v2 the memberships are the other way round
            second.copy_chat(there.chat, [there.second], "ops", "2026-01-01T00:00:00Z")
            second.copy_chat(other.chat, [there.first], "ops", "2026-01-01T00:00:00Z")
            second.send(there.chat, there.second)
            second.send(other.chat, there.first)
        database.as_owner(lambda connection: show(connection, 2))
        try:
            assert seen(anna) == {other.chat: 1}
            assert anna.execute(unread, [there.chat, there.first]).fetchone() == (None,)
            assert seen(query) == {there.chat: 1, other.chat: 1}
        finally:
            database.as_owner(lambda connection: show(connection, 1))
        assert seen(anna) == {there.chat: 3}
        database.as_owner(lambda connection: forget(connection, 2))
        assert seen(anna) == {there.chat: 3}
