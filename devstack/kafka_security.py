"""The embedded Kafka with TLS, SASL and ACLs: a user may do only what an ACL allows.

Each broker has two listeners for clients: SASL_SSL for users with a password, and SSL, where a certificate identifies
the client; the brokers and their controllers also use SSL among themselves. Pure text, like kafka_config.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from devstack.certificates import Certificate

BROKER: Final = "broker"
"""The common name of the brokers' certificate."""
KEY_STORE: Final = "key-store.pem"
CLIENT_KEY_STORE: Final = "client-key-store.pem"
TRUST_STORE: Final = "trust-store.pem"
SCRAM_MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """The users of the cluster and their credentials."""

    certificate: Certificate
    """The brokers' certificate, for server and client, with the common name BROKER."""
    for_clients: Certificate | None = None
    """Certificate presented to clients with a password, instead of `certificate`."""
    users: Mapping[str, str] = field(repr=False)
    """User → password. Users are created only when a broker's folder is formatted."""
    super_users: tuple[str, ...] = ()
    """Users that no ACL limits, in addition to the brokers."""
    every_mechanism: bool = False
    """Whether to also enable PLAIN, and OAUTHBEARER with unsigned tokens. Only for tests: such a token can name any
    user, and the passwords are in server.properties."""

    @property
    def ca(self) -> Path:
        """The certificate that clients must trust."""
        return self.certificate.ca

    def key_stores(self) -> dict[str, str]:
        """Return file name → content of the files that `properties` names."""
        return {KEY_STORE: self.certificate.in_one(), CLIENT_KEY_STORE: (self.for_clients or self.certificate).in_one()}

    def properties(self) -> dict[str, str]:
        """Return the security settings of server.properties, without listeners."""
        modules = {
            mechanism.lower(): "org.apache.kafka.common.security.scram.ScramLoginModule required"
            for mechanism in SCRAM_MECHANISMS
        }
        if self.every_mechanism:
            known = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
            modules["plain"] = f"org.apache.kafka.common.security.plain.PlainLoginModule required {known}"
            modules["oauthbearer"] = (
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
                ' unsecuredLoginStringClaim_sub="nobody"'
            )
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": KEY_STORE,
            "listener.name.sasl_ssl.ssl.keystore.type": "PEM",
            "listener.name.sasl_ssl.ssl.keystore.location": CLIENT_KEY_STORE,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": TRUST_STORE,
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            # CN=broker,OU=... becomes User:broker.
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
            "sasl.enabled.mechanisms": ",".join(name.upper() for name in modules),
            **{f"listener.name.sasl_ssl.{name}.sasl.jaas.config": f"{text};" for name, text in modules.items()},
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": ";".join(f"User:{name}" for name in (BROKER, *self.super_users)),
        }

    def format_arguments(self) -> list[str]:
        """Return arguments for the storage tool that create the users."""
        return [
            text
            for name, password in self.users.items()
            for mechanism in SCRAM_MECHANISMS
            for text in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
