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
        features = _replaced(features, "    Aggregation,\n", "    Aggregation,\n    AvroFormat,\n")
        features = _replaced(features, _JSON, _AVRO)
        schema = f'# The schema that each message was written with.\nPAGE_VIEW = """{TRAFFIC_RECORD}"""\n\n'
        features = _replaced(features, "# A topic of messages.", f"{schema}# A topic of messages.")
    settings, features = (text.replace(_SERVERS_PROJECT, project) for text in (settings, features))
    return _write(folder, settings=settings, features=features, clock=clock)


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
