"""What every command shares: where it prints, how it shows progress, and how an error becomes one sentence and a code.

Answers go to standard output, everything else to standard error, so that `--json` can be piped.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn, TypeVar

import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from schemas.errors import SchemaError
from services.ops.errors import Exit, OpsError
from services.runtime.kafka.errors import KafkaError, KafkaRefused, KafkaUnavailable, OffsetMissing, TopicsWrong
from services.runtime.settings import SettingsError

T = TypeVar("T")
OUT: Final = Console(soft_wrap=True)
ERR: Final = Console(stderr=True, soft_wrap=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]
OnProgress = Callable[[int], None]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine; whatever it raises that a person can act on ends in one sentence and a code."""
    with told():
        return asyncio.run(work)


@contextmanager
def told() -> Iterator[None]:
    """Turns the errors that a person can act on into one sentence on standard error and an exit code."""
    try:
        yield
    except OpsError as error:
        fail(str(error), error.exit_code)
    except SettingsError as error:
        fail(str(error), Exit.USAGE)
    except TopicsWrong as error:
        for fault in error.faults:
            ERR.print(fault, style="red", markup=False, highlight=False)
        raise typer.Exit(Exit.FAULT) from None
    except KafkaRefused as error:
        fail(f"{_capitalised(str(error))}.", Exit.USAGE)
    except (KafkaUnavailable, OffsetMissing) as error:
        fail(f"Kafka cannot be read: {error}.", Exit.AWAY)
    except (psycopg.OperationalError, TimeoutError) as error:
        fail(f"Postgres cannot be read: {_first_line(error)}.", Exit.AWAY)
    except (KafkaError, SchemaError, psycopg.Error) as error:
        fail(_first_line(error), Exit.FAULT)


def _capitalised(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}"


def fail(sentence: str, code: Exit) -> NoReturn:
    """Ends the command with one sentence on standard error."""
    ERR.print(sentence, style="red", markup=False, highlight=False)
    raise typer.Exit(code)


def print_json(document: object) -> None:
    """One JSON document on one line."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


class _Rate(ProgressColumn):
    """Events per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


@contextmanager
def progress(what: str, *, quiet: bool) -> Iterator[Callable[[int], OnProgress]]:
    """A bar with rate and ETA on standard error; gives a function from the total to the one told of each step.

    Nothing is drawn when `quiet`, or where standard error is no terminal.
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
