"""ASTM E1394 / LIS2-A2 records: a read-only view over a message's bytes, and a writer. Fields count from 1, the record's letter being the first.

The delimiters are those that the header record declares (clause 5.4), whatever they are; nothing is decoded, and unknown records stay.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from hl7.devices.astm_errors import NotReadable

CR: Final = b"\r"
_LETTER: Final = re.compile(rb"[A-Za-z]")
_END_OF_RECORD: Final = re.compile(rb"[\r\n]+")  # LIS2-A2 5.3: CR. Instruments that print to files add LF


class Delimiters(NamedTuple):
    """The four delimiters of a message, one byte each."""

    field: bytes
    repeat: bytes
    component: bytes
    escape: bytes

    @property
    def declared(self) -> bytes:
        """The first two fields of the header record."""
        return b"H" + b"".join(self)


STANDARD: Final = Delimiters(b"|", b"\\", b"^", b"&")


def read_delimiters(header: bytes) -> Delimiters:
    """What a header record declares. Raises NotReadable where they are not four different marks."""
    marks = [header[at : at + 1] for at in range(1, 5)]
    if header[:1] not in {b"H", b"h"} or len(header) < 5 or len(set(marks)) < 4:
        raise NotReadable("a header record declares four different delimiters")
    if any(mark.isalnum() or mark < b"!" for mark in marks):
        raise NotReadable("a delimiter is no letter, digit or control character")
    return Delimiters(*marks)


class Record:
    """One record: its letter, its fields, their repeats and components, as bytes."""

    __slots__ = ("_fields", "delimiters", "raw")

    def __init__(self, raw: bytes, delimiters: Delimiters = STANDARD) -> None:
        self.raw = raw
        self.delimiters = delimiters
        self._fields = raw.split(delimiters.field)

    def __repr__(self) -> str:
        return f"Record({self.letter!r}, {len(self._fields)} fields)"  # never what stands in them

    @property
    def letter(self) -> str:
        """H, P, O, R, C, Q, M, S, L, or whatever else it is, in upper case."""
        return self._fields[0][:1].decode("latin-1").upper()

    @property
    def count(self) -> int:
        """How many fields there are."""
        return len(self._fields)

    def field(self, number: int) -> bytes:
        """A whole field, escapes and all; empty where it is not there."""
        return self._fields[number - 1] if 0 < number <= len(self._fields) else b""

    def repeats(self, number: int) -> list[bytes]:
        """The repeats of a field, at least one."""
        if number == 2 and self.letter == "H":  # the declaration itself is not divided
            return [self.field(2)]
        return self.field(number).split(self.delimiters.repeat)

    def components(self, number: int, repeat: int = 1) -> list[bytes]:
        """The components of one repeat of a field, unescaped, at least one."""
        repeats = self.repeats(number)
        one = repeats[repeat - 1] if 0 < repeat <= len(repeats) else b""
        if number == 2 and self.letter == "H":
            return [one]
        return [unescape(each, self.delimiters) for each in one.split(self.delimiters.component)]

    def get(self, number: int, component: int = 1, repeat: int = 1) -> bytes:
        """One component, unescaped; empty where it is not there."""
        components = self.components(number, repeat)
        return components[component - 1] if 0 < component <= len(components) else b""


class Records(Sequence[Record]):
    """All records of one message, in their order. `delimiters`: the header's, or the standard's where there is none that can be read."""

    __slots__ = ("_records", "delimiters")

    def __init__(self, body: bytes) -> None:
        lines = [line for line in _END_OF_RECORD.split(body) if line.strip(b" \t\0")]
        self.delimiters = STANDARD
        self._records: list[Record] = []
        for line in lines:
            if line[:1] in {b"H", b"h"} and not self._records:
                self.delimiters = _declared(line)
            self._records.append(Record(line, self.delimiters))

    def __getitem__(self, place: int) -> Record:  # type: ignore[override]  # no slices
        return self._records[place]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @property
    def header(self) -> Record | None:
        """The header record, if it is the first one."""
        return self._records[0] if self._records and self._records[0].letter == "H" else None

    @property
    def letters(self) -> str:
        """Which records there are: "HPORRL"."""
        return "".join(record.letter for record in self._records)

    def of(self, letter: str) -> list[Record]:
        """All records of one letter."""
        return [record for record in self._records if record.letter == letter]


def _declared(line: bytes) -> Delimiters:
    try:
        return read_delimiters(line)
    except NotReadable:
        return STANDARD


def read(body: bytes) -> Records:
    """The records of a message's bytes, whatever they are; never raises."""
    return Records(body)


