"""Makes the OpenAPI document accurate and detailed enough to generate a client from it.

FastAPI describes the signatures of the endpoints. What they do not contain is added here, once for all operations: that
every error is a problem document, which headers a response has, the formats of headers and ids, and names for the
bodies. Routes declare the problems they raise: `@router.get(..., responses=problem_responses("unknown_chat"))`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ConfigDict, WithJsonSchema

from services.runtime.web.problem_types import PROBLEM_TYPES
from services.runtime.web.problems import PROBLEM_MEDIA_TYPE, example_document

_REF: Final = {"$ref": "#/components/schemas/Problem"}
_UNUSED_SCHEMAS: Final = ("HTTPValidationError", "ValidationError")
_EXAMPLE: Final = "x-example"
_OF_ANY_PATH: Final = ("request_timeout", "uri_too_long", "headers_too_large", "internal")
"""Problems that any request may get, shown for all statuses that a path does not describe."""

UUID: Final = {
    "type": "string",
    "format": "uuid",
    "pattern": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
}
TOKEN_PATTERN: Final = "^[0-9]{1,10}:[0-9]{1,19}$"  # noqa: S105  (no secret)

UuidText = Annotated[
    str, WithJsonSchema({"type": "string", "format": "uuid", "examples": ["11111111-1111-4111-8111-111111111111"]})
]
TokenText = Annotated[str, WithJsonSchema({"type": "string", "pattern": TOKEN_PATTERN, "examples": ["5:1042"]})]
InstantText = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""The type of response fields that hold an instant as text. It validates nothing."""

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
            "maxItems": 50,
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
    "examples": [
        {
            "type": "/problems/unknown_chat",
            "title": "No such chat",
            "status": 404,
            "detail": "There is no chat with this id, or you never were a member of it.",
            "request_id": "5f2c1c8e7f0a4f1b9e6f3a2d1c0b9a88",
        }
    ],
}

_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "chat_id": UUID,
    "user_id": UUID,
    "command_id": UUID,
    "sender_id": UUID,
    "Idempotency-Key": {"type": "string", "examples": ['"hello-1"']},
    "Gapless-Sender": UUID,
    "Gapless-At-Least": {"type": "string", "pattern": TOKEN_PATTERN, "maxLength": 64, "examples": ["5:1042"]},
    "If-Match": {"type": "string", "examples": ['"0"', '"0.Zk3vG2yqf0xJd1Rw"']},
    "If-None-Match": {"type": "string", "examples": ['"0.Zk3vG2yqf0xJd1Rw"']},
    "Prefer": {"type": "string", "examples": ["wait=10", "respond-async"]},
    "at": {"type": "string", "pattern": TOKEN_PATTERN, "maxLength": 64, "examples": ["5:99"]},
}
"""Parameter name → schema, for every operation that has the parameter."""

_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-Id": {"description": "Id of this request, for questions about it.", "schema": {"type": "string"}},
    "traceparent": {"description": "W3C trace context of this request.", "schema": {"type": "string"}},
    "Location": {"description": "Where the result is.", "schema": {"type": "string", "format": "uri-reference"}},
    "Retry-After": {"description": "Seconds to wait before a retry.", "schema": {"type": "integer", "minimum": 1}},
    "Preference-Applied": {"description": "The part of `Prefer` that was applied.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}},
    "ETag": {
        "description": "The revision of the message and a digest of this answer.",
        "schema": {"type": "string", "examples": ['"0.Zk3vG2yqf0xJd1Rw"']},
    },
    "RateLimit": {
        "description": "If the request was counted: how many requests are left (`r`), and after how many"
        " seconds the whole burst is available again (`t`).",
        "schema": {"type": "string", "examples": ['"requests";r=49;t=1']},
    },
    "RateLimit-Policy": {
        "description": "If the request was counted: how many requests may come at once (`q`), and after"
        " how many seconds as many may come again (`w`).",
        "schema": {"type": "string", "examples": ['"requests";q=50;w=5']},
    },
    "Gapless-Token": {
        "description": "Send it as Gapless-At-Least to read what the command did.",
        "schema": {"type": "string", "pattern": TOKEN_PATTERN},
    },
}


