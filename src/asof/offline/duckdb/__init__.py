"""The embedded offline store: DuckDB over files, Arrow batches and Delta archives."""

from asof.offline.duckdb.engine import DuckDBOffline

__all__ = ["DuckDBOffline"]
