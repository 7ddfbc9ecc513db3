"""Operators who work with versions one after another, and at the same time."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest

from services.projector.errors import ProjectionMissing, SwitchFailed
from services.projector.following.feeds import HISTORY
from services.projector.versions.cutover import cutover, projections
from services.projector.versions.load_processes import load_in_processes
from services.projector.versions.migrations import create_projection
from services.projector.versions.operators import VIEWS, holders, only_one, this_operator
from services.projector.versions.overview import Overview, overview
from services.projector.versions.rebuild import RebuildProgress, Stage, rebuild
from services.projector.versions.registry import REGISTRY, State, positions
from services.projector.versions.retirement import drop, stop_feeding
from services.projector.versions.rollback import last_cutover, rollback
from services.projector.versions.verifications import record_verification
from tests.support.projection import dump, until
from tests.support.proving import feed_to_end
from tests.support.versions import PARTITIONS, World, world

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _roll_back(w: World) -> tuple[int, int]:
    done = await rollback(kafka=w.kafka, postgres=w.postgres, timeout_s=30)
    return done.from_version, done.to_version


async def _serving(w: World) -> int:
    return next(p.version for p in await projections(postgres=w.postgres) if p.state is State.SERVING)


async def test_a_rollback_undoes_the_last_cutover_and_a_second_one_undoes_the_first(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        async with w.projector():
            await w.rebuild(2)
            await w.rebuild(3)
            await w.cutover(2)
            await w.cutover(3)
            await w.cutover(3)  # it serves already: nothing to record
            assert await _roll_back(w) == (3, 2)
            assert await _serving(w) == 2
            await w.talk(5)
            assert await _roll_back(w) == (2, 3)
            assert await _serving(w) == 3
            async with w.pool.connection() as connection:
                last = await last_cutover(connection)
            assert last is not None
            assert (last.from_version, last.to_version, last.operator) == (2, 3, this_operator())
            await w.at_end("chat_v1", "chat_v2", "chat_v3")
        await w.equal("chat_v1", "chat_v3")


async def test_without_a_cutover_to_undo_a_rollback_is_refused_and_changes_nothing(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        with pytest.raises(SwitchFailed, match=r"no cutover to roll back.*readers see v1"):
            await _roll_back(w)
        async with w.projector():
            await w.rebuild(2)
            await w.cutover(2)
            await stop_feeding(1, postgres=w.postgres)
            with pytest.raises(ProjectionMissing, match=r"chat_v1 is no longer fed.*rebuild --to v1"):
                await _roll_back(w)
            await drop(1, postgres=w.postgres)
            with pytest.raises(ProjectionMissing, match=r"readers saw v1, which has been dropped"):
                await _roll_back(w)
            await w.rebuild(3)
        async with w.pool.connection() as connection:
            await connection.execute("UPDATE chat.active_projection SET version = 3")  # as a release without records
            before = await dump(connection, "chat_v3")
        with pytest.raises(SwitchFailed, match=r"went to v2 and readers see v3"):
            await _roll_back(w)
        async with w.pool.connection() as connection:
            assert await dump(connection, "chat_v3") == before
            assert (await (await connection.execute("SELECT count(*) FROM chat.cutovers")).fetchone()) == (1,)


async def test_a_rollback_finds_its_record_in_a_database_of_an_older_release(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.rebuild(2)
        async with w.pool.connection() as connection:
            await connection.execute("DROP TABLE chat.cutovers")
            await connection.execute("DELETE FROM chat.schema_migrations WHERE scope = 'control' AND number >= 4")
        with pytest.raises(SwitchFailed, match="none is on record"):
            await _roll_back(w)
        await w.cutover(2)
        assert await _roll_back(w) == (2, 1)


async def _record(w: World, version: int, *, equal: bool = True, took_s: float = 0.0, less: int = 0) -> None:
    """Record a verification of what the tables hold now, as `gapless projection verify` does at its end."""
    async with w.pool.connection() as connection:
        there = await positions(connection, version)
        await record_verification(
            connection, version=version, equal=equal, digest="of a report", took_s=took_s,
            positions={place.partition: offset - less for place, offset in there.items() if not place.of_search},
        )  # fmt: skip


async def test_a_cutover_that_requires_a_verification_takes_the_newest_one_since_the_version_was_built(
    kafka: str, database: str
) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)

        async def cut_over() -> None:
            await cutover(2, kafka=w.kafka, postgres=w.postgres, require_verified=True)

        await w.rebuild()
        with pytest.raises(SwitchFailed, match=r"chat_v2 is not verified: no verification .* verify --version v2"):
            await cut_over()
        await _record(w, 1)  # of another version
        with pytest.raises(SwitchFailed, match="no verification"):
            await cut_over()
        await _record(w, 2)
        await drop(2, postgres=w.postgres)
        await w.rebuild()
        with pytest.raises(SwitchFailed, match="no verification"):
            await cut_over()
        await _record(w, 2, took_s=3_600)
        with pytest.raises(SwitchFailed, match="began before it was built"):
            await cut_over()
        await _record(w, 2, less=1)
        with pytest.raises(SwitchFailed, match="covers less than was loaded, in partitions 0, 1"):
            await cut_over()
        await _record(w, 2)
        await _record(w, 2, equal=False)
        with pytest.raises(SwitchFailed, match="found differences"):
            await cut_over()
        assert await _serving(w) == 1
        await _record(w, 2)
        await cut_over()
        assert await _serving(w) == 2


async def test_a_cutover_is_refused_while_the_version_is_further_behind_than_the_operator_allows(
    kafka: str, database: str
) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        await w.rebuild()
        before = [len(log.events) for log in w.logs]
        await w.talk(5)
        behind = [len(log.events) - b for log, b in zip(w.logs, before, strict=True)]

        async def cut_over(max_behind: int) -> None:
            await cutover(2, kafka=w.kafka, postgres=w.postgres, max_behind=max_behind)

        named = f"partition 0 by {behind[0]}, partition 1 by {behind[1]}, partition 0 .search. by {behind[0]}"
        with pytest.raises(SwitchFailed, match=f"more than {min(behind) - 1} records behind .*{named}"):
            await cut_over(min(behind) - 1)
        for log in w.logs:
            await feed_to_end(w.kafka, w.pool, log.partition, version=2, max_records=1_000, feeds=(HISTORY,))
        with pytest.raises(SwitchFailed, match=r"the log: partition 0 \(search\) by"):
            await cut_over(min(behind) - 1)
        assert await _serving(w) == 1
        await cut_over(max(behind))
        assert await _serving(w) == 2


TAKEN = r"another process is changing {what}: {who} runs `{command}` since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC; wait"


def _taken(what: str, command: str) -> str:
    return TAKEN.format(what=what, who=re.escape(this_operator()), command=re.escape(command))


async def test_a_second_operator_learns_who_changes_the_version_since_when(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        refused: list[asyncio.Task[str]] = []

        async def refusal(change: Coroutine[Any, Any, object]) -> str:
            with pytest.raises(ProjectionMissing) as raised:
                await change
            return str(raised.value)

        def interrupt(progress: RebuildProgress) -> None:
            if progress.stage is Stage.LOAD and not refused:
                again = (
                    w.rebuild(2), drop(2, postgres=w.postgres), stop_feeding(2, postgres=w.postgres), w.cutover(2)
                )  # fmt: skip
                refused.extend(asyncio.create_task(refusal(change)) for change in again)

        await rebuild(2, kafka=w.kafka, postgres=w.postgres, on_progress=interrupt, max_batch_records=5)
        for sentence in await asyncio.gather(*refused):
            assert re.match(_taken("v2", "gapless projection rebuild --to v2"), sentence), sentence
        await w.rebuild(3)
        await w.cutover(2)
        async with only_one(w.postgres, VIEWS, 3, command="gapless projection cutover --to v3"):
            for change in (w.cutover(1), _roll_back(w)):
                with pytest.raises(
                    ProjectionMissing, match=_taken("what readers see", "gapless projection cutover --to v3")
                ):
                    await change
        assert await _roll_back(w) == (2, 1)


HOLD_IN_A_PROCESS = """
import asyncio, sys
from pydantic import SecretStr
from services.projector.versions.operators import only_one
from services.runtime.settings import PostgresSettings

