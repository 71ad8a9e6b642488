"""The page's process: wires the web app to the outbox and to the core's control socket. Another process, so a crash here stops no intake."""

import asyncio
from typing import Any

import uvicorn

from node.catalogue import hint
from node.clock import Clock, SystemClock
from node.config.config import Config
from node.control import ask
from node.errors import CoreSilent
from node.status import Status
from node.web.app import make_app
from node.web.speech import speech

SHUTDOWN_S_MAX = 2  # an open page must not hang the stop


def run(config: Config, clock: Clock | None = None) -> None:
    """Serve the page until told to stop."""
    status = Status(config, clock or SystemClock())
    folder = config.node.data_dir

    def probe() -> tuple[bool, str]:
        try:
            return True, str(ask(folder, "probe"))
        except CoreSilent as error:
            return False, f"{CoreSilent.code} {error}"

    def metrics() -> bytes:
        try:
            return str(ask(folder, "metrics")).encode()
        except CoreSilent:
            return b"# HELP wasl_core_up 1 while the core answers\n# TYPE wasl_core_up gauge\nwasl_core_up 0\n"

    def look(feed: str, is_shown: bool) -> dict[str, Any]:
        try:
            found: dict[str, Any] = ask(folder, f"line {feed} {'shown' if is_shown else ''}")
        except CoreSilent:
            return {"feed": feed, "may_show": False, "is_shown": False, "rows": None}
        return found

    app = make_app(
        status.document,
        probe=probe,
        metrics=metrics,
        look=look,
        describe=lambda code, lang: speech(lang).say(hint(code)),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app, host=config.web.listen.host, port=config.web.listen.port, log_level="warning", access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_S_MAX, lifespan="off",
        )
    )  # fmt: skip
    asyncio.run(server.serve())
