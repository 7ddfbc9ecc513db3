"""Formats an exception for the log without user data that it may carry: a message's text, a row, a token.

`str(error)` of a validation error repeats the input, that of a database error the row. So of these two only the part
that names the fault is written; other messages are cut to MAX_MESSAGE_CHARS. Frames are written as usual.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import Final

import pydantic

MAX_MESSAGE_CHARS: Final = 500
MAX_CHAINED: Final = 8


def describe(error: BaseException) -> str:
    """Return one line: the error's type and the safe part of its message."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, pydantic.ValidationError):
        places = (
            f"{'.'.join(str(part) for part in found['loc'])} ({found['type']})"
            for found in error.errors(include_url=False, include_context=False, include_input=False)
        )
        message = f"{error.title}: {', '.join(places)}"
    else:
        message = _of_postgres(error) or str(error)
    return f"{name}: {message[:MAX_MESSAGE_CHARS]}" if message else name


def _of_postgres(error: BaseException) -> str | None:
    """Return the state and the message of a refusal by Postgres, without the detail, which contains the row."""
    if "psycopg" not in sys.modules:  # then no error is its; the sequencer never loads it
        return None
    import psycopg

    if not isinstance(error, psycopg.Error) or error.diag.sqlstate is None:
        return None
    return f"{error.diag.sqlstate} {error.diag.message_primary}"


def format_error(error: BaseException) -> str:
    """Return the traceback of error and of its causes, the first cause first, as Python prints it."""
    return "\n".join(_paragraphs(error, set())).rstrip()


def _paragraphs(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen and len(seen) < MAX_CHAINED:
        yield from _paragraphs(cause, seen)
        yield "The exception above led to:\n" if error.__cause__ else "While handling it, this happened:\n"
    frames = "".join(traceback.format_tb(error.__traceback__))
    yield f"Traceback (most recent call last):\n{frames}{describe(error)}\n"
    if isinstance(error, BaseExceptionGroup):
        for index, inner in enumerate(error.exceptions, start=1):
            if id(inner) not in seen and len(seen) < MAX_CHAINED:
                yield f"{index} of {len(error.exceptions)} in the group:\n"
                yield from _paragraphs(inner, seen)
