"""A read-only view over a message's original bytes: segments and fields are found by a native index, when first asked.

Nothing is decoded, unescaped or written. `facts` reads only the header, which is all that most messages are asked for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as _field
from functools import lru_cache
from typing import Final, NamedTuple

from hl7.errors import NotEr7
from hl7.separators import HEADERS, STANDARD, Separators, read_separators, start_of
from native import Path as KernelPath
from native import er7_index, er7_read, er7_spans, er7_template

PLAIN_BYTES_MAX: Final = 1024  # of a header that is remembered; real ones have 100 to 300
HEADER_BYTES_MAX: Final = 64 * 1024  # the standard's longest MSH is below 5 kB; a message without CR is one "header"

_PATH: Final = re.compile(
    r"([A-Z][A-Z0-9]{2})(?:\[([1-9]\d{0,8})\])?-(0|[1-9]\d{0,3})"  # at most 9 digits: a kernel's C int
    r"(?:\[([1-9]\d{0,8})\])?(?:\.([1-9]\d{0,3})(?:\.([1-9]\d{0,3}))?)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Where a value stands, counted as HL7 counts: everything from 1. 0 means the whole, also for the repetition.

    A component without a repetition is looked for in the first one. MSH-1 and MSH-2 (FHS, BHS too) are always whole.
    """

    segment: bytes
    occurrence: int = 1
    field: int
    repetition: int = 0
    component: int = 0
    subcomponent: int = 0
    kernel: KernelPath = _field(init=False, repr=False, compare=False)
    is_field_separator: bool = _field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if min(self.occurrence - 1, self.field, self.repetition, self.component, self.subcomponent) < 0:
            raise ValueError("a path counts from 1")
        kernel = (self.repetition - 1, self.component, self.subcomponent)
        field = self.field
        if self.segment in HEADERS and field:
            # HL7 2.5.4: MSH-1 is the separator itself, so MSH-2 follows the first mark. Its bytes are not divided.
            field -= 1
            kernel = (-1, 0, 0) if self.is_undivided else kernel
        object.__setattr__(self, "is_field_separator", self.field == 1 and self.is_undivided)
        object.__setattr__(self, "kernel", (self.segment, self.occurrence - 1, field, *kernel))

    @property
    def is_undivided(self) -> bool:
        """It names the declaration of the separators, which they do not divide: MSH-1, MSH-2 and the like."""
        return self.field in {1, 2} and self.segment in HEADERS

    @staticmethod
    @lru_cache(maxsize=1024)  # paths come from code and configuration
    def parse(text: str) -> "Path":
        """Read "PID-3", "PID-3.1", "PID-3[2].4.1" or "OBX[5]-3.1"; ValueError where it is none of these."""
        match = _PATH.fullmatch(text)
        if match is None:
            msg = f"not a path: {text!r}; write SEG-field, SEG-field[repetition].component.subcomponent, SEG[n]-field"
            raise ValueError(msg)
        segment, *numbers = match.groups()
        occurrence, field, repetition, component, subcomponent = (int(number or 0) for number in numbers)
        return Path(
            segment=segment.encode("ascii"),
            occurrence=occurrence or 1,
            field=field,
            repetition=repetition,
            component=component,
            subcomponent=subcomponent,
        )


@lru_cache(maxsize=256)  # a site reads a few sets of fields
def _plan(paths: tuple[str | Path, ...]) -> tuple[list[KernelPath], tuple[int, ...]]:
    """Give the kernel's paths, and the places of those that name a separator itself."""
    parsed = [Path.parse(path) if isinstance(path, str) else path for path in paths]
    return [path.kernel for path in parsed], tuple(at for at, path in enumerate(parsed) if path.is_field_separator)


