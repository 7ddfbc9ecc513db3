"""`gapless topics …`: the topics with the settings that the protocol needs."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import typer

from schemas.topics import TopicNames, TopicSpec, topic_specs
from services.ops.stack_address import StackOption
from services.ops.terminal import OUT, JsonOption, print_json, run, told
from services.runtime.settings import KafkaSettings, load_settings

HEARD_OF_WITHIN_S: Final = 15.0
ASK_AGAIN_S: Final = 0.2
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

    Exit code: 0, 1 a topic is not as it must be, 2 wrong settings, 3 Kafka away.
    """
    with told():
        settings = load_settings(KafkaSettings)
    created = run(create_and_check(settings))
    if as_json:
        print_json({"created": created})
    elif created:
        OUT.say(("Created", "green"), f" {', '.join(created)}.")
    else:
        OUT.print("All topics were there, as they must be.")


@app.command("check")
def check(as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Holds the topics against what the protocol needs, and names every fault with what to do.

    Exit code: 0 as they must be, 1 a fault, 2 wrong settings, 3 Kafka away.
    """
    from services.runtime.kafka.topics import check_topics

    with told():
        settings = load_settings(KafkaSettings)
    run(check_topics(settings.connection, TopicNames.prefixed(settings.topic_prefix), specs_of(settings)))
    if as_json:
        print_json({"topics": [spec.name for spec in specs_of(settings)], "ok": True})
    else:
        OUT.print("[green]All topics are as they must be.[/]")


async def create_and_check(settings: KafkaSettings) -> list[str]:
    """Creates the topics that are missing and checks all of them; the names of the created ones.

    Of several brokers one may not have heard yet of what another has just created: it is asked again for a while.
    Raises TopicsWrong, KafkaUnavailable.
    """
    from services.runtime.kafka.errors import TopicsWrong
    from services.runtime.kafka.topics import check_topics, create_topics

    specs, names = specs_of(settings), TopicNames.prefixed(settings.topic_prefix)
    created = await create_topics(settings.connection, specs)
    deadline_s = time.monotonic() + HEARD_OF_WITHIN_S
    while True:
        try:
            await check_topics(settings.connection, names, specs)
        except TopicsWrong:
            if not created or time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(ASK_AGAIN_S)
        else:
            return created
