"""The shared parts of all commands: output, progress, and errors as one sentence and an exit code.

Results go to standard output, everything else to standard error, so that `--json` can be piped.

Output may contain users' text, so all of it passes through `plain_text`. A reader that goes away (`| head`) and a
terminal that cannot display a character are not errors.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from schemas.errors import SchemaError
from services.ops.errors import Exit, OpsError
from services.ops.stack.address import where_to_look
from services.runtime.kafka.errors import KafkaError, KafkaRefused, KafkaUnavailable, OffsetMissing, TopicsWrong
from services.runtime.observe.plain_text import json_safe, visible, visible_lines
from services.runtime.observe.tracebacks import format_error
from services.runtime.settings import PostgresSettings, SettingsError, load_settings

T = TypeVar("T")
WIDE: Final = 100_000
"""Width of a file or pipe: a table is as wide as its content, and nothing is cut."""
READER_GONE: Final = 141
"""The exit code that shells use for a program ended by SIGPIPE."""
Part = str | tuple[str, str]
"""A string, or a string and its style."""


class Terminal(Console):
    """A Rich console for untrusted text: it is never markup, and cannot control the terminal."""

    def say(self, *parts: Part, style: str = "") -> None:
        """Print one line, of any length and content."""
        self.print(Text.assemble(*map(_styled, parts), style=style), highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape terminal controls as a safety net: any that remain here come from text, not from Rich."""
        for segment in super().render(renderable, options):
            if segment.control is not None or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment(visible_lines(segment.text), segment.style)

    @property
    def size(self) -> ConsoleDimensions:
        size = super().size
        return size if self.is_terminal else ConsoleDimensions(WIDE, size.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        raise AttributeError(f"the size is that of the terminal or pipe, not {new_size}")

    def on_broken_pipe(self) -> None:
        """Handle a closed pipe; called by Rich."""
        self.quiet = True
        reader_gone()


OUT: Final = Terminal(soft_wrap=True, emoji=False)
ERR: Final = Terminal(stderr=True, soft_wrap=True, emoji=False)


def _styled(part: Part) -> tuple[str, str]:
    text, style = (part, "") if isinstance(part, str) else part
    return visible(text), style


def cell(text: str, style: str = "") -> Text:
    """Return a table cell for untrusted text."""
    return Text(visible(text), style=style)


def reader_gone() -> NoReturn:
    """Exit without an error message: the reader of our output has closed the pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())  # otherwise the interpreter complains when it flushes at exit
        except (OSError, ValueError):
            continue
    raise SystemExit(READER_GONE)


@contextmanager
def as_a_program() -> Iterator[None]:
    """Set up the whole process: streams that accept every character, and no Python traceback at exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except BrokenPipeError:
        reader_gone()
    except Exception as error:  # noqa: BLE001 - the outermost frame: prints the traceback of a bug
        ERR.print(Text(visible_lines(format_error(error))), highlight=False)
        raise SystemExit(Exit.FAULT) from None


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]
OnProgress = Callable[[int], None]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; an error that a person can act on becomes one sentence and an exit code."""
    with exit_on_error():
        return asyncio.run(work)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn errors that a person can act on into one sentence on standard error and an exit code."""
    try:
        yield
    except OpsError as error:
        fail(str(error), error.exit_code)
    except SettingsError as error:
        fail(str(error), Exit.USAGE)
    except TopicsWrong as error:
        for fault in error.faults:
            ERR.say(fault, style="red")
        raise typer.Exit(Exit.FAULT) from None
    except KafkaRefused as error:
        fail(f"{_capitalised(str(error))}.", Exit.USAGE)
    except (KafkaUnavailable, OffsetMissing) as error:
        fail(f"Kafka cannot be read: {error}{where_to_look()}.", Exit.UNAVAILABLE)
    except _postgres_unavailable() as error:
        if (refusal := _why_postgres_refuses()) is not None:
            fail(refusal, Exit.USAGE)
        fail(f"Postgres does not serve this: {_first_line(error)}{where_to_look()}.", Exit.UNAVAILABLE)
    except (KafkaError, SchemaError, _postgres_error()) as error:
        fail(_first_line(error), Exit.FAULT)
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"{error.filename} cannot be used ({error.strerror}): choose another folder or file.", Exit.USAGE)


# Most commands do not use Postgres, so its client is loaded by those that do and when an error is classified.
def _postgres_unavailable() -> tuple[type[Exception], ...]:
    from services.runtime.postgres.pool import POSTGRES_UNAVAILABLE

    return (*POSTGRES_UNAVAILABLE, TimeoutError)


def _postgres_error() -> type[Exception]:
    import psycopg

    return psycopg.Error


def _why_postgres_refuses() -> str | None:
    """Return why Postgres refuses us; None if it is unreachable, or other settings were used."""
    from services.runtime.postgres.refusals import why_postgres_refuses

    try:
        return why_postgres_refuses(load_settings(PostgresSettings))
    except SettingsError:
        return None


def _capitalised(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}"


def fail(sentence: str, code: Exit) -> NoReturn:
    """End the command with one sentence on standard error."""
    ERR.print(Text(visible_lines(sentence), style="red"), highlight=False)
    raise typer.Exit(code)


def print_json(document: object) -> None:
    """Print a JSON document on one line."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print_plain(json_safe(json.dumps(document, ensure_ascii=not unicode)))


def print_plain(line: str) -> None:
    """Print text unchanged, for programs and shells."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        reader_gone()


class _Rate(ProgressColumn):
    """Events per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


@contextmanager
def progress(what: str, *, quiet: bool) -> Iterator[Callable[[int], OnProgress]]:
    """Show a bar with rate and ETA on standard error. Yields a function that takes the total and returns OnProgress.

    Nothing is drawn if `quiet`, or if standard error is not a terminal.
    """
    if quiet or not ERR.is_terminal:
        yield lambda _total: lambda _steps: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=ERR, transient=True) as bar:

        def begin(total: int) -> OnProgress:
            task = bar.add_task(what, total=total)
            return lambda steps: bar.advance(task, steps)

        yield begin


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
