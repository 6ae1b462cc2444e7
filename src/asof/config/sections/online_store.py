"""`online_store:`, what serving reads."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from asof.config.sections.connections import PostgresConnectionSection
from asof.config.sections.kinds import Index, Number, OptionDoc, Path, Section, Text, Whole
from asof.defaults import (
    BUSY_TIMEOUT_S,
    REDIS_CONNECT_S,
    REDIS_CONNECTIONS,
    REDIS_PREFIX,
    REDIS_RETRY_S,
    REDIS_TIMEOUT_S,
    SENTINEL_MASTER,
)


class OnlineStoreSection(Section, frozen=True, kw_only=True):
    """The options of every online store."""

    SECTION: ClassVar[str] = "online_store"
    FEAST_KEYS: ClassVar[tuple[str, ...]] = ("vector_enabled", "vector_len", "text_search_enabled")

    type: Annotated[Text, OptionDoc("The product.")] = "sqlite"


class SqliteOnlineSection(OnlineStoreSection, frozen=True, kw_only=True):
    """A file."""

    PRODUCT: ClassVar[str] = "sqlite"

    path: Annotated[Path, OptionDoc("The file.")] = "data/online.db"
    busy_timeout_s: Annotated[
        Number | None, OptionDoc("How long a write waits for other writers.", unset=BUSY_TIMEOUT_S)
    ] = None


class PostgresOnlineSection(OnlineStoreSection, frozen=True, kw_only=True):
    """A schema of a PostgreSQL database."""

    PRODUCT: ClassVar[str] = "postgres"
    SERVER: ClassVar[type[Section] | None] = PostgresConnectionSection


class RedisOnlineSection(OnlineStoreSection, frozen=True, kw_only=True):
    """Redis: one server, one with sentinels, or a cluster."""

    PRODUCT: ClassVar[str] = "redis"
    FEAST_KEYS: ClassVar[tuple[str, ...]] = ("full_scan_for_deletion", "key_ttl_seconds", "skip_dedup")

    url: Annotated[
        Text | None,
        OptionDoc(
            "`redis://user:password@host:port/db`, with TLS `rediss://…`, `unix:///path?db=0`; separate hosts with "
            "commas."
        ),
    ] = None
    connection_string: Annotated[
        Text | None, OptionDoc("The same in Feast's form: `host:port,db=0,ssl=true,password=…`.")
    ] = None
    redis_type: Annotated[
        Literal["redis", "redis_sentinel", "redis_cluster"] | None,
        OptionDoc("`redis_sentinel` if the addresses are sentinels; `redis_cluster` if they are nodes of a cluster.",
            unset="redis"),
    ] = None  # fmt: skip
    username: Annotated[Text | None, OptionDoc("The ACL user; default: the server's default user.")] = None
    password: Annotated[Text | None, OptionDoc("The password; better as `${VAR}`.")] = None
    db: Annotated[Index | None, OptionDoc("The number of the database; a cluster has only 0.", unset=0)] = None
    tls_ca: Annotated[Path | None, OptionDoc("The CA certificates to trust; default: the machine's.")] = None
    tls_cert: Annotated[Path | None, OptionDoc("The client certificate.")] = None
    tls_key: Annotated[Path | None, OptionDoc("The client certificate's private key.")] = None
    tls_verify: Annotated[
        bool | None, OptionDoc("Whether to check the server's certificate and name.", unset="true")
    ] = None  # fmt: skip
    sentinel_master: Annotated[Text | None, OptionDoc("The master's name at the sentinels.", unset=SENTINEL_MASTER)] = (
        None
    )
    sentinel_username: Annotated[Text | None, OptionDoc("The sentinels' own ACL user.")] = None
    sentinel_password: Annotated[Text | None, OptionDoc("The sentinels' own password.")] = None
    key_prefix: Annotated[Text, OptionDoc("Prefix of all keys.")] = REDIS_PREFIX
    timeout_s: Annotated[Number, OptionDoc("Timeout of a response.")] = REDIS_TIMEOUT_S
    connect_timeout_s: Annotated[Number, OptionDoc("How long to wait for a connection.")] = REDIS_CONNECT_S
    retry_s: Annotated[
        Number, OptionDoc("How long a read or write is retried while servers restart or fail over.")
    ] = REDIS_RETRY_S  # fmt: skip
    max_connections: Annotated[Whole, OptionDoc("Maximum connections of a process.")] = REDIS_CONNECTIONS
    replica_reads: Annotated[
        bool | None, OptionDoc("Read features from replicas, which may lag.", unset="false")
    ] = None  # fmt: skip
