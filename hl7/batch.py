"""Several messages in one frame or file: [FHS] { [BHS] { MSH … } [BTS] } [FTS] (HL7 2.9, 2.9.3). One record, and a reply to each message.

A batch is stored as it came and divided downstream. Here it is only looked through, so that every message in it is judged and answered.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from hl7.check import NO_RULES, Outcome, Rules, Verdict, check, verdict_of
from hl7.errors import BatchTooLong, NotEr7, PartOfBatchRefused, ProcessingIdNotAllowed
from hl7.message import Message, is_test
from hl7.separators import Separators, escape, read_separators, start_of

MESSAGES_MAX: Final = (
    4096  # replies of 150 bytes and 30 µs each: 600 kB and an eighth of a second of the loop that serves all feeds
)
LOCATION_CHARACTERS_MAX: Final = 16_384  # of the list of refused messages in the particulars, which hold 64 KiB

_HEADS: Final = (b"FHS", b"BHS")
_NAMES: Final = rb"(MSH|FHS|BHS|BTS|FTS)"


class Batch(NamedTuple):
    """The messages of a batch, as (start, end) in `raw`, and the envelope's segments that open it: FHS and BHS, b"" where absent."""

    messages: list[tuple[int, int]]
    file_header: bytes
    batch_header: bytes
    separators: Separators


def is_single(raw: bytes) -> bool:
    """Tell in one look whether the frame is one message for sure, as nearly all are: no second MSH stands anywhere."""
    return raw.startswith(b"MSH") and raw.find(b"MSH", 3) < 0


def divide(raw: bytes) -> Batch | None:
    """Find the messages of a batch; None where the frame is one message, or nothing of HL7."""
    try:
        separators = read_separators(raw)
    except NotEr7:
        return None
    start, mark = start_of(raw), re.escape(bytes([separators.field]))
    found = [(match.start(1), match[1]) for match in re.finditer(rb"(?:\A|[\r\n])" + _NAMES + mark, raw[start:])]
    ends = [at for at, _ in found[1:]] + [len(raw) - start]
    messages = [(start + at, start + end) for (at, name), end in zip(found, ends, strict=True) if name == b"MSH"]
    heads = {
        name: raw[start + at : start + end].rstrip(b"\r\n")
        for (at, name), end in zip(found, ends, strict=True)
        if name in _HEADS
    }
    if len(messages) < 2 and not heads:
        return None
    return Batch(messages, heads.get(b"FHS", b""), heads.get(b"BHS", b""), separators)


def check_batch(raw: bytes, batch: Batch, rules: Rules = NO_RULES) -> tuple[Verdict, list[Verdict]]:
    """Judge each message by the feed's rules: the verdict of the record, and that of each message. Never raises.

    The record is refused where all of it is, or where it holds more messages than can be answered; else it is taken, and says which are refused.
    """
    if len(batch.messages) > MESSAGES_MAX:
        return verdict_of(BatchTooLong, "", check(raw).facts), []
    verdicts = [check(raw[start:end], rules) for start, end in batch.messages]
    verdicts = [verdict if _is_alike(verdict, verdicts[0]) else _apart(verdict) for verdict in verdicts]
    refused = [number for number, each in enumerate(verdicts, 1) if each.outcome is Outcome.REJECTED]
    whole = check(raw)  # the first MSH stands for the record, whatever a rule says of it
    if not verdicts or not refused:
        warned = next((each for each in verdicts if each.outcome is not Outcome.ACCEPTED), None)
        return (warned._replace(facts=whole.facts) if warned else whole), verdicts
    places = _ranges(refused)
    if len(refused) == len(verdicts) or len(places) > LOCATION_CHARACTERS_MAX:
        worst = verdicts[refused[0] - 1]._replace(facts=whole.facts)
        return worst, [each if each.outcome is Outcome.REJECTED else worst for each in verdicts]
    return verdict_of(PartOfBatchRefused, places, whole.facts), verdicts


def _is_alike(one: Verdict, first: Verdict) -> bool:
    """Tell whether both are production or both are test: a batch is one record, and no test may travel as production."""
    return one.facts is None or first.facts is None or is_test(one.facts.route) == is_test(first.facts.route)


def _apart(verdict: Verdict) -> Verdict:
    return verdict_of(ProcessingIdNotAllowed, "MSH^1^11", verdict.facts)


def _ranges(numbers: Sequence[int]) -> str:
    """Write 3, 4, 5, 9 as "3-5,9"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)


def refused_in(places: str) -> frozenset[int]:
    """Read what `check_batch` wrote: which messages of a record, counted from 1, a rule refused. What is not so written names none."""
    numbers: set[int] = set()
    for first, last in re.findall(r"(\d{1,4})(?:-(\d{1,4}))?", places):
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def reply_to_batch(batch: Batch, replies: Sequence[bytes], *, control_id: bytes, now: bytes) -> bytes:
    """Write one reply of the replies to the messages, in the sender's envelope: BHS-12 and FHS-12 name what is answered (2.9.3.3).

    An empty batch says that all was taken. Without an envelope the replies follow one another. b"" where there is nothing to say.
    """
    if not (batch.file_header or batch.batch_header):
        return b"".join(replies)
    mark = bytes([batch.separators.field])
    segments = list(replies)
    if batch.batch_header:
        head = _head(batch.batch_header, batch.separators, control_id, now)
        segments = [head, *segments, mark.join((b"BTS", b"%d" % len(replies))) + b"\r"]
    if batch.file_header:
        head = _head(batch.file_header, batch.separators, control_id, now)
        segments = [head, *segments, mark.join((b"FTS", b"%d" % bool(batch.batch_header))) + b"\r"]
    return b"".join(segments)


def _head(theirs: bytes, separators: Separators, control_id: bytes, now: bytes) -> bytes:
    """FHS or BHS of the reply: the way back, our id, and theirs as the one that is answered."""
    name = theirs[:3].decode("ascii")
    values = Message(theirs + b"\r").read(tuple(f"{name}-{number}" for number in (3, 4, 5, 6, 11)))
    application, facility, to_application, to_facility, their_id = (_clean(value or b"") for value in values)
    mark = bytes([separators.field])
    declared = bytes(byte for byte in separators.declared if byte is not None)
    own_id = escape(control_id, separators)
    parts = (
        theirs[:3] + mark + declared,
        to_application,
        to_facility,
        application,
        facility,
        now,
        b"",
        b"",
        b"",
        own_id,
        their_id,
    )
    return mark.join(parts) + b"\r"


def _clean(value: bytes) -> bytes:
    return value.translate(None, b"\x0b\x1c\r\n")[:1024]
