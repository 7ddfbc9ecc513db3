"""Defaults of a database, a role and a shell that all differ from what our sessions need."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

DEFAULTS: Final = {
    "client_encoding": "LATIN1",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "array_nulls": "off",
    "bytea_output": "escape",
    "client_min_messages": "debug1",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "extra_float_digits": "-10",
    "idle_in_transaction_session_timeout": "3s",
    "idle_session_timeout": "3s",
    "jit": "on",
    "lock_timeout": "1ms",
    "plan_cache_mode": "force_custom_plan",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "statement_timeout": "50ms",
    "transaction_timeout": "3s",
    "transform_null_equals": "on",
}
SHELL: Final = {
    "PGOPTIONS": "-c bytea_output=escape -c lock_timeout=1ms",
    "PGTZ": "Nowhere/At_All",
    "PGDATESTYLE": "German",
    "PGGEQO": "perhaps",
    "PGCLIENTENCODING": "KOI8R",
    "PGTARGETSESSIONATTRS": "standby",
    "PGHOSTADDR": "192.0.2.1",
}


def make_hostile(dsn: str) -> None:
    """Set DEFAULTS for the database of `dsn`, and for its role in it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for whose in ("DATABASE {database}", "ROLE {role} IN DATABASE {database}"):
            for name, value in DEFAULTS.items():
                connection.execute(
                    sql.SQL("ALTER " + whose + " SET {name} = {value}").format(
                        database=sql.Identifier(connection.info.dbname),
                        role=sql.Identifier(connection.info.user),
                        name=sql.Identifier(name),
                        value=sql.Literal(value),
                    )
                )


def read_only(admin: psycopg.Connection, value: str) -> None:
    """Set or reset the database's default, like a guard against a full disk, and end the other sessions."""
    admin.execute("SET default_transaction_read_only = off")
    name = sql.Identifier(admin.info.dbname)
    admin.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(name, sql.Literal(value)))
    if value == "on":
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