def purpose(records: Records) -> str:
    """What a message is for, as its record's type: R results, Q a query, O orders, else the letter of its second record, or H."""
    letters = records.letters
    for letter in "RQO":
        if letter in letters:
            return letter
    return letters[1:2] if letters[1:2] not in {"", "L"} and letters[1:2].isalpha() else "H"


# ---- escapes (LIS2-A2 5.4.6) ------------------------------------------------------------------------------------------
def unescape(value: bytes, delimiters: Delimiters = STANDARD) -> bytes:
    """Resolve &F& &S& &R& &E& and &Xhh..&; what else stands between two escape marks stays as it is."""
    mark = delimiters.escape
    if mark not in value:
        return value
    return _sequence(mark).sub(lambda match: _resolved(match, delimiters), value)


def escape(value: bytes, delimiters: Delimiters = STANDARD) -> bytes:
    """Write a value so that it reads back as it is. Control characters end records and frames: they go as &Xhh&."""
    names = {mark[0]: name for mark, name in zip(delimiters, (b"F", b"R", b"S", b"E"), strict=True)}
    mark = delimiters.escape
    written = []
    for octet in value:
        if octet in names:
            written.append(mark + names[octet] + mark)
        elif octet < 0x20 or octet == 0x7F:
            written.append(mark + b"X%02X" % octet + mark)
        else:
            written.append(bytes([octet]))
    return b"".join(written)


def _sequence(mark: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(mark) + rb"([FSRE]|X(?:[0-9A-Fa-f]{2})+)" + re.escape(mark))


def _resolved(match: re.Match[bytes], delimiters: Delimiters) -> bytes:
    name = match[1]
    if name[:1] == b"X":
        return bytes.fromhex(name[1:].decode("ascii"))
    return {b"F": delimiters.field, b"S": delimiters.component, b"R": delimiters.repeat, b"E": delimiters.escape}[name]


# ---- writing ----------------------------------------------------------------------------------------------------------
Component = bytes
Repeat = Component | Sequence[Component]
Field = Component | Sequence[Repeat]


def write(letter: str, *fields: Field, delimiters: Delimiters = STANDARD) -> bytes:
    """One record with its CR: the fields after the letter. A field is bytes, or components, or repeats of components. Empty ones at the end are left out."""
    if not _LETTER.fullmatch(letter.encode("latin-1")):
        raise ValueError("a record begins with one letter")
    texts = [letter.encode("latin-1"), *(_written(each, delimiters) for each in fields)]
    while len(texts) > 1 and not texts[-1]:
        texts.pop()
    return delimiters.field.join(texts) + CR


def _written(field: Field, delimiters: Delimiters) -> bytes:
    if isinstance(field, bytes):
        return escape(field, delimiters)
    if any(not isinstance(each, bytes) for each in field):
        return delimiters.repeat.join(_written(each, delimiters) for each in field)
    return delimiters.component.join(escape(each, delimiters) for each in field if isinstance(each, bytes))


def write_header(*fields: Field, delimiters: Delimiters = STANDARD) -> bytes:
    """A header record with its CR: the fields from the third on."""
    rest = write("H", *fields, delimiters=delimiters)[1:]
    return delimiters.declared + rest
