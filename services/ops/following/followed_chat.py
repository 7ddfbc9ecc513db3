"""A chat that is followed: decides what is new in a page of history, in a frame and in a page of changes. Pure.

A page of history names its position, and contains every frame up to there. Messages are shown once each, in the order
of their seqs. After a gap the changes arrive as state: messages that were shown and have changed, and members and a
name that differ from the known ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

Frame = dict[str, Any]
SIGNALS: Final = frozenset({"typing", "presence"})
"""Frames that are not in the log: they have no position."""


class FollowedChat:
    """:param after_seq: messages up to this seq are not shown, and their changes only as they happen."""

    def __init__(self, after_seq: int = 0) -> None:
        self.position = 0
        """Everything up to this position was shown."""
        self.last_seq = after_seq
        """Seq of the newest message that was shown."""
        self.name: str | None = None
        self.roles: dict[str, str] = {}
        """user_id of a present member → role."""

    def of_page(self, messages: Iterable[dict[str, Any]]) -> Iterator[Frame]:
        """Yield the messages of a page of history that were not shown yet, each as a frame."""
        for message in messages:
            if message["seq"] > self.last_seq:
                self.last_seq = message["seq"]
                yield _frame("message", message["chat_id"], position=message["position"], message=message)

    def of_changes(self, page: dict[str, Any]) -> Iterator[Frame]:
        """Yield what a page of changes says, except of messages that were not shown yet.

        A frame that is made of it does not know who did it, or when.
        """
        chat_id, name = page["chat"]["chat_id"], page["chat"]["name"]
        if name != self.name:
            self.name = name
            yield _frame("chat", chat_id, name=name)
        for member in page["members"]:
            user_id, role = member["user_id"], member["role"] if member["left_at"] is None else None
            known = self.roles.get(user_id)
            if role != known:
                change = "removed" if role is None else "added" if known is None else "role"
                self._set_role(user_id, role)
                yield _frame("member", chat_id, user_id=user_id, change=change, role=role)
        for message in page["messages"]:
            if message["seq"] <= self.last_seq:
                yield _frame("changed", chat_id, position=message["changed_position"], message=message)

    def caught_up(self, position: int) -> None:
        """Say that everything up to this position was shown, or was on a page."""
        self.position = max(self.position, position)

    def misses_something_before(self, frame: Frame) -> bool:
        """Return whether events between the last one and this frame were not received."""
        prev = frame.get("prev")
        return prev is not None and prev > self.position

    def of_stream(self, frame: Frame) -> Frame | None:
        """Return the frame if it is new."""
        kind = frame["type"]
        if kind in SIGNALS:
            return frame
        if frame["position"] <= self.position:
            return None
        self.position = frame["position"]
        if kind == "message":
            if frame["message"]["seq"] <= self.last_seq:
                return None
            self.last_seq = frame["message"]["seq"]
        elif kind == "member":
            self._set_role(frame["user_id"], frame.get("role") if frame["change"] != "removed" else None)
        elif kind == "chat":
            self.name = frame["name"]
        return frame

    def _set_role(self, user_id: str, role: str | None) -> None:
        if role is None:
            self.roles.pop(user_id, None)
        else:
            self.roles[user_id] = role


def _frame(kind: str, chat_id: str, **content: Any) -> Frame:
    return {"type": kind, "chat_id": chat_id, **content}
