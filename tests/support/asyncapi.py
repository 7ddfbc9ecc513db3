"""docs/asyncapi.yaml for tests: messages with their schemas, references resolved inside the document."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft7Validator

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """Return the whole document."""
    loaded: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return loaded


def message(record_type: str) -> dict[str, Any]:
    """Return the message of a type, or `replies`.

    Raises KeyError if there is no such message.
    """
    found: dict[str, Any] = document()["components"]["messages"][record_type]
    return found


def schema(name: str) -> dict[str, Any]:
    """Return a named schema, as it is written."""
    found: dict[str, Any] = document()["components"]["schemas"][name]
    return found


def resolve(reference: str) -> Any:
    """Return what a `$ref` inside the document refers to.

    Raises KeyError if it refers to nothing.
    """
    found: Any = document()
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


@lru_cache(maxsize=256)
def _validator(record_type: str, part: str) -> Draft7Validator:
    parts = {
        "headers": lambda: message(record_type)["headers"],
        "payload": lambda: message(record_type)["payload"],
        "key": lambda: message(record_type)["bindings"]["kafka"]["key"],
    }
    # `allOf` instead of the schema itself: draft 7 ignores everything next to a $ref, so `components` would be
    # unreachable.
    return Draft7Validator({"components": document()["components"], "allOf": [parts[part]()]})


def fits(record_type: str, part: str, value: object) -> bool:
    """Return whether headers (name to text), payload or key are valid for that type."""
    valid: bool = _validator(record_type, part).is_valid(value)
    return valid


def nodes(value: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object inside, with its JSON pointer."""
    if isinstance(value, dict):
        yield path, value
        for name, inner in value.items():
            yield from nodes(inner, f"{path}/{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nodes(inner, f"{path}/{number}")


def required_of(named: dict[str, Any]) -> set[str]:
    """Return the names that a schema and all its parts require."""
    required = set(named.get("required", ()))
    for part in named.get("allOf", ()):
        required |= required_of(resolve(part["$ref"]) if "$ref" in part else part)
    return required


def properties_of(named: dict[str, Any]) -> list[str]:
    """Return the property names of a schema, or of the first part that has any, in order."""
    if "properties" in named:
        return list(named["properties"])
    for part in named.get("allOf", ()):
        return properties_of(resolve(part["$ref"]) if "$ref" in part else part)
    return []
