"""Packages of a SOAP message and its attachments: MTOM (XOP) and SwA are multipart/related (RFC 2387). Taken apart by places; no byte is copied or changed."""

import re
from typing import Final, NamedTuple

from hl7.soap_errors import BadPackage, NotThisMedium, PartMissing

PARTS_MAX: Final = 256  # a submission of a thick record has thirty documents
HEAD_BYTES_MAX: Final = 8192  # of one part's headers
XOP: Final = "application/xop+xml"
PACKAGE: Final = "multipart/related"

_PARAMETER: Final = re.compile(r';\s*([A-Za-z0-9!#$&^_.+*-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]*)\s*')
_BOUNDARY: Final = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")  # RFC 2046 5.1.1
_READABLE: Final = frozenset(("", "binary", "8bit", "7bit"))
_PERCENT: Final = re.compile(r"%([0-9A-Fa-f]{2})")


class Medium(NamedTuple):
    """A Content-Type: media type in lower case, and parameters by their lower-case names."""

    name: str
    parameters: dict[str, str]


class Part(NamedTuple):
    """One part: its type, its id without brackets, and where its content lies."""

    medium: Medium
    id: str
    start: int
    end: int


class Package(NamedTuple):
    """The root part, which holds the envelope, and all others."""

    root: Part
    others: tuple[Part, ...] = ()

    def part(self, href: str) -> Part:
        """The one that a `cid:` address names. Raises PartMissing."""
        name = _PERCENT.sub(lambda found: chr(int(found[1], 16)), href[4:]) if href[:4].lower() == "cid:" else ""
        found = [part for part in self.others if name and part.id == name]
        if len(found) != 1:
            raise PartMissing("twice" if found else "not there")
        return found[0]


def medium(text: str) -> Medium:
    """Read a Content-Type. Raises NotThisMedium."""
    name, mark, rest = text.partition(";")
    parameters: dict[str, str] = {}
    at, rest = 0, mark + rest.strip()
    while at < len(rest) and rest[at:].strip(" ;"):
        found = _PARAMETER.match(rest, at)
        if found is None or found[1].lower() in parameters:
            raise NotThisMedium("its parameters cannot be read, or stand twice")
        value = found[2]
        parameters[found[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        at = found.end()
    return Medium(name.strip().lower(), parameters)


def divide(raw: bytes, of: Medium) -> Package:
    """Find the parts of a body. Raises BadPackage."""
    boundary = of.parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadPackage("the boundary is missing or no boundary")
    parts = [_part(raw, start, end) for start, end in _places(raw, b"--" + boundary.encode("ascii"))]
    ids = [part.id for part in parts if part.id]
    if len(set(ids)) < len(ids):
        raise BadPackage("two parts have the same Content-ID")
    wanted = of.parameters.get("start", "").strip("<> ")
    roots = [part for part in parts if part.id == wanted] if wanted else parts[:1]
    if not roots:
        raise BadPackage("the root part is not there")
    return Package(roots[0], tuple(part for part in parts if part is not roots[0]))


def _places(raw: bytes, mark: bytes) -> list[tuple[int, int]]:
    """From where to where each part goes, head and all: between delimiter lines, up to the closing one."""
    places: list[tuple[int, int]] = []
    begun, at = -1, 0
    while True:
        at = raw.find(mark, at)
        if at < 0:
            raise BadPackage("the closing boundary is missing" if begun >= 0 else "the boundary is not there")
        after = at + len(mark)
        is_last = raw[after : after + 2] == b"--" and raw[after + 2 : after + 3] in b" \t\r\n"
        line = raw.find(b"\r\n", after, after + 256)
        is_delimiter = is_last or (line >= 0 and not raw[after:line].strip(b" \t"))
        if (
            at and raw[at - 2 : at] != b"\r\n"
        ) or not is_delimiter:  # it stands inside a part, or another boundary begins like it
            at = after
            continue
        if begun >= 0:
            places.append((begun, max(begun, at - 2)))
        if is_last:
            return places
        if len(places) >= PARTS_MAX:
            raise BadPackage(f"more than {PARTS_MAX} parts")
        begun = at = line + 2
        at -= 2  # the line's end may be that which the next delimiter begins with


def _part(raw: bytes, start: int, end: int) -> Part:
    if raw[start : start + 2] == b"\r\n":
        return Part(Medium("text/plain", {}), "", start + 2, end)
    close = raw.find(b"\r\n\r\n", start, min(end, start + HEAD_BYTES_MAX))
    if close < 0:
        raise BadPackage("a part's headers have no end")
    headers: dict[str, str] = {}
    text = re.sub(r"\r\n[ \t]+", " ", raw[start:close].decode("utf-8", "backslashreplace"))
    for line in text.split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or name.lower() in headers:
            raise BadPackage("a part's headers cannot be read, or one stands twice")
        headers[name.lower()] = value.strip()
    try:
        of = medium(headers.get("content-type", "text/plain"))
    except NotThisMedium:
        raise BadPackage("a part's Content-Type cannot be read") from None
    encoding = headers.get("content-transfer-encoding", "").lower()
    if encoding not in _READABLE:
        of = Medium(f"{of.name};{encoding}", of.parameters)  # carried as it is; not readable as a root
    return Part(of, headers.get("content-id", "").strip("<> "), close + 4, end)
