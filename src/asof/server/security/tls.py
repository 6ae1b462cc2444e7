"""TLS of the server, with client certificates if configured."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asof.errors import ConfigError

CLIENT_CERTIFICATES = {"optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True)
class TlsSettings:
    """Paths of PEM files.

    Args:
        certificate: the server's certificate with its intermediate certificates.
        key: its private key.
        password: of the key, if it has one.
        client_ca: CA of client certificates; empty: none are requested.
        client_certificates: `optional` (a key or token may be used instead) or `required`.
    """

    certificate: str
    key: str
    password: str = ""
    client_ca: str = ""
    client_certificates: str = "optional"

    def __repr__(self) -> str:
        return f"TlsSettings({self.certificate})"


def tls_settings(
    *, certificate: str = "", key: str = "", password: str = "", client_ca: str = "", client_certificates: str = ""
) -> TlsSettings | None:
    """The settings, if TLS is on.

    Raises:
        ConfigError: a setting lacks another one that it needs.
    """
    if not certificate and not key:
        if client_ca:
            raise ConfigError("server.tls_client_ca is set without server.tls_cert", hint="set server.tls_cert too")
        return None
    if not certificate or not key:
        have, lack = ("tls_cert", "tls_key") if certificate else ("tls_key", "tls_cert")
        raise ConfigError(f"server.{have} is set without server.{lack}", hint=f"set server.{lack} too")
    if client_certificates and client_certificates not in CLIENT_CERTIFICATES:
        raise ConfigError(
            f"server.tls_client_certificates is {client_certificates!r}", hint="write optional or required"
        )
    if client_certificates and not client_ca:
        raise ConfigError(
            "server.tls_client_certificates is set without server.tls_client_ca", hint="set server.tls_client_ca too"
        )
    return TlsSettings(certificate, key, password, client_ca, client_certificates or "optional")


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """The server's TLS context: TLS 1.2 and up.

    Raises:
        ConfigError: a file is missing, unreadable, or not valid.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    paths = {"tls_cert": settings.certificate, "tls_key": settings.key, "tls_client_ca": settings.client_ca}
    for name, path in paths.items():
        if path:
            _refuse_unreadable(name, path)
    try:
        # Called only if the key has a password; without a function, OpenSSL would prompt on the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: settings.password)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"server.tls_cert {settings.certificate} and server.tls_key {settings.key}: {_reason(error)}",
            hint="give PEM files of one key pair, and tls_key_password if the key has one",
        ) from error
    if settings.client_ca:
        try:
            context.load_verify_locations(settings.client_ca)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"server.tls_client_ca {settings.client_ca}: {_reason(error)}", hint="give a PEM file of certificates"
            ) from error
        context.verify_mode = CLIENT_CERTIFICATES[settings.client_certificates]
    return context


def peer_certificate(transport: Any) -> Any:
    """The verified certificate of the peer of a connection, or None."""
    connection = transport.get_extra_info("ssl_object")
    return connection.getpeercert() or None if connection is not None else None


def _refuse_unreadable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f"server.{name}: {path} cannot be read: {error.strerror}", hint="check the path and its rights"
        ) from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower()
