"""`gapless log …`: inspect the log, and verify it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from schemas import ids
from services.ops.cli.terminal import ERR, OUT, JsonOption, exit_on_error, print_json, progress, run
from services.ops.errors import Exit, UsageError
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, load_settings

if TYPE_CHECKING:
    from services.ops.inspect.tail import Tailed
    from services.ops.verify.log.verify import LogReport

app = typer.Typer(no_args_is_help=True, help="Inspect the log of events, and verify it.")
NAMED_VIOLATIONS = 1_000
SHOWN_BODY_CHARACTERS = 80


@app.command("verify")
def verify(
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, help="How many violations to name; all are counted.")] = NAMED_VIOLATIONS,
    _stack: StackOption = None,
) -> None:
    """Read the whole log and name every violation by partition and offset.

    Checks: the validity rule, no gaps in index, seq and position, order of commands and time, one outcome per
    command, no command accepted twice, repeats and decisions, and each outcome against its command as long as
    that is in chat.commands.

    Exit code: 0 sound, 1 a violation, 2 wrong settings, 3 Kafka unavailable.
    """
    from services.ops.verify.log.verify import verify_log

    with exit_on_error():
        settings = load_settings(KafkaSettings)
    with progress("reading the log", quiet=as_json) as begin:
        report = run(verify_log(settings, limit=limit, on_plan=begin))
    if as_json:
        print_json(log_report_json(report))
    else:
        _show(report)
    raise typer.Exit(Exit.OK if report.sound else Exit.FAULT)


def log_report_json(report: LogReport) -> dict[str, Any]:
    """Return the report for programs."""
    return {
        "sound": report.sound,
        "violation_count": report.violation_count,
        "violations": [
            {"partition": f.partition, "offset": f.offset, "rule": f.rule, "detail": f.detail}
            for f in report.violations
        ],
        "partitions": [
            {
                "partition": p.partition,
                "end_offset": p.end_offset,
                "records": p.counts.records,
                "outcomes": p.counts.outcomes,
                "void": p.counts.void,
                "terms": p.counts.terms,
                "term": p.term,
                "chats": p.chats,
                "commands_compared": p.commands_compared,
            }
            for p in report.partitions
        ],
    }


def _show(report: LogReport) -> None:
    table = Table(title="chat.events")
    for column in ("partition", "records", "outcomes", "void", "term", "chats", "commands compared"):
        table.add_column(column, justify="right", overflow="fold")
    for p in report.partitions:
        counts = p.counts
        cells = (p.partition, counts.records, counts.outcomes, counts.void, p.term, p.chats, p.commands_compared)
        table.add_row(*map(str, cells))
    OUT.print(table)
    if report.sound:
        OUT.print("[green]The log is sound:[/] every rule holds in every partition.")
        return
    for f in report.violations:
        OUT.say((f"partition {f.partition}, offset {f.offset}", "red"), f"  {f.rule}: {f.detail}")
    OUT.say(
        (f"{report.violation_count} violations", "red"), f"{_unnamed(report.violation_count, len(report.violations))}."
    )


def _unnamed(count: int, named: int) -> str:
    return f", the first {named} by name" if count > named else ""


@app.command("tail")
def tail(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    from_beginning: Annotated[bool, typer.Option(help="Start at offset 0, and show each record's verdict.")] = False,
    follow: Annotated[bool, typer.Option(help="Wait for new records; otherwise stop at the current end.")] = True,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    chat: Annotated[str | None, typer.Option(help="Only this chat_id.")] = None,
    _stack: StackOption = None,
) -> None:
    """Print the records of chat.events as they are appended, until Ctrl-C.

    A record of a replaced writer is marked void; that can be determined only with --from-beginning.

    Exit code: 0, 2 wrong usage, 3 Kafka unavailable.
    """
    with exit_on_error():
        settings = load_settings(KafkaSettings)
        partitions = _chosen(settings, partition, chat)
    try:
        run(_tail(settings, partitions, chat, from_beginning=from_beginning, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        ERR.print()


def _chosen(settings: KafkaSettings, partition: int | None, chat: str | None) -> list[int]:
    if partition is not None and partition >= settings.partitions:
        raise UsageError(f"There are partitions 0 to {settings.partitions - 1}: choose one of them.")
    if chat is None:
        return [partition] if partition is not None else list(range(settings.partitions))
    if not ids.is_uuid(chat):
        raise UsageError(f"{chat} is not a chat_id, which is a UUID in lower case with hyphens.")
    home = ids.partition_of(chat, settings.partitions)
    if partition not in (None, home):
        raise UsageError(f"Chat {chat} is in partition {home}: omit --partition.")
    return [home]


async def _tail(
    settings: KafkaSettings,
    partitions: list[int],
    chat: str | None,
    *,
    from_beginning: bool,
    follow: bool,
    as_json: bool,
) -> None:
    from services.ops.inspect.tail import tail_log

    async for tailed in tail_log(settings, partitions=partitions, from_beginning=from_beginning, follow=follow):
        if chat is not None and (tailed.outcome is None or tailed.outcome.chat_id != chat):
            continue
        if as_json:
            print_json(_tailed_json(tailed))
        else:
            OUT.say(_line(tailed), style=_style(tailed))


def _tailed_json(tailed: Tailed) -> dict[str, Any]:
    stamp, outcome = tailed.stamp, tailed.outcome
    document: dict[str, Any] = {"partition": tailed.partition, "offset": tailed.offset, "verdict": tailed.verdict}
    if tailed.trouble is not None:
        document["trouble"] = tailed.trouble
    if stamp is not None:
        document |= {"term": stamp.term, "index": stamp.index}
        if stamp.index:
            document["command_offset"] = stamp.command_offset
    if outcome is not None:
        fields = {
            "type": outcome.type,
            "at_ms": outcome.at_ms,
            "chat_id": outcome.chat_id,
            "sender_id": outcome.sender_id,
            "command_id": outcome.command_id,
            "client_generated_id": outcome.client_generated_id,
            "seq": outcome.seq,
            "position": outcome.position,
            "body": outcome.body.decode("utf-8", "replace"),
        }
        document |= {name: value for name, value in fields.items() if value is not None}
    return document


def _line(tailed: Tailed) -> str:
    place = f"{tailed.partition}:{tailed.offset}"
    mark = f" {tailed.verdict}" if tailed.verdict in ("void", "corrupt", "unknown_type") else ""
    if tailed.outcome is None or tailed.stamp is None:
        return f"{place:>10}  {tailed.trouble or ''}{mark}"
    outcome, stamp = tailed.outcome, tailed.stamp
    at = datetime.fromtimestamp(outcome.at_ms / 1000, UTC).isoformat(timespec="milliseconds")[11:23]
    figures = " ".join(
        f"{name} {value}" for name, value in (("seq", outcome.seq), ("position", outcome.position)) if value is not None
    )
    body = outcome.body.decode("utf-8", "replace")
    if OUT.is_terminal and len(body) > SHOWN_BODY_CHARACTERS:
        body = body[: SHOWN_BODY_CHARACTERS - 1] + "…"
    return (
        f"{place:>10}  {at}  {stamp.term}/{stamp.index:<8} {outcome.type:<22} "
        f"{outcome.chat_id or '-':<36}  {figures:<22} {body}{mark}"
    )


def _style(tailed: Tailed) -> str:
    return {"void": "dim", "corrupt": "red", "unknown_type": "red", "opens": "cyan"}.get(tailed.verdict or "", "")
