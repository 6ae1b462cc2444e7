"""DuckDB in this process: expressions over Arrow batches, which every offline store evaluates, and where it spills."""

from __future__ import annotations

from asof.connections.duckdb.evaluator import Evaluator, SpillFolder

__all__ = ["Evaluator", "SpillFolder"]
