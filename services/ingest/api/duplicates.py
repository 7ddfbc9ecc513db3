"""Finds a member that a JSON object names twice. Pure.

Parsers disagree on which of the two counts, so over HTTP the request is refused. In the log, where a command cannot be
returned to its sender, the last one counts (docs/asyncapi.yaml).
"""

from __future__ import annotations

import json
from typing import Any

from services.runtime.web.validation_problems import json_pointer


class _Twice(dict[str, Any]):
    """An object with a member that it names more than once."""

    def __init__(self, members: list[tuple[str, Any]], name: str) -> None:
        super().__init__(members)
        self.name = name


def duplicate_member(raw: bytes, distinct: int, colons: int) -> str | None:
    """Return the JSON pointer of the first member that a parsed body names twice, or None.

    :param distinct: the number of members that the parser found in the outermost object.
    :param colons: the number of colons in `raw`. If there is one per distinct member, the body has neither a repeated
        member nor a nested object, and is not parsed again.
    """
    if colons == distinct:
        return None
    found: list[_Twice] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        given = dict(pairs)
        if len(given) == len(pairs):
            return given
        twice = _Twice(pairs, _first_twice(pairs))
        found.append(twice)
        return twice

    body = json.loads(raw, object_pairs_hook=members)
    return _pointer(body, []) or "" if found else None


def _first_twice(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("called only if a name occurs twice")


def _pointer(value: Any, path: list[object]) -> str | None:
    """Return the path of the first such object; None if it is in a value that its own member's repeat replaced."""
    if isinstance(value, _Twice):
        return json_pointer([*path, value.name])
    if isinstance(value, dict):
        inner: Any = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        return None
    return next((found for key, each in inner if (found := _pointer(each, [*path, key])) is not None), None)
