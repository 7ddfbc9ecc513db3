"""Reads the parameters of valid requests without FastAPI: the same values, in a tenth of the time.

Each reader is named after the parameter of an endpoint, or follows from its model. It raises NotFastPath for any value
that it does not know to be valid; the request then takes the slow path through FastAPI, which alone defines what is
valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, Final, TypeVar, get_args
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from schemas.ids import is_uuid
from services.query.api.parameters import AT_LEAST_CHARACTERS
from services.query.api.windows import MAX_SEQ
from services.query.problems import invalid_parameter
from services.query.snapshot.at_least import HEADER
from services.runtime.web.fast_routes import FastRequest, NotFastPath

_AT_LEAST: Final = HEADER.lower().encode("ascii")
ParametersT = TypeVar("ParametersT", bound=BaseModel)


def _uuid(name: str) -> Callable[[FastRequest], str]:
    def read(request: FastRequest) -> str:
        text = request.path_params[name].lower()
        if not (text.isascii() and is_uuid(text)):
            raise NotFastPath
        return text

    return read


def _seq(request: FastRequest) -> int:
    text = request.path_params["seq"]
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and text[0] != "0" and int(text) <= MAX_SEQ):
        raise NotFastPath
    return int(text)


def _at_least(request: FastRequest) -> str | None:
    lines = request.header_lines(_AT_LEAST)
    if not lines:
        return None
    if len(lines) > 1 or len(lines[0]) > AT_LEAST_CHARACTERS:
        raise NotFastPath
    return lines[0]


def _if_none_match(request: FastRequest) -> str | None:
    lines = request.header_lines(b"if-none-match")
    return ",".join(lines) if lines else None


def _query_string(model: type[ParametersT]) -> Callable[[FastRequest], ParametersT]:
    needs_some = any(field.is_required() for field in model.model_fields.values())
    nothing_said = None if needs_some else model()

    def read(request: FastRequest) -> ParametersT:
        raw: bytes = request.scope["query_string"]
        if not raw and nothing_said is not None:
            return nothing_said
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
        values = dict(pairs)
        if len(values) != len(pairs) or "" in values.values():
            raise NotFastPath
        try:
            return model.model_validate(values)
        except ValidationError:
            raise NotFastPath from None

    return read


def refuse_repeats(query_string: bytes) -> None:
    """Raise Problem if a parameter occurs twice: FastAPI takes the last, a proxy may take the first."""
    seen: set[str] = set()
    for name, _ in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        if name in seen:
            raise invalid_parameter("query", name, "This parameter occurs twice: send it once.")
        seen.add(name)


READERS: Final[Mapping[str, Callable[[FastRequest], Any]]] = {
    "chat_id": _uuid("chat_id"),
    "command_id": _uuid("command_id"),
    "seq": _seq,
    "at_least": _at_least,
    "if_none_match": _if_none_match,
}
"""Endpoint parameter → its reader."""


def reader_of(parameter: Parameter) -> Callable[[FastRequest], Any]:
    """Return the reader of an endpoint's parameter: by its name, or, for the query string, by its model."""
    if parameter.name in READERS:
        return READERS[parameter.name]
    model, *_ = get_args(parameter.annotation)
    return _query_string(model)
