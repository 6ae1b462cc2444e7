"""The OpenAPI 3.1 document, generated from the table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from asof.distribution import installed_version
from asof.server.http.route import Route
from asof.server.read.responses import ARROW

REFUSALS: dict[int, str] = {
    400: "The body is not JSON.",
    401: "No credentials, or invalid ones.",
    403: "The caller lacks the role.",
    404: "The request names an object that does not exist.",
    408: "The request took too long to arrive.",
    413: "The body is too large, or has too many rows.",
    422: "The request is invalid; `message` says why.",
    424: "A function or a source of the project failed.",
    503: "The server is overloaded, or a store is unreachable. Retry after `Retry-After` seconds.",
}

_ERROR = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "description": "The class of the error, such as `UnknownFeature`."},
        "message": {"type": "string"},
        "hint": {"type": "string", "description": "The next step; may be empty."},
        "where": {"type": "string", "description": "`file:line` of the definition, if the error is about one."},
    },
    "required": ["code", "message", "hint"],
}
_FEAST = {
    "type": "string",
    "description": "JSON text with `module`, `class` and `message`, as Feast's client parses it, and Asof's `code` and "
    "`hint`.",
}
_CONFLICT = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "feature_views": {"type": "array", "items": {"type": "string"}},
        "job": {"type": "string"},
    },
    "required": ["error", "feature_views"],
}
_STATUSES = {"type": "string", "enum": ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_JOB = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "state": {"type": "string", "enum": ["running", "done", "failed"]},
        "feature_views": _TEXTS,
        "start_ts": {"type": ["string", "null"]},
        "end_ts": {"type": ["string", "null"]},
        "started": {"type": "string"},
        "caller": {"type": "string"},
        "ended": {"type": "string"},
        "progress": {"type": "object"},
        "result": {"type": "array", "items": {"type": "object"}},
        "error": {"$ref": "#/components/schemas/Error"},
    },
    "required": ["id", "state", "feature_views", "started"],
}
_VALUES: dict[str, Any] = {"type": "array", "items": {}}

ANSWERS: dict[str, dict[str, Any]] = {
    "/get-online-features": {
        "type": "object",
        "properties": {
            "results": {
                "type": "array",
                "description": "One per name in `feature_names`, in the same order.",
                "items": {
                    "type": "object",
                    "properties": {
                        "values": _VALUES,
                        "statuses": {"type": "array", "items": _STATUSES},
                        "event_timestamps": {"type": "array", "items": {"type": "string", "format": "date-time"}},
                    },
                    "required": ["values", "statuses", "event_timestamps"],
                },
            },
            "metadata": {
                "type": "object",
                "properties": {"feature_names": _TEXTS, "feature_view_metadata": {"type": "array"}},
                "required": ["feature_names"],
            },
        },
        "required": ["results", "metadata"],
    },
    "/v1/features": {
        "type": "object",
        "properties": {
            "names": _TEXTS,
            "rows": {"type": "array", "items": _VALUES},
            "statuses": {"type": "array", "items": {"type": "array", "items": _STATUSES}},
            "event_times": {"type": "array", "items": {"type": "array", "items": {"type": ["string", "null"]}}},
        },
        "required": ["names", "rows"],
    },
    "/write-to-online-store": {"type": "null"},
    "/materialize": {"type": "null"},
    "/materialize-incremental": {"type": "null"},
    "/jobs": {"type": "object", "properties": {"jobs": {"type": "array", "items": _JOB}}, "required": ["jobs"]},
    "/jobs/{id}": _JOB,
    "/ready": {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]},
    "/openapi.json": {"type": "object"},
}
"""Path → schema of its JSON response; other paths return no JSON."""

_ACCEPTED = {"type": "object", "properties": {"status": {"const": "accepted"}}, "required": ["status"]}


def document(routes: Sequence[Route[Any]]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    contents = [route.content for route in routes if route.content is not None]
    schemas, components = msgspec.json.schema_components(contents, ref_template="#/components/schemas/{name}")
    of_content = dict(zip(contents, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of_content)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Asof feature server",
            "version": installed_version(),
            "description": "Current feature values. Routes of Feast's feature server keep its requests and responses.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR, "FeastError": _FEAST},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route[Any], of_content: dict[type, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "responses": {str(status): answer for status, answer in sorted(_responses(route).items())},
    }
    if route.action is not None:
        operation["security"] = [{"bearer": []}, {}]
        operation["description"] = f"Needs the role `{route.action}`."
    if route.content is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": of_content[route.content]}},
        }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "description": text, "schema": {"type": "boolean", "default": False}}
        for name, text in route.query.items()
    ]
    if "{id}" in route.path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    if parameters:
        operation["parameters"] = parameters
    return operation


def _responses(route: Route[Any]) -> dict[int, Any]:
    good: dict[str, Any] = {"description": HTTPStatus.OK.phrase}
    if route.path in ANSWERS:
        good["content"] = {"application/json": {"schema": ANSWERS[route.path]}}
    if route.path == "/v1/features":
        good["content"][ARROW] = {}
    if route.path == "/metrics":
        good["content"] = {"text/plain": {"schema": {"type": "string"}}}
    responses = {200: good}
    error = {"$ref": "#/components/schemas/" + ("FeastError" if route.is_feast else "Error")}
    for status, text in route.answers.items():
        schema = {202: _ACCEPTED, 409: _CONFLICT, 503: ANSWERS["/ready"]}[status]
        responses[status] = {"description": text, "content": {"application/json": {"schema": schema}}}
    for status in _refusals(route):
        responses.setdefault(
            status, {"description": REFUSALS[status], "content": {"application/json": {"schema": error}}}
        )
    return responses


def _refusals(route: Route[Any]) -> list[int]:
    if route.action is None:
        return []
    known = [401, 403, 408, 413, 503]
    if route.content is not None:
        known += [400, 404, 422, 424]
    if "{" in route.path:
        known.append(404)
    return known
