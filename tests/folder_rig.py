"""A folder feed of a node, and its plug alone over a doorway that a test holds: for the tests of dropped files."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.alarms import Alarms
from node.clock import Trust
from node.config.folder import Folder
from node.feeds.folder import FolderFeed
from node.intake import Intake, make_door
from sync.errors import NoRoom
from sync.header import CONTROL_ID, FILE_NAME, REFUSAL, decode_particulars
from sync.outbox import Stored
from sync.record import Draft
from tests.node_rig import Feed

CSV = "sample,test,value,unit\nT-0001,GLU,5.4,mmol/L\nT-0002,مريض تجريبي,72.50,\n".encode()


@dataclass
class FolderOf(Feed):
    """A folder feed of the configuration."""

    path: Path = Path()

    def text(self) -> str:
        stream = f'stream = "{self.stream}"\n' if self.stream else ""
        return f'[[feeds]]\nname = "{self.name}"\nkind = "folder"\npath = "{self.path}"\nsettle_s = 1\nlook_s = 1\n{stream}{self.lines}\n{self.more}'


@dataclass
class Time:
    """A clock that the test moves."""

    s: float = 1000.0

    def now_us(self) -> int:
        return 1_900_000_000_000_000 + int(self.s * 1_000_000)

    def monotonic(self) -> float:
        return self.s

    def trust(self) -> Trust:
        return Trust(1, 1000)


@dataclass
class Stores:
    """The writer's side: keeps drafts, knows repeats, and may have no room."""

    drafts: list[Draft] = field(default_factory=list)
    is_full: bool = False
    keys: set[tuple[bytes, bytes]] = field(default_factory=set)

    def submit(self, draft: Draft, done: Any) -> bool:
        if self.is_full:
            done(NoRoom("full"))
            return True
        key = (draft.repeat_key, draft.body)
        is_repeat = bool(draft.repeat_key) and key in self.keys
        self.keys.add(key)
        if not is_repeat:
            self.drafts.append(draft)
        done(Stored(draft.stream, 1, len(self.drafts) - 1, repeated=is_repeat))
        return True


class Around:
    """What the core lends."""

    def __init__(self, time: Time, alarms: Alarms) -> None:
        self.clock, self.alarms = time, alarms
        self.died: list[int] = []
        self.die, self.profiles = self.died.append, None


class Plug:
    """One folder feed without a process: `look` is one look, `wait` lets the clock go on."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path, self.time, self.writer = path, Time(), Stores()
        self.alarms = Alarms(self.time.now_us)
        feed = Folder.model_validate({"name": "drop", "kind": "folder", "path": path, **options})
        self.door = make_door(
            facility="BH-TEST-0007", feed="drop", stream="drop", content_type="application/octet-stream", rejected_per_hour_max=feed.rejected_per_hour_max,
        )  # fmt: skip
        intake = Intake(clock=self.time, writer=self.writer, alarms=self.alarms)  # type: ignore[arg-type]
        self.feed = FolderFeed(feed, self.door, intake, Around(self.time, self.alarms))  # type: ignore[arg-type]

    def look(self, times: int = 1, *, s: float = 0.0) -> None:
        for _ in range(times):
            self.time.s += s
            asyncio.run(self.feed.look())

    def take(self) -> None:
        """Two looks, and the time between that a file needs to settle."""
        self.look()
        self.look(s=5)

    def drop(self, name: str, data: bytes = CSV) -> Path:
        path = self.path / name
        path.write_bytes(data)
        return path

    def there(self, place: str = "") -> list[str]:
        folder = self.path / place
        return sorted(each.name for each in folder.iterdir() if each.is_file() or each.is_symlink())

    @property
    def bodies(self) -> list[bytes]:
        return [draft.body for draft in self.writer.drafts]

    def standing(self) -> set[str]:
        return {alarm["code"] for alarm in self.alarms.standing()}


def file_name(draft: Draft) -> str:
    return decode_particulars(draft.particulars)[FILE_NAME]


def control_id(draft: Draft) -> str:
    return decode_particulars(draft.particulars)[CONTROL_ID]


def refusal(draft: Draft) -> str:
    return decode_particulars(draft.particulars).get(REFUSAL, ("",))[0]
