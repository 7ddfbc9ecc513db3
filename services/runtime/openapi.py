"""Makes the OpenAPI document tell the truth about errors: every one is a problem document.

FastAPI describes its own 422 on each operation, which is never sent here. Routes say which problems they raise:
`@router.get(..., responses=problem_responses("unknown_chat", "not_member"))`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI

from services.runtime.problems import PROBLEM_MEDIA_TYPE, PROBLEM_TYPES

_REF: Final = {"$ref": "#/components/schemas/Problem"}
_CONTENT: Final = {PROBLEM_MEDIA_TYPE: {"schema": _REF}}
_UNUSED_SCHEMAS: Final = ("HTTPValidationError", "ValidationError")

PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "RFC 9457 problem document. `type` resolves to a page that says what to do.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["/problems/unknown_chat"]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "retry_after_s": {"type": "integer", "minimum": 1},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "in": {"type": "string", "enum": ["body", "query", "path", "header", "cookie"]},
                    "pointer": {"type": "string", "format": "json-pointer"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
    "additionalProperties": True,
}


def problem_responses(*reasons: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that raises these problems, by status."""
    titles: dict[int, list[str]] = {}
    for reason in reasons:
        kind = PROBLEM_TYPES[reason]
        titles.setdefault(kind.status, []).append(f"`{reason}`: {kind.title}")
    return {status: {"description": "; ".join(found), "content": _CONTENT} for status, found in sorted(titles.items())}


def use_problem_schema(app: FastAPI) -> None:
    """Let app.openapi() describe errors as problem documents."""
    generate: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = PROBLEM_SCHEMA
        for name in _UNUSED_SCHEMAS:
            schemas.pop(name, None)
        for item in document.get("paths", {}).values():
            for operation in item.values():
                _describe_errors(operation.setdefault("responses", {}))
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_errors(responses: dict[str, Any]) -> None:
    if "HTTPValidationError" in str(responses.get("422", {})):
        del responses["422"]
    responses.setdefault("default", {"description": "A problem document.", "content": _CONTENT})
