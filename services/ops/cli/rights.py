"""`gapless topics acls` and `gapless projection roles`: the least rights that Gapless needs, for who grants them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from psycopg.conninfo import conninfo_to_dict

from services.ops.cli.terminal import JsonOption, exit_on_error, print_json, print_plain
from services.ops.errors import UsageError
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings


class AclFormat(StrEnum):
    """How rights are written down."""

    KAFKA_ACLS = "kafka-acls"
    STRIMZI = "strimzi"


def acls(
    output: Annotated[
        AclFormat, typer.Option("--format", help="Calls of kafka-acls, or KafkaUser resources for Strimzi.")
    ] = AclFormat.KAFKA_ACLS,
    service: Annotated[
        list[str] | None, typer.Option(help="ingest, sequencer, projector, ops or admin; all if not given.")
    ] = None,
    user_prefix: Annotated[str, typer.Option(help="Put before a service's name it makes its user.")] = "gapless-",
    cluster: Annotated[str, typer.Option(help="The Kafka resource that Strimzi's users belong to.")] = "kafka",
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Prints the least rights of each service on a Kafka with ACLs; it asks no broker.

    kafka-acls is to be told how to reach the brokers by $KAFKA_ACLS_OPTIONS, as in
    KAFKA_ACLS_OPTIONS='--bootstrap-server kafka:9093 --command-config admin.properties'. Query needs no Kafka.
    ops is for `gapless log`, `lag`, `projection` and `topics check`; admin for `topics create`.

    Exit code: 0, 2 wrong usage.
    """
    from services.ops.rights.kafka import as_commands, as_strimzi, rights_by_service

    with exit_on_error():
        rights = rights_by_service(load_settings(KafkaSettings))
        if service:
            unknown = [name for name in service if name not in rights]
            if unknown:
                raise UsageError(f"There is no service {unknown[0]}: choose of {', '.join(rights)}.")
            rights = {name: rights[name] for name in rights if name in service}
    if as_json:
        print_json(
            {
                f"{user_prefix}{name}": [
                    {"resource": right.resource, "name": right.name, "operation": right.operation} for right in needed
                ]
                for name, needed in rights.items()
            }
        )
    elif output is AclFormat.STRIMZI:
        print_plain(as_strimzi(rights, cluster=cluster, user_prefix=user_prefix))
    else:
        print_plain(as_commands(rights, user_prefix=user_prefix))


def roles(
    database: Annotated[
        str | None, typer.Option(help="The database; that of GAPLESS_POSTGRES_DSN if not given.")
    ] = None,
    owner: Annotated[str, typer.Option(help="The role of projectors and `gapless projection`.")] = "gapless_projector",
    reader: Annotated[str, typer.Option(help="The role of query, which reads only.")] = "gapless_query",
    _stack: StackOption = None,
) -> None:
    """Prints SQL that makes least-privilege roles for the read model; it asks no database.

    A superuser runs it in the database, as with `gapless projection roles | psql -d gapless`, and gives both roles a
    password. It may run again.

    Exit code: 0, 2 wrong usage.
    """
    from services.ops.rights.postgres import roles_sql

    with exit_on_error():
        named = database or conninfo_to_dict(load_settings(PostgresSettings).dsn.get_secret_value()).get("dbname")
        if not named:
            raise UsageError("GAPLESS_POSTGRES_DSN names no database: name it with --database.")
        print_plain(roles_sql(str(named), owner=owner, reader=reader))
