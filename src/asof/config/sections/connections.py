"""`connections:`, servers by name; each is a type and its settings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from asof.config.sections.kinds import (
    CertificatesPath,
    Number,
    OptionDoc,
    Path,
    Port,
    Section,
    Settings,
    Text,
    Texts,
    ValueKind,
    Whole,
)
from asof.defaults import (
    KAFKA_TIMEOUT_S,
    ONLINE_STATEMENT_S,
    POSTGRES_CONNECT_S,
    POSTGRES_CONNECTIONS,
    POSTGRES_IDLE_S,
    POSTGRES_LOCK_S,
    POSTGRES_NAME,
    REGISTRY_STATEMENT_S,
    SCHEMA_BYTES,
    SCHEMA_TIMEOUT_S,
)

PostgresUrl = Annotated[
    str,
    # Whatever is no URL at all is libpq's to read: `host=db dbname=shop`.
    Meta(min_length=1, pattern=r"(?i)^(postgres(ql)?(\+\w+)?://|(?!\s*[A-Za-z][\w+.:-]*:/))"),
    ValueKind(
        "text",
        "text",
        refusal="{path}: expected postgresql://…, found {found}",
        hint="write postgresql://user:password@host:port/database",
    ),
]


class ConnectionSection(Section, frozen=True, kw_only=True):
    """The options of every connection."""

    SECTION: ClassVar[str] = "connections"
    FEAST_KEYS: ClassVar[tuple[str, ...]] = ("conn_type",)

    type: Annotated[Text, OptionDoc("The type of server.")]


class PostgresConnectionSection(ConnectionSection, frozen=True, kw_only=True):
    """A PostgreSQL database."""

    PRODUCT: ClassVar[str] = "postgres"

    url: Annotated[
        PostgresUrl | None,
        OptionDoc("`postgresql://user:password@host:port/database?…`; the options below override it.", also=("path",)),
    ] = None
    host: Annotated[Text | None, OptionDoc("The server's host name, or the folder of its Unix socket.")] = None
    port: Annotated[Port | None, OptionDoc("Its port; default 5432.")] = None
    database: Annotated[Text | None, OptionDoc("The database.")] = None
    user: Annotated[Text | None, OptionDoc("The user; default: the user who runs the process.")] = None
    password: Annotated[Text | None, OptionDoc("The password; better as `${VAR}`, or in `~/.pgpass`.")] = None
    schema: Annotated[
        Text | None,
        OptionDoc(
            "The schema of a source's unqualified tables, searched first; the schema of a store's tables (default "
            "`asof`).",
            also=("db_schema",),
        ),
    ] = None
    sslmode: Annotated[
        Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None,
        OptionDoc("libpq's TLS mode, by default `prefer`; `verify-full` checks the server's certificate and name."),
    ] = None
    sslrootcert: Annotated[
        CertificatesPath | None,
        OptionDoc("The CA certificates to trust; `system` uses the machine's.", also=("sslrootcert_path",)),
    ] = None
    sslcert: Annotated[Path | None, OptionDoc("The client certificate.", also=("sslcert_path",))] = None
    sslkey: Annotated[Path | None, OptionDoc("The client certificate's private key.", also=("sslkey_path",))] = None
    min_connections: Annotated[
        Whole | None, OptionDoc("Connections kept open when idle.", also=("min_conn",), unset=0)
    ] = None
    max_connections: Annotated[
        Whole, OptionDoc("Maximum connections of a process.", also=("max_conn",))
    ] = POSTGRES_CONNECTIONS  # fmt: skip
    keepalives_idle_s: Annotated[
        Whole,
        OptionDoc("Idle time after which TCP keepalives check that the server is there.", also=("keepalives_idle",)),
    ] = POSTGRES_IDLE_S
    connect_timeout_s: Annotated[Number, OptionDoc("How long to wait for a connection.")] = POSTGRES_CONNECT_S
    statement_timeout_s: Annotated[
        Number | None,
        OptionDoc(
            f"Time limit of a statement, enforced by the server. Default: {REGISTRY_STATEMENT_S} for a "
            f"registry, {ONLINE_STATEMENT_S} for an online store, else the server's own setting."
        ),
    ] = None
    lock_timeout_s: Annotated[Number, OptionDoc("How long a statement waits for a lock.")] = POSTGRES_LOCK_S
    replicas: Annotated[
        Texts | None,
        OptionDoc("Read replicas, as `host` or `host:port`. Sources are read from them; they may lag a little."),
    ] = None
    application_name: Annotated[Text, OptionDoc("Name of the sessions in the server's own views.")] = POSTGRES_NAME
    pgbouncer: Annotated[
        bool | None,
        OptionDoc(
            "Set it behind PgBouncer's transaction pooling: no prepared statements, settings per transaction.",
            unset="false",
        ),
    ] = None


class SchemaRegistryConnectionSection(ConnectionSection, frozen=True, kw_only=True):
    """A registry of message schemas."""

    PRODUCT: ClassVar[str] = "schema_registry"

    url: Annotated[Text, OptionDoc("URL of a registry with Confluent's REST API, for formats with `registry=`.")]
    user: Annotated[Text | None, OptionDoc("The user (HTTP basic).")] = None
    password: Annotated[Text | None, OptionDoc("The password; better as `${VAR}`.")] = None
    token: Annotated[Text | None, OptionDoc("A bearer token instead of a user; better as `${VAR}`.")] = None
    ca_file: Annotated[Path | None, OptionDoc("The CA certificates to trust; default: the machine's.")] = None
    timeout_s: Annotated[Number, OptionDoc("How long to try to get a schema before its source pauses.")] = (
        SCHEMA_TIMEOUT_S
    )
    max_schema_bytes: Annotated[
        Whole,
        OptionDoc("Maximum size of a schema with those that it refers to. Messages of larger ones are dead letters."),
    ] = SCHEMA_BYTES


class KafkaConnectionSection(ConnectionSection, frozen=True, kw_only=True):
    """A Kafka cluster."""

    PRODUCT: ClassVar[str] = "kafka"

    bootstrap_servers: Annotated[
        Texts, OptionDoc("The first brokers to contact, as `host:port`.", also=("kafka_bootstrap_servers",))
    ]
    settings: Annotated[
        Settings | None,
        OptionDoc("librdkafka's own settings, passed through: `security.protocol`, `sasl.*`, `ssl.*` and so on."),
    ] = None
    timeout_s: Annotated[Number, OptionDoc("Timeout of a call.")] = KAFKA_TIMEOUT_S
    session_timeout_s: Annotated[
        Number | None,
        OptionDoc(
            "How long a worker may be silent before its partitions are reassigned (default 45), and a pushing "
            "process before its partition may be taken over (default 10)."
        ),
    ] = None
