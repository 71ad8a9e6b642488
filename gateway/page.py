"""GET /: the page of arriving records, English and Arabic, live by server-sent events. It shows no content and needs nothing from outside."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.board import Board, Shown
from gateway.config import Token
from gateway.page_words import WORDS
from gateway.problems import Problem, busy

HERE: Final = Path(__file__).parent
# everything comes from this server and nothing is inline; the demo shows the page in a frame of its own loopback address
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; object-src 'none';"
    " frame-ancestors 'self' http://127.0.0.1:* http://localhost:*",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
PANELS: Final = ("summary", "alarms", "streams", "arrivals")
VIEWERS_MAX = 64  # open streams of the page; each is a socket and a task
VIEWER_WAIT_S = 30
TICK_S = 1.0  # one reading serves all viewers for so long
PULSE_S = 10.0  # an unchanged page hears this often that it is still connected
STREAM_S_MAX = 600.0  # a stream ends after ten minutes; the browser opens the next one

Run = Callable[[Callable[[], Shown]], Awaitable[Shown]]


class Page:
    """The templates, rendered per language."""

    def __init__(self) -> None:
        self._jinja = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )  # fmt: skip
        self._jinja.filters |= {"clock": clock, "day": day, "count": "{:,}".format}

    def whole(self, shown: Shown, lang: str) -> str:
        """The document."""
        return self._jinja.get_template("page.html").render(**_context(shown, lang), panels=PANELS)

    def panels(self, shown: Shown, lang: str) -> dict[str, str]:
        """Each panel's inside."""
        return {name: self._jinja.get_template(f"{name}.html").render(**_context(shown, lang)) for name in PANELS}


class Live:
    """All open streams. The ledger is read once a tick, however many watch."""

    def __init__(self, board: Board, run: Run, page: Page) -> None:
        self._board, self._run, self._page = board, run, page
        self._lock = asyncio.Lock()
        self._shown: Shown | None = None
        self._read_at = float("-inf")

    async def latest(self) -> Shown:
        """A reading that is not older than a tick."""
        async with self._lock:
            if self._shown is None or time.monotonic() - self._read_at >= TICK_S:
                self._shown, self._read_at = await self._run(self._board.read), time.monotonic()
            return self._shown

    async def events(self, lang: str, stopping: asyncio.Event) -> AsyncIterator[bytes]:
        """Changed panels for one viewer, until its time is over or the gateway stops."""
        seen: dict[str, str] = {}
        ends_at, pulse_at = time.monotonic() + STREAM_S_MAX, 0.0
        while not stopping.is_set() and time.monotonic() < ends_at:
            panels = self._page.panels(await self.latest(), lang)
            changed = {name: html for name, html in panels.items() if seen.get(name) != html}
            if changed or time.monotonic() - pulse_at >= PULSE_S:
                seen, pulse_at = panels, time.monotonic()
                yield f"data: {json.dumps(changed)}\n\n".encode()
            try:
                await asyncio.wait_for(stopping.wait(), TICK_S)
            except TimeoutError:
                continue


def serve_page(
    app: FastAPI, board: Board, run: Run, stopping: asyncio.Event, bearer: Callable[[Request], Token] | None
) -> None:
    """GET /, /events, /static/<name>. `bearer` None: the page is open."""
    page = Page()
    live = Live(board, run, page)
    guard = [Depends(bearer)] if bearer is not None else []
    viewers = 0

    @app.get("/", include_in_schema=False, dependencies=guard)
    async def root(lang: str = "en") -> HTMLResponse:
        return HTMLResponse(page.whole(await live.latest(), _spoken(lang)), headers=HEADERS)

    async def watched(lang: str) -> AsyncIterator[bytes]:
        nonlocal viewers
        viewers += 1
        try:
            async for message in live.events(lang, stopping):
                yield message
        finally:
            viewers -= 1

    @app.get("/events", include_in_schema=False, dependencies=guard)
    async def events(lang: str = "en") -> StreamingResponse:
        if viewers >= VIEWERS_MAX:
            raise busy("too many viewers", window=0, wait_s=VIEWER_WAIT_S)
        return StreamingResponse(watched(_spoken(lang)), media_type="text/event-stream", headers=HEADERS)

    _serve_static(app)


def _serve_static(app: FastAPI) -> None:
    """The page's own files, held in memory, so that no request ever becomes a path on the disk."""
    found = [path for path in (HERE / "static").iterdir() if path.suffix in TYPES]
    files = {path.name: (path.read_bytes(), TYPES[path.suffix]) for path in found}
    tags = {name: f'"{hashlib.sha256(content).hexdigest()[:16]}"' for name, (content, _) in files.items()}

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str, request: Request) -> Response:
        if name not in files:
            raise Problem(404, "not-found", "no such file")
        content, media_type = files[name]
        headers = {**HEADERS, "Cache-Control": "no-cache", "ETag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)


def clock(iso: str) -> str:
    """The time of day of an ISO moment, to the second."""
    return iso[11:19]


def day(iso: str) -> str:
    """The date of an ISO moment."""
    return iso[:10]


def _spoken(lang: str) -> str:
    return "ar" if lang == "ar" else "en"


def _context(shown: Shown, lang: str) -> dict[str, Any]:
    words = WORDS if lang == "ar" else {}
    return {
        "s": shown,
        "lang": lang,
        "direction": "rtl" if lang == "ar" else "ltr",
        "_": lambda text: words.get(text, text),
    }
