"""The OpenAPI document describes what the code does, in enough detail to generate a client from it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from jsonschema import Draft202012Validator

from schemas import limits
from services.ingest.api.paths import batch
from services.ingest.api.preferences import LONGEST_WAIT_S
from services.ingest.api.rate import RateLimit
from services.ingest.api.requests import Envelope
from services.ingest.api.route import BATCH_PATH
from services.ops.processes.api import ApiSettings, create_app
from services.query.api.cursors import MAX_CURSOR_CHARACTERS
from services.query.api.parameters import AT_LEAST_CHARACTERS, MAX_LIMIT
from services.query.api.paths.changes import MAX_CHANGES
from services.query.api.paths.sync import MAX_NAMED_CHATS, MAX_SINCE_CHARACTERS
from services.query.search.terms import MAX_QUERY_CHARACTERS
from services.runtime.access.auth import MAX_TOKEN_CHARS, mint_token
from services.runtime.settings import AuthSettings
from services.runtime.web.problems import PROBLEM_MEDIA_TYPE, Problem, example_document
from services.runtime.web.query_strings import MAX_QUERY_BYTES, MAX_QUERY_PARAMETERS
from services.runtime.web.validation_problems import MAX_ERRORS
from tests.contract import api_examples
from tests.contract.api_examples import OPENAPI as DOCUMENT
from tests.contract.api_examples import OPERATIONS, answers, bodies, examples, shown
from tests.unit.ingest.test_routes import ALICE, BOB, CHAT, SECRET, Api

APP: Final = create_app(ApiSettings(auth=AuthSettings.model_validate({"secret": SECRET})))[0]
"""The application of both services; neither Kafka nor Postgres is there."""
COMMANDS: Final = {name for name, operation in OPERATIONS.items() if operation["tags"] == ["commands"]}
LIVE: Final = {name for name, operation in OPERATIONS.items() if operation["tags"] == ["live"]}
NOT_DESCRIBED: Final = {
    "content-type",
    "content-length",
    "date",
    "server",
    "vary",
    "cache-control",
    "x-content-type-options",
}
"""Headers with their usual meaning."""


def faults(schema: dict[str, Any], value: object) -> list[str]:
    whole = schema | {"components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def test_each_operation_has_a_name_of_its_own_that_a_client_can_have() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name), f"{name}: a verb, and what it acts on"


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_body_and_every_answer_shows_an_example_that_fits(name: str) -> None:
    operation = OPERATIONS[name]
    for schema in bodies(operation):
        assert examples(schema)
        for each in examples(schema):
            assert not faults(schema, each)
    for _, schema in answers(operation):
        assert examples(schema)
        for each in examples(schema):
            assert not faults(schema, each)


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for status, response in operation["responses"].items():
        for media_type, media in response.get("content", {}).items():
            yield status, media_type, media


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_status_that_has_a_body_shows_examples_of_that_status(name: str) -> None:
    """A problem's are the documents of all its reasons, as docs/errors.md has them."""
    without_body = {status for status, each in OPERATIONS[name]["responses"].items() if not each.get("content")}
    assert without_body <= {"204", "304"}
    for status, media_type, media in contents(OPERATIONS[name]):
        if status.startswith("2"):
            assert media_type in ("application/json", "text/event-stream"), status
            assert examples(media["schema"]), status
            continue
        assert media_type == PROBLEM_MEDIA_TYPE
        assert media["examples"], status
        for reason, given in media["examples"].items():
            assert given["value"] == example_document(reason)
            assert status in (str(given["value"]["status"]), "default")
            assert not faults(media["schema"], given["value"])
        described = OPERATIONS[name]["responses"][status]["description"]
        assert status == "default" or set(re.findall(r"`(\w+)`:", described)) == media["examples"].keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_parameter_says_what_it_looks_like(name: str) -> None:
    for parameter in OPERATIONS[name].get("parameters", []):
        schema = parameter["schema"]
        assert schema["type"] in {"string", "integer", "array"}, "a parameter is absent, and never null"
        if parameter["name"].endswith("_id") or parameter["name"] == "Gapless-Sender":
            assert (schema["format"], schema["pattern"][:1]) == ("uuid", "^")
        if schema["type"] == "integer":
            assert "minimum" in schema
        if parameter["in"] != "path":
            assert "description" in parameter, parameter["name"]


