"""`gapless topics acls` and `gapless projection roles`: the least rights that Gapless needs, for administrators."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from services.ops.cli.terminal import JsonOption, exit_on_error, print_json, print_plain
from services.ops.errors import UsageError
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings


class AclFormat(StrEnum):
    """Output formats for rights."""

    KAFKA_ACLS = "kafka-acls"
    STRIMZI = "strimzi"


def acls(
    output: Annotated[
        AclFormat, typer.Option("--format", help="Calls of kafka-acls, or KafkaUser resources for Strimzi.")
    ] = AclFormat.KAFKA_ACLS,
    service: Annotated[
        list[str] | None, typer.Option(help="ingest, sequencer, projector, ops or admin. Default: all.")
    ] = None,
    user_prefix: Annotated[str, typer.Option(help="Prefix of a service's name that makes its user name.")] = "gapless-",
    cluster: Annotated[str, typer.Option(help="The Kafka resource that Strimzi's users belong to.")] = "kafka",
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Print the least rights of each service on a Kafka with ACLs, without contacting a broker.

    Set $KAFKA_ACLS_OPTIONS so that kafka-acls can reach the brokers, for example
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
                raise UsageError(f"There is no service {unknown[0]}: choose one of {', '.join(rights)}.")
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
    database: Annotated[str | None, typer.Option(help="The database. Default: that of GAPLESS_POSTGRES_DSN.")] = None,
    owner: Annotated[str, typer.Option(help="The role of projectors and `gapless projection`.")] = "gapless_projector",
    reader: Annotated[str, typer.Option(help="The read-only role of query.")] = "gapless_query",
    _stack: StackOption = None,
) -> None:
    """Print SQL that creates least-privilege roles for the read model, without contacting a database.

    Run it in the database as a superuser, for example with `gapless projection roles | psql -d gapless`, and set a
    password for both roles. The third role, gapless_reader, is for people and their tools, and cannot log in itself.
    The script may be run again; then restart a projector, which grants new roles what they lack.

    Exit code: 0, 2 wrong usage.
    """
    from psycopg.conninfo import conninfo_to_dict

    from services.ops.rights.postgres import roles_sql

    with exit_on_error():
        named = database or conninfo_to_dict(load_settings(PostgresSettings).dsn.get_secret_value()).get("dbname")
        if not named:
            raise UsageError("GAPLESS_POSTGRES_DSN names no database: name it with --database.")
        print_plain(roles_sql(str(named), owner=owner, reader=reader))
