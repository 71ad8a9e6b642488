"""Dropped files, often of the same bytes: a move is the acknowledgement."""

import time
from pathlib import Path

from tests.folder_rig import CSV, FolderOf
from tests.kill_rig import LoopError, Peer, Row, Source, Taken


class Dropper(Peer):
    """A program that drops some files and waits until they were moved. Their bytes are often the same: two such files are two records."""

    def __init__(self, number: int, seed: str, folder: Path) -> None:
        super().__init__(number, seed)
        self._folder = folder
        folder.mkdir()

    def turn(self) -> None:
        self.is_amid, dropped = True, []
        for _ in range(self.dice.randint(1, 3)):
            name, data = f"{self.made:06}.csv", CSV + b"%d\n" % self.dice.randrange(2)
            self.made += 1
            (self._folder / f".{name}").write_bytes(data)
            (self._folder / f".{name}").rename(self._folder / name)
            dropped.append((name, data))
        for name, data in dropped:
            while (self._folder / name).exists():
                if self.is_over:
                    return
                time.sleep(0.01)
            self._mine.append(Taken(name.encode() + b" " + data))
            self.acknowledged += 1
        self.is_amid = False


class Folder(Source):
    name = "folder"

    def __init__(self, seed: str, folder: Path) -> None:
        path = folder / "drop"
        super().__init__(
            FolderOf(self.name, listen=("x",), path=path, lines="keep_files_max = 100"), [Dropper(0, seed, path)]
        )

    def take(self, row: Row) -> None:
        if (row.kind, row.verdict) != ("message", "accepted"):
            raise LoopError(f"record {row.seq} is {row.kind}, {row.verdict}")
        self.there += 1
        self.peers[0].found(row.control_id.partition("@")[0].encode() + b" " + row.body)
