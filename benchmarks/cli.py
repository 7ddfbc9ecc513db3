"""`gapless bench <name>`: the options of each benchmark, and how its figures are printed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from benchmarks.ground import Ground

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

app = typer.Typer(
    name="gapless bench",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
    help="Measures on servers of its own, which it starts and stops.",
)
ERR = Console(stderr=True, soft_wrap=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]

RoundsOption = Annotated[int, typer.Option(min=1, help="Passes, each in turn with the baseline.")]
LatencyOption = Annotated[int, typer.Option(min=1, help="Seconds of steady load at each rate.")]


def _step(text: str) -> None:
    ERR.print(text, markup=False, highlight=False)


@app.callback()
def bench() -> None:
    """Measures on servers of its own, which it starts and stops."""
    # No setting of the caller's reaches what is measured: defaults, and what the benchmark names.
    for name in [name for name in os.environ if name.startswith("GAPLESS_") and name != "GAPLESS_CACHE"]:
        del os.environ[name]


@app.command()
def sequencer(
    as_json: JsonOption = False,
    commands: Annotated[int, typer.Option(min=100, help="How many are in the log before each pass.")] = 1_000_000,
    chats: Annotated[int | None, typer.Option(min=1, help="In place of each shape's own number.")] = None,
    rounds: RoundsOption = 3,
    only: Annotated[
        str | None, typer.Option(help="one_partition, hot_chat, four_partitions or latency; all if not given.")
    ] = None,
    baseline: Annotated[bool, typer.Option(help="Run the Postgres trigger in turn with it.")] = True,
    latency_s: LatencyOption = 20,
    profile: Annotated[
        Path | None,
        typer.Option(help="Sample the last pass with py-spy: .svg a flame graph, .json for speedscope, else stacks."),
    ] = None,
) -> None:
    """Commands per second, CPU per command, time from append to outcome, beside the Postgres trigger."""
    from benchmarks import sequencer as benchmark

    options = benchmark.Options(
        commands=commands,
        chats=chats,
        rounds=rounds,
        only=only,
        baseline=baseline,
        latency_s=latency_s,
        profile=profile,
    )
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def ingest(
    as_json: JsonOption = False,
    sends: Annotated[int, typer.Option(min=100, help="Of each round, as fast as they are answered.")] = 40_000,
    rounds: RoundsOption = 3,
    latency_s: LatencyOption = 20,
) -> None:
    """Sends over HTTP answered with their seq, and batches of 500, beside a bare FastAPI route."""
    from benchmarks import ingest as benchmark

    options = benchmark.Options(sends=sends, rounds=rounds, latency_s=latency_s)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def history(as_json: JsonOption = False, rounds: RoundsOption = 3) -> None:
    """Pages of fifty over HTTP, beside the bare SQL of the same pages."""
    from benchmarks import history as benchmark

    options = benchmark.Options(rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def unread(as_json: JsonOption = False, rounds: RoundsOption = 3) -> None:
    """Unread over HTTP at ten and at a million, beside counting them."""
    from benchmarks import unread as benchmark

    options = benchmark.Options(rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


def _measured(measure: Callable[[Ground], Awaitable[DataclassInstance]]) -> dict[str, Any]:
    """What a benchmark found on servers of its own, as a document."""

    async def on_the_ground() -> dict[str, Any]:
        async with Ground.embedded() as ground:
            return asdict(await measure(ground))

    try:
        return asyncio.run(on_the_ground())
    except RuntimeError as error:
        ERR.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=None if as_json else 2) + "\n")
