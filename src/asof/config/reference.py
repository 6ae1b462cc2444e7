"""Every key that `feature_store.yaml` takes, as one table: the checks and the documentation both read it."""

from __future__ import annotations

from dataclasses import dataclass, replace

CONNECTIONS = "connections"
"""The section of named connections; each is a server's type and how it is reached."""

SECTIONS = ("registry", "offline_store", "online_store", "log")
"""The parts of a store; each is a product (`type:`) and its options."""


@dataclass(frozen=True)
class Option:
    """One key.

    Args:
        section: one of `SECTIONS`, or empty for the top level.
        product: the `type:` that takes it; empty where the section itself does.
        kind: `text`, `prefix` (which may be empty), `path` (relative to the repository's root), `integer`, `number`,
            `moment`, `size`, `flag`, `list`, `settings` (names and values of someone else's), `index`
            (from 0) or `part`.
        default: as it would be written; None where there is none.
        also: other spellings of the name, Feast's among them.
    """

    section: str
    product: str
    name: str
    kind: str
    default: str | int | None
    meaning: str
    required: bool = False
    also: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """`offline_store.memory_limit`; `*` stands for a connection's name."""
        if self.section == CONNECTIONS:
            return f"{self.section}.*.{self.name}"
        return f"{self.section}.{self.name}" if self.section else self.name


