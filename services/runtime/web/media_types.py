"""Checks the media type of bodies: uncompressed JSON in UTF-8. Everything else is 415."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from services.runtime.web.fast_routes import FastRequest
from services.runtime.web.problems import Problem

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
_TOLERATED: Final = frozenset({"", "application/x-www-form-urlencoded"})
"""Content types that curl sends by default. The body must be JSON anyway, or it is refused as malformed."""
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)


def check_content(request: FastRequest, *, ndjson: bool) -> None:
    """Raise Problem `unsupported_media_type` for a body of another kind. A request without a body passes.

    :param ndjson: whether this path also accepts NDJSON.
    """
    coding, content_type = request.header(b"content-encoding"), request.header(b"content-type")
    if coding is None and (content_type is None or is_read(content_type, ndjson=ndjson)):
        return
    if request.header(b"transfer-encoding") is None and not (request.header(b"content-length") or "").strip("0"):
        return
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        detail = "Send the body uncompressed: no Content-Encoding is supported."
        raise Problem("unsupported_media_type", detail, headers={"Accept-Encoding": "identity"})
    if content_type is not None and not is_read(content_type, ndjson=ndjson):
        read = f"{JSON} or {NDJSON}" if ndjson else JSON
        headers = {"Accept": f"{JSON}, {NDJSON}" if ndjson else JSON}
        raise Problem("unsupported_media_type", f"The body is read as {read} in UTF-8.", headers=headers)


@lru_cache(maxsize=256)
def is_read(content_type: str, *, ndjson: bool) -> bool:
    """Return whether bodies of this media type, with its parameters, are accepted."""
    media_type = content_type.partition(";")[0].strip().lower()
    charset = _CHARSET.search(content_type)
    if charset is not None and charset[1].lower() not in ("utf-8", "us-ascii"):
        return False
    is_json = media_type == JSON or (media_type.startswith("application/") and media_type.endswith("+json"))
    return is_json or media_type in _TOLERATED or (ndjson and media_type == NDJSON)
