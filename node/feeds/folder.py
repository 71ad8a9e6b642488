"""A folder feed: files are taken when they are complete, stored byte for byte, and moved aside after the commit; never twice."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from hl7.check import Outcome as Judged
from hl7.devices.files import FileFacts, facts_of
from hl7.devices.folder_errors import FileEmpty, FileGrew, FileTooLong
from node.config.folder import Folder
from node.errors import QueueFull
from node.feeds.folder_files import REFUSED, TAKEN, Found, Mark, Whole, clear, look, make_places, mark_of, move, read
from node.feeds.kinds import Surroundings
from node.feeds.mllp_rules import compile_check
from node.feeds.named_profile import named_by
from node.feeds.plug import watch_over
from node.intake import Counted, Door, Intake, Refusal
from node.writer import Outcome
from sync.header import FILE_NAME
from sync.outbox import Stored
from sync.record import Kind

EMPTY_S_MAX = 3600.0  # loggers open a file in the morning and write at noon; after an hour somebody should know
LATE_S = 600.0  # a writer that goes on after we took its file is caught for so long
LATE_FILES_MAX = 256  # of them
CLEAR_EACH_S = 3600.0
DAY_NS = 86_400_000_000_000
PEER = "folder"

Answered = Outcome | QueueFull | Counted

log = structlog.get_logger()


class FolderFeed:
    """One configured folder."""

    noise_bytes = 0
    connections: tuple[()] = ()

    def __init__(self, feed: Folder, door: Door, intake: Intake, around: Surroundings) -> None:
        self.feed, self.door = feed, door
        self._intake, self._clock, self._alarms = intake, around.clock, around.alarms
        self._die = around.die
        _, self._source = named_by(feed.name, feed.profile, around.profiles)
        self._rules = compile_check(feed.check)
        self._seen: dict[str, tuple[Mark, float]] = {}  # since when a file has been as it is
        self._stored: dict[str, tuple[Mark, str]] = {}  # taken, and not moved yet; where it belongs
        self._late: OrderedDict[str, _Moved] = OrderedDict()  # by their new names
        self._facts = {"waiting": 0, "passed_over": 0}
        self._cleared = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look from now on. A folder that is not there is no reason not to start: a stick comes later."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        watch_over(self._task, self.feed.name, self._die)

    async def stop(self) -> None:
        """Take nothing more. What is under way is stored, and moved at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def addresses(self) -> list[str]:
        """Where files are dropped."""
        return [str(self.feed.path)]

    def facts(self) -> dict[str, Any]:
        """How many files wait to be complete, and how many things that are no files of this feed lie there."""
        return dict(self._facts)

    # -- one look after the other -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
                self._alarms.cleared("FOL-01", self.feed.name)
            except OSError as error:
                log.warning("folder.unreadable", feed=self.feed.name, error=type(error).__name__)
                self._alarms.raised("FOL-01", self.feed.name)
            await asyncio.sleep(self.feed.look_s)

    async def look(self) -> None:
        """Take every file that is complete, the oldest first. Raises OSError where the folder cannot be read."""
        found, self._facts["passed_over"] = await asyncio.to_thread(look, self.feed.path, self.feed.names)
        if not await self._can_move():
            return
        now = self._clock.monotonic()
        self._seen = {
            each.name: (each.mark, self._seen[each.name][1] if self._is_as_seen(each) else now) for each in found
        }
        settled = [each for each in found if now - self._seen[each.name][1] >= self._patience(each)]
        self._facts["waiting"] = len(found) - len(settled)
        for each in settled:
            if not await self._take(each):
                break  # no room, or a file that will not move: the order of files is kept
        await self._look_back(now)
        if now - self._cleared >= CLEAR_EACH_S:
            self._cleared = now
            await self._clear()

    def _is_as_seen(self, found: Found) -> bool:
        return found.name in self._seen and self._seen[found.name][0] == found.mark

    def _patience(self, found: Found) -> float:
        return self.feed.settle_s if found.mark.size else EMPTY_S_MAX

    async def _can_move(self) -> bool:
        try:
            await asyncio.to_thread(make_places, self.feed.path)
        except OSError:
            self._alarms.raised("FOL-02", self.feed.name)
            return False
        self._alarms.cleared("FOL-02", self.feed.name)
        return True

    # -- one file -----------------------------------------------------------------------------------------------------

    async def _take(self, found: Found) -> bool:
        """Store a file and move it; False where the next one has to wait."""
        mark, to = self._stored.get(found.name, (None, ""))
        if mark == found.mark:  # it could not be moved the last time
            return await self._move(found, to)
        whole = await self._read(found.name)
        if whole is None or whole.mark != found.mark:
            return True  # it is being written, or gone; the next look sees it
        is_refused, answered = await self._store(found.name, whole)
        if not isinstance(answered, Stored | Counted):
            return False
        # a crash here: stored, not moved; the next start takes it again, and the repeat is known by its name, time and bytes
        to = REFUSED if is_refused else TAKEN
        self._stored[found.name] = found.mark, to
        return await self._move(found, to)

    async def _read(self, name: str) -> Whole | None:
        try:
            return await asyncio.to_thread(read, self.feed.path, name, self.feed.file_bytes_max)
        except OSError as error:  # this one is not ours to read, the others may be
            self._tell("FOL-01", error=type(error).__name__)
            return None

    async def _store(self, name: str, whole: Whole, *, code: str = "") -> tuple[bool, Answered]:
        """Hand a file to the doorway; whether it is refused, and what became of it."""
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        source, answer = ((FILE_NAME, _text(name)), *self._source), partial(_settle, answered)
        if whole.sha256:
            self._tell(FileTooLong.code)
            self._intake.store_broken(
                self.door, head=whole.data, length=whole.mark.size, sha256=whole.sha256, control_id=_id(name, whole.mark), peer=PEER,
                code=FileTooLong.code, answer=answer, source=source,
            )  # fmt: skip
            return True, await answered
        # 20 MB of HL7 are a second's work, and all feeds share this loop
        found = await asyncio.to_thread(facts_of, name, whole.data, types=self.feed.content_types, rules=self._rules)
        if not whole.data:
            found = found._replace(is_refused=True, code=FileEmpty.code)
        elif code and not found.is_refused:
            found = found._replace(code=code)
        if found.code:
            self._tell(found.code)
        self._intake.store_typed(
            self.door, common=self.door.common(Kind.TEST if found.is_test else Kind.MESSAGE, found.content_type), body=whole.data,
            message_type=found.message_type, control_id=found.control_id or _id(name, whole.mark), peer=PEER, verdict=int(_verdict(found)),
            refusal=Refusal(code=found.code, location=found.location) if found.code else None, answer=answer, source=source,
        )  # fmt: skip
        return found.is_refused, await answered

    async def _move(self, found: Found, to: str) -> bool:
        stamp = datetime.fromtimestamp(self._clock.now_us() / 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
        try:
            new = await asyncio.to_thread(move, self.feed.path, found.name, to, stamp)
        except FileNotFoundError:  # whoever dropped it took it away again
            self._stored.pop(found.name, None)
            return True
        except OSError as error:
            log.warning("folder.not_moved", code="FOL-02", feed=self.feed.name, error=type(error).__name__)
            self._alarms.raised("FOL-02", self.feed.name)
            return False
        self._stored.pop(found.name, None)
        self._seen.pop(found.name, None)
        if to == TAKEN:
            now = self._clock.monotonic()
            self._late[new] = _Moved(found.name, found.mark, now + LATE_S, found.mark, now)
            if len(self._late) > LATE_FILES_MAX:
                self._late.popitem(last=False)
        return True

    # -- what was taken -----------------------------------------------------------------------------------------------

    async def _look_back(self, now: float) -> None:
        """A writer that went on after its file was taken: its file is taken again, whole, once it rests."""
        place = self.feed.path / TAKEN
        for new, moved in list(self._late.items()):
            mark = await asyncio.to_thread(mark_of, place, new)
            if mark is None or now >= moved.until:
                del self._late[new]
            elif mark != moved.now:
                moved.now, moved.since = mark, now
            elif mark != moved.taken and now - moved.since >= self.feed.settle_s:
                await self._take_again(place, new, moved)

    async def _take_again(self, place: Path, new: str, moved: "_Moved") -> None:
        whole = await asyncio.to_thread(read, place, new, self.feed.file_bytes_max)
        if whole is None or whole.mark != moved.now:
            return
        _, answered = await self._store(moved.name, whole, code=FileGrew.code)
        if isinstance(answered, Stored | Counted):
            moved.taken, moved.until = whole.mark, self._clock.monotonic() + LATE_S

    async def _clear(self) -> None:
        before_ns = self._clock.now_us() * 1000 - self.feed.keep_days * DAY_NS
        try:
            await asyncio.to_thread(clear, self.feed.path, before_ns=before_ns, files_max=self.feed.keep_files_max)
        except OSError as error:
            log.warning("folder.not_cleared", feed=self.feed.name, error=type(error).__name__)

    def _tell(self, code: str, **more: str) -> None:
        self.door.counts.last_error = (code, self._clock.now_us())
        log.info("folder.judged", code=code, feed=self.feed.name, **more)


@dataclass(slots=True)
class _Moved:
    """A file that was moved: its first name, how it was when it was taken, until when it is watched; how it is now, and since when."""

    name: str
    taken: Mark
    until: float
    now: Mark
    since: float


def _settle(answered: "asyncio.Future[Answered]", outcome: Answered) -> None:
    if not answered.done():
        answered.set_result(outcome)


def _verdict(found: FileFacts) -> Judged:
    if found.is_refused:
        return Judged.REJECTED
    return Judged.ACCEPTED_WITH_WARNING if found.code else Judged.ACCEPTED


def _text(name: str) -> str:
    """A name as text: bytes that are none stand as they would be escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _id(name: str, mark: Mark) -> str:
    """By what a file that was taken and not moved is known again. No control id of a message looks so."""
    return f"{_text(name)[:200]}@{mark}"
