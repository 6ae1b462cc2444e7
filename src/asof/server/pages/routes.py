"""The routes of the catalog's pages, and their handlers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from asof.catalog.urls import JSON, ROOT, STATIC, page_url
from asof.errors import AsofError, NotAllowed, NotAuthenticated, RequestError
from asof.server.http.endpoint import Endpoint, Receive, Scope, Send
from asof.server.http.errors import HttpError, headers_of, status_of
from asof.server.http.route import HttpRequest, HttpResponse, Route
from asof.server.pages.sign_in import (
    cookie_of,
    is_own_form,
    notice_cookie,
    notice_of,
    own_address,
    with_key_of_cookie,
)
from asof.server.process.service import Service
from asof.server.security.callers import Caller, IdentityLookupNeeded

_MOST_FIELDS = 2_000


class PageEndpoint(Endpoint):
    """An endpoint whose callers are browsers: they send a cookie, and read errors as pages."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__({**scope, "headers": with_key_of_cookie(scope["headers"])}, receive, send)

    def _failed(self, error: BaseException, scope: Scope) -> HttpResponse:
        status = status_of(error)
        path = scope.get("raw_path", b"").decode("latin-1")
        if not isinstance(error, AsofError):
            super()._failed(error, scope)  # Logs it.
            error = HttpError(
                status, "the page failed by an error of Asof's; the server's log has it", hint="report it"
            )
        if isinstance(error, NotAuthenticated) and not path.endswith(JSON):
            to = path + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
            return HttpResponse(status=303, headers=[(b"location", page_url("sign-in", query={"to": to}).encode())])
        try:
            return _response(self.service.site.error_page(error, status, path, None), headers_of(error))
        except Exception as failure:
            # Without Jinja there is no page to show an error on.
            if not isinstance(failure, AsofError):
                super()._failed(failure, scope)
                failure = error
            return HttpResponse(f"{failure}\n".encode(), status_of(failure), [(b"content-type", b"text/plain")])


async def show_page(service: Service, request: HttpRequest) -> HttpResponse:
    """A page, or its JSON."""
    site = service.site
    notice = notice_of(request.headers)
    return _response(await service.in_page(site.respond, request.path, request.query, request.principal, notice))


async def submit_form(service: Service, request: HttpRequest) -> HttpResponse:
    """Do what a page's form is for."""
    _refuse_foreign_form(request)
    site = service.site
    done = await service.in_page(site.submit, request.path, _form(request), request.principal)
    return _response(done, [notice_cookie(done.notice, to=done.location, is_tls=request.is_tls)])


async def show_static(service: Service, request: HttpRequest) -> HttpResponse:
    """A style sheet, script or icon of the pages."""
    return _response(service.site.static(request.path))


async def show_sign_in(service: Service, request: HttpRequest) -> HttpResponse:
    """The page on which a key is given."""
    return _response(service.site.sign_in_page(None, own_address(request.query.get("to", ""))))


async def sign_in(service: Service, request: HttpRequest) -> HttpResponse:
    """Check the key that was given, and keep it in the browser."""
    _refuse_foreign_form(request)
    form = _form(request)
    key, to = form.get("key", "").strip(), own_address(form.get("to", ""))
    try:
        if not key.isascii() or not key:
            raise NotAuthenticated("this is no API key or token", hint="copy all of it")
        caller = Caller([(b"authorization", b"Bearer " + key.encode())], None, "", "POST", f"{ROOT}/sign-in")
        try:
            principal = service.security.authenticate(caller)
        except IdentityLookupNeeded:
            principal = await service.security.identify(caller)
        principal.require_any("read")
    except (NotAuthenticated, NotAllowed) as error:
        return _response(service.site.sign_in_page(error, to, status_of(error)))
    return HttpResponse(status=303, headers=[(b"location", to.encode()), cookie_of(key, is_tls=request.is_tls)])


async def sign_out(service: Service, request: HttpRequest) -> HttpResponse:
    """Forget the key in the browser."""
    _refuse_foreign_form(request)
    to = page_url("sign-in").encode()
    return HttpResponse(status=303, headers=[(b"location", to), cookie_of("", is_tls=request.is_tls)])


async def lead_to_pages(service: Service, request: HttpRequest) -> HttpResponse:
    """Lead browsers to the catalog."""
    return HttpResponse(status=302, headers=[(b"location", page_url().encode())])


def _response(made: Any, more: list[tuple[bytes, bytes]] | None = None) -> HttpResponse:
    headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in made.headers()]
    return HttpResponse(made.body, made.status, [*headers, *(more or [])])


def _form(request: HttpRequest) -> dict[str, str]:
    try:
        return dict(parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as error:
        raise RequestError("the form cannot be read", hint="send it as application/x-www-form-urlencoded") from error


def _refuse_foreign_form(request: HttpRequest) -> None:
    if not is_own_form(request.headers):
        raise NotAllowed("the form was sent by another page", hint=f"open {ROOT}/ and send it there")


PAGE_ROUTES: tuple[Route[Service], ...] = (
    Route("GET", f"{STATIC}/{{path:path}}", show_static, "A style sheet, script or icon of the pages."),
    Route("GET", f"{ROOT}/sign-in", show_sign_in, "The page on which a key is given."),
    Route("POST", f"{ROOT}/sign-in", sign_in, "Check a key, and keep it in the browser.", content=bytes),
    Route("POST", f"{ROOT}/sign-out", sign_out, "Forget the key in the browser."),
    Route("GET", ROOT, lead_to_pages, "Lead to the catalog."),
    Route("GET", "/", lead_to_pages, "Lead to the catalog."),
    Route("GET", "/docs", lead_to_pages, "Lead to the catalog."),
    Route("GET", f"{ROOT}/{{path:path}}", show_page, "A page of the catalog.", action="read", concerns="visible"),
    Route(
        "POST", f"{ROOT}/{{path:path}}", submit_form, "Do what a page's form is for.", action="write", content=bytes,
        waits="write", concerns="visible",
    ),
)  # fmt: skip
"""Apart from the other routes: they are for people, and change with the pages. The most special paths come first."""
