"""How a browser reads an event stream: the algorithm of the HTML standard, §9.2.6 "Interpreting an event stream"."""

from __future__ import annotations

import re
from typing import NamedTuple


class Dispatched(NamedTuple):
    type: str
    data: str
    last_event_id: str


class EventStreamParser:
    """What a browser keeps of a stream. Feed it the bytes; it returns the events that it dispatches."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None

    def feed(self, raw: bytes) -> list[Dispatched]:
        text = raw.decode("utf-8", errors="replace").removeprefix("\ufeff")
        lines = re.split("\r\n|\n|\r", text)
        dispatched: list[Dispatched] = []
        event_type, data, event_id = "", "", self.last_event_id
        for line in lines[:-1]:  # what follows the last line end is no line yet
            if not line:
                self.last_event_id = event_id
                if data:
                    dispatched.append(Dispatched(event_type or "message", data.removesuffix("\n"), event_id))
                event_type, data = "", ""
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                event_type = value
            elif name == "data":
                data += value + "\n"
            elif name == "id" and "\0" not in value:
                event_id = value
            elif name == "retry" and re.fullmatch("[0-9]+", value):
                self.retry_ms = int(value)
        return dispatched
