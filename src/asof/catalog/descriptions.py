"""What a feature is, in sentences made from its definition: what is computed, over which rows, and what of the edges.

The sentences say what `docs/concepts/semantics.md` defines; "the moment" is the t of a training row, or now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from asof.definitions import Aggregation, FeatureView, LogSource, OnDemandFeatureView, Session, Sliding, Source
from asof.display import span_prose
from asof.expressions import parse
from asof.expressions.tree import ColumnReference, Comparison, Literal
from asof.lineage import inputs_of_feature

_MEASURES = {
    "sum": "Sum of {}", "mean": "Mean of {}", "min": "Least value of {}", "max": "Greatest value of {}",
    "std": "Sample standard deviation of {}", "var": "Sample variance of {}",
    "first": "First value of {} that is not null", "last": "Latest value of {} that is not null",
    "count_distinct": "Number of distinct values of {}",
}  # fmt: skip

_NAMED_INPUTS = 6
"""So many inputs of a function are named; the others are counted."""


def describe_feature(view: FeatureView | OnDemandFeatureView, name: str) -> list[str]:
    """What a feature is: a sentence on the value, then one on each edge. Names and expressions are in backticks.

    Raises:
        KeyError: the view has no feature with this name.
    """
    if name not in view.feature_names:
        raise KeyError(f"view {view.name!r} has no feature {name!r}")
    if isinstance(view, OnDemandFeatureView):
        return list(_on_demand(view))
    aggregation = next((each for each in view.aggregations if each.name == name), None)
    said = _latest(view, name) if aggregation is None else _aggregate(view, aggregation)
    return [*said, *_of_rows(view)]


# ---- aggregates ----


def _aggregate(view: FeatureView, made: Aggregation) -> Iterator[str]:
    rows, condition, column = _rows(view.source), _condition(made.where), _code(made.column)
    of_rows = f", of {rows}{condition}" if condition else ""
    if made.function == "count" and not made.column:
        measure = f"Number of {rows}{condition}"
    elif made.function == "count":
        measure = f"Number of {rows}{f'{condition} and' if condition else ''} for which {column} is not null"
    elif made.function == "last_n":
        latest = f"latest {made.n} values" if made.n != 1 else "latest value"
        measure = f"The {latest} of {column} that {'are' if made.n != 1 else 'is'} not null, oldest first{of_rows}"
    else:
        measure = _MEASURES[made.function].format(column) + of_rows
    yield f"{measure}, {_by(view)}, {_over(view, made)}."
    yield from _edges(view, made)
    if isinstance(made.window, Session) and made.where:
        yield f"Whether a session goes on is decided by all {rows}, also by those that do not meet the condition."
    yield _without(made)


def _over(view: FeatureView, made: Aggregation) -> str:
    until = "before" if view.boundary == "exclusive" else "up to"
    if isinstance(made.window, Sliding):
        length = span_prose(made.window.length)
        one_unit = length.removeprefix("1 ")
        return f"in the {length if ' ' in one_unit else one_unit} {until} {_moment(view)}"
    if isinstance(made.window, Session):
        return f"in the session that is open at {_moment(view)}"
    return f"over all {_rows(view.source)} {until} {_moment(view)}"


def _edges(view: FeatureView, made: Aggregation) -> Iterator[str]:
    rows = _rows(view.source)
    is_left_out = view.boundary == "exclusive"
    at_end = f"{_a(rows)} at exactly {_moment(view)} {'is left out' if is_left_out else 'counts'}"
    if isinstance(made.window, Sliding):
        length, hop = span_prose(made.window.length), span_prose(made.window.hop)
        first = f"one exactly {length} older counts"
        yield f"{at_end}; {first}." if is_left_out else f"{at_end}, and so does one exactly {length} older."
        if made.window.hop > 1:
            yield f"The window's start moves in steps of {hop}: what is older by less than that may still count."
        return
    if isinstance(made.window, Session):
        gap = span_prose(made.window.gap)
        yield f"A session is a chain of {rows} at most {gap} apart; it is open until {gap} after its last one."
    yield f"{at_end}."


def _without(made: Aggregation) -> str:
    """What the value is without any values."""
    if made.function in ("count", "count_distinct"):
        passed = "Nulls are not counted. " if made.function == "count_distinct" else ""
        return f"{passed}{_absent(made)} it is 0."
    value = "null" if made.default is None else f"`{made.default}`"
    passed = "" if made.function in ("first", "last", "last_n") else "Nulls are passed over. "
    return f"{passed}{_absent(made)} it is {value}."


def _absent(made: Aggregation) -> str:
    counts_all = made.function == "count" and not made.column and not made.where
    return "Without an open session" if isinstance(made.window, Session) and counts_all else "Without any"


# ---- latest values ----


def _latest(view: FeatureView, name: str) -> Iterator[str]:
    field = next(field for field in view.features if field.name == name)
    raw = view.source.raw(name)
    named = f"{_code(name)} (column {_code(raw)} of the source)" if raw != name else _code(name)
    kind = f"Embedding of {field.dtype.size} numbers: " if field.dtype.name == "Embedding" else ""
    rows, age, moment = _rows(view.source), span_prose(view.ttl), _moment(view)
    row = rows.removesuffix("s")
    limit = f", if it {'was then' if view.delay else 'is'} at most {age} old" if view.ttl else ""
    yield f"{kind}{named} of the latest {row} up to {moment}, {_by(view)}{limit}."
    yield f"{_a(rows)} at exactly {moment} counts{f', and so does one exactly {age} older' if view.ttl else ''}."
    if field.default is None:
        yield f"A null of that {row} stays null, and without such {_a(rows).lower()} it is null."
    else:
        yield f"Where that {row} has a null, or there is no such {row}, it is `{field.default}`."


# ---- what holds for all features of a view ----


def _of_rows(view: FeatureView) -> Iterator[str]:
    source = view.source
    rows = _rows(source)
    endings = [f"{rows} for which {_code(source.delete_when)} holds"] if source.delete_when else []
    if source.has_tombstones:
        endings.append("messages without a value")
    if endings:
        named = _and(endings)
        then = "delete their key: from then on there is no value until the next"
        yield f"{named[0].upper()}{named[1:]} {'do not count' if view.is_aggregated else f'{then} {rows[:-1]}'}."
    if isinstance(source, LogSource) and source.event_id:
        yield (
            f"Of {rows} with the same {_code(source.event_id)} within {span_prose(source.event_id_horizon)}, "
            "only the first counts."
        )
    if isinstance(source, LogSource) and source.transform is not None:
        how = "SQL" if source.transform.sql else f"the function {_code(source.transform.function_name)}"
        yield f"The {rows} are made from messages by {how}."


def _by(view: FeatureView) -> str:
    return f"for each {_and(entity.name for entity in view.entities)}" if view.entities else "for the whole source"


def _moment(view: FeatureView) -> str:
    return f"the moment less {span_prose(view.delay)}" if view.delay else "the moment"


def _rows(source: Source) -> str:
    return "events" if source.is_log else "rows"


# ---- on-demand features ----


def _on_demand(view: OnDemandFeatureView) -> Iterator[str]:
    inputs = inputs_of_feature(view)
    features = _inputs([_code(each) for each in inputs.features], "feature")
    request = _inputs([f"the request's {_code(each)}" for each in inputs.request], "request value")
    form = {"python": "", "pandas": " on pandas frames", "polars": " on Polars frames"}[view.mode]
    made_of = _and([*features, *request]) or "nothing but its keys"
    yield f"Computed at each read by the function {_code(view.function_name)}{form}, from {made_of}."
    keys = f"the keys {_and(map(_code, inputs.keys))} and " if inputs.keys else ""
    yield f"The function sees {keys}the moment, too; it is the same in training and in serving."


def _inputs(named: Sequence[str], noun: str) -> list[str]:
    if len(named) <= _NAMED_INPUTS:
        return list(named)
    return [*named[: _NAMED_INPUTS - 1], f"{len(named) - _NAMED_INPUTS + 1} more {noun}s"]


# ---- pieces of sentences ----


def _condition(where: str) -> str:
    """` whose `kind` is 'product'` for the simplest conditions, ` for which `…`` for all others."""
    if not where:
        return ""
    tree = parse(where)
    if isinstance(tree, Comparison) and tree.operator == "=" and _is_plain(tree):
        return f" whose {_code(str(tree.left))} is {tree.right}"
    return f" for which {_code(where)}"


def _is_plain(tree: Comparison) -> bool:
    return isinstance(tree.left, ColumnReference) and isinstance(tree.right, Literal) and tree.right.value is not None


def _code(text: str) -> str:
    return f"`{text}`"


def _a(rows: str) -> str:
    """`An event`, `A row`."""
    return "An event" if rows == "events" else "A row"


def _and(names: Iterable[str]) -> str:
    found = list(names)
    return f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)


__all__ = ["describe_feature"]
