"""`gapless projection cutover` and `rollback`: switch readers to another version, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from services.ops.cli.projection import VersionOption, parse_version, refusals
from services.ops.cli.terminal import OUT, JsonOption, exit_on_error, print_json, run
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.projector.versions.cutover import CutoverResult

TimeoutOption = Annotated[float, typer.Option(min=0.1, help="Give up after this many seconds.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `gapless projection`."""
    app.command("cutover")(cutover_command)
    app.command("rollback")(rollback_command)


def cutover_command(
    to: VersionOption,
    require_verified: Annotated[
        bool, typer.Option("--require-verified", help="Refuse a version without a verification on record.")
    ] = False,
    max_behind: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Refuse a version that is more records behind, in any partition."),
    ] = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
    _stack: StackOption = None,
) -> None:
    """Switch readers to another version, in one transaction. `gapless projection rollback` undoes it.

    With --require-verified the newest verification of the version must have found it equal to the log, must have begun
    after its rebuild, and must cover what that loaded.

    If the serving version is beyond the end of the log, or was folded from another topic, the other one must reach the
    end of the log. A version that no projector of this release can feed is refused.

    Exit code: 0 switched (or it was serving already), 1 refused and nothing changed, 2 wrong usage, 3 Kafka or Postgres
    unavailable.
    """
    from services.projector.versions.cutover import cutover

    with exit_on_error(), refusals():
        number = parse_version(to)
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
        done = run(
            cutover(
                number,
                kafka=kafka,
                postgres=postgres,
                timeout_s=timeout_s,
                require_verified=require_verified,
                max_behind=max_behind,
            )
        )
    _say(done, as_json=as_json)


def rollback_command(as_json: JsonOption = False, timeout_s: TimeoutOption = 60.0, _stack: StackOption = None) -> None:
    """Undo the last cutover: readers see the version again that they saw before. A second rollback undoes the first.

    The version must be fed still, and must have reached what readers see now; no reader steps back.

    Exit code: 0 switched, 1 refused and nothing changed, 2 wrong usage, 3 Kafka or Postgres unavailable.
    """
    from services.projector.versions.rollback import rollback

    with exit_on_error(), refusals():
        kafka, postgres = load_settings(KafkaSettings), load_settings(PostgresSettings)
        done = run(rollback(kafka=kafka, postgres=postgres, timeout_s=timeout_s))
    _say(done, as_json=as_json)


def _say(done: CutoverResult, *, as_json: bool) -> None:
    old, new = f"v{done.from_version}", f"v{done.to_version}"
    if as_json:
        print_json(
            {
                "from": old,
                "to": new,
                "attempts": done.attempts,
                "held_ms": round(done.held_s * 1000, 1),
                "not_of_this_log": list(done.not_of_this_log),
            }
        )
    elif done.attempts == 0:
        OUT.say(f"{new} is serving already; nothing was changed.")
    else:
        next_step = "To go back: `gapless projection rollback`."
        if done.not_of_this_log:
            named = ", ".join(map(str, done.not_of_this_log))
            next_step = (
                f"{old} does not belong to the current log, in partitions {named}: drop it with `gapless projection"
                f" drop {old}`."
            )
        OUT.say(
            (f"Readers see {new}", "green"),
            f" (before: {old}); the writers of the old one were held for {done.held_s * 1000:.0f} ms. {next_step}",
        )
