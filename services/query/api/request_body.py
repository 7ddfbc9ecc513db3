"""Reads the body of a request: JSON in UTF-8, in which each member of an object is named once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from services.runtime.web.problems import Problem
from services.runtime.web.validation_problems import validation_problem

BodyT = TypeVar("BodyT", bound=BaseModel)


def parse_body(model: type[BodyT], raw: bytes) -> BodyT:
    """Return the body as its model. Raises Problem `malformed`."""
    try:
        # A body that is nested too deeply is no valid one either, whatever it holds.
        values = json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _malformed("The body is not valid JSON in UTF-8.") from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise validation_problem({**each, "loc": ("body", *each["loc"])} for each in found) from None


def _object(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise _malformed("A member occurs twice in an object of the body: send each once.")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _malformed(detail: str) -> Problem:
    return Problem("malformed", detail, errors=[{"in": "body", "pointer": "", "detail": detail}])
