"""Problem documents (RFC 9457): every refusal of the HTTP services, with its status, declared once.

Raise `Problem("unknown_chat", "There is no chat with this id, or you never were a member of it.")` anywhere in
a request; `problem_handlers` turns it into the response. `type` is `/problems/<reason>`, which resolves to a page
with the explanation below. A detail is one sentence for a person and never repeats a message's text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from schemas.errors import Reason

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemType:
    """A kind of refusal: its HTTP status, its title and what to do about it."""

    status: int
    title: str
    explanation: str


def rejection(reason: Reason, explanation: str) -> dict[str, ProblemType]:
    """Return the entry of a command's rejection; status and title are declared with the reason."""
    return {reason.value: ProblemType(status=reason.status, title=reason.meaning, explanation=explanation)}


PROBLEM_TYPES: Final[Mapping[str, ProblemType]] = {
    "unauthorized": ProblemType(
        status=401,
        title="No valid token",
        explanation="The request carries no bearer token, or one that is expired, wrongly signed or meant for "
        "someone else. Get a new token and send it as `Authorization: Bearer <token>`. Nothing was accepted.",
    ),
    **rejection(
        Reason.MALFORMED,
        "The body is not JSON, a field is missing, unknown or of the wrong form, or a parameter is "
        "out of range. `errors` names each place by a JSON pointer. Correct the request; sending the same one "
        "again returns the same answer.",
    ),
    "missing_key": ProblemType(
        status=400,
        title="No idempotency key",
        explanation="A command needs a key of your own, so that a retry never counts twice: send the header "
        "`Idempotency-Key` or the field `client_generated_id`, 1 to 128 visible ASCII characters, fresh for "
        "each new message and the same for each retry. In a batch each message has its own, in that field.",
    ),
    **rejection(
        Reason.NOT_MEMBER,
        "You were a member of this chat and no longer are. Ask one of its admins to add you again. If "
        "every member has left a group that you created, join it again as owner: "
        '`PUT /v1/chats/{chat_id}/members/{your user_id}` with `{"role": "owner"}`.',
    ),
    **rejection(
        Reason.FORBIDDEN,
        "Your role in the chat, or the scope of your token, does not allow this. Ask an admin of "
        "the chat, or use a token with the scope that the detail names.",
    ),
    **rejection(
        Reason.UNKNOWN_CHAT,
        "There is no chat with this id, or you never were a member of it: the answer is the same, so "
        "that it does not reveal which chats exist.",
    ),
    **rejection(
        Reason.UNKNOWN_MESSAGE,
        "The chat has no message with this seq or id, or it was deleted and cannot be changed or answered to.",
    ),
    "unknown_command": ProblemType(
        status=404,
        title="No such command",
        explanation="No outcome of this command is known to you: it was never sent, it is older than seven days, "
        "or another user sent it. Sending it again with the same key is safe.",
    ),
    "not_found": ProblemType(
        status=404,
        title="No such path",
        explanation="There is nothing at this path. The paths that exist are listed in `/openapi.json`.",
    ),
    "method_not_allowed": ProblemType(
        status=405,
        title="Method not allowed",
        explanation="The path exists, but not with this method. The header `Allow` lists the methods it supports.",
    ),
    "request_timeout": ProblemType(
        status=408,
        title="The request did not arrive in time",
        explanation="The head or the body of the request was not complete within its deadline, and nothing was "
        "accepted. Send the whole request again, with the same key, on a new connection.",
    ),
    **rejection(
        Reason.CHAT_EXISTS,
        "You created another group of this name before; `chat_id` says which. Use it, choose another "
        'name, or send `"unique_name": false` to have several groups of one name. If every member has left it, you, '
        "its creator, may join it again as owner: `PUT /v1/chats/{chat_id}/members/{your user_id}` with "
        '`{"role": "owner"}`. Leaving a group does not free its name.',
    ),
    **rejection(
        Reason.STALE,
        "The message was edited since you read it: it does not have the revision that `If-Match` names. "
        "`revision` is the one it has. Read the message again, and edit what it says now under a fresh key.",
    ),
    **rejection(
        Reason.TOO_LARGE,
        "The body, or the command it would become, is larger than the limit that the detail names. "
        "Send less at once, or link to large content instead of embedding it.",
    ),
    "uri_too_long": ProblemType(
        status=414,
        title="The URL is too long",
        explanation="The URL, or its query string, is longer than the limit that the detail names. All parameters "
        "of a path fit into it many times over; `/openapi.json` lists them.",
    ),
    "unsupported_media_type": ProblemType(
        status=415,
        title="Unsupported content type or encoding",
        explanation="Bodies are JSON in UTF-8, not compressed. Send `Content-Type: application/json` and no "
        "`Content-Encoding`; the headers `Accept` and `Accept-Encoding` of this response name what is accepted.",
    ),
    "headers_too_large": ProblemType(
        status=431,
        title="Too many or too large header fields",
        explanation="The request has more header fields, or larger ones, than the limit that the detail names. "
        "Cookies and long tokens are the usual reason.",
    ),
    **rejection(
        Reason.CONFLICT,
        "A command with this key and another content was accepted before. If you meant a new "
        "message, give it a fresh key; if you meant a retry, send exactly what you sent the first time.",
    ),
    **rejection(
        Reason.INVALID,
        "The request is well formed, but its content breaks a limit or does not fit the state of the "
        "chat. The detail says what would be valid.",
    ),
    "rate_limited": ProblemType(
        status=429,
        title="Too many requests",
        explanation="You send faster than you may. Wait for the seconds in `Retry-After`, then send the same "
        "request again with the same key.",
    ),
    "internal": ProblemType(
        status=500,
        title="An error on our side",
        explanation="An unexpected error occurred. Whether a command was accepted is unknown: "
        "sending it again with the same key is always safe. If it happens again, report the `request_id`.",
    ),
    "unknown_method": ProblemType(
        status=501,
        title="No such method",
        explanation="The first word of the request is not an HTTP method that this server knows. Methods are written "
        "in capitals.",
    ),
    **rejection(
        Reason.UNKNOWN_TYPE,
        "The sequencer that serves this chat does not know this type of command. Nothing was "
        "accepted; try again after the servers have been upgraded.",
    ),
    "unavailable": ProblemType(
        status=503,
        title="Not available at the moment",
        explanation="The log or the read model cannot be reached, is overloaded, or has not caught up to what you "
        "requested. The command was not accepted, or its outcome can be queried; sending it again with the "
        "same key after `Retry-After` seconds is always safe.",
    ),
}


