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

_FILES = ("feature_store.yaml", "features.py")
_CLOCK = re.compile(r"^clock: .*$", re.MULTILINE)


def write_repository(folder: Path | str, *, clock: Micros) -> list[Path]:
    """Write `feature_store.yaml` and `features.py` into `folder`, which is made where it is missing.

    The repository reads `../source/users.parquet` and `../source/orders.parquet`, beside `folder`.

    Args:
        clock: the moment at which the store's clock starts, microseconds.

    Returns:
        The written files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    template = files("asof.demo").joinpath("template")
    written = []
    for name in _FILES:
        text = template.joinpath(name).read_text(encoding="utf-8")
        if name == "feature_store.yaml":
            text = _CLOCK.sub(f"clock: {iso(clock)}", text)
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written