REFERENCE: tuple[Option, ...] = (
    Option(
        "", "", "project", "text", None,
        "The project's name: letters, digits and `_`. Keeps its tables apart from other projects'.", required=True,
    ),
    Option("", "", "registry", "part", None, "Where applied definitions live. Plain text is a SQLite registry's path."),
    Option("", "", "offline_store", "part", None, "What keeps history and runs joins."),
    Option("", "", "online_store", "part", None, "What serving reads."),
    Option("", "", "log", "part", None, "Where the events of `LogSource`s come from, and pushed rows go to."),
    Option("", "", "connections", "part", None, "Servers by name, for sources with `connection_ref=` and for stores."),
    Option(
        "", "", "auth", "part", None,
        "Who may use the feature server: keys, issuers of tokens, certificates and their roles. See "
        "[secure a server](../how-to/secure.md).",
    ),
    Option("", "", "server", "part", None, "How `asof serve` runs. See [serve features](../how-to/serve.md)."),
    Option("", "", "clock", "moment", None, "The store's now, as ISO 8601; the system's clock where left out."),
    Option("registry", "", "type", "text", "sqlite", "The product. Feast's `registry_type` is the same."),
    Option("registry", "sqlite", "path", "path", "data/registry.db", "The file."),
    Option("registry", "sqlite", "busy_timeout_s", "number", None, "How long a commit waits for other writers."),
    Option("offline_store", "", "type", "text", "duckdb", "The product."),
    Option("offline_store", "duckdb", "path", "path", "data/offline", "The folder of the archives (Delta tables)."),
    Option("offline_store", "duckdb", "memory_limit", "size", None, "How much memory a query may take, like `4GB`."),
    Option("offline_store", "duckdb", "threads", "integer", None, "How many threads a query may take; else all cores."),
    Option(
        "offline_store", "duckdb", "temp_directory", "path", None,
        "Where a query spills what outgrows memory, in a folder that only its own user may enter and that goes with "
        "the process; else the system's folder for temporary files.",
    ),
    Option(
        "offline_store", "postgres", "work_mem", "size", "256MB",
        "How much memory one sort or hash of a read may take in the server.",
    ),
    Option("online_store", "", "type", "text", "sqlite", "The product."),
    Option("online_store", "sqlite", "path", "path", "data/online.db", "The file."),
    Option("online_store", "sqlite", "busy_timeout_s", "number", None, "How long a write waits for other writers."),
    Option(
        "online_store", "redis", "url", "text", None,
        "`redis://user:password@host:port/db`, with TLS `rediss://…`, `unix:///path?db=0`; several hosts with commas.",
    ),
    Option(
        "online_store", "redis", "connection_string", "text", None,
        "Feast's form of it: `host:port,db=0,ssl=true,password=…`.",
    ),
    Option(
        "online_store", "redis", "redis_type", "text", None,
        "`redis`; `redis_sentinel`, where the addresses are sentinels; `redis_cluster`, where they are some nodes.",
    ),
    Option("online_store", "redis", "username", "text", None, "The ACL user; else the server's default user."),
    Option("online_store", "redis", "password", "text", None, "The password; better as `${VAR}`."),
    Option("online_store", "redis", "db", "index", None, "The number of the database; a cluster has 0 alone."),
    Option("online_store", "redis", "tls_ca", "path", None, "The certificates to trust; else the machine's."),
    Option("online_store", "redis", "tls_cert", "path", None, "The client's certificate."),
    Option("online_store", "redis", "tls_key", "path", None, "The client's key."),
    Option(
        "online_store", "redis", "tls_verify", "flag", None,
        "Whether the server's certificate and name are checked; they are where left out.",
    ),
    Option("online_store", "redis", "sentinel_master", "text", None, "The master's name there; else `mymaster`."),
    Option("online_store", "redis", "sentinel_username", "text", None, "The sentinels' own ACL user."),
    Option("online_store", "redis", "sentinel_password", "text", None, "The sentinels' own password."),
    Option("online_store", "redis", "key_prefix", "text", "asof:", "What all keys begin with."),
    Option("online_store", "redis", "timeout_s", "number", 5, "How long a server may take to answer."),
    Option("online_store", "redis", "connect_timeout_s", "number", 2, "How long to wait for a connection."),
    Option(
        "online_store", "redis", "retry_s", "number", 15,
        "How long a read or write is tried again while servers restart or fail over.",
    ),
    Option("online_store", "redis", "max_connections", "integer", 64, "How many connections a process opens at most."),
    Option(
        "online_store", "redis", "replica_reads", "flag", None,
        "Read features from replicas, which may be behind; never by default.",
    ),
    Option("connections", "", "type", "text", None, "What kind of server.", required=True),
    Option(
        "connections", "postgres", "url", "text", None,
        "`postgresql://user:password@host:port/database?…`; the keys below go over it.", also=("path",),
    ),
    Option("connections", "postgres", "host", "text", None, "The server's name, or the folder of its local socket."),
    Option("connections", "postgres", "port", "integer", None, "Its port; else 5432."),
    Option("connections", "postgres", "database", "text", None, "The database."),
    Option("connections", "postgres", "user", "text", None, "The user; else the one who runs the process."),
    Option("connections", "postgres", "password", "text", None, "The password; better as `${VAR}`, or in `~/.pgpass`."),
    Option(
        "connections", "postgres", "schema", "text", None,
        "Where a source's unqualified table is looked up first; where a store keeps its tables (`asof` if left out).",
        also=("db_schema",),
    ),
    Option(
        "connections", "postgres", "sslmode", "text", None,
        "libpq's: `disable`, `allow`, `prefer` (its default), `require`, `verify-ca`, `verify-full`.",
    ),
    Option(
        "connections", "postgres", "sslrootcert", "path", None,
        "The certificates to trust; `system` takes the machine's.", also=("sslrootcert_path",),
    ),
    Option("connections", "postgres", "sslcert", "path", None, "The client's certificate.", also=("sslcert_path",)),
    Option("connections", "postgres", "sslkey", "path", None, "The client's key.", also=("sslkey_path",)),
    Option(
        "connections", "postgres", "min_connections", "integer", None, "How many connections are kept open when idle.",
        also=("min_conn",),
    ),
    Option(
        "connections", "postgres", "max_connections", "integer", 10, "How many connections a process opens at most.",
        also=("max_conn",),
    ),
    Option(
        "connections", "postgres", "keepalives_idle_s", "integer", 60,
        "After how much silence the network is asked whether the server is still there.", also=("keepalives_idle",),
    ),
    Option("connections", "postgres", "connect_timeout_s", "number", 10, "How long to wait for a connection."),
    Option(
        "connections", "postgres", "statement_timeout_s", "number", None,
        "When the server gives up a statement; its own setting where left out.",
    ),
    Option("connections", "postgres", "lock_timeout_s", "number", 30, "How long a statement waits for a lock."),
    Option(
        "connections", "postgres", "replicas", "list", None,
        "Read replicas, as `host` or `host:port`: sources are read there, a little stale, while one answers.",
    ),
    Option("connections", "postgres", "application_name", "text", "asof", "What the server's own lists show."),
    Option(
        "connections", "postgres", "pgbouncer", "flag", None,
        "Sessions are shared (PgBouncer's transaction pooling): nothing is prepared, settings are per transaction.",
    ),
    Option(
        "connections", "schema_registry", "url", "text", None,
        "A registry with Confluent's REST API, for formats with `registry=`.", required=True,
    ),
    Option("connections", "schema_registry", "user", "text", None, "The user (HTTP basic)."),
    Option("connections", "schema_registry", "password", "text", None, "The password; better as `${VAR}`."),
    Option("connections", "schema_registry", "token", "text", None, "A bearer token instead; better as `${VAR}`."),
    Option("connections", "schema_registry", "ca_file", "path", None, "The certificates to trust; else the machine's."),
    Option(
        "connections", "schema_registry", "timeout_s", "number", 10,
        "How long a worker tries to reach it before it stops.",
    ),
    Option(
        "connections", "kafka", "bootstrap_servers", "list", None, "The brokers to ask first, as `host:port`.",
        required=True, also=("kafka_bootstrap_servers",),
    ),
    Option(
        "connections", "kafka", "settings", "settings", None,
        "librdkafka's own settings, passed through: `security.protocol`, `sasl.*`, `ssl.*` and so on.",
    ),
    Option("connections", "kafka", "timeout_s", "number", 10, "How long one call waits for an answer."),
    Option(
        "connections", "kafka", "session_timeout_s", "number", None,
        "How long a worker may be silent before its partitions are given to others (else 45), and a pushing process "
        "before its own partition may be taken over (else 10).",
    ),
    Option("log", "", "type", "text", "file", "The product."),
    Option("log", "file", "path", "path", "data/log", "The folder of the log's topics."),
    Option("log", "file", "partitions", "integer", 1, "How many partitions a topic gets that `apply` makes."),
    Option("log", "file", "segment_bytes", "integer", None, "How large a segment grows."),
    Option(
        "log", "file", "session_timeout_s", "number", None,
        "How long a consumer may be silent before its partitions are given to others.",
    ),
    Option("log", "kafka", "partitions", "integer", 1, "How many partitions a topic gets that `apply` makes."),
    Option(
        "log", "kafka", "replication_factor", "integer", None,
        "On how many brokers such a topic stands; the broker's default where left out.",
    ),
    Option(
        "log", "kafka", "topic_settings", "settings", None,
        "Kafka's own settings for such a topic, like `min.insync.replicas`; it keeps all records unless they say less.",
    ),
    Option(
        "log", "kafka", "topic_prefix", "prefix", None,
        "Put before the names of the project's own topics, so that projects can share a cluster; else `PROJECT.`.",
    ),
    Option("server", "", "host", "text", "127.0.0.1", "The address to listen on."),
    Option("server", "", "port", "integer", 6566, "The port."),
    Option("server", "", "workers", "integer", 1, "How many processes answer; about one per core."),
    Option("server", "", "max_body_bytes", "integer", 16777216, "A larger request is refused (413)."),
    Option("server", "", "max_rows", "integer", 10000, "A read of more entity rows is refused (413)."),
    Option(
        "server", "", "max_waiting", "integer", 512,
        "With more requests than these at once in a worker, further ones are told to come back (503).",
    ),
    Option(
        "server", "", "max_connections", "integer", 4096,
        "With more connections than these in a worker, those that have waited longest for their client are closed.",
    ),
    Option("server", "", "receive_timeout_s", "number", 10, "How long a request may take to arrive (408)."),
    Option("server", "", "request_timeout_s", "number", 30, "How long an answer may take (503); not of materialize."),
    Option("server", "", "keep_alive_s", "number", 75, "How long an idle connection is kept."),
    Option("server", "", "graceful_s", "number", 30, "How long running requests may take when a worker stops."),
    Option("server", "", "backlog", "integer", 2048, "How many connections the system keeps until they are accepted."),
    Option("server", "", "function_timeout_s", "number", 2, "How long an on-demand function may take (424)."),
    Option("server", "", "function_threads", "integer", 4, "How many on-demand functions run at once in a worker."),
    Option("server", "", "registry_refresh_s", "number", 1, "How often to look whether something was applied."),
    Option(
        "server", "", "access_log", "text", "none",
        "Which requests get a line of JSON on stderr: `none`, `errors` or `all`.",
    ),
    Option(
        "server", "", "tracing", "text", "none",
        "`otlp` sends OpenTelemetry traces, set up by the `OTEL_*` variables; needs the extra `otel`.",
    ),
    Option("server", "", "tls_cert", "path", None, "The server's certificate (PEM), with those up to the root."),
    Option("server", "", "tls_key", "path", None, "Its private key (PEM)."),
    Option("server", "", "tls_key_password", "text", None, "The key's password, if it has one; better as `${VAR}`."),
    Option("server", "", "tls_client_ca", "path", None, "Who signs client certificates (PEM); with it they count."),
    Option("server", "", "tls_client_certificates", "text", None, "`optional`, or `required`."),
    Option(
        "server", "", "feature_log_share", "number", None,
        "The share of reads whose features are kept for audit and training, up to 1; none where left out.",
    ),
    Option("server", "", "feature_log_services", "list", None, "Which services' reads are kept; all by default."),
    Option("server", "", "feature_log_queue", "integer", 10000, "How many rows may wait to be kept; more are dropped."),
    Option("server", "", "feature_log_flush_s", "number", 10, "How often they are written to the offline store."),
)  # fmt: skip

