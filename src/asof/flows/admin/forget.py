"""Remove one key from all stores of Asof, and report what it cannot remove."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from asof.decoding.codecs import codec_of
from asof.definitions import Entity, FeatureView, Field, JsonFormat, LogSource, Snapshot
from asof.display import counted
from asof.errors import LogError, NotFound, RequestError, nearest, some
from asof.flows.admin.feature_log import forget_served
from asof.flows.offline.training_sets.manifest import open_training_set, saved_training_sets
from asof.flows.rows.archive import wait_until_archived
from asof.flows.rows.keys import plain_key, plain_value, restored_key
from asof.flows.rows.pages import pages_of
from asof.flows.stores import Stores
from asof.flows.stream.dead_letters import dead_letter_id
from asof.flows.stream.event_ids import EVENTS
from asof.flows.stream.numbering import log_partitions
from asof.flows.stream.topics import topics_of
from asof.log.protocol import UnknownTopic
from asof.online.protocol import OnlineTable
from asof.results import Record
from asof.sql import archive as statements
from asof.values.exact_floats import exact_decoder
from asof.values.json import bytes_or_same
from asof.values.packing import key_bytes, key_values

WAIT_S = 10.0
"""How long to wait until workers have archived messages that they read before the erasure."""

_DEAD_LETTERS_SHOWN = 20

_decode = exact_decoder(Any).decode


@dataclass
class ForgetResult(Record):
    """What `forget` removed, and what it did not.

    Args:
        key: the entity's join keys by name.
        log: topic → number of messages removed.
        archive, dead_letters: source → number of rows removed.
        online: view → number of rows removed.
        feature_log: service → number of rows removed from its feature log.
        training_sets: name and number of rows of each saved training set with the key; they are left as they are.
        sources: sources with the key that Asof does not write.
        undecided_dead_letters: IDs of undecodable dead letters that may hold the key: those of JSON contain its value.
        notes: what is left to do.
    """

    entity: str
    key: Mapping[str, object]
    log: dict[str, int] = field(default_factory=dict)
    archive: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    online: dict[str, int] = field(default_factory=dict)
    feature_log: dict[str, int] = field(default_factory=dict)
    training_sets: list[dict[str, object]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    undecided_dead_letters: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def forget(stores: Stores, snapshot: Snapshot, entity: str, key: Any, *, wait_s: float = WAIT_S) -> ForgetResult:
    """Remove a key's messages from the logs, its events from archives, its online rows and its dead letters.

    Logs are erased first, so that no worker reads the key again. Then it waits until workers have archived what they
    had read, and erases archives and online rows. Idempotent; a later run removes what has arrived since.

    Args:
        key: the entity's join keys by name; for an entity with one join key, its value.

    Raises:
        NotFound: the entity is not applied.
        RequestError: the key does not fit the entity's join keys.
    """
    found = _entity(snapshot, entity)
    values = dict(key) if isinstance(key, Mapping) else _only_value(found, key)
    unknown = [name for name in values if name not in found.join_keys]
    if unknown or set(values) != set(found.join_keys):
        raise RequestError(
            f"entity {entity!r} has the join keys {list(found.join_keys)}; found {list(values)}",
            hint=nearest(unknown[0], found.join_keys) if unknown else "give a value for each",
        )
    report = ForgetResult(entity, values)
    logs = _logs(snapshot, found)
    matchers = {source.name: _Matcher(stores, source, fields, values) for source, fields in logs}
    report.notes += [
        f"source {source.name!r}: its transform makes column {name!r}, so that messages of the key were not found in "
        "its log and dead letters: delete those there"
        for source, _ in logs for name in matchers[source.name].absent
    ]  # fmt: skip
    for source, _ in logs:
        _erase(stores, source, matchers[source.name], report)
    for source, fields in logs:
        _settle(stores, snapshot, source, report, seconds=wait_s)
        _forget_events(stores, source, fields, matchers[source.name], report)
    _forget_online(stores, snapshot, found, values, report)
    report.notes += _rebuild_notes(snapshot, found, report)
    report.feature_log = forget_served(stores, snapshot, found, values)
    report.training_sets = _training_sets(stores, found, values)
    of_key = set(found.join_keys)
    read = {view.source.name for view in snapshot.project.views.values() if of_key and of_key <= set(view.join_keys)}
    histories = {source.batch_source.name for source, _ in logs if source.batch_source is not None}
    report.sources = sorted((read - {source.name for source, _ in logs}) | histories)
    if report.sources:
        report.notes.append(
            "Asof does not write batch sources: delete the rows there, or a materialize run that reads them brings "
            "them back"
        )
    return report


def _entity(snapshot: Snapshot, name: str) -> Entity:
    found = snapshot.project.entities.get(name)
    if found is None:
        known = snapshot.project.entities
        raise NotFound(
            f"no entity {name!r} is applied", hint=nearest(name, known) or f"applied entities: {some(list(known))}"
        )
    return found


def _only_value(entity: Entity, value: Any) -> dict[str, Any]:
    if len(entity.join_keys) != 1:
        raise RequestError(
            f"entity {entity.name!r} has the join keys {list(entity.join_keys)}", hint="give a value for each by name"
        )
    return {entity.join_keys[0]: value}


def _logs(snapshot: Snapshot, entity: Entity) -> list[tuple[LogSource, list[Field]]]:
    """The log sources with the entity's join keys, and these columns, renamed by `field_mapping`."""
    logs = []
    for source in snapshot.project.sources.values():
        if isinstance(source, LogSource):
            types = {source.renamed(field.name): field.dtype for field in source.schema}
            if entity.join_keys and all(key in types for key in entity.join_keys):
                logs.append((source, [Field(key, types[key]) for key in entity.join_keys]))
    return logs