def test_a_header_is_described_where_it_is_taken_and_nowhere_else() -> None:
    def with_header(header: str) -> set[str]:
        return {name for name, each in OPERATIONS.items() if header in {p["name"] for p in each.get("parameters", [])}}

    keyless = {
        "POST /v1/messages:batch",
        "POST /v1/chats/{chat_id}/read",
        "POST /v1/chats/{chat_id}/delivered",
    }
    assert with_header("Idempotency-Key") == COMMANDS - keyless
    assert with_header("Prefer") == with_header("Gapless-Sender") == COMMANDS
    assert with_header("Gapless-At-Least") == OPERATIONS.keys() - COMMANDS - LIVE - {"GET /v1/me"}
    with pytest.raises(Problem):
        batch.batch_items(b"[]", Envelope(caller_id=ALICE, scopes=frozenset(), key="k"))


PLACES: Final = {"chat_id": CHAT, "user_id": BOB, "seq": "7", "emoji": "👍", "command_id": CHAT}
"""Values of the parameters in paths."""


def calls() -> Iterator[tuple[str, str, Any]]:
    """Yield (operation, path, body) for each command, once with each example of its body, and without one if it may."""
    for name in sorted(COMMANDS):
        operation, path = OPERATIONS[name], name.split()[1].format(**PLACES)
        shown = [body for schema in bodies(operation) for body in examples(schema)]
        if not operation.get("requestBody", {}).get("required"):
            shown.append(None)
        for body in shown:
            yield name, path, body


CALLS: Final = list(calls())


