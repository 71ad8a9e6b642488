"""The site's rules against one message: a verdict. What cannot be parsed is accepted with a warning, never refused.

A verdict's codes and texts are those of the catalogue in `hl7.errors`; it holds nothing of the message but its facts.
"""

from dataclasses import dataclass
from dataclasses import field as _field
from enum import IntEnum
from typing import Final, NamedTuple

from hl7.charsets import Source, can_be_framed, charset_of
from hl7.errors import (
    EventNotAllowed,
    Hl7Error,
    NotEr7,
    NotWanted,
    ProcessingIdNotAllowed,
    Reply,
    RequiredFieldMissing,
    SenderNotAllowed,
    TypeNotAllowed,
    UndecodableText,
    UnknownCharacterSet,
    VersionNotAllowed,
)
from hl7.globs import Globs, compile_globs, events_of_type, first_of, is_allowed_sender, text_of
from hl7.message import Facts, Message, Path, Route, facts, header
from hl7.routing import Rule, choose
from hl7.separators import read_separators
from hl7.undecodable import place_of_undecodable

_NULL: Final = b'""'  # HL7 2.5.3: "delete this value", so nothing a rule could be content with


class Outcome(IntEnum):
    """What becomes of a message; the numbers stand in headers of the log."""

    ACCEPTED = 0
    ACCEPTED_WITH_WARNING = 1
    REJECTED = 2


_ACCEPTED: Final = Outcome.ACCEPTED  # looking a member up costs more than the rest of a good message's verdict


class Verdict(NamedTuple):
    """Outcome, catalogue code, MSA-1, table 0357, ERR-2 ("PID^1^3"), text for the sender, the message's facts.

    Empty strings where nothing is wrong; `facts` is None where there is no MSH. A NamedTuple: one for every message.
    """

    outcome: Outcome
    code: str
    ack_code: Reply
    error_code: str
    location: str
    text: str
    facts: Facts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a feed accepts; an empty rule accepts anything. ValueError on a path or character set that cannot be.

    `senders`: "application|facility" globs over MSH-3 and MSH-4, matched whole and by their first component.
    `types`: "ADT^A01" globs over MSH-9.1 and MSH-9.2. `versions`, `processing_ids`: first components, exact.
    `required`: paths that hold a value. `charset`: Python's codec of the text whatever MSH-18 says (Windows-1256 has
    no name there); `charset_default`: the codec where MSH-18 is empty. `routes`: see `hl7.routing`. The other attributes are these, compiled.
    """

    senders: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    processing_ids: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    charset: str = ""
    charset_default: str = "utf-8"
    routes: tuple[Rule, ...] = ()
    has_filters: bool = _field(init=False, repr=False, compare=False)
    has_rules: bool = _field(init=False, repr=False, compare=False)
    required_paths: tuple[Path, ...] = _field(init=False, repr=False, compare=False)
    sender_globs: Globs = _field(init=False, repr=False, compare=False)
    type_globs: Globs = _field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in (self.charset or self.charset_default, self.charset_default):
            if not can_be_framed(name):
                msg = f"not a character set that MLLP can carry and Python knows: {name!r}"
                raise ValueError(msg)
        has_filters = any(not rule.stream for rule in self.routes)
        has_rules = has_filters or any((self.senders, self.types, self.versions, self.processing_ids, self.required))
        object.__setattr__(self, "has_filters", has_filters)
        object.__setattr__(self, "has_rules", has_rules)
        object.__setattr__(self, "required_paths", tuple(Path.parse(path) for path in self.required))
        object.__setattr__(self, "sender_globs", compile_globs(self.senders, "|"))
        object.__setattr__(self, "type_globs", compile_globs(self.types, "^"))


NO_RULES: Final = Rules()


def check(raw: bytes, rules: Rules = NO_RULES) -> Verdict:
    """Judge a message by the feed's rules. Never raises, whatever the bytes."""
    try:
        found = facts(raw)
    except NotEr7:
        return verdict_of(NotEr7, "", None)
    if rules.has_rules:
        refusal = _refusal(raw, rules, found.route)
        if refusal is not None:
            return verdict_of(refusal[0], refusal[1], found)
    if not raw.isascii():
        warning = _text_error(raw, rules, found.route)
        if warning is not None:
            return verdict_of(warning[0], warning[1], found)
    return Verdict(_ACCEPTED, "", "AA", "", "", "", found)