FEAST_KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "batch_engine", "coerce_tz_aware", "data_quality_monitoring", "embedding_model",
        "entity_key_serialization_version", "feature_server", "flags", "materialization", "mlflow", "openlineage",
        "project_description", "provider", "repo_config", "repo_path",
    ),
    "registry": (
        "cache_mode", "cache_ttl_seconds", "enable_online_feature_view_versioning", "purge_feast_metadata", "read_path",
        "s3_additional_kwargs", "serve_features_while_materializing", "sqlalchemy_config_kwargs",
        "thread_pool_executor_worker_count",
    ),
    "connections": ("conn_type",),
    "offline_store": ("allow_historical_data_skip", "staging_location", "staging_location_endpoint_override"),
    "online_store": ("vector_enabled", "vector_len", "text_search_enabled"),
    "online_store.redis": ("full_scan_for_deletion", "key_ttl_seconds", "skip_dedup"),
    "log": (),
}  # fmt: skip
"""Feast's keys without a meaning here, by section: taken with a note."""

FEAST_TYPES: dict[str, dict[str, str]] = {
    "registry": {"file": "sqlite", "sql": "postgres"},
    "connections": {},
    "offline_store": {"file": "duckdb", "dask": "duckdb"},
    "online_store": {},
    "log": {},
}
"""Feast's product names, by section, and what stands for them here."""


ON_SERVERS = {
    ("registry", "postgres"), ("offline_store", "postgres"), ("online_store", "postgres"), ("log", "kafka"),
}  # fmt: skip
"""The products, by section, that take a connection's keys."""


def options_of(section: str, product: str) -> dict[str, Option]:
    """The options of one product; empty where it is not one of ours, and then nobody here knows them.

    A store on a server takes the keys of a connection beside its own, or `connection`, the name of one.
    """
    own = {each.name: each for each in REFERENCE if each.section == section and each.product == product and product}
    if section == CONNECTIONS or (section, product) not in ON_SERVERS:
        return own
    shared = {
        each.name: replace(each, section=section)
        for each in REFERENCE
        if (each.section, each.product) == (CONNECTIONS, product)
    }
    named = Option(section, product, "connection", "text", None, "The name of a connection, whose keys it takes.")
    return {"connection": named, **shared, **own}


def server_options() -> dict[str, Option]:
    """The keys of `server:`."""
    return {each.name: each for each in REFERENCE if each.section == "server"}


def sections_keys() -> dict[str, Option]:
    """The keys of the top level."""
    return {each.name: each for each in REFERENCE if not each.section}
