"""Compare served values with history, per key, over exactly the events that each online row has seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from asof.defaults import AUDIT_KEYS, SEED
from asof.definitions import Aggregation, FeatureView, Snapshot
from asof.display import counted
from asof.errors import AsofError
from asof.flows.admin.audit_causes import cause_of
from asof.flows.admin.audit_keys import choose_keys
from asof.flows.admin.audited_rows import ServedValues, features_as_of, seen_rows, serve_keys, wait_for_archive
from asof.flows.generations.names import has_shape_of, is_of_earlier_version
from asof.flows.offline.compare import values_agree
from asof.flows.offline.key_rows import whole_view
from asof.flows.records import AUDIT
from asof.flows.rows.keys import restored_key
from asof.flows.runs import kind_of_reason
from asof.flows.stores import Progress, Stores, current_generation, silent, table_of, view_named
from asof.registry.records import RegistryRecord
from asof.results import Record, Result, arrow_of, columns_of
from asof.selection import FeatureOut, Selection, ViewRead, select
from asof.timing import iso, micros, moment
from asof.values.packing import key_values

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Difference(Record):
    """A served value that differs from history, or a view that could not be compared.

    Args:
        feature, key: None if the whole view could not be compared.
        at: the time that both values are as of.
    """

    view: str
    feature: str | None
    key: Mapping[str, object] | None
    at: datetime
    online: object
    historical: object
    cause: str


@dataclass(frozen=True)
class AuditedView(Record):
    """The audit of one view.

    Args:
        left_out: why it was skipped; the counts are None then.
    """

    view: str
    keys: int | None = None
    active_keys: int | None = None
    differences: int | None = None
    left_out: str | None = None

    def to_dict(self) -> dict[str, object]:
        return {name: value for name, value in super().to_dict().items() if value is not None}


@dataclass(repr=False, eq=False)
class AuditReport(Result[Difference]):
    """The result of an audit; its rows are the differences.

    Attributes:
        keys: number of (view, key) pairs compared; `active_keys`: those with a non-zero window or an open session.
        values, equal: numbers of values compared, and of equal ones.
        differences: each with its cause.
        views: per view its keys, active keys and differences, or why it was skipped.
    """

    at: datetime
    keys: int = 0
    active_keys: int = 0
    values: int = 0
    equal: int = 0
    differences: list[Difference] = field(default_factory=list)
    views: list[AuditedView] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all views could be compared, without a difference."""
        return not self.differences

    def to_dict(self) -> dict[str, object]:
        """The report as JSON-ready data."""
        differences = [{**each.to_dict(), "at": iso(micros(each.at))} for each in self.differences]
        return {
            "ok": self.ok, "at": iso(micros(self.at)), "keys": self.keys, "active_keys": self.active_keys,
            "values": self.values, "equal": self.equal, "differences": differences,
            "views": [each.to_dict() for each in self.views],
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self.differences)

    def __bool__(self) -> bool:
        # An audit that found nothing is a report all the same: `ok` says what it found.
        return True

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.differences)

    def to_arrow(self) -> pa.Table:
        """The differences as an Arrow table; keys and values as JSON text."""
        return arrow_of(Difference, self.differences)

    def _columns(self) -> list[str]:
        return columns_of(Difference)

    def _first(self, n: int) -> Sequence[Difference]:
        return self.differences[:n]

    def _title(self) -> str:
        return (
            f"Audit of {iso(micros(self.at))}: {self.equal:,} of {counted(self.values, 'value')} of "
            f"{counted(self.keys, 'key')} equal, {counted(len(self), 'difference')}"
        )


def audit(
    stores: Stores,
    snapshot: Snapshot,
    names: Sequence[str] | None = None,
    *,
    keys: int = AUDIT_KEYS,
    seed: int = SEED,
    wait_s: float = 30.0,
    progress: Progress = silent,
) -> AuditReport:
    """Compare the online values of some keys with their historical ones, and give the cause of each difference.

    Keys are sampled by hash, active ones first. Some are taken from history and some do not exist, to detect lost rows
    and rows that should not exist. Values are compared exactly, sums of floats within 1e-9 of the sum of the
    magnitudes.

    Args:
        names: views and services; None for all online views.
        keys: number of keys per view.
        wait_s: how long to wait until the archive has the events of the rows.
    """
    report = AuditReport(moment(stores.clock()))
    views = _views(snapshot, names)
    for done, view in enumerate(views):
        progress("audit views", done, len(views))
        if not view.online or current_generation(snapshot, view) is None:
            why = "is not online" if not view.online else "has no online rows yet"
            report.views.append(AuditedView(view.name, left_out=why))
            continue
        if not has_shape_of(current_generation(snapshot, view) or "", view):
            # Rows of another definition have another meaning, if they can be read at all.
            cause = "the definition changed since its rows were built: run `asof apply`, or `asof rebuild`"
            if is_of_earlier_version(current_generation(snapshot, view) or "", view):
                cause = "an earlier version of Asof built its rows, which orders them otherwise: run `asof apply`"
            report.differences.append(Difference(view.name, None, None, report.at, None, None, cause))
            report.views.append(AuditedView(view.name, left_out=cause))
            continue
        _audit_view(stores, snapshot, view, report, keys=keys, seed=seed, wait_s=wait_s)
    progress("audit views", len(views), len(views))
    return report


