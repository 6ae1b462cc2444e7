"""Objects by their address (`s3://bucket/key`): read, listed, created only if absent, replaced only if unchanged.

Each verb is one request, and a listing one per thousand objects, unless the store fails and is asked again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from asof.connections.object_storage.errors import ObjectChanged, translated
from asof.connections.object_storage.objects import StoredObject
from asof.connections.object_storage.settings import StorageSettings
from asof.errors import AsofError, ConfigError, MissingExtra, StorageError
from asof.values.local_paths import local_path, scheme_of

if TYPE_CHECKING:
    from asof.connections.object_storage.filesystem import ObjectFiles

_AT_ONCE = 16
"""How many objects are read at the same time."""

_begun_in: list[int] = []
"""The process that began the driver's threads: no child of a fork has them, and would wait for them forever."""

_one_writer = threading.Lock()
"""For folders (`file://`), which cannot replace a file only if it is unchanged: writers of one process take turns."""


class ObjectStorage:
    """Buckets by their addresses: `s3://`, `gs://`, `az://`, and folders as `file://`. Safe between threads.

    Every verb may raise StorageError: no such bucket, access denied, unreachable; `StorageOutage` where the same
    call may succeed later.
    """

    def __init__(self, settings: StorageSettings | None = None) -> None:
        self.settings = settings or StorageSettings()
        self._stores: dict[tuple[str, str], Any] = {}
        self._files: ObjectFiles | None = None

    @property
    def files(self) -> ObjectFiles:
        """The objects as files, for engines that read files through Python."""
        if self._files is None:
            from asof.connections.object_storage.filesystem import ObjectFiles  # needs the extra

            self._files = ObjectFiles(self)
        return self._files

    def delta_options(self, address: str) -> dict[str, str]:
        """What the driver of Delta tables needs for a table there."""
        scheme = scheme_of(address)
        return {} if scheme == "file" else self.settings.delta_options(scheme)

    def head(self, address: str) -> StoredObject | None:
        """What is known of an object without reading it; None if it is not there."""
        store, key = self._at(address)
        with _wrapping(address):
            try:
                return _stored(address, _driver().head(store, key))
            except FileNotFoundError as error:
                _refuse_bucket(error, address)
                return None

    def read(self, address: str, *, start: int = 0, length: int | None = None, etag: str = "") -> bytes | None:
        """The bytes of an object, or a range of them; None if it is not there.

        Args:
            etag: raise `ObjectChanged` if it is another one by now.
        """
        store, key = self._at(address)
        options: dict[str, Any] = {}
        if etag:
            options["if_match"] = etag
        if length is not None:
            options["range"] = (start, start + length)
        elif start:
            options["range"] = {"offset": start}
        with _wrapping(address):
            try:
                found = _driver().get(store, key, options=options or None)
                # Not every server that speaks a provider's protocol heeds `if_match`.
                if etag and _bare(found.meta["e_tag"]) not in ("", _bare(etag)):
                    raise ObjectChanged(f"{address}: it was changed meanwhile", hint="run it again")
                return bytes(found.bytes())
            except FileNotFoundError as error:
                _refuse_bucket(error, address)
                return None

    def read_all(self, addresses: Iterable[str]) -> list[bytes | None]:
        """Several objects at once, in order; None where one is not there."""
        wanted = list(addresses)
        if len(wanted) < 2:
            return [self.read(each) for each in wanted]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self.read, wanted))

    def read_with_version(self, address: str) -> tuple[bytes, str] | None:
        """An object and its version, for `replace`: its etag, or on Google its generation; None if it is not there."""
        store, key = self._at(address)
        with _wrapping(address):
            try:
                found = _driver().get(store, key)
                return bytes(found.bytes()), found.meta[_version_of(address)] or ""
            except FileNotFoundError as error:
                _refuse_bucket(error, address)
                return None

    def objects_below(self, address: str, *, after: str = "") -> Iterator[StoredObject]:
        """The objects below an address, ascending by it, which may be more than fit into memory.

        Args:
            after: leave out what is not beyond this address.
        """
        store, key = self._at(address)
        top = address[: len(address) - len(key)] if key else address.rstrip("/") + "/"
        offset = self._at(after)[1] if after else None
        with _wrapping(address):
            pages = iter(_driver().list(store, key or None, offset=offset, chunk_size=1000))
            if scheme_of(address) == "file":
                # Folders are listed in no order.
                pages = iter([sorted((each for page in pages for each in page), key=lambda each: each["path"])])
        while True:
            with _wrapping(address):
                page = next(pages, None)
            if page is None:
                return
            for each in page:
                # Not every server that speaks a provider's protocol knows where to begin.
                if top + each["path"] > after:
                    yield _stored(top + each["path"], each)

    def folders(self, address: str) -> list[str]:
        """The names right below an address that have something below them, ascending."""
        store, key = self._at(address)
        if scheme_of(address) == "file":
            # A folder stays when its last file goes; a bucket has no empty ones.
            below = [each.address[len(address) + 1 :] for each in self.objects_below(address)]
            return sorted({each.partition("/")[0] for each in below if "/" in each})
        with _wrapping(address):
            found = _driver().list_with_delimiter(store, key or None)
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"])

    def create(self, address: str, data: bytes) -> bool:
        """Write an object only if there is none; returns whether there was none.

        A retry after a lost response finds the object that the first try created: compare what is there then.
        """
        store, key = self._at(address)
        with _wrapping(address):
            try:
                _driver().put(store, key, data, mode="create", use_multipart=False)
                return True
            except _exceptions().AlreadyExistsError:
                return False

    def replace(self, address: str, data: bytes, *, version: str) -> bool:
        """Write an object only if the one that is there has this version; returns whether it had."""
        store, key = self._at(address)
        with _wrapping(address):
            if scheme_of(address) == "file":
                return self._replace_file(address, data, version)
            try:
                _driver().put(store, key, data, mode={_version_of(address): version}, use_multipart=False)
                return True
            except (_exceptions().PreconditionError, FileNotFoundError):
                return False

    def _replace_file(self, address: str, data: bytes, version: str) -> bool:
        with _one_writer:
            found = self.head(address)
            if found is None or found.etag != version:
                return False
            self.write(address, data)
            return True

    def write(self, address: str, data: bytes | Iterable[bytes]) -> None:
        """Write an object, over what is there. It appears as a whole: of an upload that breaks off, nothing is seen."""
        store, key = self._at(address)
        if isinstance(data, bytes):
            with _wrapping(address):
                _driver().put(store, key, data)
            return
        with _wrapping(address):
            writer = _driver().open_writer(store, key)
        # Its pieces may come from the same store, so they are made outside of the driver. Where one cannot be made, the
        # upload is not completed.
        for piece in data:
            with _wrapping(address):
                writer.write(piece)
        with _wrapping(address):
            writer.close()

    def delete(self, addresses: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        stores: dict[int, tuple[Any, list[str], str]] = {}
        for each in addresses:
            store, key = self._at(each)
            stores.setdefault(id(store), (store, [], each))[1].append(key)
        for store, keys, first in stores.values():
            with _wrapping(first):
                try:
                    _driver().delete(store, keys)
                except FileNotFoundError:
                    # S3 does not say so. Where one is not there, the driver leaves those after it.
                    for key in keys:
                        with suppress(FileNotFoundError):
                            _driver().delete(store, key)

    def _at(self, address: str) -> tuple[Any, str]:
        """The driver's store of an address, and the key in it."""
        scheme = scheme_of(address)
        if scheme == "file":
            bucket, key = "", local_path(address).strip("/")
        else:
            bucket, _, key = address.partition("://")[2].partition("/")
            if not bucket:
                raise StorageError(f"{address!r} names no bucket", hint=f"write {scheme or 's3'}://BUCKET/PREFIX")
            if "@" in bucket:
                # It may be a password: the message leaves it out.
                raise StorageError(
                    f"an address {scheme}://…@{bucket.rpartition('@')[2]} has credentials in it",
                    hint="write them under `storage:` in feature_store.yaml, from variables",
                )
        _refuse_fork(address)
        store = self._stores.get((scheme, bucket))
        if store is None:
            store = self._stores.setdefault((scheme, bucket), self._opened(scheme, bucket, address))
        return store, key.strip("/")

    def _opened(self, scheme: str, bucket: str, address: str) -> Any:
        stores, settings = _stores(), self.settings
        if scheme == "file":
            return stores.LocalStore("/", mkdir=True)
        if scheme not in ("s3", "gs", "az"):
            raise StorageError(f"{address!r} is no address of object storage", hint="write s3://, gs:// or az://")
        if settings.endpoint.lower().startswith("http://") and not settings.allow_http:
            raise ConfigError(
                "storage.endpoint is http://, and would send data and signatures without TLS",
                hint="give an https:// endpoint, or set `allow_http: true`",
            )
        made = {"s3": stores.S3Store, "gs": stores.GCSStore, "az": stores.AzureStore}[scheme]
        retry: Mapping[str, Any] = {
            "max_retries": settings.retries, "retry_timeout": timedelta(seconds=settings.retry_s),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
        }  # fmt: skip
        with _wrapping(f"{scheme}://{bucket}"):
            return made(bucket, config=settings.of_scheme(scheme), client_options=settings.client_options(),
                        retry_config=retry)  # fmt: skip


def _version_of(address: str) -> str:
    """The name under which the driver keeps what a replacement is conditional on."""
    return "version" if scheme_of(address) == "gs" else "e_tag"


def _bare(etag: str | None) -> str:
    """An etag as Azure lists it: without the quotes that it has in headers."""
    return (etag or "").removeprefix("W/").strip('"')


def _stored(address: str, meta: Mapping[str, Any]) -> StoredObject:
    return StoredObject(address, meta["size"], meta["e_tag"] or "", meta["last_modified"])


def _refuse_fork(address: str) -> None:
    if not _begun_in:
        _begun_in.append(os.getpid())
    if _begun_in[0] != os.getpid():
        raise StorageError(
            f"{address} cannot be read or written in process {os.getpid()}: its parent used object storage before the "
            "fork, and its driver works in one process only",
            hint='start processes with multiprocessing.get_context("spawn"), or fork before the first use',
        )


def _refuse_bucket(error: Exception, address: str) -> None:
    """Raise where it is the bucket that is not there."""
    if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
        raise translated(error, address) from error


@contextmanager
def _wrapping(what: str) -> Iterator[None]:
    try:
        yield
    except (AsofError, GeneratorExit):
        raise
    except Exception as error:
        raise translated(error, what) from error


def _driver() -> Any:
    try:
        import obstore
    except ImportError as error:
        raise MissingExtra("object storage (s3://, gs://, az://)", "s3") from error
    return obstore


def _stores() -> Any:
    _driver()
    import obstore.store

    return obstore.store


def _exceptions() -> Any:
    import obstore.exceptions

    return obstore.exceptions


__all__ = ["ObjectStorage"]