def sentence(words: str | None) -> str | None:
    """Return the detail of a `Refused` with a capital letter and a full stop, or None if it is empty."""
    if not words:
        return None
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"


class Problem(Exception):
    """A refusal of one request, answered as a problem document.

    :param reason: a key of PROBLEM_TYPES; it decides status and title.
    :param detail: one sentence about this case, for a person; must not repeat a message's text or a token.
    :param errors: every fault and its place, for `malformed` and `invalid`: `{"pointer": JSON pointer (RFC 6901) into
        the body, "detail": sentence}`; a place outside the body also has `"in": "query" | "path" | "header"`.
    :param retry_after_s: sets `Retry-After`, in whole seconds, rounded up.
    :param headers: further headers of the response.
    :param members: further members of the document, such as `chat_id`.
    """

    def __init__(
        self,
        reason: str,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        kind = PROBLEM_TYPES[reason]
        super().__init__(f"{reason}: {detail or kind.title}")
        self.reason = reason
        self.status = kind.status
        self.title = kind.title
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = None if retry_after_s is None else max(1, math.ceil(retry_after_s))
        self.members = members
        self.headers = dict(headers or {})
        if self.retry_after_s is not None:
            self.headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:  # RFC 9110 §15.5.2: a 401 must say how to authenticate
            self.headers.setdefault("WWW-Authenticate", "Bearer")

    def document(self) -> dict[str, Any]:
        """Return the RFC 9457 document as JSON types; also used as the `problem` of a batch item."""
        document: dict[str, Any] = {
            "type": f"/problems/{self.reason}",
            "title": self.title,
            "status": self.status,
        }
        if self.detail is not None:
            document["detail"] = self.detail
        if self.errors:
            document["errors"] = [dict(error) for error in self.errors]
        if self.retry_after_s is not None:
            document["retry_after_s"] = self.retry_after_s
        return document | self.members

    def response(self, *, request_id: str | None = None) -> Response:
        """Return the HTTP response. request_id is repeated in the document, where people copy it from."""
        document = self.document()
        if request_id is not None:
            document["request_id"] = request_id
        return Response(
            encode_document(document),
            status_code=self.status,
            headers=self.headers,
            media_type=PROBLEM_MEDIA_TYPE,
        )


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with the problem, from a middleware."""
    await problem.response(request_id=scope.get("state", {}).get("request_id"))(scope, receive, send)


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8. A lone surrogate, which a field name in a pointer may contain, becomes `?`."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
