"""`registry:`, where applied definitions live."""

from __future__ import annotations

from typing import Annotated, ClassVar

from asof.config.sections.connections import PostgresConnectionSection
from asof.config.sections.kinds import Location, Number, OptionDoc, Path, Section, Text
from asof.defaults import BUSY_TIMEOUT_S


class RegistrySection(Section, frozen=True, kw_only=True):
    """The options of every registry."""

    SECTION: ClassVar[str] = "registry"
    FEAST_KEYS: ClassVar[tuple[str, ...]] = (
        "cache_mode", "cache_ttl_seconds", "enable_online_feature_view_versioning", "purge_feast_metadata", "read_path",
        "s3_additional_kwargs", "serve_features_while_materializing", "sqlalchemy_config_kwargs",
        "thread_pool_executor_worker_count",
    )  # fmt: skip
    FEAST_TYPES: ClassVar[dict[str, str]] = {"file": "sqlite", "sql": "postgres"}

    type: Annotated[Text, OptionDoc("The product.", also=("registry_type",))] = "sqlite"


class SqliteRegistrySection(RegistrySection, frozen=True, kw_only=True):
    """A file."""

    PRODUCT: ClassVar[str] = "sqlite"

    path: Annotated[Path, OptionDoc("The file.")] = "data/registry.db"
    busy_timeout_s: Annotated[
        Number | None, OptionDoc("How long a commit waits for other writers.", unset=BUSY_TIMEOUT_S)
    ] = None


class PostgresRegistrySection(RegistrySection, frozen=True, kw_only=True):
    """A schema of a PostgreSQL database."""

    PRODUCT: ClassVar[str] = "postgres"
    SERVER: ClassVar[type[Section] | None] = PostgresConnectionSection


class ObjectRegistrySection(RegistrySection, frozen=True, kw_only=True):
    """Objects in a bucket."""

    PRODUCT: ClassVar[str] = "object"

    path: Annotated[
        Location, OptionDoc("The address, such as `s3://bucket/shop/registry`; a folder is for tests on one machine.")
    ]
