"""The node's own opinion: status facts in; one state, one verdict and the alarms out. Pure: the clock is `facts["now"]`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any, Final

Facts = Mapping[str, Any]

CATCHING_UP_SECONDS = 60  # on a link that is up, a record older than this has not been sent by the normal round trip
RATE_WINDOW_SECONDS = 600  # an arrival rate read from less than this is a guess, so no days are named
FEED_SILENT_SECONDS = 86_400  # a feed without a rhythm of its own (`silent_after_s`) is silent after a day
ROOM_LOW_DAYS = 7  # operations: alarm while a week is left to bring a new disk
ROOM_DAYS_MAX = 999  # beyond this the estimate says nothing
DAY_SECONDS = 86_400


class State(StrEnum):
    """The five states, as a person reads them; `ORDER` ranks them."""

    OK = "ok"  # records arrive at the centre
    UNPROVEN = "unproven"  # contacted, not yet used with success
    WAITING = "waiting"  # records are safe here and wait; nobody has to act
    ATTENTION = "attention"  # messages are taken, and a person has to act
    FAILED = "failed"  # messages are not taken in


ORDER = (State.OK, State.UNPROVEN, State.WAITING, State.ATTENTION, State.FAILED)

STATE_OF = {
    "VRD-00": State.OK,  # records are receipted
    "VRD-10": State.UNPROVEN,  # contacted, no receipt yet
    "VRD-20": State.WAITING,  # link down
    "VRD-21": State.WAITING,  # link up, catching up
    "VRD-22": State.WAITING,  # sending switched off
    "VRD-30": State.ATTENTION,  # a feed stopped
    "VRD-31": State.ATTENTION,  # a feed is silent
    "VRD-32": State.ATTENTION,  # the disk is filling
    "VRD-33": State.ATTENTION,  # a stream is stopped
    "VRD-34": State.ATTENTION,  # fenced: another copy of this node was admitted
    "VRD-35": State.ATTENTION,  # the centre revoked this node
    "VRD-36": State.ATTENTION,  # the disk is filling: bulk is refused
    "VRD-37": State.ATTENTION,  # the disk is filling: feeds that can wait are paused
    "VRD-38": State.ATTENTION,  # the centre holds the records back until a person releases them
    "VRD-39": State.ATTENTION,  # an alarm of the core stands that none of the others tells of
    "VRD-40": State.FAILED,  # core is not running
    "VRD-41": State.FAILED,  # storage is full
    "VRD-42": State.FAILED,  # no feed is running
    "VRD-43": State.FAILED,  # the disk is nearly full: only critical messages are taken
    "VRD-49": State.FAILED,  # the page cannot read the node's status
}

# What the stages of the disk mean (node/room.py); in those that are not here nothing is refused and nobody told.
STORAGE = {
    "filling": "VRD-32",
    "trimming": "VRD-32",
    "no-bulk": "VRD-36",
    "critical-only": "VRD-43",
    "full": "VRD-41",
}

# What is never raised as an alarm: nobody can do anything about it, and it passes by itself.
CALM = frozenset({"VRD-00", "VRD-10", "VRD-21"})

# Alarms of the core after which the centre holds what comes until a person there releases it: restored, copied, parted by order.
HELD: Final = ("SYN-23", "NOD-31", "SYN-20", "SYN-21", "SYN-22", "SYN-33", "NOD-36")
RESTORED: Final = "NOD-31"
# these stand on while the link is tried again, and is down
LINK_OF: Final = {"SYN-27": "fenced", "SYN-28": "revoked"}

# The catalogue names for every code who has to act, so every alarm asks for a person, but these: NOD-33 says that a change has come to its
# good end, and nothing is amiss where the old key stays listed; SYN-25 the node mends itself, and it goes with the next receipt. Both are
# listed among the alarms as ever.
NOTICES: Final = frozenset({"NOD-33", "SYN-25"})

# These say in one sentence what stands among the alarms in its own words, so they are no alarms of their own. A link that is down goes
# before them although it leaves the node merely waiting: what waits here, and for how long there is room, is asked first.
SUMS: Final = ("VRD-38", "VRD-39")
BEHIND: Final = ("VRD-20", *SUMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is so: its code, since when (ISO UTC or None), and what its sentence needs."""

    code: str
    since: str | None = None
    params: Mapping[str, Any]

    @property
    def state(self) -> State:
        """The state that this finding alone would give the node."""
        return STATE_OF.get(self.code, State.OK if self.code in NOTICES else State.ATTENTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the node thinks of itself: `verdict` is its headline; `alarms` are its own, most serious first, then the core's."""

    verdict: Finding
    alarms: tuple[Finding, ...]

    @property
    def state(self) -> State:
        """The state of the whole node: that of the most serious of all. A link that is down may be the headline of more than that."""
        return max((self.verdict.state, *(alarm.state for alarm in self.alarms)), key=ORDER.index)

    def document(self) -> dict[str, Any]:
        """The keys "state", "verdict" and "alarms" of the status document."""
        since = {"since": self.verdict.since}
        return {
            "state": str(self.state),
            "verdict": {"code": self.verdict.code, "params": {**self.verdict.params, **since}},
            "alarms": [{"code": a.code, "since": a.since, "params": dict(a.params)} for a in self.alarms],
        }


def decide(facts: Facts, standing: Sequence[Finding] = (), hint: Callable[[str], str] = str) -> Decision:
    """The status document without "state", "verdict" and "alarms", the core's alarms, what the catalogue says of a code -> Decision."""
    codes = {alarm.code for alarm in standing}
    found = sorted([*_findings(facts, codes), *_sums(standing, hint)], key=_rank)  # stable: the rules' order holds
    verdict = found[0] if found else Finding(code="VRD-00", since=facts["link"]["since"], params=_safe(facts))
    own = [finding for finding in found if finding.code not in CALM | {*SUMS}]
    return Decision(verdict=verdict, alarms=(*own, *sorted(standing, key=lambda alarm: alarm.code in NOTICES)))


def unreadable() -> Decision:
    """The decision where there is no status document at all."""
    finding = Finding(code="VRD-49", params={})
    return Decision(verdict=finding, alarms=(finding,))


def room_bytes(facts: Facts) -> int:
    """How many bytes of records still fit."""
    return int(facts["disk"]["room_bytes"])


def room_days(facts: Facts) -> int | None:
    """Whole days until the room is full at the rate at which the waiting records came; None where no rate can be known.

    What waits came since the oldest of it arrived, so this is a rate only while nothing leaves.
    """
    oldest = min((s["oldest_waiting_at"] for s in facts["streams"] if s["oldest_waiting_at"]), default=None)
    waiting_bytes = sum(int(s["waiting_bytes"]) for s in facts["streams"])
    if facts["link"]["state"] == "up" or oldest is None or waiting_bytes <= 0:
        return None
    seconds = age_seconds(oldest, facts["now"])
    if seconds < RATE_WINDOW_SECONDS:
        return None
    return min(ROOM_DAYS_MAX, int(room_bytes(facts) * seconds / waiting_bytes / DAY_SECONDS))


def age_seconds(then: str, now: str) -> float:
    """Seconds from one ISO time to another; never negative, because a clock may have been set back in between."""
    return max(0.0, (datetime.fromisoformat(now) - datetime.fromisoformat(then)).total_seconds())


def _findings(facts: Facts, standing: AbstractSet[str]) -> Iterator[Finding]:
    """All findings; within one state, the earlier rule is the more urgent one."""
    if not facts["core"]["running"]:  # without core no feed runs and no link is up: one cause, one finding
        yield Finding(code="VRD-40", since=facts["core"]["since"], params=_safe(facts))
        yield from chain(_storage(facts), _streams(facts))
        return
    yield from chain(_storage(facts), _link(facts, standing), _streams(facts), _feeds(facts))


def _rank(finding: Finding) -> tuple[int, int]:
    """Most serious first; behind what itself asks for a person come a link that is down and the sums."""
    if finding.code in BEHIND:
        return -ORDER.index(State.ATTENTION), BEHIND.index(finding.code) + 1
    return -ORDER.index(finding.state), 0


def _sums(standing: Sequence[Finding], hint: Callable[[str], str]) -> Iterator[Finding]:
    """One sentence for what the core's alarms ask for: of those that the centre holds, or of the first."""
    held = [alarm for code in HELD for alarm in standing if alarm.code == code]
    if held:
        restored = any(alarm.code == RESTORED for alarm in held)
        params = {"cause": held[0].code, "subject": "", "restored": restored}
        yield Finding(
            code="VRD-38", since=min((alarm.since for alarm in held if alarm.since), default=None), params=params
        )
        return
    first = next((alarm for alarm in standing if alarm.code not in NOTICES), None)
    if first is not None:
        params = {"cause": first.code, "subject": first.params.get("subject", ""), "hint": hint(first.code)}
        yield Finding(code="VRD-39", since=first.since, params=params)


def _storage(facts: Facts) -> Iterator[Finding]:
    days = room_days(facts)
    code = STORAGE.get(facts["disk"]["stage"], "VRD-32" if days is not None and days < ROOM_LOW_DAYS else "")
    paused = sum(bool(feed.get("paused")) for feed in facts["feeds"])
    if paused and code in {"", "VRD-32"}:
        code = "VRD-37"
    if code:
        room = {"room_bytes": room_bytes(facts), "room_days": days, "feeds": paused}
        yield Finding(code=code, params={**_safe(facts), **room})


def _link(facts: Facts, standing: AbstractSet[str]) -> Iterator[Finding]:
    link, safe = facts["link"], _safe(facts)
    match next((state for code, state in LINK_OF.items() if code in standing), link["state"]):
        case "fenced":
            yield Finding(code="VRD-34", since=link["since"], params=safe)
        case "revoked":
            yield Finding(code="VRD-35", since=link["since"], params=safe)
        case "down" | "off" as state:
            room = {"room_bytes": room_bytes(facts), "room_days": room_days(facts)}
            yield Finding(code="VRD-20" if state == "down" else "VRD-22", since=link["since"], params={**safe, **room})
        case "up" if facts["totals"]["receipted"]:
            yield from _catching_up(facts)
        case _:  # "unproven", or up with nothing receipted: contact is no proof
            yield Finding(code="VRD-10", since=link["since"], params=safe)


def _catching_up(facts: Facts) -> Iterator[Finding]:
    moving = [s["oldest_waiting_at"] for s in facts["streams"] if s["oldest_waiting_at"] and not s["halted"]]
    oldest = min(moving, default=None)
    if oldest is not None and age_seconds(oldest, facts["now"]) > CATCHING_UP_SECONDS:
        yield Finding(code="VRD-21", since=oldest, params=_safe(facts))


def _streams(facts: Facts) -> Iterator[Finding]:
    for stream in facts["streams"]:
        if stream["halted"]:
            params = {"stream": stream["stream"], "cause": stream["halted"]["code"], "waiting": int(stream["waiting"])}
            yield Finding(code="VRD-33", since=stream["halted"].get("since"), params=params)


def _feeds(facts: Facts) -> Iterator[Finding]:
    feeds = facts["feeds"]
    if feeds and not any(feed["running"] for feed in feeds):
        yield Finding(code="VRD-42", params={"feeds": len(feeds)})
        return
    for feed in feeds:
        if not feed["running"]:
            yield Finding(code="VRD-30", params={"feed": feed["name"]})
    for feed in feeds:  # a feed that never spoke is being installed, not silent
        limit = feed.get("silent_after_s", FEED_SILENT_SECONDS)
        if feed["running"] and feed["last_seen"] and age_seconds(feed["last_seen"], facts["now"]) > limit:
            yield Finding(code="VRD-31", since=feed["last_seen"], params={"feed": feed["name"]})


def _safe(facts: Facts) -> dict[str, Any]:
    """The numbers that every sentence may need."""
    return {"waiting": int(facts["totals"]["waiting"]), "receipted": int(facts["totals"]["receipted"])}
