"""Reads what the kernel saw of a process: whether anything that acknowledges left before the sync of what it acknowledges had returned.

The process is not changed for it; it runs under `strace` with `WATCH`. Several connections may be under way at once: while one group is
written, the replies of the one before leave, so it is not the WAL that must be clean, but the sync that covers a message that must be over.
"""

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

TEXT_BYTES_MAX = 70_000  # of a call, shown by strace: whole pages, and all replies that leave together
STOP_S_MAX = 30  # an orderly end under strace
CALLS = "trace=pwrite64,pwritev,fdatasync,fsync,read,recvfrom,recvmsg,write,writev,sendto,sendmsg"
WATCH = ("strace", "-f", "-yy", "-s", str(TEXT_BYTES_MAX), "-e", CALLS, "-e", "signal=none")

WAL = r"\d+<[^>]*-wal>"
WRITE = re.compile(rf"\bpwritev?(?:64)?\({WAL}")
SYNC = re.compile(rf"\bf(?:data)?sync\({WAL}(?P<later>\s*<unfinished)?")
RESUMED = re.compile(r"<\.\.\. f(?:data)?sync resumed>.*= 0$")
SENT = re.compile(r"\b(?:sendto|sendmsg|writev?)\(\d+<TCP")
READ = re.compile(r"\b(?:recvfrom|recvmsg|read)\(\d+<TCP")
READ_LATER = re.compile(r"<\.\.\. (?:recvfrom|recvmsg|read) resumed>")
SOMETHING = re.compile(r"= [1-9]\d*$")  # bytes were read, not none and no error
PEER_PORT = re.compile(r"->[^\]]*?:(\d+)\]")


def why_not() -> str:
    """Why no process can be watched here, in one line; empty where one can."""
    if shutil.which("strace") is None:
        return "strace is missing"
    tried = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"ptrace is forbidden here: {tried.stderr.strip().splitlines()[-1]}"


def stop_watched(process: subprocess.Popen[bytes]) -> None:
    """Stop what runs under strace; killing strace itself would leave it behind."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    process.wait(STOP_S_MAX)


@dataclass
class Trace:
    """A trace while it is read. Marks are texts that stand in what is stored; each is in one message only.

    `written` holds the marks that are in the WAL, and whether a sync that began after that has returned.
    """

    mark: re.Pattern[str]
    written: dict[str, bool] = field(default_factory=dict)
    syncing: dict[str, list[str]] = field(default_factory=dict)
    syncs: int = 0

    def take(self, line: str) -> None:
        """One line: what it says of the WAL."""
        thread = line.partition(" ")[0]
        if WRITE.search(line):
            for mark in self.mark.findall(line):
                self.written.setdefault(mark, False)
        elif found := SYNC.search(line):
            covered = [mark for mark, safe in self.written.items() if not safe]
            if found["later"]:
                self.syncing[thread] = covered
            elif line.rstrip().endswith("= 0"):
                self._synced(covered)
        elif RESUMED.search(line) and thread in self.syncing:
            self._synced(self.syncing.pop(thread))

    def _synced(self, marks: list[str]) -> None:
        self.syncs += 1
        self.written.update(dict.fromkeys(marks, True))


def early_replies(text: str, mark: re.Pattern[str], reply: re.Pattern[str]) -> tuple[int, list[str]]:
    """How many replies left, and the marks of those that left too early. `reply` finds the mark in a reply's text."""
    trace, replies, early = Trace(mark), 0, []
    for line in text.splitlines():
        if SENT.search(line):
            for found in reply.findall(line):
                replies += 1
                if not trace.written.get(found):
                    early.append(found)
        else:
            trace.take(line)
    return replies, early


class Connections:
    """Connections of which each waits for its answer: `ports` says by the peer's port how a connection's marks begin."""

    def __init__(self, ports: dict[int, str]) -> None:
        self._ports = ports
        self._reading: dict[str, str] = {}  # by thread: the connection of a call that has not returned
        self.answered: dict[str, bool] = {}  # whether anything left since something was read
        self.waiting: dict[str, str] = {}  # the mark that waits for its answer

    def of(self, line: str) -> str | None:
        """The connection that a line speaks of."""
        return next((self._ports[int(port)] for port in PEER_PORT.findall(line) if int(port) in self._ports), None)

    def owner(self, mark: str) -> str:
        """The connection on which a mark came."""
        return next(start for start in self._ports.values() if mark.startswith(start))

    def read(self, line: str) -> None:
        """Take note of what is read, now or by a call that returns later."""
        thread, ours = line.partition(" ")[0], self.of(line)
        if READ.search(line) and ours is not None:
            if "<unfinished" in line:
                self._reading[thread] = ours
            elif SOMETHING.search(line):
                self.answered[ours] = False
        elif READ_LATER.search(line) and thread in self._reading:
            ours = self._reading.pop(thread)
            if SOMETHING.search(line):
                self.answered[ours] = False


def early_answers(text: str, mark: re.Pattern[str], ports: dict[int, str]) -> tuple[int, list[str]]:
    """The same where answers are encrypted, but each connection waits for one before it sends again.

    What leaves between the last that was read before a mark was written, and the end of that mark's sync, is its answer too early.
    """
    trace, connections, answers, early = Trace(mark), Connections(ports), 0, []
    for line in text.splitlines():
        ours = connections.of(line)
        if ours is not None and SENT.search(line):
            connections.answered[ours] = True
            held = connections.waiting.pop(ours, None)
            if held is not None:
                answers += 1
                early += [] if trace.written[held] else [held]
            continue
        connections.read(line)
        before = len(trace.written)
        trace.take(line)
        for fresh in list(trace.written)[before:]:
            owner = connections.owner(fresh)
            if connections.answered.get(owner):
                early.append(fresh)
                answers += 1
            else:
                connections.waiting[owner] = fresh
    return answers, early
