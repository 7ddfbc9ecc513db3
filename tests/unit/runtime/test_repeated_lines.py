"""Repeated log lines are written once a minute, with the number of those that were left out."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import REGISTRY

from services.runtime.observe.logs import configure_logging
from services.runtime.observe.repeated_lines import MAX_KEYS, LibraryLines, RepeatedLines, warn_throttled
from services.runtime.settings import LogSettings


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Kept(logging.Handler):
    def __init__(self, written: list[logging.LogRecord]) -> None:
        super().__init__()
        self._written = written

    def emit(self, record: logging.LogRecord) -> None:
        self._written.append(record)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> RepeatedLines:
    return RepeatedLines(every_s=60, now_s=clock)


@pytest.fixture
def library(lines: RepeatedLines) -> Iterator[tuple[logging.Logger, list[logging.LogRecord]]]:
    """Yield a library's logger, and the lines that pass the filter."""
    logger, written = logging.getLogger("a.library"), list[logging.LogRecord]()
    handler = Kept(written)
    handler.addFilter(LibraryLines(lines))
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(handler)
    logger.propagate = True


def suppressed(logger: str) -> float:
    return REGISTRY.get_sample_value("gapless_log_lines_suppressed_total", {"logger": logger}) or 0.0


def test_a_library_that_repeats_itself_is_heard_once_a_minute_with_what_was_left_out(
    library: tuple[logging.Logger, list[logging.LogRecord]], clock: Clock, lines: RepeatedLines
) -> None:
    logger, written = library
    before = suppressed("a.library")
    for port in range(1_000):
        logger.error("Unable connect to node %s: %s", port % 3, f"refused on {port}")
    assert [record.getMessage() for record in written] == ["Unable connect to node 0: refused on 0"]
    clock.now_s = 59.9
    logger.error("Unable connect to node %s: %s", 1, "again")
    assert len(written) == 1
    clock.now_s = 60.0
    logger.error("Unable connect to node %s: %s", 2, "still")
    assert written[1].getMessage() == "Unable connect to node 2: still"
    assert written[1].__dict__["suppressed"] == 1_000
    assert lines.left_out() == 1_000
    assert lines.left_out() == 0
    assert suppressed("a.library") - before == 1_000


def test_what_is_said_for_the_first_time_is_always_heard(
    library: tuple[logging.Logger, list[logging.LogRecord]],
) -> None:
    logger, written = library
    logger.error("Unable connect to node %s", 1)
    logger.warning("Unable connect to node %s", 1)
    logger.error("Heartbeat failed for group %s", "g")
    logging.getLogger("a.library.part").error("Unable connect to node %s", 1)
    assert len(written) == 4


def test_a_message_that_the_library_has_put_together_itself_is_known_by_its_shape(
    library: tuple[logging.Logger, list[logging.LogRecord]],
) -> None:
    logger, written = library
    for n in range(5):
        logger.error(f"Task 0x{n:x} 'reader-{n}' was destroyed after {n} s\nits stack: {n}")
    logger.error("Task 0x9 'reader-9' was never awaited")
    assert len(written) == 2


def test_errors_of_different_places_are_different_lines(
    library: tuple[logging.Logger, list[logging.LogRecord]],
) -> None:
    logger, written = library
    for _ in range(3):
        try:
            int("x")
        except ValueError:
            logger.exception("Exception in callback")
        try:
            int("y")
        except ValueError:
            logger.exception("Exception in callback")
    assert len(written) == 2


def test_what_is_remembered_is_bounded(lines: RepeatedLines) -> None:
    for n in range(MAX_KEYS + 1):
        assert lines.written(n) == 0
    assert lines.written(0) == 0, "forgotten, and so written again"
    assert lines.written(MAX_KEYS) is None


def test_our_own_repeated_warnings_are_limited_by_event_and_kind(lines: RepeatedLines, clock: Clock) -> None:
    log = structlog.get_logger()
    with structlog.testing.capture_logs() as said:
        for partition in range(8):
            warn_throttled(log, "waiting", lines=lines, partition=partition, kind="away")
            warn_throttled(log, "waiting", lines=lines, partition=partition, kind="slow")
        clock.now_s = 61
        warn_throttled(log, "waiting", lines=lines, partition=3, kind="away")
    assert [(line["partition"], line.get("suppressed")) for line in said] == [(0, None), (0, None), (3, 7)]


def test_the_logging_of_a_process_limits_its_libraries() -> None:
    out = io.StringIO()
    configure_logging(LogSettings(format="json"), service="sequencer", stream=out)
    try:
        for n in range(20):
            logging.getLogger("aiokafka").error("Unable connect to node with id %s: %s", n, "refused")
            structlog.get_logger().info("term.opened", term=n)
    finally:
        logging.getLogger().handlers.clear()
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert sum(1 for line in said if line.get("logger") == "aiokafka") == 1
    assert sum(1 for line in said if line["event"] == "term.opened") == 20, "events of ours are all written"
