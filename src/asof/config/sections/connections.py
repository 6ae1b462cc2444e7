"""`connections:`, servers by name; each is a type and how it is reached."""

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

    type: Annotated[Text, OptionDoc("What kind of server.")]


class PostgresConnectionSection(ConnectionSection, frozen=True, kw_only=True):
    """A PostgreSQL database."""

    PRODUCT: ClassVar[str] = "postgres"

    url: Annotated[
        PostgresUrl | None,
        OptionDoc("`postgresql://user:password@host:port/database?…`; the keys below go over it.", also=("path",)),
    ] = None
    host: Annotated[Text | None, OptionDoc("The server's name, or the folder of its local socket.")] = None
    port: Annotated[Port | None, OptionDoc("Its port; else 5432.")] = None
    database: Annotated[Text | None, OptionDoc("The database.")] = None
    user: Annotated[Text | None, OptionDoc("The user; else the one who runs the process.")] = None
    password: Annotated[Text | None, OptionDoc("The password; better as `${VAR}`, or in `~/.pgpass`.")] = None
    schema: Annotated[
        Text | None,
        OptionDoc(
            "Where a source's unqualified table is looked up first; where a store keeps its tables (`asof` if left "
            "out).",
            also=("db_schema",),
        ),
    ] = None
    sslmode: Annotated[
        Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None,
        OptionDoc("libpq's, whose default is `prefer`; `verify-full` checks the server's certificate and name."),
    ] = None
    sslrootcert: Annotated[
        CertificatesPath | None,
        OptionDoc("The certificates to trust; `system` takes the machine's.", also=("sslrootcert_path",)),
    ] = None
    sslcert: Annotated[Path | None, OptionDoc("The client's certificate.", also=("sslcert_path",))] = None
    sslkey: Annotated[Path | None, OptionDoc("The client's key.", also=("sslkey_path",))] = None
    min_connections: Annotated[
        Whole | None, OptionDoc("How many connections are kept open when idle.", also=("min_conn",), unset=0)
    ] = None
    max_connections: Annotated[
        Whole, OptionDoc("How many connections a process opens at most.", also=("max_conn",))
    ] = 10  # fmt: skip
    keepalives_idle_s: Annotated[
        Whole,
        OptionDoc(
            "After how much silence the network is asked whether the server is still there.", also=("keepalives_idle",)
        ),
    ] = 60
    connect_timeout_s: Annotated[Number, OptionDoc("How long to wait for a connection.")] = 10
    statement_timeout_s: Annotated[
        Number | None,
        OptionDoc(
            "When the server gives up a statement. A registry's is 60 and an online store's 30 where left out; "
            "elsewhere the server's own setting."
        ),
    ] = None
    lock_timeout_s: Annotated[Number, OptionDoc("How long a statement waits for a lock.")] = 30
    replicas: Annotated[
        Texts | None,
        OptionDoc(
            "Read replicas, as `host` or `host:port`: sources are read there, a little stale, while one answers."
        ),
    ] = None
    application_name: Annotated[Text, OptionDoc("What the server's own lists show.")] = "asof"
    pgbouncer: Annotated[
        bool | None,
        OptionDoc(
            "Sessions are shared (PgBouncer's transaction pooling): nothing is prepared, settings are per transaction.",
            unset="false",
        ),
    ] = None


class SchemaRegistryConnectionSection(ConnectionSection, frozen=True, kw_only=True):
    """A registry of message schemas."""

    PRODUCT: ClassVar[str] = "schema_registry"

    url: Annotated[Text, OptionDoc("A registry with Confluent's REST API, for formats with `registry=`.")]
    user: Annotated[Text | None, OptionDoc("The user (HTTP basic).")] = None
    password: Annotated[Text | None, OptionDoc("The password; better as `${VAR}`.")] = None
    token: Annotated[Text | None, OptionDoc("A bearer token instead; better as `${VAR}`.")] = None
    ca_file: Annotated[Path | None, OptionDoc("The certificates to trust; else the machine's.")] = None
    timeout_s: Annotated[Number, OptionDoc("How long a worker tries to reach it before it stops.")] = 10


class KafkaConnectionSection(ConnectionSection, frozen=True, kw_only=True):
    """A Kafka cluster."""

    PRODUCT: ClassVar[str] = "kafka"

    bootstrap_servers: Annotated[
        Texts, OptionDoc("The brokers to ask first, as `host:port`.", also=("kafka_bootstrap_servers",))
    ]
    settings: Annotated[
        Settings | None,
        OptionDoc("librdkafka's own settings, passed through: `security.protocol`, `sasl.*`, `ssl.*` and so on."),
    ] = None
    timeout_s: Annotated[Number, OptionDoc("How long one call waits for an answer.")] = 10
    session_timeout_s: Annotated[
        Number | None,
        OptionDoc(
            "How long a worker may be silent before its partitions are given to others (else 45), and a pushing "
            "process before its own partition may be taken over (else 10)."
        ),
    ] = None
