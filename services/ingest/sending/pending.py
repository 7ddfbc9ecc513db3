"""A command without an outcome yet: shared by everything that waits for one."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.wire.encoding import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A command that is in the log and has no outcome yet."""

    command: Command
    partition: int
    offset: int
    """The command's offset in chat.commands."""