def verdict_of(error: type[Hl7Error], location: str, found: Facts | None) -> Verdict:
    """Give the verdict that an entry of the catalogue stands for."""
    outcome = Outcome.ACCEPTED_WITH_WARNING if error.reply == "AA" else Outcome.REJECTED
    return Verdict(outcome, error.code, error.reply, error.error_code, location, error.text, found)


_Refusal = tuple[type[Hl7Error], str] | None


def _refusal(raw: bytes, rules: Rules, route: Route) -> _Refusal:
    """Return the first broken rule and where: who speaks, what about, and then what is missing."""
    separators = read_separators(header(raw))
    if rules.senders and not is_allowed_sender(rules.sender_globs, route, separators):
        return SenderNotAllowed, "MSH^1^3"
    if rules.types and (refusal := _type_refusal(rules.type_globs, route)):
        return refusal
    if rules.processing_ids and first_of(route.processing_id, separators) not in rules.processing_ids:
        return ProcessingIdNotAllowed, "MSH^1^11"
    if rules.versions and first_of(route.version, separators) not in rules.versions:
        return VersionNotAllowed, "MSH^1^12"
    if rules.has_filters:
        rule = choose(raw, route, separators, rules.routes)
        if rule is not None and not rule.stream:
            return NotWanted, "MSH^1^9"
    return _missing(raw, rules.required_paths) if rules.required else None


def _type_refusal(globs: Globs, route: Route) -> _Refusal:
    events = events_of_type(globs, route)
    if not events:
        return TypeNotAllowed, "MSH^1^9^1^1"
    event = text_of(route.trigger_event)
    return None if any(of_event.match(event) for of_event in events) else (EventNotAllowed, "MSH^1^9^1^2")


def _missing(raw: bytes, paths: tuple[Path, ...]) -> _Refusal:
    """Return the first required field that holds nothing but separators, or null."""
    message = Message(raw)
    for path, value in zip(paths, message.read(paths), strict=True):
        filled = value if path.is_undivided else (value or b"").strip(message.separators.kernel)
        if not filled or filled == _NULL:
            if _is_fragment(message):
                return None
            return RequiredFieldMissing, _location(path)
    return None


def _is_fragment(message: Message) -> bool:
    """Tell whether the rest of it came in the message before, or comes in the next (HL7 2.9.2): what is missing here may stand there."""
    return any(value and value != _NULL for value in message.read(("MSH-14", "DSC-1")))


def _text_error(raw: bytes, rules: Rules, route: Route) -> _Refusal:
    """Decide whether bytes above 127 are text: by the feed's setting, else MSH-18, else the feed's default; else name the first field that is none."""
    separators = read_separators(header(raw))
    declared = route.character_set
    charset = charset_of(declared, separators.repetition, rules.charset, rules.charset_default)
    try:
        raw.decode(charset.codec)
    except UnicodeError:
        place = place_of_undecodable(raw, charset, separators)
        if place is not None:
            return UndecodableText, place
    return (UnknownCharacterSet, "MSH^1^18") if charset.source is Source.UNKNOWN else None


def _location(path: Path) -> str:
    """Write ERR-2: segment^sequence^field^repetition^component^subcomponent, without what is not asked for."""
    numbers = [path.occurrence, path.field]
    if path.repetition or path.component:
        numbers += [path.repetition or 1, path.component, path.subcomponent]
    while not numbers[-1]:
        numbers.pop()
    return "^".join([path.segment.decode("ascii"), *map(str, numbers)])