def example(*shown: dict[str, Any]) -> ConfigDict:
    """Return the `model_config` of a model whose schema shows these examples, the usual one first.

    They are stored as text until `_describe`, because FastAPI drops every null from its document, even in examples.
    """
    return ConfigDict(json_schema_extra={_EXAMPLE: json.dumps(shown)})


def operation_id(route: APIRoute) -> str:
    """Return the endpoint's name, for `APIRouter(generate_unique_id_function=...)`; generated clients use it."""
    return route.name


def headers(*names: str) -> dict[str, Any]:
    """Return the `headers` of a response, for a route with headers beyond those that its status implies."""
    return {"headers": {name: _HEADERS[name] for name in names}}


def _problem_content(reasons: Sequence[str]) -> dict[str, Any]:
    """Return the content of a response with an example of each problem."""
    shown = {reason: {"summary": PROBLEM_TYPES[reason].title, "value": example_document(reason)} for reason in reasons}
    return {PROBLEM_MEDIA_TYPE: {"schema": _REF, "examples": shown}}


def problem_responses(*reasons: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that raises these problems, by status."""
    by_status: dict[int, list[str]] = {}
    for reason in reasons:
        by_status.setdefault(PROBLEM_TYPES[reason].status, []).append(reason)
    return {
        status: {
            "description": "; ".join(f"`{reason}`: {PROBLEM_TYPES[reason].title}" for reason in found),
            "content": _problem_content(found),
        }
        for status, found in sorted(by_status.items())
    }


def use_problem_schema(app: FastAPI) -> None:
    """Make app.openapi() return the completed document."""
    generate: Callable[[], dict[str, Any]] = app.openapi
    described: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        document = generate()
        if not (described and described[0] is document):  # FastAPI caches the document it has generated
            _describe(document)
            described[:] = [document]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(document: dict[str, Any]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    for name in _UNUSED_SCHEMAS:
        schemas.pop(name, None)
    for item in document.get("paths", {}).values():
        for operation in item.values():
            _name_bodies(operation, schemas)
    for schema in schemas.values():
        if _EXAMPLE in schema:
            schema["examples"] = json.loads(schema.pop(_EXAMPLE))
    for item in document.get("paths", {}).values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                _describe_parameter(parameter)
            _describe_responses(operation)


def _name_bodies(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move the schema of a body to the components, so that generators have a name for it."""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        for holder, key in ((media, "schema"), (media["schema"], "items")):
            schema = holder.get(key, {})
            if schema.get("type") == "object" and "title" in schema:
                schemas[schema["title"]] = schema
                holder[key] = {"$ref": f"#/components/schemas/{schema['title']}"}


def _describe_parameter(parameter: dict[str, Any]) -> None:
    if parameter["in"] == "header":
        parameter["name"] = "-".join(part.capitalize() for part in parameter["name"].split("-"))
    schema: dict[str, Any] = parameter["schema"]
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    for kind in kinds:  # an omitted parameter is absent, never null
        schema.update(kind)
    schema.pop("title", None)
    schema.pop("description", None)  # the parameter has it
    schema.update(_PARAMETERS.get(parameter["name"], {}))


def _describe_responses(operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(responses.get("422", {})):
        del responses["422"]
    responses.setdefault("default", {"description": "A problem document.", "content": _problem_content(_OF_ANY_PATH)})
    for status, response in responses.items():
        if response["description"] == "Successful Response":
            response["description"] = "Created." if status == "201" else "Done."
        found = response.setdefault("headers", {})
        for name in _headers_of(operation, status):
            found.setdefault(name, _HEADERS[name])


def _headers_of(operation: dict[str, Any], status: str) -> Iterator[str]:
    yield "X-Request-Id"
    yield "traceparent"
    if status in ("201", "202") or (status == "200" and "201" in operation["responses"]):
        yield "Location"
    if status in ("202", "429", "503"):
        yield "Retry-After"
    if "429" in operation["responses"] and status != "401":
        yield "RateLimit"
        yield "RateLimit-Policy"
    if status == "401":
        yield "WWW-Authenticate"
    if status.startswith("2") and any(each["name"] == "Prefer" for each in operation.get("parameters", ())):
        yield "Preference-Applied"
