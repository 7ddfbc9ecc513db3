"""Bad requests, each with the refusal that docs/errors.md promises for it."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SECRET = "words-for-one-pair-of-eyes"
"""Part of every text here; no refusal and no log line may repeat it."""
TEXT = json.dumps({"text": SECRET}).encode()
MESSAGES = "/v1/chats/{chat}/messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A request and its refusal. The test fills in `{chat}`, `{stranger}` … in path, headers and body."""

    status: int
    reason: str
    method: str = "POST"
    path: str = MESSAGES
    body: bytes | None = TEXT
    who: str | None = "ben"
    """The user whose valid token is sent; None: no token, or the one in `headers`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = True
    """Whether to send a fresh Idempotency-Key."""
    streamed: bool = False
    """Whether to send the body in chunks, without its length."""
    pointer: str | None = None
    """The place that the refusal names."""
    answer_headers: tuple[str, ...] = ()
    """Headers of the answer, in addition to the usual ones."""
    allow: str | None = None
    """The methods that the path allows."""


def send(**fields: Any) -> bytes:
    return json.dumps({"text": SECRET, **fields}).encode()


def metadata(raw: bytes) -> bytes:
    return b'{"text":"' + SECRET.encode() + b'","metadata":{"a":' + raw + b"}}"


def bearer(name: str) -> dict[str, str]:
    """Return a header with one of the bad tokens that the test mints."""
    return {"Authorization": f"Bearer {{{name}}}"}


def get(path: str, status: int, reason: str, **more: Any) -> Bad:
    return Bad(status=status, reason=reason, method="GET", path=path, body=None, keyed=False, **more)


UNAUTHORIZED: Any = {"status": 401, "reason": "unauthorized", "who": None, "answer_headers": ("WWW-Authenticate",)}
MALFORMED: Any = {"status": 400, "reason": "malformed"}
INVALID: Any = {"status": 422, "reason": "invalid"}
UNREAD: Any = {"status": 415, "reason": "unsupported_media_type"}
TOO_LARGE: Any = {"status": 413, "reason": "too_large"}

WHO_IS_ASKING = {
    "no token": Bad(**UNAUTHORIZED),
    "a token that is none": Bad(**UNAUTHORIZED, headers={"Authorization": "Bearer abc.def"}),
    "not a bearer token": Bad(**UNAUTHORIZED, headers={"Authorization": "Basic YW5uYTphbm5h"}),
    "a bad signature": Bad(**UNAUTHORIZED, headers=bearer("forged")),
    "the algorithm none": Bad(**UNAUTHORIZED, headers=bearer("unsigned")),
    "signed by RS256": Bad(**UNAUTHORIZED, headers=bearer("rs256")),
    "the secret used for HS512": Bad(**UNAUTHORIZED, headers=bearer("hs512")),
    "an expired token": Bad(**UNAUTHORIZED, headers=bearer("expired")),
    "a token without an end": Bad(**UNAUTHORIZED, headers=bearer("endless")),
    "a token of nobody": Bad(**UNAUTHORIZED, headers=bearer("nobody")),
    "no token, reading": get(MESSAGES, **UNAUTHORIZED),
}

WHO_MAY = {
    "not a member": Bad(status=404, reason="unknown_chat", who="carl"),
    "a former member": Bad(status=403, reason="not_member", who="dora"),
    "an unknown chat": Bad(status=404, reason="unknown_chat", path="/v1/chats/{nowhere}/messages"),
    "a receipt of a stranger": Bad(
        status=404, reason="unknown_chat", who="carl", path="/v1/chats/{chat}/read", body=b'{"up_to_seq":1}'
    ),
    "a member who adds another": Bad(
        status=403, reason="forbidden", method="PUT", path="/v1/chats/{chat}/members/{carl}", body=b""
    ),
    "for another without the scope": Bad(status=403, reason="forbidden", headers={"Gapless-Sender": "{anna}"}),
    "a time of sending without the scope": Bad(
        status=403, reason="forbidden", body=send(original_sent_at="2020-01-01T00:00:00Z")
    ),
    "not a member, reading": get(MESSAGES, 404, "unknown_chat", who="carl"),
    "a former member, reading": get(MESSAGES, 403, "not_member", who="dora"),
    "an unknown chat, reading": get("/v1/chats/{nowhere}/latest-seq", 404, "unknown_chat"),
}

KEYS = {
    "no key": Bad(status=400, reason="missing_key", keyed=False),
    "an empty key": Bad(status=400, reason="missing_key", headers={"Idempotency-Key": ""}),
    "two different keys": Bad(
        **MALFORMED,
        headers={"Idempotency-Key": "one"},
        body=send(client_generated_id="other"),
        pointer="/client_generated_id",
    ),
    "a key with a space": Bad(**MALFORMED, headers={"Idempotency-Key": "a b"}, pointer="/idempotency-key"),
    "a key of 129 characters": Bad(**MALFORMED, headers={"Idempotency-Key": "k" * 129}, pointer="/idempotency-key"),
    "a used key with another text": Bad(status=422, reason="conflict", headers={"Idempotency-Key": "first"}),
    "a group's name under another key": Bad(
        status=409, reason="chat_exists", who="anna", path="/v1/chats", body=b'{"kind":"group","name":"ops"}'
    ),
}

BODIES = {
    "an oversized text": Bad(**TOO_LARGE, body=json.dumps({"text": (SECRET * 1_000)[:16_385]}).encode()),
    "an empty text": Bad(**INVALID, body=b'{"text":""}', pointer="/text"),
    "U+0000 in a text": Bad(**INVALID, body=b'{"text":"' + SECRET.encode() + b'\\u0000"}', pointer="/text"),
    "a lone surrogate": Bad(**MALFORMED, body=b'{"text":"' + SECRET.encode() + b'\\ud800"}'),
    "a surrogate in UTF-8": Bad(**MALFORMED, body=b'{"text":"' + SECRET.encode() + b'\xed\xa0\x80"}'),
    "not UTF-8": Bad(**MALFORMED, body=b'{"text":"' + SECRET.encode() + b'\xff"}'),
    "broken JSON": Bad(**MALFORMED, body=b'{"text":"' + SECRET.encode()),
    "no body": Bad(**MALFORMED, body=b""),
    "an array": Bad(**MALFORMED, body=b'["' + SECRET.encode() + b'"]'),
    "20,000 levels": Bad(**INVALID, body=metadata(b"[" * 20_000 + b"]" * 20_000)),
    "20,000 levels of nothing else": Bad(**INVALID, body=b"[" * 20_000),
    "20,000 levels that are never closed": Bad(**INVALID, body=b'{"a":' * 20_000),
    "metadata with 1e400": Bad(**INVALID, body=metadata(b"1e400"), pointer="/metadata"),
    "metadata with NaN": Bad(**INVALID, body=metadata(b"NaN"), pointer="/metadata"),
    "metadata with U+0000": Bad(**INVALID, body=metadata(b'"\\u0000"'), pointer="/metadata"),
    "metadata with 2^53": Bad(**INVALID, body=metadata(b"9007199254740992"), pointer="/metadata"),
    "a number of 4,000 digits": Bad(**INVALID, body=metadata(b"1" * 4_000)),
    "metadata of 17 KiB": Bad(**TOO_LARGE, body=metadata(b'"' + b"m" * 17 * 1024 + b'"'), pointer="/metadata"),
    "an unknown field": Bad(**MALFORMED, body=send(nickname=SECRET), pointer="/nickname"),
    "a text that is a number": Bad(**MALFORMED, body=b'{"text":17}', pointer="/text"),
    "eleven media": Bad(**INVALID, body=send(media_urls=["https://a.example"] * 11), pointer="/media_urls"),
    "a URL of a file": Bad(**INVALID, body=send(media_urls=["file:///etc/passwd"]), pointer="/media_urls/0"),
    "a reply to what is not there": Bad(
        status=404, reason="unknown_message", body=send(reply_to_message_id="99999999-9999-4999-8999-999999999999")
    ),
    "a form": Bad(
        **MALFORMED,
        body=b"text=" + SECRET.encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "another content type": Bad(
        **UNREAD,
        body=b"<text>" + SECRET.encode() + b"</text>",
        headers={"Content-Type": "text/xml"},
        answer_headers=("Accept",),
    ),
    "JSON by the name of text": Bad(**UNREAD, headers={"Content-Type": "text/plain"}, answer_headers=("Accept",)),
    "a compressed body": Bad(
        **UNREAD, body=gzip.compress(TEXT), headers={"Content-Encoding": "gzip"}, answer_headers=("Accept-Encoding",)
    ),
    "a member that is there twice": Bad(**MALFORMED, body=b'{"text":"x",' + TEXT[1:], pointer="/text"),
    "a member of metadata that is there twice": Bad(
        **MALFORMED, body=metadata(b'{"b":1,"b":2}'), pointer="/metadata/a/b"
    ),
    "a body over the limit": Bad(**TOO_LARGE, body=json.dumps({"text": SECRET * 30_000}).encode()),
    "a body over the limit in chunks": Bad(
        **TOO_LARGE, body=json.dumps({"text": SECRET * 30_000}).encode(), streamed=True
    ),
    "a receipt beyond the last message": Bad(**INVALID, path="/v1/chats/{chat}/read", body=b'{"up_to_seq":1000000}'),
    "a negative mark": Bad(
        **INVALID, path="/v1/chats/{chat}/delivered", body=b'{"up_to_seq":-1}', pointer="/up_to_seq"
    ),
    "a receipt of half a message": Bad(
        **MALFORMED, path="/v1/chats/{chat}/read", body=b'{"up_to_seq":0.5}', pointer="/up_to_seq"
    ),
    "a member that is no user": Bad(
        **MALFORMED, path="/v1/chats", body=b'{"kind":"group","name":"x","members":["ben"]}', pointer="/members/0"
    ),
    "U+0000 in a name": Bad(**INVALID, path="/v1/chats", body=b'{"kind":"group","name":"a\\u0000"}', pointer="/name"),
}

PLACES = {
    "an invalid UUID in the path": Bad(**MALFORMED, path="/v1/chats/ops/messages", pointer="/chat_id"),
    "U+0000 in the path": Bad(**MALFORMED, path="/v1/chats/%00/messages", pointer="/chat_id"),
    "an invalid UUID in the path, reading": get("/v1/chats/ops/messages", **MALFORMED, pointer="/chat_id"),
    "a wrong method": Bad(status=405, reason="method_not_allowed", method="PATCH", allow="GET, HEAD, POST, OPTIONS"),
    "a wrong method on a path to read": Bad(
        status=405, reason="method_not_allowed", path="/v1/chats/{chat}/latest-seq", allow="GET, HEAD, OPTIONS"
    ),
    "a method of another protocol": Bad(
        status=405, reason="method_not_allowed", method="PROPFIND", allow="GET, HEAD, POST, OPTIONS"
    ),
    "a seq with a sign": get(f"{MESSAGES}/+1", **MALFORMED, pointer="/seq"),
    "a seq with leading zeros": get(f"{MESSAGES}/01", **MALFORMED, pointer="/seq"),
    "a number with a fraction": get(f"{MESSAGES}?limit=5.0", **MALFORMED, pointer="/limit"),
    "an encoded slash": get("/v1/chats/{chat}%2Fmessages", **MALFORMED, pointer="/chat_id"),
    "an unknown path": Bad(status=404, reason="not_found", path="/v1/chat/{chat}/messages"),
    "a path with a slash more": Bad(status=404, reason="not_found", path=f"{MESSAGES}/"),
    "no page": get(f"{MESSAGES}?limit=0", **MALFORMED, pointer="/limit"),
    "two bounds": get(f"{MESSAGES}?before_seq=9&after_seq=1", **MALFORMED),
    "an unknown parameter": get(f"{MESSAGES}?befor_seq=9", **MALFORMED, pointer="/befor_seq"),
    "a cursor that nobody gave": get("/v1/chats/{chat}/members?cursor=abc", **MALFORMED, pointer="/cursor"),
    "a message that is not there": get(f"{MESSAGES}/1000000", 404, "unknown_message"),
    "a command that is not there": get("/v1/chats/{chat}/commands/{nowhere}", 404, "unknown_command"),
    "a token that is none, to read at least": get(MESSAGES, **MALFORMED, headers={"Gapless-At-Least": "yesterday"}),
    "a partition that is not there": get(MESSAGES, **MALFORMED, headers={"Gapless-At-Least": "8:1"}),
    "a token of the future": get(
        MESSAGES, 503, "unavailable", headers={"Gapless-At-Least": "0:999999999"}, answer_headers=("Retry-After",)
    ),
}

REFUSALS: dict[str, Bad] = {**WHO_IS_ASKING, **WHO_MAY, **KEYS, **BODIES, **PLACES}


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]