class Message:
    """A view over one message or batch. NotEr7 where it does not begin with MSH, FHS or BHS.

    `raw`: the bytes as they came; spans are offsets in it. `separators`: those of the first segment.
    """

    __slots__ = ("_body", "_index", "_start", "raw", "separators")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._index: bytes | None = None
        if raw.startswith(_STANDARD_HEADER) and b"\n" not in raw:  # nearly all there are
            self.separators: Separators = STANDARD
            self._start = 0
            self._body = raw
            return
        self.separators = read_separators(raw)
        self._start = start_of(raw)
        self._body = _divided(raw[self._start :], self.separators.field)

    @property
    def _indexed(self) -> bytes:
        if self._index is None:
            self._index = er7_index(self._body, self.separators.kernel)
        return self._index

    def get(self, path: str | Path) -> bytes | None:
        """Return the bytes at a path: None where absent, b"" where present and empty."""
        return self.read((path,))[0]

    def read(self, paths: Sequence[str | Path]) -> list[bytes | None]:
        """Return the bytes at each path, as `get`, in one pass; fastest where the paths are a tuple that is used again."""
        kernels, marks = _plan(tuple(paths))
        values = er7_read(self._body, self._indexed, kernels)
        for at in marks:
            span = self.span(paths[at])
            values[at] = span and self.raw[span[0] : span[1]]
        return values

    def span(self, path: str | Path) -> tuple[int, int] | None:
        """Return (start, end) of the bytes at a path in `raw`; None where absent."""
        path = Path.parse(path) if isinstance(path, str) else path
        found = er7_spans(self._body, self._indexed, [path.kernel])[0]
        if found is None:
            return None
        start, end = found[0] + self._start, found[1] + self._start
        if not path.is_field_separator:
            return start, end
        # The kernel's field 0 is the segment's name; the separator is the byte behind it, if the segment does not end there.
        return (end, end + 1) if self.raw[end : end + 1] == bytes([self.separators.field]) else None

    @property
    def count(self) -> int:
        """Number of segments, blank lines not counted."""
        return memoryview(self._indexed).cast("I")[0]

    def segments(self) -> Iterator[tuple[bytes, tuple[int, int]]]:
        """Each segment's name and its (start, end) in `raw`, terminator excluded."""
        numbers = memoryview(self._indexed).cast("I")
        mark = bytes([self.separators.field])
        for at in range(2, 2 + 4 * numbers[0], 4):
            start, end = numbers[at], numbers[at + 1]
            name = self._body[start:end].partition(mark)[0]
            yield name, (start + self._start, end + self._start)


_TYPE: Final = re.compile(rb"[A-Z0-9]{3}(\^[A-Z0-9]{3}(\^[A-Z0-9_]{3,7})?)?")


class Route(NamedTuple):
    """What all messages of one type from one sender say alike in their MSH, as it stands there; b"" where absent.

    Whole fields, but `message_code` (MSH-9.1) and `trigger_event` (MSH-9.2).
    """

    sending_application: bytes = b""
    sending_facility: bytes = b""
    receiving_application: bytes = b""
    receiving_facility: bytes = b""
    message_type: bytes = b""
    message_code: bytes = b""
    trigger_event: bytes = b""
    processing_id: bytes = b""
    version: bytes = b""
    sequence_number: bytes = b""
    accept_ack: bytes = b""
    application_ack: bytes = b""
    character_set: bytes = b""


def is_test(route: Route) -> bool:
    """Tell whether MSH-11 says training or debugging (T, D of HL7 table 0103), which no record of a patient may be made of."""
    processing_id = route.processing_id
    return processing_id != b"P" and processing_id[:1] in {b"T", b"D"} and not processing_id[1:2].isalnum()


@lru_cache(maxsize=512)  # a site sends some tens of types
def safe_type(message_type: bytes) -> str:
    """MSH-9 where it has the form of one, else empty: headers are permanent, and a sender may write anything there."""
    return message_type.decode() if _TYPE.fullmatch(message_type) else ""


class Facts(NamedTuple):
    """What a message says about itself in its MSH; a batch: its first MSH. `control_id`: MSH-10 as it stands.

    `is_plain`: the usual separators, at most `PLAIN_BYTES_MAX`, and nothing that ends a frame or a segment in it. `is_usual`: plain, MSH-11 is P,
    MSH-15 and MSH-16 are empty; known with the route, so that what most messages have no use for is not looked for in each of them.
    NamedTuples, because these are built for every message and a frozen dataclass costs several times as much.
    """

    route: Route
    control_id: bytes
    is_plain: bool = False
    is_usual: bool = False


