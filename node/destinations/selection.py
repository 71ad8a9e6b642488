"""Which messages of a record are a destination's: clinical ones that were accepted, of its types; a batch is divided, each message goes by itself."""

from collections.abc import Sequence
from typing import NamedTuple

from hl7.batch import divide, is_single, refused_in
from hl7.convert.result import CannotConvert, Origin
from hl7.errors import NotEr7, PartOfBatchRefused
from hl7.globs import compile_globs
from hl7.message import facts
from node.destinations.conversion import ToV2
from node.destinations.plug import ER7, FHIR_JSON
from sync.errors import NotARecord
from sync.header import CONDITIONS, CONTROL_ID, METHOD, PATH, REFUSAL, Header, decode, decode_particulars
from sync.record import Kind, Record, Verdict


class Part(NamedTuple):
    """One message of a record: its number in the record from 0, its own bytes, id and type. `unconverted`: why it stays as it came."""

    part: int
    body: bytes
    control_id: str
    message_type: str
    content_type: str = ER7
    unconverted: str = ""


class Request(NamedTuple):
    """How the record came over HTTP; empty where it did not."""

    method: str
    path: str
    conditions: str


class Selection:
    """The configured types of one destination; none of them means all. `back`: makes HL7 v2 of FHIR, where the destination is to get that."""

    def __init__(self, types: Sequence[str], back: ToV2 | None = None) -> None:
        self._globs, self._back = compile_globs(tuple(types), "^"), back

    def again(self, part: int | None) -> "Selection":
        """The selection for what a person wants sent again: this part of a record, or with None whole records."""
        del part
        return self

    def header(self, header: bytes) -> Header | None:
        """The header of a record whose body may hold something for this destination; None where it surely does not. Raises NotARecord."""
        found = decode(header)
        if found.kind is not Kind.MESSAGE or found.verdict is Verdict.REJECTED:
            return None
        # the type of a batch is that of its first message: the body says more
        return found if found.content_type == ER7 or self.wants(found.message_type) else None

    def wants(self, message_type: str) -> bool:
        """Whether a type, such as ORU^R01^ORU_R01 or Bundle^transaction, is one of the configured ones."""
        if not self._globs:
            return True
        code, _, rest = message_type.partition("^")
        event = rest.partition("^")[0]
        return any(of_code.match(code) and of_event.match(event) for of_code, of_event in self._globs)

    def might_want(self, header: Header) -> bool:
        """Whether a record that cannot be read any more may have been for this destination; of a batch its first message's type decides."""
        return self.wants(header.message_type) or (header.content_type == ER7 and not header.message_type)

    def parts(self, header: Header, record: Record, origin: Origin) -> list[Part]:
        """The messages of a record that are for this destination, in their order. Its type is that of the record, also where it is converted."""
        members = _particulars(record.particulars)
        said = members.get(CONTROL_ID)
        control_id = said if isinstance(said, str) else ""
        batch = None if header.content_type != ER7 or is_single(record.body) else divide(record.body)
        if batch is None:
            # a header keeps only types that are written as the standard has it: those of HL7 are read from the message
            message_type = _part(0, record.body).message_type if header.content_type == ER7 else header.message_type
            if not self.wants(message_type):
                return []
            if header.content_type == FHIR_JSON and self._back is not None:
                return self._made(record.body, origin, self._back)
            return [Part(0, record.body, control_id, message_type, header.content_type)]
        refused = _refused(members.get(REFUSAL))
        each = (
            _part(number, record.body[start:end])
            for number, (start, end) in enumerate(batch.messages)
            if number + 1 not in refused
        )
        return [part for part in each if self.wants(part.message_type)]

    @staticmethod
    def _made(body: bytes, origin: Origin, back: ToV2) -> list[Part]:
        """The messages that a FHIR record becomes; the record itself, with the reason, where it becomes none."""
        try:
            return [_part(number, raw) for number, raw in enumerate(back(body, origin))]
        except CannotConvert as error:
            return [Part(0, body, "", "", FHIR_JSON, error.code)]


def request_of(record: Record) -> Request:
    """How a record came over HTTP."""
    members = _particulars(record.particulars)
    values = (members.get(key) for key in (METHOD, PATH, CONDITIONS))
    return Request(*(value if isinstance(value, str) else "" for value in values))


def _part(number: int, raw: bytes) -> Part:
    try:
        found = facts(raw)
    except NotEr7:
        return Part(number, raw, "", "")
    return Part(
        number, raw, found.control_id.decode("utf-8", "replace"), found.route.message_type.decode("ascii", "replace")
    )


def _particulars(data: bytes) -> dict[int, object]:
    try:
        return decode_particulars(data)
    except NotARecord:
        return {}


def _refused(refusal: object) -> frozenset[int]:
    """Which messages of a batch a rule of the feed refused, counted from 1."""
    match refusal:
        case [PartOfBatchRefused.code, str() as places]:
            return refused_in(places)
    return frozenset()
