"""Certificates: contexts for the client's side of TLS that follow the files they were made from.

A certificate is replaced while a process runs (cert-manager, Vault, a cron job). Clients of Kafka live as long as the
process and open connections of their own accord, so the context looks at its files at each handshake.
"""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of one side of a connection."""

    ca: Path | None = None
    """The authorities that are believed; the system's where none is named."""
    cert: Path | None = None
    """Our own certificate with its chain."""
    key: Path | None = None
    """Its private key; in `cert` where none is named."""
    key_password: str | None = field(default=None, repr=False)

    def all(self) -> tuple[Path, ...]:
        """The files that are named."""
        return tuple(path for path in (self.ca, self.cert, self.key) if path is not None)


class BadTlsFile(ValueError):
    """A file is missing, or holds something else; the message says which and what, as a clause."""


def load_cert_chain(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Give the context our own certificate. Raises BadTlsFile."""
    assert files.cert is not None, "there is a certificate to load"
    _refuse_unreadable(*(path for path in (files.cert, files.key) if path is not None))
    try:
        # Without a password OpenSSL would ask the terminal for one; the empty one it refuses.
        context.load_cert_chain(files.cert, files.key, password=files.key_password or "")
    except ssl.SSLError as error:
        key = files.key or files.cert
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadTlsFile(f"the key in {key} is not the one of the certificate in {files.cert}") from error
        if error.reason in ("BAD_DECRYPT", "BAD_PASSWORD_READ"):
            raise BadTlsFile(f"the key in {key} is encrypted with another password, or with one that is missing") from (
                error
            )
        raise BadTlsFile(f"{files.cert} and {key} do not hold a certificate and its key in PEM") from error
    except ValueError as error:  # a password longer than OpenSSL takes
        raise BadTlsFile(f"the password of the key is refused: {error}") from error


@functools.lru_cache(maxsize=16)
def client_context(files: TlsFiles) -> ssl.SSLContext:
    """The context for connections that we open: TLS 1.2 or newer, the certificate and its host name verified.

    Raises BadTlsFile.
    """
    context = _FollowingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.ca is None:
        context.load_default_certs()
    context.follow(files)
    return context


class _FollowingContext(ssl.SSLContext):
    """Loads its files again for the first handshake after they changed."""

    _files: TlsFiles | None = None
    _loaded: tuple[tuple[int, int], ...] = ()

    def follow(self, files: TlsFiles) -> None:
        self._files = files
        self._load()

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """What every event loop calls to begin a handshake."""
        if self._files is not None and self._versions() != self._loaded:
            try:
                self._load()
            except BadTlsFile as error:  # half replaced, most likely: what was loaded before may still do
                log.warning("tls.files_not_loaded", reason=str(error))
        return super().wrap_bio(*args, **options)

    def _load(self) -> None:
        assert self._files is not None, "follow() comes first"
        versions = self._versions()
        if self._files.ca is not None:
            _refuse_unreadable(self._files.ca)
            try:
                self.load_verify_locations(self._files.ca)
            except ssl.SSLError as error:
                raise BadTlsFile(f"{self._files.ca} holds no certificate in PEM") from error
        if self._files.cert is not None:
            load_cert_chain(self, self._files)
        self._loaded = versions

    def _versions(self) -> tuple[tuple[int, int], ...]:
        assert self._files is not None, "follow() comes first"
        try:
            found = [path.stat() for path in self._files.all()]
        except OSError:
            return ()
        return tuple((status.st_mtime_ns, status.st_ino) for status in found)


def _refuse_unreadable(*paths: Path) -> None:
    for path in paths:
        try:
            path.read_bytes()
        except OSError as error:
            raise BadTlsFile(f"{path} cannot be read ({error.strerror})") from error