@pytest.mark.parametrize("prefer", [None, "respond-async", "wait=1"])
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
@pytest.mark.parametrize(("name", "path", "body"), CALLS, ids=[f"{name} {n}" for n, (name, _, _) in enumerate(CALLS)])
def test_an_answer_has_the_status_the_body_and_the_headers_that_are_described(
    name: str, path: str, body: Any, bad: bool, prefer: str | None
) -> None:
    headers = {} if "client_generated_id" in json.dumps(body) else {"Idempotency-Key": "k-1"}
    if prefer is not None:
        headers["Prefer"] = prefer
    sent: dict[str, Any] = {"content": b"{"} if bad else {} if body is None else {"json": body}
    limited = Api(rate=RateLimit(rate_per_s=1_000, burst=1_000))
    response = limited.call(name.split()[0], path, headers=headers, **sent)
    assert bad or response.is_success, response.text
    assert response.headers["cache-control"] == "private, no-store"
    described = OPERATIONS[name]["responses"][str(response.status_code)]
    assert response.headers.keys() - described["headers"].keys() - NOT_DESCRIBED <= {
        header.lower() for header in described["headers"]
    }
    sometimes = {"preference-applied"} | ({"ratelimit", "ratelimit-policy"} if bad else set())
    always = {header.lower() for header in described["headers"]} - sometimes
    assert always <= response.headers.keys()
    media = described["content"][response.headers["content-type"]]
    assert not faults(media["schema"], response.json())


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_answer_of_any_path_may_be_stored(name: str) -> None:
    """Errors here; what succeeds, in the test above and in test_every_read_of_the_document_is_private."""
    method, template = name.split()
    path, wrong = template.format(**PLACES), template.format(**dict.fromkeys(PLACES, "x"))
    if any(each["name"] == "q" for each in OPERATIONS[name].get("parameters", [])):
        path += "?q=word"
    body = next(iter(examples(schema) for schema in bodies(OPERATIONS[name])), [None])[0]
    token = {"Authorization": f"Bearer {mint_token(SECRET, ALICE)}"}

    async def ask(method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://api") as client:
            return await client.request(method, path, headers=headers, json=body)

    calls = [
        (method, path, {}),
        (method, path, token if template == BATCH_PATH else token | {"Idempotency-Key": "k-1"}),
        (method, wrong, token | {"Content-Encoding": "br"}),
        ("OPTIONS", path, {}),
        ("TRACE", path, {}),
    ] + ([("HEAD", path, token)] if method == "GET" else [])
    answers = [asyncio.run(ask(*call)) for call in calls]
    assert answers[0].status_code == 401
    expected = 200 if template in ("/v1/me", "/v1/live-tickets") else 503
    assert answers[1].status_code == expected, answers[1].text
    for answer in answers:
        assert answer.headers["cache-control"] == "private, no-store", answer.request


# --- docs/api.md ------------------------------------------------------------------------------------------------


def section(heading: str) -> str:
    text = (Path(__file__).parents[3] / "docs/api.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def test_the_page_shows_an_example_of_every_call_and_it_is_the_documents() -> None:
    assert api_examples.written() == api_examples.generated(), "python -m tests.contract.api_examples --write"
    for name, operation in OPERATIONS.items():
        assert shown(operation), name


LIMITS: Final = {
    "a command": limits.COMMAND_BYTES,
    "a message of a batch, as it is written": batch.ITEM_BYTES,
    "messages of a batch": batch.BATCH_ITEMS,
    "`text`": limits.TEXT_CHARACTERS,
    "`name`": limits.NAME_CHARACTERS,
    "`members`": limits.MEMBERS_PER_COMMAND,
    "`media_urls`": limits.MEDIA_URLS,
    "one of the `media_urls`": limits.MEDIA_URL_CHARACTERS,
    "`metadata`": limits.METADATA_BYTES,
    "objects and arrays inside each other in `metadata`": limits.METADATA_DEPTH,
    "a key": limits.CLIENT_GENERATED_ID_CHARACTERS,
    "an emoji": limits.EMOJI_BYTES,
    "reactions of one user to a message": limits.REACTIONS_OF_A_USER,
    "different emojis on a message": limits.REACTION_KINDS,
    "an integer": limits.SAFE_INTEGER,
    "digits of one number": limits.NUMBER_DIGITS,
    "commas, or opening brackets, outside the strings of a body": limits.BODY_PARTS,
    "query string": MAX_QUERY_BYTES,
    "parameters of a query string": MAX_QUERY_PARAMETERS,
    "`limit` of a page": MAX_LIMIT,
    "`limit` of `changes`, of a sync": MAX_CHANGES,
    "chats that a sync names": MAX_NAMED_CHATS,
    "`since` in a body": MAX_SINCE_CHARACTERS,
    "`cursor`": MAX_CURSOR_CHARACTERS,
    "`q` of a search": MAX_QUERY_CHARACTERS,
    "`Gapless-At-Least`, `at`": AT_LEAST_CHARACTERS,
    "a bearer token": MAX_TOKEN_CHARS,
    "errors that a problem names": MAX_ERRORS,
    "errors that a problem of a message in a batch names": batch.ERRORS_PER_ITEM,
    "`Prefer: wait`": int(LONGEST_WAIT_S),
}


def test_the_limits_of_the_page_are_the_codes() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([\d,]+)[^|]*\|", section("Limits").split("What a body,")[1], re.MULTILINE)
    assert {what: int(figure.replace(",", "")) for what, figure in rows} == LIMITS


def test_the_limits_of_the_document_are_the_codes() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    message = schemas["SendMessage"]["properties"]

    def of(field: dict[str, Any]) -> dict[str, Any]:
        kinds: list[dict[str, Any]] = field.get("anyOf", [field])
        return field | next(kind for kind in kinds if kind.get("type") != "null")

    assert message["text"]["maxLength"] == limits.TEXT_CHARACTERS
    assert of(message["media_urls"])["maxItems"] == limits.MEDIA_URLS
    assert of(message["media_urls"])["items"]["maxLength"] == limits.MEDIA_URL_CHARACTERS
    assert of(message["client_generated_id"])["maxLength"] == limits.CLIENT_GENERATED_ID_CHARACTERS
    group = schemas["CreateChat"]["properties"]
    assert (group["name"]["maxLength"], group["members"]["maxItems"]) == (
        limits.NAME_CHARACTERS,
        limits.MEMBERS_PER_COMMAND,
    )
    assert schemas["MarkUpTo"]["properties"]["up_to_seq"]["maximum"] == limits.SAFE_INTEGER


def test_what_the_page_says_is_not_there_is_not_there() -> None:
    named = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /v1/[^`]+)`", section("What is not there"))
    assert len(named) >= 2
    assert not set(named) & OPERATIONS.keys()
