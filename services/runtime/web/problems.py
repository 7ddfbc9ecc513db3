"""Problem documents (RFC 9457): how a request is refused.

Raise `Problem("unknown_chat", "There is no chat with this id, or you never were a member of it.")` anywhere in
a request; `problem_handlers` turns it into the response. `type` is `/problems/<reason>`, which resolves to a page
that explains it; `problem_types` declares them all. A detail is one sentence for a person and never repeats a message's
text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.runtime.web.problem_types import PROBLEM_TYPES

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
_REQUEST_ID: Final = "5f2c1c8e7f0a4f1b9e6f3a2d1c0b9a88"
"""The id in examples."""


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


def example_document(reason: str) -> dict[str, Any]:
    """Return the document that the pages and the OpenAPI document show for a reason."""
    return Problem(reason, **PROBLEM_TYPES[reason].example).document() | {"request_id": _REQUEST_ID}


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8. A lone surrogate, which a field name in a pointer may contain, becomes `?`."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
