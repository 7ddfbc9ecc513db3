"""Explains in one sentence why Kafka refuses our connections.

aiokafka logs why a connection failed and raises "unable to bootstrap". So after a failure one connection is opened just
for its error: a wrong certificate or password must be fixed, not waited for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka import errors as kafka_errors
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import within
from services.runtime.kafka.errors import KafkaRefused, KafkaUnavailable

T = TypeVar("T")
ANSWER_TIMEOUT_S: Final = 5.0
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_WRONG_HOST: Final = (62, 63, 64)
"""X509_V_ERR_* codes: the host name or IP address is not in the certificate."""


class Refusal(NamedTuple):
    """The objection of a broker, or of our own check of it."""

    clause: str
    certain: bool
    """Whether the reason is certain; False if a broker that is starting or stopping could cause the same error."""

    @property
    def sentence(self) -> str:
        return f"{self.clause[:1].upper()}{self.clause[1:]}."


async def opened(kafka: KafkaConnection, timeout_s: float, what: str, work: Coroutine[Any, Any, T]) -> T:
    """Await work that opens connections, like `within`, but raise KafkaRefused if waiting would not help."""
    if kafka.uses_token:
        # aiokafka 0.14 treats a token as accepted whatever the broker answers, and then misreads the next response.
        refusal = await why_refused(kafka)
        if refusal is not None:
            work.close()
            raise _error(refusal)
    try:
        return await within(timeout_s, what, work)
    except KafkaUnavailable as error:
        refusal = await why_refused(kafka)
        if refusal is None:
            raise
        raise _error(refusal) from error


def _error(refusal: Refusal) -> KafkaUnavailable:
    return KafkaRefused(refusal.clause) if refusal.certain else KafkaUnavailable(refusal.clause)


async def why_refused(kafka: KafkaConnection) -> Refusal | None:
    """Connect to the configured brokers, and those that they name, until one refuses us; return its refusal.

    Returns None if each accepts us, or none answers.
    """
    doubt = None
    asked: set[tuple[str, int]] = set()
    to_ask = [(host, port) for host, port, _ in collect_hosts(kafka.bootstrap_servers)]
    while to_ask:
        host, port = to_ask.pop(0)
        if (host, port) in asked:
            continue
        asked.add((host, port))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                to_ask += await _brokers_by(kafka, host, port)
        except Exception as error:  # noqa: BLE001  (any error of the client is what we look for)
            refusal = refusal_in(error, f"{host}:{port}", kafka)
            if refusal is not None and refusal.certain:
                return refusal
            doubt = doubt or refusal
    return doubt


async def _brokers_by(kafka: KafkaConnection, host: str, port: int) -> list[tuple[str, int]]:
    connection: AIOKafkaConnection = await create_conn(
        host,
        port,
        client_id="gapless-probe",
        request_timeout_ms=int(ANSWER_TIMEOUT_S * 1000),
        **kafka.security_options(),
    )
    try:
        metadata = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
    if not metadata.brokers and kafka.uses_token:
        raise kafka_errors.SaslAuthenticationFailed("what was read as metadata is the refusal of the token")
    return [(broker[1], broker[2]) for broker in metadata.brokers]


def refusal_in(error: BaseException, address: str, kafka: KafkaConnection) -> Refusal | None:
    """Return the refusal that an error of one connection means; None if the broker is only unreachable."""
    found: BaseException | None = error
    while found is not None:
        clause = _clause(found, address, kafka)
        if clause is not None:
            return Refusal(clause, certain=True)
        found = found.__cause__ or found.__context__
    # The TCP connection was established, and closed at our first bytes.
    if isinstance(error, kafka_errors.KafkaConnectionError | ConnectionResetError | ssl.SSLError | EOFError):
        return Refusal(
            f"Kafka at {address} closes the connection: look whether it speaks"
            f" {kafka.security_protocol} there, and set GAPLESS_KAFKA_SECURITY_PROTOCOL to what it speaks",
            certain=False,
        )
    return None


def _clause(error: BaseException, address: str, kafka: KafkaConnection) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, address, kafka)
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if "ALERT" in reason:
            return (
                f"Kafka at {address} does not accept our certificate ({_words(reason)}): set"
                " GAPLESS_KAFKA_TLS_CERT_FILE to one that an authority of the brokers has signed"
            )
        if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
            return (
                f"Kafka at {address} does not speak TLS: set GAPLESS_KAFKA_SECURITY_PROTOCOL to what it speaks there,"
                " or name another port"
            )
        return None
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        mechanism = kafka.sasl.mechanism if kafka.sasl is not None else "SASL"
        return f"Kafka at {address} does not support {mechanism}: set GAPLESS_KAFKA_SASL_MECHANISM to one that it does"
    if isinstance(error, kafka_errors.SaslAuthenticationFailed):
        if kafka.uses_token:
            return f"Kafka at {address} does not accept our token: renew what GAPLESS_KAFKA_SASL_OAUTH_TOKEN_FILE holds"
        return (
            f"Kafka at {address} does not accept our user name or password: set GAPLESS_KAFKA_SASL_USERNAME and"
            " GAPLESS_KAFKA_SASL_PASSWORD to what it knows"
        )
    if isinstance(error, kafka_errors.IllegalSaslStateError):
        return f"Kafka at {address} expects no SASL, or another order of it: set GAPLESS_KAFKA_SECURITY_PROTOCOL"
    return None


def _certificate(error: ssl.SSLCertVerificationError, address: str, kafka: KafkaConnection) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return f"the certificate of Kafka at {address} has expired: have it renewed"
    if code == _NOT_YET_VALID:
        return f"the certificate of Kafka at {address} is not valid yet: look at the clocks"
    if code in _WRONG_HOST:
        return (
            f"the certificate of Kafka at {address} is for another host name: name the broker as its certificate does,"
            " in GAPLESS_KAFKA_BOOTSTRAP and in the broker's advertised.listeners, or have one made for this name"
        )
    believed = "the system's authorities" if kafka.tls is None or kafka.tls.ca is None else str(kafka.tls.ca)
    return (
        f"the certificate of Kafka at {address} is not signed by an authority that we believe ({believed}): set"
        " GAPLESS_KAFKA_TLS_CA_FILE to the authority's certificate"
    )


def _words(reason: str) -> str:
    return reason.partition("ALERT_")[2].replace("_", " ").lower()
