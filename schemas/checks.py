"""What is allowed of a text, a name, a URL, metadata, a time and a number. Each check raises Refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from typing import Any, Final

from msgspec.json import encode

from schemas import ids, limits
from schemas.errors import Reason, Refused


def check_name(name: str) -> None:
    if not 1 <= len(name) <= limits.NAME_CHARACTERS:
        raise Refused(Reason.INVALID, f"a name has 1 to {limits.NAME_CHARACTERS} characters", "/name")
    _storable(name, "/name")
    if not ids.normalise_creation_name(name):
        raise Refused(Reason.INVALID, "a name has more than white space", "/name")


def check_text(text: str, where_empty: str) -> None:
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


def check_media_urls(urls: list[str]) -> None:
    if len(urls) > limits.MEDIA_URLS:
        raise Refused(Reason.INVALID, f"a message has at most {limits.MEDIA_URLS} media_urls", "/media_urls")
    for i, url in enumerate(urls):
        pointer = f"/media_urls/{i}"
        if len(url) > limits.MEDIA_URL_CHARACTERS:
            raise Refused(Reason.INVALID, f"a URL has at most {limits.MEDIA_URL_CHARACTERS} characters", pointer)
        if not url.startswith(("http://", "https://")):
            raise Refused(Reason.INVALID, "a URL starts with http:// or https://", pointer)
        _storable(url, pointer)


def check_metadata(metadata: dict[str, Any]) -> None:
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
    if len(encode(metadata)) > limits.METADATA_BYTES:
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


def check_number(value: int, pointer: str, least: int) -> None:
    if not least <= value <= limits.SAFE_INTEGER:
        raise Refused(Reason.INVALID, f"a number from {least} to 2^53−1", pointer)


def check_emoji(emoji: str) -> None:
    _storable(emoji, "/emoji")
    if not 1 <= len(emoji.encode()) <= limits.EMOJI_BYTES:
        raise Refused(Reason.INVALID, f"an emoji has 1 to {limits.EMOJI_BYTES} bytes", "/emoji")
    if VARIATION_SELECTOR in emoji:
        raise Refused(Reason.INVALID, "an emoji is written without U+FE0F, so that it has one form", "/emoji")
    if _EMOJI.fullmatch(emoji) is None:
        raise Refused(Reason.INVALID, "an emoji has no white space and no control characters", "/emoji")


VARIATION_SELECTOR: Final = "\ufe0f"
"""Asks for the coloured form of the character before it; whether a client sends it depends on its keyboard."""


def one_form(emoji: str) -> str:
    """Return the emoji in the form that it has on the wire: ❤ and ❤️ are one."""
    return emoji.replace(VARIATION_SELECTOR, "")


EMOJI_PATTERN: Final = r"[^\s\u0000-\u001f\u007f-\u009f\ufe0f]+"
_EMOJI: Final = re.compile(EMOJI_PATTERN)
