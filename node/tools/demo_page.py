"""The demo's page and its buttons: routes of the demo's own process, for a browser on this machine only."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from node.tools.demo_lines import Line
from node.tools.demo_scene import marks, texts
from node.tools.demo_stage import Stage
from node.tools.demo_words import DIRECTION, say, spoken
from node.web import assets
from node.web.page import TEMPLATES

HERE: Final = Path(__file__).parent
TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
OWN_HOSTS: Final = {"127.0.0.1", "localhost"}
TICK_S = 0.3  # how often a viewer's page may change
PULSE_S = 5.0  # an unchanged page hears this often that it is still connected
VIEWERS_MAX = 16  # open streams: one person, some windows

POLICY: Final = "default-src 'self'; frame-src {web} {api}; base-uri 'none'; form-action 'self'; object-src 'none'; frame-ancestors 'none'"


class DemoPage:
    """The template in both languages over one stage."""

    def __init__(self, stage: Stage, lines: tuple[Line, ...]) -> None:
        self._stage, self._lines = stage, lines
        self._jinja = Environment(
            loader=FileSystemLoader([HERE / "templates", TEMPLATES]), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )  # fmt: skip
        self.headers = {
            "Content-Security-Policy": POLICY.format(web=stage.web, api=stage.api), "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
        }  # fmt: skip
        own = {
            path.name: (path.read_bytes(), TYPES[path.suffix])
            for path in (HERE / "static").iterdir()
            if path.suffix in TYPES
        }
        # colours, cards and icons are those of the node's page
        self.files = {name: (asset.content, asset.media_type) for name, asset in assets.load().items()} | own
        self._edition = hashlib.sha256(b"".join(content for content, _ in self.files.values())).hexdigest()[:12]

    def whole(self, lang: str) -> str:
        """The document."""
        scene = self._stage.scene
        return self._jinja.get_template("demo.html").render(
            self._context(lang), v=texts(scene, lang), marks=marks(scene), lines=self._lines, web=self._stage.web,
            api=self._stage.api, edition=self._edition, version=version("wasl-node"),
        )  # fmt: skip

    def now(self, lang: str) -> dict[str, Any]:
        """What can change: marks, texts, and the story's lines as HTML."""
        scene = self._stage.scene
        events = self._jinja.get_template("demo_events.html").render(self._context(lang))
        return {"marks": marks(scene), "texts": texts(scene, lang), "events": events}

    def facts(self) -> dict[str, Any]:
        """The present as plain figures."""
        return self._stage.scene.facts()

    def _context(self, lang: str) -> dict[str, Any]:
        return {
            "lang": lang, "direction": DIRECTION[lang], "_": lambda key: say(lang, key), "happenings": self._stage.story.happenings(),
            "told": lambda event: say(lang, f"event-{event.key}", **event.params),
        }  # fmt: skip


def make_app(stage: Stage, lines: tuple[Line, ...], stopping: asyncio.Event) -> FastAPI:
    """The page as an ASGI application. The buttons exist here and nowhere else."""
    app = FastAPI(title="Wasl demo", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(own_host)])
    page = DemoPage(stage, lines)
    _serve_page(app, page, stopping)
    _serve_buttons(app, stage)
    return app


def own_host(request: Request) -> None:
    """Refuse a name that is not this machine's: a page from outside may make its own name point here."""
    if urlsplit(f"//{request.headers.get('host', '')}").hostname not in OWN_HOSTS:
        raise HTTPException(421, "this demo answers on 127.0.0.1 and localhost only")


def own_origin(request: Request) -> None:
    """Refuse a button that another page pressed."""
    if request.headers.get("origin") != f"http://{request.headers.get('host', '')}":
        raise HTTPException(403, "only the demo's own page may do this")


def _serve_page(app: FastAPI, page: DemoPage, stopping: asyncio.Event) -> None:
    seats = asyncio.Semaphore(VIEWERS_MAX)

    @app.get("/")
    async def root(lang: str = "en") -> HTMLResponse:
        return HTMLResponse(page.whole(spoken(lang)), headers=page.headers)

    @app.get("/api/demo")
    async def facts() -> JSONResponse:
        return JSONResponse(page.facts(), headers=page.headers)

    @app.get("/events")
    async def events(lang: str = "en") -> StreamingResponse:
        if seats.locked():
            raise HTTPException(503, "too many viewers", {"Retry-After": "30"})
        return StreamingResponse(
            _changes(page, spoken(lang), seats, stopping), media_type="text/event-stream", headers=page.headers
        )

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in page.files:
            raise HTTPException(404)
        content, media_type = page.files[name]
        return Response(content, media_type=media_type, headers={**page.headers, "Cache-Control": "max-age=3600"})


async def _changes(
    page: DemoPage, lang: str, seats: asyncio.Semaphore, stopping: asyncio.Event
) -> AsyncIterator[bytes]:
    """What changed, for one viewer, until the demo ends."""
    sent: dict[str, Any] = {}
    pulse_at = 0.0
    async with seats:
        while not stopping.is_set():
            now = page.now(lang)
            changed = {name: value for name, value in now.items() if sent.get(name) != value}
            if changed or time.monotonic() >= pulse_at:
                sent, pulse_at = now, time.monotonic() + PULSE_S
                yield f"data: {json.dumps(changed)}\n\n".encode()
            try:
                await asyncio.wait_for(stopping.wait(), TICK_S)
            except TimeoutError:
                continue


def _serve_buttons(app: FastAPI, stage: Stage) -> None:
    actions = stage.actions()

    @app.post("/do/{name}", dependencies=[Depends(own_origin)])
    async def do(name: str, request: Request, lang: Annotated[str, "of the page to go back to"] = "en") -> Response:
        if name not in actions:
            raise HTTPException(404)
        await actions[name]()
        if request.headers.get("sec-fetch-mode") == "navigate":  # a browser without script
            return RedirectResponse(f"/?lang={spoken(lang)}", 303)
        return Response(status_code=204)
