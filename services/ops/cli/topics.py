"""`gapless topics …`: the topics with the settings that the protocol needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import typer

from schemas.topics import TopicNames, TopicSpec, topic_specs
from services.ops.cli.terminal import ERR, OUT, JsonOption, print_json, run, told
from services.ops.errors import UsageError
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, load_settings

HEARD_OF_WITHIN_S: Final = 15.0
ASK_AGAIN_S: Final = 0.2
BROKERS_FOR_COPIES: Final = 3
app = typer.Typer(no_args_is_help=True, help="Create the topics with the settings the protocol needs, and check them.")


def specs_of(settings: KafkaSettings) -> tuple[TopicSpec, ...]:
    """The topics of the log that these settings name."""
    return topic_specs(
        TopicNames.prefixed(settings.topic_prefix),
        partitions=settings.partitions,
        reply_partitions=settings.reply_partitions,
        replication_factor=settings.replication_factor,
        min_insync_replicas=settings.min_insync_replicas,
    )


@app.command("create")
def create(as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Creates the topics that are missing, then checks all of them.

    On three brokers or more it refuses to make topics with one copy of each record, unless
    GAPLESS_KAFKA_REPLICATION_FACTOR says so.

    Exit code: 0, 1 a topic is not as it must be, 2 wrong settings, 3 Kafka away.
    """
    with told():
        settings = load_settings(KafkaSettings)
    created, notes = run(create_and_check(settings))
    _print_notes(notes)
    if as_json:
        print_json({"created": created, "notes": notes})
    elif created:
        OUT.say(("Created", "green"), f" {', '.join(created)}.")
    else:
        OUT.print("All topics were there, as they must be.")


@app.command("check")
def check(as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Holds the topics against what the protocol needs, and names every fault with what to do.

    Exit code: 0 as they must be, 1 a fault, 2 wrong settings, 3 Kafka away.
    """
    with told():
        settings = load_settings(KafkaSettings)
    notes = run(_checked(settings))
    _print_notes(notes)
    if as_json:
        print_json({"topics": [spec.name for spec in specs_of(settings)], "ok": True, "notes": notes})
    else:
        OUT.print("[green]All topics are as they must be.[/]")


def _print_notes(notes: list[str]) -> None:
    for note in notes:
        ERR.print(note, style="yellow", markup=False, highlight=False)


async def _checked(settings: KafkaSettings) -> list[str]:
    """What an operator should know. Raises TopicsWrong, KafkaUnavailable."""
    from services.runtime.kafka.topics import check_topics

    specs = specs_of(settings)
    notes = await check_topics(
        settings.connection, TopicNames.prefixed(settings.topic_prefix), specs, ask_log="if_allowed"
    )
    _, brokers = await _missing(settings, specs)
    if _copies_are_missing(settings, brokers):
        notes.append(f"{_one_copy(brokers)}: {_SET_COPIES}")
    return notes


async def _missing(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> tuple[list[str], int]:
    """The topics that are not there, and how many brokers there are."""
    from services.runtime.kafka.topic_reader import TopicReader

    reader = TopicReader(settings.connection)
    try:
        found = await reader.describe(specs)
        return [spec.name for spec in specs if spec.name not in found], await reader.brokers()
    finally:
        await reader.close()


def _copies_are_missing(settings: KafkaSettings, brokers: int) -> bool:
    """Whether nobody has said how many copies there should be, where there could be three."""
    return brokers >= BROKERS_FOR_COPIES and "replication_factor" not in settings.model_fields_set


def _one_copy(brokers: int) -> str:
    return (
        f"GAPLESS_KAFKA_REPLICATION_FACTOR is not set, so each record has one copy although there are {brokers} brokers"
    )


_SET_COPIES: Final = "set it to 3, in every process, or to 1 if the log may be lost with a broker"


async def create_and_check(settings: KafkaSettings) -> tuple[list[str], list[str]]:
    """Creates the topics that are missing and checks all of them; the names of the created ones, and the notes.

    Of several brokers one may not have heard yet of what another has just created: it is asked again for a while.
    Raises TopicsWrong, KafkaUnavailable, UsageError where it should be said how many copies there are to be.
    """
    from services.runtime.kafka.errors import TopicsWrong
    from services.runtime.kafka.topics import check_topics, create_topics

    specs, names = specs_of(settings), TopicNames.prefixed(settings.topic_prefix)
    missing, brokers = await _missing(settings, specs)
    if missing and _copies_are_missing(settings, brokers):
        raise UsageError(f"{_one_copy(brokers)}: {_SET_COPIES}. Nothing was created.")
    created = await create_topics(settings.connection, specs)
    deadline_s = time.monotonic() + HEARD_OF_WITHIN_S
    while True:
        try:
            notes = await check_topics(settings.connection, names, specs, ask_log="if_allowed")
        except TopicsWrong:
            if not created or time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(ASK_AGAIN_S)
        else:
            return created, notes
