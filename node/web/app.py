"""The web process: routes over sources that are passed in. It opens no file of core and no socket but the one it serves."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, tzinfo
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.middleware.gzip import GZipMiddleware

from node.web import assets
from node.web.headers import HEADERS, SecurityHeaders
from node.web.lines import Lines, Look, Seat, serve_lines
from node.web.live import Live
from node.web.page import LINE_PANELS, STALE_SECONDS, Describe, Page
from node.web.source import Source
from node.web.speech import DIRECTION, choose

VIEWERS_MAX = 32  # open streams; a technician has one, and each holds a socket on a small machine
READY_SECONDS = 3.0  # an older "ready" says nothing about now
COOKIE_SECONDS = 365 * 86_400  # the language a person chose on this box
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
NO_STORE: Final = {"Cache-Control": "no-store"}

Status = dict[str, Any]
Probe = tuple[bool, str]


def code_only(code: str, _lang: str) -> str:
    """The catalogue where there is none: the code itself."""
    return code


def _no_line(_feed: str, _is_shown: bool) -> dict[str, Any]:
    raise LookupError


def make_app(
    status: Callable[[], Status],
    *,
    probe: Callable[[], Probe],
    metrics: Callable[[], bytes],
    look: Look = _no_line,
    describe: Describe = code_only,
    zone: tzinfo = UTC,
    now: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """The page as an ASGI application. `status`, `probe` and `metrics` may block and may raise; each runs in a thread.

    status: the status document; probe: (core can commit and sign, reason); metrics: Prometheus text; describe: catalogue
    code and language -> sentence; look: a feed's line monitor, with values shown where permitted; zone: the site's time zone; now: monotonic seconds.
    """
    app = FastAPI(title="Wasl node", docs_url=None, redoc_url=None)  # FastAPI's documentation page loads from outside
    app.add_middleware(GZipMiddleware, minimum_size=500, compresslevel=6)
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(Exception, _own_fault)
    files = assets.load()
    tags = {name: f"/static/{name}?v={asset.tag}" for name, asset in files.items()}
    page = Page(describe=describe, zone=zone, edition=assets.edition(files), tags=tags)
    live = Live(Source("status", status, now), page, now)
    seat = _seats()
    _serve_page(app, live, page)
    _serve_events(app, live, seat)
    of_line = Page(
        describe=describe, zone=zone, edition=assets.edition(files), tags=tags, names=LINE_PANELS, whole="line.html"
    )
    serve_lines(app, Lines(status, look, of_line, now), seat)
    _serve_machines(app, live, Source("probe", probe, now), Source("metrics", metrics, now))
    _serve_assets(app, files)
    return app


def _serve_page(app: FastAPI, live: Live, page: Page) -> None:
    """GET /: the whole page, in the language asked for."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def root(request: Request, lang: str | None = None) -> HTMLResponse:
        spoken = choose(lang, request.cookies.get("lang"), request.headers.get("accept-language"))
        headers = {**NO_STORE, "Content-Language": spoken, "Vary": "Accept-Language, Cookie"}
        answer = HTMLResponse(page.whole(await live.shown(), spoken), headers=headers)
        if lang in DIRECTION:
            answer.set_cookie("lang", spoken, max_age=COOKIE_SECONDS, httponly=True, samesite="lax")
        return answer


def _seats() -> Seat:
    """Places for open streams, of whichever page."""
    seats = asyncio.Semaphore(VIEWERS_MAX)

    async def seat() -> AsyncIterator[None]:
        if seats.locked():
            raise HTTPException(503, "too many viewers", {"Retry-After": "30"})
        async with seats:
            yield

    return seat


def _serve_events(app: FastAPI, live: Live, seat: Seat) -> None:
    """GET /events: changed panels as server-sent events. FastAPI adds a comment after 15 s of silence."""

    @app.get("/events", response_class=EventSourceResponse, include_in_schema=False, dependencies=[Depends(seat)])
    async def events(
        lang: str | None = None, last_event_id: Annotated[str, Header()] = ""
    ) -> AsyncIterator[ServerSentEvent]:
        async for message in live.events(choose(lang, None, None), last_event_id):
            yield message


def _serve_machines(app: FastAPI, live: Live, probe: Source[Probe], metrics: Source[bytes]) -> None:
    """What other programs read: status, liveness, readiness, metrics."""

    @app.get("/api/status")
    async def api_status() -> JSONResponse:
        shown = await live.shown()
        if shown.is_stale:  # a monitor must not take an old document for the present
            return JSONResponse({"code": "VRD-49", "detail": "no fresh status"}, 503, NO_STORE)
        return JSONResponse(shown.status, headers=NO_STORE)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n", headers=NO_STORE)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        reading = await probe.latest()
        ready, reason = False, "core does not answer"
        if reading is not None and probe.age(reading) <= READY_SECONDS:
            ready, reason = reading.value
        return JSONResponse({"ready": ready, "reason": reason}, 200 if ready else 503, NO_STORE)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def read_metrics() -> Response:
        reading = await metrics.latest()
        if reading is None or metrics.age(reading) > STALE_SECONDS:
            return PlainTextResponse("no metrics\n", 503, NO_STORE)
        return Response(reading.value, headers=NO_STORE, media_type=METRICS_TYPE)


def _serve_assets(app: FastAPI, files: Mapping[str, assets.Asset]) -> None:
    """GET /static/<name>: kept for ever under its own tag, asked for again without it."""

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str, v: str = "") -> Response:
        asset = files.get(name)
        if asset is None:
            raise HTTPException(404)
        kept = "public, max-age=31536000, immutable" if v == asset.tag else "no-cache"
        return Response(asset.content, headers={"Cache-Control": kept}, media_type=asset.media_type)


async def _own_fault(_request: Request, _error: Exception) -> Response:
    """500 in plain words. It is answered outside the middleware, so it brings its own headers."""
    return PlainTextResponse("the page failed; the node itself goes on\n", 500, {**HEADERS, **NO_STORE})
