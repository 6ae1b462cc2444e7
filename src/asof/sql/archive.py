"""Statements over an archive's rows, dead letters and served features, and over the rows of a source by key.

Inputs have names: `archive`, `dead_letters`, `served`, `source`, and `requested`, a table of keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asof.definitions import Field
from asof.dtypes import Timestamp
from asof.sql.dialect import Dialect
from asof.sql.quoting import quote
from asof.timing import Micros

# -- an archive's rows ------------------------------------------------------------------------------------------------


def count_rows(relation: str = "archive") -> str:
    """The number of rows, as `n`."""
    return f"SELECT count(*) AS n FROM {relation}"


def count_between(partition: int, *, after: int, through: int) -> str:
    """The number of a partition's rows with `after < offset <= through`, as `n`."""
    return (
        f'SELECT count(*) AS n FROM archive WHERE "partition" = {partition} AND "offset" > {after} '
        f'AND "offset" <= {through}'
    )


def rows_between(partition: int, *, after: int, through: int) -> str:
    """A partition's rows with `after < offset <= through`, in the order of offsets."""
    return (
        f'SELECT * FROM archive WHERE "partition" = {partition} AND "offset" > {after} AND "offset" <= {through} '
        'ORDER BY "offset"'
    )


def history_rows(columns: Sequence[str], partition: int) -> str:
    """The rows of one partition with their offsets, in any order.

    Args:
        columns: of the source, in the order of the result.
    """
    return f'SELECT {", ".join(map(quote, columns))}, "offset" FROM archive WHERE "partition" = {partition}'


def rows_to_fold(columns: Sequence[str], through: Mapping[int, int], *, order: Sequence[str] = ()) -> str:
    """The rows up to an offset per partition, in any order or sorted by some columns.

    Args:
        columns: in the order of the result.
        through: partition → last offset; other partitions have no rows.
        order: the columns to sort by; none: in any order.
    """
    positions = [
        f'("partition" = {each} AND "offset" <= {offset})' for each, offset in through.items() if offset >= 0
    ]  # fmt: skip
    by = f" ORDER BY {', '.join(map(quote, order))}" if order else ""
    where = " OR ".join(positions) or "false"
    return f"SELECT {', '.join(map(quote, columns))} FROM archive WHERE {where}{by}"


def sorted_rows(columns: Sequence[str], order: Sequence[str], *, time: str = "", cuts: Sequence[str] = ()) -> str:
    """All rows, sorted by some columns; nulls come first.

    Args:
        columns: in the order of the result.
        time: a column that is cut into ranges, which come one after the other, each of them sorted.
        cuts: literals of that column, ascending: where a range begins that is not the first.
    """
    terms = [f"{quote(each)} NULLS FIRST" for each in order]
    if cuts:
        ranges = " ".join(f"WHEN {quote(time)} < {cut} THEN {number}" for number, cut in enumerate(cuts))
        # Rows without a time are in the last range, as all are that no bound comes after.
        terms.insert(0, f"CASE {ranges} ELSE {len(cuts)} END")
    return f"SELECT {', '.join(map(quote, columns))} FROM archive ORDER BY {', '.join(terms)}"


def rows_through(columns: Sequence[str], through: Mapping[int, int]) -> str:
    """The rows up to an offset per partition, in the order of partitions and offsets.

    Args:
        columns: in the order of the result.
        through: partition → last offset; other partitions have no rows.
    """
    positions = [f'("partition" = {each} AND "offset" <= {offset})' for each, offset in sorted(through.items())]
    return (
        f"SELECT {', '.join(map(quote, columns))} FROM archive WHERE {' OR '.join(positions) or 'false'} "
        'ORDER BY "partition", "offset"'
    )


def every_column() -> str:
    """No row, with every column."""
    return "SELECT * FROM archive WHERE false"


def values_of(column: str) -> str:
    """The values of one column, without nulls, in any order."""
    return f"SELECT {quote(column)} FROM archive WHERE {quote(column)} IS NOT NULL"


def newest_rows(partitions: Iterable[int], *, count: int, time: str) -> str:
    """The last rows of each partition: partition, offset, ingested_at, and the column `time` as `happened`.

    Args:
        count: of each partition, whatever offsets lie between its rows.
    """
    columns = f'"partition", "offset", "ingested_at", {quote(time)} AS happened'
    return "\nUNION ALL\n".join(
        f'SELECT * FROM (SELECT {columns} FROM archive WHERE "partition" = {each} ORDER BY "offset" DESC '
        f"LIMIT {count}) AS newest_{place}"
        for place, each in enumerate(sorted(partitions))
    )


def counts_by_partition(relation: str = "archive") -> str:
    """Each partition and its number of rows, as `n`."""
    return f'SELECT "partition", count(*) AS n FROM {relation} GROUP BY "partition"'


def counts_since(since: Micros, *, dialect: Dialect) -> str:
    """Each partition and the number of its rows archived after a time, as `n`."""
    after = _since(since, ">", dialect)
    return f'SELECT "partition", count(*) AS n FROM archive WHERE {after} GROUP BY "partition"'


def last_offsets() -> str:
    """Each partition and its last offset as `last`, in the order of partitions."""
    return 'SELECT "partition", max("offset") AS last FROM archive GROUP BY "partition" ORDER BY "partition"'


def event_ids_since(event_id: str, since: Micros, *, dialect: Dialect) -> str:
    """The event IDs archived since a time, as `id`, with partition, offset and ingested_at.

    Args:
        event_id: the column with the IDs; rows with a null ID are skipped.
    """
    return (
        f'SELECT {quote(event_id)} AS id, "partition", "offset", "ingested_at" FROM archive '
        f"WHERE {_since(since, '>=', dialect)} AND {quote(event_id)} IS NOT NULL"
    )


