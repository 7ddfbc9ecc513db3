"""`gapless bench <name>`: the options of each benchmark, and how its figures are printed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from benchmarks.report import report
from benchmarks.servers.ground import Ground
from benchmarks.servers.processes import forget_settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

app = typer.Typer(
    name="gapless bench",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
    help="Run benchmarks on real servers, which are started and stopped for each run.",
)
ERR = Console(stderr=True, soft_wrap=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]

RoundsOption = Annotated[int, typer.Option(min=1, help="Number of passes, each alternating with the baseline.")]
LatencyOption = Annotated[int, typer.Option(min=1, help="Seconds of steady load at each rate.")]

CommandsOption = Annotated[int, typer.Option(min=100, help="Number of commands in the log before the measurement.")]
ProfileOption = Annotated[
    Path | None,
    typer.Option(help="Sample the last pass with py-spy: .svg a flame graph, .json for speedscope, else stacks."),
]


def _step(text: str) -> None:
    ERR.print(text, markup=False, highlight=False)


@app.callback()
def bench() -> None:
    """Run benchmarks on real servers, which are started and stopped for each run."""
    # Treat SIGTERM like Ctrl-C, which asyncio.run handles, so that the servers are stopped. A shell starts background
    # jobs with SIGINT ignored, and asyncio.run leaves an ignored SIGINT as it is.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    forget_settings()


@app.command()
def sequencer(
    as_json: JsonOption = False,
    commands: CommandsOption = 1_000_000,
    chats: Annotated[int | None, typer.Option(min=1, help="Number of chats. Default: that of each shape.")] = None,
    rounds: RoundsOption = 3,
    only: Annotated[str | None, typer.Option(help="one_partition, hot_chat, four_partitions, latency.")] = None,
    baseline: Annotated[bool, typer.Option(help="Alternate with the Postgres trigger.")] = True,
    latency_s: LatencyOption = 20,
    profile: ProfileOption = None,
) -> None:
    """Measure commands per second, CPU per command, time from append to outcome, next to the Postgres trigger."""
    from benchmarks.run import sequencer as benchmark

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
def stages(as_json: JsonOption = False, commands: CommandsOption = 200_000, rounds: RoundsOption = 3) -> None:
    """Measure where a command's time goes in the sequencer, stage by stage, next to the codec alone."""
    from benchmarks.run import stages as benchmark

    options = benchmark.Options(commands=commands, rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def ingest(
    as_json: JsonOption = False,
    sends: Annotated[int, typer.Option(min=100, help="Sends per round, as fast as answered.")] = 40_000,
    rounds: RoundsOption = 3,
    latency_s: LatencyOption = 20,
) -> None:
    """Measure sends over HTTP answered with their seq, and batches of 500, next to a bare FastAPI route."""
    from benchmarks.run import ingest as benchmark

    options = benchmark.Options(sends=sends, rounds=rounds, latency_s=latency_s)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command("live-fanout")
def live_fanout(
    as_json: JsonOption = False,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds at each of the two fixed rates.")] = 15,
    idle: Annotated[int, typer.Option(min=100, help="Number of idle streams.")] = 10_000,
    only: Annotated[
        str | None, typer.Option(help="one_chat, hundred_chats, ladder, returned, idle; several with commas.")
    ] = None,
) -> None:
    """Measure the CPU and latency of a message to a thousand readers, readers who come back, and idle streams."""
    from benchmarks.run import live_fanout as benchmark

    options = benchmark.Options(seconds=seconds, idle=idle, only=only)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def history(as_json: JsonOption = False, rounds: RoundsOption = 3) -> None:
    """Measure pages of fifty over HTTP, next to the bare SQL of the same pages."""
    from benchmarks.run import history as benchmark

    options = benchmark.Options(rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def unread(as_json: JsonOption = False, rounds: RoundsOption = 3) -> None:
    """Measure unread over HTTP at ten and a million, of two and 10,000 members, with half deleted; and by counting."""
    from benchmarks.run import unread as benchmark

    options = benchmark.Options(rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def sync(as_json: JsonOption = False, rounds: RoundsOption = 3) -> None:
    """Measure a sync of which three chats changed, of a hundred and of a thousand; and listing all of them."""
    from benchmarks.run import sync as benchmark

    options = benchmark.Options(rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def reactions(as_json: JsonOption = False, rounds: RoundsOption = 3) -> None:
    """Measure pages of messages without reactions, with ten and with a thousand each, next to counting them."""
    from benchmarks.run import reactions as benchmark

    options = benchmark.Options(rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def search(
    as_json: JsonOption = False,
    messages: Annotated[int, typer.Option(min=1_000, help="Number of messages to search.")] = 1_000_000,
    requests: Annotated[int, typer.Option(min=10, help="Queries of each kind.")] = 200,
) -> None:
    """Measure search over HTTP, and indexing, next to Postgres' own words with GIN and to ILIKE."""
    from benchmarks.run import search as benchmark

    options = benchmark.Options(messages=messages, requests=requests)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def projector(
    as_json: JsonOption = False,
    commands: CommandsOption = 1_600_000,
    rounds: RoundsOption = 3,
    profile: ProfileOption = None,
) -> None:
    """Measure the projector, live and in a rebuild, next to plain COPY and index build of the same rows."""
    from benchmarks.run import projector as benchmark

    options = benchmark.Options(commands=commands, rounds=rounds, profile=profile)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def recovery(
    as_json: JsonOption = False,
    commands: CommandsOption = 1_000_000,
    rounds: RoundsOption = 3,
    profile: ProfileOption = None,
) -> None:
    """Measure a sequencer's start on a long log, without its state and with it, next to reading that log."""
    from benchmarks.run import recovery as benchmark

    options = benchmark.Options(commands=commands, rounds=rounds, profile=profile)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def receipts(
    as_json: JsonOption = False,
    members: Annotated[int, typer.Option(min=10, help="Number of members of the one chat.")] = 10_000,
    marks: Annotated[int, typer.Option(min=1, help="So many a second, by the members in turn.")] = 2_000,
    seconds: Annotated[int, typer.Option(min=3, help="Seconds of each part: without receipts, and with them.")] = 30,
) -> None:
    """Measure ten messages a second in a chat of ten thousand, without receipts and with all members sending them."""
    from benchmarks.run import receipts as benchmark

    options = benchmark.Options(members=members, marks_per_s=marks, seconds=seconds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def depth(as_json: JsonOption = False, commands: CommandsOption = 10_000_000) -> None:
    """Measure a partition of ten million messages: its rate next to that of the beginning, and memory."""
    from benchmarks.run import depth as benchmark

    options = benchmark.Options(commands=commands, window=min(benchmark.Options().window, commands // 3))
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def snapshot(
    as_json: JsonOption = False,
    commands: CommandsOption = 1_000_000,
    rounds: RoundsOption = 3,
) -> None:
    """Measure a start without state from a snapshot of a long log, next to the fold; and the cost of a snapshot."""
    from benchmarks.run import snapshot as benchmark

    options = benchmark.Options(commands=commands, tail=min(100_000, commands // 10), rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def verify(as_json: JsonOption = False, commands: CommandsOption = 200_000, rounds: RoundsOption = 3) -> None:
    """Measure the verifiers of the log and of the read model, next to reading the log."""
    from benchmarks.run import verify as benchmark

    options = benchmark.Options(commands=commands, rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command()
def live(
    as_json: JsonOption = False,
    sends: Annotated[int, typer.Option(min=10, help="Number of sends, one after the other with pauses.")] = 600,
) -> None:
    """Measure the time from a send over HTTP until it is visible, on an idle system, next to the Postgres trigger."""
    from benchmarks.run import live as benchmark

    options = benchmark.Options(sends=sends)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


@app.command("all")
def all_of_them(
    as_json: JsonOption = False,
    out: Annotated[Path, typer.Option(help="Results and pictures go here, as each benchmark ends.")] = report.RESULTS,
    only: Annotated[list[str] | None, typer.Option(help="Run only this; may be repeated.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds. Default: that of each benchmark.")] = None,
) -> None:
    """Run every benchmark with its defaults, one after the other; then draw the pictures and the page's tables.

    The page is updated only if the results go to the folder that it shows.
    """
    names = only or report.NAMES
    if unknown := set(names) - set(report.NAMES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join(report.NAMES)}")
    documents: dict[str, Any] = {}
    for name in names:
        _step(f"--- {name}")
        documents[name] = _measured(partial(_with_defaults, _benchmark(name), rounds))
        report.write(out, {name: documents[name]})
    if out.resolve() == report.RESULTS.resolve():
        page = report.PAGE.read_text(encoding="utf-8")
        report.PAGE.write_text(report.update(page, report.read(out)), encoding="utf-8")
    if as_json:
        _print(documents, as_json=True)


@app.command()
def takeover(
    as_json: JsonOption = False,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds for each signal.")] = 20,
    way: Annotated[str, typer.Option(help="kill, term, stop, or all of them.")] = "all",
) -> None:
    """Measure the time from a signal to a partition's owner until the next owner's first outcome."""
    from benchmarks.run import takeover as benchmark

    ways = tuple(benchmark.WAYS) if way == "all" else (way,)
    _print(asyncio.run(benchmark.run(rounds=rounds, ways=ways)).document(), as_json=as_json)


@app.command()
def standby(as_json: JsonOption = False, commands: CommandsOption = 200_000, rounds: RoundsOption = 2) -> None:
    """Measure the cost of standbys: two sequencers with and without them."""
    from benchmarks.run import standby as benchmark

    options = benchmark.Options(commands=commands, rounds=rounds)
    _print(_measured(lambda ground: benchmark.run(options, ground, _step)), as_json=as_json)


def _benchmark(name: str) -> Any:
    return import_module(f"benchmarks.run.{name}")


async def _with_defaults(benchmark: Any, rounds: int | None, ground: Ground) -> DataclassInstance:
    options = benchmark.Options()
    if rounds is not None and hasattr(options, "rounds"):
        options = replace(options, rounds=rounds)
    found: DataclassInstance = await benchmark.run(options, ground, _step)
    return found


def _measured(measure: Callable[[Ground], Awaitable[DataclassInstance]]) -> dict[str, Any]:
    """Run a benchmark on servers of its own and return its figures as a document."""

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
