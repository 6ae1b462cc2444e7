"""Asof: a feature store with point-in-time correct features for training, and the same values online for serving."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

from asof.distribution import DISTRIBUTION, install_command, namesake_in

if TYPE_CHECKING:
    from asof.client import AsyncClient, Client
    from asof.definitions import (
        Aggregation,
        AvroFormat,
        BatchFeatureView,
        CsvFormat,
        DeltaFormat,
        Entity,
        Expectation,
        FeatureService,
        FeatureView,
        Field,
        FileSource,
        JsonFormat,
        KafkaSource,
        LogSource,
        OnDemandFeatureView,
        ParquetFormat,
        PostgreSQLSource,
        PostgresSource,
        ProtoFormat,
        PushSource,
        RequestSource,
        Session,
        Sliding,
        StreamFeatureView,
        on_demand_feature_view,
    )
    from asof.errors import AsofError
    from asof.store import FeatureStore

_HOMES = {
    "AsyncClient": "asof.client",
    "Client": "asof.client",
    "AsofError": "asof.errors",
    "FeatureStore": "asof.store",
} | dict.fromkeys(
    (
        "Aggregation", "AvroFormat", "BatchFeatureView", "CsvFormat", "DeltaFormat", "Entity", "Expectation",
        "FeatureService", "FeatureView", "Field", "FileSource", "JsonFormat", "KafkaSource", "LogSource",
        "OnDemandFeatureView", "ParquetFormat", "PostgreSQLSource", "PostgresSource", "ProtoFormat", "PushSource",
        "RequestSource", "Session", "Sliding", "StreamFeatureView", "on_demand_feature_view",
    ),
    "asof.definitions",
)  # fmt: skip

__all__ = [
    "Aggregation", "AsofError", "AsyncClient", "AvroFormat", "BatchFeatureView", "Client", "CsvFormat", "DeltaFormat",
    "Entity", "Expectation", "FeatureService", "FeatureStore", "FeatureView", "Field", "FileSource", "JsonFormat",
    "KafkaSource", "LogSource", "OnDemandFeatureView", "ParquetFormat", "PostgreSQLSource", "PostgresSource",
    "ProtoFormat", "PushSource", "RequestSource", "Session", "Sliding", "StreamFeatureView", "on_demand_feature_view",
]  # fmt: skip

# Cheap: lists one directory, the one that the package is installed in.
if _namesake := namesake_in(os.path.dirname(os.path.dirname(__file__))):
    warnings.warn(
        f"another project named 'asof' ({_namesake}) is installed in the same directory as {DISTRIBUTION}; each "
        f"overwrites files of the other: run `pip uninstall asof`, then install Asof again ({install_command()})",
        stacklevel=2,
    )


def __getattr__(name: str) -> object:
    # Names import their module on first use, so that `import asof` is fast and imports no engine.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'asof' has no attribute {name!r}")
    from asof.errors import MissingExtra

    try:
        value = getattr(import_module(home), name)
    except MissingExtra as error:
        # The name is there without its packages, so that `help(asof)` and `from asof import *` work; using it fails.
        return _needs_packages(name, error)
    globals()[name] = value
    return value


def _needs_packages(name: str, error: Exception) -> type:
    def refuse(*_: object, **__: object) -> None:
        raise error

    return type(name, (), {"__init__": refuse, "__doc__": str(error), "__module__": __name__})


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
