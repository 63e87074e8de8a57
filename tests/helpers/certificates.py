"""A certificate authority of a test, and certificates for a cluster's members."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Files", "make_certificates"]


@dataclass(frozen=True)
class Files:
    """PEM files: who is trusted, who one is, and the proof of it."""

    ca_file: Path
    cert: Path
    key: Path

    @property
    def flags(self) -> list[str]:
        """As `dask scheduler`, `dask worker` and `cypose-dask segment` take them."""
        return [
            "--tls-ca-file", str(self.ca_file), "--tls-cert", str(self.cert),
            "--tls-key", str(self.key),
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """As Dask's configuration takes them from the environment."""
        prefix = "DASK_DISTRIBUTED__COMM__TLS__"
        return {
            f"{prefix}CA_FILE": str(self.ca_file),
            f"{prefix}CLIENT__CERT": str(self.cert),
            f"{prefix}CLIENT__KEY": str(self.key),
        }


def make_certificates(folder: Path) -> Files:
    """Write an authority and one certificate of it into a new folder."""
    folder.mkdir(parents=True)
    authority, member = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files = Files(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    _write(files.ca_file, _certificate("authority", authority, authority))
    _write(files.cert, _certificate("member", member, authority))
    files.key.write_bytes(
        member.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, signed_by: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.datetime.now(tz=datetime.UTC)
    day = datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), True)
        .sign(signed_by, hashes.SHA256())
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
