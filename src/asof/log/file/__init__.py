"""The file log: the embedded twin of Kafka."""

from asof.log.file.log import FileLog

__all__ = ["FileLog"]