async def hold() -> None:
    async with only_one(PostgresSettings(dsn=SecretStr(sys.argv[1])), 2, command="a rebuild that is killed"):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


async def test_a_process_that_is_killed_leaves_no_lock_and_is_not_named(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.rebuild(2)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLD_IN_A_PROCESS, database, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"held\n"
        with pytest.raises(ProjectionMissing, match=rf":{process.pid} runs `a rebuild that is killed` since"):
            await stop_feeding(2, postgres=w.postgres)
        process.kill()
        await process.wait()
        async with w.pool.connection() as connection:

            async def is_free() -> bool:
                return await holders(connection) == {}

            await until(is_free, "the lock of the killed process gone")
            assert (await (await connection.execute("SELECT command FROM chat.operations")).fetchone()) == (
                "a rebuild that is killed",
            )
            # A process that holds the lock and has written no row yet.
            await connection.execute(REGISTRY["try_rebuild_lock"], {"version": 2})
            with pytest.raises(ProjectionMissing, match="another process is changing v2; wait"):
                await stop_feeding(2, postgres=w.postgres)
            await connection.execute("SELECT pg_advisory_unlock_all()")
            await stop_feeding(2, postgres=w.postgres)
            assert (await (await connection.execute("SELECT count(*) FROM chat.operations")).fetchone()) == (0,)


async def _feed(w: World, version: int) -> None:
    for log in w.logs:
        await feed_to_end(w.kafka, w.pool, log.partition, version=version, max_records=1_000)


async def test_a_rebuild_reads_nothing_while_the_serving_projection_lags_too_far(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(50)
        seen: list[RebuildProgress] = []
        work = asyncio.create_task(rebuild(2, kafka=w.kafka, postgres=w.postgres, on_progress=seen.append, max_lag=5))
        total = sum(len(log.events) for log in w.logs)

        async def waits() -> bool:
            return bool(seen) and seen[-1].waits_for_lag == total

        await until(waits, "the rebuild waiting for the serving projection")
        async with w.pool.connection() as connection:
            assert set((await positions(connection, 2)).values()) <= {0}
        await _feed(w, 1)
        done = await work
        assert (done.records_done, done.waits_for_lag) == (total, None)
        await w.equal("chat_v1", "chat_v2")


async def test_the_other_processes_of_a_rebuild_wait_for_the_serving_projection_too(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(50)
        async with w.pool.connection() as connection:
            await create_projection(connection, 2)
            async with connection.transaction():
                # Measuring the lag waits for this lock, so it can be seen that both processes measure before they read.
                await connection.execute("LOCK TABLE chat_v1.projection_positions IN ACCESS EXCLUSIVE MODE")
                work = asyncio.create_task(
                    load_in_processes(
                        deque(range(PARTITIONS)), processes=PARTITIONS, at_once=1, version=2, kafka=w.kafka,
                        postgres=w.postgres, max_batch_records=10, on_loaded=lambda _loaded: None, max_lag=5,
                    )
                )  # fmt: skip

                async def both_measure() -> bool:
                    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
                    row = await (await connection.execute(waiting, ["chat_v1.projection_positions"])).fetchone()
                    return row == (PARTITIONS,) or work.done()

                await until(both_measure, "both processes measuring the lag")
                assert not work.done()
                assert set((await positions(connection, 2)).values()) == {0}
        await _feed(w, 1)
        await work
        await w.at_end("chat_v2")


async def test_the_progress_of_a_rebuild_is_of_the_whole_log_from_its_first_word(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(200)
        total = sum(len(log.events) for log in w.logs)
        seen: list[RebuildProgress] = []

        def stop_halfway(progress: RebuildProgress) -> None:
            seen.append(progress)
            if progress.folded >= total // 2:
                raise _Interrupted

        with pytest.raises(_Interrupted):
            await rebuild(2, kafka=w.kafka, postgres=w.postgres, on_progress=stop_halfway, max_batch_records=20)
        assert {progress.whole for progress in seen} == {total}
        assert (seen[0].folded, seen[0].records_before) == (0, 0)
        async with w.pool.connection() as connection:
            loaded = sum(o for p, o in (await positions(connection, 2)).items() if not p.of_search)
        resumed: list[RebuildProgress] = []
        done = await rebuild(2, kafka=w.kafka, postgres=w.postgres, on_progress=resumed.append)
        assert (resumed[0].folded, resumed[0].whole) == (loaded, total)
        assert (done.folded, done.whole, done.records_done) == (total, total, total - loaded)


async def _seen(w: World, version: int) -> Overview:
    return next(o for o in (await overview(postgres=w.postgres)).overviews if o.projection.version == version)


async def test_a_list_shows_how_far_a_rebuild_is_while_it_runs_and_after_it_was_ended(
    kafka: str, database: str
) -> None:
    async with world(kafka, database) as w:
        await w.talk(200)
        ends = {log.partition: len(log.events) for log in w.logs}
        whole = sum(ends.values())

        def stop_halfway(progress: RebuildProgress) -> None:
            if progress.folded >= whole // 2:
                raise _Interrupted

        with pytest.raises(_Interrupted):
            await rebuild(2, kafka=w.kafka, postgres=w.postgres, on_progress=stop_halfway, max_batch_records=20)
        ended = await _seen(w, 2)
        assert (ended.state, ended.holder, {ended.feeder(stand) for stand in ended.stands}) == (
            "abandoned",
            None,
            {None},
        )
        folded, total = ended.share(ends)
        assert whole // 2 <= folded < total == whole

        seen: list[RebuildProgress] = []
        work = asyncio.create_task(rebuild(2, kafka=w.kafka, postgres=w.postgres, on_progress=seen.append, max_lag=0))

        async def waits() -> bool:
            return bool(seen) and seen[-1].waits_for_lag is not None

        await until(waits, "the rebuild waiting")
        running = await _seen(w, 2)
        assert (running.state, running.share(ends)) == ("building", (folded, whole))
        assert running.holder is not None
        assert running.holder.command == "gapless projection rebuild --to v2"
        assert {running.feeder(stand) for stand in running.stands} == {f"rebuild by {this_operator()}"}
        await _feed(w, 1)
        await work
        built = await _seen(w, 2)
        assert (built.state, built.holder, built.share(ends)) == ("standby", None, (whole, whole))
        assert built.of_this_release
        assert built.size_bytes > ended.size_bytes


async def test_a_list_says_which_partitions_are_fed_and_from_where(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        ends = {log.partition: len(log.events) for log in w.logs}
        async with w.projector():
            await w.at_end("chat_v1")
            serving = await _seen(w, 1)
        assert [(s.partition, s.next_offset, s.search_offset, s.behind(ends)) for s in serving.stands] == [
            (p, end, end, 0) for p, end in ends.items()
        ]
        assert {serving.feeder(stand) for stand in serving.stands} == {"projector"}
        async with w.pool.connection() as connection:
            await connection.execute(
                "UPDATE chat_v1.projection_positions SET updated_at = now() - interval '1 minute' WHERE partition = 1"
            )
            await connection.execute("SET application_name = 'gapless-projector'")
            left = await overview(postgres=w.postgres)
            await connection.execute("SET application_name = 'test'")
        (only,) = left.overviews
        assert [only.feeder(stand) for stand in only.stands] == ["projector", None]
        assert sum(left.projectors.values()) == 1
        assert (await overview(postgres=w.postgres)).projectors == {}


class _Interrupted(Exception):
    """A rebuild was interrupted."""


async def test_a_damaged_standby_is_built_again_in_place_and_what_serves_is_not(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(50)
        async with w.projector():
            await w.rebuild(2)
            async with w.pool.connection() as connection:
                await connection.execute("UPDATE chat_v2.chat_messages SET message_text = 'damaged' WHERE seq = 3")
            assert (await w.rebuild(2)).records_done == 0, "without --again it is built already"
            done = await rebuild(2, kafka=w.kafka, postgres=w.postgres, again=True)
            assert (done.records_before, done.folded) == (0, done.whole)
            with pytest.raises(ProjectionMissing, match="what readers see"):
                await rebuild(1, kafka=w.kafka, postgres=w.postgres, again=True)
            assert await w.state(2) is State.STANDBY
            await w.talk(5)
            await w.at_end("chat_v1", "chat_v2")
        await w.equal("chat_v1", "chat_v2")
