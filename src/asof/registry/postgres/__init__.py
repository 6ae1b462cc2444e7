"""The registry in PostgreSQL."""

from asof.registry.postgres.registry import PostgresRegistry

__all__ = ["PostgresRegistry"]
