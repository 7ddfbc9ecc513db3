"""Bodies about messages."""

from __future__ import annotations

from typing import Any

from schemas.bodies.body import Body, Uuid
from schemas.checks import check_media_urls, check_metadata, check_number, check_text, parse_instant


class MessageSend(Body, frozen=True):
    text: str
    reply_to_message_id: Uuid | None = None
    media_urls: list[str] | None = None
    metadata: dict[str, Any] | None = None
    original_sent_at: str | None = None

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
    seq: int
    text: str

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)
        check_text(self.text)


class MessageDelete(Body, frozen=True):
    seq: int

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)
