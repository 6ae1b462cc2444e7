"""The handlers of the routes that read features."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from asof.errors import NotAllowed, NotFound, RequestError, UnknownFeature, nearest, some
from asof.online_response import OnlineResponse
from asof.server.http import requests
from asof.server.http.bodies import PARSED_ON_LOOP
from asof.server.http.errors import JSON
from asof.server.http.limits import CELL_BYTES, above, refuse_wide
from asof.server.http.route import HttpRequest, HttpResponse
from asof.server.http.visible import readable_references, readable_services, refuse_hidden_features
from asof.server.process.service import Service
from asof.server.read.online_reads import ROWS_ON_LOOP, PreparedRequest
from asof.server.read.responses import ARROW
from asof.values.json import read_columns


async def get_online_features(service: Service, request: HttpRequest) -> HttpResponse:
    """Features in Feast's response format: column by column."""
    content: requests.GetOnlineFeatures = request.content
    _refuse_many(service, content.features, content.entities)
    await refuse_repeated_names(
        service, request, content.entities, "entities", "features", "feature_service"
    )  # fmt: skip
    prepared = await _prepared(
        service, request, content.features, content.feature_service, content.full_feature_names, "feature_service"
    )
    response, is_large = await _read(service, request, prepared, content.entities)
    versions = content.include_feature_view_version_metadata
    if not is_large:
        return HttpResponse(prepared.encoder.feast(response, versions=versions))
    encode = partial(prepared.encoder.feast, response, versions=versions, is_shared=False)
    return HttpResponse(await service.in_reader(encode))


async def get_features(service: Service, request: HttpRequest) -> HttpResponse:
    """Features in Asof's response format: row by row, or as an Arrow stream."""
    content: requests.Features = request.content
    features = content.features if type(content.features) is list else ()
    if isinstance(content.entities, dict):
        _refuse_many(service, features, content.entities)
        await refuse_repeated_names(service, request, content.entities, "entities", "features", "service")
    else:
        _refuse_many(service, features, ())
        refuse_wide(max(content.entities, key=len, default={}), "columns", service.settings.max_features)
    prepared = await _prepared(
        service, request, content.features, content.service, content.full_feature_names, "service"
    )
    response, is_large = await _read(service, request, prepared, content.entities)
    options = {"statuses": content.statuses, "event_times": content.event_times}
    headers = [JSON]
    if ARROW.encode() in request.accept:
        encode = partial(prepared.encoder.arrow, response, **options)
        headers = [(b"content-type", ARROW.encode())]
    else:
        encode = partial(prepared.encoder.rows, response, types=content.types, **options)
    return HttpResponse(await service.in_reader(encode) if is_large else encode(), headers=headers)


def _refuse_many(service: Service, features: Collection[str] | None, columns: Collection[str]) -> None:
    most = service.settings.max_features
    refuse_wide(features or (), "features", most)
    refuse_wide(columns, "columns", most)


async def refuse_repeated_names(service: Service, request: HttpRequest, columns: Collection[str], *others: str) -> None:
    body = request.body
    if len(body) <= PARSED_ON_LOOP:
        requests.refuse_repeated_names(body, columns, *others)
    else:
        await service.in_reader(requests.refuse_repeated_names, body, columns, *others)


async def _prepared(
    service: Service,
    request: HttpRequest,
    features: list[str] | str | None,
    name: str | None,
    full_names: bool,
    word: str,
) -> PreparedRequest:
    if (features is None) == (name is None):
        found = "neither" if name is None else "both"
        raise RequestError(
            f"the request has {found} of `features` and `{word}`; expected one", hint="send exactly one of the two"
        )
    requested = name if name is not None else features if isinstance(features, str) else tuple(features or ())
    principal = request.principal
    # Before anything is planned and cached for a caller who may not read it.
    try:
        refuse_hidden_features(principal, service.reading.snapshot.project, requested, is_service=name is not None)
    except NotAllowed:
        # It may be new: of what another process has just applied this one learns when it is asked for.
        if not await service.reading.look_again():
            raise
        refuse_hidden_features(principal, service.reading.snapshot.project, requested, is_service=name is not None)
    project = service.reading.snapshot.project
    if name is not None and name not in project.services:
        known = readable_services(principal, project)
        raise NotFound(
            f"no feature service {name!r} is applied",
            hint=nearest(name, known) or (f"applied services: {some(known)}" if known else "list features instead"),
        )
    prepared = service.reading.planned(requested, full_names)
    if prepared is not None:
        prepared.used += 1
    else:
        try:
            prepared = await service.reading.prepare(requested, full_names)
        except UnknownFeature as error:
            if principal.may("read"):
                raise
            raise UnknownFeature(error.reference, readable_references(principal, service.reading.snapshot)) from error
    principal.require("read", prepared.views)
    request.service = prepared.service
    return prepared


async def _read(
    service: Service, request: HttpRequest, prepared: PreparedRequest, entities: Any
) -> tuple[OnlineResponse, bool]:
    limit = service.settings.max_rows
    rows = max(map(len, entities.values()), default=1) if type(entities) is dict else len(entities)
    if rows > limit:
        raise above(f"the request has {rows} entity rows", limit, "max_rows")
    size = rows * len(prepared.encoder.names) * CELL_BYTES
    if size > service.settings.max_response_bytes:
        raise above(
            f"the response to {rows} entity rows would have {size} bytes or more", service.settings.max_response_bytes,
            "max_response_bytes",
        )  # fmt: skip
    if prepared.odd_types:
        entities = (
            _converted(prepared, entities) if rows <= ROWS_ON_LOOP
            else await service.in_reader(_converted, prepared, entities)
        )  # fmt: skip
    response, is_large = await service.reading.read(prepared, entities)
    request.rows = len(response)
    request.response = response
    request.use = prepared.use
    return response, is_large


def _converted(prepared: PreparedRequest, entities: Any) -> Any:
    types = prepared.odd_types
    if type(entities) is dict:
        return read_columns(entities, types)
    return [
        row | {name: values[0] for name, values in read_columns(
            {name: [row[name]] for name in types if name in row}, types
        ).items()}
        for row in entities
    ]  # fmt: skip
