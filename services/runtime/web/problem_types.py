"""The types of problem documents: every refusal of the HTTP services, declared once.

A type's status, title, texts and example are what `/problems/<reason>`, the OpenAPI document and docs/errors.md show.
After a change, `python -m tests.contract.errors_page --write` writes that page again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from schemas.errors import Reason

_USER: Final = "11111111-1111-4111-8111-111111111111"
_CHAT: Final = "f89e858f-5f2e-5152-b188-6a52cbec990b"
_COMMAND: Final = "c6e6b694-c64b-5364-9024-70428ec7b06e"


class Retry(StrEnum):
    """Whether sending the same request again is safe, and whether it helps."""

    SAME_ANSWER = (
        "Safe, but the answer stays the same until the request, or what it depends on, has changed. Nothing was "
        "accepted, so the key may be used for the corrected request."
    )
    SAFE = "Safe, with a key or without: nothing was accepted."
    UNDER_ITS_KEY = (
        "Safe under the same key. The first try may have been accepted; without a key of its own, the repeat is "
        "another command, and may undo what another device has changed since."
    )
    NEW_KEY = "Safe, but useless under this key, which belongs to the accepted command."


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemType:
    """A kind of refusal. The texts may have code in backticks."""

    status: int
    title: str
    when: str
    action: str
    """What the client should do."""
    retry: Retry
    example: Mapping[str, Any]
    """Arguments of a `Problem` of this type."""


def _rejection(
    reason: Reason, *, when: str, action: str, example: Mapping[str, Any], retry: Retry = Retry.SAME_ANSWER
) -> dict[str, ProblemType]:
    """Return the entry of a command's rejection; status and title are declared with the reason."""
    declared = ProblemType(
        status=reason.status, title=reason.meaning, when=when, action=action, retry=retry, example=example
    )
    return {reason.value: declared}


def _at(pointer: str, detail: str) -> dict[str, Any]:
    """Return the arguments of a problem whose detail is about one place of the body."""
    return {"detail": detail, "errors": [{"pointer": pointer, "detail": detail}]}