def event_ids(event_id: str) -> str:
    """All archived event IDs, under the name of their column; rows with a null ID are skipped."""
    return f"SELECT {quote(event_id)} FROM archive WHERE {quote(event_id)} IS NOT NULL"


def _since(moment: Micros, sign: str, dialect: Dialect) -> str:
    return f'"ingested_at" {sign} {dialect.from_micros(moment, dialect.type_name(Timestamp))}'


# -- rows by key ------------------------------------------------------------------------------------------------------


def rows_of_keys(
    columns: Sequence[str], fields: Sequence[Field], keys: Iterable[Sequence[Any]], *, dialect: Dialect,
    relation: str = "archive", selected: Sequence[str] = (),
) -> str:  # fmt: skip
    """All rows of some keys; without columns, all rows.

    Args:
        columns: the key's columns under their names in the source.
        fields: the key's columns with their types, in the same order.
        keys: each key's plain values.
        selected: the columns to read; all where empty.
    """
    conditions = [f"({_is_key(dialect, columns, fields, key)})" for key in keys]
    return f"SELECT {', '.join(map(quote, selected)) or '*'} FROM {relation} WHERE {' OR '.join(conditions) or 'false'}"


def _is_key(dialect: Dialect, columns: Sequence[str], fields: Sequence[Field], key: Sequence[Any]) -> str:
    terms = [
        dialect.is_value(quote(column), value, field.dtype)
        for column, field, value in zip(columns, fields, key, strict=True)
    ]
    return " AND ".join(terms) or "true"


def rows_among(columns: Sequence[str], requested: Sequence[str], *, dialect: Dialect) -> str:
    """All rows with a key in the table `requested`; without columns, all rows.

    Args:
        columns: the key's columns in the archive.
        requested: the same in `requested`, in the same order and of the same types.
    """
    if not columns:
        return "SELECT * FROM archive"
    mine, theirs = (", ".join(map(quote, names)) for names in (columns, requested))
    return f"SELECT * FROM archive WHERE {dialect.is_among(mine, theirs, 'requested')}"


def distinct_keys(columns: Sequence[str]) -> str:
    """The distinct keys of a source's rows, without keys that have a null."""
    names = [quote(column) for column in columns]
    known = " AND ".join(f"{name} IS NOT NULL" for name in names)
    return f"SELECT DISTINCT {', '.join(names)} FROM source WHERE {known}"


def sampled_keys(columns: Sequence[str], *, one_in: int, place: int, most: int) -> str:
    """The distinct keys of a share of an archive's rows, by offset; keys that have a null are left out.

    Args:
        columns: the key's columns in the archive.
        one_in, place: rows whose offset leaves this remainder.
        most: how many keys at most.
    """
    names = [quote(column) for column in columns]
    known = [f"{name} IS NOT NULL" for name in names]
    where = " AND ".join([f'"offset" % {one_in} = {place}', *known])
    return f"SELECT DISTINCT {', '.join(names)} FROM archive WHERE {where} LIMIT {most}"


# -- columns of a source's rows ---------------------------------------------------------------------------------------


def columns_of_rows(named: Mapping[str, str] | None, *, positions: bool = False) -> str:
    """A source's rows with some columns under other names.

    Args:
        named: name in the result → column of the source; None selects all columns under their own names.
        positions: also partition and offset, as `asof_partition` and `asof_offset`.
    """
    columns = ["*"] if not named else [f"{quote(own)} AS {quote(name)}" for name, own in named.items()]
    if positions:
        columns += ['"partition" AS asof_partition', '"offset" AS asof_offset']
    return f"SELECT {', '.join(columns)} FROM source"


def count_nulls(columns: Sequence[str]) -> str:
    """The number of nulls in each column of a source, under the column's name."""
    counts = ", ".join(f"count(*) - count({quote(column)}) AS {quote(column)}" for column in columns)
    return f"SELECT {counts} FROM source"


# -- dead letters and served features ---------------------------------------------------------------------------------


def dead_letters(positions: Iterable[tuple[int, int]] | None = None) -> str:
    """All dead letters, or those at these positions (partition, offset)."""
    if positions is None:
        return "SELECT * FROM dead_letters"
    offsets: dict[int, list[int]] = {}
    for partition, offset in sorted(positions):
        offsets.setdefault(partition, []).append(offset)
    terms = [
        f'("partition" = {partition} AND "offset" IN ({", ".join(map(str, each))}))'
        for partition, each in offsets.items()
    ]
    return f"SELECT * FROM dead_letters WHERE {' OR '.join(terms) or 'false'}"


def newest_dead_letters(limit: int) -> str:
    """The newest dead letters, newest first."""
    return f'SELECT * FROM dead_letters ORDER BY "at" DESC, "partition", "offset" DESC LIMIT {limit}'


def dead_letter_values() -> str:
    """partition, offset and raw value of each dead letter."""
    return 'SELECT "partition", "offset", "value" FROM dead_letters'


def dead_letter_reasons(partition: int, *, after: int) -> str:
    """offset and reason of a partition's dead letters with `offset > after`."""
    return f'SELECT "offset", "reason" FROM dead_letters WHERE "partition" = {partition} AND "offset" > {after}'


def served_rows(served_at: str, *, describe_only: bool = False) -> str:
    """A service's served features in the order in which they were served.

    Args:
        served_at: the column of that time.
        describe_only: only the columns, without rows.
    """
    if describe_only:
        return "SELECT * FROM served LIMIT 0"
    return f'SELECT * FROM served ORDER BY {quote(served_at)}, "partition", "offset"'
