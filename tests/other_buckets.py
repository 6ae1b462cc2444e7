"""Buckets of other providers than S3, on emulators that are fetched when they are first started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.services import shared
from tests.services.azure import Azure
from tests.services.google import Google, GoogleProxy


class Provider:
    """A provider's server, as the tests of S3 take theirs.

    Args:
        storage: the section `storage:` that reaches it.
        create_bucket: makes a bucket of a name; returns its address.
    """

    def __init__(self, storage: dict[str, object], create_bucket: Callable[[str], str]) -> None:
        self.storage, self.create_bucket = storage, create_bucket
        self.port = urlsplit(str(storage["endpoint"])).port or 0


@contextmanager
def provided(name: str, folder: Path) -> Iterator[Provider]:
    """The run's server of `azure` or `google`.

    Args:
        folder: for files that it needs.

    Raises:
        ServiceUnavailable: it cannot be had here.
    """
    if name == "azure":
        azure = shared(Azure)
        yield Provider(azure.storage, azure.create_bucket)
        return
    google = shared(Google)
    proxy = GoogleProxy(google, folder)
    try:
        yield Provider(proxy.storage, google.create_bucket)
    finally:
        proxy.close()
