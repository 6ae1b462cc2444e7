"""The file log: an embedded counterpart of Kafka."""

from asof.log.file.log import FileLog

__all__ = ["FileLog"]
