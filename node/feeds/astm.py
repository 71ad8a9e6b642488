"""The ASTM feed: instruments that call, that are called, or that hang on a serial line; messages to `intake`, orders back to them."""

import asyncio
from collections import Counter
from collections.abc import Sized
from typing import Any

from hl7.devices import astm_records
from hl7.devices.astm_errors import AstmError, NoHeaderRecord, NotReadable, SenderNotRegistered, TransferCutOff
from hl7.devices.astm_events import End
from hl7.devices.astm_records import Records
from node.config.astm import Astm
from node.errors import CannotListen
from node.feeds.astm_leftovers import LOOK_S, recover
from node.feeds.astm_line import Line
from node.feeds.astm_port import PortLine
from node.feeds.astm_sessions import Session
from node.feeds.astm_tcp import Caller, Listeners
from node.feeds.kinds import Surroundings
from node.feeds.named_profile import named_by
from node.feeds.plug import watch_over
from node.intake import Answer, Door, Intake, Refusal
from node.lines.trace import LineTrace
from sync.record import Kind, Verdict

CONTENT_TYPE = "application/astm-e1394"


class AstmFeed:
    """One configured instrument, or several that call the same port."""

    def __init__(self, feed: Astm, door: Door, intake: Intake, around: Surroundings) -> None:
        self.profile, self._source = named_by(feed.name, feed.profile, around.profiles)
        try:
            self.feed = feed.with_profile(self.profile.link) if self.profile else feed
        except ValueError as error:
            raise CannotListen(f"feed {feed.name}: profile {feed.profile}: {error}") from error
        self.door, self.intake, self.around = door, intake, around
        self.clock, self.alarms, self.store = around.clock, around.alarms, around.frame_store
        self.switches = self.feed.switches
        self.needs_terminator = self.feed.terminator == "required"
        self.trace = LineTrace(around.clock.now_us, charset=self.profile.charset if self.profile else "")
        self.lines: set[Line] = set()
        self.noise_bytes = 0
        self.ends: Counter[str] = Counter()
        self._past: Counter[str] = Counter()
        self._sessions: dict[str, Session] = {}
        self._transfers = 0
        self._has_leftovers = False
        self._watch: asyncio.Task[None] | None = None
        try:
            self._way: Listeners | Caller | PortLine = self._make_way()
        except ValueError as error:  # a profile of the site's own, whose line no port can be
            raise CannotListen(f"feed {feed.name}: profile {feed.profile}: {error}") from error
        self._desk = around.desk(self.feed, self.profile)

    def _make_way(self) -> Listeners | Caller | PortLine:
        if self.feed.serial is not None:
            return PortLine(self, self.feed.serial.line(self.profile.serial if self.profile else None))
        return Caller(self, self.feed.connect) if self.feed.connect is not None else Listeners(self)

    # -- the plug -----------------------------------------------------------------------------------------------------

    @property
    def connections(self) -> Sized:
        """Lines that are open."""
        return self.lines

    async def start(self) -> None:
        """Record what the last stop cut off, then listen, call, or open the port. Raises CannotListen; SyncError."""
        self._has_leftovers = await recover(self, first=True)
        await self._way.start()
        self._watch = asyncio.get_running_loop().create_task(self._look_after())
        watch_over(self._watch, self.feed.name, self.around.die)

    async def stop(self) -> None:
        """Take nothing more; what is open becomes incomplete records."""
        if self._watch is not None:
            self._watch.cancel()
        await self._way.stop()

    def addresses(self) -> list[str]:
        """Where it really listens, or the port or peer it is connected to."""
        return self._way.addresses()

    def facts(self) -> dict[str, Any]:
        """The lines' story: frames, repeats, damage, how transfers ended, what waits for an instrument."""
        counts = Counter(self._past)
        for line in self.lines:
            counts.update(_counts(line))
        orders = {} if self._desk is None else {"orders": self._desk.document()}
        return {"link": dict(counts), "transfers": dict(self.ends), **self._way.facts(), **orders}

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self._has_leftovers:
                self._has_leftovers = await recover(self, first=False)

    # -- lines --------------------------------------------------------------------------------------------------------

    def add(self, line: Line) -> None:
        """A line is open."""
        line.connection = self.trace.opened(line.peer)
        self.lines.add(line)
        if self._desk is not None:
            self._desk.opened(line)

    def gone(self, line: Line) -> None:
        """A line is closed, and all it left is recorded."""
        if line not in self.lines:
            return
        self.trace.noted("away", line.peer, line.connection)
        self.lines.discard(line)
        self._past.update(_counts(line))
        self.noise_bytes += line.link.counts.noise_bytes
        if self._desk is not None:
            self._desk.closed(line)
        name = line.session.name
        if line.session.encode() is None and not any(other.session is line.session for other in self.lines):
            self._sessions.pop(name, None)

    def session(self, peer: str) -> Session:
        """What is known of this peer's transfers."""
        name = f"{self.fact_start}{peer}"
        return self._sessions.setdefault(name, Session(name))

    @property
    def fact_start(self) -> str:
        """How the names of its facts begin."""
        return f"astm:{self.door.feed}:"

    def remember(self, session: Session) -> None:
        """A session of before this start."""
        self._sessions[session.name] = session

    def next_transfer(self) -> str:
        """A name that no other transfer has, of whatever start. In their order as texts too."""
        self._transfers += 1
        return f"{self.door.feed}/{self.around.boot[:16]}/{self._transfers:012}"

    def is_open(self, transfer: str) -> bool:
        """Whether a line still works on it."""
        return any(line.transfer == transfer for line in self.lines)

    def leave_over(self) -> None:
        """There was no room to record what a transfer left; it is tried again."""
        self._has_leftovers = True

    def note(self, code: str) -> None:
        """What is wrong, for the page."""
        self.door.counts.last_error = (code, self.clock.now_us())

    def count_end(self, why: End) -> None:
        """A transfer ended so."""
        self.ends[why.name.lower()] += 1

    # -- messages -----------------------------------------------------------------------------------------------------

    def take(
        self, body: bytes, *, peer: str, is_cut: bool, fact: tuple[str, bytes], answer: Answer, damaged: bool = False
    ) -> None:
        """Make a record of a message, or of what there is of one."""
        records = astm_records.read(body)
        header = records.header
        refusal = self._judge(records, is_cut=is_cut, damaged=damaged)
        if refusal is not None:
            self.note(refusal.code)
        kind = (
            Kind.INCOMPLETE
            if is_cut
            else Kind.TEST
            if header is not None and header.get(12) in {b"T", b"D"}
            else Kind.MESSAGE
        )
        self.intake.store_typed(
            self.door, common=self.door.common(kind, CONTENT_TYPE), body=body, message_type=astm_records.purpose(records),
            control_id="" if header is None else header.get(3).decode("latin-1"), peer=peer,
            verdict=Verdict.ACCEPTED if refusal is None else Verdict.ACCEPTED_WITH_WARNING, refusal=refusal, answer=answer, fact=fact, repeats=False,
            source=self._source,
        )  # fmt: skip

    def _judge(self, records: Records, *, is_cut: bool, damaged: bool) -> Refusal | None:
        """What is to be said of it; nothing that was acknowledged is refused any more."""
        if is_cut:
            return Refusal(code=TransferCutOff.code, location="frames lost" if damaged else "")
        found: type[AstmError] | None = None
        if records.header is None:
            found = NoHeaderRecord
        elif not _is_readable(records.header.raw):
            found = NotReadable
        elif self.feed.senders and not set(map(_text, records.header.components(5))) & set(self.feed.senders):
            found = SenderNotRegistered
        return Refusal(code=found.code, location="H-5" if found is SenderNotRegistered else "") if found else None

    # -- orders -------------------------------------------------------------------------------------------------------

    def heed(self, line: Line, body: bytes, questions: list[bytes]) -> None:
        """A message is stored; where it is a query, it is answered when its transfer is over."""
        del line
        if self._desk is not None and astm_records.purpose(astm_records.read(body)) == "Q":
            questions.append(body)

    def ask(self, line: Line, body: bytes) -> None:
        """Answer a query."""
        if self._desk is not None:
            self._desk.asked(line, body)

    def sent(self, line: Line, token: int) -> None:
        """The instrument took a transfer."""
        if self._desk is not None:
            self._desk.sent(line, token)

    def not_sent(self, line: Line, token: int, why: str) -> None:
        """The instrument did not take it."""
        if self._desk is not None:
            self._desk.not_sent(line, token, why)


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _is_readable(header: bytes) -> bool:
    try:
        astm_records.read_delimiters(header)
    except NotReadable:
        return False
    return True


def _counts(line: Line) -> dict[str, int]:
    counts = line.link.counts
    return {name: getattr(counts, name) for name in counts.__dataclass_fields__}
