"""Parameters that several paths have, with their bounds; invalid input becomes a 400."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from schemas.ids import is_uuid
from services.query.api.cursors import MAX_CURSOR_CHARACTERS
from services.query.api.windows import MAX_SEQ
from services.query.snapshot.at_least import HEADER

MAX_LIMIT = 200
DEFAULT_LIMIT = 50
AT_LEAST_CHARACTERS = 64


def _wire_uuid(text: str) -> str:
    text = text.lower()  # RFC 9562: accepted in any case, output in lower case; ingest does the same
    if not is_uuid(text):
        raise ValueError("a UUID, with hyphens")
    return text


WireUuid = Annotated[str, AfterValidator(_wire_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def whole_number(value: object) -> object:
    """Refuse `+5`, ` 5 `, `5.0` and `1_000`, which pydantic accepts as numbers."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value) is None:
        raise ValueError("a whole number, written in digits alone")
    return value


ChatIdInPath = Annotated[WireUuid, Path(alias="chat_id")]
CommandIdInPath = Annotated[WireUuid, Path(alias="command_id")]
SeqInPath = Annotated[int, Field(ge=1, le=MAX_SEQ), BeforeValidator(whole_number), Path()]
AtLeastHeader = Annotated[
    str | None,
    Header(
        alias=HEADER,
        max_length=AT_LEAST_CHARACTERS,
        description="A token `P:index` from a command's response: the read returns a snapshot that contains it.",
    ),
]

IfNoneMatchHeader = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="The `ETag` that you have: `304` without a body if the message is still shown like that.",
    ),
]

# The bounds precede the validator: bounds after it are checked too, but missing in the JSON Schema.
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Maximum page size."), BeforeValidator(whole_number)]
Seq = Annotated[int, Field(ge=0, le=MAX_SEQ), BeforeValidator(whole_number)]


class QueryParameters(BaseModel):
    """Parameters of the query string. An unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListParameters(QueryParameters):
    """The page of a list."""

    cursor: str | None = Field(
        default=None, max_length=MAX_CURSOR_CHARACTERS, description="`next` of the previous page; opaque."
    )
    limit: Limit = DEFAULT_LIMIT


ListQuery = Annotated[ListParameters, Query()]
