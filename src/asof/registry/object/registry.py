"""The registry in a bucket: each version is an object that is created only if absent, so that commits are atomic."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from asof.connections.object_storage import ObjectStorage
from asof.defaults import HISTORY_COMMITS
from asof.definitions.project import Snapshot
from asof.errors import RegistryError
from asof.registry.object.layout import StoredVersion, escaped, parted, unescaped, version_name, version_of
from asof.registry.object.records import ObjectRecords, wrapping
from asof.registry.protocol import (
    KEPT_FACT_COMMITS,
    Commit,
    UnreadableVersion,
    changes_definitions,
    checksum,
    conflict,
    empty,
    marked,
    no_version,
    summarize,
)
from asof.timing import Micros, iso

_AT_ONCE = 16
_KEPT_DEFINITIONS = 4
"""How many definitions are kept in memory by their hash: facts change often, definitions seldom."""


class ObjectRegistry(ObjectRecords):
    """Snapshots in object storage. Safe between threads, processes and machines.

    A check of the version is one request, whatever the number of versions: it lists what is beyond the last one seen.

    Args:
        path: `s3://bucket/prefix`, `gs://…` or `az://…`; a path or `file://` is a folder, for tests on one machine.
        storage: how object storage is reached.
    """

    def __init__(self, path: Path | str, *, storage: ObjectStorage | None = None) -> None:
        text = str(path)
        self._root = (text if "://" in text else f"file://{Path(text).absolute()}").rstrip("/")
        super().__init__(self._root, storage or ObjectStorage())
        self._seen: dict[str, int] = {}
        self._definitions: OrderedDict[str, bytes] = OrderedDict()

    @property
    def place(self) -> str:
        return self._root

    def load(self, project: str) -> Snapshot:
        with wrapping():
            for _ in range(3):
                newest = self._newest(project)
                if newest == 0:
                    return empty(project)
                found = self._snapshot(project, newest)
                if found is not None:
                    return found
        raise RegistryError(
            f"registry {self._root}: version {newest} of project {project!r} is listed and not there",
            hint="run the command again; if it stays so, check what else deletes objects below this address",
        )

    def version(self, project: str) -> int:
        with wrapping():
            return self._newest(project)

    def commit(self, snapshot: Snapshot, *, expected: int, who: str, when: Micros, note: str = "") -> Snapshot:
        project = snapshot.name
        with wrapping():
            newest = self._newest(project)
            if newest != expected:
                raise conflict(project, expected=expected, newest=self._commit_of(project, newest))
            after = replace(snapshot, version=expected + 1)
            before, facts_only = empty(project), False
            try:
                before = (self._decoded(project, newest) or before) if newest else before
                facts_only = not changes_definitions(before, after)
            except UnreadableVersion:
                # A good version replaces a damaged one.
                pass
            definitions, rest = parted(after)
            name = checksum(definitions)
            if name not in self._definitions:
                # The same bytes under the same name: whoever wrote them before, nothing is lost.
                self._storage.create(self._definitions_at(project, name), definitions)
                self._keep(name, definitions)
            made = StoredVersion(
                Commit(after.version, who, when, note, summarize(before, after)),
                uuid.uuid4().hex,
                facts_only,
                name,
                rest,
            )
            address = self._version_at(project, after.version)
            if not self._storage.create(address, made.encode()):
                # Either another writer was faster, or it is ours, and the response to it was lost.
                there = self._stored(project, after.version)
                if there is None or there.token != made.token:
                    raise conflict(project, expected=expected, newest=there.commit if there else None)
            self._seen[project] = after.version
            self._drop_facts(project, after.version - KEPT_FACT_COMMITS)
            return after

    def history(self, project: str, limit: int = HISTORY_COMMITS, *, facts: bool = True) -> list[Commit]:
        found: list[Commit] = []
        with wrapping():
            kept = self._versions(project)[::-1]
            for start in range(0, len(kept), _AT_ONCE):
                if len(found) >= limit:
                    break
                numbers = kept[start : start + _AT_ONCE]
                objects = self._storage.read_all(self._version_at(project, each) for each in numbers)
                for number, data in zip(numbers, objects, strict=True):
                    if data is None:
                        continue
                    try:
                        stored = StoredVersion.decode(data)
                    except UnreadableVersion as error:
                        found.append(Commit(number, "", 0, "", f"unreadable: {error}"))
                        continue
                    if facts or not stored.facts_only:
                        found.append(stored.commit)
        return found[:limit]

    def load_version(self, project: str, version: int) -> Snapshot:
        with wrapping():
            found = self._snapshot(project, version) if version > 0 else None
            if found is None:
                raise no_version(project, version, kept=self._versions(project))
            return found

    def projects(self) -> list[str]:
        with wrapping():
            return sorted(map(unescaped, self._storage.folders(f"{self._root}/versions")))

    def drop(self, project: str) -> None:
        with wrapping():
            versions = [self._version_at(project, each) for each in self._versions(project)]
            # The newest goes last: none but it is ever taken for the newest.
            for addresses in (versions[:-1], versions[-1:]):
                if addresses:
                    self._storage.delete(addresses)
            for kind in ("definitions", "records", "counts"):
                below = [
                    each.address for each in self._storage.objects_below(f"{self._root}/{kind}/{escaped(project)}")
                ]
                if below:
                    self._storage.delete(below)
            self._seen.pop(project, None)

    def restore(self, project: str, versions: Iterable[tuple[Commit, Snapshot]]) -> None:
        with wrapping():
            newest = self._newest(project)
            if newest:
                raise conflict(project, expected=0, newest=self._commit_of(project, newest))
            for commit, snapshot, facts_only in marked(versions):
                definitions, rest = parted(snapshot)
                name = checksum(definitions)
                if name not in self._definitions:
                    self._storage.create(self._definitions_at(project, name), definitions)
                    self._keep(name, definitions)
                made = StoredVersion(commit, uuid.uuid4().hex, facts_only, name, rest)
                if not self._storage.create(self._version_at(project, commit.version), made.encode()):
                    there = self._stored(project, commit.version)
                    if there is None or there.token != made.token:
                        raise conflict(project, expected=0, newest=there.commit if there else None)

    def close(self) -> None:
        """Nothing is held open between two requests but idle connections."""

    def _version_at(self, project: str, version: int) -> str:
        return f"{self._root}/versions/{escaped(project)}/{version_name(version)}"

    def _definitions_at(self, project: str, name: str) -> str:
        return f"{self._root}/definitions/{escaped(project)}/{name}.json"

    def _versions(self, project: str, *, beyond: int = 0) -> list[int]:
        """The versions that are there, ascending."""
        after = self._version_at(project, beyond) if beyond > 0 else ""
        below = self._storage.objects_below(f"{self._root}/versions/{escaped(project)}", after=after)
        return [version for each in below if (version := version_of(each.address)) is not None]

    def _newest(self, project: str) -> int:
        """The newest version: one request where it is the last one seen, or little newer."""
        seen = self._seen.get(project, 0)
        found = self._versions(project, beyond=seen - 1)
        if not found and seen:
            found = self._versions(project)  # it was dropped since
        newest = found[-1] if found else 0
        self._seen[project] = newest
        return newest

    def _stored(self, project: str, version: int) -> StoredVersion | None:
        data = self._storage.read(self._version_at(project, version))
        return None if data is None else StoredVersion.decode(data)

    def _commit_of(self, project: str, version: int) -> Commit | None:
        if version == 0:
            return None
        try:
            stored = self._stored(project, version)
        except UnreadableVersion:
            return Commit(version, "", 0, "", "unreadable")
        return stored.commit if stored is not None else None

    def _decoded(self, project: str, version: int) -> Snapshot | None:
        """A version's snapshot; None if it is not there.

        Raises:
            UnreadableVersion: it is damaged, or of a newer format.
        """
        stored = self._stored(project, version)
        if stored is None:
            return None
        definitions = self._definitions.get(stored.definitions)
        if definitions is None:
            definitions = self._storage.read(self._definitions_at(project, stored.definitions))
        snapshot = stored.snapshot(definitions)
        assert definitions is not None
        self._keep(stored.definitions, definitions)
        return snapshot

    def _snapshot(self, project: str, version: int) -> Snapshot | None:
        try:
            return self._decoded(project, version)
        except UnreadableVersion as error:
            if error.newer:
                raise RegistryError(
                    f"registry {self._root}: version {version} of project {project!r}: {error}", hint="upgrade asof"
                ) from error
            good = self._last_good(project, before=version)
            kept = f"version {good.version} by {good.who or 'somebody'} at {iso(good.when)}" if good else "none here"
            raise RegistryError(
                f"registry {self._root}: version {version} of project {project!r} is damaged: {error}",
                hint=f"restore its objects from a backup; the last good version is {kept}",
            ) from error

    def _last_good(self, project: str, *, before: int) -> Commit | None:
        for version in reversed([each for each in self._versions(project) if each < before]):
            try:
                if self._decoded(project, version) is not None:
                    return self._commit_of(project, version)
            except UnreadableVersion:
                continue
        return None

    def _drop_facts(self, project: str, version: int) -> None:
        """Delete a version that is old and changed only facts."""
        if version < 1:
            return
        try:
            stored = self._stored(project, version)
        except UnreadableVersion:
            return
        if stored is not None and stored.facts_only:
            self._storage.delete([self._version_at(project, version)])

    def _keep(self, name: str, definitions: bytes) -> None:
        self._definitions[name] = definitions
        while len(self._definitions) > _KEPT_DEFINITIONS:
            try:
                self._definitions.popitem(last=False)
            except KeyError:
                pass  # another thread did


__all__ = ["ObjectRegistry"]
