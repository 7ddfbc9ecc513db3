"""One REPEATABLE READ snapshot per request, in one or two round trips.

A read is a list of statements. They are sent together, as a pipeline:

    BEGIN …; LOCK TABLE chat.active_projection IN ACCESS SHARE MODE; SELECT …; SELECT …; COMMIT

LOCK takes no snapshot, the first SELECT does: so the lock is held before the snapshot exists, and a projection switch,
which takes ACCESS EXCLUSIVE on that table, comes either entirely before it (the snapshot sees its rows and its views)
or entirely after. A read whose later statements depend on the rows of the first ones sends two pipelines in one
transaction. If a connection broke, the read is repeated once on a new one: a read changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from services.query.errors import NotCaughtUp, ReadModelUnavailable
from services.query.metrics import (
    AT_LEAST_WAIT_SECONDS,
    AT_LEAST_WAITING,
    AT_LEAST_WAITS,
    ROWS_RETURNED,
    SNAPSHOT_SECONDS,
    SNAPSHOT_WAIT_SECONDS,
    count_failure,
)
from services.query.settings import QuerySettings
from services.query.snapshot.at_least import HeadWatch, Token
from services.query.snapshot.pipeline import Pipelines
from services.runtime.postgres.pool import PostgresPool, is_spent, open_pool, session_pins
from services.runtime.postgres.sql import load_sql

Row = tuple[Any, ...]
Following: TypeAlias = "Callable[[Sequence[list[Row]]], Sequence[Statement]]"
"""From the rows of a read's statements to those that it continues with, in the same snapshot."""

APPLICATION_NAME: Final = "gapless-query"
CHECK_TIMEOUT_S: Final = 1.5
ATTEMPTS: Final = 2
"""A connection may have been cut since its last use; if a new one breaks too, that is an outage."""

_BROKEN: Final = (psycopg.OperationalError, psycopg.InterfaceError)
_NO_PROJECTION: Final = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)

_log = structlog.get_logger(__name__)


class Statement(NamedTuple):
    """One statement of a read: the name of its SQL block and its parameters."""

    name: str
    parameters: Mapping[str, object]


_BEGIN: Final = Statement("begin", {})
_LOCK: Final = Statement("lock_projection", {})
_COMMIT: Final = Statement("commit", {})
_DEADLINE: Final = Statement("pin_deadline", {})
_PINS: Final = Statement("pin_settings", {})


