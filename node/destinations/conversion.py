"""Records in the form that a destination takes: HL7 v2 as FHIR R4, FHIR's orders and reports as HL7 v2. In the destination's own thread, with an end to it."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from hl7.convert.result import CannotConvert, Converted, Json, Origin, Settings, Unmapped
from hl7.convert.to_fhir import convert
from hl7.convert.to_v2 import from_json
from hl7.errors import NotEr7
from hl7.message import facts, is_test
from node.config.destinations import FhirOut, MllpOut
from node.destinations.plug import Outgoing
from node.zones import zone_of

# Python's lock is shared with intake, so a conversion is not to go on for ever: 10 s are 5,000 usual messages. Of the thread's own time,
# which a busy machine does not use up.
CONVERT_S_MAX: Final = 10.0
BODY_BYTES_MAX: Final = (
    16 * 1024 * 1024
)  # what a feed takes in a frame unless told otherwise; the text and its parts are in memory
PATHS_MAX: Final = 500  # counted each by itself; the corpus of 1,690 messages has some thousand, one sender a few dozen
SHOWN_MAX: Final = 40
OTHER: Final = ("(others)", "")

Manners = Mapping[str, tuple[str, str, Mapping[str, str]]]
"""Of each feed, by name: its character set whatever MSH-18 says, and the one where MSH-18 is empty."""

_NUMBER: Final = re.compile(r"\[\d+\]")
_PATH: Final = re.compile(
    r"[A-Za-z0-9_.-]{1,120}"
)  # names come from a sender too: what does not look like one is not shown


class Tally:
    """How much was converted since the start, and what of it had no place: counted by path and reason, without the values."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # the status is read by another thread
        self._converted, self._unmapped = 0, 0
        self._by_path: Counter[tuple[str, str]] = Counter()

    def add(self, unmapped: Iterable[Unmapped]) -> None:
        """Count one message, and the values of it that the result does not hold."""
        with self._lock:
            self._converted += 1
            for each in unmapped:
                self._unmapped += 1
                path = _NUMBER.sub("", each.path).removeprefix("entry.")
                key = (path, each.reason) if _PATH.fullmatch(path) else OTHER
                if key not in self._by_path and len(self._by_path) >= PATHS_MAX:
                    key = OTHER
                self._by_path[key] += 1

    def document(self) -> dict[str, Any]:
        """What is counted, the most frequent first."""
        with self._lock:
            most = self._by_path.most_common(SHOWN_MAX)
            return {
                "converted": self._converted, "unmapped": self._unmapped,
                "paths": [{"path": path, "reason": reason, "count": count} for (path, reason), count in most],
            }  # fmt: skip


def _deadline() -> Callable[[], bool]:
    end = time.thread_time() + CONVERT_S_MAX
    return lambda: time.thread_time() > end


def _fits(body: bytes) -> None:
    if len(body) > BODY_BYTES_MAX:
        raise CannotConvert("too-large", f"{len(body)} bytes, {BODY_BYTES_MAX} at most")


@contextmanager
def _parked() -> Iterator[None]:
    """Whatever a message does to the converter is that message's own: it is parked, and those behind it go on. Raises CannotConvert."""
    try:
        yield
    except (CannotConvert, MemoryError):
        raise
    except Exception as error:  # the thread's end would be the core's, at every start anew
        raise CannotConvert("content", type(error).__name__) from error


class ToFhir:
    """HL7 v2 to FHIR R4 for one destination, each feed's text in its own character set."""

    def __init__(self, destination: FhirOut, manners: Manners, tally: Tally) -> None:
        self.kind = destination.convert
        self._zone, self._systems = zone_of(destination.zone), destination.systems
        self._manners, self._tally = manners, tally

    def __call__(self, outgoing: Outgoing) -> Converted:
        """Convert a message. Raises CannotConvert, also where it says of itself that it is a test."""
        if self.kind == "none":
            raise CannotConvert("off", "not to be converted")
        _fits(outgoing.body)
        try:
            if is_test(facts(outgoing.body).route):
                raise CannotConvert("test", "a test is nobody's record")
        except NotEr7 as error:
            raise CannotConvert("no-header", str(error)) from error
        charset, default, local = self._manners.get(outgoing.feed, ("", "utf-8", {}))
        settings = Settings(
            charset=charset, charset_default=default, local_escapes=local, zone=self._zone, systems=self._systems
        )
        with _parked():
            return convert(outgoing.body, settings, outgoing.origin, _deadline())

    def count(self, made: Converted) -> None:
        """One was taken."""
        self._tally.add(made.unmapped)


def as_transaction(made: Converted, there: frozenset[str]) -> Json:
    """The transaction without what was only mentioned and is `there`; what is not there is made, but only if nobody has made it meanwhile."""
    entries = []
    for entry in made.bundle["entry"]:
        name = entry["request"]["url"]
        if name in there:
            continue
        only_new = {"request": {**entry["request"], "ifNoneMatch": "*"}} if name in made.mentioned else {}
        entries.append(entry | only_new)
    return made.bundle | {"entry": entries}


def as_message(made: Converted) -> Json:
    """The Bundle for `$process-message`: the receiver decides what becomes of each resource, so nothing is asked of it."""
    entries = [{name: value for name, value in entry.items() if name != "request"} for entry in made.bundle["entry"]]
    entries.sort(key=lambda entry: entry["resource"]["resourceType"] != "MessageHeader")  # R4's bdl-12: it comes first
    return made.bundle | {"type": "message", "entry": entries}


class ToV2:
    """FHIR's orders and reports to HL7 v2 for one destination, in the character set that it reads."""

    def __init__(self, destination: MllpOut, tally: Tally) -> None:
        self._charset, self._systems, self._tally = destination.charset, destination.systems, tally

    def __call__(self, body: bytes, origin: Origin) -> tuple[bytes, ...]:
        """Convert a record. Raises CannotConvert, also where a resource says that it is a test's."""
        _fits(body)
        settings = Settings(charset=self._charset, facility=origin.facility, systems=self._systems)
        with _parked():
            made = from_json(body, settings, origin, _deadline())
        if made.is_test:
            raise CannotConvert("test", "a test is nobody's record")
        self._tally.add(made.unmapped)
        return made.messages
