"""The entity tag of a message: `"<revision>.<digest>"`. Pure.

The digest is of the body's bytes, so a tag changes with anything that a reader is shown: an edit, a reaction, a reply,
the delivery status, a deletion. `If-Match` of an edit takes the whole tag and compares the revision
(docs/decisions/0042-a-messages-etag-is-its-revision-and-a-digest.md).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 12
_TAG: Final = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


def entity_tag(revision: int, body: bytes) -> str:
    """Return the strong entity tag of a message as this body shows it."""
    digest = urlsafe_b64encode(blake2b(body, digest_size=DIGEST_BYTES).digest()).decode("ascii")
    return f'"{revision}.{digest}"'


def none_match_fails(if_none_match: str | None, tag: str) -> bool:
    """Return whether the client has this representation already, so that the answer is 304.

    :param if_none_match: the header: `*`, or a list of tags, which are compared weakly (RFC 9110 §13.1.2). Anything
        else in it is ignored.
    """
    if if_none_match is None:
        return False
    return if_none_match.strip(" \t") == "*" or tag in _TAG.findall(if_none_match)