class _Matcher:
    """Decides whether a raw message is about the key.

    Attributes:
        absent: the key's columns that messages do not have.
    """

    def __init__(
        self, stores: Stores, source: LogSource, fields: Sequence[Field], values: Mapping[str, Any]
    ) -> None:  # fmt: skip
        self._stores, self._source = stores, source
        self._is_json = isinstance(source.message_format, JsonFormat)
        own = {field.name for field in source.message_fields}
        self.absent = [source.raw(field.name) for field in fields if source.raw(field.name) not in own]
        plain = plain_key(fields, values)
        self.wanted = restored_key(fields, plain)
        self._columns = [(source.raw(field.name), each, field) for each, field in zip(plain, fields, strict=True)]
        self._fields = list(fields)
        # An undecodable message is searched for the value delimited by punctuation or spaces.
        texts = [re.escape(str(value).encode()) for value in self.wanted.values()]
        self._mentions = [re.compile(rb"(?<![0-9A-Za-z_])" + text + rb"(?![0-9A-Za-z_])") for text in texts]

    def __call__(self, key: bytes | None, value: bytes | None) -> bool:
        message = self._message(value)
        if message is None:
            return False
        return all(self._is(message.get(raw), plain, field) for raw, plain, field in self._columns)

    def is_undecided(self, value: bytes | None) -> bool:
        """Whether a message cannot be decoded and may be about the key: one of JSON contains its value."""
        if value is None or self._message(value) is not None:
            return False
        return not self._is_json or all(each.search(value) for each in self._mentions)

    def _message(self, value: bytes | None) -> Mapping[str, Any] | None:
        if not self._is_json:
            return self._decoded(value) if value is not None else None
        try:
            message = _decode(value) if value is not None else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return message if isinstance(message, dict) else None

    def _decoded(self, value: bytes) -> Mapping[str, Any] | None:
        """The columns of an Avro or Protobuf message; those that do not fit are null.

        Raises:
            SchemaRegistryUnavailable: its schema cannot be asked for now.
        """
        stores, source = self._stores, self._source
        index, columns = codec_of(source, stores.bounds).decode(
            [0], [value], dead_letters={}, undeclared=Counter(), schemas=stores.schemas_of(source)
        )
        return {name: column[0].as_py() for name, column in columns.items()} if len(index) else None

    def _is(self, found: Any, plain: Any, field: Field) -> bool:
        if field.dtype.name == "Bytes":
            found = bytes_or_same(found)
        try:
            if plain_value(field, found) == plain:
                return True
        except RequestError:
            pass
        # A dead letter may have the key in a wrong type, such as "7" for 7.
        return found is not None and str(found) == str(self.wanted[field.name])


def _erase(stores: Stores, source: LogSource, matcher: _Matcher, report: ForgetResult) -> None:
    for log, topic, _ in topics_of(stores, source):
        try:
            report.log[topic] = log.erase(topic, matcher)
        except UnknownTopic:
            continue
        except LogError as error:
            report.notes.append(f"messages of the key may still be in the log: {error.message}")


def _settle(stores: Stores, snapshot: Snapshot, source: LogSource, report: ForgetResult, *, seconds: float) -> None:
    """Wait until messages that workers read before the erasure are archived, so that they can be removed there."""
    epoch = snapshot.facts.epoch_of(source.name)
    held = log_partitions(stores, source, epoch=epoch)
    wanted: dict[int, int] = {each.archived_as: each.after - 1 for each in held if each.after > each.first}
    archived = wait_until_archived(stores, source, wanted, seconds=seconds)
    behind = sum(max(last - archived[each], 0) for each, last in wanted.items())
    if behind:
        report.notes.append(
            f"source {source.name!r}: {counted(behind, 'message')} not archived yet; if a worker runs, forget the "
            "key again after its next flush"
        )


