"""The demo's supervisor: runs node core, node web and gateway as processes and starts again whatever ends."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from node.tools import demo_leash

STOP_S_MAX = 5.0  # a batch under way ends in well under a second; whoever needs longer is killed, as a power cut would
RESTART_S_MIN, RESTART_S_MAX = (
    0.1,
    1.5,
)  # a killed one is back within 2 s; one that cannot start is not asked in a tight loop
LIVED_S = 5.0  # whoever ran so long did start
LOG_TAIL_BYTES = 2000  # what a person is shown of a process that would not start


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run: `python -P -m …` with these arguments, or another `binary`; standard output and error go to `log`."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    binary: str = ""


class Child:
    """One program, kept running from `start` to `stop`. `pid` 0: it is not running now.

    on_start and on_end are called in the loop at each start and end; on_end gets the exit code, negative for a signal.
    """

    def __init__(
        self, program: Program, *, on_start: Callable[["Child"], None], on_end: Callable[["Child", int], None]
    ) -> None:
        self.program = program
        self.pid = 0
        self._on_start, self._on_end = on_start, on_end
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    async def start(self) -> None:
        """Start it, and begin to keep it running."""
        process = await self._spawn()
        self._task = asyncio.get_running_loop().create_task(self._keep(process))

    def kill(self) -> bool:
        """Send SIGKILL, as `kill -9` does; False where nothing runs."""
        if self._process is None or not self.pid:
            return False
        self._process.kill()
        return True

    async def stop(self) -> None:
        """Ask it to end, wait, and end it."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S_MAX)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def last_words(self) -> str:
        """The end of its log, for a person whose demo does not start."""
        try:
            with self.program.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        pause_s = RESTART_S_MIN
        while True:
            began_s = time.monotonic()
            code = await process.wait()
            self.pid = 0
            self._on_end(self, code)
            pause_s = RESTART_S_MIN if time.monotonic() - began_s >= LIVED_S else min(RESTART_S_MAX, pause_s * 2)
            await asyncio.sleep(pause_s)
            if self._stopping:
                return
            process = await self._spawn()

    async def _spawn(self) -> asyncio.subprocess.Process:
        """Start it in a session of its own, so that Ctrl-C reaches the supervisor alone, which then stops all in order."""
        # -P: no folder of the working directory stands in for a package
        start = (self.program.binary,) if self.program.binary else (sys.executable, "-P", "-m")
        command = (*start, *self.program.arguments)
        leash = (sys.executable, "-I", "-S", demo_leash.__file__, str(os.getpid()))
        with self.program.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *leash, *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._process, self.pid = process, process.pid
        self._on_start(self)
        return process


def word_for(code: int) -> str:
    """An exit code as a person writes it: "SIGKILL", or "exit 78"."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit {code}"