class SnapshotReader:
    """Runs reads on a pool of connections. Shared by all requests of a process."""

    def __init__(self, settings: QuerySettings) -> None:
        self._settings = settings
        self._watch = HeadWatch(self._heads)
        self._search_watch = HeadWatch(self._search_heads)
        self._opened = AsyncExitStack()
        self._pool: PostgresPool | None = None
        self._is_unavailable = False
        self._ending: set[asyncio.Task[list[list[Row]]]] = set()
        blocks = dict(load_sql("services.query.sql").bind())
        self._rows_returned = {name: ROWS_RETURNED.labels(statement=name) for name in blocks}
        pins = session_pins(settings.postgres, read_only=True)
        framing = {_DEADLINE.name: pins.deadline, _PINS.name: pins.for_transaction}
        self._pipelines = Pipelines({name: block.as_string(None) for name, block in (blocks | framing).items()})

    async def open(self) -> None:
        """Open the pool, which connects in the background, even while Postgres is down."""
        pool = open_pool(self._settings.postgres, application_name=APPLICATION_NAME, autocommit=True, read_only=True)
        self._pool = await self._opened.enter_async_context(pool)

    async def close(self) -> None:
        """Close the pool. Later reads raise ReadModelUnavailable."""
        self._pool = None
        await self._watch.stop()
        await self._search_watch.stop()
        for reading in list(self._ending):
            reading.cancel()  # the second cancellation: now it closes its connection at once
        await self._opened.aclose()

    async def trouble(self) -> str | None:
        """Check for readyz. Returns None if the read model can be read, else a sentence."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._heads()
        except ReadModelUnavailable as error:
            return self._refusal() or str(error)
        except TimeoutError:
            return self._refusal() or "The read model did not answer in time; ask again."
        return None

    def _refusal(self) -> str | None:
        return None if self._pool is None else self._pool.refusal

    async def read(
        self,
        *statements: Statement,
        following: Following | None = None,
        at_least: Token | None = None,
        of_search: bool = False,
    ) -> list[list[Row]]:
        """Return the rows of each statement, all from one snapshot that contains `at_least`.

        The rows of the statements that `following` returns come after them; what it raises ends the read. For a read
        `of_search`, its table must contain the token too.

        :raises ReadModelUnavailable: Postgres cannot be read now.
        :raises NotCaughtUp: no snapshot contained the token in time.
        """
        if at_least is None:
            return await self._repeated(statements, following)
        head = Statement("search_head" if of_search else "head", {"partition": at_least.partition})
        watch = self._search_watch if of_search else self._watch
        started_at_s = time.monotonic()
        deadline_s = started_at_s + self._settings.at_least_timeout_s
        result = "held"
        of_held = None if following is None else _if_held(at_least, following)
        while True:
            rows = await self._repeated((head, *statements), of_held)
            # The snapshot itself decides; the watch only says when to read again.
            if _is_held(at_least, rows[0]):
                AT_LEAST_WAITS.labels(result=result).inc()
                if result == "waited":
                    AT_LEAST_WAIT_SECONDS.observe(time.monotonic() - started_at_s)
                return rows[1:]
            result = "waited"
            with AT_LEAST_WAITING.track_inprogress():
                reached = await watch.wait_for(at_least, deadline_s)
            if not reached:
                AT_LEAST_WAITS.labels(result="behind").inc()
                raise NotCaughtUp(
                    f"The read model has not reached {at_least} within {self._settings.at_least_timeout_s:g} s;"
                    " ask again, or without Gapless-At-Least."
                )

    async def _heads(self) -> dict[int, int]:
        """Return partition → committed index of the projection."""
        (rows,) = await self._repeated([Statement("heads", {})])
        return dict(rows)

    async def _search_heads(self) -> dict[int, int]:
        """Return partition → committed index of the projection and its search, whichever is less."""
        (rows,) = await self._repeated([Statement("search_heads", {})])
        return dict(rows)

    async def _repeated(self, statements: Sequence[Statement], following: Following | None = None) -> list[list[Row]]:
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                answers = await self._in_time(statements, following)
            except _NO_PROJECTION as error:
                raise self._unavailable(error, "The read model has no projection yet; ask again.") from error
            except psycopg.errors.UndefinedColumn as error:
                raise self._unavailable(error, "The read model is older than query; upgrade the projectors.") from error
            except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, PoolTimeout, TimeoutError) as error:
                raise self._unavailable(error, "The read model did not answer in time; ask again.") from error
            except psycopg.Error as error:
                if not is_spent(error) and not isinstance(error, _BROKEN):
                    raise
                if not attempts_left:
                    raise self._unavailable(
                        error, "The read model cannot be reached at the moment; ask again."
                    ) from error
            else:
                self._is_back()
                return answers
        raise AssertionError("the last attempt returns or raises")

    def _unavailable(self, error: Exception, sentence: str) -> ReadModelUnavailable:
        count_failure(error)
        if not self._is_unavailable:  # once per outage, not once per request
            self._is_unavailable = True
            _log.warning("read_model_unavailable", reason=sentence, error=type(error).__name__)
        return ReadModelUnavailable(sentence)

    def _is_back(self) -> None:
        if self._is_unavailable:
            self._is_unavailable = False
            _log.info("read_model_back")

    async def _in_time(self, statements: Sequence[Statement], following: Following | None) -> list[list[Row]]:
        """Run the statements. Raises TimeoutError at the deadline, even if it takes longer to close the connection.

        Cancelling a read on a server that hangs takes psycopg ten seconds, in which it asks the server to cancel it
        too; that continues in the background, and ends by closing the connection.
        """
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._once(statements, following))
        waiting = loop.create_future()

        def wake(_reading: asyncio.Task[list[list[Row]]] | None = None) -> None:
            if not waiting.done():
                waiting.set_result(None)

        # What asyncio.wait does, for one task and without its sets.
        reading.add_done_callback(wake)
        timer = loop.call_later(self._settings.read_timeout_s, wake)
        try:
            await waiting
            if not reading.done():
                raise TimeoutError
        except BaseException:
            self._ending.add(reading)
            reading.add_done_callback(self._ended)
            reading.cancel()
            raise
        finally:
            timer.cancel()
        return reading.result()

    def _ended(self, reading: asyncio.Task[list[list[Row]]]) -> None:
        self._ending.discard(reading)
        if not reading.cancelled():
            reading.exception()  # was answered with 503 long ago

    async def _once(self, statements: Sequence[Statement], following: Following | None) -> list[list[Row]]:
        if self._pool is None:
            raise ReadModelUnavailable("The read model is not connected; ask again.")
        wanted_at_s = time.perf_counter()
        async with self._pool.bare_connection() as connection:
            began_at_s = time.perf_counter()
            SNAPSHOT_WAIT_SECONDS.observe(began_at_s - wanted_at_s)
            # The lock precedes the first statement that takes a snapshot, as the one that pins many settings does.
            first = (_BEGIN, _DEADLINE, _LOCK, _PINS) if connection.pooled else (_BEGIN, _LOCK)
            prepared = not connection.pooled
            if following is None:
                found = await self._pipelines.run(connection, (*first, *statements, _COMMIT), prepared=prepared)
                answers = found[len(first) : -1]
            else:
                found = await self._pipelines.run(connection, (*first, *statements), prepared=prepared)
                answers = found[len(first) :]
                statements = (*statements, *following(answers))
                rest = (*statements[len(answers) :], _COMMIT)
                answers += (await self._pipelines.run(connection, rest, prepared=prepared))[:-1]
            SNAPSHOT_SECONDS.observe(time.perf_counter() - began_at_s)
        for statement, rows in zip(statements, answers, strict=True):
            self._rows_returned[statement.name].inc(len(rows))
        return answers


def _is_held(at_least: Token, head: Sequence[Row]) -> bool:
    """Return whether the snapshot in which this is the partition's head contains the token."""
    return bool(head) and head[0][0] >= at_least.index


def _if_held(at_least: Token, following: Following) -> Following:
    """Return `following` for a read that begins with the head: a snapshot without the token is read no further."""
    return lambda rows: following(rows[1:]) if _is_held(at_least, rows[0]) else ()
