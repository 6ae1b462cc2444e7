"""A lightweight client of a feature server, with the results and errors of `FeatureStore`."""

from asof.errors import MissingExtra

try:
    import httpx as _httpx  # noqa: F401
except ImportError as error:
    raise MissingExtra("the client of a feature server", "client") from error

from asof.client.aio import AsyncClient
from asof.client.sync import Client

__all__ = ["AsyncClient", "Client"]
