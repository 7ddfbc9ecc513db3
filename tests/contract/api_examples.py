"""The examples of docs/api.md, generated from the OpenAPI document of the code.

python -m tests.contract.api_examples             says whether the page is as generated
python -m tests.contract.api_examples --write     writes the examples into it
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from services.ops.processes.api import ApiSettings, create_app
from services.runtime.settings import AuthSettings

PAGE: Final = Path(__file__).parents[2] / "docs/api.md"
BEGIN: Final = """\
## Examples

Generated from the code. The first block is the body of the request, if it has one; the last block is the body of the
answer.
"""
OPENAPI: Final = create_app(ApiSettings(auth=AuthSettings.model_validate({"secret": "x" * 32})))[0].openapi()
METHODS: Final = ("get", "post", "put", "patch", "delete")
OPERATIONS: Final[dict[str, dict[str, Any]]] = {
    f"{method.upper()} {path}": operation
    for path, item in OPENAPI["paths"].items()
    for method, operation in item.items()
    if method in METHODS
}
_LINE: Final = 112


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    found: dict[str, Any] = OPENAPI["components"]["schemas"][reference.rsplit("/", 1)[1]] if reference else schema
    return found


def examples(schema: dict[str, Any]) -> list[Any]:
    found = resolved(schema)
    if found.get("type") == "array":
        return [[each] for each in examples(found["items"])]
    return list(found.get("examples", []))


def bodies(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas of an operation's request."""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        yield media["schema"]


def answers(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the status and the schema of each answer that has a body."""
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            yield status, media["schema"]


def shown(operation: dict[str, Any]) -> list[Any]:
    """Return the bodies that the page shows of an operation."""
    done = "201" if "201" in operation["responses"] else "200"
    first = [examples(schema)[0] for schema in bodies(operation)][:1]
    return first + [examples(schema)[0] for status, schema in answers(operation) if status == done]


def generated() -> str:
    """Return the section of the page."""
    text = BEGIN
    for name, operation in OPERATIONS.items():
        text += f"\n### `{name}`\n"
        text += "".join(f"\n{_fenced(body)}\n" for body in shown(operation))
    return text


def written() -> str:
    """Return the section as it stands in the page, at its end."""
    _, heading, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN.splitlines()[0] + "\n")
    return heading + rest


def _fenced(body: Any) -> str:
    """Return a body as a block of the page: JSON, or the text of an event stream."""
    if isinstance(body, str):
        return f"```text\n{body.rstrip()}\n```"
    return f"```json\n{_json(body)}\n```"


def _json(body: Any) -> str:
    line = json.dumps(body, ensure_ascii=False)
    return line if len(line) <= _LINE else json.dumps(body, ensure_ascii=False, indent=2)


def main(arguments: Sequence[str]) -> int:
    if written() == generated():
        print("docs/api.md is as generated")
        return 0
    if list(arguments) != ["--write"]:
        print("the examples of docs/api.md differ from the code: python -m tests.contract.api_examples --write")
        return 1
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN.splitlines()[0] + "\n")
    PAGE.write_text(before + generated(), encoding="utf-8")
    print("wrote docs/api.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
