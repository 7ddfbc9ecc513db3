"""From an HTTP request to the command it asks for, checked; or the problem that says what is wrong with it. Pure.

Bodies are parsed here and not by the framework, in the order that keeps a parser from seeing what it should not:
guard (depth, digits), parse, limits. The writer checks all of it again, and what it says counts.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from schemas import ids, limits
from schemas.bodies import (
    FIRST_FAULT,
    Body,
    ChatCreate,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageSend,
    Role,
    canonical_body,
)
from schemas.checks import check_limits
from schemas.errors import Reason, Refused
from schemas.guard import guard_before_parsing, unknown_fields
from schemas.ids import ChatId, CommandId, UserId
from schemas.types import BODY_OF, CommandType
from schemas.wire.encoding import Command
from services.ingest.api.duplicates import duplicate_member
from services.ingest.api.keys import fresh_key, required_key
from services.runtime.web.openapi import example
from services.runtime.web.problem_handlers import MAX_ERRORS, unknown_fields_problem, validation_problem
from services.runtime.web.problems import Problem

PRODUCER: Final = "producer"
"""Scope of those who send for others."""
IMPORT: Final = "import"
"""Scope of those who may say when a message was first sent."""

UUID_PATTERN: Final = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
AnyCaseUuid = Annotated[
    str, StringConstraints(pattern=UUID_PATTERN, to_lower=True), Field(json_schema_extra={"format": "uuid"})
]
"""Taken in any case, kept in the one form that the wire knows."""


class RequestBody(BaseModel):
    """What a client sends. Unknown fields are refused, so that a misspelt one is not lost silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Key = Annotated[
    str,
    Field(
        description="Your key of this command, unless it is in the header Idempotency-Key.",
        json_schema_extra={
            "minLength": 1,
            "maxLength": limits.CLIENT_GENERATED_ID_CHARACTERS,
            "pattern": "^[!-~]+$",
        },
    ),
]
MediaUrl = Annotated[
    str, Field(json_schema_extra={"maxLength": limits.MEDIA_URL_CHARACTERS, "pattern": "^https?://", "format": "uri"})
]


class CreateChat(RequestBody):
    model_config = example(
        {
            "kind": "group",
            "name": "ops",
            "members": ["22222222-2222-4222-8222-222222222222"],
        }
    )

    kind: Literal["group"]
    name: str = Field(json_schema_extra={"minLength": 1, "maxLength": limits.NAME_CHARACTERS})
    unique_name: bool = Field(
        default=True,
        description="false: another group of yours may have this name; the chat's id comes from your key instead, which"
        " is then unique among all groups that you create so.",
    )
    members: Annotated[list[AnyCaseUuid], FIRST_FAULT] = Field(
        default_factory=list, json_schema_extra={"maxItems": limits.MEMBERS_PER_COMMAND, "uniqueItems": True}
    )
    client_generated_id: Key | None = None
    sender_id: AnyCaseUuid | None = Field(default=None, description="For scope producer.")


# The command's body, and the fields that go into its record's headers: validated once, without a copy in between.
class SendMessage(RequestBody, MessageSend):
    model_config = example(
        {
            "text": "Is the log gap-free?",
            "media_urls": ["https://example.org/proof.png"],
            "metadata": {"topic": "logs"},
        }
    )

    text: str = Field(
        description="Empty only if media_urls is not.", json_schema_extra={"maxLength": limits.TEXT_CHARACTERS}
    )
    reply_to_message_id: AnyCaseUuid | None = None
    media_urls: Annotated[list[MediaUrl], FIRST_FAULT] | None = Field(
        default=None, json_schema_extra={"maxItems": limits.MEDIA_URLS}
    )
    metadata: dict[str, Any] | None = Field(default=None, description="Any JSON object, at most 16 KiB.")
    original_sent_at: str | None = Field(
        default=None, description="For scope import.", json_schema_extra={"format": "date-time"}
    )
    client_generated_id: Key | None = None
    sender_id: AnyCaseUuid | None = Field(default=None, description="For scope producer.")


class BatchMessage(SendMessage):
    """One message of a batch."""

    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "client_generated_id": "hello-1",
            "text": "Is the log gap-free?",
        }
    )

    chat_id: AnyCaseUuid


SEQ_DIGITS: Final = 19
"""More than any seq has; what they say is for the limits."""
BATCH_ITEMS: Final = 1_000
ERRORS_PER_ITEM: Final = 5
"""Reported of one message of a batch."""
ITEM_BYTES: Final = 512 * 1024
"""One message of a batch as it is written. Its command, which has no white space and no needless escapes, is limited
further; this bounds what is parsed to find that out."""
_LINE: Final = re.compile(rb"[^ \t\r\n][^\n]*")
_ARRAY: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Items",
        [(f"item_{index}", msgspec.Raw, None) for index in range(BATCH_ITEMS)],
        array_like=True,
        forbid_unknown_fields=True,
    )
)
"""An array of at most BATCH_ITEMS: unlike a list, it is given up at the first item too many."""


