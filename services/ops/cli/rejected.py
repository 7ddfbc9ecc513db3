"""`gapless log rejected`: the commands that were rejected, by reason and sender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from schemas import ids
from schemas.errors import Reason
from schemas.instants import instant_of
from services.ops.cli.since import SinceOption, since_ms
from services.ops.cli.terminal import OUT, JsonOption, cell, exit_on_error, print_json, run
from services.ops.errors import UsageError
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, load_settings

if TYPE_CHECKING:
    from services.ops.inspect.rejected import Rejection, Rejections

NAMED: int = 1_000
SENDERS_SHOWN = 50


def rejected(
    since: SinceOption = "24h",
    reason: Annotated[Reason | None, typer.Option(help="Only this reason.")] = None,
    chat: Annotated[str | None, typer.Option(help="Only this chat_id.")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Name each command, with its place and time.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many --list names; all are counted.")] = NAMED,
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Count the rejected commands by reason and sender.

    `gapless show command` shows one of them, by its place.

    Exit code: 0, 1 the log is corrupt, 2 wrong usage, 3 Kafka unavailable.
    """
    with exit_on_error():
        kafka = load_settings(KafkaSettings)
        begin_ms = since_ms(since)
        if chat is not None and not ids.is_uuid(chat):
            raise UsageError(f"{chat} is not a chat_id, which is a UUID in lower case with hyphens.")
    found = run(_counted(kafka, begin_ms, reason, chat, limit if list_them else 0))
    if as_json:
        print_json(_json(found, begin_ms, listed=list_them))
        return
    table = Table(title=f"rejected since {instant_of(begin_ms)}: {found.total:,}")
    for column in ("reason", "sender", "commands", "last"):
        table.add_column(column, justify="right" if column == "commands" else "left", overflow="fold")
    for why, sender, counted in found.most()[:SENDERS_SHOWN]:
        table.add_row(why.value, cell(sender or "-"), f"{counted.count:,}", instant_of(counted.last_at_ms))
    OUT.print(table)
    if len(found.counts) > SENDERS_SHOWN:
        OUT.say(f"{len(found.counts) - SENDERS_SHOWN:,} more pairs of reason and sender: --json has all.", style="dim")
    for each in found.named:
        OUT.say(_line(each))
    if list_them and found.total > len(found.named):
        OUT.say(f"{found.total - len(found.named):,} more: raise --limit.", style="dim")


async def _counted(
    kafka: KafkaSettings, begin_ms: int, reason: Reason | None, chat: str | None, limit: int
) -> Rejections:
    from services.ops.inspect.rejected import Rejections, rejections

    partitions = range(kafka.partitions) if chat is None else [ids.partition_of(chat, kafka.partitions)]
    found = Rejections(limit)
    async for each in rejections(kafka, partitions=partitions, since_ms=begin_ms, reason=reason, chat_id=chat):
        found.add(each)
    return found


def _line(each: Rejection) -> str:
    who = f"sender {each.sender_id or '-'}  chat {each.chat_id or '-'}"
    what = f"{each.reason.value:<16} {each.command_type or '-'}"
    return f"{each.place:>10}  {instant_of(each.at_ms)}  {what}  {who}  {each.detail}"


def _json(found: Rejections, begin_ms: int, *, listed: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "since": instant_of(begin_ms),
        "total": found.total,
        "rejected": [
            {
                "reason": why.value,
                "sender_id": sender,
                "count": counted.count,
                "last_at": instant_of(counted.last_at_ms),
            }
            for why, sender, counted in found.most()
        ],
    }
    if listed:
        document["commands"] = [
            {
                "command": each.place,
                "outcome": f"{each.partition}:{each.index}",
                "at": instant_of(each.at_ms),
                "reason": each.reason.value,
                "detail": each.detail,
                "type": each.command_type,
                "chat_id": each.chat_id,
                "sender_id": each.sender_id,
                "client_generated_id": each.client_generated_id,
            }
            for each in found.named
        ]
    return document
