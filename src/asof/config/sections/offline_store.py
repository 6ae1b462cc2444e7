"""`offline_store:`, what keeps history and runs joins."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from asof.config.sections.connections import PostgresConnectionSection
from asof.config.sections.kinds import (
    Location,
    Number,
    OptionDoc,
    Path,
    Section,
    Settings,
    Size,
    Text,
    ValueKind,
    Whole,
)
from asof.defaults import SPARK_RETRY_S, SQL_READS, WORK_MEM

SparkRemote = Annotated[
    str,
    Meta(pattern=r"^sc://[^/;]+(/(;.*)?)?$"),
    ValueKind(
        "text",
        "text",
        refusal="{path}: expected sc://host:port, found {found}",
        hint="write sc://host:port; parameters follow behind /; such as sc://host:443/;use_ssl=true",
    ),
]


class OfflineStoreSection(Section, frozen=True, kw_only=True):
    """The options of every offline store."""

    SECTION: ClassVar[str] = "offline_store"
    FEAST_KEYS: ClassVar[tuple[str, ...]] = (
        "allow_historical_data_skip", "staging_location", "staging_location_endpoint_override",
    )  # fmt: skip
    FEAST_TYPES: ClassVar[dict[str, str]] = {"file": "duckdb", "dask": "duckdb"}

    type: Annotated[Text, OptionDoc("The product.")] = "duckdb"


SqlReads = Annotated[
    Literal["sources", "anything"] | None,
    OptionDoc(
        "What SQL entity frames may read: applied `sources`, or `anything` that the engine reaches: files with DuckDB, "
        "other tables and functions with PostgreSQL.",
        unset=SQL_READS,
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
    sql_reads: SqlReads = None


class PostgresOfflineSection(OfflineStoreSection, frozen=True, kw_only=True):
    """A schema of a PostgreSQL database."""

    PRODUCT: ClassVar[str] = "postgres"
    SERVER: ClassVar[type[Section] | None] = PostgresConnectionSection

    work_mem: Annotated[Size, OptionDoc("PostgreSQL's `work_mem` for reads: memory of one sort or hash.")] = WORK_MEM
    sql_reads: SqlReads = None


class SparkOfflineSection(OfflineStoreSection, frozen=True, kw_only=True):
    """Delta tables that a Spark Connect server reads: Spark 4, a managed Spark, or Sail."""

    PRODUCT: ClassVar[str] = "spark"

    remote: Annotated[
        SparkRemote,
        OptionDoc("The server, `sc://host:port`; parameters of Spark Connect follow as `sc://host:443/;use_ssl=true`."),
    ]
    path: Annotated[
        Location,
        OptionDoc(
            "The folder for archives (Delta tables) and training sets, which the server and its executors see under "
            "the same path, or an address such as `s3://bucket/shop`."
        ),
    ] = "data/offline"
    token: Annotated[Text | None, OptionDoc("A bearer token, sent over TLS; better as `${VAR}`.")] = None
    settings: Annotated[
        Settings | None, OptionDoc("Spark's settings of a session, such as `spark.sql.shuffle.partitions`.",
                                   also=("spark_conf",))
    ] = None  # fmt: skip
    retry_s: Annotated[
        Number, OptionDoc("About how long a call is repeated while the server does not respond.")
    ] = SPARK_RETRY_S  # fmt: skip