_STANDARD_HEADER: Final = b"MSH|^~\\&|"
_MSH_IN_BATCH: Final = re.compile(rb"[\r\n]MSH")

_ROUTING: Final = [
    Path.parse(path).kernel
    for path in (
        *("MSH-3", "MSH-4", "MSH-5", "MSH-6", "MSH-9", "MSH-9.1", "MSH-9.2"),
        *("MSH-11", "MSH-12", "MSH-13", "MSH-15", "MSH-16", "MSH-18", "MSH-10"),
    )
]


def header(raw: bytes) -> bytes:
    """Return the first MSH segment, at most `HEADER_BYTES_MAX` of it, ended by CR; NotEr7 where there is none.

    With its CR it is divided as within the message, even where LFs stand in it. A batch's FHS and BHS are passed over.
    """
    if raw.startswith(b"MSH"):
        end = raw.find(b"\r", 0, HEADER_BYTES_MAX)
        if end > 0 and raw.find(b"\n", 0, end) < 0:  # every message but the odd ones below
            return raw[: end + 1]
    start = start_of(raw)
    body = raw[start:] if start else raw
    at = 0
    if not body.startswith(b"MSH"):
        match = _MSH_IN_BATCH.search(body)
        if match is None or not body.startswith(HEADERS):
            raise NotEr7("no usable MSH segment")
        at = match.end() - 3
    head = body[at : at + HEADER_BYTES_MAX].partition(b"\r")[0]
    if b"\r" not in body:
        head = head.partition(b"\n")[0]
    elif len(head) > 3:
        head = _divided(head + b"\r", head[3]).partition(b"\r")[0]
    return head + b"\r"


def _divided(body: bytes, field: int) -> bytes:
    """Return the body, or a copy of the same length where LFs among CRs that begin a segment, or end one, are CRs.

    The index takes LF for a segment's end only where there is no CR at all. Messages put together by hand have both, and files end in a LF.
    """
    if b"\n" not in body or b"\r" not in body:
        return body
    return _ending_line(field).sub(b"\r", body)


@lru_cache(maxsize=64)  # a site speaks a handful of dialects
def _ending_line(field: int) -> re.Pattern[bytes]:
    """Pattern of a LF before a segment's name, before a CR, or at the end; LFs in a row are looked at once, so it is linear."""
    return re.compile(rb"\n(?=[A-Z][A-Z0-9]{2}" + re.escape(bytes([field])) + rb"|[\r\n]|\Z)")


def facts(raw: bytes) -> Facts:
    """Read the routing fields of the header in one pass; raises nothing but NotEr7."""
    found = er7_template(raw, PLAIN_BYTES_MAX)
    if found is not None:
        route, is_usual = _route(found[0])
        return Facts(route, found[1], True, is_usual)
    head = header(raw)
    *values, control_id = er7_read(head, er7_index(head, read_separators(head).kernel), _ROUTING)
    return Facts(Route._make([value or b"" for value in values]), control_id or b"")


@lru_cache(maxsize=512)  # one for each sender and type: a hospital has some tens
def _route(template: bytes) -> tuple[Route, bool]:
    """Read a header that the usual separators divide, and tell whether it is usual; its MSH-7 and MSH-10 are empty."""
    fields = template.split(b"|", 18)  # fields[n] is MSH-(n + 1)
    fields += [b""] * (18 - len(fields))
    message_type = fields[8]
    code, _, event = message_type.partition(b"~")[0].partition(b"^")
    route = Route._make(
        (*fields[2:6], message_type, code, event.partition(b"^")[0], *fields[10:13], fields[14], fields[15], fields[17])
    )
    return route, route.processing_id == b"P" and not (route.accept_ack or route.application_ack)
