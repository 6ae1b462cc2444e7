"""CORS: web pages of other origins may read responses only if `auth.origins` names them."""

from __future__ import annotations

from typing import Any

from asof.config.auth import Auth


def with_pages(app: Any, auth: Auth) -> Any:
    """The ASGI application, with CORS for `auth.origins`."""
    if not auth.origins:
        return app
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        app, allow_origins=auth.origins, allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key"], max_age=600,
    )  # fmt: skip
