"""The demo's feature repository: the files of `template/`, and the request that the story makes of them."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from asof.timing import Micros, iso

SERVICE = "order_model"
ENTITY_FRAME = "SELECT user_id, order_id, ordered_at AS event_timestamp FROM orders ORDER BY order_id"
"""Every order at its own time: the rows of the training set, as SQL over the sources by name."""

TRAINING_COLUMNS = (
    "user_id",
    "order_id",
    "event_timestamp",
    "session_listing_page_views",
    "session_product_page_views",
    "session_photo_page_views",
    "country",
    "platform",
    "views_1d",
    "views_7d",
    "last_page_1h",
    "product_per_listing",
    "photo_share",
)
"""The columns of `training_set.parquet` in the order in which a reader meets them in the story."""

TRAFFIC_RECORD = """\
{"type": "record", "name": "PageView", "fields": [
    {"name": "user_id", "type": "long"},
    {"name": "page", "type": "string"},
    {"name": "timestamp", "type": "long"}
]}"""
"""A page view as an Avro record."""

_CLOCK = re.compile(r"^clock: .*$", re.MULTILINE)
_SERVERS_PROJECT = "asof_demo"
_VIEWS = "# ---- Views"
_STREAM = "# A stream of JSON messages."
_TOPIC = "# A topic of messages."
_REGISTRY = re.compile(r"^registry:\n(?:  .*\n)+", re.MULTILINE)
_FILE_LOG = "  type: file\n  path: data/log\n"
_LOCAL_LOG = (
    f"{_FILE_LOG}  # Other machines that use this registry would not see the log: this store is for one machine.\n"
    "  local: true\n"
)
_CONNECTIONS = "# Servers by name, for sources. The shop's own database.\nconnections:\n"
_CLOCK_COMMENT = "# The store's now."
_DUCKDB = "  type: duckdb\n  path: data/archive\n"
_POSTGRES = "  type: postgres\n  url: ${ASOF_POSTGRES}\n  schema: asof_demo\n"
_JSON = '    message_format="json",\n'
_AVRO = "    message_format=AvroFormat(schema_json=PAGE_VIEW),\n"


def write_repository(folder: Path | str, *, clock: Micros) -> list[Path]:
    """Write `feature_store.yaml` and `features.py` into `folder`, which is created if missing.

    The repository reads `../source/users.parquet` and `../source/orders.parquet`, next to `folder`.

    Args:
        clock: the moment at which the store's clock starts, microseconds.

    Returns:
        The written files.
    """
    return _write(folder, settings=_template("feature_store.yaml"), features=_template("features.py"), clock=clock)


def write_server_repository(
    folder: Path | str, *, clock: Micros, project: str, offline: str, message_format: str
) -> list[Path]:
    """The same repository with its sources and stores on servers: only `feature_store.yaml` and the sources differ.

    Args:
        project: also the Postgres schema, and what the topic's name begins with.
        offline: `duckdb` or `postgres`.
        message_format: `json` or `avro`.
    """
    settings = _template("servers/feature_store.yaml")
    views = _template("features.py")
    features = _template("servers/sources.txt").rstrip() + "\n\n\n" + views[views.index(_VIEWS) :]
    if offline == "postgres":
        settings = _replaced(settings, _DUCKDB, _POSTGRES)
    if message_format == "avro":
        features = _with_avro(features)
    settings, features = (text.replace(_SERVERS_PROJECT, project) for text in (settings, features))
    return _write(folder, settings=settings, features=features, clock=clock)


def write_bucket_repository(
    folder: Path | str,
    *,
    clock: Micros,
    address: str,
    endpoint: str = "",
    project: str = "",
    message_format: str = "json",
    spark: str = "",
) -> list[Path]:
    """The same repository with users, orders, registry, archive and training sets in a bucket.

    Args:
        address: such as `s3://bucket/demo`; the sources are in its folder `source`.
        endpoint: URL of the bucket's server; empty is the provider's own.
        project: where traffic and serving are on servers: their project, and what the topic's name begins with.
        message_format: there: `json` or `avro`.
        spark: the Spark Connect server that computes history; empty for DuckDB.
    """
    features = _template("features.py")
    if project:
        settings = _template("servers/feature_store.yaml")
        connections, clock_line = settings.index(_CONNECTIONS), settings.index(_CLOCK_COMMENT)
        settings = settings[:connections] + settings[clock_line:]
        topic = _template("servers/sources.txt")
        traffic = topic[topic.index(_TOPIC) :].rstrip() + "\n\n\n"
        features = features[: features.index(_STREAM)] + traffic + features[features.index(_VIEWS) :]
        (source,) = re.findall(r"^traffic = (\w+)\(", traffic, re.MULTILINE)
        features = _replaced(features, "    LogSource,\n", f"    {source},\n")
        features = _replaced(features, "one stream of website traffic", "one topic of website traffic")
        if message_format == "avro":
            features = _with_avro(features)
        settings, features = (text.replace(_SERVERS_PROJECT, project) for text in (settings, features))
    else:
        settings = _replaced(_template("feature_store.yaml"), _FILE_LOG, _LOCAL_LOG)
    for name in ("users", "orders"):
        features = _replaced(features, f'path="../source/{name}.parquet"', f'path="{address}/source/{name}.parquet"')
    registry = f"registry:\n  registry_type: object\n  path: {address}/registry\n"
    settings, found = _REGISTRY.subn(registry, settings)
    assert found == 1, f"the template has {found} registries"
    engine = f"  type: spark\n  remote: {spark}\n" if spark else "  type: duckdb\n"
    settings = _replaced(settings, _DUCKDB, f"{engine}  path: {address}/history\n{_storage(endpoint)}")
    return _write(folder, settings=settings, features=features, clock=clock)


def _storage(endpoint: str) -> str:
    """The section that says where the bucket is; keys come from the environment, or from the machine's role."""
    if not endpoint:
        return ""
    is_plain = "  allow_http: true\n" if endpoint.startswith("http://") else ""
    comment = "# How the bucket is reached. Its keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role."
    return f"\n{comment}\nstorage:\n  endpoint: {endpoint}\n{is_plain}"


def _with_avro(features: str) -> str:
    """The sources, with the traffic as Avro messages."""
    features = _replaced(features, "    Aggregation,\n", "    Aggregation,\n    AvroFormat,\n")
    features = _replaced(features, _JSON, _AVRO)
    schema = f'# The schema that each message was written with.\nPAGE_VIEW = """{TRAFFIC_RECORD}"""\n\n'
    return _replaced(features, _TOPIC, f"{schema}{_TOPIC}")


def _template(name: str) -> str:
    return files("asof.demo").joinpath("template").joinpath(name).read_text(encoding="utf-8")


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"the template has {text.count(old)} of {old!r}"
    return text.replace(old, new)


def _write(folder: Path | str, *, settings: str, features: str, clock: Micros) -> list[Path]:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"feature_store.yaml": _CLOCK.sub(f"clock: {iso(clock)}", settings), "features.py": features}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
