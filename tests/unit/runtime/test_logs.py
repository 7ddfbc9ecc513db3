"""Logs: one JSON object per line, with context, and never a token, a password or a message's text."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import structlog
from pydantic import BaseModel, ValidationError

from services.runtime.access.auth import mint_token
from services.runtime.observe.logs import configure_logging
from services.runtime.observe.tracebacks import describe, format_error
from services.runtime.settings import LogSettings

TOKEN = mint_token("a development secret of 32 bytes!", "bob")
PRIVATE = "a very private sentence"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), service="sequencer", stream=stream)
    return stream


def events(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_service_and_context(out: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(partition=3, term=7):
        structlog.get_logger().info("partition_opened", chat_id="c\n1")
    (event,) = events(out)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "partition_opened",
        "level": "info",
        "service": "sequencer",
        "partition": 3,
        "term": 7,
        "chat_id": "c\n1",
    }


def test_libraries_take_the_same_way(out: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(partition=3):
        logging.getLogger("aiokafka.consumer").warning("lost %s", "it")
    (event,) = events(out)
    assert (event["event"], event["logger"], event["partition"]) == ("lost it", "aiokafka.consumer", 3)
    assert event["service"] == "sequencer"


def test_what_is_below_the_level_is_not_written(out: io.StringIO) -> None:
    structlog.get_logger().debug("quiet")
    logging.getLogger("x").debug("quiet")
    logging.getLogger("uvicorn.access").info("GET /v1/live?ticket=t1")
    assert out.getvalue() == ""


def test_a_token_never_gets_into_a_log(out: io.StringIO) -> None:
    log = structlog.get_logger()
    log.info("asked", token=TOKEN, authorization=f"Bearer {TOKEN}", path=f"/v1/live?ticket={TOKEN[:9]}&a=1")
    log.info(f"asked with {TOKEN}", headers={"authorization": TOKEN, "x": ["Bearer opaque-token"]})
    log.info("asked", pair=("a", TOKEN.encode()), thing={TOKEN})
    logging.getLogger("library").warning("header %s", {"Authorization": f"bearer {TOKEN}"})
    try:
        raise ValueError(f"bad token {TOKEN}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    assert len(events(out)) == 6
    for part in (TOKEN, TOKEN.split(".")[1], TOKEN.split(".")[2], "opaque-token", f"ticket={TOKEN[:9]}"):
        assert part not in out.getvalue()


def test_a_password_in_a_connection_string_never_gets_into_a_log(out: io.StringIO) -> None:
    structlog.get_logger().info("connecting", to="postgresql://u:hunter2@host/db")
    logging.getLogger("psycopg.pool").warning("error connecting: host=h password=hunter2 dbname=d")
    assert len(events(out)) == 2
    assert "hunter2" not in out.getvalue()


def test_a_messages_text_never_gets_into_a_log(out: io.StringIO) -> None:
    class Send(BaseModel):
        count: int

    log = structlog.get_logger()
    log.info("got", text=PRIVATE, message_text=PRIVATE, body={"text": PRIVATE}, inner={"text": PRIVATE})
    with pytest.raises(ValidationError) as refused:
        Send.model_validate({"count": PRIVATE})
    try:
        raise RuntimeError("while reading") from refused.value
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    assert len(events(out)) == 3
    assert PRIVATE not in out.getvalue()
    assert "Send: count (int_parsing)" in events(out)[-1]["exception"]
    assert "RuntimeError: while reading" in events(out)[-1]["exception"]


def test_the_row_in_a_database_error_is_left_out() -> None:
    class Diagnostic:
        sqlstate = "23505"
        message_primary = "duplicate key value violates unique constraint"

    class Duplicate(psycopg.Error):
        diag = Diagnostic()  # type: ignore[assignment]

    error = Duplicate(f"duplicate key\nDETAIL:  Key (text)=({PRIVATE}) already exists.")
    assert "23505 duplicate key value" in describe(error)
    assert PRIVATE not in describe(error)


def test_a_traceback_shows_causes_and_every_error_of_a_group() -> None:
    def fail() -> None:
        empty: dict[str, int] = {}
        try:
            empty["missing"]
        except KeyError as error:
            raise ExceptionGroup("several", [ValueError("one"), TypeError("two")]) from error

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    text = format_error(caught.value)
    for part in ("KeyError: 'missing'", "The exception above led to", "ValueError: one", "TypeError: two"):
        assert part in text
    assert "in fail" in text


def test_an_error_that_caused_itself_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert format_error(first).count("ValueError: first") == 1


def test_a_terminal_gets_readable_lines_without_secrets() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="console"), service="ingest", stream=stream)
    structlog.get_logger().info("listening", port=8080, header=f"Bearer {TOKEN}")
    line = stream.getvalue()
    assert "listening" in line
    assert "port=8080" in line
    assert TOKEN not in line
    assert not line.startswith("{")


def test_auto_means_json_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="auto"), service="ingest", stream=stream)
    structlog.get_logger().info("listening")
    assert json.loads(stream.getvalue())["event"] == "listening"


def test_a_mapping_by_partition_is_logged(out: io.StringIO) -> None:
    """The trimmer logs one. When keys had to be text, each trimming ended the sequencer."""
    structlog.get_logger().info("commands.trimmed", before={0: 17, 3: TOKEN})
    (event,) = events(out)
    assert event["before"]["0"] == 17
    assert TOKEN not in out.getvalue()
