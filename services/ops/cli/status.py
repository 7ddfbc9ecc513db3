"""`gapless status`: what runs, what is behind, and what is stopped and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.ops.cli.terminal import OUT, JsonOption, exit_on_error, print_json, run
from services.ops.errors import Exit, UsageError
from services.ops.stack.address import API_CA, StackOption, processes_of
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.ops.inspect.status import Status

AskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ask", metavar="NAME=URL", help="Also ask this process for /readyz; may be repeated. An embedded stack's are."
    ),
]


def status(ask: AskOption = None, as_json: JsonOption = False, stack: StackOption = None) -> None:
    """Show which process writes each partition, the standbys, what waits, the projections, and what is stopped and why.

    Which process writes is known by the sequencers' heartbeats, and by the processes that are asked.

    Exit code: 0, 1 something is stopped, 2 wrong settings, 3 Kafka unavailable.
    """
    from services.ops.cli.status_lines import status_json, status_lines
    from services.ops.inspect.status import stopped

    with exit_on_error():
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
        urls = urls_of(ask, stack)
    found = run(_look(kafka, postgres, urls))
    if as_json:
        print_json(status_json(found))
    else:
        for text, style in status_lines(found):
            OUT.say(text, style=style)
    raise typer.Exit(Exit.FAULT if stopped(found) else Exit.OK)


def urls_of(ask: list[str] | None, stack: Path | None) -> dict[str, str]:
    """Return name → URL of the processes to ask: those of the stack, and those that were named. Raises UsageError."""
    urls = processes_of(stack)
    for each in ask or ():
        name, equals, url = each.partition("=")
        if not (name and equals and url.startswith(("http://", "https://"))):
            raise UsageError(f"--ask is a name and a base URL, as --ask query=http://query:8080, not {each}.")
        urls[name] = url
    return urls


async def _look(kafka: KafkaSettings, postgres: PostgresSettings, urls: dict[str, str]) -> Status:
    from services.ops.inspect.watch import watching

    async with watching(kafka, postgres, urls, os.environ.get(API_CA)) as watch:
        return await watch.look()
