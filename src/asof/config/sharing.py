"""The stores that an environment shares with another of its repository under the same project name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asof.config.loading import FILE, StoreConfig, environments, part_in
from asof.config.products import ProductConfig
from asof.secrets import masked

_PARTED_BY_PROJECT = ("log", "offline_store")
"""Stores of events and archives: what one environment writes, the other trains on; a purge deletes both."""

_LOCATIONS = ("path", "url", "host", "port", "database", "schema")
_USER_INFO = re.compile(r"(?<=://)[^/@]*@")


def shared_stores(config: StoreConfig, environ: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """The repository's other configuration files → the sections whose topics or archives are this configuration's, too.

    Environments with unset variables are left out.
    """
    environ = os.environ if environ is None else environ
    shared: dict[str, list[str]] = {}
    used = (Path(config.file) if config.file else config.path / FILE, config.env)
    for base in dict.fromkeys([config.path / FILE, used[0]]):
        for env in ["", *environments(base.parent, stem=base.stem)] if base.is_file() else environments(base.parent):
            overlay = base.with_name(f"{base.stem}.{env}.yaml") if env else base
            if (base, env) == used or (overlay, "") == used:
                continue
            same = []
            for section in _PARTED_BY_PROJECT:
                found = part_in(base, env, section, environ)
                own: ProductConfig = getattr(config, section)
                if found is not None and _is_one_place((config.project, own), found):
                    same.append(section)
            if same:
                shared[overlay.name] = same
    return shared


def place_of(part: ProductConfig) -> str:
    """A store's location for display: its product, and its file or server."""
    said = masked(_place(part))
    return " ".join([part.type, *(" ".join(str(said[key]).split()) for key in _LOCATIONS if said.get(key) is not None)])


def _place(part: ProductConfig) -> dict[str, Any]:
    options = dict(part.options)
    for name in ("path", "url"):
        text = str(options.get(name) or "")
        if "://" in text:
            # Two users of one server write to the same store.
            options[name] = _USER_INFO.sub("", text)
        elif text and name == "path":
            options[name] = str(Path(text).resolve())
    return options


def _is_one_place(one: tuple[str, ProductConfig], other: tuple[str, ProductConfig]) -> bool:
    parts = one[1], other[1]
    if parts[0].type != parts[1].type:
        return False
    if parts[0].type == "kafka":
        # Topic names follow from the project only where no prefix is given.
        prefixes = {part.options.get("topic_prefix", f"{project}.") for project, part in (one, other)}
        servers = [set(part.options.get("bootstrap_servers", ())) for part in parts]
        return len(prefixes) == 1 and bool(servers[0] & servers[1])
    options = _place(parts[0]), _place(parts[1])
    said = options[0].keys() | options[1].keys()
    keys = [key for key in _LOCATIONS if key in said] or sorted(said)
    return one[0] == other[0] and all(options[0].get(key) == options[1].get(key) for key in keys)
