"""The parameters of requests with their bounds; invalid input becomes a 400."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from schemas.ids import UserId, is_uuid, parse_token
from services.query.api import windows
from services.query.api.cursors import MAX_CURSOR_CHARACTERS
from services.query.api.windows import MAX_SEQ, Window
from services.query.problems import invalid_parameter
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


def _digits(value: object) -> object:
    """Refuse `+5`, ` 5 `, `5.0` and `1_000`, which pydantic accepts as numbers."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value) is None:
        raise ValueError("a whole number, written in digits alone")
    return value


ChatIdInPath = Annotated[WireUuid, Path(alias="chat_id")]
CommandIdInPath = Annotated[WireUuid, Path(alias="command_id")]
SeqInPath = Annotated[int, Field(ge=1, le=MAX_SEQ), BeforeValidator(_digits), Path()]
AtLeastHeader = Annotated[
    str | None,
    Header(
        alias=HEADER,
        max_length=AT_LEAST_CHARACTERS,
        description="A token `P:index` from a command's response: the read returns a snapshot that contains it.",
    ),
]

# The bounds precede the validator: bounds after it are checked too, but missing in the JSON Schema.
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Maximum page size."), BeforeValidator(_digits)]
Seq = Annotated[int, Field(ge=0, le=MAX_SEQ), BeforeValidator(_digits)]


class _Parameters(BaseModel):
    """Parameters of the query string. An unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HistoryParameters(_Parameters):
    """The page of messages: at most one bound; without one, the newest messages."""

    before_seq: Seq | None = Field(default=None, description="Messages with a lower seq.")
    after_seq: Seq | None = Field(default=None, description="Messages with a higher seq.")
    around_seq: Seq | None = Field(default=None, description="This message in the middle of the page.")
    limit: Limit = DEFAULT_LIMIT
    sender_id: WireUuid | None = Field(default=None, description="Only messages of this sender.")

    @model_validator(mode="after")
    def _one_bound_at_most(self) -> HistoryParameters:
        if sum(bound is not None for bound in (self.before_seq, self.after_seq, self.around_seq)) > 1:
            raise ValueError("give at most one of before_seq, after_seq and around_seq")
        return self

    @property
    def window(self) -> Window:
        if self.before_seq is not None:
            return windows.before(self.before_seq, self.limit)
        if self.after_seq is not None:
            return windows.after(self.after_seq, self.limit)
        if self.around_seq is not None:
            return windows.around(self.around_seq, self.limit)
        return windows.newest(self.limit)

    @property
    def sender(self) -> UserId | None:
        return None if self.sender_id is None else UserId(self.sender_id)


class ListParameters(_Parameters):
    """The page of a list."""

    cursor: str | None = Field(
        default=None, max_length=MAX_CURSOR_CHARACTERS, description="`next` of the previous page; opaque."
    )
    limit: Limit = DEFAULT_LIMIT


class CommandParameters(_Parameters):
    """The place of the command in the log."""

    at: str | None = Field(
        default=None,
        max_length=64,
        description="`P:offset` of the command, from the Location of a 202: until the read model has reached it, the "
        "answer is `pending`. Without it, the answer is what is known now.",
    )

    def offset_in(self, partition: int) -> int | None:
        """Return the command's offset in the partition of its chat, or None if `at` is absent.

        :raises Problem: `malformed` if `at` is invalid or names another partition.
        """
        if self.at is None:
            return None
        try:
            at_partition, offset = parse_token(self.at)
        except ValueError:
            detail = "`at` is the place of the command, `P:offset`, as in the Location of a 202."
            raise invalid_parameter("query", "at", detail) from None
        if at_partition != partition:
            detail = f"`at` names partition {at_partition}, but this chat is in partition {partition}."
            raise invalid_parameter("query", "at", detail)
        return offset
