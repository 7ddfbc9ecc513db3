"""The column lists of sql/apply.sql, derived from the rows of mapping/tables.py: names, order and SQL types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from schemas.ids import ChatId, CommandId, MessageId, UserId
from services.projector.mapping.tables import ROW_TYPES

_SQL_TYPES: Final[dict[Any, str]] = {
    ChatId: "uuid",
    UserId: "uuid",
    CommandId: "uuid",
    MessageId: "uuid",
    str: "text",
    int: "bigint",
    datetime: "timestamptz",
    list[str]: "text[]",
    dict[str, Any]: "jsonb",
}


def fragments(row_types: Mapping[str, type[NamedTuple]] = ROW_TYPES) -> dict[str, str]:
    """Return the SQL fragments of each list of rows in RowChanges (or SearchChanges), by its name:

    - `<name>_columns`: the columns of a row
    - `<name>_values`: a placeholder for each of them
    - `<name>_rows`: the rows as a relation `m`, from one array for each column
    """
    found: dict[str, str] = {}
    for name, row_type in row_types.items():
        types = column_types(row_type)
        columns = ", ".join(f'"{column}"' for column in types)
        arrays = ", ".join(f"%({column})s::{sql_type}[]" for column, sql_type in types.items())
        found[f"{name}_columns"] = columns
        found[f"{name}_values"] = ", ".join(["%s"] * len(types))
        found[f"{name}_rows"] = f"unnest({arrays}) AS m ({columns})"
    return found


def column_types(row_type: type[NamedTuple]) -> dict[str, str]:
    """Return the column of each field of a row, in order, and its SQL type."""
    hints = get_type_hints(row_type, include_extras=True)
    return {_COLUMN_OF.get(field, field): _sql_type(hint) for field, hint in hints.items()}


_COLUMN_OF: Final = {"log_index": "index"}
"""The columns that are not named as their fields."""


def _sql_type(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return str(hint.__metadata__[0])
    if hint not in _SQL_TYPES and NoneType in get_args(hint):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
        return _sql_type(hint)
    return _SQL_TYPES[hint]
