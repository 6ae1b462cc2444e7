"""`offline_store:`, what keeps history and runs joins."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from asof.config.sections.connections import PostgresConnectionSection
from asof.config.sections.kinds import Location, OptionDoc, Path, Section, Size, Text, Whole
from asof.defaults import SQL_READS, WORK_MEM


class OfflineStoreSection(Section, frozen=True, kw_only=True):
    """The options of every offline store."""

    SECTION: ClassVar[str] = "offline_store"
    FEAST_KEYS: ClassVar[tuple[str, ...]] = (
        "allow_historical_data_skip", "staging_location", "staging_location_endpoint_override",
    )  # fmt: skip
    FEAST_TYPES: ClassVar[dict[str, str]] = {"file": "duckdb", "dask": "duckdb"}

    type: Annotated[Text, OptionDoc("The product.")] = "duckdb"


SqlReads = Annotated[
    Literal["sources", "anything"],
    OptionDoc(
        "What SQL entity frames may read: applied `sources`, or `anything` that the engine reaches: files with DuckDB, "
        "other tables and functions with PostgreSQL."
    ),
]


class DuckDBOfflineSection(OfflineStoreSection, frozen=True, kw_only=True):
    """Delta tables that DuckDB reads."""

    PRODUCT: ClassVar[str] = "duckdb"

    path: Annotated[
        Location,
        OptionDoc(
            "The folder for archives (Delta tables) and training sets, or an address such as `s3://bucket/shop`."
        ),
    ] = "data/offline"
    memory_limit: Annotated[
        Size | None,
        OptionDoc(
            "Memory limit of queries, such as `4GB`; default: 80 % of the machine's memory, or of the container's. "
            "Larger sources are read in partitions of their keys."
        ),
    ] = None
    threads: Annotated[Whole | None, OptionDoc("Threads of a query; default: all cores.")] = None
    temp_directory: Annotated[
        Path | None,
        OptionDoc(
            "Where queries spill data beyond the memory limit, in a private folder that is deleted with the process; "
            "default: the system's folder for temporary files."
        ),
    ] = None
    sql_reads: SqlReads = SQL_READS


class PostgresOfflineSection(OfflineStoreSection, frozen=True, kw_only=True):
    """A schema of a PostgreSQL database."""

    PRODUCT: ClassVar[str] = "postgres"
    SERVER: ClassVar[type[Section] | None] = PostgresConnectionSection

    work_mem: Annotated[Size, OptionDoc("PostgreSQL's `work_mem` for reads: memory of one sort or hash.")] = WORK_MEM
    sql_reads: SqlReads = SQL_READS
