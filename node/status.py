"""The status document: what the outbox holds and what the core says of itself, in one place. Works when the core is down."""

from contextlib import suppress
from importlib.metadata import version
from itertools import groupby
from typing import Any, Final

from node.catalogue import hint
from node.clock import Clock, iso
from node.config.config import Config
from node.config.destinations import AnyDestination
from node.control import ask
from node.data_folder import STORE_NAME
from node.destinations.desk import address_of, standing
from node.errors import CoreSilent
from node.key_status import Change, state_of_change
from node.room import Stage, measure, stage_of
from node.web.verdict import Finding, decide
from sync.outbox_destinations_view import DestinationView
from sync.outbox_view import OutboxView, StreamView
from sync.store import BROKEN
from sync.transaction import Pages

Document = dict[str, Any]

OF_HTTP: Final = ("strictness", "validated", "invalid", "signatures")  # what only such feeds have to tell
OF_MLLP: Final = ("profile",)
OF_DEVICES: Final = (
    *("line", "monitor", "waiting", "passed_over", "devices", "link", "transfers", "orders", "port", "calls"),
    *("broker", "points", "gap"),
)


class Status:
    """Composes the document for one node. Blocking; may be used from several threads, each gets its own connection."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._store = config.node.data_dir / STORE_NAME
        self._view: OutboxView | None = None
        self._places: DestinationView | None = None

    def document(self) -> Document:
        """The whole document, with state, verdict and alarms."""
        node = self._config.node
        try:
            core: Document | None = ask(node.data_dir, "status")
        except CoreSilent:
            core = None
        streams = self._streams()
        halted = {alarm["subject"]: alarm for alarm in (core or {}).get("alarms", []) if alarm["code"] in HALTS}
        facts: Document = {
            "node": node.name, "facility": node.facility, "site": {"en": node.site.en, "ar": node.site.ar}, "version": version("wasl-node"),
            "now": iso(self._clock.now_us()), "core": _core(core), "feeds": self._feeds(core),
            "streams": [self._stream(list(logs), halted) for _, logs in groupby(streams, lambda log: log.origin.stream)],
            "destinations": [self._destination(each, (core or {}).get("destinations", {}).get(each.name)) for each in self._config.outlets],
            "link": self._link(core), "last_receipt": _last_receipt(streams),
            "totals": {
                "accepted": sum(s.size for s in streams), "receipted": sum(s.size - s.waiting for s in streams),
                "waiting": sum(s.waiting for s in streams),
            },
            "disk": self._disk(), "log_key": state_of_change(self._config, streams),
        }  # fmt: skip
        standing = [
            Finding(code=alarm["code"], since=iso(alarm["since_us"]), params={"subject": alarm["subject"]})
            for alarm in (core or {}).get("alarms", [])
        ]
        if facts["log_key"]["state"] == Change.DONE.word:
            standing.append(Finding(code="NOD-33", since=_last_receipt_at(streams), params={"subject": ""}))
        return {**facts, **decide(facts, standing, hint).document()}

    def _outbox(self) -> OutboxView | None:
        if self._view is None and self._store.exists():
            self._view = OutboxView(self._store, self._config.node.name)
        return self._view

    def _streams(self) -> list[StreamView]:
        view = self._outbox()
        return [] if view is None else view.streams()

    def _stream(self, logs: list[StreamView], halted: dict[str, Document]) -> Document:
        """One stream: where its newest epoch stands, and what waits of all of them."""
        stream, view = logs[-1], self._outbox()
        alarm, first = halted.get(stream.origin.stream), next((log for log in logs if log.waiting), None)
        oldest = None if view is None or first is None else view.received_at_us(first.log, first.receipted)
        return {
            "stream": stream.origin.stream, "lane": stream.lane, "epoch": stream.origin.epoch, "tag": stream.origin.tag, "size": stream.size,
            "receipted": stream.receipted, "waiting": sum(log.waiting for log in logs),
            "waiting_bytes": sum(max(0, log.octets - log.receipted_octets) for log in logs if log.waiting),
            "oldest_waiting_at": None if oldest is None else iso(oldest),
            "halted": None if alarm is None else {"code": alarm["code"], "since": iso(alarm["since_us"])},
        }  # fmt: skip

    def _feeds(self, core: Document | None) -> list[Document]:
        return [self._feed(feed, (core or {}).get("feeds", {}).get(feed.name)) for feed in self._config.feeds]

    def _feed(self, feed: Any, found: Document | None) -> Document:  # config.Feed; the next kinds widen it
        told = found or {}
        error = told.get("last_error")
        return {
            "name": feed.name, "kind": feed.kind, "stream": feed.stream, "address": ", ".join(told.get("addresses") or feed.places),
            "running": found is not None, "paused": told.get("paused", False), "connections": told.get("connections", 0),
            "last_seen": iso(told["last_seen_us"]) if told.get("last_seen_us") else None,
            "accepted": told.get("accepted", 0), "warned": told.get("warned", 0), "rejected": told.get("rejected", 0),
            "refused": told.get("refused", 0), "quality": told.get("quality"), "last_error": None if error is None else {"code": error[0], "at": iso(error[1])},
            **{key: told[key] for key in (*OF_HTTP, *OF_DEVICES, *OF_MLLP) if key in told},
        }  # fmt: skip

    def _destination(self, destination: AnyDestination, found: Document | None) -> Document:
        """Where it stands by the outbox, and how it is by the core, where that runs."""
        told = found or {}
        error = told.get("last_error")
        stands: Document = {"waiting": 0, "parked": 0, "lost": 0, "streams": {}}
        if self._places is None and self._store.exists():
            self._places = DestinationView(self._store)
        if self._places is not None:
            with suppress(*BROKEN):  # of a node that was not started since it knows destinations
                stands = standing(self._places, destination)
        return {
            **stands, "name": destination.name, "kind": destination.kind, "address": address_of(destination), "state": told.get("state", "off"),
            "since": iso(told["since_us"]) if told else None, "taken": told.get("taken", 0),
            "conversion": told.get("conversion") or {"converted": 0, "unmapped": 0, "paths": []},
            "last_error": None if error is None else {"code": error["code"], "at": iso(error["at_us"]), "detail": error["detail"]},
        }  # fmt: skip

    def _link(self, core: Document | None) -> Document:
        gateway = self._config.gateway
        url = None if gateway is None else gateway.url
        link = (core or {}).get("link")
        if link is None:
            return {
                "state": "off" if gateway is None else "down",
                "gateway": url,
                "since": None,
                "last_error": None,
                "round_trip_ms": None,
                "goodput_bytes_per_s": None,
                "lanes": {},
                "paths": [],
            }
        error = link["last_error"]
        return {
            "state": link["state"], "gateway": url, "since": iso(link["since_us"]), "round_trip_ms": link["round_trip_ms"],
            "goodput_bytes_per_s": link["goodput_bytes_per_s"], "lanes": link["lanes"], "paths": link["paths"],
            "last_error": None if error is None else {"code": error[0], "at": iso(error[1]), "detail": error[2]},
        }  # fmt: skip

    def _disk(self) -> Document:
        view, limits = self._outbox(), self._config.outbox
        if not self._store.parent.exists():
            return {
                "free_bytes": 0,
                "quota_bytes": limits.quota_bytes,
                "used_bytes": 0,
                "room_bytes": 0,
                "stage": Stage.OPEN.word,
            }
        space = measure(self._store, Pages(0, 0, 0) if view is None else view.pages())
        return {
            "free_bytes": max(0, space.free - limits.free_bytes_min), "quota_bytes": limits.quota_bytes, "used_bytes": space.used,
            "room_bytes": space.room(limits), "stage": stage_of(space, limits).word,
        }  # fmt: skip


HALTS = frozenset({"SYN-24", "SYN-31"})  # alarms under which a stream stands still


def _core(core: Document | None) -> Document:
    if core is None:
        return {"running": False, "since": None, "boot": None, "kernels": None, "pid": None}
    return {"running": True, **{key: core[key] for key in ("since", "boot", "kernels", "pid")}}


def _last_receipt_at(streams: list[StreamView]) -> str:
    return iso(max((stream.receipt_at for stream in streams), default=0) * 1_000_000)


def _last_receipt(streams: list[StreamView]) -> Document | None:
    last = max((stream for stream in streams if stream.receipt_at), key=lambda stream: stream.receipt_at, default=None)
    if last is None:
        return None
    return {
        "at": iso(last.receipt_at * 1_000_000), "stream": last.origin.stream, "epoch": last.origin.epoch, "size": last.receipted
    }  # fmt: skip
