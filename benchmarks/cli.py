"""`gapless bench <name>`: the options of each benchmark, and how its figures are printed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    name="gapless bench",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
    help="Measures on servers of its own, which it starts and stops.",
)
ERR = Console(stderr=True, soft_wrap=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]


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
    rounds: Annotated[int, typer.Option(min=1, help="Passes of each shape, each in turn with the baseline.")] = 3,
    only: Annotated[
        str | None, typer.Option(help="one_partition, hot_chat, four_partitions or latency; all if not given.")
    ] = None,
    baseline: Annotated[bool, typer.Option(help="Run the Postgres trigger in turn with it.")] = True,
    latency_s: Annotated[int, typer.Option(min=1, help="Seconds of steady load at each rate.")] = 20,
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
    _print(asdict(asyncio.run(benchmark.run(options, _step))), as_json=as_json)


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=None if as_json else 2) + "\n")
