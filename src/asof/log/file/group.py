"""Consumer groups of the file log: members, assignment and committed offsets, in files.

Each member locks its own file, which the system unlocks when it dies, and touches it at each poll. There is no
coordinator: the next member that polls makes the pending changes, under the group's lock.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from asof.connections.private_files import like_its_folder, make_folder_like_its_own
from asof.log.file.state import reporting
from asof.log.protocol import PartitionNotOwned

Owners = dict[int, str | None]


class GroupState(msgspec.Struct):
    """The group's file.

    Args:
        members: IDs, in order of joining.
        owners: partition → the member that it is assigned to.
    """

    members: list[str] = []
    owners: Owners = {}


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of a member's assignment.

    Args:
        lost: partitions that were reassigned while it did not poll.
        give: assigned partitions that it should release.
        taken: newly assigned partitions.
    """

    lost: list[int]
    give: list[int]
    taken: list[int]


def fair_share(members: Sequence[str], owners: Mapping[int, str | None]) -> dict[int, str]:
    """The balanced assignment: members differ by at most one partition, and as few as possible move.

    Deterministic, so that members agree without communication.
    """
    held = {member: [p for p in sorted(owners) if owners[p] == member] for member in members}
    share, more = divmod(len(owners), len(members))
    # Members with most partitions get the larger shares, to avoid needless moves.
    by_held = sorted(range(len(members)), key=lambda i: (-len(held[members[i]]), i))
    quota = {members[i]: share + (rank < more) for rank, i in enumerate(by_held)}
    wanted = {p: member for member in members for p in held[member][: quota[member]]}
    room = (member for member in members for _ in range(quota[member] - len(held[member][: quota[member]])))
    for partition in sorted(owners):
        if partition not in wanted:
            wanted[partition] = next(room)
    return wanted


class Membership:
    """One member's side of a group.

    Args:
        path: the group's directory; created if missing, but not its parents.
        session_timeout_s: a member that does not refresh for this long is removed.
    """

    def __init__(self, path: Path, topic: str, group: str, *, session_timeout_s: float) -> None:
        self._path, self._topic, self._group = path, topic, group
        self._file = str(path / "group.json")
        self._timeout_ns = int(session_timeout_s * 1e9)
        self._member: str | None = None
        self._fd = -1
        self.held: set[int] = set()

    def close_files(self) -> None:
        """Close the lock without leaving: for a forked child, whose parent stays the member."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with reporting("lock", self._path / "lock"):
            fd = like_its_folder(self._path / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def refresh(self, partitions: int) -> Changes:
        """Send a heartbeat, remove dead members, and return the changes of this member's assignment.

        Args:
            partitions: number of the topic's partitions.
        """
        with self._locked():
            state = self._load()
            before = msgspec.json.encode(state)
            self._drop_dead(state)
            lost: list[int] = []
            if self._member is None or self._member not in state.members:
                lost = sorted(self.held)
                self._join(state)
            else:
                lost = sorted(p for p in self.held if state.owners.get(p) != self._member)
            self.held -= set(lost)
            os.utime(self._fd, ns=(0, time.monotonic_ns()))
            state.owners = {
                p: owner if (owner := state.owners.get(p)) in state.members else None for p in range(partitions)
            }
            wanted = fair_share(state.members, state.owners)
            taken = [p for p in wanted if wanted[p] == self._member and state.owners[p] is None]
            give = sorted(p for p in self.held if wanted.get(p) != self._member)
            state.owners.update(dict.fromkeys(taken, self._member))
            self.held.update(taken)
            if msgspec.json.encode(state) != before:
                self._save(state)
            return Changes(lost, give, sorted(taken))

    def release(self, partitions: Sequence[int]) -> list[int]:
        """Release partitions; returns those that were no longer assigned to this member."""
        with self._locked():
            state = self._load()
            gone = [p for p in partitions if state.owners.get(p) != self._member]
            state.owners.update({p: None for p in partitions if p not in gone})
            self._save(state)
            self.held -= set(partitions)
            if self._fd >= 0:
                os.utime(self._fd, ns=(0, time.monotonic_ns()))
            return gone

    def leave(self) -> None:
        """Leave the group; its partitions are free."""
        if self._member is None:
            return
        with self._locked():
            state = self._load()
            self._remove(state, self._member)
            self._save(state)
        self.close_files()
        self._member = None
        self.held.clear()

    def version(self) -> tuple[int, int]:
        """Changes with every change of the group."""
        try:
            found = os.stat(self._file)
        except FileNotFoundError:
            return (0, 0)
        return (found.st_ino, found.st_mtime_ns)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets of assigned partitions.

        Raises:
            PartitionNotOwned: a partition is not assigned any more; nothing was committed.
        """
        with self._locked():
            state = self._load()
            foreign = sorted(p for p in offsets if self._member is None or state.owners.get(p) != self._member)
            if foreign:
                raise PartitionNotOwned(self._topic, foreign, self._group)
            os.utime(self._fd, ns=(0, time.monotonic_ns()))
            for partition, offset in offsets.items():
                _replace(self._path / "offsets" / str(partition), b"%d" % offset)

    def _join(self, state: GroupState) -> None:
        self.close_files()
        for name in ("members", "offsets"):
            make_folder_like_its_own(self._path / name)
        self._member = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._fd = like_its_folder(self._path / "members" / self._member, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        state.members.append(self._member)

    def _drop_dead(self, state: GroupState) -> None:
        for member in list(state.members):
            if member != self._member and not self._lives(member):
                self._remove(state, member)

    def _remove(self, state: GroupState, member: str) -> None:
        if member in state.members:
            state.members.remove(member)
        state.owners = {p: None if owner == member else owner for p, owner in state.owners.items()}
        (self._path / "members" / member).unlink(missing_ok=True)

    def _lives(self, member: str) -> bool:
        """Whether the member's process holds its lock and has polled in time.

        By the system's monotonic clock: setting the wall clock must not end memberships.
        """
        try:
            fd = os.open(self._path / "members" / member, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            if time.monotonic_ns() - os.fstat(fd).st_mtime_ns > self._timeout_ns:
                return False
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _load(self) -> GroupState:
        try:
            return msgspec.json.decode((self._path / "group.json").read_bytes(), type=GroupState)
        except (FileNotFoundError, msgspec.DecodeError):
            # Only a power cut can leave an unreadable file, and then no member is alive.
            return GroupState()

    def _save(self, state: GroupState) -> None:
        _replace(self._path / "group.json", msgspec.json.encode(state))


def committed_offsets(path: Path) -> dict[int, int]:
    """Partition → committed offset of the group in this directory."""
    offsets: dict[int, int] = {}
    with suppress(FileNotFoundError):
        for entry in os.scandir(path / "offsets"):
            if entry.name.isdigit():
                with suppress(ValueError, FileNotFoundError):
                    offsets[int(entry.name)] = int(Path(entry.path).read_bytes())
    return dict(sorted(offsets.items()))


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    with reporting("write", path):
        with open(new, "wb", opener=like_its_folder) as out:
            out.write(data)
        os.replace(new, path)
