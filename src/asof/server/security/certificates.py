"""Subjects and alternative names of client certificates, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Subject = frozenset[tuple[str, str]]
"""A subject's attributes by their short names, unordered: tools print them in different orders."""

_SHORT = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
    "stateOrProvinceName": "ST", "localityName": "L", "domainComponent": "DC", "userId": "UID",
    "emailAddress": "EMAILADDRESS", "serialNumber": "SERIALNUMBER",
}  # fmt: skip


def written_subject(text: str) -> Subject:
    """`CN=feeder,O=Shop` of the configuration; `URI=spiffe://shop/feeder` and `DNS=feeder` are alternative names."""
    pairs = [part.partition("=") for part in text.split(",")]
    return frozenset((kind.strip().upper(), value.strip()) for kind, _, value in pairs)


def subject_of(certificate: Mapping[str, Any]) -> Subject:
    """The subject of a certificate as `ssl` decodes it."""
    return frozenset(
        (_SHORT.get(kind, kind).upper(), value) for part in certificate.get("subject", ()) for kind, value in part
    )


def alternative_names(certificate: Mapping[str, Any]) -> Iterator[Subject]:
    """Its alternative names, each as a subject of one attribute."""
    for kind, value in certificate.get("subjectAltName", ()):
        yield frozenset(((kind.upper(), value),))
