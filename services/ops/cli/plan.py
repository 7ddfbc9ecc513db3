"""`gapless projection plan`: what a rebuild would read, write and take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from services.ops.cli.projection import VersionOption, parse_version, refusals
from services.ops.cli.terminal import ERR, OUT, JsonOption, exit_on_error, print_json, run
from services.ops.errors import Exit
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.projector.versions.plan import Plan


def add_to(app: typer.Typer) -> None:
    """Add the command to `gapless projection`."""
    app.command("plan")(plan_command)


def plan_command(to: VersionOption, as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Show what a rebuild would read, write and take. Nothing is changed.

    Rows and disk space are those of the serving version, in proportion to the log. The time comes from a sample of the
    log, folded in a transaction that is rolled back.

    Exit code: 0, 1 a rebuild would be refused or would not fit on the disk, 2 wrong usage, 3 Kafka or Postgres
    unavailable.
    """
    from services.projector.versions.plan import plan

    with exit_on_error(), refusals():
        number = parse_version(to)
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
        found = run(plan(number, kafka=kafka, postgres=postgres))
    if as_json:
        print_json(_json(found))
    else:
        _show(found)
    obstacle = _obstacle(found)
    if obstacle is not None:
        ERR.say(f"A rebuild into {to} {obstacle}.", style="red")
        raise typer.Exit(Exit.FAULT)


def _obstacle(found: Plan) -> str | None:
    if found.refusal is not None:
        return f"would be refused: {found.refusal}"
    if found.free_bytes is not None and found.needed_bytes > found.free_bytes:
        return f"would not fit: {decimal(found.free_bytes)} are free on the disk of the database"
    return None


def duration(seconds: float) -> str:
    """Return a duration for people: `45 s`, `12 min`, `5 h 30 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _json(found: Plan) -> dict[str, Any]:
    eta, sample = found.eta_s, found.sample
    return {
        "version": f"v{found.version}",
        "state": found.exists.state.value if found.exists is not None else None,
        "serving": f"v{found.serving}" if found.serving is not None else None,
        "refusal": found.refusal,
        "records": found.records,
        "partitions": [
            {"partition": p, "next_offset": found.next_offsets[p], "end": end} for p, end in sorted(found.ends.items())
        ],
        "tables": [{"table": t.name, "rows": t.rows, "bytes": t.size_bytes} for t in found.tables],
        "there_bytes": found.there_bytes,
        "needed_bytes": found.needed_bytes,
        "free_bytes": found.free_bytes,
        "processes": found.processes,
        "eta_s": [round(bound, 1) for bound in eta] if eta is not None else None,
        "sample": {
            "records": sample.records,
            "rows": sample.rows,
            "load_s": round(sample.load_s, 3),
            "index_s": round(sample.index_s, 3),
        }
        if sample is not None
        else None,
    }


def _show(found: Plan) -> None:
    table = Table(title=f"v{found.version} when it is built")
    table.add_column("table", overflow="fold")
    for column in ("rows", "disk"):
        table.add_column(column, justify="right", overflow="fold")
    for name, rows, size_bytes in found.tables:
        table.add_row(name, f"{rows:,}", decimal(size_bytes))
    OUT.print(table)
    state = f"v{found.version} is {found.exists.state.value}" if found.exists is not None else "It would be new"
    OUT.say(f"{state}. To read: {found.records:,} records of {len(found.ends)} partitions.")
    free = decimal(found.free_bytes) if found.free_bytes is not None else "unknown from here"
    OUT.say(f"Disk: {decimal(found.needed_bytes)} more than now; free: {free}.")
    if found.eta_s is None or found.sample is None:
        OUT.say("Time: ?")
        return
    low, high = map(duration, found.eta_s)
    between = (
        low if low == high else f"{low} if {found.processes} processes load at full speed, {high} at the speed of one"
    )
    OUT.say(
        f"Time: {between}; measured on {found.sample.records:,} records, loaded in {found.sample.load_s:.1f} s and"
        f" indexed in {found.sample.index_s:.1f} s."
    )
