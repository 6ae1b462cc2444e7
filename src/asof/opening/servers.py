"""Find the server of a source: from its own fields, a named connection, or the configuration's only one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asof.config import ProductConfig, StoreConfig, expanded
from asof.config.documents import variables_in
from asof.config.reference import CONNECTIONS, options_of
from asof.definitions import LogSource, Source
from asof.errors import ConfigError, nearest, some

HOMES = {"postgres": "offline_store", "kafka": "log"}
"""Type of a server → the section whose server is the default for sources."""


SCHEMA_REGISTRY = "schema_registry"
"""The type of a connection to a schema registry."""


@dataclass(frozen=True)
class SourceConnection:
    """The server that a source is read from.

    Args:
        label: the setting that names the server, for messages.
        options: connection options with secrets, never shown.
        where: `file:line`.
    """

    label: str
    options: Mapping[str, Any] = field(repr=False)
    where: str = ""


class SourceConnections:
    """Finds the server of a source: from its own fields, its `connection_ref`, else the only one configured.

    Args:
        environ: the variables for `${VAR}` in definitions.
    """

    def __init__(self, config: StoreConfig, environ: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._environ = os.environ if environ is None else environ

    def of(self, source: Source, kind: str) -> SourceConnection:
        """The server of a source.

        Args:
            kind: the type of the server, a key of `HOMES`.

        Raises:
            ConfigError: no server is named and there is not exactly one, or a variable is not set.
        """
        named = self._config.connections
        if source.connection:
            own = self._expanded(source, dict(source.connection))
            return SourceConnection(f"source {source.name!r}", own, source.where)
        if source.connection_ref:
            return self._named(source, kind)
        home: ProductConfig = getattr(self._config, HOMES[kind])
        if home.type == kind:
            known = options_of(CONNECTIONS, kind)
            own = {name: value for name, value in home.options.items() if not known or name in known}
            return SourceConnection(HOMES[kind], own, home.where)
        fitting = [name for name, part in named.items() if part.type == kind]
        if len(fitting) == 1:
            return SourceConnection(f"connections.{fitting[0]}", named[fitting[0]].options, named[fitting[0]].where)
        raise ConfigError(
            f"source {source.name!r} names no {kind} server; "
            + (f"the connections are {some(fitting)}" if fitting else "feature_store.yaml has no connection to one"),
            hint="give connection_ref=" if fitting else f"add `connections: {{NAME: {{type: {kind}, …}}}}` there",
            where=source.where,
        )  # fmt: skip

    def unlisted(self, source: Source) -> list[str]:
        """The variables that a source uses and the configuration neither lists nor uses itself."""
        used = variables_in(source.connection)
        if isinstance(source, LogSource) and isinstance(source.message_format.registry, str):
            used += variables_in(source.message_format.registry)
        allowed = self._config.own_variables.union(self._config.environment)
        return [name for name in dict.fromkeys(used) if name not in allowed]

    def _expanded(self, source: Source, value: Any) -> Any:
        """What a definition says, with its variables replaced.

        A definition of this repository could read the environment anyway; one from the registry was written by
        whoever may write that, and names only what this machine's configuration names.
        """
        unlisted = self.unlisted(source) if source.is_applied else []
        if unlisted:
            names = ", ".join((*self._config.environment, *unlisted))
            raise ConfigError(
                f"source {source.name!r} uses the environment variable {unlisted[0]}, which feature_store.yaml does "
                "not list: definitions come from the registry",
                hint=f"if they may read it, write `environment: [{names}]` there", where=source.where,
            )  # fmt: skip
        return expanded(value, self._environ, where=source.where)

    def _named(self, source: Source, kind: str) -> SourceConnection:
        named = self._config.connections
        part = named.get(source.connection_ref)
        if part is None:
            raise ConfigError(
                f"source {source.name!r}: there is no connection {source.connection_ref!r} in feature_store.yaml",
                hint=nearest(source.connection_ref, named) or f"the connections are {some(named)}", where=source.where,
            )  # fmt: skip
        if part.type != kind:
            raise ConfigError(
                f"source {source.name!r}: connection {source.connection_ref!r} is of type {part.type!r}",
                hint=f"name one of type {kind!r}", where=source.where,
            )  # fmt: skip
        return SourceConnection(f"connections.{source.connection_ref}", part.options, part.where)

    def schema_registry(self, source: LogSource) -> SourceConnection:
        """The schema registry for the messages of a source.

        Raises:
            ConfigError: as `of` does.
        """
        named, said = self._config.connections, source.message_format.registry
        if isinstance(said, str) and "://" in said:
            return SourceConnection(f"source {source.name!r}", {"url": self._expanded(source, said)}, source.where)
        fitting = [name for name, part in named.items() if part.type == SCHEMA_REGISTRY]
        chosen = said if isinstance(said, str) else fitting[0] if len(fitting) == 1 else ""
        if chosen not in fitting:
            raise ConfigError(
                f"source {source.name!r}: there is no connection {chosen!r} of type {SCHEMA_REGISTRY}"
                if chosen
                else f"source {source.name!r} names no schema registry",
                hint=f"write registry= as one of {some(fitting)}" if fitting
                else f"add `connections: {{schemas: {{type: {SCHEMA_REGISTRY}, url: …}}}}` to feature_store.yaml",
                where=source.where,
            )  # fmt: skip
        return SourceConnection(f"connections.{chosen}", named[chosen].options, named[chosen].where)
