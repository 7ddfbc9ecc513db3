"""`gapless bench …`: runs the folder benchmarks/, which is part of a clone but not of an installed wheel."""

from __future__ import annotations

from importlib import import_module

import typer

from services.ops.cli.terminal import fail
from services.ops.errors import Exit

PASS_ALL_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def bench(context: typer.Context) -> None:
    """Measure throughput, latency and CPU next to a baseline: `gapless bench --help` lists the benchmarks.

    Exit code: 0, 1 the work was not done correctly, 2 wrong usage, or no benchmarks here.
    """
    try:
        benchmarks = import_module("benchmarks.cli")
    except ModuleNotFoundError as error:
        if error.name not in ("benchmarks", "benchmarks.cli"):
            raise
        fail("The benchmarks are not part of an installation: run them in a clone of the repository.", Exit.USAGE)
    benchmarks.app(args=context.args, prog_name="gapless bench")
