"""Responses of unknown length to HTTP/1.0: they end with the connection."""

from __future__ import annotations

import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Http10Cycle(RequestResponseCycle):
    """uvicorn's cycle, which would send chunks although HTTP/1.0 has none. Assigned as the class of existing cycles."""

    _open_ended = False

    async def send(self, message: Any) -> None:
        if not self.response_started:
            if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
                self._open_ended = True
                self.chunked_encoding = False
                self.expected_content_length = sys.maxsize
        elif self._open_ended and not message.get("more_body", False):
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)