class AddMember(RequestBody):
    model_config = example({"role": "admin"})

    role: Role = "member"


class ChangeRole(RequestBody):
    model_config = example({"role": "owner"})

    role: Role


class MarkUpTo(RequestBody):
    model_config = example({"up_to_seq": 1})

    up_to_seq: int = Field(json_schema_extra={"minimum": 0, "maximum": limits.SAFE_INTEGER})


class NoFields(RequestBody):
    """No body, or an empty object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a request says beside its body."""

    caller_id: str
    scopes: frozenset[str]
    key: str | None = None
    """Of the header Idempotency-Key."""
    sender: str | None = None
    """The header Gapless-Sender, as it came."""
    traceparent: str | None = None


def create_chat(raw: bytes, envelope: Envelope) -> Command:
    """The command that creates a group. This and the others below raise Problem."""
    wanted = _parse(CreateChat, raw)
    sender_id = _sender(envelope, wanted.sender_id)
    key = required_key(envelope.key, wanted.client_generated_id)
    body = ChatCreate(kind="group", name=wanted.name, members=wanted.members)
    _check(body)  # before the name goes into an id: UTF-8 must be able to hold it
    chat_id = ids.group_chat_id(sender_id, wanted.name) if wanted.unique_name else ids.keyed_chat_id(sender_id, key)
    return _command(CommandType.CHAT_CREATE, body, chat_id, sender_id, key, envelope)


def open_direct_chat(raw: bytes, user_id: str, envelope: Envelope) -> Command:
    _parse(NoFields, raw or b"{}")
    sender_id = _sender(envelope)
    other = UserId(user_id)
    body = ChatCreate(kind="direct", members=[other] if other != sender_id else [])
    chat_id = ids.direct_chat_id(sender_id, other)
    return _command(CommandType.CHAT_CREATE, body, chat_id, sender_id, envelope.key or fresh_key(), envelope)


def add_member(raw: bytes, chat_id: str, user_id: str, envelope: Envelope) -> tuple[Command, Command | None]:
    """The command that adds a member; and, if the request names a role, the one that gives it to a present member.

    Both have one key, so at most one of them is ever accepted, however often the request is sent.
    """
    wanted = _parse(AddMember, raw or b"{}")
    key, sender_id = envelope.key or fresh_key(), _sender(envelope)
    body = MemberAdd(user_id=user_id, role=wanted.role)
    add = _command(CommandType.MEMBER_ADD, body, ChatId(chat_id), sender_id, key, envelope)
    if "role" not in wanted.model_fields_set:
        return add, None
    role = MemberRole(user_id=user_id, role=wanted.role)
    return add, _command(CommandType.MEMBER_ROLE, role, ChatId(chat_id), sender_id, key, envelope)


def change_role(raw: bytes, chat_id: str, user_id: str, envelope: Envelope) -> Command:
    body = MemberRole(user_id=user_id, role=_parse(ChangeRole, raw).role)
    key = envelope.key or fresh_key()
    return _command(CommandType.MEMBER_ROLE, body, ChatId(chat_id), _sender(envelope), key, envelope)


def remove_member(raw: bytes, chat_id: str, user_id: str, envelope: Envelope) -> Command:
    _parse(NoFields, raw or b"{}")
    body = MemberRemove(user_id=user_id)
    key = envelope.key or fresh_key()
    return _command(CommandType.MEMBER_REMOVE, body, ChatId(chat_id), _sender(envelope), key, envelope)


def send_message(raw: bytes, chat_id: str, envelope: Envelope) -> Command:
    return _sent(_parse(SendMessage, raw), chat_id, envelope)


def batch_items(raw: bytes, envelope: Envelope) -> Sequence[bytes | msgspec.Raw]:
    """The messages of a batch as they are written, each for `batch_message`.

    Raises Problem where there are no items to tell apart, or too many.
    """
    if envelope.key is not None:
        detail = "Each message of a batch has a key of its own, in client_generated_id."
        raise Problem("malformed", detail, errors=[{"in": "header", "pointer": "/idempotency-key", "detail": detail}])
    return _items(raw)


def batch_message(item: bytes | msgspec.Raw, envelope: Envelope) -> Command | Problem:
    """The command of one message of a batch, or what is wrong with it."""
    try:
        written = bytes(item)
        if len(written) > ITEM_BYTES:
            raise Problem("too_large", f"A message of a batch has at most {ITEM_BYTES} bytes.", limit_bytes=ITEM_BYTES)
        wanted = _parse(BatchMessage, written, ERRORS_PER_ITEM)
        if wanted.client_generated_id is None:
            raise Problem("missing_key", "Each message of a batch needs its key in the field client_generated_id.")
        return _sent(wanted, wanted.chat_id, envelope)
    except Problem as problem:
        return problem


