"""POCT1-A documents: what each says of itself, and the ones that a data manager writes.

CLSI POCT1-A2, device messaging layer: a document is an element `TYPE.Rnn`; values stand in attributes `V`; HDR names its control id.
"""

import re
from typing import Final, NamedTuple
from xml.sax.saxutils import quoteattr

from hl7.xml_reader import XmlTrouble, read

CONTENT_TYPE: Final = "application/vnd.clsi.poct1a+xml"
VALUE_CHARACTERS_MAX: Final = 128  # of an id: what is longer stands whole in the body
_TYPE: Final = re.compile(r"[A-Z]{3}(\.[A-Z0-9_]{1,24}){1,2}")
_WANTED: Final = frozenset(
    (
        "HDR.control_id", "HDR.version_id", "DEV.device_id", "DEV.vendor_id", "DEV.model_id", "DEV.serial_id", "DCP.device_id", "DST.new_observations_qty",
        "DST.new_events_qty", "EOT.topic_cd", "ACK.type_cd", "ACK.ack_control_id", "TRM.reason_cd",
    )
)  # fmt: skip


class Message(NamedTuple):
    """One document: its type such as OBS.R01 ("" where it is none of POCT1-A's form), and the values that a conversation turns on."""

    type: str
    values: dict[str, str]
    is_xml: bool = True

    @property
    def control_id(self) -> str:
        """HDR.control_id; "" where it has none."""
        return self.values.get("HDR.control_id", "")

    @property
    def device(self) -> str:
        """By what a device names itself; "" where it does not here. Only HEL.R01 says it."""
        for name in ("DEV.device_id", "DEV.serial_id", "DCP.device_id"):
            if value := self.values.get(name):
                return value
        return ""


class _Follower:
    """Collects the first value of each wanted element."""

    def __init__(self) -> None:
        self.root = ""
        self.values: dict[str, str] = {}

    def start(self, path: list[str], attributes: dict[str, str]) -> bool:
        """An element begins."""
        if len(path) == 1:
            self.root = path[0]
        name = path[-1]
        if name in _WANTED and "V" in attributes:
            self.values.setdefault(name, attributes["V"].strip()[:VALUE_CHARACTERS_MAX])
        return False

    def text(self, path: list[str], text: str) -> None:
        """No text is asked for."""


def read_message(raw: bytes) -> Message:
    """Read a document. Never raises: of what is no XML, what was read before the fault."""
    follower = _Follower()
    try:
        read(raw, follower)
        is_xml = True
    except XmlTrouble:
        is_xml = False
    kind = follower.root.rpartition(" ")[2]
    return Message(kind if _TYPE.fullmatch(kind) else "", follower.values, is_xml)


def write(kind: str, control_id: int, now: str, body: str = "") -> bytes:
    """Write a document of ours. `now`: ISO 8601 with an offset; `body`: elements."""
    header = f'<HDR><HDR.control_id V="{control_id}"/><HDR.version_id V="POCT1"/><HDR.creation_dttm V="{now}"/></HDR>'
    return f"<{kind}>{header}{body}</{kind}>".encode()


def acknowledge(theirs: str, *, is_taken: bool, control_id: int, now: str) -> bytes:
    """ACK.R01: AA, or AE with error 202 (an internal error of the data manager): the device keeps it and sends it again."""
    error = "" if is_taken else '<ACK.error_detail_cd V="202"/>'
    code = "AA" if is_taken else "AE"
    body = f'<ACK><ACK.type_cd V="{code}"/><ACK.ack_control_id V={quoteattr(theirs)}/>{error}</ACK>'
    return write("ACK.R01", control_id, now, body)


def request(what: str, *, control_id: int, now: str) -> bytes:
    """REQ.R01: ROBS for observations, RDEV for device events."""
    return write("REQ.R01", control_id, now, f'<REQ><REQ.request_cd V="{what}"/></REQ>')


def direct(command: str, *, control_id: int, now: str) -> bytes:
    """DTV.R01, such as START_CONTINUOUS."""
    return write("DTV.R01", control_id, now, f'<DTV><DTV.command_cd V="{command}"/></DTV>')


def finish(*, control_id: int, now: str) -> bytes:
    """END.R01: the conversation is over in good order."""
    return write("END.R01", control_id, now, '<TRM><TRM.reason_cd V="NRM"/></TRM>')
