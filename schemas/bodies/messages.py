"""Bodies about messages."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from schemas import limits
from schemas.bodies.body import Body, Seq, Uuid
from schemas.checks import check_media_urls, check_metadata, check_number, check_text, parse_instant

Text = Annotated[str, Meta(title="Text", extra_json_schema={"maxLength": limits.TEXT_CHARACTERS})]
MediaUrl = Annotated[str, Meta(extra_json_schema={"pattern": "^https?://", "maxLength": limits.MEDIA_URL_CHARACTERS})]
MediaUrls = Annotated[list[MediaUrl], Meta(extra_json_schema={"maxItems": limits.MEDIA_URLS})]
Metadata = Annotated[
    dict[str, Any],
    Meta(
        title="Metadata",
        extra_json_schema={"x-max-bytes": limits.METADATA_BYTES, "x-max-depth": limits.METADATA_DEPTH},
    ),
]
Revision = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": limits.SAFE_INTEGER})]
Instant = Annotated[
    str,
    Meta(
        extra_json_schema={
            "pattern": r"^(19[7-9][0-9]|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}"
            r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"
        }
    ),
]


class MessageSend(Body, frozen=True):
    text: Text
    reply_to_message_id: Uuid | None = None
    media_urls: MediaUrls | None = None
    metadata: Metadata | None = None
    original_sent_at: Instant | None = None

    def check_limits(self) -> None:
        if self.text or not self.media_urls:
            check_text(self.text, "a message has a text, or media_urls, or both")
        if self.media_urls is not None:
            check_media_urls(self.media_urls)
        if self.metadata is not None:
            check_metadata(self.metadata)
        if self.original_sent_at is not None:
            parse_instant(self.original_sent_at)


class MessageEdit(Body, frozen=True):
    seq: Seq
    text: Text
    media_urls: MediaUrls | None = None
    """None leaves what is there; so does the metadata's."""
    metadata: Metadata | None = None
    if_revision: Revision | None = None
    """The revision that the message must have."""

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)
        MessageSend(text=self.text, media_urls=self.media_urls, metadata=self.metadata).check_limits()
        if self.if_revision is not None:
            check_number(self.if_revision, "/if_revision", 0)


class MessageDelete(Body, frozen=True):
    seq: Seq

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)
