"""What a monitor sees: counters, and whether the ledger can take a batch."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

COMMIT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, order=True)
class Alarm:
    """Something the centre must know, and since when (POSIX seconds)."""

    code: str
    node: str
    stream: str
    since: float


class Health:
    """Counters of one gateway process. Any thread may count."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._registry = CollectorRegistry()
        self._records = self._counter("wasl_gateway_records_committed", "Records on stable storage.")
        self._batches = self._counter("wasl_gateway_calls_committed", "Calls whose group is on stable storage.")
        self._refusals = self._counter("wasl_gateway_refusals", "Calls of nodes refused, by problem code.", "code")
        self._raised = self._counter("wasl_gateway_alarms", "Alarms raised, by catalogue code.", "code")
        self._seconds = Histogram(
            "wasl_gateway_commit_seconds",
            "From BEGIN to COMMIT of a group.",
            buckets=COMMIT_SECONDS,
            registry=self._registry,
        )
        self._queue = Gauge(
            "wasl_gateway_queue_calls", "Calls that wait for the ledger's writer.", registry=self._registry
        )
        self._alarms: dict[tuple[str, str, str], Alarm] = {}

    def watch(self, waiting: Callable[[], int]) -> None:
        """Ask this for the queue's length at each reading."""
        self._queue.set_function(waiting)

    def committed(self, *, calls: int, records: int, seconds: float) -> None:
        """Count a group that is on stable storage."""
        self._records.inc(records)
        self._batches.inc(calls)
        self._seconds.observe(seconds)

    def refused(self, code: str) -> None:
        """Count an answer that was not 200; `code` is one of ours."""
        self._refusals.labels(code).inc()

    def alarm(self, code: str, node: str = "", stream: str = "") -> None:
        """Count an alarm and log it; the gateway's own are kept for the page, those of nodes are in the ledger."""
        self._raised.labels(code).inc()
        log.warning("alarm", code=code, node=node, stream=stream)
        place = (code, node, stream)
        if not node and place not in self._alarms:
            self._alarms[place] = Alarm(code, node, stream, self._now())

    def alarms(self) -> list[Alarm]:
        """The gateway's own that were raised since the start, in order of code."""
        return sorted(self._alarms.values())

    def metrics(self) -> bytes:
        """All counters in Prometheus' text form."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)
