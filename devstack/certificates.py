"""Issues certificates for servers on this machine, as a company's CA or cert-manager would.

authority = Authority.in_folder(Path("certs"))          # created at the first call, then loaded
files = authority.issue("broker", hosts=("127.0.0.1",))  # certs/broker.pem with its chain, certs/broker.key
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = timedelta(days=3650)
LOCAL_HOSTS: Final = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The PEM files of one certificate, and of the authority that signed it."""

    name: str
    """The common name."""
    ca: Path
    cert: Path
    """The certificate, followed by its authority's."""
    key: Path
    """The private key: PKCS #8, unencrypted, readable only by its owner."""

    def in_one(self) -> str:
        """Return key, certificate and chain as one text, which Kafka calls a PEM key store."""
        return self.key.read_text(encoding="ascii") + self.cert.read_text(encoding="ascii")


class Authority:
    """A certificate authority; its own certificate is `ca.pem`."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._folder = folder
        self._certificate = certificate
        self._key = key

    @classmethod
    def in_folder(cls, folder: Path) -> Authority:
        """Return the authority stored in `folder`; create it if it does not exist."""
        ca, key_path = folder / "ca.pem", folder / "ca.key"
        if not ca.is_file():  # written last: after a crash before it, everything is created again
            folder.mkdir(parents=True, exist_ok=True)
            key = ec.generate_private_key(ec.SECP256R1())
            _write_key(key_path, key)
            # A unique name: clients would confuse two authorities of one name, and fail obscurely.
            name = _name(f"Gapless development authority {secrets.token_hex(4)}")
            builder = _builder(name, name, key.public_key(), LIFETIME)
            signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
                key, hashes.SHA256()
            )
            ca.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        loaded = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey), "it was written here"
        return cls(folder, x509.load_pem_x509_certificate(ca.read_bytes()), loaded)

    @property
    def ca(self) -> Path:
        """The certificate that clients must trust."""
        return self._folder / "ca.pem"

    def issue(
        self, name: str, *, hosts: Sequence[str] = LOCAL_HOSTS, lifetime: timedelta = LIFETIME, again: bool = False
    ) -> Certificate:
        """Return a certificate for server and client with the common name `name`; an existing one unless `again`.

        A negative `lifetime` creates one that expired that long ago.
        """
        found = Certificate(name=name, ca=self.ca, cert=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")
        if found.cert.is_file() and not again:
            return found
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(found.key, key)
        signed = (
            _builder(_name(name), self._certificate.subject, key.public_key(), lifetime)
            .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        chain = (signed, self._certificate)
        draft = found.cert.with_suffix(".new")
        draft.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
        draft.replace(found.cert)
        return found


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + lifetime
    begin = min(datetime.now(UTC), end) - timedelta(hours=1)  # clocks differ
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
