"""`feature_store.yaml`: read, checked and expanded into plain data. The reference in the docs is generated from `REFERENCE`."""

from asof.config.loading import Part, StoreConfig, environments, load_config
from asof.config.reference import REFERENCE, Option

__all__ = ["REFERENCE", "Option", "Part", "StoreConfig", "environments", "load_config"]
