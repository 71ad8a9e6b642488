"""Patterns of senders and types, as a site's rules write them: "HIS*|CLINIC7" over MSH-3 and MSH-4, "ADT^A0?" over MSH-9."""

import re
from fnmatch import translate
from typing import Final

from hl7.message import Route
from hl7.separators import Separators

Globs = tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]
NO_GLOBS: Final[Globs] = ()


def compile_globs(globs: tuple[str, ...], mark: str) -> Globs:
    """Pairs of patterns from "A|B"; what is left out stands for anything."""
    pairs = (glob.split(mark, 1) if mark in glob else (glob, "*") for glob in globs)
    return tuple((re.compile(translate(left)), re.compile(translate(right))) for left, right in pairs)


def is_allowed_sender(globs: Globs, route: Route, separators: Separators) -> bool:
    """Tell whether MSH-3 and MSH-4 match a pair, whole or by their first components."""
    application, facility = text_of(route.sending_application), text_of(route.sending_facility)
    if any(of_application.match(application) and of_facility.match(facility) for of_application, of_facility in globs):
        return True
    application, facility = (
        first_of(route.sending_application, separators),
        first_of(route.sending_facility, separators),
    )
    return any(
        of_application.match(application) and of_facility.match(facility) for of_application, of_facility in globs
    )


def events_of_type(globs: Globs, route: Route) -> list[re.Pattern[str]]:
    """Give the event patterns of those pairs whose type matches MSH-9.1."""
    code = text_of(route.message_code)
    return [of_event for of_type, of_event in globs if of_type.match(code)]


def is_allowed_type(globs: Globs, route: Route) -> bool:
    """Tell whether MSH-9.1 and MSH-9.2 match a pair."""
    event = text_of(route.trigger_event)
    return any(of_event.match(event) for of_event in events_of_type(globs, route))


def text_of(value: bytes) -> str:
    """Read bytes of a header as text; what is no UTF-8 matches no pattern but a star."""
    return value.decode("utf-8", "replace")


def first_of(value: bytes, separators: Separators) -> str:
    """Give a field's first component, as text."""
    if separators.component is not None:
        value = value.split(bytes([separators.component]), 1)[0]
    return text_of(value)
