"""A language: its catalogue, and how it writes numbers, sizes, spans and moments. Catalogues are read from `locale/*.po`."""

from datetime import datetime, tzinfo
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from markupsafe import Markup

LOCALE: Final = Path(__file__).parent / "locale"
DIRECTION: Final = {"en": "ltr", "ar": "rtl"}  # the languages that the page speaks
FALLBACK: Final = "en"
ACCEPT_CHARS_MAX = 200  # a browser sends about 40; the rest is not worth reading

MINUTE, HOUR, DAY = 60, 3600, 86_400
SIZES: Final = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
LEFT_TO_RIGHT, END_OF_RUN = "\u2066", "\u2069"  # LRI and PDI: an id or size keeps its order inside an Arabic sentence


class Speech:
    """One language's words and figures. Digits are 0-9 in every language; times are in the site's zone."""

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self.direction = DIRECTION[lang]
        self.catalogue = _read_catalogue(lang)
        self.say = self.catalogue.ugettext

    def plural(self, one: str, many: str, count: int) -> str:
        """The sentence for `count` things; `{n}` is written as a figure."""
        return self.catalogue.ungettext(one, many, count).format(n=self.number(count))

    def number(self, value: float) -> str:
        """1204 -> 1,204."""
        return f"{value:,}"

    def size(self, count: int) -> str:
        """Bytes -> "3.1 GB", decimal as on the disk's label; kept left to right."""
        for unit, scale in SIZES:
            if count >= scale:
                return self.isolate(f"{count / scale:.1f} {unit}")
        return self.isolate(f"{count} B")

    def isolate(self, value: object) -> str:
        """A name, id or size that keeps its own order inside a sentence of either direction."""
        return f"{LEFT_TO_RIGHT}{value}{END_OF_RUN}" if self.direction == "rtl" else str(value)

    def join(self, *clauses: str) -> str:
        """Clauses of one sentence; empty ones are left out."""
        # Translators: what stands between two clauses of a sentence
        return self.say(", ").join(clause for clause in clauses if clause)

    def span(self, seconds: float) -> str:
        """A duration in its two largest units: "42 s", "12 min", "3 h 5 min", "9 days 4 h"."""
        whole = max(0, int(seconds))
        if whole < MINUTE:
            return self._seconds(whole)
        if whole < HOUR:
            return self._minutes(whole // MINUTE)
        if whole < DAY:
            return self._pair(self._hours(whole // HOUR), self._minutes(whole % HOUR // MINUTE), whole % HOUR >= MINUTE)
        return self._pair(self.days(whole // DAY), self._hours(whole % DAY // HOUR), whole % DAY >= HOUR)

    def days(self, count: int) -> str:
        """9 -> "9 days"."""
        return self.plural("{n} day", "{n} days", count)

    def ago(self, seconds: float) -> str:
        """How long ago, in whole minutes: finer would redraw every table each second."""
        if seconds < MINUTE:
            return self.say("under a minute ago")
        return self.say("{span} ago").format(span=self.span(seconds))

    def moment(self, iso: str, now: str, zone: tzinfo) -> Markup:
        """An ISO time as a `<time>`: the clock alone where it is today, else the date too."""
        then = datetime.fromisoformat(iso).astimezone(zone)
        today = datetime.fromisoformat(now).astimezone(zone).date()
        text = f"{then:%H:%M:%S}" if then.date() == today else f"{then:%Y-%m-%d %H:%M}"
        return Markup('<time datetime="{}"><bdi dir="ltr">{}</bdi></time>').format(iso, text)

    def _seconds(self, count: int) -> str:
        return self.plural("{n} s", "{n} s", count)

    def _minutes(self, count: int) -> str:
        return self.plural("{n} min", "{n} min", count)

    def _hours(self, count: int) -> str:
        return self.plural("{n} h", "{n} h", count)

    def _pair(self, large: str, small: str, both: bool) -> str:
        # Translators: two parts of one duration, as in "3 h 5 min"
        return self.say("{large} {small}").format(large=large, small=small) if both else large


@cache
def speech(lang: str) -> Speech:
    """The speech of a language of `DIRECTION`; read once."""
    return Speech(lang)


def choose(asked: str | None, cookie: str | None, accept: str | None) -> str:
    """The language to speak: what the address asks, else the cookie, else the browser's list, else English."""
    for wish in (asked, cookie, *_accepted(accept or "")):
        if wish in DIRECTION:
            return wish
    return FALLBACK


def _accepted(header: str) -> list[str]:
    """The primary tags of an Accept-Language header, best first; whatever cannot be read counts as unwanted."""
    wishes: dict[str, float] = {}
    for part in header[:ACCEPT_CHARS_MAX].split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        if weight > 0:
            wishes.setdefault(tag.partition("-")[0].lower(), weight)
    return sorted(wishes, key=lambda tag: -wishes[tag])


def _read_catalogue(lang: str) -> Translations:
    """The language's `locale/*.po` compiled in memory, so that a package holds no file that could be older than its source."""
    catalogue = _read_file(LOCALE / f"{lang}.po", lang)
    hints = LOCALE / f"hints.{lang}.po"  # of the catalogue of errors, which is written in English
    return catalogue.merge(_read_file(hints, lang)) if hints.exists() else catalogue


def _read_file(path: Path, lang: str) -> Translations:
    compiled = BytesIO()
    with path.open("rb") as source:
        write_mo(compiled, read_po(source, locale=lang, abort_invalid=True))
    compiled.seek(0)
    return Translations(compiled)
