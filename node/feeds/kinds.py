"""Which plug serves a feed of each kind, and what all plugs get from the core. A kind that no feed is of is not imported."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from hl7.devices.modbus_poll import CONTENT_TYPE as MODBUS
from hl7.devices.profile import Profile
from hl7.fhir import JSON
from node.alarms import Alarms
from node.clock import Clock
from node.config.astm import Astm
from node.config.config import AnyFeed
from node.config.feeds import Mllp
from node.config.http import Http
from node.feeds.astm_store import FrameStore
from node.feeds.http_workshop import Workshop
from node.feeds.mllp import CONTENT_TYPE, MllpFeed
from node.feeds.mllp_numbers import Numbers
from node.feeds.named_profile import named_by
from node.feeds.open_frames import OpenFrames
from node.feeds.plug import Plug
from node.intake import Door, Intake, make_door
from node.orders.astm_desk import Desk
from node.orders.law_desk import LawDesk
from node.quality.counts import Inspection
from node.quality.profile_sample import Samples
from node.signatures.check import Checker
from node.writer import Writer


class Made(NamedTuple):
    """Where a kind's plug lives, and the content type of what it takes as a rule."""

    module: str
    name: str
    content_type: str


# brought when they are needed: a node without a FHIR feed does not pay for its HTTP and JOSE, 4 MB
KINDS: Final = {
    "astm": Made("node.feeds.astm", "AstmFeed", "application/astm-e1394"),
    "folder": Made("node.feeds.folder", "FolderFeed", "application/octet-stream"),
    "fhir": Made("node.feeds.fhir", "FhirFeed", JSON),
    "poct1a": Made("node.feeds.poct1a", "Poct1aFeed", "application/vnd.clsi.poct1a+xml"),
    "soap": Made("node.feeds.soap", "SoapFeed", "text/xml"),
    "line": Made("node.feeds.line", "LineFeed", "text/plain"),
    "mqtt": Made("node.feeds.mqtt", "MqttFeed", "application/octet-stream"),
    "modbus": Made("node.feeds.modbus", "ModbusFeed", MODBUS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the core lends its plugs. `folder`: where a feed may keep what is its own. `boot`: in hexadecimal. `die`: ends the process.

    `patient`: the feeds that can wait while the disk fills.
    """

    clock: Clock
    alarms: Alarms
    writer: Writer
    facility: str
    folder: Path
    boot: str
    frames: OpenFrames
    quality: Inspection
    samples: Samples
    checker: Checker | None
    workshop: Workshop
    frame_store: FrameStore
    desk: Callable[[Astm, Profile | None], Desk | None]
    law: Callable[[str], LawDesk | None]
    profiles: Path | None
    die: Callable[[int], object]
    patient: frozenset[str] = frozenset()


def make_plug(feed: AnyFeed, intake: Intake, around: Surroundings) -> Plug:
    """The plug of one configured feed, not yet started."""
    if isinstance(feed, Mllp):
        return _mllp(feed, _door(feed, CONTENT_TYPE, around), intake, around)
    module, name, content_type = KINDS[feed.kind]
    door, made = _door(feed, content_type, around), getattr(importlib.import_module(module), name)
    if isinstance(feed, Http):
        of_http: Plug = made(
            feed, door, intake, clock=around.clock, alarms=around.alarms, facility=around.facility, workshop=around.workshop
        )  # fmt: skip
        return of_http
    of_device: Plug = made(feed, door, intake, around)
    return of_device


def _door(feed: AnyFeed, content_type: str, around: Surroundings) -> Door:
    return make_door(
        facility=around.facility, feed=feed.name, stream=feed.stream, content_type=content_type, rejected_per_hour_max=feed.rejected_per_hour_max,
        can_wait=feed.name in around.patient,
    )  # fmt: skip


def _mllp(feed: Mllp, door: Door, intake: Intake, around: Surroundings) -> MllpFeed:
    numbers = None
    if feed.sequence_numbers != "ignored":
        numbers = Numbers(feed.name, around.writer, is_required=feed.sequence_numbers == "required")
    return MllpFeed(
        feed, door, intake, clock=around.clock, alarms=around.alarms, prefix=f"{around.boot[:8]}-{feed.name[:8]}-", frames=around.frames,
        numbers=numbers, quality=around.quality.of_feed(feed.local_escapes), checker=around.checker, sample=around.samples.of_feed(feed),
        orders=around.law(feed.name), source=named_by(feed.name, feed.device_profile, around.profiles).source,
    )  # fmt: skip
