"""A topic of the file log: its file, and its partitions as one process has opened them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from urllib.parse import quote

import msgspec

from asof.errors import LogError
from asof.log.file.partition import FilePartition
from asof.log.file.state import Deleted, sync_directory
from asof.log.protocol import Partition


class TopicFile(msgspec.Struct, frozen=True):
    """topic.json."""

    version: int
    id: str
    partitions: int


class Topic:
    """A topic's directory as one process has opened it."""

    def __init__(self, path: Path, file: TopicFile, stamp: tuple[int, int], *, segment_bytes: int) -> None:
        self.path, self.name = path, path.name
        # For what every send looks at: pathlib takes as long as writing a record.
        self.file_text = str(path / "topic.json")
        self.id, self.partitions = file.id, file.partitions
        self.stamp = stamp
        self._segment_bytes = segment_bytes
        self._opened: dict[int, FilePartition] = {}
        self._lock = threading.Lock()

    def partition(self, number: int) -> FilePartition:
        """The partition, opened.

        Raises:
            LogError: the topic has none with this number.
            Deleted: the topic was deleted meanwhile.
        """
        found = self._opened.get(number)
        if found is not None:
            return found
        with self._lock:
            if number not in self._opened:
                if not 0 <= number < self.partitions:
                    raise LogError(
                        f"topic {self.name!r} has partitions 0 to {self.partitions - 1}, asked for was {number}"
                    )
                path = self.path / str(number)
                try:
                    self._opened[number] = FilePartition(path, number, segment_bytes=self._segment_bytes)
                except FileNotFoundError:
                    raise Deleted from None
            return self._opened[number]

    def name_of(self, number: int) -> Partition:
        """What the partition is called."""
        return Partition(self.name, number, self.id)

    def group_path(self, group: str) -> Path:
        """The group's directory."""
        return self.path / "groups" / quote(group, safe="")

    def grown(self, file: TopicFile, stamp: tuple[int, int]) -> None:
        """Take note of more partitions."""
        self.partitions, self.stamp = file.partitions, stamp

    def begin_anew(self) -> None:
        """Forget a lock that another thread of the parent may have held at the fork."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close its partitions."""
        with self._lock:
            for partition in self._opened.values():
                partition.close()
            self._opened.clear()


def write_topic(path: Path, file: TopicFile) -> None:
    """Put the topic's file in place of the one before, whole or not at all."""
    new = path / ".topic.json.new"
    with open(new, "wb") as out:
        out.write(msgspec.json.encode(file))
        out.flush()
        os.fsync(out.fileno())
    os.replace(new, path / "topic.json")
    sync_directory(path)


def read_topic(path: Path) -> TopicFile:
    """The topic's file.

    Raises:
        LogError: it is damaged, or of a newer format.
    """
    try:
        file = msgspec.json.decode((path / "topic.json").read_bytes(), type=TopicFile)
    except msgspec.DecodeError as error:
        raise LogError(f"{path / 'topic.json'} is damaged: {error}") from error
    if file.version != 1:
        raise LogError(f"{path} has format {file.version}, this Asof reads 1", hint="install a newer Asof")
    return file


def users_of(path: Path) -> list[str]:
    """The stores that use the topic, as they call themselves."""
    try:
        lines = (path / "users").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    # In a copy of the folder, those who use the original are none of its users.
    here = str(path.stat().st_ino)
    return [user for inode, _, user in (line.partition(" ") for line in lines) if inode == here]


def add_user(path: Path, user: str) -> None:
    """Note that a store uses the topic. The caller holds the log's lock."""
    if user and user not in (known := users_of(path)):
        _write_users(path, [*known, user])


def remove_user(path: Path, user: str) -> None:
    """Note that a store uses the topic no more. The caller holds the log's lock."""
    if user in (known := users_of(path)):
        _write_users(path, [each for each in known if each != user])


def _write_users(path: Path, users: list[str]) -> None:
    new, here = path / ".users.new", path.stat().st_ino
    new.write_text("".join(f"{here} {each}\n" for each in users), encoding="utf-8")
    os.replace(new, path / "users")
