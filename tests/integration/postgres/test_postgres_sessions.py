"""Our sessions in a database, under a role and in a shell whose defaults are all hostile; and in a read-only
database.
"""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from schemas.ids import UserId
from schemas.instants import instant_of
from services.projector.versions.migrations import migrate
from services.runtime.postgres.pool import (
    PostgresPool,
    connect,
    is_spent,
    open_pool,
    postgres_trouble,
    session_pins,
)
from services.runtime.postgres.session import DatabaseUnfit
from services.runtime.settings import PostgresSettings
from tests.support.chat_log import ANNA, BEN, ChatLog
from tests.support.hostile import DEFAULTS, SHELL, make_hostile, read_only
from tests.support.projection import contradictions, postgres_of, until, write_records
from tests.support.read_model import Api

pytestmark = pytest.mark.anyio

TEXT = "It's \\ 日本 😀"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hostile(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the DSN of a database whose own defaults, and its role's, are all hostile, in a hostile shell."""
    make_hostile(database)
    for variable, value in SHELL.items():
        monkeypatch.setenv(variable, value)
    return database


async def test_no_default_of_database_role_or_shell_reaches_a_session(hostile: str) -> None:
    settings = postgres_of(hostile)
    connection = await connect(settings, application_name="x", autocommit=True)
    async with connection:
        found = {}
        for name in DEFAULTS:
            row = await (await connection.execute("SELECT current_setting(%s)", [name])).fetchone()
            assert row is not None
            found[name] = row[0]
    assert found == {
        "client_encoding": "UTF8",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "TimeZone": "UTC",
        "array_nulls": "on",
        "bytea_output": "hex",
        "client_min_messages": "warning",
        "default_transaction_deferrable": "off",
        "default_transaction_isolation": "read committed",
        "extra_float_digits": "1",
        "idle_in_transaction_session_timeout": "1min",
        "idle_session_timeout": "0",
        "jit": "off",
        "lock_timeout": "0",
        "plan_cache_mode": "auto",
        "quote_all_identifiers": "off",
        "row_security": "on",
        "search_path": "pg_catalog, pg_temp",
        "standard_conforming_strings": "on",
        "statement_timeout": "30s",
        "transaction_timeout": "0",
        "transform_null_equals": "off",
    }


async def test_what_is_written_and_read_among_hostile_defaults_is_what_was_sent(hostile: str) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops 日本", [BEN])
    log.send(chat, ANNA, TEXT, metadata={"k": TEXT})
    log.read(chat, BEN, 1)
    async with await connect(postgres_of(hostile), application_name="test", autocommit=True) as connection:
        await migrate(connection)
        await write_records(connection, 1, log.events)
        log.send(chat, BEN, TEXT)
        log.delete(chat, ANNA, 1)
        await write_records(connection, 1, log.events[-2:], copy_from=1)
        assert await contradictions(connection, "chat_v1") == []
    async with Api(hostile) as api:
        page = await api.json(f"/v1/chats/{chat}/messages", UserId(ANNA))
        assert [m["text"] for m in page["messages"]] == [None, TEXT]
        assert page["messages"][1]["sent_at"] == instant_of(log.events[-2].timestamp)
        chats = await api.json("/v1/chats", UserId(BEN))
        assert chats["items"][0]["name"] == "ops 日本"
        assert chats["items"][0]["last_message"]["text"] == TEXT


async def test_a_database_in_another_encoding_is_refused_in_one_sentence(postgres: str) -> None:
    name = "in_latin1"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0")
        try:
            settings = postgres_of(psycopg.conninfo.make_conninfo(postgres, dbname=name))
            with pytest.raises(DatabaseUnfit, match=r"encoding LATIN1.*ENCODING 'UTF8'"):
                await connect(settings, application_name="x")
            async with open_pool(settings, application_name="x") as pool:

                async def says() -> bool:
                    return "ENCODING 'UTF8'" in (await postgres_trouble(pool, timeout_s=0.2) or "")

                await until(says, "the reason on readyz")
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_refused_connection_says_why(database: str) -> None:
    wrong = psycopg.conninfo.make_conninfo(database, options="-c no.such.setting.at.all")
    async with open_pool(postgres_of(wrong), application_name="x") as pool:

        async def says() -> bool:
            trouble = await postgres_trouble(pool, timeout_s=0.2) or ""
            return trouble.startswith("Postgres refuses the connection: ") and "127.0.0.1" not in trouble

        await until(says, "the reason on readyz")


async def _writes(pool: PostgresPool) -> bool:
    try:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS public.t (n int)")
            await connection.execute("INSERT INTO public.t VALUES (1)")
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction):
        return False
    return True


async def test_no_session_stays_read_only_longer_than_the_database(database: str) -> None:
    settings = postgres_of(database).model_copy(update={"pool_min_size": 3})
    with psycopg.connect(database, autocommit=True) as admin:
        async with open_pool(settings, application_name="writer", autocommit=True) as pool:
            await pool.wait(30)
            read_only(admin, "on")
            async with asyncio.timeout(30):
                while await _writes(pool):
                    pass

            async def said() -> bool:
                return "takes no writes" in (await postgres_trouble(pool, writes=True) or "")

            await until(said, "readyz saying that the database is read-only")
            assert not await _writes(pool)
            read_only(admin, "off")
            assert await _writes(pool), "the first session after it is one that was opened after it"
            for _ in range(6):
                assert await _writes(pool)
            assert await postgres_trouble(pool, writes=True) is None


async def test_readers_never_write_and_do_not_mind_a_read_only_database(database: str) -> None:
    async with open_pool(postgres_of(database), application_name="x", autocommit=True, read_only=True) as pool:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            async with pool.connection() as connection:
                await connection.execute("CREATE TABLE public.t (n int)")
        assert await postgres_trouble(pool) is None


async def test_a_session_whose_statements_are_gone_is_closed_and_not_given_out_again(database: str) -> None:
    async with open_pool(postgres_of(database), application_name="x", autocommit=True) as pool:
        with pytest.raises(psycopg.errors.InvalidSqlStatementName) as failed:
            async with pool.connection() as spent:
                await spent.execute("EXECUTE what_nobody_prepared")
        assert is_spent(failed.value)
        assert spent.closed
        assert await postgres_trouble(pool) is None


def test_a_setting_that_is_pinned_for_a_session_is_pinned_for_a_transaction_too() -> None:
    pins = session_pins(PostgresSettings(), read_only=False)
    of_session, of_transaction = (part.as_string(None) for part in (pins.for_session, pins.for_transaction))
    assert of_session.replace(", false)", ", true)") == of_transaction
