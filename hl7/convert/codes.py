"""Code maps and names of coding systems, read from `tables/codes.txt` once, as code is."""

import pkgutil
import re
from functools import lru_cache
from typing import Final, NamedTuple


class Code(NamedTuple):
    """A FHIR code; `display` may be empty."""

    code: str
    display: str


class CodeMap(NamedTuple):
    """An HL7 table's codes in FHIR's words; `system` of the results, `table` the URI of what is mapped ("" for none)."""

    system: str
    table: str
    codes: dict[str, Code]


def read_table(name: str) -> list[tuple[int, str]]:
    """Return the lines of a table that say something, with their numbers."""
    data = pkgutil.get_data("hl7.convert", f"tables/{name}") or b""
    lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in data.decode().splitlines())
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _read() -> tuple[dict[str, CodeMap], dict[str, str]]:
    maps: dict[str, CodeMap] = {}
    systems: dict[str, str] = {}
    codes: dict[str, Code] = {}
    is_systems = False
    for number, line in read_table("codes.txt"):
        words = line.split()
        if words[0] == "map":
            codes = {}
            maps[words[1]] = CodeMap(words[2] if words[2] != "-" else "", words[3] if len(words) > 3 else "", codes)
            is_systems = False
        elif words[0] == "systems":
            is_systems = True
        elif is_systems:
            systems |= dict.fromkeys(words[1:], words[0])
        else:
            sources, mark, target = line.strip().partition(" > ")
            if not mark:
                raise ValueError(f"codes.txt:{number}: neither a map nor CODES > code display")
            code, _, display = target.strip().partition(" ")
            codes |= dict.fromkeys(sources.split(), Code(code, display.strip()))
    return maps, systems


_MAPS, _SYSTEMS = _read()

_HL7_TABLE: Final = re.compile(r"(?:HL7|V2-?)?-?(\d{4})", re.IGNORECASE)
_OID: Final = re.compile(r"[0-2](\.(0|[1-9]\d*))+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:\S+")


def code_map(name: str) -> CodeMap:
    """Return a map by its name; KeyError where there is none."""
    return _MAPS[name]


@lru_cache(maxsize=4096)  # names repeat in every message; a sender of ever new ones only loses the memory of old ones
def coding_system(name: str) -> str:
    """Return the URI of a coding system by its name in table 0396; "" where it is a local one."""
    known = _SYSTEMS.get(name) or _SYSTEMS.get(name.upper())
    if known:
        return known
    match = _HL7_TABLE.fullmatch(name)
    if match:
        return f"http://terminology.hl7.org/CodeSystem/v2-{match[1]}"
    return universal(name, "") if _OID.fullmatch(name) or _URI.fullmatch(name) else ""


def universal(uid: str, kind: str) -> str:
    """Return an HD's universal id as a URI, by its type (table 0301) or by its looks."""
    bare = uid.removeprefix("urn:oid:")
    if _OID.fullmatch(bare):
        return f"urn:oid:{bare}"
    if _UUID.fullmatch(uid):
        return f"urn:uuid:{uid.lower()}"
    if _URI.fullmatch(uid):
        return uid
    return f"urn:{(kind or 'id').lower()}:{uid}".replace(" ", "-")


_NAMES: Final = {uri: name for name, uri in reversed(_SYSTEMS.items())}
_V2_TABLE: Final = re.compile(r"http://terminology\.hl7\.org/CodeSystem/v2-(\d{4})")


def name_of_system(uri: str) -> str:
    """Return the name by which messages call a coding system; "" where it has none of its own."""
    match = _V2_TABLE.fullmatch(uri)
    return f"HL7{match[1]}" if match else _NAMES.get(uri, "")
