"""What `gapless chat follow` prints of a frame. Pure; escaping is the terminal's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from services.ops.following.followed_chat import Frame

Name = Callable[[str], str]
SHOWN_ID_CHARACTERS: Final = 8
_HOURS: Final = slice(len("2026-01-31T"), len("2026-01-31T12:00:00"))
_STYLES: Final = {"receipt": "dim", "member": "cyan", "chat": "cyan", "deleted": "dim", "changed": "yellow"}


def line_of(frame: Frame, *, me: str) -> str | None:
    """Return the line of a frame, or None if it has none. Users are shown by the beginning of their ids.

    :param me: the reader's user_id.
    """

    def name(user_id: str) -> str:
        return "you" if user_id == me else user_id[:SHOWN_ID_CHARACTERS]

    if frame["type"] in ("message", "changed"):
        message = frame["message"]
        now = "" if frame["type"] == "message" else "is now: "
        return _line(message["seq"], message["sent_at"], name(message["sender_id"]), now + _content(message))
    write = _LINES.get(frame["type"])
    if write is None:
        return None
    by = frame.get("by") or frame.get("created_by") or frame.get("user_id")
    return _line("", frame.get("at"), "" if by is None else name(by), write(frame, name))


def style_of(frame: Frame) -> str:
    """Return the style of a frame's line."""
    return str(_STYLES.get(frame["type"], ""))


def _line(seq: int | str, at: str | None, name: str, what: str) -> str:
    hours = "" if at is None else at[_HOURS]
    return f"{seq:>6}  {hours:8}  {name:<{SHOWN_ID_CHARACTERS}}  {what}"


def _content(message: dict[str, Any]) -> str:
    """Return the present text of a message, with what changed since it was sent."""
    if message["deleted_at"] is not None:
        return "(deleted)"
    parts = [message["text"], *message["media_urls"], "(edited)" * bool(message["revision"])]
    parts += [f"{reaction['emoji']} {reaction['count']}" for reaction in message["reactions"]]
    return "  ".join(filter(None, parts))


def _edited(frame: Frame, _name: Name) -> str:
    return f"edited {frame['seq']}: {frame['text']}"


def _deleted(frame: Frame, _name: Name) -> str:
    return f"deleted {frame['seq']}"


def _reaction(frame: Frame, _name: Name) -> str:
    did = "reacted" if frame["change"] == "added" else "no longer reacts"
    return f"{did} to {frame['seq']} with {frame['emoji']}"


def _member(frame: Frame, name: Name) -> str:
    user_id, change, by = frame["user_id"], frame["change"], frame.get("by")
    if by is None:  # known by its result alone, after a gap
        return "is no longer a member" if change == "removed" else f"is {frame['role']} now"
    if change == "removed":
        return "left" if user_id == by else f"removed {name(user_id)}"
    return f"{'added' if change == 'added' else 'made'} {name(user_id)} {frame['role']}"


def _chat(frame: Frame, name: Name) -> str:
    if "members" not in frame:
        return f"renamed the chat: {frame['name']}"
    return f"created the chat with {', '.join(map(name, frame['members']))}"


def _receipt(frame: Frame, _name: Name) -> str:
    return (
        f"has read up to {frame['read_seq']}" if "read_seq" in frame else f"has received up to {frame['delivered_seq']}"
    )


_LINES: Final[dict[str, Callable[[Frame, Name], str]]] = {
    "edited": _edited,
    "deleted": _deleted,
    "reaction": _reaction,
    "member": _member,
    "chat": _chat,
    "receipt": _receipt,
}
