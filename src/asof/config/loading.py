"""From `feature_store.yaml`, its overlay and the environment to a StoreConfig."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import Any

from asof.config.auth import Auth, read_auth
from asof.config.documents import Value, overlay, read_document
from asof.config.reference import (
    CONNECTIONS,
    FEAST_KEYS,
    FEAST_TYPES,
    SECTIONS,
    Option,
    options_of,
    sections_keys,
    server_options,
)
from asof.config.secrets import masked
from asof.errors import ConfigError, nearest, some
from asof.timing import iso, micros
from asof.values.local_paths import NotLocal, local_path, scheme_of

FILE = "feature_store.yaml"

_PROJECT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# Whatever is no URL at all is libpq's to read: `host=db dbname=shop`.
_POSTGRES = re.compile(r"postgres(ql)?(\+\w+)?://|(?!\s*[A-Za-z][\w+.:-]*:/)", re.IGNORECASE)
_SIZE = re.compile(r"\d+(\.\d+)?\s*([KMGT]i?B|B|%)", re.IGNORECASE)
_DEFAULT_TYPES = {
    "registry": "sqlite",
    "offline_store": "duckdb",
    "online_store": "sqlite",
    "log": "file",
}


@dataclass(frozen=True)
class Part:
    """A product and its options, ready to be handed to it. Its `repr` hides secrets.

    Args:
        options: by name, in their types; paths are absolute; left-out options with a default have it.
        where: `file:line`; empty where the part was left out.
    """

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    def describe(self) -> dict[str, Any]:
        """Type and options as they may be shown."""
        return {"type": self.type, **masked(dict(self.options))}

    def __repr__(self) -> str:
        return f"Part({self.describe()})"


@dataclass(frozen=True)
class StoreConfig:
    """All that `feature_store.yaml` says.

    Args:
        log: where the events of log sources and pushed rows stand.
        connections: servers by name, which sources and stores may name.
        clock: the store's now as ISO 8601 text; None is the system's.
        path: the repository's root, absolute.
        file: the configuration file, absolute, where one was named; empty for the root's own.
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
    file: str = ""

    def describe(self) -> dict[str, Any]:
        """The configuration as it may be shown and logged: without secrets."""
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

    The overlay is merged deeply: its values replace those of the base key by key, and what it leaves out is the base's.
    A part whose `type` the overlay changes is replaced whole. Only values that are still there after that are expanded.
    A repository may also have overlays only; each is then whole by itself.

    Args:
        root: the repository; the file's folder where only that is given, else the working directory.
        file: the file to read in place of the root's `feature_store.yaml`, relative to the working directory; the
            overlay of `shop.yaml` is then `shop.<env>.yaml` in its folder.
        environ: what `${VAR}` is read from; the process's environment where None.

    Raises:
        ConfigError: a file is missing, not well formed, or holds what nobody knows.
    """
    path = None if file is None else _given(file, root)
    if root is None:
        root = Path(".") if path is None else path.parent
    root = _local(root, "the repository").resolve()
    document, base = _read(path or root / FILE, env, is_given=path is not None)
    document = document.expand(os.environ if environ is None else environ)
    shown = (path or root / FILE).name
    reader = _Reader(root, shown=shown)
    config = reader.config(document, env=env)
    if env and base is not None:
        unsplit = _shared(base, document)
        if unsplit:
            reader.notes.append(f"environment {env!r} has the same project and {unsplit} as {shown} itself")
    return StoreConfig(**config, path=root, env=env, notes=tuple(reader.notes), file="" if path is None else str(path))


def _local(place: Path | str, what: str) -> Path:
    try:
        return Path(local_path(str(place))).expanduser()
    except NotLocal as error:
        raise ConfigError(f"{what}: {error}", hint="name a place on this machine") from error


def _given(file: Path | str, root: Path | str | None) -> Path:
    """The configuration file that was named, absolute."""
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


def _read(path: Path, env: str, *, is_given: bool) -> tuple[Value, Value | None]:
    """The document to use, and the base where an overlay was laid over one.

    Args:
        is_given: `path` was named, and is there.
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
                else "run `asof init` to begin a feature repository here",
            )
        below, dot, other = stem.rpartition(".")
        if is_given and dot and "project" not in base.content:
            raise ConfigError(
                f"{path.name} has no `project`, and a file that is named is read alone, as it is",
                hint=f"if it holds what differs from {below}.yaml, ask for environment {other!r} in place of the file",
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


def part_in(file: Path, env: str, section: str, environ: Mapping[str, str]) -> tuple[str, Part] | None:
    """The project and one store of an environment that is not the one in use; None where they cannot be told.

    Args:
        file: the configuration file that the environment's overlay, if any, is laid over.

    Variables that are not set here stay as they are written: the other environment may be on another machine.
    """
    try:
        document, _ = _read(file, env, is_given=False)
        wanted = {key: _expanded_where_set(document.content[key], environ)
                  for key in ("project", CONNECTIONS, section) if key in document.content}  # fmt: skip
        reader = _Reader(file.parent, shown=file.name)
        project = reader._project(Value(wanted, "map", document.where), env)
        connections = reader._connections(wanted.get(CONNECTIONS))
        return project, reader._part(section, wanted.get(section), connections=connections)
    except ConfigError:
        return None


def _expanded_where_set(value: Value, environ: Mapping[str, str]) -> Value:
    if value.tag == "map":
        content = {key: _expanded_where_set(each, environ) for key, each in value.content.items()}
        return Value(content, "map", value.where)
    try:
        return value.expand(environ)
    except ConfigError:
        return value


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


class _Reader:
    """Checks a document against the reference, and gathers notes."""

    def __init__(self, root: Path, *, shown: str) -> None:
        self.root = root
        self.shown = shown
        self.notes: list[str] = []

    def config(self, document: Value, *, env: str) -> dict[str, Any]:
        known = sections_keys()
        for key, value in document.content.items():
            if key not in known:
                self._unknown(key, value, section="", known=known)
        config: dict[str, Any] = {"project": self._project(document, env), "clock": None}
        config[CONNECTIONS] = self._connections(document.content.get(CONNECTIONS))
        for section in SECTIONS:
            config[section] = self._part(section, document.content.get(section), connections=config[CONNECTIONS])
        config["auth"] = read_auth(document.content.get("auth"), root=self.root)
        config["server"] = self._server(document.content.get("server"))
        if "clock" in document.content:
            config["clock"] = self._option(known["clock"], document.content["clock"])
        return config

    def _project(self, document: Value, env: str) -> str:
        value = document.content.get("project")
        file = f"{Path(self.shown).stem}.{env}.yaml" if env else self.shown
        if value is None:
            raise ConfigError(
                "no `project`", hint="add a line such as `project: shop`", where=document.where or f"{file}:1"
            )
        name = str(self._option(sections_keys()["project"], value))
        if not _PROJECT.fullmatch(name) or "__" in name or len(name) > 63:
            raise ConfigError(
                f"project {name!r}: expected up to 63 letters, digits and '_', beginning with a letter, without a "
                "double underscore", hint="choose another name", where=value.where,
            )  # fmt: skip
        return name

    def _connections(self, written: Value | None) -> dict[str, Part]:
        if written is None:
            return {}
        if written.tag != "map":
            raise _wrong(CONNECTIONS, written, "names, each with a group of keys such as `type: postgres`")
        return {name: self._part(CONNECTIONS, each, name=name) for name, each in written.content.items()}

    def _server(self, written: Value | None) -> dict[str, Any]:
        if written is None:
            return {}
        if written.tag != "map":
            raise _wrong("server", written, "a group of keys such as `port: 6566`")
        known = server_options()
        for key, value in written.content.items():
            if key not in known:
                hint = nearest(key, known) or f"the keys are {', '.join(known)}"
                raise ConfigError(f"server has no key {key!r}", hint=hint, where=value.where)
        return {key: self._option(known[key], value) for key, value in written.content.items()}

    def _part(
        self, section: str, written: Value | None, *, name: str = "", connections: Mapping[str, Part] | None = None
    ) -> Part:
        shown = f"{section}.{name}" if name else section
        if written is not None and section == "registry" and written.tag == "str":
            content = {"path": written}
            if re.match(r"postgres(ql)?(\+\w+)?://", written.content):
                content["type"] = Value("postgres", "str", written.where)
            written = Value(content, "map", written.where)
        if written is not None and written.tag != "map":
            raise _wrong(shown, written, "a group of keys such as `type: …`")
        content = dict(written.content) if written is not None else {}
        where = written.where if written is not None else ""
        product = self._product(section, content, shown=shown, where=where)
        known = options_of(section, product)
        spelled = {other: each.name for each in known.values() for other in each.also} | {each: each for each in known}
        options: dict[str, Any] = {}
        for key, value in content.items():
            if key in spelled:
                if spelled[key] in options:
                    raise ConfigError(f"{shown} has {spelled[key]!r} twice", hint="keep one of them", where=value.where)
                options[spelled[key]] = self._option(replace(known[spelled[key]], section=shown), value)
            elif key in (*FEAST_KEYS[section], *FEAST_KEYS.get(f"{section}.{product}", ())):
                self._note(f"{section}.{key}", value)
            elif known:
                self._unknown(key, value, section=section, known={**known, "type": None}, product=product, shown=shown)
            else:
                # A product of another package, which knows its own options.
                options[key] = value.plainly()
        named = (
            self._named(options.pop("connection"), product, connections or {}, where) if "connection" in options else {}
        )
        for option in known.values():
            if option.default is not None and option.name not in options and option.name not in named:
                options[option.name] = self._path(str(option.default)) if option.kind == "path" else option.default
        return Part(product, {**named, **options}, where)

    def _named(self, name: str, product: str, connections: Mapping[str, Part], where: str) -> Mapping[str, Any]:
        """The options of a store's connection."""
        found = connections.get(name)
        if found is None:
            raise ConfigError(
                f"there is no connection {name!r}",
                hint=nearest(name, connections) or f"the connections are {some(connections)}", where=where,
            )  # fmt: skip
        if found.type != product:
            raise ConfigError(
                f"connection {name!r} is of type {found.type!r}", hint=f"name one of type {product!r}", where=where
            )
        return found.options

    def _product(self, section: str, content: dict[str, Value], *, shown: str, where: str) -> str:
        keys = [key for key in ("type", "registry_type") if key in content and (key == "type" or section == "registry")]
        if not keys and section not in _DEFAULT_TYPES:
            raise ConfigError(f"{shown} has no type", hint="add a line such as `type: postgres`", where=where)
        if not keys:
            return _DEFAULT_TYPES[section]
        if len(keys) > 1:
            raise ConfigError(
                "both `type` and `registry_type`", hint="keep `type`", where=content["registry_type"].where
            )
        value = content.pop(keys[0])
        if value.tag != "str" or not value.content:
            raise _wrong(f"{shown}.{keys[0]}", value, "a product's name")
        ours = FEAST_TYPES[section].get(value.content)
        if ours:
            self.notes.append(f"{value.where}: {section}.type {value.content} is {ours} here")
        return str(ours or value.content)

    def _option(self, option: Option, value: Value) -> Any:
        if option.kind == "list" and value.tag == "list":
            element = replace(option, kind="text")
            return [self._option(element, each) for each in value.content]
        if option.kind == "settings":
            return self._settings(option, value)
        expected, convert = _CONVERSIONS[option.kind]
        # What a variable holds is text: a project named 2024 must not become a number on the way.
        text_kinds = option.kind in ("text", "prefix", "path", "size", "moment", "list")
        fits = value.tag == "str" or value.expanded or (value.tag == "timestamp" and option.kind == "moment")
        if value.tag in ("map", "list", "null") or (text_kinds and not fits):
            raise _wrong(option.path, value, expected)
        try:
            converted = convert(value.content)
        except ValueError as error:
            raise _wrong(option.path, value, expected) from error
        if (option.product, option.name) == ("postgres", "url") and not _POSTGRES.match(value.content):
            raise ConfigError(
                f"{option.path}: expected postgresql://…, found {masked(value.content, name='url')!r}",
                hint=_supported(option, value.content) if scheme_of(value.content).startswith("sqlite")
                else "write postgresql://user:password@host:port/database", where=value.where,
            )  # fmt: skip
        # `sslrootcert: system` is libpq's word for what the machine trusts, and no file.
        return self._place(option, value) if option.kind == "path" and converted != "system" else converted

    def _settings(self, option: Option, value: Value) -> dict[str, Any]:
        if value.tag != "map":
            raise _wrong(option.path, value, "names, each with a value")
        for name, each in value.content.items():
            if each.tag in ("map", "list", "null"):
                raise _wrong(f"{option.path}.{name}", each, "text, a number, true or false")
        return {name: each.plainly() for name, each in value.content.items()}

    def _place(self, option: Option, value: Value) -> str:
        try:
            return self._path(local_path(value.content))
        except NotLocal as error:
            found = masked(value.content, name="path")
            raise ConfigError(
                f"{option.path} {found!r}: {error}", hint=_supported(option, value.content), where=value.where
            ) from error

    def _path(self, text: str) -> str:
        return str(self.root / Path(text).expanduser())

    def _note(self, path: str, value: Value) -> None:
        self.notes.append(f"{value.where}: {path} has no meaning in Asof and is ignored")

    def _unknown(
        self, key: str, value: Value, *, section: str, known: Mapping[str, Any], product: str = "", shown: str = ""
    ) -> None:
        if key in FEAST_KEYS[section]:
            self._note(key, value)
            return
        place = f"{shown} (type {product})" if product else self.shown
        elsewhere = [each for each in SECTIONS if key in options_of(each, _DEFAULT_TYPES[each])] if not section else []
        hint = nearest(key, known) or (
            f"it is a key of {elsewhere[0]}: check the indentation" if elsewhere else f"the keys are {', '.join(known)}"
        )
        raise ConfigError(f"{place} has no key {key!r}", hint=hint, where=value.where)


_SERVERS = {"postgres": "postgres", "postgresql": "postgres", "redis": "redis", "rediss": "redis"}
"""Scheme of a URL → the product that is reached by it."""


_ON_URL = {"registry": ("postgres",), "offline_store": ("postgres",), "online_store": ("postgres", "redis")}
"""Section → the products on a server that it may be."""


def _supported(option: Option, url: str) -> str:
    """What may stand where a URL was found."""
    local = "write a path on this machine, or file:///…"
    if scheme_of(url).partition("+")[0] == "sqlite":
        return "write the path of the file alone, such as data/registry.db, with `type: sqlite` or without a type"
    product = _SERVERS.get(scheme_of(url).partition("+")[0], "")
    if option.name == "path" and product in _ON_URL.get(option.section, ()):
        return f"give {option.section} `type: {product}` and `url:` in place of path; or {local}"
    if option.path == "registry.path":
        return f"{local}; or postgresql://…, for a registry on a server"
    return local


def _wrong(path: str, value: Value, expected: str) -> ConfigError:
    found = value.kind
    if value.tag not in ("map", "list", "null"):
        found += f" {masked(value.content, name=path.rpartition('.')[2])!r}"
    quote = value.tag in ("int", "float", "bool") and expected == "text"
    return ConfigError(
        f"{path}: expected {expected}, found {found}",
        hint="put it in quotes" if quote else f"give {path} {expected}",
        where=value.where,
    )


def _whole(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise ValueError("not positive")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError("not positive")
    return number


def _filled(text: str) -> str:
    if not text:
        raise ValueError("empty")
    return text


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("neither")
    return text.lower() == "true"


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text.strip()):
        raise ValueError("not a size")
    return text.strip()


_CONVERSIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "text": ("text", _filled),
    "prefix": ("text", str),
    "path": ("text", _filled),
    "size": ("a size such as 4GB", _size),
    "integer": ("a whole number above 0", _whole),
    "index": ("a whole number from 0", lambda text: _whole(text) if text.strip() != "0" else 0),
    "number": ("a number above 0", _positive),
    "flag": ("true or false", _flag),
    "list": ("a list of text", lambda text: [_filled(each.strip()) for each in text.split(",")]),
    "moment": ("a moment such as 2026-01-31T12:00:00Z", lambda text: iso(micros(text))),
}
"""Kind of an option → what is expected, in words, and how the text is read."""
