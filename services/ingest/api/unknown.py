"""Finds the unknown fields of a request body without validating them. Pure.

Validation would build an error for each of thousands, only to have all but the first few thrown away.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec
from pydantic import BaseModel

from schemas.errors import Reason, Refused

_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def unknown_fields(model: type[BaseModel], raw: bytes, most: int, colons: int) -> list[str]:
    """Return the first `most` fields of a JSON object that the model does not have, or none if there are no more than
    `most`: then the model's own validation reports them together with whatever else is wrong.

    Raises Refused for what is not JSON.

    :param colons: the number of colons in `raw`. Each field has one, so a body with few of them is not parsed here.
    """
    known = _fields_of(model)
    if colons <= most + len(known):
        return []
    try:
        given = _FIELDS.decode(raw)
    except msgspec.ValidationError:
        return []  # not an object, which is a single error
    except (ValueError, RecursionError):
        raise Refused(Reason.MALFORMED, "the body is not JSON that can be read") from None
    unknown = [name for name in given if name not in known]
    return unknown[:most] if len(unknown) > most else []


@cache
def _fields_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Cached: pydantic's own look-up takes longer than parsing a small body."""
    return tuple(model.model_fields)
