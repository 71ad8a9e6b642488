"""What a feed writes back: replies to a message, a batch, or what was not stored, in the mode that its sender asks for. Framed."""

from typing import TYPE_CHECKING

from hl7.ack import acknowledge, refuse
from hl7.asked import ORIGINAL, Asked, asked, is_wanted, reply_codes
from hl7.batch import Batch, reply_to_batch
from hl7.check import Outcome, Verdict
from hl7.errors import NotEr7
from hl7.message import facts
from hl7.mllp import encode

if TYPE_CHECKING:
    from node.feeds.mllp import MllpFeed

NO_ROOM_ERROR = "207"  # HL7 table 0357: application internal error


def wanted_by(verdict: Verdict, feed: "MllpFeed") -> Asked:
    """What the sender of a message asks for; original mode where it has no MSH."""
    return asked(verdict.facts.route, feed.feed.acknowledgement) if verdict.facts else ORIGINAL


def reply_to(raw: bytes, verdict: Verdict, feed: "MllpFeed", expected: bytes = b"") -> bytes:
    """The replies to one message that is stored, or recorded as refused; b"" where none is wanted. `expected`: MSA-4."""
    return b"".join(map(encode, _payloads(raw, verdict, feed, expected)))


def _payloads(raw: bytes, verdict: Verdict, feed: "MllpFeed", expected: bytes = b"") -> list[bytes]:
    wanted = wanted_by(verdict, feed)
    if not wanted.is_enhanced:
        return [acknowledge(raw, verdict, control_id=feed.reply_id(), now=feed.now(), expected=expected)]
    accept, application = reply_codes(wanted, verdict, answers_application=feed.feed.application_reply)
    written = []
    if accept:
        written.append(
            acknowledge(raw, verdict, control_id=feed.reply_id(), now=feed.now(), ack_code=accept, expected=expected)
        )
    if application:
        written.append(
            acknowledge(
                raw, verdict, control_id=feed.reply_id(), now=feed.now(), ack_code=application, is_application=True
            )
        )
    return written


def reply_to_all(raw: bytes, batch: Batch, verdicts: list[Verdict], feed: "MllpFeed") -> bytes:
    """The reply to a batch: one to each message that wants one, in one frame."""
    replies = [
        payload for (start, end), verdict in zip(batch.messages, verdicts, strict=True) for payload in _payloads(raw[start:end], verdict, feed)
    ]  # fmt: skip
    return _framed(reply_to_batch(batch, replies, control_id=feed.reply_id(), now=feed.now()))


def reply_no_room(raw: bytes, verdict: Verdict, text: str, feed: "MllpFeed", expected: bytes = b"") -> bytes | None:
    """The reply to a message that is not stored: AR, in enhanced mode CE. None where its sender wants to hear nothing then."""
    wanted = wanted_by(verdict, feed)
    code = "AR"
    if wanted.is_enhanced and is_wanted(wanted.accept, "CE"):
        code = "CE"
    elif wanted.is_enhanced and not (feed.feed.application_reply and is_wanted(wanted.application, "AR")):
        return None
    return encode(
        refuse(raw, ack_code=code, error_code=NO_ROOM_ERROR, text=text, control_id=feed.reply_id(), now=feed.now(), expected=expected)
    )  # fmt: skip


def reply_no_room_to_all(
    raw: bytes, batch: Batch, verdicts: list[Verdict], text: str, feed: "MllpFeed"
) -> bytes | None:
    """The same to a batch: each message of it is to be sent again. None where no sender of them wants to hear it."""
    replies = []
    for (start, end), verdict in zip(batch.messages, verdicts, strict=True):
        wanted, part = wanted_by(verdict, feed), raw[start:end]
        code = "CE" if wanted.is_enhanced else "AR"
        if not wanted.is_enhanced or is_wanted(wanted.accept, code):
            replies.append(
                refuse(part, ack_code=code, error_code=NO_ROOM_ERROR, text=text, control_id=feed.reply_id(), now=feed.now())
            )  # fmt: skip
    if verdicts and not replies:
        return None
    return _framed(reply_to_batch(batch, replies, control_id=feed.reply_id(), now=feed.now()))


def reply_to_broken(head: bytes, ack_code: str, error_code: str, text: str, feed: "MllpFeed") -> bytes:
    """The reply to a frame of which only the first bytes are left; b"" where they hold no MSH, or nobody wants to hear it."""
    try:
        found = facts(head)
    except NotEr7:
        return b""
    wanted = asked(found.route, feed.feed.acknowledgement)
    if wanted.is_enhanced:
        ack_code = "CE"
        if not is_wanted(wanted.accept, ack_code):
            return b""
    return encode(
        refuse(head, ack_code=ack_code, error_code=error_code, text=text, control_id=feed.reply_id(), now=feed.now())
    )


def is_silent_on_error(verdict: Verdict, feed: "MllpFeed") -> bool:
    """Whether nothing may be answered where there is no room: then the message waits here, and what follows it with it."""
    return wanted_by(verdict, feed).is_silent_on_error and verdict.outcome is not Outcome.REJECTED


def _framed(payload: bytes) -> bytes:
    return encode(payload) if payload else b""
