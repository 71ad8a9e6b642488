"""The stream of changes: what a viewer does not have yet, merged, once a second at most."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.sse import ServerSentEvent

from node.web.page import Page, Shown, digest
from node.web.source import Reading, Source

TICK_SECONDS = 1.0  # changes are merged for this long
PULSE_SECONDS = 4.0  # an unchanged page hears this often that it is still true; under half of page.STALE_SECONDS
STREAM_SECONDS = 600.0  # a stream ends after ten minutes; the browser opens the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One reading in one language: each panel's HTML and its digest, by name."""

    reading: Reading[dict[str, Any]]
    panels: Mapping[str, str]
    digests: Mapping[str, str]


class Live:
    """All open streams of the page. A reading is rendered once per language, however many watch."""

    def __init__(self, board: Source[dict[str, Any]], page: Page, now: Callable[[], float]) -> None:
        self._board, self._page, self._now = board, page, now
        self._rendered: dict[str, Rendered] = {}

    async def shown(self) -> Shown:
        """The status document as it stands, with its age."""
        return self._shown(await self._board.latest())

    async def events(self, lang: str, last_event_id: str) -> AsyncIterator[ServerSentEvent]:
        """Messages for one viewer until the stream's time is over. While the source is silent, so is the stream."""
        seen, sent = _digests_seen(last_event_id, self._page.names), None
        pulse_at, ends_at = float("-inf"), self._now() + STREAM_SECONDS
        while self._now() < ends_at:
            reading = await self._board.latest()
            if reading is not None and reading is not sent:
                sent, fresh = reading, self._render(reading, lang)
                changed = [name for name in self._page.names if seen.get(name) != fresh.digests[name]]
                if changed or self._now() - pulse_at >= PULSE_SECONDS:
                    seen, pulse_at = fresh.digests, self._now()
                    yield _message(fresh, changed, self._page.pulse(self._shown(reading), lang))
            await asyncio.sleep(TICK_SECONDS)

    def _shown(self, reading: Reading[dict[str, Any]] | None) -> Shown:
        if reading is None:
            return Shown(status=None, age=0.0)
        return Shown(status=reading.value, age=self._board.age(reading))

    def _render(self, reading: Reading[dict[str, Any]], lang: str) -> Rendered:
        last = self._rendered.get(lang)
        if last is None or last.reading is not reading:
            panels = self._page.panels(self._shown(reading), lang)
            digests = {name: digest(html) for name, html in panels.items()}
            last = self._rendered[lang] = Rendered(reading=reading, panels=panels, digests=digests)
        return last


def _message(fresh: Rendered, changed: list[str], pulse: str) -> ServerSentEvent:
    """Each fragment as an htmx partial for its place; the id lists what the viewer has from now on."""
    fragments = [*((name, fresh.panels[name]) for name in changed), ("pulse", pulse)]
    partials = (
        f'<hx-partial hx-target="#panel-{name}" hx-swap="outerMorph">{html}</hx-partial>' for name, html in fragments
    )
    return ServerSentEvent(raw_data="\n".join(partials), id="-".join(fresh.digests.values()))


def _digests_seen(last_event_id: str, names: tuple[str, ...]) -> Mapping[str, str]:
    """What a returning viewer has; an id that is not ours means that nothing is known."""
    digests = last_event_id.split("-")
    return dict(zip(names, digests, strict=True)) if len(digests) == len(names) else {}
