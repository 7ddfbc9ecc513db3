"""TLS contexts for both sides of a connection, and how a certificate is replaced while a process runs.

Kafka clients live as long as the process and open connections by themselves, so their context checks its files at each
handshake. The certificate that our servers present is reloaded when the process gets SIGHUP (`lifecycle`), so the
operator who replaces the files decides when they are complete.
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
    """The trusted authorities; None for the system's."""
    cert: Path | None = None
    """Our own certificate with its chain."""
    key: Path | None = None
    """The private key of `cert`; None if `cert` contains it."""
    key_password: str | None = field(default=None, repr=False)

    def all(self) -> tuple[Path, ...]:
        """Return the files that are set."""
        return tuple(path for path in (self.ca, self.cert, self.key) if path is not None)


class BadTlsFile(ValueError):
    """A file is missing or has the wrong content. The message names it and the fault, as a clause."""


def load_cert_chain(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Load our own certificate into the context. Raises BadTlsFile."""
    assert files.cert is not None, "there is a certificate to load"
    _refuse_unreadable(*(path for path in (files.cert, files.key) if path is not None))
    try:
        # Without a password OpenSSL would prompt on the terminal; it rejects an empty one.
        context.load_cert_chain(files.cert, files.key, password=files.key_password or "")
    except ssl.SSLError as error:
        key = files.key or files.cert
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadTlsFile(f"the key in {key} is not the one of the certificate in {files.cert}") from error
        if b"ENCRYPTED" in key.read_bytes():  # OpenSSL does not distinguish a wrong password from a damaged file
            password = "its password is not set" if files.key_password is None else "its password is wrong"
            raise BadTlsFile(f"the key in {key} is encrypted, and {password}") from error
        raise BadTlsFile(f"{files.cert} and {key} do not hold a certificate and its key in PEM") from error
    except ValueError as error:  # a password longer than OpenSSL accepts
        raise BadTlsFile(f"the password of the key is refused: {error}") from error


@functools.lru_cache(maxsize=16)
def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context for connections that we open: TLS 1.2 or newer, certificate and host name verified.

    Raises BadTlsFile.
    """
    context = _FollowingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.ca is None:
        context.load_default_certs()
    context.follow(files)
    return context


class _FollowingContext(ssl.SSLContext):
    """A context that reloads its files for the first handshake after they changed."""

    _files: TlsFiles | None = None
    _loaded: tuple[tuple[int, int], ...] = ()

    def follow(self, files: TlsFiles) -> None:
        self._files = files
        self._load()

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin a handshake; called by every event loop."""
        if self._files is not None and self._versions() != self._loaded:
            try:
                self._load()
            except BadTlsFile as error:  # most likely partly replaced: the files loaded before may still work
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
    """The certificate and key that a server presents, as of the last load of their files."""

    def __init__(self, files: TlsFiles) -> None:
        """Load the files. Raises BadTlsFile."""
        self._files = files
        self._current = self._loaded()
        self.context = self._loaded()
        """The context of the listening socket, for its whole life."""
        self.context.sni_callback = self._use_current

    def reload(self) -> None:
        """Use the files' current content from the next handshake on. Raises BadTlsFile, and then nothing changes."""
        self._current = self._loaded()

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        load_cert_chain(context, self._files)
        return context

    def _use_current(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Switch a handshake to the current certificate. Called in each, whether the client names a host or not."""
        handshake.context = self._current


_shown: dict[TlsFiles, ServerCertificate] = {}
"""The certificates of this process: servers with the same files share one."""


def server_certificate(files: TlsFiles) -> ServerCertificate:
    """Return this process's certificate for these files. Raises BadTlsFile."""
    if files not in _shown:
        _shown[files] = ServerCertificate(files)
    return _shown[files]


def reload_server_certificates() -> bool:
    """Reload the certificates of this process's servers. Returns False if they have none.

    If one cannot be loaded, that is logged and its predecessor stays in use.
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
