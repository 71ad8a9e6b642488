"""The keys of a profile's `[link]`: which a feed of each kind takes, and what each may hold. What no feed would take is refused, and told."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, get_args

from hl7.devices.astm_frames import FRAME_ENDS, TEXT_LIS01
from hl7.devices.astm_orders import NUMBERS_MAX
from hl7.devices.line_framing import BYTE_FORM, KIB, byte_of
from hl7.devices.lines import CHECK_BYTES, Check, Covers, Ends, LineEnd
from hl7.devices.profile_errors import ProfileProblem
from hl7.devices.profile_keys import Keys, Simple

IDENTITY_MAX: Final = 4  # members of a payload; a device needs two or three to tell readings apart


class Allowed(NamedTuple):
    """What a key may hold: judged, and in words."""

    holds: Callable[[Simple], bool]
    words: str


def _one_of(*words: str) -> Allowed:
    return Allowed(lambda value: isinstance(value, str) and value in words, "one of " + ", ".join(words))


def _whole(low: int, high: int) -> Allowed:
    return Allowed(lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}")


def _is_byte(value: Simple) -> bool:
    try:
        byte_of(value)
    except ValueError:
        return False
    return True


def _is_identity(value: Simple) -> bool:
    return isinstance(value, str) and 1 <= len(value.split()) <= IDENTITY_MAX


_BYTE: Final = Allowed(_is_byte, BYTE_FORM)
_YES_NO: Final = Allowed(lambda value: isinstance(value, bool), "true or false")

LINK_KEYS: Final[Mapping[str, Mapping[str, Allowed]]] = {
    "line": {
        "ends": _one_of(*get_args(Ends)), "line_end": _one_of(*get_args(LineEnd)), "start": _BYTE, "end": _BYTE, "length": _whole(0, 64 * KIB),
        "quiet_ms": _whole(0, 3_600_000), "check": _one_of(*get_args(Check)), "covers": _one_of(*get_args(Covers)), "answer": _BYTE,
        "answer_bad": _BYTE,
    },
    "astm": {
        "frame_text_bytes_max": _whole(1, TEXT_LIS01), "send_text_bytes_max": _whole(1, TEXT_LIS01), "frame_end": _one_of(*FRAME_ENDS),
        "without_enq": _YES_NO, "terminator": _one_of("required", "optional"), "orders": _one_of("none", "query", "download"),
        "sample_component": _whole(0, NUMBERS_MAX),
    },
    "mqtt": {
        "content_type": _one_of(
            "application/json", "application/senml+json", "application/fhir+json", "application/hl7-v2+er7", "application/cbor",
            "application/xml", "application/vnd.sparkplug.b+protobuf", "application/octet-stream", "text/plain",
        ),
        "identity": Allowed(_is_identity, f"a text of 1 to {IDENTITY_MAX} members of the payload, with blanks between them"),
    },
}  # fmt: skip
"""The feeds' own tables (node/config/line.py, astm.py, mqtt.py) have the same keys; feeds of the other kinds read none."""


def link_of(keys: Keys, kind: str) -> dict[str, Simple]:
    """Take a profile's `[link]`. Raises ProfileProblem, which names the key and says what may stand there."""
    found = keys.simple()
    known = LINK_KEYS.get(kind, {})
    for name, value in found.items():
        allowed = known.get(name)
        if allowed is None:
            raise ProfileProblem(
                f"link.{name}",
                f"unknown key; a feed of kind {kind} takes {', '.join(known) or 'no switches of a profile'}",
            )
        if not allowed.holds(value):
            raise ProfileProblem(f"link.{name}", f"{value!r} is not known here; {allowed.words}")
    if kind == "line":
        _check_line(found)
    return found


def _check_line(link: Mapping[str, Simple]) -> None:
    """Refuse keys of a line that contradict each other."""
    ends, check = link.get("ends", "lines"), str(link.get("check", "none"))
    if ends == "fixed" and int(link.get("length", 0)) <= CHECK_BYTES[check]:
        raise ProfileProblem("link.length", '"ends" is "fixed": the length of a report, its check value included')
    if ends == "pause" and check != "none":
        raise ProfileProblem("link.check", "a check value needs an end that can be told: ends = lines, block or fixed")
