"""The shop's objects: a prefix of a bucket that the demo marks as its own, and replaces when it runs again."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.demo.manifest import MARK, DemoManifest, NameTaken

FOLDERS = ("registry", "history", "source")
"""What the demo has below its address: definitions, archives with training sets, the shop's tables."""


class ShopBucket:
    """The shop's tables as Parquet objects below an address, where the store's own objects are, too.

    Args:
        place: the address, such as `s3://bucket/demo`.
        endpoint: URL of the server; empty is the provider's own.
    """

    def __init__(self, place: str, endpoint: str = "") -> None:
        self.place = place
        self._storage = ObjectStorage(StorageSettings(endpoint=endpoint, allow_http=endpoint.startswith("http://")))
        self._marker = f"{place}/demo.json"

    def made_earlier(self) -> DemoManifest | None:
        """The record of an earlier demo there; None if nothing is there.

        Raises:
            NameTaken: there are objects that were not created by the demo.
        """
        found = self._storage.read(self._marker)
        if found is None:
            other = next(iter(self._storage.objects_below(self.place)), None)
            if other is not None:
                hint = "use another prefix: --storage s3://BUCKET/PREFIX"
                raise NameTaken(f"object {other.address.removeprefix(self.place)[1:]!r}", self.place, hint=hint)
            return None
        record = json.loads(found)
        return DemoManifest(record["topic"], record["topic_id"])

    def drop(self) -> None:
        """Delete what the demo and its store created; the mark last, so that an interrupted run can be made again."""
        for folder in FOLDERS:
            self._storage.delete(each.address for each in self._storage.objects_below(f"{self.place}/{folder}"))
        self._storage.delete([self._marker])

    def fill(self, tables: dict[str, pa.Table]) -> None:
        """Write the mark, and the shop's tables."""
        self.remember(DemoManifest("", ""))
        for name, table in tables.items():
            sink = io.BytesIO()
            pq.write_table(table, sink)
            self._storage.write(f"{self.place}/source/{name}.parquet", sink.getvalue())

    def remember(self, made: DemoManifest) -> None:
        """Record the topic that the demo created, so that the next run knows what it may delete."""
        record = {"mark": MARK, "topic": made.topic, "topic_id": made.topic_id}
        self._storage.write(self._marker, json.dumps(record).encode())

    def close(self) -> None:
        """Nothing is open."""