def _items(raw: bytes) -> Sequence[bytes | msgspec.Raw]:
    """The items of a JSON array, or the lines of NDJSON, none of them looked into. Raises Problem."""
    first = _LINE.search(raw)
    if first is None:
        raise Problem("malformed", "A batch is a JSON array of messages, or one message on each line.")
    if not first[0].startswith(b"["):
        lines = [line[0] for line in islice(_LINE.finditer(raw), BATCH_ITEMS + 1)]
        if len(lines) > BATCH_ITEMS:
            raise _too_many_items()
        return lines
    try:
        items = msgspec.structs.astuple(_ARRAY.decode(raw))
    except msgspec.ValidationError:
        raise _too_many_items() from None
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise Problem("malformed", "The body cannot be read as JSON.") from None
    return items if items[-1] is not None else items[: items.index(None)]


def _too_many_items() -> Problem:
    return Problem("too_large", f"A batch has at most {BATCH_ITEMS} messages.", limit=BATCH_ITEMS)


def _sent(wanted: SendMessage, chat_id: str, envelope: Envelope) -> Command:
    sender_id = _sender(envelope, wanted.sender_id)
    if wanted.original_sent_at is not None and IMPORT not in envelope.scopes:
        detail = "Only a token with the scope import may set original_sent_at."
        raise Problem("forbidden", detail, errors=[{"pointer": "/original_sent_at", "detail": detail}])
    key = required_key(envelope.key, wanted.client_generated_id)
    _check(wanted, MessageSend)
    return _command(CommandType.MESSAGE_SEND, wanted, ChatId(chat_id), sender_id, key, envelope)


def delete_message(raw: bytes, chat_id: str, seq: int, envelope: Envelope) -> Command:
    _parse(NoFields, raw or b"{}")
    body = MessageDelete(seq=seq)
    _check(body)
    key = envelope.key or fresh_key()
    return _command(CommandType.MESSAGE_DELETE, body, ChatId(chat_id), _sender(envelope), key, envelope)


def mark(
    command_type: Literal[CommandType.READ_MARK, CommandType.DELIVERED_MARK],
    raw: bytes,
    chat_id: str,
    envelope: Envelope,
) -> tuple[Command, int]:
    """The receipt and how far it goes. It has no key, and an id only so that its outcome can be looked up."""
    up_to_seq = _parse(MarkUpTo, raw).up_to_seq
    body = Mark(up_to_seq=up_to_seq)
    _check(body)
    command = Command(
        offset=-1,
        type=command_type.value,
        body=canonical_body(body),
        chat_id=ChatId(chat_id),
        sender_id=_sender(envelope),
        command_id=CommandId(str(uuid.uuid4())),
        traceparent=envelope.traceparent,
    )
    return command, up_to_seq


def _command(
    command_type: CommandType, body: Body, chat_id: ChatId, sender_id: UserId, key: str, envelope: Envelope
) -> Command:
    raw = canonical_body(body, BODY_OF[command_type])
    if len(raw) > limits.COMMAND_BYTES:
        raise problem_of(Refused(Reason.TOO_LARGE, f"a command has at most {limits.COMMAND_BYTES} bytes"))
    return Command(
        offset=-1,  # the log gives it one
        type=command_type.value,
        body=raw,
        chat_id=chat_id,
        sender_id=sender_id,
        client_generated_id=key,
        command_id=ids.command_id(chat_id, sender_id, key),
        traceparent=envelope.traceparent,
    )


def _sender(envelope: Envelope, in_body: str | None = None) -> UserId:
    """Who the command is from: the caller, or whom a producer names."""
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
    """A UUID in the form of the wire, from one in any case."""
    lower = text.lower()
    return lower if text.isascii() and ids.is_uuid(lower) else None


def seq_or_none(text: str) -> int | None:
    """A seq as it stands in a path."""
    if not (text.isascii() and text.isdigit() and len(text) <= SEQ_DIGITS) or text[0] == "0":
        return None
    return int(text)


BodyT = TypeVar("BodyT", bound=RequestBody)


def _parse(model: type[BodyT], raw: bytes, most_errors: int = MAX_ERRORS) -> BodyT:
    try:
        guard_before_parsing(raw)
        colons = raw.count(b":")
        unknown = unknown_fields(model, raw, most_errors, colons)
        if unknown:
            raise unknown_fields_problem(("body", name) for name in unknown)
        # What model_validate_json calls, without its handling of options that are not used here.
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
        detail = "This member is there twice: send it once."
        raise Problem("malformed", detail, errors=[{"in": "body", "pointer": twice, "detail": detail}])
    return body


def _check(body: Body, model: type[Body] | None = None) -> None:
    try:
        check_limits(body, model)
    except Refused as refused:
        raise problem_of(refused) from None


def problem_of(refused: Refused) -> Problem:
    """What the contract refuses, as an answer: the reason decides the status, the pointer says where."""
    detail = f"{refused.detail[:1].upper()}{refused.detail[1:]}."
    return Problem(refused.reason.value, detail, errors=[{"pointer": refused.pointer, "detail": detail}])
