"""Structured logs: one line per event on standard error, JSON in production, readable in a terminal.

Events of our code (structlog) and of libraries (logging: aiokafka, uvicorn) pass through the same processors, with the
same context: service and, if known, partition, term, chat_id, command_id, trace_id. Message texts and tokens are never
logged: call sites leave them out, and `_redact` is the safety net. Log an event with a fixed name and fields:
`log.info("partition_opened", partition=3, term=7)`. Libraries' lines are limited (`repeated_lines.py`).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from services.runtime.observe.plain_text import visible, visible_lines
from services.runtime.observe.repeated_lines import LibraryLines
from services.runtime.observe.tracebacks import format_error
from services.runtime.settings import LogSettings

REDACTED: Final = "[redacted]"
SECRET_FIELDS: Final = frozenset(
    {"authorization", "body", "dsn", "message_text", "password", "payload", "secret", "text", "ticket", "token"}
)
_SECRET_VALUES: Final = re.compile(
    r"eyJ[\w-]{4,}\.[\w-]+\.[\w-]*"  # a JWT
    r"|(?i:(?<=bearer )\S+|(?<=ticket=)[^&\s\"']+|(?<=password=)\S+)"
    r"|(?<=://)[^/@\s]+:[^/@\s]+(?=@)",  # user:password of a URL
    re.ASCII,
)


def configure_logging(settings: LogSettings, *, service: str, stream: TextIO | None = None) -> None:
    """Set up structlog and logging for this process. Call once, before anything logs.

    :param stream: where lines go; standard error by default, since standard output is for a command's result.
    """
    out = sys.stderr if stream is None else stream
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    shared = _shared_processors(service)
    renderer = _renderer(as_json=as_json, colors=out.isatty())
    if not as_json:  # JSON escapes by itself
        shared.append(_visible)

    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,  # so that loggers made before this call follow it too
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _add_suppressed, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(LibraryLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _LIBRARY_LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(level, least))
    logging.captureWarnings(True)


_LIBRARY_LEVELS: Final[Mapping[str, int]] = {
    # Below these levels a library logs what it sends and receives, including message texts.
    "aiokafka": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "psycopg": logging.WARNING,
    "psycopg.pool": logging.WARNING,
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,  # logs query strings, which contain tickets
    "uvicorn.error": logging.WARNING,
    "websockets": logging.WARNING,
}


def _shared_processors(service: str) -> list[Processor]:
    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return [
        structlog.contextvars.merge_contextvars,
        add_service,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _render_exception,
        _redact,
    ]


def _renderer(*, as_json: bool, colors: bool) -> Processor:
    if as_json:
        return structlog.processors.JSONRenderer(default=repr, ensure_ascii=True)
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _render_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace exc_info by its traceback as text, without user data that the exception may carry."""
    exc_info: object = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    if isinstance(exc_info, BaseException):
        event["exception"] = format_error(exc_info)
    record: object = event.get("_record")
    if isinstance(record, logging.LogRecord):
        record.exc_info = record.exc_text = None
    return event


def _add_suppressed(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the number of similar lines suppressed before this one."""
    suppressed: object = getattr(event.get("_record"), "suppressed", None)
    if suppressed is not None:
        event["suppressed"] = suppressed
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return _redacted_mapping(event)


def _visible(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape terminal control characters. Values that are not strings are rendered with `repr`, which escapes them."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = visible_lines(value) if key == "exception" else visible(value)
    return event


def _redacted_mapping(values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in values.items():
        if key in SECRET_FIELDS:
            values[key] = REDACTED
        elif not str(key).startswith("_"):
            values[key] = _redacted(value)
    return values


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET_VALUES.sub(REDACTED, value)
    if isinstance(value, dict):
        return _redacted_mapping(dict(value))
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    if isinstance(value, int | float | None):
        return value
    return _SECRET_VALUES.sub(REDACTED, repr(value))
