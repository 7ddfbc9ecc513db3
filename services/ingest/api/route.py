"""The parts that all paths share: the request without its body, ids in the path, and descriptions for OpenAPI.

FastAPI generates the OpenAPI document from declarations. But `CommandRoute` reads the headers and the path, bodies are
parsed from their raw bytes, and responses are rendered by hand, so all of these are described to it here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Path
from pydantic import BaseModel

from schemas.wire.encoding import is_traceparent
from services.ingest.api.keys import key_in_header
from services.ingest.api.requests import Envelope, RequestBody, seq_or_none, wire_uuid_or_none
from services.ingest.api.responses import OutcomePending
from services.runtime.access.auth import Caller, authenticated, current_caller
from services.runtime.web.fast_routes import FastRequest, FastResponse, FastRoute
from services.runtime.web.media_types import check_content
from services.runtime.web.openapi import problem_responses
from services.runtime.web.validation_problems import validation_problem

BATCH_PATH: Final = "/v1/messages:batch"
"""The one path that takes NDJSON."""


_NO_UUID: Final = "Not a UUID such as 11111111-1111-4111-8111-111111111111."
_NO_SEQ: Final = "Not a seq: a whole number, 1 or higher."
_UUID_SCHEMA: Final = {"format": "uuid"}
ChatIdInPath = Annotated[str, Path(alias="chat_id", json_schema_extra=_UUID_SCHEMA)]
SeqInPath = Annotated[int, Path(alias="seq", ge=1)]
EmojiInPath = Annotated[str, Path(alias="emoji", min_length=1, examples=["👍"])]
UserIdInPath = Annotated[str, Path(alias="user_id", json_schema_extra=_UUID_SCHEMA)]


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """The parts of a request that all paths read: caller, headers, preference."""

    request: FastRequest
    envelope: Envelope
    prefer: Sequence[str]


async def _command_request(request: FastRequest) -> CommandRequest:
    """Read and check the headers. Raises Problem; authentication comes first."""
    scope = request.scope
    caller = await authenticated(scope["app"].state.authenticator, request.header(b"authorization"))
    check_content(request, ndjson=scope["path"] == BATCH_PATH)
    traceparent = scope["state"]["traceparent"]
    keys = request.header_lines(b"idempotency-key")
    envelope = Envelope(
        caller_id=caller.user_id,
        scopes=caller.scopes,
        key=key_in_header(keys) if keys else None,
        sender=request.header(b"gapless-sender"),
        traceparent=traceparent if is_traceparent(traceparent) else None,
    )
    return CommandRequest(request, envelope, request.header_lines(b"prefer"))


async def _described_keyed(
    caller: Annotated[Caller, Depends(current_caller)],
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Your key of this command: the same for each retry, fresh for a new one. A quoted string"
            " (RFC 8941; parameters are ignored), or bare if it has no space."
        ),
    ] = None,
    gapless_sender: Annotated[str | None, Header(description="For scope producer: on whose behalf.")] = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N` (seconds, at most 30), `respond-async` (RFC 7240).")
    ] = None,
) -> CommandRequest:
    """Describe the headers that `_command_request` reads, for OpenAPI. FastAPI uses the signature; never called."""
    raise NotImplementedError


async def _described_without_key(
    caller: Annotated[Caller, Depends(current_caller)],
    gapless_sender: Annotated[str | None, Header(description="For scope producer: on whose behalf.")] = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N` (seconds, at most 30), `respond-async` (RFC 7240).")
    ] = None,
) -> CommandRequest:
    """Describe the same for paths that take no key."""
    raise NotImplementedError


class CommandRoute(FastRoute):
    """A path of ingest: its handler takes the ids in the path, and the parts of the request that all paths read."""

    async def respond(self, request: FastRequest) -> FastResponse:
        command_request = await _command_request(request)
        answer: FastResponse = await self.endpoint(command_request=command_request, **_in_path(request.path_params))
        return answer


def _in_path(path_params: Mapping[str, str]) -> dict[str, str | int]:
    """Return the ids in the path in their wire form, and a seq. Raises Problem that names every invalid one."""
    found: dict[str, str | int] = {}
    wrong: list[dict[str, Any]] = []
    for name, text in path_params.items():
        if name == "emoji":  # as in a command; %2F is not decoded before, because it is no separator here
            found[name] = text.replace("%2F", "/").replace("%2f", "/")
            continue
        is_seq = name == "seq"
        value = seq_or_none(text) if is_seq else wire_uuid_or_none(text)
        if value is None:
            wrong.append({"loc": ("path", name), "type": "value_error", "msg": _NO_SEQ if is_seq else _NO_UUID})
        else:
            found[name] = value
    if wrong:
        raise validation_problem(wrong)
    return found


KeyedRequest = Annotated[CommandRequest, Depends(_described_keyed)]
UnkeyedRequest = Annotated[CommandRequest, Depends(_described_without_key)]
"""For paths on which a key has no meaning (receipts), or is in the body of each message (batches)."""


def described(
    body: type[RequestBody] | None, answer: type[BaseModel], *, created: bool = False, required: bool = True
) -> dict[str, Any]:
    """Describe the body and the successful response for OpenAPI."""
    described: dict[str, Any] = {"response_model": answer, "status_code": 201 if created else 200}
    if body is not None:
        content = {"application/json": {"schema": body.model_json_schema()}}
        described["openapi_extra"] = {"requestBody": {"required": required, "content": content}}
    return described


def other_responses(repeated: type[BaseModel] | None, *reasons: str) -> dict[int | str, dict[str, Any]]:
    """Return the other responses of a path: to a repeat, to a command not decided yet, and its problems."""
    shared = (
        "unauthorized", "malformed", "forbidden", "unsupported_media_type", "invalid", "rate_limited", "unavailable"
    )  # fmt: skip
    by_status = problem_responses(*shared, *reasons)
    by_status[202] = {"model": OutcomePending, "description": "In the log; query its outcome at Location."}
    if repeated is not None:
        by_status[200] = {"model": repeated, "description": "A repeat: the figures of the original."}
    return by_status
