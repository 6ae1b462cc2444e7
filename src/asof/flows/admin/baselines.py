"""What a profile is compared with: an earlier profile, a training set, or what was served."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import pyarrow as pa

from asof.definitions import FeatureView, OnDemandFeatureView, Snapshot
from asof.dtypes import DType
from asof.errors import Argument, RequestError
from asof.flows.admin.feature_log import served_batches, services_with_log
from asof.flows.offline.training_sets.manifest import open_training_set, saved_training_set
from asof.flows.stores import Stores
from asof.lineage import hides_values
from asof.profiles.summary import Cells, ViewProfile
from asof.sql.profile import ProfiledColumn, ProfiledTable
from asof.timing import iso, micros

RECORD_KIND = "profile"
"""The kind of the registry's records of profiles; their subject is the view."""

PREVIOUS, TRAINING_SET, SERVED = "previous", "training-set", "served"

Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Baseline:
    """The cells of each feature of a view that a profile is compared over.

    Args:
        name: what they are of, for people.
    """

    name: str
    cells: Mapping[str, Cells] = field(default_factory=dict)


def check_baseline(text: str) -> None:
    """Refuse a text that names no baseline.

    Raises:
        RequestError: it is none of the forms.
    """
    kind, _, name = text.partition(":")
    if text in (PREVIOUS, SERVED) or (kind in (TRAINING_SET, SERVED) and name):
        return
    try:
        micros(datetime.fromisoformat(text))
    except ValueError:
        argument = Argument("compare", text)
        raise RequestError(
            f"{argument}: expected 'previous', a date or time, 'training-set:NAME', 'served' or 'served:SERVICE'",
            hint="see `asof profile --help`", arguments=[argument],
        ) from None  # fmt: skip


def baseline_of(
    stores: Stores, snapshot: Snapshot, view: FeatureView | OnDemandFeatureView, text: str, *, progress: Step
) -> Baseline | None:
    """The baseline of one view; None where there is none yet: no earlier profile, no feature in the training set.

    Args:
        text: `previous` (the newest kept profile), a date or time (the newest kept then), `training-set:NAME`,
            `served` (the feature logs of all services) or `served:SERVICE`.

    Raises:
        NotFound: no such training set or feature log.
    """
    kind, _, name = text.partition(":")
    if kind == TRAINING_SET and name:
        saved = saved_training_set(stores, name)
        own = [each.partition(":") for each in saved.features]
        columns = {
            feature: f"{of}__{feature}" if saved.full_feature_names else feature
            for of, _, feature in own if of == view.name
        }  # fmt: skip
        return _of_batches(stores, view, text, columns, open_training_set(stores, saved), progress)
    if kind == SERVED:
        columns = {each: f"{view.name}__{each}" for each in view.feature_names}
        for service in [name] if name else services_with_log(stores):
            rows = served_batches(stores, service)
            found = _of_batches(stores, view, f"{SERVED}:{service}", columns, rows, progress)
            if found is not None:
                return found
        return None
    return _of_record(stores, view, None if text == PREVIOUS else micros(datetime.fromisoformat(text)))


def _of_record(stores: Stores, view: FeatureView | OnDemandFeatureView, until: int | None) -> Baseline | None:
    """The newest kept profile; of those until a time, where one is given."""
    for record in stores.registry.records(stores.project, RECORD_KIND, view.name, limit=1 if until is None else 1000):
        if until is not None and record.when > until:
            continue
        try:
            kept = ViewProfile.of(record.body)
        except msgspec.ValidationError:
            continue
        cells = {each.feature: each.cells for each in kept.features if each.cells is not None}
        return Baseline(f"profile of {iso(kept.when)}", cells)
    return None


def _of_batches(
    stores: Stores,
    view: FeatureView | OnDemandFeatureView,
    name: str,
    columns: Mapping[str, str],
    rows: pa.RecordBatchReader,
    progress: Step,
) -> Baseline | None:
    """The cells of rows that are at hand: feature → its column in them."""
    fields = {each.name: each for each in view.features}
    shown = {
        feature: column
        for feature, column in columns.items()
        if column in rows.schema.names and feature in fields and not hides_values(view, feature)
    }
    if not shown:
        return None
    types = {feature: fields[feature].dtype for feature in shown}
    measured = tuple(ProfiledColumn(each, types[each], f"f{place}") for place, each in enumerate(shown))
    found = stores.offline.profile(ProfiledTable(view.name, measured), _reader(rows, shown, types), progress=progress)
    return Baseline(name, {each.feature: each.cells for each in found.features if each.cells is not None})


def _reader(rows: pa.RecordBatchReader, columns: Mapping[str, str], types: Mapping[str, DType]) -> pa.RecordBatchReader:
    """The features' columns in their declared types; null where a batch's values do not fit them."""
    schema = pa.schema([(feature, types[feature].arrow()) for feature in columns])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            found = [_cast(batch.column(column), schema.field(feature).type) for feature, column in columns.items()]
            yield pa.RecordBatch.from_arrays(found, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return column if column.type == kind else column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(column), kind)


__all__ = ["PREVIOUS", "RECORD_KIND", "Baseline", "baseline_of", "check_baseline"]
