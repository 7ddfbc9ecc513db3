"""`gapless projection rebuild`: fold the log into another version, and show how far it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from services.ops.cli.plan import duration
from services.ops.cli.projection import VersionOption, parse_version, refusals
from services.ops.cli.retirement import confirm
from services.ops.cli.terminal import ERR, OUT, JsonOption, exit_on_error, print_json, run
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.projector.versions.rebuild import OnProgress, RebuildProgress

LINE_INTERVAL_S: Final = 5.0
"""Time between two lines of progress, if standard error is not a terminal."""


def add_to(app: typer.Typer) -> None:
    """Add the command to `gapless projection`."""
    app.command("rebuild")(rebuild_command)


def rebuild_command(
    to: VersionOption,
    max_lag: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Wait while the serving projection has more events to apply."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Delete the version first, and fold the whole log: for a damaged one.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --again deletes.")] = False,
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Fold the whole log into another version next to the serving one; if interrupted, the next run continues.

    The progress is on standard error: a bar on a terminal, otherwise a line every few seconds. It counts the records of
    all partitions, with those of earlier runs. The first fault of the log ends the rebuild, and so does a server that
    stays away for about a minute; what is loaded stays.

    Exit code: 0 built and on standby, 1 refused, 2 wrong usage, 3 Kafka or Postgres unavailable, 130 stopped by Ctrl-C.
    """
    from services.projector.versions.rebuild import rebuild

    with exit_on_error(), refusals():
        number = parse_version(to)
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
        if again and not yes:
            confirm(to)
        with _bar(to) if ERR.is_terminal and not as_json else _lines(to, quiet=as_json) as shown:
            work = rebuild(number, kafka=kafka, postgres=postgres, on_progress=shown.show, max_lag=max_lag, again=again)
            done = run(shown.during(work))
    if as_json:
        print_json(
            {
                "version": to,
                "records": done.records_done,
                "rows": done.rows,
                "seconds": round(done.seconds, 3),
                "records_per_s": round(done.records_per_s, 1),
            }
        )
        return
    OUT.say(
        (f"{to} is built", "green"),
        f" and fed: {done.records_done:,} records, {done.rows:,} rows in {done.seconds:.1f} s"
        f" ({done.records_per_s:,.0f} records/s). Verify it with `gapless projection verify --version {to}`, then"
        f" `gapless projection cutover --to {to} --require-verified`.",
    )


def share(folded: int, whole: int) -> str:
    """Return a share in percent; 100 % only if nothing is left."""
    if not whole or folded >= whole:
        return "100 %"
    return f"{min(99.9, folded / whole * 100):.1f} %"


def progress_line(version: str, now: RebuildProgress) -> str:
    """Return the progress of a rebuild in one line."""
    index = f" {now.index}" if now.index is not None else ""
    line = f"{version}: {now.stage.value}{index}, {share(now.folded, now.whole)}"
    line += f", {now.folded:,} of {now.whole:,} records, {now.records_per_s:,.0f}/s, {time_left(now)}"
    if now.waits_for_lag is not None:
        line += f"; waits: the serving projection has {now.waits_for_lag:,} events to apply"
    return line


def time_left(now: RebuildProgress) -> str:
    """Return the time that is left, or `?` for what is not known."""
    from services.projector.versions.rebuild import Stage

    eta = "?" if now.eta_s is None else duration(now.eta_s)
    if now.stage is Stage.LOAD:
        return f"left: {eta}, then the indexes"
    return f"left: {eta}"


class _Shown:
    """Where the progress goes."""

    def __init__(self, show: OnProgress) -> None:
        self.show = show

    async def during(self, work: Coroutine[Any, Any, RebuildProgress]) -> RebuildProgress:
        """Await the rebuild."""
        return await work


class _Lines(_Shown):
    """A line every LINE_INTERVAL_S, also while nothing is reported."""

    def __init__(self, version: str) -> None:
        super().__init__(self._keep)
        self._version = version
        self._last: RebuildProgress | None = None

    def _keep(self, now: RebuildProgress) -> None:
        self._last = now

    async def during(self, work: Coroutine[Any, Any, RebuildProgress]) -> RebuildProgress:
        lines = asyncio.create_task(self._say())
        try:
            return await work
        finally:
            lines.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await lines

    async def _say(self) -> None:
        while True:
            if self._last is not None:
                ERR.say(progress_line(self._version, self._last))
            await asyncio.sleep(LINE_INTERVAL_S if self._last is not None else 0.1)


@contextmanager
def _lines(version: str, *, quiet: bool) -> Iterator[_Shown]:
    yield _Shown(lambda _progress: None) if quiet else _Lines(version)


@contextmanager
def _bar(version: str) -> Iterator[_Shown]:
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
    )  # fmt: skip
    with Progress(*columns, console=ERR, transient=True) as bar:
        task = bar.add_task(f"{version}: load", total=None, rate="")

        def show(now: RebuildProgress) -> None:
            index = f" {now.index}" if now.index is not None else ""
            waits = f", waits: {now.waits_for_lag:,} events of lag" if now.waits_for_lag is not None else ""
            bar.update(
                task,
                description=f"{version}: {now.stage.value}{index}",
                completed=now.folded,
                total=now.whole or None,
                rate=f"{now.records_per_s:,.0f}/s, {time_left(now)}{waits}",
            )

        yield _Shown(show)
