"""`feature_store.yaml`: read, checked and expanded into plain data; `REFERENCE` lists every key for the docs."""

from asof.config.auth import Auth
from asof.config.documents import expanded
from asof.config.loading import StoreConfig, environments, load_config
from asof.config.options import Option
from asof.config.products import ProductConfig
from asof.config.reference import REFERENCE
from asof.config.sharing import place_of, shared_stores

__all__ = [
    "REFERENCE",
    "Auth",
    "Option",
    "ProductConfig",
    "StoreConfig",
    "environments",
    "expanded",
    "load_config",
    "place_of",
    "shared_stores",
]