PROBLEM_TYPES: Final[Mapping[str, ProblemType]] = {
    **_rejection(
        Reason.MALFORMED,
        when="The body is not JSON, a field is missing, unknown or of the wrong form, or a parameter is out of range.",
        action="Correct the request. `errors` names each place by a JSON pointer.",
        example={
            "detail": "The request does not have the expected form: see errors.",
            "errors": [{"in": "body", "pointer": "/text", "detail": "Field required"}],
        },
    ),
    "missing_key": ProblemType(
        status=400,
        title="No idempotency key",
        when="A command that needs a key of your own has none.",
        action="Send the header `Idempotency-Key` or the field `client_generated_id`: 1 to 128 visible ASCII "
        "characters, fresh for each new message and the same for each retry, so that a retry never counts twice. In a "
        "batch each message has its own, in that field.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "Send the header Idempotency-Key or the field client_generated_id."},
    ),
    "unauthorized": ProblemType(
        status=401,
        title="No valid token",
        when="The request has no bearer token, or one that is expired, wrongly signed or meant for another audience.",
        action="Get a new token and send it as `Authorization: Bearer <token>`.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "Send a token in the header Authorization: Bearer <token>."},
    ),
    **_rejection(
        Reason.NOT_MEMBER,
        when="You were a member of this chat and no longer are.",
        action="Ask one of its admins to add you again. If every member has left a group that you created, join it "
        'again as owner: `PUT /v1/chats/{chat_id}/members/{your user_id}` with `{"role": "owner"}`.',
        example={"detail": "You are no longer a member of this chat."},
    ),
    **_rejection(
        Reason.FORBIDDEN,
        when="Your role in the chat, or the scope of your token, does not allow this.",
        action="Ask an admin of the chat, or use a token with the scope that the detail names.",
        example={"detail": "A message is edited by its author alone."},
    ),
    **_rejection(
        Reason.UNKNOWN_CHAT,
        when="There is no chat with this id, or you never were a member of it: the answer is the same, so that it does "
        "not reveal which chats exist.",
        action="Check the id, or ask a member to add you.",
        example={"detail": "There is no chat with this id, or you never were a member of it."},
    ),
    **_rejection(
        Reason.UNKNOWN_MESSAGE,
        when="The chat has no message with this seq or id, or it was deleted and can be neither changed nor reacted "
        "to.",
        action="Read the chat again, and show the message as it is now.",
        example={"detail": "The message was deleted."},
    ),
    "unknown_command": ProblemType(
        status=404,
        title="No such command",
        when="No outcome of this command is known to you: it was never sent, it is older than seven days, or another "
        "user sent it.",
        action="Send the command again under the same key: if it was accepted, you get the original's figures.",
        retry=Retry.SAFE,
        example={"detail": "No outcome of a command with this id is known to you."},
    ),
    "cursor_of_another_log": ProblemType(
        status=409,
        title="A cursor of another log",
        when="`since` is a place in another log than this server's: it is of another system, or all data was put back "
        "to an empty log.",
        action="Delete what you have of the chats, and sync without `since`.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "The cursor is of another log: sync without one."},
    ),
    "not_found": ProblemType(
        status=404,
        title="No such path",
        when="There is nothing at this path.",
        action="Correct the path. The paths that exist are listed in `/openapi.json`.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "There is nothing at this path."},
    ),
    "method_not_allowed": ProblemType(
        status=405,
        title="Method not allowed",
        when="The path exists, but not with this method.",
        action="Use one of the methods in the header `Allow`.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "This path has no PUT."},
    ),
    "request_timeout": ProblemType(
        status=408,
        title="The request did not arrive in time",
        when="The head or the body of the request was not complete within its deadline.",
        action="Send the whole request again on a new connection.",
        retry=Retry.SAFE,
        example={"detail": "The body was not complete within 30 s."},
    ),
    **_rejection(
        Reason.CHAT_EXISTS,
        when="You created another group of this name before; `chat_id` is that one. Leaving a group does not free its "
        "name.",
        action='Use that group, choose another name, or send `"unique_name": false` to have several groups of one '
        "name. If every member has left it, you, its creator, may join it again as owner: "
        '`PUT /v1/chats/{chat_id}/members/{your user_id}` with `{"role": "owner"}`.',
        example={
            "detail": "You created another group of this name, which chat_id names: use it (if everyone has left, join "
            f"it again by PUT /v1/chats/{_CHAT}/members/{_USER} with the role owner), choose another name, or send "
            '"unique_name": false.',
            "chat_id": _CHAT,
        },
    ),
    **_rejection(
        Reason.STALE,
        when="The message does not have the revision that `If-Match` names: it was edited since you read it. "
        "`revision` is the one it has.",
        action="Read the message at `message_url`, with `Gapless-At-Least: <token>` to see at least that revision, and "
        "edit what it says now under a fresh key.",
        example={
            "detail": "The message has revision 2.",
            "revision": 2,
            "message_url": f"/v1/chats/{_CHAT}/messages/1",
            "token": "5:1044",
        },
    ),
    **_rejection(
        Reason.TOO_LARGE,
        when="The body, or the command it would become, is larger than the limit that the detail names.",
        action="Send less at once, or link to large content instead of embedding it.",
        example=_at("/text", "A text has at most 16384 characters."),
    ),
    "uri_too_long": ProblemType(
        status=414,
        title="The URL is too long",
        when="The URL, or its query string, is longer than the limit that the detail names.",
        action="Send only parameters of the path; `/openapi.json` lists them. All of them fit many times over.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "A path with its query has at most 8192 bytes."},
    ),
    "unsupported_media_type": ProblemType(
        status=415,
        title="Unsupported content type or encoding",
        when="The body is compressed, or its `Content-Type` is not JSON in UTF-8.",
        action="Send `Content-Type: application/json` and no `Content-Encoding`. The headers `Accept` and "
        "`Accept-Encoding` of the answer name what is accepted.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "The body is read as application/json in UTF-8."},
    ),
    **_rejection(
        Reason.CONFLICT,
        when="A command with this key and another content was accepted before.",
        action="If you meant a new command, give it a fresh key. If you meant a retry, send exactly what you sent the "
        "first time.",
        retry=Retry.NEW_KEY,
        example={"detail": "This client_generated_id was used with another payload."},
    ),
    **_rejection(
        Reason.INVALID,
        when="The request is well formed, but its content breaks a limit or does not fit the state of the chat.",
        action="Correct what `errors` names. The detail says what would be valid.",
        example=_at("/media_urls", "A message has at most 10 media_urls."),
    ),
    "rate_limited": ProblemType(
        status=429,
        title="Too many requests",
        when="You send more than `GAPLESS_INGEST_RATE_PER_S`, or too many requests with one token are in progress.",
        action="Wait for the seconds in `Retry-After`, then send the same request again.",
        retry=Retry.SAFE,
        example={"detail": "You send requests faster than allowed.", "retry_after_s": 1},
    ),
    "headers_too_large": ProblemType(
        status=431,
        title="Too many or too large header fields",
        when="The request has more header fields, or larger ones, than the limit that the detail names.",
        action="Send less. Cookies and long tokens are the usual reason.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "A request has at most 100 header fields, of 32768 bytes in all."},
    ),
    "internal": ProblemType(
        status=500,
        title="An error on our side",
        when="An unexpected error occurred. Whether a command was accepted is unknown.",
        action="Send the request again under the same key. If it happens again, report the `request_id`.",
        retry=Retry.UNDER_ITS_KEY,
        example={"detail": "This request could not be answered; its id is in our log."},
    ),
    "unknown_method": ProblemType(
        status=501,
        title="No such method",
        when="The first word of the request is not an HTTP method that this server knows.",
        action="Correct the method. Methods are written in capitals.",
        retry=Retry.SAME_ANSWER,
        example={"detail": "HTTP/1.1 has no such method, or none that is known here."},
    ),
    **_rejection(
        Reason.UNKNOWN_TYPE,
        when="The sequencer that serves this chat does not know this type of command yet.",
        action="Try again after the servers have been upgraded.",
        retry=Retry.SAFE,
        example={"detail": "No such command type, or none that is decided yet."},
    ),
    "unavailable": ProblemType(
        status=503,
        title="Not available at the moment",
        when="Kafka or Postgres cannot be reached, too many requests are in progress, or the read model has not caught "
        "up to what you asked for. A command was not accepted, or, if the answer has its `command_id`, its outcome is "
        "unknown and can be queried.",
        action="Wait for the seconds in `Retry-After`, then send the request again under the same key.",
        retry=Retry.UNDER_ITS_KEY,
        example={
            "detail": "It is unknown whether the command is in the log: query its outcome, or send it again with the "
            "same key.",
            "retry_after_s": 1,
            "chat_id": _CHAT,
            "command_id": _COMMAND,
        },
    ),
}
