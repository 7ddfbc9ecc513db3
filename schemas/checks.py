"""The limits that a parsed body is held against."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from math import isfinite
from typing import Any, Final

from schemas import ids, limits
from schemas.bodies import (
    Body,
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
    canonical_json,
)
from schemas.errors import Reason, Refused


def check_limits(body: Body, model: type[Body] | None = None) -> None:
    """Check a parsed body against the limits. Raises Refused with the JSON pointer of the part at fault.

    :param model: the command's model, if `body` is of a subclass that adds fields. Those are not checked.
    """
    LIMITS[model or type(body)](body)


def _chat_create(body: ChatCreate) -> None:
    if body.kind == "direct":
        if body.name is not None:
            raise Refused(Reason.INVALID, "a direct chat has no name", "/name")
        if len(body.members) > 1:
            raise Refused(Reason.INVALID, "a direct chat's members are the other user, or none", "/members")
    else:
        _name(body.name if body.name is not None else "")
    if len(body.members) > limits.MEMBERS_PER_COMMAND:
        raise Refused(Reason.INVALID, f"one command names at most {limits.MEMBERS_PER_COMMAND} members", "/members")
    if len(set(body.members)) != len(body.members):
        raise Refused(Reason.INVALID, "a member is named twice", "/members")


def _name(name: str) -> None:
    if not 1 <= len(name) <= limits.NAME_CHARACTERS:
        raise Refused(Reason.INVALID, f"a name has 1 to {limits.NAME_CHARACTERS} characters", "/name")
    _storable(name, "/name")
    if not ids.normalise_creation_name(name):
        raise Refused(Reason.INVALID, "a name has more than white space", "/name")


def _text(text: str, where_empty: str = "a text has at least one character") -> None:
    if 0 < len(text) <= limits.TEXT_CHARACTERS and text.isascii() and "\0" not in text:
        return  # as most are
    if len(text) > limits.TEXT_CHARACTERS:
        raise Refused(Reason.TOO_LARGE, f"a text has at most {limits.TEXT_CHARACTERS} characters", "/text")
    if not text:
        raise Refused(Reason.INVALID, where_empty, "/text")
    _storable(text, "/text")


def _storable(text: str, pointer: str) -> None:
    if "\0" in text:
        raise Refused(Reason.INVALID, "U+0000 cannot be stored", pointer)
    if not text.isascii() and _SURROGATE.search(text) is not None:
        raise Refused(Reason.INVALID, "a lone surrogate is no character", pointer)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _message_send(body: MessageSend) -> None:
    if body.text or not body.media_urls:
        _text(body.text, "a message has a text, or media_urls, or both")
    if body.media_urls is not None:
        _media_urls(body.media_urls)
    if body.metadata is not None:
        _metadata(body.metadata)
    if body.original_sent_at is not None:
        parse_instant(body.original_sent_at)


def _media_urls(urls: list[str]) -> None:
    if len(urls) > limits.MEDIA_URLS:
        raise Refused(Reason.INVALID, f"a message has at most {limits.MEDIA_URLS} media_urls", "/media_urls")
    for i, url in enumerate(urls):
        pointer = f"/media_urls/{i}"
        if len(url) > limits.MEDIA_URL_CHARACTERS:
            raise Refused(Reason.INVALID, f"a URL has at most {limits.MEDIA_URL_CHARACTERS} characters", pointer)
        if not url.startswith(("http://", "https://")):
            raise Refused(Reason.INVALID, "a URL starts with http:// or https://", pointer)
        _storable(url, pointer)


def _metadata(metadata: dict[str, Any]) -> None:
    too_large = Refused(Reason.TOO_LARGE, f"metadata has at most {limits.METADATA_BYTES} bytes", "/metadata")
    count = 0
    level: list[dict[str, Any] | list[Any]] = [metadata]
    for _ in range(limits.METADATA_DEPTH):
        inner: list[dict[str, Any] | list[Any]] = []
        for container in level:
            count += len(container)
            if count > limits.METADATA_BYTES:
                raise too_large  # each has a byte at least; the rest need not be looked at to know it
            values: Iterable[Any] = container
            if isinstance(container, dict):
                for key in container:
                    _storable(key, "/metadata")
                values = container.values()
            for value in values:
                if isinstance(value, (dict, list)):
                    inner.append(value)
                else:
                    _metadata_scalar(value)
        if not inner:
            break
        level = inner
    else:
        raise Refused(Reason.INVALID, f"metadata nests at most {limits.METADATA_DEPTH} levels", "/metadata")
    if len(canonical_json(metadata)) > limits.METADATA_BYTES:
        raise too_large


def _metadata_scalar(value: object) -> None:
    if isinstance(value, str):
        _storable(value, "/metadata")
    elif isinstance(value, float):
        if not isfinite(value):
            raise Refused(Reason.INVALID, "a number is finite", "/metadata")
    elif type(value) is int and not -limits.SAFE_INTEGER <= value <= limits.SAFE_INTEGER:
        raise Refused(Reason.INVALID, "an integer lies within ±(2^53−1)", "/metadata")


_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def parse_instant(text: str) -> datetime:
    """An RFC 3339 time in UTC (`Z`), years 1970 to 9999. Raises Refused(invalid)."""
    fault = Refused(Reason.INVALID, "a time is RFC 3339 in UTC, as 2026-01-31T12:00:00.000Z", "/original_sent_at")
    if _INSTANT.fullmatch(text) is None or text < "1970":
        raise fault
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # the 31st of June
        raise fault from None


def _whole_number(value: int, pointer: str, least: int) -> None:
    if not least <= value <= limits.SAFE_INTEGER:
        raise Refused(Reason.INVALID, f"a number from {least} to 2^53−1", pointer)


def _message_edit(body: MessageEdit) -> None:
    _whole_number(body.seq, "/seq", 1)
    _text(body.text)


def _reaction(body: Reaction) -> None:
    _whole_number(body.seq, "/seq", 1)
    _storable(body.emoji, "/emoji")
    if not 1 <= len(body.emoji.encode()) <= limits.EMOJI_BYTES:
        raise Refused(Reason.INVALID, f"an emoji has 1 to {limits.EMOJI_BYTES} bytes", "/emoji")


def _no_limit(_: Body) -> None:
    """Its form says it all."""


LIMITS: Final[dict[type[Body], Callable[[Any], None]]] = {
    ChatCreate: _chat_create,
    MemberAdd: _no_limit,
    MemberRemove: _no_limit,
    MemberRole: _no_limit,
    ChatRename: lambda body: _name(body.name),
    MessageSend: _message_send,
    MessageEdit: _message_edit,
    MessageDelete: lambda body: _whole_number(body.seq, "/seq", 1),
    Reaction: _reaction,
    Mark: lambda body: _whole_number(body.up_to_seq, "/up_to_seq", 0),
}
