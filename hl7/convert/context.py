"""What the rules of one message share: settings, the zone, the resources under way, who is who."""

from collections.abc import Mapping
from datetime import timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

from hl7.convert.building import Draft, Resource
from hl7.convert.codes import CodeMap, code_map, coding_system, universal
from hl7.convert.reading import Dialect, Part, Segment
from hl7.convert.result import Json, Settings
from hl7.convert.times import Moment, moment, zone_in


@lru_cache(maxsize=64)
def _fixed_zone(text: str) -> tzinfo:
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))


Concepts = dict[tuple[str, str, int], tuple[Json | None, int]]
"""What a repetition's text became by a map of codes, at a level, and which of its parts were read for that."""

CONCEPTS_MAX: Final = 20_000  # of one facility: what its systems send for codes; 10 MB
DIALECTS_MAX: Final = 16
_REMEMBERED: Final[dict[tuple[str, int, Dialect], tuple[Mapping[str, str], Concepts]]] = {}


class Context:
    """One message's conversion under way."""

    __slots__ = ("concepts", "current", "draft", "event", "facility", "segment", "settings", "spoken_of", "zone")

    def __init__(self, settings: Settings, draft: Draft, facility: str, event: str) -> None:
        self.settings = settings
        self.draft = draft
        self.facility = facility
        self.event = event
        self.spoken_of: frozenset[str] = frozenset()  # kinds of resources that such a message is no authority for
        self.zone = settings.zone
        self.concepts: Concepts = {}
        self.current: dict[str, Resource] = {}
        self.segment: Segment

    def remember(self, dialect: Dialect) -> None:
        """Know the concepts that messages of the same facility, settings and dialect held before."""
        systems = self.settings.systems
        key = (self.facility, id(systems) if systems else 0, dialect)
        found = _REMEMBERED.get(key)
        if found is None or len(found[1]) >= CONCEPTS_MAX:
            if len(_REMEMBERED) >= DIALECTS_MAX:
                _REMEMBERED.clear()
            found = _REMEMBERED[key] = (systems, {})  # held, so that no other mapping gets its id
        self.concepts = found[1]

    def take_zone(self, text: str) -> None:
        """HL7 2.14.9.7: the zone of MSH-7 holds for all times of the message that name none."""
        zone = zone_in(text)
        if zone and zone != "Z" and moment(text, None).date_time:
            self.zone = _fixed_zone(zone.replace(":", ""))

    def moment(self, part: Part, at: int = 1) -> Moment:
        """Read a time; what it loses is noted with its path."""
        text = part.get(at)
        found = moment(text, self.zone)
        if found.problem:
            self.lose(part, at, found.problem)
        return found

    def lose(self, part: Part, at: int, reason: str) -> None:
        """List a value, although it was read, with the reason why it could not be used, or not as it stands."""
        part.read &= ~(1 << at)
        part.segment.note(f"{part.where}.{at}", reason)

    def authority(self, namespace: str, uid: str, kind: str) -> str:
        """Return the system of identifiers that an authority gives (an HD): its URI, or one of the facility's own."""
        settings = self.settings.systems
        known = settings.get(namespace) or settings.get(uid)
        if known:
            return known
        if uid:
            return universal(uid, kind)
        scope = f"{self.facility}:" if self.facility else ""
        return "urn:id:" + (scope + namespace).replace(" ", "-") if namespace else ""

    def coding_system(self, name: str) -> str:
        """Return a coding system's URI by its name in table 0396, the site's settings first."""
        known = self.settings.systems.get(name) or coding_system(name)
        if known:
            return known
        scope = f"{self.facility}:" if self.facility else ""
        return "urn:id:" + (scope + name).replace(" ", "-")

    @staticmethod
    def codes(name: str) -> CodeMap:
        """Return a code map of the tables."""
        return code_map(name)
