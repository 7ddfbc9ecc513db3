"""`gapless projection …`: rebuild a projection next to the serving one, verify it, and switch to it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from services.ops.cli.terminal import ERR, OUT, JsonOption, exit_on_error, fail, print_json, progress, run
from services.ops.errors import Exit, UsageError
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.ops.verify.projection.diff import Difference
    from services.ops.verify.projection.verify import ProjectionReport

NAMED_DIFFERENCES = 1_000
app = typer.Typer(no_args_is_help=True, help="Rebuild the read model from the log, verify it, and switch to it.")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
VersionOption = Annotated[str, typer.Option("--to", metavar="vN", help="The projection, as v2.")]


@app.command("verify")
def verify(
    version: Annotated[
        str | None, typer.Option(metavar="vN", help="The projection, as v2. Default: the serving one.")
    ] = None,
    as_json: JsonOption = False,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number of differences to name; all are counted.")
    ] = NAMED_DIFFERENCES,
    _stack: StackOption = None,
) -> None:
    """Compare a projection with the log, as of one snapshot; the projector may keep running.

    It folds the log with its own code, computes a digest of each chat on both sides, and compares chats that differ row
    by row. Every difference is named by table, row and column, with the values in the log and in the table.

    Exit code: 0 equal, 1 different, 2 wrong usage, 3 Kafka or Postgres unavailable.
    """
    from services.ops.verify.projection.verify import verify_projection

    with exit_on_error():
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
        if version is not None:
            parse_version(version)
    began_s = time.monotonic()
    with progress("folding the log", quiet=as_json) as begin:
        report = run(verify_projection(kafka, postgres, version=version, limit=limit, on_plan=begin))
    _record(report, postgres, time.monotonic() - began_s)
    if as_json:
        print_json(report_json(report))
    else:
        _show(report)
    raise typer.Exit(Exit.OK if report.equal else Exit.FAULT)


def parse_version(text: str) -> int:
    """Return the number in `v2`. Raises UsageError."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a version of a projection: write it as v2.")
    return int(match[1])


def report_json(report: ProjectionReport) -> dict[str, Any]:
    """Return the report of `projection verify` for programs; digests are 128 bits in hex."""
    return {
        "version": report.version,
        "equal": report.equal,
        "difference_count": report.difference_count,
        "differences": [_difference_json(difference) for difference in report.differences],
        "faults": report.faults,
        "positions": [
            {"partition": p.partition, "next_offset": p.next_offset, "term": p.head.term, "index": p.head.index}
            for p in report.positions.values()
        ],
        "tables": {
            name: {
                "log": {"rows": said.rows, "digest": said.hex},
                "held": {"rows": report.held[name].rows, "digest": report.held[name].hex},
            }
            for name, said in report.log.items()
        },
    }


def report_digest(report: ProjectionReport) -> str:
    """Return the SHA-256 of a report: what it compared, up to where, and what it found."""
    return hashlib.sha256(json.dumps(report_json(report), sort_keys=True).encode()).hexdigest()


def _record(report: ProjectionReport, postgres: PostgresSettings, took_s: float) -> None:
    """Record the verification. If the database refuses, say so: the result stands without it."""
    import psycopg

    from services.projector.versions.verifications import record_verification
    from services.runtime.postgres.pool import connect

    async def record() -> None:
        connection = await connect(postgres, application_name="gapless-verify", autocommit=True)
        try:
            async with connection.work():
                await record_verification(
                    connection,
                    version=parse_version(report.version),
                    positions={partition: p.next_offset for partition, p in report.positions.items()},
                    equal=report.equal,
                    digest=report_digest(report),
                    took_s=took_s,
                )
        finally:
            await connection.close()

    try:
        asyncio.run(record())
    except (psycopg.Error, TimeoutError) as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        ERR.say(f"This verification is not on record, for `cutover --require-verified`: {why[0]}.", style="yellow")


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {
        "table": difference.table,
        "kind": difference.kind.value,
        "key": dict(difference.key),
        "column": difference.column,
        "log": difference.log,
        "held": difference.held,
    }


def _show(report: ProjectionReport) -> None:
    offsets = sum(p.next_offset for p in report.positions.values())
    table = Table(title=f"projection {report.version} at {offsets:,} offsets of {len(report.positions)} partitions")
    table.add_column("table", overflow="fold")
    for side in ("log", "held"):
        table.add_column(f"rows, {side}", justify="right", overflow="fold")
    for side in ("log", "held"):
        table.add_column(f"digest, {side}", overflow="fold")
    for name, said in report.log.items():
        held = report.held[name]
        style = "" if (said.rows, said.digest) == (held.rows, held.digest) else "red"
        table.add_row(name, f"{said.rows:,}", f"{held.rows:,}", said.hex[:12], held.hex[:12], style=style)
    OUT.print(table)
    for fault in report.faults:
        OUT.say(fault, style="red")
    if report.equal:
        OUT.say((f"Projection {report.version} is what the log says", "green"), ", in every row and column.")
        return
    for difference in report.differences:
        row = ", ".join(f"{name} {value}" for name, value in difference.key)
        column = f" {difference.column}" if difference.column is not None else ""
        says = f": the log says {_shown(difference.log)}, the table holds {_shown(difference.held)}"
        OUT.say((f"{difference.table}{column}", "red"), f" [{row}]", says)
    unnamed = report.difference_count - len(report.differences)
    more = f", {unnamed} of them not shown (--limit)" if unnamed else ""
    OUT.say((f"{report.difference_count} differences", "red"), f"{more}.")


def _shown(value: object) -> str:
    """Return a value for display; strings in quotes, so that they cannot be taken for our own text."""
    return "NULL" if value is None else repr(value) if isinstance(value, str) else str(value)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the projector's refusals into one sentence and an exit code."""
    from services.projector.errors import ProjectorError

    try:
        yield
    except ProjectorError as error:
        fail(f"{error}.", Exit.FAULT)
    except asyncio.CancelledError:
        raise typer.Exit(130) from None
