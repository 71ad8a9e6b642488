"""HL7 v3 messages and CDA documents, as opaque as they may stay: what they are, their ids, and the accept acknowledgement of a message.

Only the beginning is read (HL7 v3 Transmission Infrastructure, MCCI; CDA R2 4.2): everything wanted stands before what tells of a patient.
"""

import re
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import quoteattr

from hl7.xml_reader import Stop, read

CDA: Final = "application/hl7-cda+xml"
V3: Final = "application/hl7-v3+xml"
NAMESPACE: Final = "urn:hl7-org:v3"
BEGINNING_BYTES_MAX: Final = (
    64 * 1024
)  # wrappers and document headers take 2 to 10 kB: the cost of a look is bounded by it
VALUE_CHARACTERS_MAX: Final = 256  # of an id's root or extension that is given back

_INTERACTION: Final = re.compile(r"[A-Z]{4}_[A-Z]{2}[0-9]{6}[A-Z0-9]{0,6}")
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,18})){1,30}")
_OID_CHARACTERS_MAX: Final = 64  # of a message type in the permanent header
_IDS: Final = {
    ("id",): "id", ("receiver", "device", "id"): "receiver", ("sender", "device", "id"): "sender",
}  # fmt: skip
_CODES: Final = {"processingCode": "processing", "processingModeCode": "mode", "acceptAckCode": "accept_ack"}
_BODY: Final = frozenset(("controlActProcess", "controlActEvent", "recordTarget", "component", "acknowledgement"))


class Id(NamedTuple):
    """An instance identifier (II)."""

    root: str = ""
    extension: str = ""

    def __str__(self) -> str:
        return f"{self.root}^{self.extension}" if self.extension else self.root


class Beginning(NamedTuple):
    """A v3 document's first facts, empty where they do not stand there."""

    root: str = ""
    template: str = ""
    interaction: str = ""
    id: Id = Id()
    sender: Id = Id()
    receiver: Id = Id()
    processing: str = ""
    mode: str = ""
    accept_ack: str = ""

    @property
    def is_document(self) -> bool:
        """A CDA document; else a message."""
        return self.root == "ClinicalDocument"

    @property
    def content_type(self) -> str:
        """As it stands in the header."""
        return CDA if self.is_document else V3

    @property
    def message_type(self) -> str:
        """The document's first template or the message's interaction: tokens alone, as headers are permanent."""
        if self.is_document:
            is_oid = _OID.fullmatch(self.template) and len(self.template) <= _OID_CHARACTERS_MAX
            return self.template if is_oid else self.root
        return next((each for each in (self.interaction, self.root) if _INTERACTION.fullmatch(each)), "")

    @property
    def is_test(self) -> bool:
        """HL7 table ProcessingID: training and debugging are no production."""
        return self.processing in {"T", "D"}


def begin(raw: bytes) -> Beginning | None:
    """Read the beginning; None where it is no HL7 v3. Raises XmlTrouble."""
    follower = _Follower()
    read(raw, follower, octets_max=BEGINNING_BYTES_MAX)
    return follower.found if follower.found.root else None


class _Follower:
    def __init__(self) -> None:
        self.found = Beginning()

    def start(self, path: list[str], attributes: dict[str, str]) -> bool:
        namespace, _, local = path[-1].rpartition(" ")
        if len(path) == 1:
            if namespace != NAMESPACE:
                raise Stop
            self._set("root", local)
        elif len(path) == 2 and local in _BODY:
            raise Stop
        elif len(path) <= 4 and namespace == NAMESPACE:
            self._note(tuple(name.rpartition(" ")[2] for name in path[1:]), attributes)
        return False

    def text(self, path: list[str], text: str) -> None:
        """Nothing of it is wanted."""

    def _note(self, place: tuple[str, ...], attributes: dict[str, str]) -> None:
        if (name := _IDS.get(place)) is not None:
            found = Id(_short(attributes.get("root", "")), _short(attributes.get("extension", "")))
            self._set(name, found)
        elif place == ("templateId",):
            self._set("template", attributes.get("root", ""))
        elif place == ("interactionId",):
            self._set("interaction", attributes.get("extension", ""))
        elif len(place) == 1 and place[0] in _CODES:
            self._set(_CODES[place[0]], attributes.get("code", "")[:8])

    def _set(self, name: str, value: str | Id) -> None:
        """The first one of its kind counts."""
        if getattr(self.found, name) in {"", Id()}:
            changed: dict[str, Any] = {name: value}
            self.found = self.found._replace(**changed)


def _short(value: str) -> str:
    """A value that can be given back whole, else nothing: half an id is another id."""
    return value if len(value) <= VALUE_CHARACTERS_MAX and value.isprintable() else ""


# ---- the accept acknowledgement ---------------------------------------------------------------------------------------------------
def acknowledge(heard: Beginning, code: str, *, own_id: str, now: str, text: str = "") -> bytes:
    """Write MCCI_IN000002UV01: CA, CE or CR for a message with an id. `own_id`: a UUID; `now`: an HL7 time stamp."""
    detail = f"<acknowledgementDetail><text>{_plain(text)}</text></acknowledgementDetail>" if text else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<MCCI_IN000002UV01 xmlns="{NAMESPACE}" ITSVersion="XML_1.0"><id root="{own_id}"/><creationTime value="{now}"/>'
        '<interactionId root="2.16.840.1.113883.1.6" extension="MCCI_IN000002UV01"/>'
        f"<processingCode code={quoteattr(heard.processing or 'P')}/><processingModeCode code={quoteattr(heard.mode or 'T')}/>"
        f'<acceptAckCode code="NE"/>{_party("receiver", "RCV", heard.sender)}{_party("sender", "SND", heard.receiver)}'
        f'<acknowledgement><typeCode code="{code}"/><targetMessage>{_id(heard.id)}</targetMessage>{detail}</acknowledgement>'
        "</MCCI_IN000002UV01>"
    ).encode()


def _party(name: str, code: str, device: Id) -> str:
    inner = _id(device) if device.root else '<id nullFlavor="NI"/>'
    return f'<{name} typeCode="{code}"><device classCode="DEV" determinerCode="INSTANCE">{inner}</device></{name}>'


def _id(value: Id) -> str:
    extension = f" extension={quoteattr(value.extension)}" if value.extension else ""
    return f"<id root={quoteattr(value.root)}{extension}/>"


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
