"""Starts nodes and gateways in a fraction of their usual second: a process that has imported both already forks for each start.

What runs in the fork is the command line as a person would give it. Cold starts (`python -m node.cli`) are `subprocess`'s; both
look like a `Popen` to the tests. `Popen` of an unmodified process is used wherever a promise hangs on how the process starts.
"""

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MAINS = {"node": "node.cli.main", "gateway": "gateway.__main__"}
PR_SET_PDEATHSIG = 1  # prctl(2): no orphan outlives a test run
REQUEST_BYTES_MAX = 65536


def calm() -> dict[str, str]:
    """The environment without asyncio's debug mode, which any value turns on: it is for our own loops, and makes uvloop crawl."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}


class Warm:
    """One forked process, with the part of Popen's interface that the rigs use."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self.pid, self.returncode = pid, None
        self._zygote, self._ended = zygote, os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit code (minus the signal), or None while it runs."""
        return self._reap(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code once it ended."""
        if self._reap(timeout) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        """Any signal; none where it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def _reap(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            self.returncode = self._zygote.ask({"reap": self.pid})
            os.close(self._ended)
        return self.returncode


class Zygote:
    """The process that forks. One for a test run; ends with it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-c", f"from tests.warm_start import serve; serve({theirs.fileno()})"]
            self._process = subprocess.Popen(command, cwd=ROOT, env=calm(), pass_fds=[theirs.fileno()])
        self._socket, self._lock = ours, threading.Lock()

    def start(self, argv: list[str], *, log: Path, before: str = "") -> Warm:
        """Run a command line; stdout and stderr go to `log`. `before` is Python that runs in the fork first, to break something."""
        return Warm(self, self.ask({"argv": argv, "log": str(log), "before": before}))

    def ask(self, request: dict[str, Any]) -> int:
        """One request, one number."""
        with self._lock:
            self._socket.send(json.dumps(request).encode())
            answer = self._socket.recv(64)
        if not answer:
            raise RuntimeError("the zygote ended")
        return int(answer)

    def close(self) -> None:
        """End it, and with it every process it started."""
        self._socket.close()
        self._process.wait(30)


_zygote: list[Zygote] = []


def zygote() -> Zygote:
    """The run's one zygote, made when first asked for."""
    if not _zygote:
        import atexit

        _zygote.append(Zygote())
        atexit.register(_zygote[0].close)
    return _zygote[0]


# -- in the zygote ---------------------------------------------------------------------------------------------------
def serve(descriptor: int) -> None:
    """Import what takes a second, then fork for each request until the other end closes."""
    for module in ("node.app", "node.cli.main", "node.status", "node.doctor", "gateway.__main__", "tests.node_rig"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=descriptor) as control:
        while data := control.recv(REQUEST_BYTES_MAX):
            request = json.loads(data)
            if "reap" in request:
                _, status = os.waitpid(request["reap"], 0)
                control.send(b"%d" % os.waitstatus_to_exitcode(status))
                continue
            pid = os.fork()
            if not pid:
                control.close()
                run(request)
            control.send(b"%d" % pid)


def run(request: dict[str, Any]) -> None:
    """In the fork: become the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    names: dict[str, Any] = {}  # as long as the process lives: a disk that breaks must not be collected first
    code: Any = 1
    try:
        exec(request["before"], names)
        room, *sys.argv[1:] = request["argv"]
        importlib.import_module(MAINS[room]).main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # as the interpreter would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
