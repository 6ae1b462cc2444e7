"""The top level of `feature_store.yaml`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from asof.config.sections.kinds import Moment, OptionDoc, Section, ValueKind

Part = Annotated[Any, ValueKind("part")]
"""A section of its own."""

Names = Annotated[
    list[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]],
    ValueKind("list", "names of environment variables, such as [KAFKA, SHOP_DB]", splits=True),
]


class ProjectSection(Section, frozen=True, kw_only=True):
    """What a project is, and the sections."""

    FEAST_KEYS: ClassVar[tuple[str, ...]] = (
        "batch_engine", "coerce_tz_aware", "data_quality_monitoring", "embedding_model",
        "entity_key_serialization_version", "feature_server", "flags", "materialization", "mlflow", "openlineage",
        "project_description", "provider", "repo_config", "repo_path",
    )  # fmt: skip

    project: Annotated[
        str,
        Meta(min_length=1, max_length=63, pattern=r"^[A-Za-z](?!.*__)[A-Za-z0-9_]*\Z"),
        ValueKind(
            "text",
            "text",
            refusal="{path} {found}: expected up to 63 letters, digits and '_', beginning with a letter, without a "
            "double underscore",
            hint="choose another name",
        ),
        OptionDoc("The project's name: letters, digits and `_`. Separates its tables from other projects'."),
    ]
    registry: Annotated[
        Part, OptionDoc("The store of applied definitions. Plain text is the path of a SQLite registry.")
    ] = None
    offline_store: Annotated[Part, OptionDoc("The store of history, which also runs joins.")] = None
    online_store: Annotated[Part, OptionDoc("The store that serving reads.")] = None
    log: Annotated[Part, OptionDoc("The log of `LogSource` events and pushed rows.")] = None
    connections: Annotated[Part, OptionDoc("Servers by name, for sources with `connection_ref=` and for stores.")] = (
        None
    )
    auth: Annotated[
        Part,
        OptionDoc(
            "Who may use the feature server: keys, issuers of tokens, certificates and their roles. See "
            "[secure a server](../how-to/secure.md)."
        ),
    ] = None
    messages: Annotated[
        Part, OptionDoc("What one message may be. See [read messages](../how-to/messages.md#bounds).")
    ] = None
    storage: Annotated[
        Part,
        OptionDoc("How `s3://`, `gs://` and `az://` are reached. See [object storage](../how-to/object-storage.md)."),
    ] = None
    server: Annotated[Part, OptionDoc("How `asof serve` runs. See [serve features](../how-to/serve.md).")] = None
    schedule: Annotated[
        Part,
        OptionDoc(
            "Jobs by name, each a cron expression or a group of keys, which `asof run` works through. See "
            "[run jobs by a schedule](../how-to/schedule.md)."
        ),
    ] = None
    logging: Annotated[
        Part, OptionDoc("What long-running commands log. See [run in production](../how-to/production.md#logs).")
    ] = None
    environment: Annotated[
        Names | None,
        OptionDoc(
            "Environment variables that applied definitions may use as `${VAR}`, with those that this file uses. See "
            "[secure a server](../how-to/secure.md#what-a-definition-may-do)."
        ),
    ] = None
    clock: Annotated[
        Moment | None, OptionDoc("A fixed time for the store's clock, as ISO 8601; default: the system's clock.")
    ] = None
