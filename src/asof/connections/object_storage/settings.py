"""How object storage is reached: the settings of `storage:`, as its two drivers (obstore, deltalake) take them."""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asof.defaults import STORAGE_CONNECT_TIMEOUT_S, STORAGE_RETRIES, STORAGE_RETRY_S, STORAGE_TIMEOUT_S
from asof.errors import ConfigError

_PROFILE_KEYS = {
    "aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token", "region": "region", "endpoint_url": "endpoint",
}  # fmt: skip
"""Key of a profile in AWS' files → the setting."""

_NO_PROXY = "http://127.0.0.1:9"
"""Nothing listens there: a request that would go through it fails, instead of going elsewhere."""


@dataclass(frozen=True)
class StorageSettings:
    """What a driver needs to reach buckets. What is left out, it finds by its provider's chain (variables, instance).

    Args:
        endpoint: URL of a server that speaks S3 (or Google's or Azure's protocol, for their addresses); empty is the
            provider's own.
        allow_http: whether the endpoint may be without TLS.
        ca_file: PEM file of the authority that the endpoint's certificate is from.
        profile: a profile in AWS' own files, for what is not given here.
        account_name, account_key: of Azure.
        service_account: path of a key file of Google Cloud.
        timeout_s: limit of one request; `retry_s` limits a request with its retries.
    """

    endpoint: str = ""
    region: str = ""
    allow_http: bool = False
    ca_file: str = ""
    virtual_hosted_style: bool = False
    profile: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    account_name: str = ""
    account_key: str = field(default="", repr=False)
    service_account: str = ""
    connect_timeout_s: float = STORAGE_CONNECT_TIMEOUT_S
    timeout_s: float = STORAGE_TIMEOUT_S
    retries: int = STORAGE_RETRIES
    retry_s: float = STORAGE_RETRY_S

    def of_scheme(self, scheme: str) -> dict[str, str]:
        """The settings of one provider that are given, by their names in obstore."""
        given = {"s3": self._of_s3, "gs": self._of_google, "az": self._of_azure}[scheme]()
        return {name: value for name, value in given.items() if value}

    def _of_s3(self) -> dict[str, str]:
        own = {
            "endpoint": self.endpoint, "region": self.region, "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key, "session_token": self.session_token,
        }  # fmt: skip
        if self.profile:
            own = {**_profile(self.profile), **{name: value for name, value in own.items() if value}}
        own["virtual_hosted_style_request"] = "true" if self.virtual_hosted_style else ""
        return own

    def _of_google(self) -> dict[str, str]:
        return {"service_account": self.service_account, "base_url": self.endpoint}

    def _of_azure(self) -> dict[str, str]:
        return {"account_name": self.account_name, "account_key": self.account_key, "endpoint": self.endpoint}

    def client_options(self) -> dict[str, Any]:
        """The HTTP client's options, by their names in obstore."""
        return {
            "allow_http": self.allow_http,
            "connect_timeout": f"{self.connect_timeout_s:g}s",
            "timeout": f"{self.timeout_s:g}s",
            **({"root_certificate": _certificate(self.ca_file)} if self.ca_file else {}),
        }

    def delta_options(self, scheme: str) -> dict[str, str]:
        """All of it, by the names that Delta tables' driver takes as `storage_options`."""
        prefix = {"s3": "aws", "gs": "google", "az": "azure_storage"}[scheme]
        named = {f"{prefix}_{name}": value for name, value in self.of_scheme(scheme).items()}
        return {
            **named,
            "allow_http": str(self.allow_http).lower(),
            "connect_timeout": f"{self.connect_timeout_s:g}s",
            "timeout": f"{self.timeout_s:g}s",
            "max_retries": str(self.retries),
            "retry_timeout": f"{self.retry_s:g}s",
            # A commit is a file that must not be there yet; the store itself refuses a second one.
            **({"aws_conditional_put": "etag"} if scheme == "s3" else {}),
            **(self._delta_certificate(scheme) if self.ca_file else {}),
        }

    def _delta_certificate(self, scheme: str) -> dict[str, str]:
        """The authority, for Delta tables' driver. It trusts only the system's and that of a proxy; so it gets a proxy

        with this authority that it uses for no request to the endpoint.
        """
        given = self.of_scheme(scheme)
        host = urlsplit(given.get("endpoint") or given.get("base_url", "")).hostname
        if not host:
            raise ConfigError(
                "storage.ca_file is the authority of an endpoint, and there is no endpoint",
                hint="give storage.endpoint, or leave out ca_file: the system's authorities are trusted then",
            )
        return {
            "proxy_url": _NO_PROXY, "proxy_excludes": host, "proxy_ca_certificate": _certificate(self.ca_file),
        }  # fmt: skip


def _certificate(path: str) -> str:
    """The certificate in a PEM file.

    Raises:
        ConfigError: it cannot be read, or has none or several.
    """
    try:
        text = Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"storage.ca_file {path} cannot be read: {error}", hint="name a PEM file") from error
    # Of several, one of the two drivers would take the first alone.
    if (found := text.count("-----BEGIN CERTIFICATE-----")) != 1:
        raise ConfigError(
            f"storage.ca_file {path} has {found} certificates; expected 1, in PEM",
            hint="give the certificate of the authority alone",
        )
    return text


def _profile(name: str) -> dict[str, str]:
    """The settings of a profile with keys of its own.

    Raises:
        ConfigError: there is no such profile, or its keys come from elsewhere.
    """
    files = configparser.ConfigParser(interpolation=None)
    folder = Path("~/.aws").expanduser()
    files.read([folder / "config", folder / "credentials"], encoding="utf-8")
    sections = [each for each in (f"profile {name}", name) if files.has_section(each) or each == "DEFAULT"]
    if not sections:
        raise ConfigError(
            f"storage.profile: no profile {name!r} in {folder}/config or {folder}/credentials",
            hint="run `aws configure list-profiles` to see what there is",
        )
    found = {ours: files[each][key] for each in sections for key, ours in _PROFILE_KEYS.items() if key in files[each]}
    if "access_key_id" not in found:
        raise ConfigError(
            f"storage.profile: profile {name!r} has no aws_access_key_id: its keys come from a role or a sign-in",
            hint=f'run eval "$(aws configure export-credentials --profile {name} --format env)", and leave out profile',
        )
    return found


__all__ = ["StorageSettings"]
