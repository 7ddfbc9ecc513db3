"""`gapless log export`, `import` and `restore-test`: back the log up, put it back, and prove that it can be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from services.ops.cli.log import log_report_json
from services.ops.cli.projection import refusals, report_json
from services.ops.cli.stack import stack_errors
from services.ops.cli.terminal import ERR, OUT, JsonOption, OnProgress, exit_on_error, print_json, progress, run
from services.ops.errors import Exit
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, load_settings

if TYPE_CHECKING:
    from services.ops.transfer.checks import OnPlan
    from services.ops.transfer.export import ExportReport
    from services.ops.transfer.import_ import ImportReport
    from services.ops.transfer.restore_test import RestoreReport

PLACE = "a folder, or a store's URL (s3://bucket/path, gs://…, az://…, file:///…)"
To = Annotated[str, typer.Option("--to", metavar="PLACE", help=f"Where the archive is: {PLACE}.")]
From = Annotated[str, typer.Option("--from", metavar="PLACE", help=f"Where the archive is: {PLACE}.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `gapless log`."""
    app.command("export")(export)
    app.command("import")(import_)
    app.command("restore-test")(restore_test)


def export(to: To, as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Copy chat.events and chat.commands into an archive, while everything runs.

    A later export to the same place adds only what is new, after a check that it is the same log. If it is stopped or
    killed, run it again: it goes on.

    Exit code: 0 whole, 1 another log is there, or no reader can pass some record of the log (it is copied all the
    same), 2 wrong settings, 3 Kafka or the store unavailable.
    """
    from services.ops.transfer.archive import Archive
    from services.ops.transfer.export import export_log

    with exit_on_error():
        settings = load_settings(KafkaSettings)
        archive = Archive(to, create=True)
    with progress("copying the log", quiet=as_json) as begin:
        report = run(export_log(settings, archive, on_plan=begin))
    if as_json:
        print_json(export_json(report))
    else:
        _show_export(report, to)
    raise typer.Exit(Exit.FAULT if report.stopped or report.fault else Exit.OK)


def import_(source: From, as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Write an archive into a cluster without a log, with the same offsets, then read it back and verify it.

    Nothing is written if any file of the archive is damaged or missing. The topics are created if they are missing. No
    service may run on that cluster meanwhile. If it is stopped or killed, run it again: it goes on. Then start the
    services, and rebuild the read model.

    Exit code: 0 imported and sound, 1 refused, or the log breaks a rule, 2 wrong settings, 3 Kafka or the store
    unavailable.
    """
    from services.ops.transfer.archive import Archive
    from services.ops.transfer.import_ import import_log

    with exit_on_error():
        settings = load_settings(KafkaSettings)
        archive = Archive(source, create=False)
    with _bars(quiet=as_json) as on_plan:
        report = run(import_log(settings, archive, on_plan=on_plan))
    if as_json:
        print_json(import_json(report))
    else:
        _show_import(report)
        OUT.say("Now start the services, and rebuild the read model: docs/operations.md, Backup.")
    raise typer.Exit(Exit.OK if report.log.sound else Exit.FAULT)


def restore_test(
    source: From,
    work_dir: Annotated[
        Path | None,
        typer.Option("--work-dir", metavar="D", help="Where the servers keep their data. Default: a temporary folder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove an archive by restoring it into a Kafka and a Postgres of its own, on this machine.

    It imports the log, verifies it, folds the read model and compares it with the log, and prints the digests. It needs
    disk space for the log, uncompressed, and for the read model; the data is deleted at the end.

    Exit code: 0 it can be restored, 1 it cannot, 2 wrong usage, 3 the store, a server or a download is unavailable.
    """
    from services.ops.transfer.archive import Archive
    from services.ops.transfer.restore_test import restore_test as test

    with exit_on_error(), stack_errors(), refusals(), ExitStack() as last:
        archive = Archive(source, create=False)
        if work_dir is not None:
            work_dir.mkdir(parents=True, exist_ok=True)
        folder = last.enter_context(tempfile.TemporaryDirectory(prefix="gapless-restore-", dir=work_dir))
        on_plan = last.enter_context(_bars(quiet=as_json))
        report = run(test(archive, Path(folder), on_plan=on_plan, on_step=lambda step: ERR.say((step, "dim"))))
    if as_json:
        print_json(restore_json(report))
    else:
        _show_restored(report)
    raise typer.Exit(Exit.OK if report.sound else Exit.FAULT)


@contextmanager
def _bars(*, quiet: bool) -> Iterator[OnPlan]:
    """Yield what shows a bar for each step, one after the other."""
    with ExitStack() as current:

        def on_plan(what: str, total: int) -> OnProgress:
            current.close()
            return current.enter_context(progress(what, quiet=quiet))(total)

        yield on_plan


def export_json(report: ExportReport) -> dict[str, Any]:
    """Return the report for programs."""
    manifest = report.manifest
    return {
        "went_on": report.went_on,
        "copied": {topic.value: count for topic, count in report.records.items()},
        "segments": report.segments,
        "stored_bytes": report.stored_bytes,
        "exported_at": manifest.exported_at,
        "fault": report.fault,
        "partitions": [
            {
                "partition": p.partition,
                "events_end": p.events.end,
                "commands_begin": p.commands.begin,
                "commands_end": p.commands.end,
                "term": p.head.term,
                "index": p.head.index,
                "command_offset": p.head.command_offset,
                "stopped": {"offset": p.stopped.offset, "reason": p.stopped.reason} if p.stopped is not None else None,
            }
            for p in manifest.partitions
        ],
    }


def import_json(report: ImportReport) -> dict[str, Any]:
    """Return the report for programs."""
    return {
        "sound": report.log.sound,
        "written": report.written,
        "partitions": [
            {
                "partition": p.partition,
                "events": p.events,
                "events_digest": p.events_digest,
                "commands_begin": p.commands_begin,
                "commands_end": p.commands_end,
                "term": p.head.term,
                "index": p.head.index,
                "command_offset": p.head.command_offset,
            }
            for p in report.partitions
        ],
        "log": log_report_json(report.log),
    }


def restore_json(report: RestoreReport) -> dict[str, Any]:
    """Return the report for programs."""
    return {
        "sound": report.sound,
        "import": import_json(report.imported),
        "projection": report_json(report.projection),
        "seconds": {step: round(seconds, 3) for step, seconds in report.seconds.items()},
    }


def _show_export(report: ExportReport, to: str) -> None:
    copied = ", ".join(f"{count:,} {topic.value}" for topic, count in report.records.items())
    what = "are new and copied" if report.went_on else "are copied"
    OUT.say((f"{copied}", "green"), f" {what} to {to}: {report.segments} segments, {decimal(report.stored_bytes)}.")
    for partition in report.stopped:
        assert partition.stopped is not None
        OUT.say(
            (f"partition {partition.partition}, offset {partition.stopped.offset}", "red"),
            f"  {partition.stopped.reason}; the partition is copied whole. `gapless log verify` says more.",
        )
    if report.fault is not None:
        OUT.say(report.fault, style="red")


def _show_import(report: ImportReport) -> None:
    table = Table(title="imported and read back")
    for column in ("partition", "events", "commands", "term", "index"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("digest of the events", overflow="fold")
    for p in report.partitions:
        commands = f"{p.commands_begin}–{p.commands_end - 1}" if p.commands_end > p.commands_begin else ""
        table.add_row(str(p.partition), f"{p.events:,}", commands, str(p.head.term), str(p.head.index), p.events_digest)
    OUT.print(table)
    for violation in report.log.violations:
        place = f"partition {violation.partition}, offset {violation.offset}"
        OUT.say((place, "red"), f"  {violation.rule}: {violation.detail}")
    if report.log.sound:
        OUT.say(("The log is what was exported, and sound.", "green"))
    else:
        OUT.say(("The log is what was exported", "red"), f", with {report.log.violation_count} violations.")


def _show_restored(report: RestoreReport) -> None:
    _show_import(report.imported)
    table = Table(title="the read model, folded from it")
    for column in ("table", "rows", "digest"):
        table.add_column(column, overflow="fold")
    for name, held in report.projection.held.items():
        table.add_row(name, f"{held.rows:,}", held.hex)
    OUT.print(table)
    took = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in report.seconds.items())
    if report.sound:
        OUT.say(("This archive can be restored", "green"), f": {took}.")
    else:
        for fault in report.projection.faults:
            OUT.say(fault, style="red")
        differences = report.projection.difference_count
        OUT.say(("This archive cannot be restored as it should be", "red"), f" ({differences} differences): {took}.")
