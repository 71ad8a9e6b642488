"""Application replies of a feed as messages to its sender's own listener (HL7 2.9, 2.8.3.2): which of its records have one, and its bytes.

A reply is made of its record alone, each time it is wanted: the record is what was stored before it is sent, and a resend has the same bytes.
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from hl7.ack import acknowledge
from hl7.asked import asked, reply_codes
from hl7.batch import divide, is_single, refused_in
from hl7.check import Outcome, Verdict, verdict_of
from hl7.convert.result import Origin
from hl7.errors import CATALOGUE, NotEr7, PartOfBatchRefused, RequiredFieldMissing
from hl7.message import Facts, facts
from node.clock import hl7_time
from node.config.replies import RepliesOut
from node.destinations.plug import ER7
from node.destinations.selection import Part, Selection
from sync.errors import NotARecord
from sync.header import REFUSAL, Header, decode, decode_particulars
from sync.record import Kind, Record
from sync.record import Verdict as Said

ID_BYTES: Final = 10  # 16 letters of base 32: MSH-10 may have 20 before HL7 2.7, and 80 bits do not meet by chance

log = structlog.get_logger()

_ERRORS: Final = {each.code: each for each in CATALOGUE}


class Replies(Selection):
    """The application replies that the senders of a feed's messages ask for; each part of a record is the reply to one message of it."""

    def __init__(self, replies: RepliesOut) -> None:
        super().__init__(())
        self._feed, self._setting = replies.feed, replies.setting

    def header(self, header: bytes) -> Header | None:
        """As Selection, but of this feed alone, its tests and refusals too: who asked is answered. Raises NotARecord."""
        found = decode(header)
        is_ours = found.feed == self._feed and found.content_type == ER7 and found.kind in {Kind.MESSAGE, Kind.TEST}
        return found if is_ours else None

    def might_want(self, header: Header) -> bool:
        """Whether its sender may wait for a reply nobody can tell any more: it is named as lost."""
        del header
        return True

    def parts(self, header: Header, record: Record, origin: Origin) -> list[Part]:
        """The replies that are due, in the order of the messages."""
        del origin
        with _of_its_own(record.body) as failed:
            code, location = _refusal(record)
            batch = None if is_single(record.body) else divide(record.body)
            spans = [(0, len(record.body))] if batch is None else batch.messages
            refused = refused_in(location) if code == PartOfBatchRefused.code else frozenset()
        if failed:
            return failed
        due: list[Part | None] = []
        for number, (start, end) in enumerate(spans):
            with _of_its_own(record.body[start:end], number) as failed:
                due.append(
                    self._reply(header, record, number, record.body[start:end], code, "" if batch else location, is_refused=number + 1 in refused)
                )  # fmt: skip
            due += failed
        return [each for each in due if each is not None]

    def _reply(
        self, header: Header, record: Record, number: int, raw: bytes, code: str, location: str, *, is_refused: bool
    ) -> Part | None:  # fmt: skip
        try:
            found = facts(raw)
        except NotEr7:
            return None
        wanted = asked(found.route, self._setting)
        verdict = _verdict(header, found, code, location, is_refused=is_refused)
        _, said = reply_codes(wanted, verdict, answers_application=True) if wanted.is_enhanced else ("", "")
        if not said:
            return None
        own_id = _own_id(record, number)
        body = acknowledge(
            raw, verdict, control_id=own_id.encode(), now=hl7_time(header.received_us).encode(), ack_code=said, is_application=True,
            is_apart=True,
        )  # fmt: skip
        return Part(number, body, own_id, facts(body).route.message_type.decode("ascii", "replace"))


@contextmanager
def _of_its_own(raw: bytes, number: int = 0) -> Iterator[list[Part]]:
    """Whatever a message does to the making of its reply is that message's own: what is yielded then holds a part that is parked, as `content`.

    Else it would be tried for ever, as if the disk could not be read, and no later reply would leave.
    """
    failed: list[Part] = []
    try:
        yield failed
    except MemoryError:  # another time there is room
        raise
    except Exception as error:  # noqa: BLE001  # of whatever kind
        log.warning("reply.not_made", error=type(error).__name__)
        failed.append(Part(number, raw, "", "", unconverted="content"))


def _own_id(record: Record, number: int) -> str:
    """The reply's MSH-10: the record's leaf says which record of all it is."""
    digest = hashlib.sha256(record.leaf + number.to_bytes(4, "big")).digest()
    return base64.b32encode(digest[:ID_BYTES]).decode()


def _refusal(record: Record) -> tuple[str, str]:
    """Code and place of what was found wrong with a record; empty where nothing was."""
    try:
        said = decode_particulars(record.particulars).get(REFUSAL)
    except NotARecord:
        return "", ""
    match said:
        case [str() as code, str() as location]:
            return code, location
    return "", ""


def _verdict(header: Header, found: Facts, code: str, location: str, *, is_refused: bool) -> Verdict:
    """What was said of a message when it came, of its record."""
    if is_refused:  # which rule refused it stood in its accept reply; the record keeps that one did
        error = PartOfBatchRefused
        return Verdict(
            Outcome.REJECTED, error.code, RequiredFieldMissing.reply, error.error_code, "", error.text, found
        )
    if header.verdict is Said.ACCEPTED or code not in _ERRORS or code == PartOfBatchRefused.code:
        outcome = Outcome.REJECTED if header.verdict is Said.REJECTED else Outcome.ACCEPTED
        return Verdict(outcome, code, "AE" if outcome is Outcome.REJECTED else "AA", "", "", "", found)
    return verdict_of(_ERRORS[code], location, found)
