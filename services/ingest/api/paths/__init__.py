"""The paths of commands, by noun: request body, command, response and route of each in one file.

- `messages`  sending, editing and deleting
- `batch`     many messages in one request
- `chats`     creating and renaming a group, opening a direct chat
- `members`   adding, removing, roles
- `reactions` adding and removing the caller's own
- `receipts`  read and delivered receipts
"""

from typing import Final

from schemas.types import CommandType

PLANNED: Final[frozenset[CommandType]] = frozenset()
"""Command types that no path sends yet."""
