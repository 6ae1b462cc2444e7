"""From `feature_store.yaml`, its overlay and the environment to a StoreConfig."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asof.config.auth import Auth, read_auth
from asof.config.documents import Value, overlay, read_document
from asof.config.options import options_of_section
from asof.config.parts import Part, PartReader, default_type, ignored
from asof.config.reading import read_options, read_value
from asof.config.reference import CONNECTIONS, SECTIONS, options_of
from asof.config.sections import Server, Top
from asof.errors import ConfigError, nearest, some

FILE = "feature_store.yaml"

_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class StoreConfig:
    """All that `feature_store.yaml` says.

    Args:
        log: where the events of log sources and pushed rows stand.
        connections: servers by name, which sources and stores may name.
        clock: the store's now as ISO 8601 text; None is the system's.
        path: the repository's root, absolute.
        env: the environment asked for; empty for none.
        notes: what was taken but has no meaning here.
        auth: who may use the feature server.
        server: how it runs: what `server:` says, and nothing else.
    """

    project: str
    registry: Part
    offline_store: Part
    online_store: Part
    log: Part
    clock: str | None
    path: Path
    env: str = ""
    notes: tuple[str, ...] = ()
    connections: Mapping[str, Part] = field(default_factory=dict)
    auth: Auth = field(default_factory=Auth)
    server: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The configuration as it may be shown and logged: without secrets."""
        parts = {section: getattr(self, section).describe() for section in SECTIONS}
        if self.connections:
            parts[CONNECTIONS] = {name: each.describe() for name, each in self.connections.items()}
        return {"project": self.project, "path": str(self.path), "env": self.env, "clock": self.clock, **parts}


def environments(root: Path | str) -> list[str]:
    """The environments that the repository has a `feature_store.<env>.yaml` for."""
    return sorted(each.name[len("feature_store.") : -len(".yaml")] for each in Path(root).glob("feature_store.*.yaml"))


def load_config(root: Path | str, *, env: str = "", environ: Mapping[str, str] | None = None) -> StoreConfig:
    """Read `feature_store.yaml` in `root`, with `feature_store.<env>.yaml` over it.

    The overlay is merged deeply: its values replace those of the base key by key, and what it leaves out is the base's.
    A part whose `type` the overlay changes is replaced whole. Only values that are still there after that are expanded.
    A repository may also have overlays only; each is then whole by itself.

    Args:
        environ: what `${VAR}` is read from; the process's environment where None.

    Raises:
        ConfigError: a file is missing, not well formed, or holds what nobody knows.
    """
    root = Path(root).resolve()
    document, base = _read(root, env)
    document = document.expand(os.environ if environ is None else environ)
    reader = PartReader(root)
    parts = _sections(document, reader, env=env)
    if env and base is not None:
        unsplit = _shared(base, document)
        if unsplit:
            reader.notes.append(f"environment {env!r} has the same project and {unsplit} as {FILE} itself")
    return StoreConfig(**parts, path=root, env=env, notes=tuple(reader.notes))


def _sections(document: Value, reader: PartReader, *, env: str) -> dict[str, Any]:
    """All of a document but what it says of environments."""
    known = options_of_section(Top)
    written = document.content
    for key, value in written.items():
        if key in Top.FEAST_KEYS:
            reader.notes.append(ignored(key, value))
        elif key not in known:
            raise _unknown_top_key(key, value, known)
    if "project" not in written:
        file = f"feature_store.{env}.yaml" if env else FILE
        raise ConfigError(
            "no `project`", hint="add a line such as `project: shop`", where=document.where or f"{file}:1"
        )

    def value_of(name: str) -> Any:
        shape = known[name].shape
        return read_value(shape, written[name], path=name, root=reader.root) if name in written else None

    project, connections = value_of("project"), reader.connections(written.get(CONNECTIONS))
    stores = {section: reader.part(section, written.get(section), connections=connections) for section in SECTIONS}
    server = written.get("server")
    return {
        "project": project,
        **stores,
        "clock": value_of("clock"),
        "connections": connections,
        "auth": read_auth(written.get("auth"), root=reader.root),
        "server": {}
        if server is None
        else read_options(options_of_section(Server), server, path="server", root=reader.root),
    }


def _read(root: Path, env: str) -> tuple[Value, Value | None]:
    """The document to use, and the base where an overlay was laid over one."""
    path = root / FILE
    base = read_document(path, shown=FILE) if path.is_file() else None
    if not env:
        if base is None:
            others = environments(root)
            raise ConfigError(
                f"no {FILE} in {root}",
                hint=f"give --env {others[0]}, or another folder"
                if others
                else "run `asof init` to begin a feature repository here",
            )
        return base, None
    if not _ENVIRONMENT.fullmatch(env):
        raise ConfigError(f"environment {env!r}: expected letters, digits, '_' and '-'", hint="choose another name")
    name = f"feature_store.{env}.yaml"
    if not (root / name).is_file():
        known = environments(root)
        raise ConfigError(
            f"no {name} in {root}",
            hint=nearest(env, known)
            or (f"the environments are {some(known)}" if known else f"write {name} with what differs from {FILE}"),
        )
    over = read_document(root / name, shown=name)
    return (overlay(base, over), base) if base is not None else (over, None)


def _shared(base: Value, document: Value) -> str:
    """The stores that an environment has in common with the base, where the project's name does not part them."""
    if document.content["project"].content != base.content.get("project", document.content["project"]).content:
        return ""
    same = [
        section for section in ("registry", "online_store")
        if section not in document.content or _written(base.content.get(section)) == _written(document.content[section])
    ]  # fmt: skip
    return " and ".join(same)


def _written(value: Value | None) -> Any:
    return None if value is None else value.plainly()


def _unknown_top_key(key: str, value: Value, known: Collection[str]) -> ConfigError:
    elsewhere = [each for each in SECTIONS if key in options_of(each, default_type(each))]
    hint = nearest(key, known) or (
        f"it is a key of {elsewhere[0]}: check the indentation" if elsewhere else f"the keys are {', '.join(known)}"
    )
    return ConfigError(f"{FILE} has no key {key!r}", hint=hint, where=value.where)
