"""The SQL that creates least-privilege roles for the read model: sql/roles.sql with names filled in."""

from __future__ import annotations

from typing import Final

from services.runtime.postgres.sql import load_sql

OWNER: Final = "gapless_projector"
READER: Final = "gapless_query"
_SQL: Final = load_sql("services.ops.rights.sql", "roles.sql")


def roles_sql(database: str, *, owner: str = OWNER, reader: str = READER) -> str:
    """Return a script for a superuser of that database; it may be run again."""
    return _SQL.compose("roles", database=database, owner=owner, reader=reader).as_string(None)
