"""`gapless lag`: the lag of the writer and of each projection, per partition."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from services.ops.cli.terminal import OUT, JsonOption, exit_on_error, print_json, run
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.ops.inspect.lag import Backlog, PartitionBacklog


def lag(as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Count the commands without an outcome and the events not yet in each projection, with the age of the oldest.

    A position ahead of the log belongs to another log, or the log has lost records.

    Exit code: 0, 2 wrong settings, 3 Kafka or Postgres unavailable.
    """
    from services.ops.inspect.lag import measure_lag

    with exit_on_error():
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
    found = run(measure_lag(kafka, postgres))
    if as_json:
        print_json({"partitions": [_lag_json(partition) for partition in found]})
        return
    versions = sorted({version for partition in found for version in partition.unprojected})
    table = Table(title="lag: records, and the age of the oldest")
    table.add_column("partition", justify="right", overflow="fold")
    for column in ("undecided commands", *(f"{version}: events" for version in versions)):
        table.add_column(column, justify="right", overflow="fold")
    for partition in found:
        cells = [_cell(partition.undecided), *(_cell(partition.unprojected[version]) for version in versions)]
        table.add_row(str(partition.partition), *cells)
    OUT.print(table)


def _cell(behind: Backlog) -> str:
    if behind.beyond:
        return f"{behind.beyond:,} ahead of the log"
    return "0" if behind.records == 0 else f"{behind.records:,} ({behind.seconds:.1f} s)"


def _lag_json(partition: PartitionBacklog) -> dict[str, Any]:
    return {
        "partition": partition.partition,
        "undecided": asdict(partition.undecided),
        "unprojected": {version: asdict(behind) for version, behind in partition.unprojected.items()},
    }
