"""docs/asyncapi.yaml as tests look at it: messages with their schemas, resolved inside the document."""

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
    """The whole of it."""
    loaded: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return loaded


def message(record_type: str) -> dict[str, Any]:
    """The message of a type, or `replies`. Raises KeyError where there is none."""
    found: dict[str, Any] = document()["components"]["messages"][record_type]
    return found


def schema(name: str) -> dict[str, Any]:
    """A named schema, as it is written."""
    found: dict[str, Any] = document()["components"]["schemas"][name]
    return found


def resolve(reference: str) -> Any:
    """What a `$ref` inside the document points at. Raises KeyError where that is nothing."""
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
    # `allOf` and not the schema itself: beside a $ref draft 7 looks at nothing, `components` would be out of reach.
    return Draft7Validator({"components": document()["components"], "allOf": [parts[part]()]})


def fits(record_type: str, part: str, value: object) -> bool:
    """Whether headers (name to text), payload or key are what the document says of that type."""
    valid: bool = _validator(record_type, part).is_valid(value)
    return valid


def nodes(value: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object inside, with its JSON pointer."""
    if isinstance(value, dict):
        yield path, value
        for name, inner in value.items():
            yield from nodes(inner, f"{path}/{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nodes(inner, f"{path}/{number}")


def required_of(named: dict[str, Any]) -> set[str]:
    """What must be there by a schema and by all that it is made of."""
    required = set(named.get("required", ()))
    for part in named.get("allOf", ()):
        required |= required_of(resolve(part["$ref"]) if "$ref" in part else part)
    return required


def properties_of(named: dict[str, Any]) -> list[str]:
    """The names that a schema, or the first it is made of, speaks of, in order."""
    if "properties" in named:
        return list(named["properties"])
    for part in named.get("allOf", ()):
        return properties_of(resolve(part["$ref"]) if "$ref" in part else part)
    return []
