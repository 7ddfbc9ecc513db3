"""Messages as JSON, written directly from their rows. Pure.

MEMBERS is the one declaration of what is shown of a message, in order; the columns of a row and both ways of writing
follow from it. Rows are written by compiled code (`_message_json`) if there is any, and by `plain_messages` otherwise:
the same bytes, in eight times the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

from schemas.ids import UserId
from schemas.wire.extensions import extension
from services.query.api.delivery_status import Steps, status_at
from services.query.api.json_text import instant_or_null, quoted, strings
from services.query.snapshot.reader import Row


class Form(IntEnum):
    """How a member is written from the value of its column."""

    ID = 0
    """Text that needs no escapes, or null."""
    NUMBER = 1
    STRING = 2
    STRINGS = 3
    JSON = 4
    """Text that is JSON already, or null."""
    ITEMS = 5
    """The items of a list, as JSON text."""
    INSTANT = 6
    """Milliseconds since 1970."""
    CHAT = 7
    """The chat's id, which is the same in all rows. No column."""
    STATUS = 8
    """The delivery status, from the message's sender and seq. No column."""


class Member(NamedTuple):
    """A member of a message's JSON object."""

    name: str
    form: Form
    is_content: bool = False
    """Whether it is content, which a deleted message does not show, whatever its row still has."""

    @property
    def has_column(self) -> bool:
        return self.form not in (Form.CHAT, Form.STATUS)


MEMBERS: Final = (
    Member("message_id", Form.ID),
    Member("chat_id", Form.CHAT),
    Member("seq", Form.NUMBER),
    Member("position", Form.NUMBER),
    Member("changed_position", Form.NUMBER),
    Member("sender_id", Form.ID),
    Member("client_generated_id", Form.STRING),
    Member("text", Form.STRING, is_content=True),
    Member("reply_to_message_id", Form.ID),
    Member("media_urls", Form.STRINGS, is_content=True),
    Member("metadata", Form.JSON, is_content=True),
    Member("sent_at", Form.INSTANT),
    Member("revision", Form.NUMBER),
    Member("edited_at", Form.INSTANT),
    Member("deleted_at", Form.INSTANT),
    Member("status", Form.STATUS),
    Member("reactions", Form.ITEMS),
    Member("reply_count", Form.NUMBER),
    Member("last_reply_seq", Form.NUMBER),
)
_COLUMNS: Final = tuple(member for member in MEMBERS if member.has_column)
MESSAGE_COLUMNS: Final = tuple(member.name for member in _COLUMNS)
"""Columns of the SQL fragment `message_columns`, in order."""
SEQ: Final = MESSAGE_COLUMNS.index("seq")
CHANGED_POSITION: Final = MESSAGE_COLUMNS.index("changed_position")
_SENDER: Final = MESSAGE_COLUMNS.index("sender_id")
_DELETED_AT: Final = MESSAGE_COLUMNS.index("deleted_at")

StepsOf = Callable[[UserId], Steps]
"""Returns the steps of the delivery status of one sender's messages; called once per sender."""


class MessagesJson(Protocol):
    """Returns the messages of rows with MESSAGE_COLUMNS as JSON, separated by commas."""

    def __call__(self, chat_id: str, rows: Sequence[Row], steps_of: StepsOf) -> bytes: ...


_WRITERS: Final[dict[Form, Callable[[Any], str]]] = {
    Form.ID: lambda value: "null" if value is None else f'"{value}"',
    Form.STRING: lambda value: "null" if value is None else quoted(value),
    Form.STRINGS: lambda value: strings(value or ()),
    Form.ITEMS: lambda value: f"[{value or ''}]",
    Form.INSTANT: instant_or_null,
}
"""The other forms are written as they are, and NULL as `null`."""
_WRITTEN: Final = [(at, _WRITERS[member.form]) for at, member in enumerate(_COLUMNS) if member.form in _WRITERS]
_CONTENT: Final = [at for at, member in enumerate(_COLUMNS) if member.is_content]
_STATUS: Final = [member.form for member in MEMBERS if member.form != Form.CHAT].index(Form.STATUS)
_VALUES: Final = {Form.CHAT: '"{chat_id}"', Form.STATUS: '"%s"'}
_TEMPLATE: Final = ",".join(f'"{member.name}":{_VALUES.get(member.form, "%s")}' for member in MEMBERS)


def plain_messages(chat_id: str, rows: Sequence[Row], steps_of: StepsOf) -> bytes:
    """Return the messages as JSON, without compiled code: see MessagesJson."""
    template = f"{{{_TEMPLATE.replace('{chat_id}', chat_id)}}}"
    steps: dict[UserId, Steps] = {}
    texts: list[str] = []
    for row in rows:
        sender_id = row[_SENDER]
        if sender_id not in steps:
            steps[sender_id] = steps_of(sender_id)
        shown = row if row[_DELETED_AT] is None else _without_content(row)
        values = ["null" if value is None else value for value in shown]
        for at, write in _WRITTEN:
            values[at] = write(shown[at])
        values.insert(_STATUS, status_at(steps[sender_id], row[SEQ]))
        texts.append(template % tuple(values))
    return ",".join(texts).encode()


def _without_content(row: Row) -> Row:
    return tuple(None if at in _CONTENT else value for at, value in enumerate(row))


_compiled: Final = extension("services.query.api._message_json")
messages_json: Final[MessagesJson] = plain_messages if _compiled is None else _compiled.Writer(MEMBERS, Form).messages


def each_message_json(chat_id: str, rows: Iterable[Row], steps_of: StepsOf) -> list[bytes]:
    """Return each message by itself."""
    of_sender = cache(steps_of)
    return [messages_json(chat_id, [row], of_sender) for row in rows]
