"""MQTT topic names and filters (MQTT 5.0 section 4.7): what a filter may be, and which topics it means."""

from collections.abc import Iterable
from typing import Final

# A topic names ward, bed and device: 60 characters are usual, and it stands in every record's particulars.
TOPIC_CHARACTERS_MAX: Final = 1024
LEVELS_MAX: Final = 32  # a filter is matched level by level on every message


def check_filter(text: str) -> str:
    """Give the filter back. ValueError, in a technician's words, where no broker would take it or where it would lose messages."""
    levels = text.split("/")
    if not text or not text.isprintable() or len(text) > TOPIC_CHARACTERS_MAX or len(levels) > LEVELS_MAX:
        raise ValueError(
            f'must be a topic filter such as "ward/+/vitals", of at most {TOPIC_CHARACTERS_MAX} characters and {LEVELS_MAX} levels'
        )
    if levels[0] == "$share":
        raise ValueError("must not be shared: the broker would deal its messages out to several clients, out of order")
    if "#" in levels[:-1] or any(len(level) > 1 and set(level) & {"#", "+"} for level in levels):
        raise ValueError('must have "+" and "#" as whole levels, "#" as the last one only')
    return text


def matches(wanted: str, topic: str) -> bool:
    """Tell whether a filter means this topic."""
    ours, theirs = wanted.split("/"), topic.split("/")
    if topic.startswith("$") and ours[0] in {"#", "+"}:  # MQTT 5.0 4.7.2: what a broker says of itself is never meant
        return False
    for at, level in enumerate(ours):
        if level == "#":
            return True
        if at >= len(theirs) or level not in {"+", theirs[at]}:
            return False
    return len(ours) == len(theirs)


def covers(wide: str, narrow: str) -> bool:
    """Tell whether every topic that `narrow` means is meant by `wide` too."""
    ours, theirs = wide.split("/"), narrow.split("/")
    if theirs[0].startswith("$") and ours[0] in {"#", "+"}:
        return False
    for at, level in enumerate(ours):
        if level == "#":
            return True
        if at >= len(theirs) or theirs[at] == "#" or level not in {"+", theirs[at]}:
            return False
    return len(ours) == len(theirs)


def overlap(one: str, other: str) -> bool:
    """Tell whether there is a topic that both mean."""
    ours, theirs = one.split("/"), other.split("/")
    if ours[0] != theirs[0] and (ours[0][:1] == "$" or theirs[0][:1] == "$"):
        return False
    for at in range(max(len(ours), len(theirs))):
        left, right = (levels[at] if at < len(levels) else "" for levels in (ours, theirs))
        if "#" in {left, right}:
            return True
        if at >= min(len(ours), len(theirs)):  # "a/#" means "a" too (4.7.1.2), and only that far
            return False
        if left != right and "+" not in {left, right}:
            return False
    return True


def widest(filters: Iterable[str]) -> list[str]:
    """Those that no other one covers: a broker sends a message once for each subscription that means it."""
    found = list(dict.fromkeys(filters))
    return [each for each in found if not any(other != each and covers(other, each) for other in found)]
