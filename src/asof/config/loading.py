"""From `feature_store.yaml`, its overlay and the environment to a StoreConfig."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import Any

from asof.config.auth import Auth, read_auth
from asof.config.documents import LocatedValue, overlay, read_document
from asof.config.options import options_of_section
from asof.config.products import ProductConfig, ProductConfigReader, default_type, ignored
from asof.config.reading import read_options, read_section, read_value
from asof.config.reference import CONNECTIONS, SECTIONS, options_of
from asof.config.schedule import ScheduledJob, read_schedule
from asof.config.sections import LoggingSection, MessagesSection, ProjectSection, ServerSection, StorageSection
from asof.errors import ConfigError, nearest, some
from asof.values.local_paths import NotLocal, local_path

FILE = "feature_store.yaml"

_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class StoreConfig:
    """The contents of `feature_store.yaml`.

    Args:
        log: the log of log sources and pushed rows.
        connections: servers by name, for sources and stores.
        clock: the store's now as ISO 8601 text; None is the system's.
        path: the repository's root, absolute.
        file: absolute path of the configuration file, if one was given; empty for the root's own.
        env: the environment asked for; empty for none.
        notes: accepted settings that are ignored.
        auth: who may use the feature server.
        server: how it runs: only the options given under `server:`.
        messages: bounds on messages.
        storage: how object storage is reached.
        logging: what long-running commands log.
        schedule: the jobs of `asof run`.
        environment: the environment variables that applied definitions may use, with `own_variables`.
        own_variables: those that the file itself uses.
        written: the sections of the online store and of the connections as written, with variables not yet expanded;
            None where the configuration was made in code.
    """

    project: str
    registry: ProductConfig
    offline_store: ProductConfig
    online_store: ProductConfig
    log: ProductConfig
    clock: str | None
    path: Path
    env: str = ""
    notes: tuple[str, ...] = ()
    connections: Mapping[str, ProductConfig] = field(default_factory=dict)
    auth: Auth = field(default_factory=Auth)
    server: Mapping[str, Any] = field(default_factory=dict)
    messages: MessagesSection = field(default_factory=MessagesSection)
    file: str = ""
    storage: StorageSection = field(default_factory=StorageSection)
    logging: LoggingSection = field(default_factory=LoggingSection)
    schedule: tuple[ScheduledJob, ...] = ()
    environment: tuple[str, ...] = ()
    own_variables: frozenset[str] = frozenset()
    written: LocatedValue | None = field(default=None, repr=False)

    def describe(self) -> dict[str, Any]:
        """The configuration for display and logs, without secrets."""
        parts = {section: getattr(self, section).describe() for section in SECTIONS}
        if self.connections:
            parts[CONNECTIONS] = {name: each.describe() for name, each in self.connections.items()}
        return {"project": self.project, "path": str(self.path), "env": self.env, "clock": self.clock, **parts}


def environments(root: Path | str, *, stem: str = Path(FILE).stem) -> list[str]:
    """The environments that the repository has a `feature_store.<env>.yaml` for."""
    return sorted(each.name[len(stem) + 1 : -len(".yaml")] for each in Path(root).glob(f"{escape(stem)}.*.yaml"))


def load_config(
    root: Path | str | None = None,
    *,
    file: Path | str | None = None,
    env: str = "",
    environ: Mapping[str, str] | None = None,
) -> StoreConfig:
    """Read `feature_store.yaml` in `root`, with `feature_store.<env>.yaml` over it.

    The overlay is merged deeply: its values replace those of the base key by key; the rest stays. A section whose
    `type` the overlay changes is replaced whole. Variables are expanded only in values that remain.
    A repository may also have overlays only; each is then whole by itself.

    Args:
        root: the repository; the file's folder where only that is given, else the working directory.
        file: the file to read in place of the root's `feature_store.yaml`, relative to the working directory; the
            overlay of `shop.yaml` is then `shop.<env>.yaml` in its folder.
        environ: the variables; None uses the process's environment.

    Raises:
        ConfigError: a file is missing, not well formed, or has unknown keys.
    """
    path = None if file is None else _given(file, root)
    if root is None:
        root = Path(".") if path is None else path.parent
    root = _local(root, "the repository").resolve()
    document, base = _read(path or root / FILE, env, is_given=path is not None)
    variables = document.variables
    own = {key: value for key, value in document.content.items() if key in _ELSEWHERE}
    written = LocatedValue(own, "map", document.where)
    document = document.expand(os.environ if environ is None else environ)
    shown = (path or root / FILE).name
    reader = ProductConfigReader(root)
    config = _sections(document, reader, shown=shown)
    if env and base is not None:
        unsplit = _shared(base, document)
        if unsplit:
            reader.notes.append(f"environment {env!r} has the same project and {unsplit} as {shown} itself")
    return StoreConfig(
        **config, path=root, env=env, notes=tuple(reader.notes), file="" if path is None else str(path),
        own_variables=variables, written=written,
    )  # fmt: skip


_ELSEWHERE = ("online_store", CONNECTIONS)
"""Sections that other processes open a store by."""


def online_store_in(written: LocatedValue, root: Path, environ: Mapping[str, str]) -> ProductConfig:
    """The online store of sections as `StoreConfig.written` has them, with the variables of this process.

    Raises:
        ConfigError: a variable is not set.
    """
    document = written.expand(environ)
    reader = ProductConfigReader(root)
    connections = reader.connections(document.content.get(CONNECTIONS))
    return reader.part("online_store", document.content.get("online_store"), connections=connections)


def _sections(document: LocatedValue, reader: ProductConfigReader, *, shown: str) -> dict[str, Any]:
    """The configuration of one document.

    Args:
        shown: the file's name in messages.
    """
    known = options_of_section(ProjectSection)
    written, root = document.content, reader.root
    for key, value in written.items():
        if key in ProjectSection.FEAST_KEYS:
            reader.notes.append(ignored(key, value))
        elif key not in known:
            raise _unknown_top_key(key, value, known, shown=shown)
    if "project" not in written:
        where = document.where or f"{shown}:1"
        raise ConfigError("no `project`", hint="add a line such as `project: shop`", where=where)
    project, connections = _value(written, "project", root=root), reader.connections(written.get(CONNECTIONS))
    stores = {section: reader.part(section, written.get(section), connections=connections) for section in SECTIONS}
    nothing = LocatedValue({}, "map", "")
    server = written.get("server", nothing)
    return {
        "project": project,
        **stores,
        "clock": _value(written, "clock", root=root),
        "environment": tuple(_value(written, "environment", root=root) or ()),
        "connections": connections,
        "auth": read_auth(written.get("auth"), root=root),
        "server": read_options(options_of_section(ServerSection), server, path="server", root=root),
        "storage": read_section(StorageSection, written.get("storage", nothing), path="storage", root=root),
        "schedule": read_schedule(written.get("schedule"), root=root),
        "logging": read_section(LoggingSection, written.get("logging", nothing), path="logging", root=root),
        "messages": read_section(MessagesSection, written.get("messages", nothing), path="messages", root=root),
    }


def _value(written: Mapping[str, LocatedValue], name: str, *, root: Path) -> Any:
    """A top-level value, or None."""
    shape = options_of_section(ProjectSection)[name].shape
    return read_value(shape, written[name], path=name, root=root) if name in written else None


def _local(place: Path | str, what: str) -> Path:
    try:
        return Path(local_path(str(place))).expanduser()
    except NotLocal as error:
        raise ConfigError(f"{what}: {error}", hint="give a path on this machine") from error


def _given(file: Path | str, root: Path | str | None) -> Path:
    """Absolute path of the given configuration file."""
    path = Path(os.path.abspath(_local(file, "the configuration file")))
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(
            f"{path} is a folder, not a configuration file", hint=f"name the file, as in {path / FILE}, or give the "
            "folder as repo_path"
        )  # fmt: skip
    below = None if root is None else Path(root) / file
    near = get_close_matches(path.name, [each.name for each in path.parent.glob("*.y*ml")], n=1)
    raise ConfigError(
        f"there is no configuration file {path}",
        hint=f"it is relative to the working directory: {below} is there"
        if below is not None and below.is_file()
        else f"did you mean {near[0]!r}?"
        if near
        else "check the path, which is relative to the working directory",
    )


def _read(path: Path, env: str, *, is_given: bool) -> tuple[LocatedValue, LocatedValue | None]:
    """The document to use, and the base if the document is overlaid on one.

    Args:
        is_given: `path` was given explicitly and exists.
    """
    root, stem = path.parent, path.stem
    base = read_document(path, shown=path.name) if path.is_file() else None
    if not env:
        if base is None:
            others = environments(root)
            raise ConfigError(
                f"no {FILE} in {root}",
                hint=f"give --env {others[0]}, or another folder"
                if others
                else "run `asof init` to create a feature repository here",
            )
        below, dot, other = stem.rpartition(".")
        if is_given and dot and "project" not in base.content:
            raise ConfigError(
                f"{path.name} has no `project`, and a file given by name is read on its own",
                hint=f"if it is an overlay of {below}.yaml, give environment {other!r} instead of the file",
                where=f"{path.name}:1",
            )  # fmt: skip
        return base, None
    if not _ENVIRONMENT.fullmatch(env):
        raise ConfigError(f"environment {env!r}: expected letters, digits, '_' and '-'", hint="choose another name")
    name = f"{stem}.{env}.yaml"
    if not (root / name).is_file():
        known = environments(root, stem=stem)
        raise ConfigError(
            f"no {name} in {root}",
            hint=nearest(env, known)
            or (f"the environments are {some(known)}" if known else f"write {name} with what differs from {path.name}"),
        )
    over = read_document(root / name, shown=name)
    return (overlay(base, over), base) if base is not None else (over, None)


def part_in(file: Path, env: str, section: str, environ: Mapping[str, str]) -> tuple[str, ProductConfig] | None:
    """The project and one store of another environment; None where they cannot be determined.

    Args:
        file: the configuration file that the environment's overlay, if any, applies to.

    Unset variables are not an error: the other environment may be for another machine.
    """
    try:
        document, _ = _read(file, env, is_given=False)
        wanted = {key: _expanded_where_set(document.content[key], environ)
                  for key in ("project", CONNECTIONS, section) if key in document.content}  # fmt: skip
        if "project" not in wanted:
            return None
        reader = ProductConfigReader(file.parent)
        project = _value(wanted, "project", root=file.parent)
        connections = reader.connections(wanted.get(CONNECTIONS))
        return project, reader.part(section, wanted.get(section), connections=connections)
    except ConfigError:
        return None


def _expanded_where_set(value: LocatedValue, environ: Mapping[str, str]) -> LocatedValue:
    if value.tag == "map":
        content = {key: _expanded_where_set(each, environ) for key, each in value.content.items()}
        return LocatedValue(content, "map", value.where)
    try:
        return value.expand(environ)
    except ConfigError:
        return value


def _shared(base: LocatedValue, document: LocatedValue) -> str:
    """The stores that an environment shares with the base under the same project name."""
    if document.content["project"].content != base.content.get("project", document.content["project"]).content:
        return ""
    same = [
        section for section in ("registry", "online_store")
        if section not in document.content or _written(base.content.get(section)) == _written(document.content[section])
    ]  # fmt: skip
    return " and ".join(same)


def _written(value: LocatedValue | None) -> Any:
    return None if value is None else value.plainly()


def _unknown_top_key(key: str, value: LocatedValue, known: Collection[str], *, shown: str) -> ConfigError:
    elsewhere = [each for each in SECTIONS if key in options_of(each, default_type(each))]
    hint = nearest(key, known) or (
        f"it is a key of {elsewhere[0]}: check the indentation" if elsewhere else f"the keys are {', '.join(known)}"
    )
    return ConfigError(f"{shown} has no key {key!r}", hint=hint, where=value.where)
