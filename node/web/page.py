"""The page as HTML: a status document in, panels out. Each panel fails alone; equal facts give equal bytes."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from node.web import words
from node.web.speech import DIRECTION, Speech, speech
from node.web.verdict import age_seconds, room_bytes, room_days, unreadable

TEMPLATES: Final = Path(__file__).parent / "templates"
PANELS: Final = (
    "state",
    "verdict",
    "attention",
    "flow",
    "link",
    "receipt",
    "storage",
    "core",
    "feeds",
    "streams",
    "destinations",
    "quality",
)
LINE_PANELS: Final = ("state", "line")
STALE_SECONDS = 10  # operations, section 3: data older than this gets a banner; page.js holds the same figure
ATTENTION_MAX = 5  # more than this is not a list to work off but a wall
TEXT_CHARS_MAX = 160  # a peer's error text is shown, not dumped

log = structlog.get_logger()
Describe = Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A status document with how old it is in seconds; `status` is None where none could ever be read."""

    status: Mapping[str, Any] | None
    age: float

    @property
    def is_stale(self) -> bool:
        """Too old to be called the present."""
        return self.status is None or self.age > STALE_SECONDS


class Page:
    """The templates of both languages. `describe` turns the catalogue's codes into a sentence; `zone` is the site's."""

    def __init__(
        self, *, describe: Describe, zone: tzinfo, edition: str, tags: Mapping[str, str], names: tuple[str, ...] = PANELS, whole: str = "page.html"
    ) -> None:  # fmt: skip
        self.names, self._whole = names, whole
        self._describe, self._zone = describe, zone
        self._edition, self._tags = edition, tags
        self._environments = {lang: self._environment(speech(lang)) for lang in DIRECTION}

    def whole(self, shown: Shown, lang: str) -> str:
        """The complete document, usable without script."""
        template = self._environments[lang].get_template(self._whole)
        panels = {name: Markup(html) for name, html in self.panels(shown, lang).items()}  # noqa: S704 - our own rendering
        pulse = Markup(self.pulse(shown, lang))  # noqa: S704 - our own rendering
        return template.render(self._context(shown, lang), panels=panels, pulse=pulse, tags=self._tags)

    def panels(self, shown: Shown, lang: str) -> dict[str, str]:
        """Each panel's HTML by name."""
        context = self._context(shown, lang)
        return {name: self._panel(name, context, lang) for name in self.names}

    def pulse(self, shown: Shown, lang: str) -> str:
        """The small element that says how old the data is."""
        template = self._environments[lang].get_template("panels/pulse.html")
        return _compact(template.render(self._context(shown, lang), age=shown.age, edition=self._edition))

    def _panel(self, name: str, context: Mapping[str, Any], lang: str) -> str:
        templates = self._environments[lang]
        try:
            return _compact(templates.get_template(f"panels/{name}.html").render(context, panel=name))
        except Exception as error:  # noqa: BLE001 - one malformed fact must not take the other panels with it
            log.warning("web.panel_failed", panel=name, error=type(error).__name__)
            return _compact(templates.get_template("panels/failed.html").render(context, panel=name))

    def _context(self, shown: Shown, lang: str) -> dict[str, Any]:
        """What every template may use; `s` is the status document."""
        status = shown.status or _nothing()
        return {
            "s": status,
            "now": status["now"],
            "is_stale": shown.is_stale,
            "is_blank": shown.status is None,
            "lang": lang,
        }

    def _environment(self, voice: Speech) -> Environment:
        environment = Environment(
            autoescape=True,
            extensions=["jinja2.ext.i18n"],
            loader=FileSystemLoader(TEMPLATES),
            lstrip_blocks=True,
            trim_blocks=True,
            undefined=StrictUndefined,
        )
        environment.install_gettext_translations(voice.catalogue, newstyle=True)  # type: ignore[attr-defined]
        environment.filters.update(number=voice.number, size=voice.size, short=_short)
        environment.globals.update(self._globals(voice))
        return environment

    def _globals(self, voice: Speech) -> dict[str, Any]:
        def explain(code: str, params: Mapping[str, Any], since: str | None, now: str) -> str:
            return words.sentence(code, {**params, "since": since}, now, voice) or self.describe(code, voice.lang)

        return {
            "voice": voice,
            "advice": lambda code: words.advice(code, voice),
            "ago": lambda iso, now: voice.ago(age_seconds(iso, now)),
            "attention_max": ATTENTION_MAX,
            "describe": lambda code: self.describe(code, voice.lang),
            "explain": explain,
            "condition_word": lambda name: words.condition(name, voice),
            "instant": lambda at_us: words.instant(at_us, self._zone),
            "lane_word": lambda name: words.lane(name, voice),
            "destination_look": lambda name: words.DESTINATION_LOOKS.get(name, "attention"),
            "destination_word": lambda name: words.destination(name, voice),
            "link_word": lambda name: words.link(name, voice),
            "line_word": lambda name: words.line(name, voice),
            "moment": lambda iso, now: voice.moment(iso, now, self._zone),
            "other_alarms": _other_alarms,
            "quality_word": lambda what: words.quality(what, voice),
            "room_bytes": room_bytes,
            "room_days": room_days,
            "span": lambda iso, now: voice.span(age_seconds(iso, now)),
            "state_word": lambda name: words.state(name, voice),
            "verdict_advice": lambda status: words.verdict_advice(status, voice),
            "verdict_sentence": lambda status: (
                words.verdict(status, voice) or self.describe(status["verdict"]["code"], voice.lang)
            ),
            "zone_name": lambda now: _zone_name(now, self._zone),
        }

    def describe(self, code: str, lang: str) -> str:
        """The catalogue's sentence for a code; "" where it has none, so that no code is printed twice."""
        text = self._describe(code, lang)
        return "" if text == code else text


def digest(html: str) -> str:
    """Eight hex digits by which a viewer's panel is compared with ours."""
    return hashlib.blake2b(html.encode(), digest_size=4).hexdigest()


def _other_alarms(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alarms without the one that the verdict says."""
    verdict, alarms = status["verdict"], list(status["alarms"])
    params = verdict["params"]
    told = {(verdict["code"], None), (params.get("cause"), params.get("subject"))}
    place = next((n for n, alarm in enumerate(alarms) if (alarm["code"], alarm["params"].get("subject")) in told), None)
    return alarms if place is None else [*alarms[:place], *alarms[place + 1 :]]


def _nothing() -> dict[str, Any]:
    """The document that stands in where no status was ever read: it claims nothing."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"node": "", "site": {"en": "", "ar": ""}, "version": "", "now": now, **unreadable().document()}


def _zone_name(now: str, zone: tzinfo) -> str:
    """The zone's name: "UTC", or the offset as in "UTC+04:00"."""
    name = datetime.fromisoformat(now).astimezone(zone).strftime("%z")
    return "UTC" if name == "+0000" else f"UTC{name[:3]}:{name[3:]}"


def _short(text: str) -> str:
    """Foreign text, cut to what a panel can hold."""
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[: TEXT_CHARS_MAX - 1]}…"


def _compact(html: str) -> str:
    """Without indentation and blank lines: a template's layout does not travel."""
    return "\n".join(line.strip() for line in html.splitlines() if line.strip())
