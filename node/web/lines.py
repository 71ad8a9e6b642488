"""The line monitor: one page a feed, live. What of a line's bytes is shown is the core's to decide; here it is only laid out."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from node.web.live import Live
from node.web.page import Page
from node.web.source import Source
from node.web.speech import choose

NO_STORE: Final = {"Cache-Control": "no-store"}
SHOWN: Final = "shown"  # what ?values= asks

Look = Callable[[str, bool], dict[str, Any]]
Seat = Callable[[], AsyncIterator[None]]


class Lines:
    """The open monitors: one a feed and wish, so that however many watch, the core is asked once a second."""

    def __init__(
        self, status: Callable[[], dict[str, Any]], look: Look, page: Page, now: Callable[[], float]
    ) -> None:  # fmt: skip
        self.page = page
        self._status, self._look, self._now = status, look, now
        self._feeds = Source("feeds", self._names, now)
        self._open: dict[tuple[str, bool], Live] = {}

    async def of(self, feed: str, values: str) -> Live:
        """The monitor of a feed. HTTPException 404 where no feed has this name."""
        reading = await self._feeds.latest()
        if reading is None or feed not in reading.value:
            raise HTTPException(404)
        key = feed, values == SHOWN
        if key not in self._open:  # as many as there are feeds, twice
            self._open[key] = Live(Source("line", lambda: self._read(*key), self._now), self.page, self._now)
        return self._open[key]

    def _names(self) -> frozenset[str]:
        return frozenset(feed["name"] for feed in self._status()["feeds"])

    def _read(self, feed: str, is_shown: bool) -> dict[str, Any]:
        """The status document with what the page needs of one feed beside it."""
        status = self._status()
        table = next(each for each in status["feeds"] if each["name"] == feed)
        return {**status, "monitor": {**self._look(feed, is_shown), "table": table}}


def serve_lines(app: FastAPI, lines: Lines, seat: Seat) -> None:
    """GET /line/FEED and its stream."""

    @app.get("/line/{feed}", response_class=HTMLResponse, include_in_schema=False)
    async def root(request: Request, feed: str, lang: str | None = None, values: str = "") -> HTMLResponse:
        spoken = choose(lang, request.cookies.get("lang"), request.headers.get("accept-language"))
        headers = {**NO_STORE, "Content-Language": spoken, "Vary": "Accept-Language, Cookie"}
        live = await lines.of(feed, values)
        return HTMLResponse(lines.page.whole(await live.shown(), spoken), headers=headers)

    async def found(feed: str, values: str = "") -> Live:
        return await lines.of(feed, values)

    @app.get(
        "/line/{feed}/events", response_class=EventSourceResponse, include_in_schema=False, dependencies=[Depends(seat)]
    )
    async def events(
        live: Annotated[Live, Depends(found)], lang: str | None = None, last_event_id: Annotated[str, Header()] = ""
    ) -> AsyncIterator[ServerSentEvent]:
        async for message in live.events(choose(lang, None, None), last_event_id):
            yield message
