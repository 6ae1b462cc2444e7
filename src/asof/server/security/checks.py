"""`asof doctor` on a server's security: keys and certificates that expire, and issuers that are unreachable."""

from __future__ import annotations

from collections.abc import Iterator

from asof.config import StoreConfig
from asof.config.auth import Auth, Issuer
from asof.display import counted
from asof.distribution import install_command
from asof.errors import AsofError, some
from asof.flows.admin.doctor import Check
from asof.server.security.binding import refuse_open
from asof.server.security.tls import server_context, tls_settings
from asof.server.settings import ServerSettings
from asof.timing import DAY, Micros, iso, micros

SOON = 14 * DAY


def security_checks(config: StoreConfig, *, now: Micros) -> list[Check]:
    """A check of each configured section of `auth:` and of the server's TLS."""
    checks = list(_keys(config.auth, now))
    checks += [_issuer(each) for each in config.auth.issuers]
    server = ServerSettings().with_options(config.server)
    checks += _tls(server, now)
    try:
        refuse_open(server.host, config.auth, insecure=False)
    except AsofError as error:
        checks.append(Check("server", False, error.message, error.hint))
    return checks


def _keys(auth: Auth, now: Micros) -> Iterator[Check]:
    if not auth.keys:
        return
    expired = [each.name for each in auth.keys if each.expires is not None and each.expires <= now]
    ending = [each for each in auth.keys if each.expires is not None and now < each.expires <= now + SOON]
    text = counted(len(auth.keys), "key")
    if ending:
        first = min(each.expires or 0 for each in ending)
        text += f"; next to expire: {some([each.name for each in ending])}, at {iso(first)}"
    if expired:
        yield Check("server keys", False, f"{text}; expired: {some(expired)}", "remove them, or create new ones")
    else:
        yield Check("server keys", True, text)


def _issuer(issuer: Issuer) -> Check:
    part = f"issuer {issuer.issuer}"
    try:
        from asof.server.security.key_sets import key_set_of
    except ImportError:
        return Check(part, False, "its tokens need packages that are not installed", install_command("server"))
    keys = key_set_of(issuer)
    keys.refresh()
    if keys.problem:
        return Check(part, False, f"its keys cannot be read ({keys.problem})", "check auth.issuers.jwks")
    return Check(part, True, f"keys {some(keys.ids)}")


def _tls(server: ServerSettings, now: Micros) -> list[Check]:
    certificate = server.tls_cert or ""
    try:
        settings = tls_settings(
            certificate=certificate, key=server.tls_key or "", password=server.tls_key_password or "",
            client_ca=server.tls_client_ca or "", client_certificates=server.tls_client_certificates or "",
        )  # fmt: skip
        if settings is None:
            return []
        server_context(settings)
    except AsofError as error:
        return [Check("server TLS", False, error.message, error.hint)]
    ends = _end_of(certificate)
    if ends is None:
        return [Check("server TLS", True, certificate)]
    left = ends - now
    text = f"{certificate} is valid until {iso(ends)}"
    if left <= SOON:
        gone = f"{certificate} expired at {iso(ends)}"
        text = gone if left <= 0 else f"{text}, {left // DAY} days from now"
        return [Check("server TLS", False, text, "renew it, and reload the server")]
    return [Check("server TLS", True, text)]


def _end_of(certificate: str) -> Micros | None:
    """Expiry of a certificate; None if the cryptography package is not installed."""
    try:
        from cryptography import x509
    except ImportError:
        return None
    with open(certificate, "rb") as file:
        return micros(x509.load_pem_x509_certificate(file.read()).not_valid_after_utc)
