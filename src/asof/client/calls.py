"""Requests to a feature server, and whether they may be repeated; no I/O, for both clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from asof.errors import EntityFrameError, RequestError, RowsRefused
from asof.values.frame_types import is_arrow, is_pandas, is_polars
from asof.values.json import write_value

JSON = "application/json"


@dataclass(frozen=True)
class ClientCall:
    """One request.

    Args:
        repeatable: idempotent, so that it may be retried when its outcome is unknown.
        what: description for messages.
    """

    method: str
    path: str
    body: bytes = b""
    repeatable: bool = True
    what: str = ""
    query: Mapping[str, str] = field(default_factory=dict)


def features_call(features: Any, entity_rows: Any, *, full_feature_names: bool, details: bool) -> ClientCall:
    """Read features of some entities.

    Raises:
        RequestError: the request is invalid.
    """
    body: dict[str, Any] = {"entities": entities_of(entity_rows)}
    kind = getattr(features, "kind", "")
    if kind == "feature service":
        body["service"] = features.name
    elif isinstance(features, str):
        body["features"] = features
    else:
        body["features"] = [_reference(each) for each in ([features] if kind else _listed(features))]
    body["types"] = True
    if full_feature_names:
        body["full_feature_names"] = True
    if details:
        body |= {"statuses": True, "event_times": True}
    return ClientCall("POST", "/v1/features", encoded(body), what="reading features")


def push_call(source: str, rows: Any, *, batch_id: str | None) -> ClientCall:
    """Push rows; repeatable only with a batch ID, because each push counts."""
    body = {"push_source_name": source, "df": columns_of(rows)}
    if batch_id is not None:
        body["batch_id"] = batch_id
    return ClientCall("POST", "/push", encoded(body), repeatable=batch_id is not None, what=f"the push to {source!r}")


def write_call(view: str, rows: Any) -> ClientCall:
    """Write rows of a view. Not repeatable: for a view with a push source it is a push."""
    body = {"feature_view_name": view, "df": columns_of(rows)}
    return ClientCall("POST", "/write-to-online-store", encoded(body), repeatable=False, what=f"the write to {view!r}")


def materialize_call(
    start: datetime | str | None,
    end: datetime | str | None,
    views: Sequence[str] | None,
    *,
    incremental: bool,
    force: bool,
) -> ClientCall:
    """Start a materialize run as a job."""
    body: dict[str, Any] = {"end_ts": moment_text(end), "feature_views": None if views is None else list(views)}
    if not incremental:
        body["start_ts"] = moment_text(start)
    path = "/materialize-incremental" if incremental else "/materialize"
    query = {"async": "true"} | ({"force": "true"} if force else {})
    return ClientCall("POST", path, encoded(body), repeatable=False, what="materialize", query=query)


def job_call(id: str | None = None) -> ClientCall:
    """Get a job; without an ID, all jobs."""
    path = "/jobs" if id is None else f"/jobs/{quote(id, safe='')}"
    return ClientCall("GET", path, what=f"reading job {id}" if id else "reading jobs")


def moment_text(value: datetime | str | None) -> str | None:
    """A time as text for a request."""
    return value if value is None or isinstance(value, str) else write_value(value)


def encoded(body: Any) -> bytes:
    """Encode as JSON; values of Python and data frame types are converted by `asof.values.json`.

    Raises:
        RequestError: a string cannot be encoded as UTF-8.
    """
    try:
        try:
            text = json.dumps(body, default=write_value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        except ValueError:
            # NaN or infinity, which JSON does not have.
            text = json.dumps(write_value(body), ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"a string cannot be encoded as UTF-8: {error.reason}", hint="remove such rows") from error


def entities_of(entity_rows: Any) -> Any:
    """Entity rows for a request: dicts unchanged, everything else as columns.

    Raises:
        EntityFrameError: they have an unsupported form.
    """
    if isinstance(entity_rows, list | tuple) and all(isinstance(row, Mapping) for row in entity_rows):
        return list(entity_rows)
    columns = _columns(entity_rows)
    if columns is None:
        raise EntityFrameError(
            f"the entity rows are {str(entity_rows)[:100]!r}; expected dicts, a dict of columns, or a table",
            hint="write [{'user_id': 7}]",
        )
    return columns


def columns_of(rows: Any) -> dict[str, list[Any]]:
    """Rows to write, as columns.

    Raises:
        RowsRefused: they have an unsupported form, or different columns.
    """
    if isinstance(rows, Mapping) or not isinstance(rows, list | tuple):
        columns = _columns(rows)
        if columns is not None:
            return columns
    elif all(isinstance(row, Mapping) for row in rows):
        names = list(rows[0]) if rows else []
        known = set(names)
        misfits = [
            f"row {i}: has the columns {sorted(map(str, row))}, row 0 has {sorted(map(str, names))}"
            for i, row in enumerate(rows)
            if set(row) != known
        ]
        if misfits:
            raise RowsRefused(
                "the rows have different columns; nothing was sent", misfits, hint="give every row all columns"
            )
        return {str(name): [row[name] for row in rows] for name in names}
    raise RowsRefused(
        f"the rows are {str(rows)[:100]!r}; nothing was sent", [], hint="pass dicts, a dict of columns, or a table"
    )


def rows_in(columns: Mapping[str, Sequence[Any]]) -> int:
    """Number of rows in columns."""
    return len(next(iter(columns.values()), ()))


def _columns(table: Any) -> dict[str, list[Any]] | None:
    """The columns of a dict, or of a pandas, Polars or Arrow table; None for other types."""
    if isinstance(table, Mapping):
        return {str(name): _values(column) for name, column in table.items()}
    if is_arrow(table):
        return table.to_pydict()
    if is_polars(table):
        return table.to_dict(as_series=False)
    if is_pandas(table):
        return {str(name): table[name].tolist() for name in table.columns}
    return None


def _values(column: Any) -> Any:
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, name):
            return getattr(column, name)()
    # A single value instead of a column is sent unchanged: the server returns the error that the store raises.
    return list(column) if isinstance(column, Iterable) and not isinstance(column, str | bytes | Mapping) else column


def _listed(features: Any) -> list[Any]:
    try:
        return list(features)
    except TypeError as error:
        raise RequestError(
            f"features is {features!r}", hint="pass references like 'view:feature', or the name of a service"
        ) from error


def _reference(part: Any) -> str:
    if isinstance(part, str):
        return part
    if getattr(part, "kind", "").endswith("feature view"):
        return part.name
    raise RequestError(f"features has {str(part)[:100]!r}", hint="pass names: 'view:feature', or the name of a service")
