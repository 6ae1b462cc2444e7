"""Every key that `feature_store.yaml` takes, as one table: the checks and the documentation both read it."""

from __future__ import annotations

from dataclasses import dataclass

SECTIONS = ("registry", "offline_store", "online_store", "log")
"""The parts of a store; each is a product (`type:`) and its options."""


@dataclass(frozen=True)
class Option:
    """One key.

    Args:
        section: one of `SECTIONS`, or empty for the top level.
        product: the `type:` that takes it; empty where the section itself does.
        kind: `text`, `path` (relative to the repository's root), `integer`, `number`, `moment`, `size` or `part`.
        default: as it would be written; None where there is none.
    """

    section: str
    product: str
    name: str
    kind: str
    default: str | int | None
    meaning: str
    required: bool = False

    @property
    def path(self) -> str:
        """`offline_store.memory_limit`."""
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
    Option("", "", "clock", "moment", None, "The store's now, as ISO 8601; the system's clock where left out."),
    Option("registry", "", "type", "text", "sqlite", "The product. Feast's `registry_type` is the same."),
    Option("registry", "sqlite", "path", "path", "data/registry.db", "The file."),
    Option("registry", "sqlite", "busy_timeout_s", "number", None, "How long a commit waits for other writers."),
    Option("offline_store", "", "type", "text", "duckdb", "The product."),
    Option("offline_store", "duckdb", "path", "path", "data/offline", "The folder of the archives (Delta tables)."),
    Option("offline_store", "duckdb", "memory_limit", "size", None, "How much memory a query may take, like `4GB`."),
    Option("offline_store", "duckdb", "threads", "integer", None, "How many threads a query may take; else all cores."),
    Option("offline_store", "duckdb", "temp_directory", "path", None, "Where a query spills what outgrows memory."),
    Option("online_store", "", "type", "text", "sqlite", "The product."),
    Option("online_store", "sqlite", "path", "path", "data/online.db", "The file."),
    Option("online_store", "sqlite", "busy_timeout_s", "number", None, "How long a write waits for other writers."),
    Option("log", "", "type", "text", "file", "The product."),
    Option("log", "file", "path", "path", "data/log", "The folder of the log's topics."),
    Option("log", "file", "partitions", "integer", 1, "How many partitions a topic gets that `apply` makes."),
    Option("log", "file", "segment_bytes", "integer", None, "How large a segment grows."),
    Option(
        "log", "file", "session_timeout_s", "number", None,
        "How long a consumer may be silent before its partitions are given to others.",
    ),
)  # fmt: skip

FEAST_KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "auth", "batch_engine", "coerce_tz_aware", "data_quality_monitoring", "embedding_model",
        "entity_key_serialization_version", "feature_server", "flags", "materialization", "mlflow", "openlineage",
        "project_description", "provider", "repo_config", "repo_path",
    ),
    "registry": (
        "cache_mode", "cache_ttl_seconds", "enable_online_feature_view_versioning", "purge_feast_metadata", "read_path",
        "s3_additional_kwargs", "serve_features_while_materializing", "sqlalchemy_config_kwargs",
        "thread_pool_executor_worker_count",
    ),
    "offline_store": ("allow_historical_data_skip", "staging_location", "staging_location_endpoint_override"),
    "online_store": ("vector_enabled", "vector_len", "text_search_enabled"),
    "log": (),
}  # fmt: skip
"""Feast's keys without a meaning here, by section: taken with a note."""

FEAST_TYPES: dict[str, dict[str, str]] = {
    "registry": {"file": "sqlite"},
    "offline_store": {"file": "duckdb", "dask": "duckdb"},
    "online_store": {},
    "log": {},
}
"""Feast's product names, by section, and what stands for them here."""


def options_of(section: str, product: str) -> dict[str, Option]:
    """The options of one product; empty where it is not one of ours, and then nobody here knows them."""
    return {each.name: each for each in REFERENCE if each.section == section and each.product == product and product}


def sections_keys() -> dict[str, Option]:
    """The keys of the top level."""
    return {each.name: each for each in REFERENCE if not each.section}
