"""The parts that all requests share: the sender, the parsing of bodies, and the building of the command. Pure.

Bodies are parsed here and not by the framework, in an order that protects the parser: guard (depth, digits), parse,
limits. The writer checks everything again, and its decision counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from schemas import ids, limits
from schemas.bodies import Body, canonical_body
from schemas.errors import Reason, Refused
from schemas.guard import guard_before_parsing
from schemas.ids import ChatId, UserId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from services.ingest.api.duplicates import duplicate_member
from services.ingest.api.keys import fresh_key
from services.ingest.api.unknown import unknown_fields
from services.runtime.web.problems import Problem
from services.runtime.web.validation_problems import MAX_ERRORS, unknown_fields_problem, validation_problem

PRODUCER: Final = "producer"
"""Scope that allows sending for other users."""
IMPORT: Final = "import"
"""Scope that allows setting the time at which a message was originally sent."""
UUID_PATTERN: Final = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
AnyCaseUuid = Annotated[
    str, StringConstraints(pattern=UUID_PATTERN, to_lower=True), Field(json_schema_extra={"format": "uuid"})
]
"""A UUID, accepted in any case and normalised to the wire form."""
FIRST_FAULT: Final[Any] = Field(fail_fast=True)
"""The first wrong item says enough: to list the 130,000 that one body can hold takes a third of a second."""


class RequestBody(BaseModel):
    """A request body. Unknown fields are refused, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Key = Annotated[
    str,
    Field(
        description="Your key of this command, unless you send it in the header Idempotency-Key.",
        json_schema_extra={
            "minLength": 1,
            "maxLength": limits.CLIENT_GENERATED_ID_CHARACTERS,
            "pattern": "^[!-~]+$",
        },
    ),
]


class NoFields(RequestBody):
    """No body, or an empty object."""


SEQ_DIGITS: Final = 19
"""Maximum digits of a seq in a path; its value is checked by the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A request without its body."""

    caller_id: str
    scopes: frozenset[str]
    key: str | None = None
    """The key in the header Idempotency-Key."""
    sender: str | None = None
    """The header Gapless-Sender, unchecked."""
    traceparent: str | None = None


def build_change(command_type: CommandType, body: Body, chat_id: str, envelope: Envelope) -> Command:
    """Return a command that is idempotent by its effect: without a key in the headers it gets a fresh one.

    Raises Problem if the body is outside a limit.
    """
    check_body(body)
    key = envelope.key or fresh_key()
    return build_command(command_type, body, ChatId(chat_id), sender_of(envelope), key, envelope)


def build_command(
    command_type: CommandType, body: Body, chat_id: ChatId, sender_id: UserId, key: str, envelope: Envelope
) -> Command:
    raw = canonical_body(body)
    if len(raw) > limits.COMMAND_BYTES:
        raise problem_of(Refused(Reason.TOO_LARGE, f"a command has at most {limits.COMMAND_BYTES} bytes"))
    return Command(
        offset=-1,  # the log assigns it
        type=command_type.value,
        body=raw,
        chat_id=chat_id,
        sender_id=sender_id,
        client_generated_id=key,
        command_id=ids.command_id(chat_id, sender_id, key),
        traceparent=envelope.traceparent,
    )


def sender_of(envelope: Envelope, in_body: str | None = None) -> UserId:
    """Return the sender of the command: the caller, or the user that a producer names."""
    named = in_body
    if envelope.sender is not None:
        in_header = wire_uuid_or_none(envelope.sender.strip())
        if in_header is None:
            raise _sender_malformed("The header Gapless-Sender is not a UUID.")
        if in_body is not None and in_body != in_header:
            raise _sender_malformed("The header Gapless-Sender and sender_id name two senders: send one of them.")
        named = in_header
    if named is None or named == envelope.caller_id:
        return UserId(envelope.caller_id)
    if PRODUCER not in envelope.scopes:
        raise Problem("forbidden", "Only a token with the scope producer may send for another user.")
    return UserId(named)


def _sender_malformed(detail: str) -> Problem:
    error = {"in": "header", "pointer": "/gapless-sender", "detail": detail}
    return Problem("malformed", detail, errors=[error])


def wire_uuid_or_none(text: str) -> str | None:
    """Return a UUID in its wire form, or None if the text is not a UUID in any case."""
    lower = text.lower()
    return lower if text.isascii() and ids.is_uuid(lower) else None


def seq_or_none(text: str) -> int | None:
    """Return a seq from a path, or None if the text is not one."""
    if not (text.isascii() and text.isdigit() and len(text) <= SEQ_DIGITS) or text[0] == "0":
        return None
    return int(text)


BodyT = TypeVar("BodyT", bound=RequestBody)


def parse_body(model: type[BodyT], raw: bytes, most_errors: int = MAX_ERRORS) -> BodyT:
    try:
        guard_before_parsing(raw)
        colons = raw.count(b":")
        unknown = unknown_fields(model, raw, most_errors, colons)
        if unknown:
            raise unknown_fields_problem(("body", name) for name in unknown)
        # As model_validate_json, without its handling of unused options.
        body: BodyT = model.__pydantic_validator__.validate_json(raw)
        twice = duplicate_member(raw, len(body.model_fields_set), colons)
    except Refused as refused:
        raise problem_of(refused) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        located = ({**each, "loc": ("body", *each["loc"])} for each in found)
        raise validation_problem(located, most=most_errors) from None
    except (ValueError, RecursionError):
        raise Problem("malformed", "The body cannot be read as JSON.") from None
    if twice is not None:
        detail = "This member occurs twice: send it once."
        raise Problem("malformed", detail, errors=[{"in": "body", "pointer": twice, "detail": detail}])
    return body


def check_body(body: Body) -> None:
    try:
        body.check_limits()
    except Refused as refused:
        raise problem_of(refused) from None


def problem_of(refused: Refused) -> Problem:
    """Return the contract's refusal as a problem: its reason determines the status, its pointer names the place."""
    detail = f"{refused.detail[:1].upper()}{refused.detail[1:]}."
    return Problem(refused.reason.value, detail, errors=[{"pointer": refused.pointer, "detail": detail}])
