"""What `log verify` stores of a partition in the scratch file: accepted commands and messages."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec.json import decode, encode

from schemas.commands import digest
from schemas.events import AcceptedOutcome
from services.ops.verify.log.case import LastEdit
from services.runtime.postgres.sql import load_sql

_SQL: Final[Mapping[str, str]] = load_sql("services.ops.verify.sql", "accepted.sql").texts
ACCEPTED_SCHEMA: Final = _SQL["accepted_schema"]


class AcceptedCommand(NamedTuple):
    """What is stored of an accepted command."""

    digest: bytes
    chat_id: str
    seq: int | None
    position: int | None
    at_ms: int
    revision: int | None


class Memory:
    """Reads and writes a scratch database with ACCEPTED_SCHEMA, empty at first. Implements the judges'
    `Messages` and `Reactions`."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch

    def recall(self, command_id: str | None) -> AcceptedCommand | None:
        """Return what was accepted under a command_id, or None."""
        if command_id is None:
            return None
        found = self._scratch.execute(_SQL["recall_accepted"], {"command_id": command_id}).fetchone()
        return AcceptedCommand(*found) if found is not None else None

    def accepted(self, command_type: str, outcome: AcceptedOutcome, revision: int | None) -> None:
        """Store an accepted command that has an idempotency key."""
        self._scratch.execute(
            _SQL["remember_accepted"],
            {
                "command_id": outcome.command_id,
                "digest": digest(command_type, outcome.body),
                "chat": outcome.chat_id,
                "seq": outcome.seq,
                "position": outcome.position,
                "at_ms": outcome.at_ms,
                "revision": revision,
            },
        )

    def is_message_of(self, message_id: str, chat_id: str) -> bool:
        found = self.recall(message_id)
        return found is not None and found.chat_id == chat_id and found.seq is not None

    def author_of(self, chat_id: str, seq: int) -> str | None:
        found = self._message(chat_id, seq)
        return found[0] if found is not None else None

    def is_deleted(self, chat_id: str, seq: int) -> bool:
        found = self._message(chat_id, seq)
        return found is not None and bool(found[1])

    def last_edit(self, chat_id: str, seq: int) -> LastEdit:
        found = self._message(chat_id, seq)
        return decode(found[2], type=LastEdit) if found is not None and found[2] is not None else LastEdit()

    def edited(self, chat_id: str, seq: int, edit: LastEdit) -> None:
        self._scratch.execute(_SQL["remember_edited"], {"chat": chat_id, "seq": seq, "edit": encode(edit)})

    def sent(self, chat_id: str, seq: int | None, sender_id: str) -> None:
        self._scratch.execute(_SQL["remember_message"], {"chat": chat_id, "seq": seq, "sender": sender_id})

    def deleted(self, chat_id: str, seq: int) -> None:
        self._scratch.execute(_SQL["remember_deleted"], {"chat": chat_id, "seq": seq})

    def reactions_of(self, chat_id: str, seq: int, user_id: str) -> int:
        values = {"chat": chat_id, "seq": seq, "user": user_id}
        count: int = self._scratch.execute(_SQL["count_reactions"], values).fetchone()[0]
        return count

    def reaction_kinds(self, chat_id: str, seq: int) -> set[str]:
        return {emoji for (emoji,) in self._scratch.execute(_SQL["recall_kinds"], {"chat": chat_id, "seq": seq})}

    def has_reaction(self, chat_id: str, seq: int, user_id: str, emoji: str) -> bool:
        return self._reaction("recall_reaction", chat_id, seq, user_id, emoji).fetchone() is not None

    def reaction_added(self, chat_id: str, seq: int, user_id: str, emoji: str) -> None:
        self._reaction("remember_reaction", chat_id, seq, user_id, emoji)

    def reaction_removed(self, chat_id: str, seq: int, user_id: str, emoji: str) -> None:
        self._reaction("forget_reaction", chat_id, seq, user_id, emoji)

    def _reaction(self, block: str, chat_id: str, seq: int, user_id: str, emoji: str) -> sqlite3.Cursor:
        return self._scratch.execute(_SQL[block], {"chat": chat_id, "seq": seq, "user": user_id, "emoji": emoji})

    def _message(self, chat_id: str, seq: int) -> tuple[str | None, int, bytes | None] | None:
        found: tuple[str | None, int, bytes | None] | None = self._scratch.execute(
            _SQL["recall_message"], {"chat": chat_id, "seq": seq}
        ).fetchone()
        return found
