"""The ways out as the lanes' threads use them: which one now, who may go there, and a look now and then whether a better one is back."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from node.errors import LinkError, NoAnswer
from node.uplink.gateway_client import GatewayClient
from sync.paths import PROBE_EACH_S, Path, Paths

PROBE_ID = "0" * 64  # the gateway is asked for an upload that nobody has: the cheapest question that proves who answers
HELD_WAIT_S_MAX = 5.0  # a lane that may not use a metered path looks again: a lost wake-up costs seconds

log = structlog.get_logger()


class PathSwitch:
    """One uplink's choice of path. `on_change` is called under no lock when another path is in use from now on."""

    def __init__(self, paths: list[Path], now: Callable[[], float], on_change: Callable[[], None]) -> None:
        self._all, self._now, self._on_change = paths, now, on_change
        self._paths = Paths(paths)
        self._changed = threading.Condition()
        self._stopping = False

    @property
    def current(self) -> str:
        """The name of the path in use."""
        with self._changed:
            return self._paths.current.name

    def await_leave(self, lane: str) -> None:
        """Wait until this lane may use the current path. Raises NoAnswer where the node stops."""
        with self._changed:
            while not self._stopping and not self._paths.allows(lane):
                self._changed.wait(HELD_WAIT_S_MAX)
            if self._stopping:
                raise NoAnswer("the node stops")

    def allows(self, lane: str) -> bool:
        """Whether this lane may use the current path."""
        with self._changed:
            return self._paths.allows(lane)

    def answered(self, name: str) -> None:
        """A call on this path was answered."""
        with self._changed:
            self._paths.answered(name)

    def failed(self, name: str, began: float) -> None:
        """A call on this path that began then has failed."""
        with self._changed:
            changed = self._paths.failed(name, began, self._now())
        self._tell(changed)

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def document(self) -> list[dict[str, Any]]:
        """All paths in order, for the status document."""
        current = self.current
        return [{"name": path.name, "metered": path.metered, "in_use": path.name == current} for path in self._all]

    # -- probing --------------------------------------------------------------------------------------------------

    def start_probing(self, clients: Mapping[str, GatewayClient]) -> None:
        """Look for better paths from a thread of its own; these connections are its alone."""
        if len(self._all) > 1:
            threading.Thread(target=self._probe, args=(clients,), name="paths", daemon=True).start()

    def _probe(self, clients: Mapping[str, GatewayClient]) -> None:
        while not self._stopping:
            with self._changed:
                wanted = self._paths.to_probe(self._now())
            for name in wanted:
                good = False
                with suppress(LinkError):
                    clients[name].upload_size(PROBE_ID)
                    good = True
                clients[name].drop()
                with self._changed:
                    changed = self._paths.probed(name, self._now(), good=good)
                self._tell(changed)
            with self._changed:
                if not self._stopping:
                    self._changed.wait(PROBE_EACH_S / 4)

    def _tell(self, changed: bool) -> None:
        if changed:
            log.warning("path", path=self.current)
            self._on_change()
            with self._changed:
                self._changed.notify_all()