def audit_records(report: AuditReport) -> list[RegistryRecord]:
    """The outcome for each view that was compared, with its differences by kind of cause, to be kept."""
    causes: dict[str, Counter[str]] = defaultdict(Counter)
    for each in report.differences:
        causes[each.view][kind_of_reason(each.cause)] += 1
    return [
        RegistryRecord(
            AUDIT, each.view, micros(report.at),
            {
                "keys": each.keys or 0, "active_keys": each.active_keys or 0, "differences": causes[each.view].total(),
                "causes": dict(causes[each.view]), "left_out": each.left_out,
            },
        )
        for each in report.views
        if each.keys is not None or causes[each.view]
    ]  # fmt: skip


def _views(snapshot: Snapshot, names: Sequence[str] | None) -> list[FeatureView]:
    if names is None:
        return [view for view in snapshot.project.views.values() if view.online]
    views: dict[str, FeatureView] = {}
    for name in names:
        if name in snapshot.project.services or name in snapshot.project.on_demand_views:
            selection: Selection = select(snapshot, name, full_feature_names=True)
            views |= {read.view.name: read.view for read in selection.reads}
        else:
            views[name] = view_named(snapshot, name)
    return list(views.values())


def _audit_view(
    stores: Stores, snapshot: Snapshot, view: FeatureView, report: AuditReport, *, keys: int, seed: int, wait_s: float
) -> None:
    table = table_of(stores.project, view, current_generation(snapshot, view) or "none")
    chosen = choose_keys(stores, view, table, count=keys, seed=seed)
    served = serve_keys(stores, snapshot, view, table, chosen)
    archived = wait_for_archive(stores, view, served.seen, seconds=wait_s)
    rows = seen_rows(stores, view, served)
    read = whole_view(view)
    historical = features_as_of(stores, read, served, rows)
    before = len(report.differences)
    active = _active(view, served)
    for i, key in enumerate(served.keys):
        missing = [
            f"partition {each}: seen {offset}, archived {archived.get(each, -1)}"
            for each, offset in served.seen[i].items() if offset > archived.get(each, -1)
        ]  # fmt: skip
        for feature in read.features:
            online, offline = served.values[feature.name][i], historical[feature.name][i]
            report.values += 1
            if not missing and _agree(stores, view, feature, online, offline, served, i, rows):
                report.equal += 1
                continue
            cause = (
                f"events are not archived yet ({missing[0]}): run the worker, then audit again"
                if missing
                else cause_of(stores, view, table, served, i)
            )
            report.differences.append(
                Difference(
                    view=view.name, feature=feature.name, key=shown_key(view, key), at=moment(served.at),
                    online=plain(online), historical=None if missing else plain(offline), cause=cause,
                )
            )  # fmt: skip
    report.keys += len(served.keys)
    report.active_keys += sum(active)
    report.views.append(
        AuditedView(view.name, len(served.keys), sum(active), differences=len(report.differences) - before)
    )


def _active(view: FeatureView, served: ServedValues) -> list[bool]:
    """Which keys have a non-zero window or an open session."""
    if not view.is_aggregated:
        return [False] * len(served.keys)
    return [any(values[i] not in (None, 0, []) for values in served.values.values()) for i in range(len(served.keys))]


def _agree(
    stores: Stores,
    view: FeatureView,
    feature: FeatureOut,
    online: Any,
    offline: Any,
    served: ServedValues,
    i: int,
    rows: Any,
) -> bool:
    if values_agree(online, offline):
        return True
    if not (isinstance(online, float) and isinstance(offline, float) and view.is_aggregated):
        return False
    made = next(each for each in view.aggregations if each.name == feature.name)
    if made.function not in ("sum", "mean", "std", "var"):
        return False
    # The magnitudes are summed only if two floats differ.
    size = f"abs({made.column})" if made.function != "var" else f"abs(({made.column}) * ({made.column}))"
    magnitude = Aggregation(size, "sum", name="asof_magnitude", where=made.where or None, window=made.window)
    magnitude = magnitude.with_dtype(feature.dtype)
    sized = view.resolved(schema=view.schema, aggregations=[magnitude])
    read = ViewRead(sized, view.join_keys, (FeatureOut("asof_magnitude", "asof_magnitude", feature.dtype),))
    try:
        found = features_as_of(stores, read, served, rows, only=[i])["asof_magnitude"][0]
    except AsofError:
        return False
    return values_agree(online, offline, magnitude=abs(found or 0.0))


def plain(value: Any) -> Any:
    """A value in a readable form that JSON has."""
    return value if value is None or isinstance(value, bool | int | float | str | list) else str(value)


def shown_key(view: FeatureView, key: bytes) -> dict[str, Any]:
    return {name: plain(value) for name, value in restored_key(view.key_fields, key_values(key)).items()}


__all__ = ["AuditReport", "AuditedView", "Difference", "audit", "audit_records"]
