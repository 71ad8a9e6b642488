"""`make run`: an authority, a node, a gateway, a link that can be cut and a simulated hospital, on loopback, until it is stopped."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from native import IMPLEMENTATION
from node.tools.demo_folder import DemoFolder, FolderTaken
from node.tools.demo_lines import lines, short
from node.tools.demo_ports import BASE_DEFAULT, HOST, Ports, PortTaken, reserve
from node.tools.demo_stage import NotReady, Stage, is_silent
from node.tools.demo_traffic import RATE_DEFAULT

FOLDER_DEFAULT = "demo-data"  # in the working directory, which git ignores
SHUTDOWN_S_MAX = 1  # an open page must not hang the stop
EXIT_USAGE, EXIT_UNAVAILABLE = 64, 69  # sysexits.h


class PageServer(uvicorn.Server):
    """A uvicorn server whose process has other things to stop too: signals are not its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def run(*, port_base: int | None) -> None:
    """Run the demo until SIGTERM or SIGINT. SystemExit where it cannot run, with the reason on standard error."""
    if IMPLEMENTATION == "python":
        say("Kernels: no compiled ones, so this runs on their pure-Python twins: slower, with the same results.")
    try:
        silent, base = is_silent(), port_base if port_base is not None else _base_wanted()
        folder = DemoFolder(Path(os.environ.get("WASL_DEMO_DIR") or FOLDER_DEFAULT))
        ports, page = reserve(base)
    except ValueError as error:
        raise SystemExit(_complain(str(error), EXIT_USAGE)) from None
    except (FolderTaken, PortTaken, OSError) as error:
        raise SystemExit(_complain(str(error), EXIT_UNAVAILABLE)) from None
    if base is None and ports.base != BASE_DEFAULT:
        say(f"Ports from {BASE_DEFAULT} on are taken: using those from {ports.base} on.")
    try:
        code = asyncio.run(_play(folder, ports, page, rate=0 if silent else RATE_DEFAULT))
    finally:
        folder.close()
    if code:
        raise SystemExit(code)


async def _play(folder: DemoFolder, ports: Ports, page: socket.socket, *, rate: int) -> int:
    """Open the stage, serve the page, wait, stop all; the exit code."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    stage = Stage(folder, ports, rate=rate)
    stop = asyncio.create_task(stopping.wait())
    tasks: list[asyncio.Task[None]] = []
    opening: asyncio.Task[None] | None = None
    try:
        await stage.start()
        opening = asyncio.create_task(stage.open())
        server = _server(stage, ports, stopping)
        await asyncio.wait([opening, stop], return_when=asyncio.FIRST_COMPLETED)
        if stopping.is_set():
            return 0
        opening.result()
        tasks = [asyncio.create_task(server.serve([page])), asyncio.create_task(stage.watch())]
        say(f"Wasl demo, data in {short(folder.path)}; Ctrl-C stops it.\n\n  http://{HOST}:{ports.page}/\n")
        await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # a fault of the demo itself ends it, with its traceback
        return 0
    except NotReady as error:
        return _complain(str(error), EXIT_UNAVAILABLE)
    finally:
        stopping.set()
        for task in filter(None, (opening, *tasks[1:])):
            task.cancel()
        await stage.close()
        if tasks:
            server.should_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)
        page.close()


def _server(stage: Stage, ports: Ports, stopping: asyncio.Event) -> PageServer:
    # imported while the three processes start: FastAPI takes half a second
    from node.tools.demo_page import make_app  # noqa: PLC0415

    config = uvicorn.Config(
        make_app(stage, lines(stage.folder, ports), stopping), log_level="error", access_log=False, lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_S_MAX, server_header=False,
    )  # fmt: skip
    return PageServer(config)


def _base_wanted() -> int | None:
    wanted = os.environ.get("WASL_DEMO_PORT_BASE")
    try:
        return int(wanted) if wanted else None
    except ValueError:
        raise ValueError(f'WASL_DEMO_PORT_BASE must be a number, not "{wanted}"') from None


def say(text: str) -> None:
    """Tell a person who may be reading through a pipe."""
    print(text, flush=True)


def _complain(text: str, code: int) -> int:
    print(f"wasl demo: {text}", file=sys.stderr, flush=True)
    return code
