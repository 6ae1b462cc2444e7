"""HTTP without redirects, for requests that carry credentials or fetch what has to be trusted."""

from __future__ import annotations

from typing import Any
from urllib.request import HTTPRedirectHandler


class NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: it could lead away from https, and urllib would send credentials to any host it names."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None
