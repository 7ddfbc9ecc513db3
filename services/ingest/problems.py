"""The problems of commands that did not get into the log, or whose outcome is unknown."""

from __future__ import annotations

from typing import Final

from schemas.wire.encoding import Command
from services.runtime.web.problems import Problem

RETRY_AFTER_S: Final = 1


def not_open() -> Problem:
    return _not_accepted("The log has not been reached yet; the command was not accepted.")


def too_many() -> Problem:
    return _not_accepted("Too many commands are waiting for the log; this one was not accepted.")


def unreachable() -> Problem:
    return _not_accepted("The log cannot be reached; the command was not accepted.")


def not_behind() -> Problem:
    """Return the problem of a batch's later command, which is not sent so that a chat keeps its order."""
    return _not_accepted("An earlier command of the batch did not reach the log; this one was not accepted.")


def outcome_unknown(command: Command) -> Problem:
    detail = "It is unknown whether the command is in the log: query its outcome, or send it again with the same key."
    return Problem(
        "unavailable",
        detail,
        retry_after_s=RETRY_AFTER_S,
        chat_id=command.chat_id,
        command_id=command.command_id,
    )


def _not_accepted(detail: str) -> Problem:
    return Problem("unavailable", detail, retry_after_s=RETRY_AFTER_S)
