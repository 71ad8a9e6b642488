"""A feed tried before go-live: what it would say to each message of a file, and what it said to those that came to it as tests."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import apsw

from hl7.batch import check_batch, divide
from hl7.charsets import of_file
from hl7.check import Rules, Verdict, check
from hl7.errors import NotEr7
from hl7.escapes import Flag
from hl7.message import Facts, Route
from hl7.mllp import Decoder, Frame
from hl7.text import Text
from node.catalogue import entries
from node.clock import iso
from node.config.config import Config
from node.config.feeds import Mllp
from node.data_folder import STORE_NAME
from node.feeds.mllp_rules import rules_of, way_of
from node.quality.profile import ProfileCheck
from sync.errors import SyncError
from sync.header import CONTROL_ID, REFUSAL, decode, decode_particulars
from sync.outbox_view import OutboxView
from sync.record import Kind, Record

FILE_BYTES_MAX = 64 * 1024 * 1024  # read whole: a day of a small hospital
REPORT_ROWS_MAX = 1000  # a screen has fifty; more is the gateway's page
NOTES_MAX = 20  # of one message: the first shows what is wrong with its sender's text

_NEXT = re.compile(rb"(?<=[\r\n])(?=(?:MSH|FHS)[^A-Za-z0-9 \r\n])")

_FLAGS = {
    Flag.UNDECODABLE: "bytes that are no text in this character set",
    Flag.OUTSIDE: "MSH-18 says ASCII, and this is not; read by the feed's default",
    Flag.UNDECLARED: "switches to a character set that MSH-18 does not name",
    Flag.LOCAL: "a local escape sequence that is kept as it stands",
    Flag.UNKNOWN: "an escape character that begins nothing known",
    Flag.TRUNCATED: "ends in the truncation character: the sender had more",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a feed says, or said, to one message. `at`: when it came, empty for a file. `code` is empty where nothing is wrong."""

    at: str
    message_type: str
    control_id: str
    outcome: str
    code: str
    location: str
    stream: str
    is_test: bool
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """It as a technician reads it: one line, and one more with what to do."""
        mark = " test" if self.is_test else ""
        place = f" at {self.location}" if self.location else ""
        when = f"{self.at}  " if self.at else ""
        wrong = f"  [{self.code}]{place}" if self.code else ""
        yield f"{when}{self.control_id or '(no id)'}  {self.message_type or '(no type)'}  {self.outcome}{mark} -> {self.stream}{wrong}"
        if self.code in entries():
            yield f"    {entries()[self.code].hint}"
        yield from (f"    {note}" for note in self.notes)


def messages_in(data: bytes) -> list[bytes]:
    """The messages of a file: of MLLP frames where it holds any, else each that begins with MSH (FHS for a batch), line ends made CR.

    A file in UTF-16 is judged by its text in UTF-8, the only way in which MLLP can carry it.
    """
    wide = of_file(data)
    data = data if wide is None else wide.raw
    if data.startswith(b"\x0b"):
        decoder = Decoder(FILE_BYTES_MAX)
        return [event.payload for event in [*decoder.receive(data), *decoder.finish()] if isinstance(event, Frame)]
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\r").replace(b"\n", b"\r").strip(b"\r\x1a ")
    if data.startswith((b"FHS", b"BHS")):
        return [data + b"\r"]
    return [part.rstrip(b"\r") + b"\r" for part in _NEXT.split(data) if part.strip()]


def judge(feed: Mllp, data: bytes) -> list[Judged]:
    """What a feed would say to the messages of a file. Nothing is stored."""
    rules, found = rules_of(feed), []
    for raw in messages_in(data):
        batch = divide(raw)
        verdicts = [check(raw, rules)] if batch is None else check_batch(raw, batch, rules)[1]
        parts = [raw] if batch is None else [raw[start:end] for start, end in batch.messages]
        for part, verdict in zip(parts, verdicts, strict=True):
            stream, is_test = way_of(part, verdict, feed, rules, is_trial=False)
            found.append(
                _judged(verdict, stream or feed.stream, _notes(part, rules, feed.local_escapes), is_test=is_test)
            )
    return found


def _notes(raw: bytes, rules: Rules, local: Mapping[str, str]) -> tuple[str, ...]:
    """Say which values a reader should look at: text that is none, unknown escapes, cut values."""
    try:
        text = Text(raw, charset=rules.charset, charset_default=rules.charset_default, local=local)
        flagged = islice(text.flagged(), NOTES_MAX)
    except NotEr7:
        return ()
    return tuple(f"{path}: {_FLAGS[flag]}" for path, flags in flagged for flag in flags if flag in _FLAGS)


def _judged(verdict: Verdict, stream: str, notes: tuple[str, ...], *, is_test: bool) -> Judged:
    facts = verdict.facts or Facts(Route(), b"")
    return Judged(
        at="", message_type=facts.route.message_type.decode("utf-8", "replace"), control_id=facts.control_id.decode("utf-8", "replace"),
        outcome=verdict.outcome.name.lower().replace("_", "-"), code=verdict.code, location=verdict.location, stream=stream, is_test=is_test, notes=notes,
    )  # fmt: skip


def report(config: Config, feed: Mllp, last: int) -> list[Judged]:
    """What a feed said to the last tests that came to it, oldest first. Raises SyncError, apsw.Error."""
    stream = feed.test_stream or feed.stream
    view = OutboxView(config.node.data_dir / STORE_NAME, config.node.name)
    try:
        logs = [log for log in view.streams() if log.origin.stream == stream]
        if not logs:
            return []
        newest = logs[-1]
        # in a stream of its own every record is a test; in the feed's own stream they stand between others
        first = max(0, newest.size - (last if feed.test_stream else REPORT_ROWS_MAX))
        rows = [
            _told(record, stream)
            for record in view.table(newest.log).records(first, newest.size - first)
            if _is_of(record, feed.name)
        ]
        return rows[-last:]
    finally:
        view.close()


def _is_of(record: Record, feed: str) -> bool:
    try:
        header = decode(record.header)
    except SyncError:
        return False
    return header.kind is Kind.TEST and header.feed == feed


def _told(record: Record, stream: str) -> Judged:
    header = decode(record.header)
    particulars = decode_particulars(record.particulars)
    code, location = particulars.get(REFUSAL, ("", ""))
    return Judged(
        at=iso(header.received_us), message_type=header.message_type, control_id=str(particulars.get(CONTROL_ID, "")),
        outcome=header.verdict.word, code=code, location=location, stream=stream, is_test=True,
    )  # fmt: skip


def profile_lines(data: bytes, profile: Path | None) -> Iterator[str]:
    """What hl7apy finds in each message of a file, by a profile or by the standard's own structures. Raises OSError."""
    with ProfileCheck(profile) as worker:
        for number, raw in enumerate(messages_in(data), 1):
            found = worker.ask(raw)
            if found is None:
                yield f"message {number}: not checked, it took too long or is too large"
                continue
            yield f"message {number}: {len(found)} findings"
            yield from (f"    {line}" for line in found)


STORE_ERRORS = (SyncError, apsw.Error)
