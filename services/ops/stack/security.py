"""`--secure`: the embedded stack as production should be. TLS everywhere; for each service its own user with the least
rights in Kafka (SCRAM, ACLs) and in Postgres (roles); HTTPS with a certificate of the stack's own authority.

In the data folder: certs/ (clients must trust the authority's ca.pem), secrets/ (a password in each file, readable only
by the folder's owner). No secret is in a log, or in the arguments of a process.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from services.ops.rights.kafka import USER_PREFIX, rights_by_service
from services.ops.rights.postgres import OWNER, READER, roles_sql
from services.runtime.kafka.acls import grant
from services.runtime.settings import KafkaSettings

if TYPE_CHECKING:
    from devstack.certificates import Certificate
    from devstack.kafka_security import KafkaSecurity
    from devstack.stack import Stack

SUPER: Final = "super"
"""The user that only grants the rights of the others."""
SERVICES: Final = ("api", "sequencer", "projector", "ops", "admin")
KAFKA_USER_OF: Final = {"api": "api", "sequencer": "sequencer", "projector": "projector"}
"""Command of a process → its user. Commands that people run use `ops`."""
DATABASE_ROLE_OF: Final = {"api": READER, "projector": OWNER}


class StackSecurity:
    """The certificates, users and passwords of a stack on one data folder; the same at each start."""

    def __init__(self, folder: Path) -> None:
        from devstack.certificates import Authority
        from devstack.kafka_security import BROKER, KafkaSecurity

        self._folder = folder
        authority = Authority.in_folder(folder / "certs")
        self.ca = authority.ca
        self._http = authority.issue("http")
        self.postgres_certificate: Certificate = authority.issue("postgres")
        users = {_user(service): self._password(f"kafka-{service}") for service in (*SERVICES, SUPER)}
        self.kafka: KafkaSecurity = KafkaSecurity(
            certificate=authority.issue(BROKER), users=users, super_users=(_user(SUPER),)
        )

    def kafka_variables(self, service: str) -> dict[str, str]:
        """Return the variables with which a service reaches Kafka."""
        return {
            "GAPLESS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "GAPLESS_KAFKA_TLS_CA_FILE": str(self.ca),
            "GAPLESS_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "GAPLESS_KAFKA_SASL_USERNAME": _user(service),
            "GAPLESS_KAFKA_SASL_PASSWORD_FILE": str(self._secret_path(f"kafka-{service}")),
        }

    def settings(self, servers: Stack, service: str, *, replication_factor: int = 1) -> KafkaSettings:
        """Return the same as settings, for a client in this process."""
        return KafkaSettings.model_validate(
            {
                "bootstrap_servers": servers.bootstrap_servers,
                "replication_factor": replication_factor,
                "security_protocol": "SASL_SSL",
                "tls_ca_file": self.ca,
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_username": _user(service),
                "sasl_password": self._password(f"kafka-{service}"),
            }
        )

    def variables(self, servers: Stack, command: str | None) -> dict[str, str]:
        """Return the variables of a process: of a service's command, or, for None, of a command that people run."""
        role = DATABASE_ROLE_OF.get(command or "projector")
        return {
            **self.kafka_variables(KAFKA_USER_OF[command] if command is not None else "ops"),
            "GAPLESS_HTTP_TLS_CERT_FILE": str(self._http.cert),
            "GAPLESS_HTTP_TLS_KEY_FILE": str(self._http.key),
            # A sequencer does not use the database, and gets no password.
            "GAPLESS_POSTGRES_DSN": self._dsn(servers, role) if role is not None else "",
        }

    def verify(self) -> ssl.SSLContext:
        """Return the TLS context for HTTP clients of the stack."""
        return ssl.create_default_context(cafile=self.ca)

    def owner_dsn(self, servers: Stack) -> str:
        """Return the DSN of the read model as its owner, with a password."""
        return self._dsn(servers, OWNER)

    async def prepare(self, servers: Stack) -> None:
        """Grant every service its rights in Kafka and Postgres. Raises KafkaError, psycopg.Error."""
        kafka = self.settings(servers, SUPER)
        granted = rights_by_service(kafka)
        for service in SERVICES:
            await grant(kafka.connection, _user(service), granted[service])
        await asyncio.to_thread(self._make_roles, servers.postgres_dsn)

    def _make_roles(self, dsn: str) -> None:
        database = str(conninfo_to_dict(dsn)["dbname"])
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(roles_sql(database)))
            for role in (OWNER, READER):
                # The verifier that the server stores is computed here, so that no statement contains the password.
                password = self._password(f"postgres-{role}").encode()
                verifier = connection.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256").decode()
                connection.execute(
                    sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
                )

    def _dsn(self, servers: Stack, role: str) -> str:
        return servers.postgres.dsn_for(role, self._password(f"postgres-{role}"))

    def _password(self, name: str) -> str:
        path = self._secret_path(name)
        if not path.is_file():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(24), encoding="ascii")
            draft.rename(path)
        return path.read_text(encoding="ascii")

    def _secret_path(self, name: str) -> Path:
        return self._folder / "secrets" / name


def _user(service: str) -> str:
    return f"{USER_PREFIX}{service}"
