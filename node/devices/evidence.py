"""What `wasl convert` makes of the record in an evidence file: by the profile that it names, by its own tables, or, in words, why nothing."""

from pathlib import Path
from typing import Final, NamedTuple

from hl7.convert.result import Settings
from hl7.devices.files import ER7
from hl7.devices.profile import Profile
from hl7.devices.profile_errors import ProfileProblem
from hl7.fhir import JSON, XML
from node.convert import Shown, to_fhir, to_v2
from node.devices import convert
from node.devices.profiles import chosen, find, mark_of, text_of
from sync.errors import SyncError
from sync.evidence import parse
from sync.header import PROFILE, decode, decode_particulars
from sync.record import Kind

START: Final = b"\xad"  # CBOR: a map of its thirteen members; no text begins so
RESULTS: Final = frozenset(("ORU", "OUL"))  # what a device's profile reads of HL7 v2; all else has its tables
# What a program drops beside its tables. A site's own ending for a table is a content type of its own, and read
NO_TABLE: Final = frozenset(
    ("application/pdf", "application/dicom", "application/rtf", "application/zip", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
)  # fmt: skip
NOTHING_IN: Final = {
    Kind.INCOMPLETE: "an incomplete record: what came of a message before it broke off; no result is made of it",
    Kind.GAP: "a gap record: a time in which the source gave nothing; there is nothing to convert",
    Kind.CONTROL: "a statement of the log about itself; there is nothing to convert",
}
HEAD: Final = (b"MSH", b"FHS", b"BHS")


class Unpacked(NamedTuple):
    """A record: its body (None: erased or trimmed), what its header says, and which profile it names (name and mark, or empty)."""

    body: bytes | None
    kind: Kind
    content_type: str
    message_type: str
    profile: str = ""
    mark: bytes = b""


class Asked(NamedTuple):
    """What the command line asks for. `profile`: given by hand, or empty; `folder`: the site's own profiles."""

    settings: Settings
    profile: str = ""
    folder: Path | None = None
    target: str = "fhir"


def unpacked(data: bytes) -> Unpacked | None:
    """Take an evidence file apart, unverified; None where it is none."""
    if not data.startswith(START):
        return None
    try:
        evidence = parse(data)
        header, particulars = decode(evidence.header), decode_particulars(evidence.particulars or b"")
    except SyncError:
        return None
    found = Unpacked(evidence.body, header.kind, header.content_type, header.message_type)
    match particulars.get(PROFILE):
        case [str() as name, bytes() as mark]:
            return found._replace(profile=name, mark=mark)
    return found


def converted(record: Unpacked, asked: Asked) -> Shown:
    """Convert a record's body, or say why there is nothing to convert. Raises ProfileProblem, of one given by hand."""
    if not record.body or record.kind in NOTHING_IN:
        return [], [_why_nothing(record)], False
    try:
        shown, said, is_whole = _of_body(record, record.body, asked)
    except ProfileProblem as error:
        if asked.profile:
            raise
        return (
            [],
            [f"the record names the profile {record.profile}: {error}. A site's own are found with --profiles"],
            False,
        )
    if record.kind is Kind.TEST:
        said = ["the record is marked as a test", *said]
    return shown, said, is_whole


def _why_nothing(record: Unpacked) -> str:
    if record.kind in NOTHING_IN:
        return NOTHING_IN[record.kind]
    if record.body is None:
        return "the file holds no body: it was erased or trimmed, and its commitment alone is proved"
    return "the record has no body"


def _of_body(record: Unpacked, body: bytes, asked: Asked) -> Shown:
    profile = _profile_of(record, asked)
    if profile is not None:
        shown, left, is_whole = convert.to_fhir(body, profile, asked.settings, is_record=True)
        return shown, [*_warning(record, asked), *left], is_whole
    if asked.target == "v2":
        return to_v2(body, asked.settings)
    if record.content_type in {JSON, XML}:
        return [body.decode("utf-8", "replace")], [f"{record.content_type}: FHIR already, shown as it came"], True
    if record.content_type == ER7 or body.lstrip(b"\xef\xbb\xbf\x0b\r\n ").startswith(HEAD):
        return to_fhir(body, asked.settings)
    if not _may_be_read(record.content_type):
        return [], [f"{record.content_type}: no profile reads that; the record stays as it came"], False
    why = "its record names no profile; give one with --profile (`wasl devices list`)"
    return [], [f"{record.content_type}: {why}"], False


def _profile_of(record: Unpacked, asked: Asked) -> Profile | None:
    """The profile that reads it: the one given by hand, else the one that it names, where that can. Never a file that a record names."""
    if asked.profile:
        return chosen(asked.profile, asked.folder)
    if not record.profile or record.content_type in {JSON, XML} or not _may_be_read(record.content_type):
        return None
    profile = find(record.profile, asked.folder)
    if record.content_type != ER7:
        return profile
    code = record.message_type.partition("^")[0]  # of a batch there is none
    return profile if profile.language == "hl7" and code in RESULTS | {""} else None


def _may_be_read(content_type: str) -> bool:
    return not content_type.startswith(("image/", "audio/", "video/")) and content_type not in NO_TABLE


def _warning(record: Unpacked, asked: Asked) -> list[str]:
    """Say so where the profile of that name is not the one that was in force."""
    if asked.profile or mark_of(text_of(record.profile, asked.folder)) == record.mark:
        return []
    return [f"the profile {record.profile} has been changed since the record came: it is read by the one of today"]
