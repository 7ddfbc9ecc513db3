"""HTTPS of the services themselves, and a certificate that is replaced while they run."""

from __future__ import annotations

import asyncio
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from devstack.certificates import Authority, Certificate
from devstack.ports import choose_ports
from services.runtime.health.health import OpsServer, Readiness
from services.runtime.settings import HttpSettings
from tests.integration.ops.test_ops_commands import environment, gapless, sentence
from tests.support.forked import Process, start_gapless
from tests.support.raw_http import RawHttp, raw_http

DEADLINE_S = 60.0
SECRET = "a secret of at least thirty-two bytes"


def settings_of(certificate: Certificate) -> dict[str, str]:
    return {
        "GAPLESS_HTTP_TLS_CERT_FILE": str(certificate.cert),
        "GAPLESS_HTTP_TLS_KEY_FILE": str(certificate.key),
        "GAPLESS_JWT_SECRET": SECRET,
        # No server answers there: a service is alive, and reports what it lacks.
        "GAPLESS_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "GAPLESS_POSTGRES_DSN": "postgresql://127.0.0.1:1/gapless",
    }


@asynccontextmanager
async def service(command: str, log_path: Path, **variables: str) -> AsyncIterator[Process]:
    with log_path.open("wb") as log:
        process = await start_gapless(command, env=environment(**variables), stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def shown_at(port: int, ca: Path) -> bytes:
    """Return the verified certificate that a new connection gets, in DER."""
    context = ssl.create_default_context(cafile=ca)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    assert isinstance(found, bytes)
    return found


def der_of(certificate: Certificate) -> bytes:
    first, marker, _ = certificate.cert.read_text().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(first + marker)


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
        except (OSError, httpx.TransportError):
            found = False
        if found:
            return
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


def test_a_certificate_is_replaced_at_sighup_without_a_connection_lost(tmp_path: Path) -> None:
    """Both workers of an ingest, which share the port, and a query."""
    authority = Authority.in_folder(tmp_path / "certs")
    certificate = authority.issue("http")
    before = der_of(certificate)
    [ingest_port, query_port] = choose_ports(2)
    common = settings_of(certificate)

    async def main() -> None:
        context = ssl.create_default_context(cafile=authority.ca)
        async with (
            service(
                "ingest", tmp_path / "ingest.log", GAPLESS_INGEST_WORKERS="2", GAPLESS_HTTP_PORT=str(ingest_port),
                **common,
            ) as ingest,
            service("query", tmp_path / "query.log", GAPLESS_HTTP_PORT=str(query_port), **common) as query,
            httpx.AsyncClient(verify=context, trust_env=False) as kept,
        ):  # fmt: skip
            urls = [f"https://127.0.0.1:{port}/healthz" for port in (ingest_port, query_port)]
            for url in urls:
                await until(partial(_answers, kept, url), f"{url} answers")
            for port in (ingest_port, query_port):
                assert await shown_at(port, authority.ca) == before
            async with httpx.AsyncClient(verify=context, trust_env=False) as plain:
                with pytest.raises(httpx.TransportError):
                    await plain.get(urls[1].replace("https:", "http:"))

            # A file that cannot be loaded changes nothing, and is reported.
            whole = certificate.cert.read_bytes()
            certificate.cert.write_bytes(whole[: len(whole) // 3])
            query.send_signal(signal.SIGHUP)
            await until(
                lambda: "tls.certificate_not_reloaded" in (tmp_path / "query.log").read_text(), "a bad file is said"
            )
            assert await shown_at(query_port, authority.ca) == before

            after = der_of(authority.issue("http", lifetime=timedelta(days=30), again=True))
            assert after != before
            for process in (ingest, query):
                process.send_signal(signal.SIGHUP)
            await until(lambda: _all_show(query_port, authority.ca, after, 1), "query shows the new one")
            # Forty connections: the chance that they miss one of the workers is 2 in 2^40.
            await until(lambda: _all_show(ingest_port, authority.ca, after, 40), "both workers show the new one")
            for url in urls:
                assert (await kept.get(url)).status_code == 200, "a connection of before goes on"
            for process in (ingest, query):
                process.terminate()
                assert await process.wait() == 0

    asyncio.run(main())


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    return (await client.get(url)).status_code == 200


async def _all_show(port: int, ca: Path, wanted: bytes, times: int) -> bool:
    return all(shown == wanted for shown in await asyncio.gather(*(shown_at(port, ca) for _ in range(times))))


def test_a_certificate_that_cannot_be_used_is_one_sentence_and_2(tmp_path: Path) -> None:
    authority = Authority.in_folder(tmp_path / "certs")
    right, other = authority.issue("http"), authority.issue("other")
    (tmp_path / "text.pem").write_text("hello")
    cases = {
        "cannot be read (No such file or directory)": {"GAPLESS_HTTP_TLS_CERT_FILE": str(tmp_path / "none.pem")},
        "is not the one of the certificate": {"GAPLESS_HTTP_TLS_KEY_FILE": str(other.key)},
        "do not hold a certificate and its key in PEM": {"GAPLESS_HTTP_TLS_CERT_FILE": str(tmp_path / "text.pem")},
        "is set without GAPLESS_HTTP_TLS_CERT_FILE": {"GAPLESS_HTTP_TLS_CERT_FILE": ""},
    }
    for said, variables in cases.items():
        done = gapless("query", **{**settings_of(right), **variables})
        assert said in sentence(done)
        assert done.returncode == 2


def test_a_key_may_have_a_password(tmp_path: Path) -> None:
    certificate = Authority.in_folder(tmp_path / "certs").issue("http")
    key = serialization.load_pem_private_key(certificate.key.read_bytes(), password=None)
    certificate.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    given = {"tls_cert_file": certificate.cert, "tls_key_file": certificate.key}
    assert HttpSettings.model_validate({**given, "tls_key_password": "open sesame"}).tls is not None
    for password, said in (({"tls_key_password": "close sesame"}, "is wrong"), ({}, "is not set")):
        with pytest.raises(ValueError, match=f"is encrypted, and its password {said}"):
            HttpSettings.model_validate({**given, **password})


def test_the_limits_of_connections_hold_over_tls_and_a_handshake_has_a_deadline(tmp_path: Path) -> None:
    authority = Authority.in_folder(tmp_path / "certs")
    certificate = authority.issue("http")
    files = {"tls_cert_file": certificate.cert, "tls_key_file": certificate.key}
    http = HttpSettings.model_validate({**files, "head_timeout_s": 0.5, "head_limit_bytes": 4_096})

    async def main() -> None:
        async with OpsServer(http, Readiness(), service="t") as server:
            async with raw_http(server.port) as silent:
                assert not await silent.closed()
            for data, status in ((b"X: " + b"x" * 5_000 + b"\r\n\r\n", 431), (b"X: ", 408), (b"\r\n", 200)):
                context = ssl.create_default_context(cafile=authority.ca)
                client = RawHttp(*await asyncio.open_connection("127.0.0.1", server.port, ssl=context))
                answer = await client.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + data)
                assert answer.status == status
                client.writer.close()

    asyncio.run(main())
