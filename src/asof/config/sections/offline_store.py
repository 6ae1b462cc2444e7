"""`offline_store:`, what keeps history and runs joins."""

from __future__ import annotations

from typing import Annotated, ClassVar

from asof.config.sections.connections import PostgresConnection
from asof.config.sections.kinds import Doc, Path, Section, Size, Text, Whole


class OfflineStore(Section, frozen=True, kw_only=True):
    """The options of every offline store."""

    SECTION: ClassVar[str] = "offline_store"
    FEAST_KEYS: ClassVar[tuple[str, ...]] = (
        "allow_historical_data_skip", "staging_location", "staging_location_endpoint_override",
    )  # fmt: skip
    FEAST_TYPES: ClassVar[dict[str, str]] = {"file": "duckdb", "dask": "duckdb"}

    type: Annotated[Text, Doc("The product.")] = "duckdb"


class DuckDBOffline(OfflineStore, frozen=True, kw_only=True):
    """Delta tables that DuckDB reads."""

    PRODUCT: ClassVar[str] = "duckdb"

    path: Annotated[Path, Doc("The folder for archives (Delta tables).")] = "data/offline"
    memory_limit: Annotated[Size | None, Doc("Memory limit of a query, such as `4GB`.")] = None
    threads: Annotated[Whole | None, Doc("Threads of a query; default: all cores.")] = None
    temp_directory: Annotated[
        Path | None,
        Doc(
            "Where queries spill data beyond the memory limit, in a private folder that is deleted with the process; "
            "default: the system's folder for temporary files."
        ),
    ] = None


class PostgresOffline(OfflineStore, frozen=True, kw_only=True):
    """A schema of a PostgreSQL database."""

    PRODUCT: ClassVar[str] = "postgres"
    SERVER: ClassVar[type[Section] | None] = PostgresConnection

    work_mem: Annotated[Size, Doc("PostgreSQL's `work_mem` for reads: memory of one sort or hash.")] = "256MB"
