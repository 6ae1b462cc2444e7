"""One certificate authority of the tests, a server certificate of its hand, and an authority that nobody trusts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Certificates:
    """PEM files: `ca` (to trust), `other_ca` (a stranger), `certificate` with `key` (PKCS 8) for localhost and 127.0.0.1."""

    ca: Path
    other_ca: Path
    certificate: Path
    key: Path

    @classmethod
    def below(cls, directory: Path) -> Certificates:
        """The files of `directory`, made if they are not there."""
        files = cls(*(directory / name for name in ("ca.pem", "other-ca.pem", "server.pem", "server.key")))
        if not files.key.exists():
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o755)
            authority = trustme.CA()
            server = authority.issue_cert("localhost", "127.0.0.1")
            authority.cert_pem.write_to_path(files.ca)
            trustme.CA().cert_pem.write_to_path(files.other_ca)
            files.certificate.write_bytes(b"".join(pem.bytes() for pem in server.cert_chain_pems))
            # Kafka reads PKCS 8 only.
            key = load_pem_private_key(server.private_key_pem.bytes(), None)
            files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            files.key.chmod(0o600)
        return files
