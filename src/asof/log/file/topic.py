"""Topics of the file log: their directories on disk, and the partitions that a process has open."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from asof.connections.private_files import like_its_folder, make_folder, make_folder_like_its_own, private
from asof.errors import LogError
from asof.log.file.partition import FilePartition
from asof.log.file.state import PartitionDeleted, reporting, sync_directory
from asof.log.protocol import LogUser, Partition, UnknownTopic

_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}")
_USER_SENTENCE = re.compile(r"project '(?P<project>[^']*)' of the registry (?P<registry>.*)")
"""A user as earlier versions stored it."""


class TopicMetadata(msgspec.Struct, frozen=True):
    """topic.json."""

    version: int
    id: str
    partitions: int


class FileTopic:
    """A topic's directory, opened by this process."""

    def __init__(self, path: Path, file: TopicMetadata, stamp: tuple[int, int], *, segment_bytes: int) -> None:
        self.path, self.name = path, path.name
        # Strings for what every send uses: pathlib takes as long as writing a record.
        self.file_text = str(path / "topic.json")
        self.id, self.partitions = file.id, file.partitions
        self.stamp = stamp
        self._segment_bytes = segment_bytes
        self._opened: dict[int, FilePartition] = {}
        self._lock = threading.Lock()
        self._owned: tuple[int, int] | None = None

    def partition(self, number: int) -> FilePartition:
        """The partition, opened.

        Raises:
            LogError: the topic has no partition with this number.
            PartitionDeleted: the topic was deleted meanwhile.
        """
        found = self._opened.get(number)
        if found is not None:
            return found
        with self._lock:
            if number not in self._opened:
                if not 0 <= number < self.partitions:
                    raise LogError(f"topic {self.name!r} has no partition {number}; it has 0 to {self.partitions - 1}")
                path = self.path / str(number)
                try:
                    self._opened[number] = FilePartition(path, number, segment_bytes=self._segment_bytes)
                except FileNotFoundError:
                    raise PartitionDeleted from None
            return self._opened[number]

    def name_of(self, number: int) -> Partition:
        """The partition with its topic's name and ID."""
        return Partition(self.name, number, self.id)

    def group_path(self, group: str) -> Path:
        """The group's directory."""
        return self.path / "groups" / quote(group, safe="")

    def grown(self, file: TopicMetadata, stamp: tuple[int, int]) -> None:
        """Update the number of partitions."""
        self.partitions, self.stamp = file.partitions, stamp

    @property
    def owned(self) -> int | None:
        """The partition that this process owns, if any."""
        return None if self._owned is None else self._owned[0]

    def claim(self, number: int) -> bool:
        """Own the partition, unless another living process does."""
        fd = like_its_folder(self.path / str(number) / "owner", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._owned = (number, fd)
        return True

    def release(self) -> None:
        """Release the owned partition."""
        owned, self._owned = self._owned, None
        if owned is not None:
            os.close(owned[1])

    def begin_again(self) -> None:
        """Reset a lock that another thread of the parent may have held at the fork."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the partitions, and release the owned one."""
        self.release()
        with self._lock:
            for partition in self._opened.values():
                partition.close()
            self._opened.clear()


def write_topic(path: Path, file: TopicMetadata) -> None:
    """Replace the topic's file atomically."""
    new = path / ".topic.json.new"
    with open(new, "wb", opener=like_its_folder) as out:
        out.write(msgspec.json.encode(file))
        out.flush()
        os.fsync(out.fileno())
    os.replace(new, path / "topic.json")
    sync_directory(path)


def read_topic(path: Path) -> TopicMetadata:
    """The topic's file.

    Raises:
        LogError: it is damaged, or of a newer format.
    """
    try:
        file = msgspec.json.decode((path / "topic.json").read_bytes(), type=TopicMetadata)
    except msgspec.DecodeError as error:
        raise LogError(f"{path / 'topic.json'} is damaged: {error}") from error
    if file.version != 1:
        raise LogError(f"{path} has format {file.version}; expected 1", hint="upgrade asof")
    return file


def users_of(path: Path) -> list[LogUser]:
    """The stores that use the topic: one line each in its file, with the inode of the topic's directory.

    Raises:
        LogError: the file is damaged.
    """
    try:
        lines = (path / "users").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    # In a copy of the directory (another inode), users of the original do not count.
    here = str(path.stat().st_ino)
    kept = [user for inode, _, user in (line.partition(" ") for line in lines) if inode == here]
    # A process of an earlier version writes its own form: one user may be there in both.
    return list(dict.fromkeys(_user_of(each, path / "users") for each in kept))


def _user_of(text: str, file: Path) -> LogUser:
    if found := _USER_SENTENCE.fullmatch(text):
        return LogUser(found["project"], found["registry"])
    try:
        return msgspec.json.decode(text, type=LogUser)
    except msgspec.DecodeError as error:
        raise LogError(f"{file} is damaged at {text!r}: {error}", hint="delete that line of it") from error


def add_user(path: Path, user: LogUser | None) -> None:
    """Add a store to the topic's users. The caller holds the log's lock."""
    if user is not None and user not in (known := users_of(path)):
        _write_users(path, [*known, user])


def remove_user(path: Path, user: LogUser | None) -> None:
    """Remove a store from the topic's users. The caller holds the log's lock."""
    if user in (known := users_of(path)):
        _write_users(path, [each for each in known if each != user])


def _write_users(path: Path, users: list[LogUser]) -> None:
    new, here = path / ".users.new", path.stat().st_ino
    with open(new, "w", encoding="utf-8", opener=like_its_folder) as out:
        out.write("".join(f"{here} {msgspec.json.encode(each).decode()}\n" for each in users))
    os.replace(new, path / "users")


class FileTopics:
    """The topics of one project in a file log's folder.

    Args:
        root: the log's directory; the others as in `FileLog`.
    """

    def __init__(
        self,
        root: Path,
        *,
        project: str,
        user: LogUser | None,
        kept: Callable[[Mapping[str, str]], Collection[str]] | None,
        segment_bytes: int,
    ) -> None:
        self.root = root
        # A topic's name can never be that of a project's directory.
        self.home = root / f"@{project}" if project else root
        self._user, self._kept, self._segment_bytes = user, kept, segment_bytes
        self._known: dict[str, FileTopic] = {}
        self._lock = threading.RLock()

    def create(self, topic: str, partitions: int = 1) -> None:
        """See `Log.create`."""
        if not _TOPIC_NAME.fullmatch(topic):
            raise LogError(
                f"{topic!r} is not a valid topic name: expected at most 249 letters, digits, '_', '-' and '.', and no "
                "'.' at the start"
            )
        if partitions < 1:
            raise LogError(f"topic {topic!r} needs at least 1 partition; partitions is {partitions}")
        with self.changing():
            path = self._place(topic)
            with reporting("create", path):
                if not path.exists():
                    self._make(path, partitions)
                add_user(path, self._user)

    def _make(self, path: Path, partitions: int) -> None:
        if not path.parent.exists():
            make_folder(path.parent)
            sync_directory(self.root)
        new = path.parent / f".new-{uuid.uuid4().hex}"
        for each in (new, new / "groups", *(new / str(number) for number in range(partitions))):
            make_folder(each)
        for number in range(partitions):
            FilePartition.make(new / str(number))
        write_topic(new, TopicMetadata(1, uuid.uuid4().hex, partitions))
        os.rename(new, path)
        sync_directory(path.parent)

    def delete(self, topic: str) -> None:
        """See `Log.delete`."""
        with self.changing(), ExitStack() as stack:
            try:
                found = self.find(topic)
            except UnknownTopic:
                return
            for number in range(found.partitions):
                # Under the lock, so that no one is writing; a waiting writer then sees that the file is gone.
                stack.enter_context(found.partition(number).locked())
            with reporting("delete", found.path):
                trash = found.path.parent / f".deleted-{uuid.uuid4().hex}"
                os.rename(found.path, trash)
                sync_directory(found.path.parent)
                shutil.rmtree(trash)
        self.forget(topic)

    def names(self) -> list[str]:
        """See `Log.topics`."""
        with reporting("list", self.home):
            own = set(_topics_in(self.home)) if self.home.exists() else set()
            if self.home != self.root and (old := self._old()):
                own |= set(self._kept(old)) if self._kept is not None else set()
            return sorted(own)

    def find(self, name: str) -> FileTopic:
        """The topic's current state on disk."""
        with self._lock:
            known = self._known.get(name)
            try:
                if known is None and not _TOPIC_NAME.fullmatch(name):
                    raise FileNotFoundError
                path = known.path if known is not None else self._place(name)
                found = os.stat(known.file_text if known is not None else path / "topic.json")
                stamp = (found.st_ino, found.st_mtime_ns)
                if known is not None and known.stamp == stamp:
                    return known
                file = read_topic(path)
            except (FileNotFoundError, NotADirectoryError):
                self.forget(name)
                if known is not None and path.parent != self.home:
                    # A recreated topic has another directory than the old one.
                    return self.find(name)
                raise UnknownTopic(name, f"the file log {self.root}") from None
            if known is not None and known.id == file.id:
                known.grown(file, stamp)
                return known
            self.forget(name)
            self._known[name] = FileTopic(path, file, stamp, segment_bytes=self._segment_bytes)
            return self._known[name]

    def _place(self, name: str) -> Path:
        """The directory of a topic: in the project's directory, except for old topics of the project in `root`."""
        if self.home == self.root or self._kept is None or not (self.root / name / "topic.json").exists():
            return self.home / name
        # A damaged one is not skipped: it may be the project's.
        old = self._old() | {name: read_topic(self.root / name).id}
        return (self.root if name in self._kept(old) else self.home) / name

    def _old(self) -> dict[str, str]:
        """Topics of any project in `root` itself: name → ID."""
        found = {}
        for name in _topics_in(self.root):
            # Ignore topics of other projects that are damaged or being deleted.
            with suppress(LogError, FileNotFoundError, NotADirectoryError):
                found[name] = read_topic(self.root / name).id
        return found

    def old(self) -> dict[str, str]:
        """See `SharedLog.old_topics`."""
        with reporting("list", self.root):
            return self._old() if self.home != self.root else {}

    def other_users(self, topic: str) -> list[LogUser]:
        """See `SharedLog.other_users`."""
        found = self.find(topic).path
        with reporting("read the users of", found):
            return [each for each in users_of(found) if each != self._user]

    def leave(self, topic: str) -> None:
        """See `SharedLog.leave`."""
        with self.changing():
            found = self.find(topic).path
            with reporting("leave", found):
                remove_user(found, self._user)
        self.forget(topic)

    def forget(self, topic: str) -> None:
        """Drop a deleted topic. Threads that still use it keep its files open until they are done."""
        with self._lock:
            known = self._known.pop(topic, None)
            if known is not None:
                known.release()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Lock the log for creating, growing or deleting topics."""
        with self._lock, reporting("lock", self.root / ".lock"):
            fd = private(self.root / ".lock", os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)

    def own_partition(self, topic: str) -> int:
        """See `Log.own_partition`."""
        with self.changing():
            found = self.find(topic)
            if found.owned is not None:
                return found.owned
            with reporting("claim a partition of", found.path):
                for number in range(found.partitions):
                    if found.claim(number):
                        return number
                number = found.partitions
                new = found.path / f".new-{uuid.uuid4().hex}"
                make_folder_like_its_own(new)
                FilePartition.make(new)
                # Left by a process that died before it wrote the topic's file; it has no records.
                shutil.rmtree(found.path / str(number), ignore_errors=True)
                os.rename(new, found.path / str(number))
                write_topic(found.path, TopicMetadata(1, found.id, number + 1))
                self.find(topic).claim(number)
                return number

    def begin_again(self) -> None:
        """Reset locks that another thread of the parent may have held at the fork."""
        self._lock = threading.RLock()
        for topic in self._known.values():
            topic.begin_again()

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for topic in self._known.values():
                topic.close()
            self._known.clear()


def _topics_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [each.name for each in entries if _TOPIC_NAME.fullmatch(each.name)]
