"""What a file dropped by a device or a program is: by its name's ending and its first bytes, never by guess."""

from typing import Final, NamedTuple

from hl7.batch import check_batch, divide, is_single
from hl7.charsets import of_file
from hl7.check import NO_RULES, Outcome, Rules, check
from hl7.message import is_test, safe_type

OCTETS: Final = "application/octet-stream"
ER7: Final = "application/hl7-v2+er7"
TYPES: Final = {
    "astm": "application/astm-e1394", "bmp": "image/bmp", "csv": "text/csv", "dcm": "application/dicom", "er7": ER7, "hl7": ER7,
    "jpeg": "image/jpeg", "jpg": "image/jpeg", "json": "application/json", "pdf": "application/pdf", "png": "image/png", "rtf": "application/rtf",
    "tif": "image/tiff", "tiff": "image/tiff", "tsv": "text/tab-separated-values", "txt": "text/plain", "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xml": "application/xml", "zip": "application/zip",
}  # fmt: skip
_HEADS: Final = (b"MSH", b"FHS", b"BHS")  # HL7 2.9, 2.10.3
_MARK: Final = b"\xef\xbb\xbf"


class FileFacts(NamedTuple):
    """What a file is; `control_id` is empty for what has none. `code` and `location`: what is wrong, as in `hl7.check.Verdict`."""

    content_type: str
    message_type: str = ""
    control_id: str = ""
    is_test: bool = False
    is_refused: bool = False
    code: str = ""
    location: str = ""


def facts_of(name: str, data: bytes, *, types: dict[str, str] | None = None, rules: Rules = NO_RULES) -> FileFacts:
    """Judge a file. HL7 v2 is known by its first segment, whatever the name: vendors write it as .txt and .dat. Never raises.

    `types`: content types by ending, before our own table. `rules`: of the feed, for HL7 v2.
    """
    wide = of_file(data)
    text = data.removeprefix(_MARK) if wide is None else wide.raw
    if text.lstrip(b"\x0b\r\n ").startswith(_HEADS):
        return _of_hl7(text, rules)
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    known = {**TYPES, **(types or {})}
    found = known.get(ending, OCTETS)
    if found == ER7:
        return _of_hl7(text, rules)
    return FileFacts(found)


def _of_hl7(text: bytes, rules: Rules) -> FileFacts:
    text = text.lstrip(b"\x0b\r\n ")
    batch = None if is_single(text) else divide(text)
    verdict = check(text, rules) if batch is None else check_batch(text, batch, rules)[0]
    found = verdict.facts
    return FileFacts(
        ER7,
        message_type="" if found is None else safe_type(found.route.message_type),
        # the id of a batch's first message is not the batch's own
        control_id="" if found is None or batch is not None else found.control_id.decode("utf-8", "backslashreplace"),
        is_test=found is not None and is_test(found.route),
        is_refused=verdict.outcome is Outcome.REJECTED,
        code=verdict.code,
        location=verdict.location,
    )
