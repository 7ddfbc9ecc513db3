"""A real broker with TLS, SASL and ACLs, and connections to it that are right or wrong in one respect."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from devstack.certificates import Authority, Certificate
from devstack.kafka import KafkaCluster
from devstack.kafka_security import BROKER, KafkaSecurity
from services.runtime.kafka.connection import KafkaConnection, Sasl
from services.runtime.tls import TlsFiles

ADMIN: Final = "admin"
NOBODY: Final = "nobody"
"""A user without any permission."""
FRONT: Final = "front"
"""Name of the certificate presented to clients with a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureKafka:
    """The cluster, and the authority that signed its certificates."""

    cluster: KafkaCluster
    folder: Path
    authority: Authority
    users: dict[str, str]

    @property
    def servers(self) -> str:
        return self.cluster.bootstrap_servers

    @property
    def tls(self) -> TlsFiles:
        """TLS files that trust the brokers."""
        return TlsFiles(ca=self.authority.ca)

    @property
    def strangers(self) -> Authority:
        """An authority that no party trusts."""
        return Authority.in_folder(self.folder / "strangers")

    def user(self, name: str = ADMIN, *, mechanism: str = "SCRAM-SHA-512", password: str | None = None) -> Sasl:
        return Sasl(mechanism=mechanism, username=name, password=password or self.users[name])

    def token(self, name: str = ADMIN) -> Sasl:
        """Return an unsigned token, which the tests' broker accepts."""
        path = self.folder / f"token-of-{name}"
        path.write_text(unsigned_token(name))
        return Sasl(mechanism="OAUTHBEARER", oauth_token_file=path)

    def connection(self, sasl: Sasl | None = None) -> KafkaConnection:
        return KafkaConnection(bootstrap_servers=self.servers, tls=self.tls, sasl=sasl or self.user())

    def by_certificate(self, certificate: Certificate | None) -> KafkaConnection:
        """Return a connection with mutual TLS, with that certificate or none."""
        ours = TlsFiles(ca=self.authority.ca)
        if certificate is not None:
            ours = TlsFiles(ca=self.authority.ca, cert=certificate.cert, key=certificate.key)
        return KafkaConnection(bootstrap_servers=self.cluster.tls_bootstrap_servers, tls=ours)

    def variables(self, name: str = ADMIN) -> dict[str, str]:
        """Return the settings of a process that connects as that user."""
        path = self.folder / f"password-of-{name}"
        path.write_text(f"{self.users[name]}\n")
        return {
            "GAPLESS_KAFKA_BOOTSTRAP": self.servers,
            "GAPLESS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "GAPLESS_KAFKA_TLS_CA_FILE": str(self.authority.ca),
            "GAPLESS_KAFKA_SASL_USERNAME": name,
            "GAPLESS_KAFKA_SASL_PASSWORD_FILE": str(path),
        }

    def renew_front(self, lifetime: timedelta) -> None:
        """Issue another certificate for clients with a password, presented after the broker's next start."""
        self.authority.issue(FRONT, hosts=("127.0.0.1",), lifetime=lifetime, again=True)


@contextmanager
def secure_kafka(folder: Path, *, users: dict[str, str] | None = None) -> Iterator[SecureKafka]:
    """Run a cluster while the block runs. Its certificate for clients is for 127.0.0.1 and not for localhost."""
    authority = Authority.in_folder(folder / "certs")
    known = {ADMIN: "password-of-the-admin", NOBODY: "password-of-nobody", **(users or {})}
    security = KafkaSecurity(
        certificate=authority.issue(BROKER),
        for_clients=authority.issue(FRONT, hosts=("127.0.0.1",)),
        users=known,
        super_users=(ADMIN,),
        every_mechanism=True,
    )
    cluster = KafkaCluster(folder / "kafka", security=security)
    asyncio.run(cluster.start())
    try:
        yield SecureKafka(cluster=cluster, folder=folder, authority=authority, users=known)
    finally:
        asyncio.run(cluster.stop())


def unsigned_token(subject: str) -> str:
    claims = {"sub": subject, "iat": int(time.time()), "exp": int(time.time()) + 3600, "scope": "kafka"}
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."
