"""Names and texts as SQL, whatever is in them: DuckDB and Postgres take the standard's form, Spark has its own."""

from __future__ import annotations


def quote(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A string as SQL."""
    return "'" + value.replace("'", "''") + "'"


def quote_spark(name: str) -> str:
    """A name as Spark's SQL, which takes double quotes for those of a text."""
    return "`" + name.replace("`", "``") + "`"


def text_spark(value: str) -> str:
    """A string as Spark's SQL, where a backslash escapes what follows it and two quotes are the end and a beginning."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


__all__ = ["quote", "quote_spark", "text", "text_spark"]