def _forget_events(
    stores: Stores, source: LogSource, fields: Sequence[Field], matcher: _Matcher, report: ForgetResult
) -> None:
    archive, dead_letters = stores.archive_of(source), stores.dead_letters_of(source)
    columns = {source.raw(field.name): matcher.wanted[field.name] for field in fields}
    report.archive[source.name] = stores.offline.forget(archive, columns)
    rows = stores.offline.rows(dead_letters)
    if rows is None:
        return
    found: dict[int, list[int]] = {}
    for batch in stores.offline.sql(statements.dead_letter_values(), {"dead_letters": rows}).reader(10_000):
        for partition, offset, value in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if matcher(None, value):
                found.setdefault(partition, []).append(offset)
            elif len(report.undecided_dead_letters) < _DEAD_LETTERS_SHOWN and matcher.is_undecided(value):
                report.undecided_dead_letters.append(dead_letter_id(source.name, (partition, offset)))
    report.dead_letters[source.name] = sum(
        stores.offline.forget(dead_letters, {"partition": partition, "offset": offsets})
        for partition, offsets in found.items()
    )


def _forget_online(
    stores: Stores, snapshot: Snapshot, entity: Entity, values: Mapping[str, Any], report: ForgetResult
) -> None:
    """Delete the online rows of the key, in all generations of the views that have its join keys."""
    for table in stores.online.tables(stores.project):
        if table.view.endswith(EVENTS):
            continue  # a table of event IDs, which has no keys
        view = snapshot.project.views.get(table.view)
        if view is None:
            report.notes.append(f"online rows of {table.view!r} were not checked: the view is not applied")
        elif entity.join_keys and set(entity.join_keys) <= set(view.join_keys):
            # Also of views whose keys have others in addition: their events are gone from the archive, too.
            keys = _online_keys(stores, table, view, entity, values)
            done = stores.online.delete(table, keys) if keys else 0
            report.online[view.name] = report.online.get(view.name, 0) + done


def _rebuild_notes(snapshot: Snapshot, entity: Entity, report: ForgetResult) -> list[str]:
    """The views of fewer keys, whose rows were made of removed events too."""
    of_key = set(entity.join_keys)
    views = [
        view.name
        for view in snapshot.project.views.values()
        if view.online and report.archive.get(view.source.name) and not of_key <= set(view.join_keys)
    ]
    if not views:
        return []
    return [
        f"the online rows of {some(views)} were made of removed events, too, under other keys: run "
        f"`asof rebuild {' '.join(views)}`"
    ]


def _online_keys(
    stores: Stores, table: OnlineTable, view: FeatureView, entity: Entity, values: Mapping[str, Any]
) -> list[bytes]:
    fields = [field for field in view.key_fields if field.name in entity.join_keys]
    plain = plain_key(fields, {field.name: values[field.name] for field in fields})
    if len(fields) == len(view.key_fields):
        return [key_bytes(plain)]
    positions = [view.join_keys.index(field.name) for field in fields]
    return [
        row[0] for page in pages_of(stores, table) for row in page
        if [key_values(row[0])[place] for place in positions] == plain
    ]  # fmt: skip


def _training_sets(stores: Stores, entity: Entity, values: Mapping[str, Any]) -> list[dict[str, object]]:
    """Name and number of rows of each saved training set with the key."""
    holding: list[dict[str, object]] = []
    for _, saved in sorted(saved_training_sets(stores).items()):
        # A view may map a join key to a column with another name.
        mapped = [each.join_key_map or {} for each in saved.projections] + [{}]
        sets = {tuple(names.get(key, key) for key in entity.join_keys) for names in mapped}
        sets = {columns for columns in sets if set(columns) <= set(saved.frame_columns)}
        if not sets:
            continue
        try:
            reader = open_training_set(stores, saved)
        except NotFound:
            continue
        rows = 0
        for batch in reader:
            held = [_held(batch, columns, [values[key] for key in entity.join_keys]) for columns in sets]
            rows += sum(any(row) for row in zip(*held, strict=True))
        if rows:
            holding.append({"name": saved.name, "rows": rows})
    return holding


def _held(batch: pa.RecordBatch, columns: Sequence[str], values: Sequence[Any]) -> list[bool]:
    mask = pa.repeat(pa.scalar(True), batch.num_rows)
    for name, value in zip(columns, values, strict=True):
        column = batch.column(name)
        try:
            equal = pc.equal(column, pa.scalar(value).cast(column.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            equal = pa.array([str(each) == str(value) for each in column.to_pylist()], pa.bool_())
        mask = pc.and_(mask, equal.fill_null(False))
    return mask.to_pylist()


__all__ = ["ForgetResult", "forget"]
