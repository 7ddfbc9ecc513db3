"""`gapless top`: the state of the system, again and again, with rates."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from services.ops.cli.status import AskOption, urls_of
from services.ops.cli.terminal import OUT, JsonOption, cell, exit_on_error, print_json, run
from services.ops.errors import Exit, UsageError
from services.ops.stack.address import API_CA, StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.ops.inspect.status import Status

Looks = AsyncGenerator["Status | str"]
Show = Callable[["Status", "Status | None"], None]


def top(
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option(help="Look twice, an interval apart, print the result and end.")] = False,
    ask: AskOption = None,
    as_json: JsonOption = False,
    stack: StackOption = None,
) -> None:
    """Show what flows through each partition, what is behind, and what is stopped, until q or Ctrl-C.

    With --json and without --once: one JSON document per line, one for each look.

    Exit code: 0, 1 with --once: something is stopped, 2 wrong usage, 3 Kafka unavailable.
    """
    from services.ops.cli.top_view import top_json, top_view
    from services.ops.inspect.status import stopped
    from services.ops.inspect.watch import looks

    with exit_on_error():
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
        urls = urls_of(ask, stack)
        if not (once or as_json or OUT.is_terminal):
            raise UsageError("Without a terminal, use --once or --json.")
    found = looks(kafka, postgres, urls, os.environ.get(API_CA), interval_s=interval, patient=not once)
    if once:
        before, now = run(_twice(found))
        if as_json:
            print_json(top_json(now, before))
        else:
            OUT.print(top_view(now, before))
        raise typer.Exit(Exit.FAULT if stopped(now) else Exit.OK)
    try:
        if as_json:
            run(_each(found, lambda now, before: print_json(top_json(now, before))))
        else:
            run(_live(found))
    except KeyboardInterrupt:
        pass


async def _twice(found: Looks) -> tuple[Status, Status]:
    looked: list[Status] = []
    async with aclosing(found) as each_look:
        async for look in each_look:
            assert not isinstance(look, str), "an error is raised"
            looked.append(look)
            if len(looked) == 2:
                break
    return looked[0], looked[1]


async def _each(found: Looks, show: Show, sorry: Callable[[str], None] | None = None) -> None:
    before: Status | None = None
    async with aclosing(found) as each_look:
        async for look in each_look:
            if isinstance(look, str):
                if sorry is not None:
                    sorry(look)
                continue
            show(look, before)
            before = look


async def _live(found: Looks) -> None:
    from services.ops.cli.top_view import top_view

    with Live(cell("looking …", "dim"), console=OUT, screen=True, auto_refresh=False) as live, _quit_key() as quitting:
        showing = asyncio.create_task(
            _each(
                found,
                lambda now, before: live.update(top_view(now, before), refresh=True),
                lambda sorry: live.update(cell(sorry, "red"), refresh=True),
            )
        )
        waiting = asyncio.create_task(quitting.wait())
        try:
            await asyncio.wait({showing, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if showing.done():
                showing.result()
        finally:
            showing.cancel()
            waiting.cancel()
            await asyncio.gather(showing, waiting, return_exceptions=True)


@contextmanager
def _quit_key() -> Iterator[asyncio.Event]:
    """Set the event when q is pressed, while the block runs. Ctrl-C is a signal as always."""
    quitting = asyncio.Event()
    if not sys.stdin.isatty():
        yield quitting
        return
    import termios
    import tty

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    loop = asyncio.get_running_loop()

    def pressed() -> None:
        if os.read(file, 64)[:1] in (b"q", b"Q", b""):
            quitting.set()

    tty.setcbreak(file)
    loop.add_reader(file, pressed)
    try:
        yield quitting
    finally:
        loop.remove_reader(file)
        termios.tcsetattr(file, termios.TCSADRAIN, before)
