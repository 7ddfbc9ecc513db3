"""Certificates: contexts for both sides of TLS, and how a certificate is replaced while a process runs.

Clients of Kafka live as long as the process and open connections of their own accord, so their context looks at its
files at each handshake. What we show to others ourselves is read again when the process gets SIGHUP (`lifecycle`): then
whoever replaces the files says when they are whole.
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
        if b"ENCRYPTED" in key.read_bytes():  # OpenSSL does not tell a wrong password from a damaged file
            password = "its password is not set" if files.key_password is None else "its password is another"
            raise BadTlsFile(f"the key in {key} is encrypted, and {password}") from error
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


class ServerCertificate:
    """What a server shows: the certificate and key that its files held at the last load."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises BadTlsFile."""
        self._files = files
        self._current = self._loaded()
        self.context = self._loaded()
        """For the listening socket, for as long as it listens."""
        self.context.sni_callback = self._use_current

    def reload(self) -> None:
        """Use what the files hold now, from the next handshake on. Raises BadTlsFile, and then nothing changes."""
        self._current = self._loaded()

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        load_cert_chain(context, self._files)
        return context

    def _use_current(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called within each handshake, whether the client names a host or not."""
        handshake.context = self._current


_shown: dict[TlsFiles, ServerCertificate] = {}
"""Of this process: its servers share one for the same files."""


def server_certificate(files: TlsFiles) -> ServerCertificate:
    """The certificate of these files that this process shows. Raises BadTlsFile."""
    if files not in _shown:
        _shown[files] = ServerCertificate(files)
    return _shown[files]


def reload_server_certificates() -> bool:
    """Read what the servers of this process show again; False if they show none.

    What cannot be loaded is logged, and the certificate before it is shown on.
    """
    for files, certificate in _shown.items():
        try:
            certificate.reload()
        except BadTlsFile as error:
            log.warning("tls.certificate_not_reloaded", reason=str(error))
        else:
            log.info("tls.certificate_reloaded", file=str(files.cert))
    return bool(_shown)


def _refuse_unreadable(*paths: Path) -> None:
    for path in paths:
        try:
            path.read_bytes()
        except OSError as error:
            raise BadTlsFile(f"{path} cannot be read ({error.strerror})") from error
