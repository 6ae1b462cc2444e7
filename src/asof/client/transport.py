"""Address, credentials, TLS and limits of a client; shared by the synchronous and the asynchronous one."""

from __future__ import annotations

import ssl
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from ipaddress import ip_address
from typing import Any, Generic, TypeVar

import httpx

from asof.client.retries import Retries
from asof.errors import ConfigError

Token = str | Callable[[], str]


class Bearer(httpx.Auth):
    """Adds the key or token to every request; a callable is called each time, so that it can renew the token."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._token if isinstance(self._token, str) else self._token()
        request.headers["Authorization"] = f"Bearer {token}"
        yield request

    def __repr__(self) -> str:
        return "Bearer(***)"


Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


class ClientBase(ABC, Generic[Http]):
    """Base class of both clients; the options are documented at `asof.Client`.

    Raises:
        ConfigError: an option is invalid, or options exclude each other.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        token: Token | None = None,
        ca: str | None = None,
        client_cert: tuple[str, str] | str | None = None,
        timeout_s: float = 10.0,
        connect_timeout_s: float = 3.0,
        retries: int = 2,
        pool_size: int = 32,
    ) -> None:
        credential = _credential(url, api_key, token)
        if (ca or client_cert) and url.startswith("http:"):
            raise ConfigError(f"ca or client_cert is set, but url {url!r} is without TLS", hint="use https://")
        if credential is not None and url.startswith("http:") and not _is_this_machine(httpx.URL(url).host):
            warnings.warn(
                f"the key or token is sent to {url} without TLS: whoever is on the way can read it; use https://",
                stacklevel=2,
            )
        self.url = url
        self._retries = Retries(retries, url, timeout_s)
        self._http: Http = self._opened({
            "base_url": url,
            "auth": Bearer(credential) if credential is not None else None,
            "verify": _trust(ca, client_cert) if url.startswith("https:") else True,
            "timeout": httpx.Timeout(timeout_s, connect=connect_timeout_s),
            "limits": httpx.Limits(
                max_connections=pool_size, max_keepalive_connections=pool_size, keepalive_expiry=30.0
            ),
            # Ignore proxies and .netrc of the environment, which would see or change every request.
            "trust_env": False,
            "headers": {"User-Agent": "asof", "Content-Type": "application/json", "Accept": "application/json"},
        })  # fmt: skip

    @abstractmethod
    def _opened(self, options: dict[str, Any]) -> Http:
        """Create the httpx client."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"


def _credential(url: str, api_key: str | None, token: Token | None) -> Token | None:
    """The key or token, after validation of the address and the credentials."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ConfigError(f"url {url!r} is not an http(s) URL", hint="use a URL such as https://features.example.com")
    address = httpx.URL(url)
    if not address.host:
        raise ConfigError(f"url {url!r} has no host", hint="use a URL such as https://features.example.com")
    if address.userinfo:
        raise ConfigError("the url has a user or password", hint="use api_key= or token= instead")
    if api_key is not None and token is not None:
        raise ConfigError("both api_key and token are set", hint="set one of them")
    credential = token if token is not None else api_key
    return credential if credential is None or callable(credential) else _checked(credential)


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(credential: str) -> str:
    text = credential.strip()
    if not text or not text.isascii() or any(character.isspace() for character in text):
        raise ConfigError("the key or token is empty, or has invalid characters", hint="copy it again")
    return text


def _trust(ca: str | None, client_cert: tuple[str, str] | str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca {ca!r}: {_reason(error)}", hint="give a PEM file of certificates") from error
    if client_cert is not None:
        certificate, key = (client_cert, None) if isinstance(client_cert, str) else client_cert
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"client_cert {certificate!r}: {_reason(error)}",
                hint="give PEM files (certificate, key) of one key pair",
            ) from error
    return context


def _no_password() -> bytes:
    # Without this function OpenSSL would prompt on the terminal.
    raise OSError("the key has a password, which is not supported")


def _reason(error: OSError) -> str:
    return str(error.strerror or getattr(error, "reason", None) or error).replace("_", " ").lower()
