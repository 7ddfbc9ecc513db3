"""`gapless projection list`: the versions, how far each partition is, and what feeds it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.filesize import decimal
from rich.table import Table

from services.ops.cli.rebuild import share
from services.ops.cli.terminal import ERR, OUT, JsonOption, exit_on_error, print_json, run
from services.ops.stack.address import StackOption
from services.runtime.kafka.errors import KafkaError
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.projector.versions.overview import Overview, PartitionStand, Versions

KAFKA_TIMEOUT_S: Final = 5.0
"""Maximum wait for the ends of the log: the rest can be shown without them."""


def add_to(app: typer.Typer) -> None:
    """Add the command to `gapless projection`."""
    app.command("list")(list_command)


def list_command(as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """List the versions: state, row mapping, disk space, how far each partition is, and what feeds it.

    A version is serving, standby (fed, and ready for a cutover), stopped, building (with its share of the log), or
    abandoned: a rebuild of it was ended, and the next one continues. Without Kafka the shares are not known.

    Exit code: 0, 2 wrong settings, 3 Postgres unavailable.
    """
    from services.projector.versions.overview import overview

    with exit_on_error():
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
        there = run(overview(postgres=postgres))
        ends = _ends(kafka)
    if as_json:
        print_json([_json(each, ends) for each in there.overviews])
        return
    _show(there, ends)


def _ends(kafka: KafkaSettings) -> Mapping[int, int]:
    """Return partition → the end of its log; empty if Kafka does not answer."""
    from services.projector.settings import topic_names
    from services.runtime.kafka.topics import end_offsets

    async def ask() -> dict[int, int]:
        async with asyncio.timeout(KAFKA_TIMEOUT_S):
            async with end_offsets(kafka.connection, topic_names(kafka).events, range(kafka.partitions)) as ask_ends:
                return await ask_ends()

    try:
        return asyncio.run(ask())
    except (KafkaError, TimeoutError) as error:
        ERR.say(f"The end of the log is not known: {str(error) or 'Kafka does not answer'}.", style="yellow")
        return {}


def _json(each: Overview, ends: Mapping[int, int]) -> dict[str, Any]:
    def instant(at: Any) -> str | None:
        return at.isoformat(timespec="milliseconds") if at is not None else None

    projection, holder = each.projection, each.holder
    folded, whole = each.share(ends)
    return {
        "version": f"v{projection.version}",
        "state": each.state,
        "share": round(folded / whole, 6) if whole else None,
        "mapping_version": projection.mapping_version,
        "of_this_release": each.of_this_release,
        "size_bytes": each.size_bytes,
        "created_at": instant(projection.created_at),
        "fed_since": instant(projection.fed_since),
        "stopped_at": instant(projection.stopped_at),
        "serving_since": instant(projection.serving_since),
        "changed_by": {
            "operator": holder.operator,
            "command": holder.command,
            "started_at": instant(holder.started_at),
        }
        if holder is not None
        else None,
        "partitions": [
            {
                "partition": stand.partition,
                "next_offset": stand.next_offset,
                "search_next_offset": stand.search_offset,
                "end": ends.get(stand.partition),
                "behind": stand.behind(ends),
                "fed_by": each.feeder(stand),
                "seen_s": round(stand.seen_s, 1),
            }
            for stand in each.stands
        ],
    }


def _show(there: Versions, ends: Mapping[int, int]) -> None:
    table = Table(title="projections")
    for column in ("version", "state", "row mapping", "disk", "since", "changed by"):
        table.add_column(column, overflow="fold", justify="right" if column == "disk" else "left")
    for each in there.overviews:
        projection, holder = each.projection, each.holder
        since = projection.serving_since or projection.fed_since or projection.stopped_at or projection.created_at
        table.add_row(
            f"v{projection.version}",
            _state(each, ends),
            f"{projection.mapping_version}, of {'this' if each.of_this_release else 'another'} release",
            decimal(each.size_bytes),
            f"{since:%Y-%m-%d %H:%M:%S}",
            f"{holder.operator}: {holder.command}" if holder is not None else "",
        )
    OUT.print(table)
    table = Table(title="partitions")
    for column in ("version", "partition", "next offset", "search", "end", "behind", "fed by"):
        table.add_column(column, overflow="fold", justify="left" if column in ("version", "fed by") else "right")
    for each in there.overviews:
        for stand in each.stands:
            end, behind = ends.get(stand.partition), stand.behind(ends)
            table.add_row(
                f"v{each.projection.version}",
                str(stand.partition),
                f"{stand.next_offset:,}",
                f"{stand.search_offset:,}",
                f"{end:,}" if end is not None else "?",
                f"{behind:,}" if behind is not None else "?",
                _fed_by(each, stand),
            )
    OUT.print(table)
    if there.projectors:
        named = ", ".join(f"{address} ({n})" for address, n in sorted(there.projectors.items()))
        OUT.say(f"Projectors are connected to Postgres from: {named}.")
    else:
        OUT.say("No projector is connected to Postgres.")


def _state(each: Overview, ends: Mapping[int, int]) -> str:
    if each.state not in ("building", "abandoned"):
        return each.state
    return f"{each.state}, {share(*each.share(ends)) if ends else '?'}"


def _fed_by(each: Overview, stand: PartitionStand) -> str:
    feeder = each.feeder(stand)
    return f"{feeder}, {stand.seen_s:.0f} s ago" if feeder is not None else f"nothing for {stand.seen_s:.0f} s"
