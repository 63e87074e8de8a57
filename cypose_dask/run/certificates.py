"""Who a client is to a cluster that speaks TLS, and whom it trusts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cypose_dask.errors import SettingsError

if TYPE_CHECKING:
    from distributed.security import Security

__all__ = ["Certificates", "encrypted_address", "security_of"]

_WHAT_TO_GIVE = (
    "Give --tls-ca-file, --tls-cert and --tls-key (`Certificates` in Python), or set "
    "distributed.comm.tls.ca-file, client.cert and client.key in Dask's configuration."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificates:
    """PEM files for TLS; what is None is taken from Dask's configuration.

    Parameters
    ----------
    ca_file : str, Path or None
        Certificate of the authority that signed those of the cluster.
    cert : str, Path or None
        This client's certificate. A cluster that is started here uses it for all its members.
    key : str, Path or None
        The private key of `cert`; None if `cert` holds it too.
    """

    ca_file: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None

    def fields(self) -> dict[str, str]:
        """Return what is given, by the names that ``Security`` has for it."""
        names = {"tls_ca_file": self.ca_file}
        for role in ("client", "scheduler", "worker"):
            names |= {f"tls_{role}_cert": self.cert, f"tls_{role}_key": self.key}
        return {name: str(path) for name, path in names.items() if path is not None}


def security_of(certificates: Certificates | None) -> Security:
    """Return Dask's view of certificates and configuration, after reading the files once.

    Raises
    ------
    SettingsError
        If a file is missing, is no certificate, or does not belong to the others.
    """
    from distributed.security import Security

    security = Security(**(certificates or Certificates()).fields())
    if security.require_encryption and not _is_whole(security):
        raise SettingsError(f"TLS is asked for, but {_missing(security)}. {_WHAT_TO_GIVE}")
    try:
        security.get_connection_args("client")
    except OSError as error:  # of which OpenSSL's errors are a kind
        files = ", ".join(f"{name} {path}" for name, path in _client_files(security).items())
        raise SettingsError(
            f"The TLS certificates cannot be used ({error}): {files}. They must be PEM files, and "
            "the key must be that of the certificate."
        ) from error
    return security


def encrypted_address(address: str, security: Security) -> str:
    """Return an address whose scheme says what `security` demands.

    Raises
    ------
    SettingsError
        If a ``tls://`` address comes without certificates, or certificates with another scheme.
    """
    scheme, separator, _ = address.rpartition("://")
    if scheme == "tls" and not _is_whole(security):
        raise SettingsError(f"{address} speaks TLS, but {_missing(security)}. {_WHAT_TO_GIVE}")
    if not security.require_encryption or scheme == "tls":
        return address
    if not separator:
        return f"tls://{address}"
    raise SettingsError(
        f"{address} is not encrypted, but TLS was asked for. Give tls://..., or leave the "
        "certificates out."
    )


def _client_files(security: Security) -> dict[str, Any]:
    config = security.get_tls_config_for_role("client")
    return {name: config[name] for name in ("ca_file", "cert", "key")}


def _is_whole(security: Security) -> bool:
    files = _client_files(security)
    return bool(files["ca_file"] and files["cert"])


def _missing(security: Security) -> str:
    names = {"ca_file": "certificate of the authority", "cert": "certificate of this client"}
    files = _client_files(security)
    missing = [text for name, text in names.items() if not files[name]]
    return f"there is no {' and no '.join(missing)}"
