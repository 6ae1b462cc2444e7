"""Object storage: buckets of S3, Google Cloud Storage and Azure, by address, errors in the user's terms."""

from asof.connections.object_storage.objects import StoredObject
from asof.connections.object_storage.settings import StorageSettings
from asof.connections.object_storage.storage import ObjectStorage

__all__ = ["ObjectStorage", "StorageSettings", "StoredObject"]
