"""Whose pages are written: frames in the WAL and pages brought back from it, by b-tree, for each group. Run: python written_pages.py FOLDER GROUP MESSAGES

With `--before N` an outbox of so many messages is there already; with `--streams N` the groups go to so many streams in turn.
"""

import argparse
import struct
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from written import draft, opened

WAL_HEADER_BYTES, FRAME_HEADER_BYTES, PAGE_BYTES = 32, 24, 4096
BEFORE_GROUP = 256  # what is there already was not written for this


def frames_of(path: Path) -> list[int]:
    """The page of each frame in the WAL that belongs to its present round."""
    data = path.read_bytes()
    salts, size = data[16:24], FRAME_HEADER_BYTES + PAGE_BYTES
    frames = [data[at : at + FRAME_HEADER_BYTES] for at in range(WAL_HEADER_BYTES, len(data) - size + 1, size)]
    return [struct.unpack_from(">I", frame)[0] for frame in frames if frame[8:16] == salts]


class Account:
    """Counts both kinds of writing at each checkpoint of an outbox."""

    def __init__(self, outbox, path: Path) -> None:
        self.frames, self.back = Counter(), Counter()
        self._connection, self._wal = outbox._connection, path.with_name(path.name + "-wal")
        self._bring = outbox._transactions._bring_back
        outbox._transactions._bring_back = self.bring

    def bring(self) -> None:
        """Count what the WAL holds, then bring it back."""
        tree = {
            page: f"{name}, {kind}"
            for page, name, kind in self._connection.execute("SELECT pageno, name, pagetype FROM dbstat")
        }
        pages = frames_of(self._wal)
        self.frames.update(tree.get(page, "free") for page in pages)
        self.back.update(tree.get(page, "free") for page in set(pages))
        self._bring()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("group", type=int)
    options.add_argument("messages", type=int)
    options.add_argument("--before", type=int, default=0)
    options.add_argument("--streams", type=int, default=1)
    args = options.parse_args()
    names = ["his", "adt", "lab", "pharmacy"][: args.streams]
    path = args.folder / f"pages-{args.group}.db"
    outbox = opened(path, names)
    for first in range(0, args.before, BEFORE_GROUP):
        outbox.append([draft(first + n, names[first // BEFORE_GROUP % len(names)]) for n in range(BEFORE_GROUP)])
    outbox._transactions._bring_back()
    account = Account(outbox, path)
    for turn, first in enumerate(range(args.before, args.before + args.messages, args.group)):
        outbox.append([draft(first + n, names[turn % len(names)]) for n in range(args.group)])
    account.bring()
    outbox.close()
    groups = args.messages / args.group
    for name, count in account.frames.most_common():
        print(f"{name:34}{count / groups:8.2f}{account.back[name] / groups:8.2f}")
    print(f"{'all':34}{account.frames.total() / groups:8.2f}{account.back.total() / groups:8.2f}")


if __name__ == "__main__":
    main()
