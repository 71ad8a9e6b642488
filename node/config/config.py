"""The node's configuration: TOML -> frozen values. What is not understood is refused with its file, line and key.

Secrets never stand in the file, only the paths of theirs. A relative path starts at the folder of the file.
"""

import itertools
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from node.config.addresses import Address, parse_listen
from node.config.astm import Astm
from node.config.civil import Civil
from node.config.destinations import AnyDestination, contradictions, files_of
from node.config.devices import Devices, profile_problems
from node.config.feeds import MIB, Feed, Mllp, Signatures
from node.config.fhir import Fhir
from node.config.folder import Folder
from node.config.kinds import (
    DscpClass,
    FilePath,
    GatewayUrl,
    Interface,
    Listen,
    Name,
    SourceAddress,
    Table,
    Text,
    whole,
)
from node.config.line import Lines
from node.config.modbus import Modbus
from node.config.mqtt import Mqtt
from node.config.poct1a import Poct1a
from node.config.problems import ConfigError, Problem, Source, by_kind, problems_of
from node.config.replies import RepliesOut, contradictions_of_replies, files_of_feeds, replies_of
from node.config.soap import Soap
from node.config.toml_lines import Place, read_lines
from sync.session import EARLIER_KEYS_MAX

__all__ = ["Address", "Config", "ConfigError", "Problem", "check", "load", "parse_listen"]

CONFIG_BYTES_MAX = MIB  # a node has tens of feeds, some hundred bytes each: more is the wrong file

_SYNTAX_ERROR_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


# ---- the tables -------------------------------------------------------------------------------------------------------
class Site(Table):
    """The site's name as a person knows it, in both languages of the page."""

    en: Text
    ar: Text


class Node(Table):
    """Who this box is, and the folder of everything it keeps."""

    name: Name
    facility: Text
    site: Site
    data_dir: FilePath
    # A small file outside of what a backup of the data brings back: a restored node then knows that it is one before it has a link.
    high_water: FilePath | None = None


class EarlierKey(Table):
    """A log key that the present one has followed: it signs what stands before the change and is not yet receipted."""

    log_key: FilePath
    log_certificate: FilePath


class Keys(Table):
    """The two certified keys, and the CA that certified them and the gateway (PEM files)."""

    link_key: FilePath
    link_certificate: FilePath
    log_key: FilePath
    log_certificate: FilePath
    ca: FilePath
    # Until `wasl status` says that the gateway has receipted the change in every stream.
    previous: Annotated[tuple[EarlierKey, ...], Field(max_length=EARLIER_KEYS_MAX)] = ()


class Dscp(Table):
    """How each lane's packets are marked, by the name of the class or its number. Ask the carrier which of its classes apply."""

    # AF31: what carriers sell for transactions that must not wait, below voice.
    critical: DscpClass = 26
    routine: DscpClass = 0
    # LE, RFC 8622: gives way to everything else; a network that does not know it treats it as best effort.
    bulk: DscpClass = 1

    def of(self, lane: str) -> int:
        """Give the code point of a lane."""
        return {"critical": self.critical, "routine": self.routine}.get(lane, self.bulk)


class PathOut(Table):
    """One way out. The first of the list is the best; without a list there is one, as the system routes it."""

    name: Name
    # Empty = the gateway's own: another where the centre has another address on that carrier.
    url: GatewayUrl | Literal[""] = ""
    interface: Interface = ""
    source: SourceAddress = ""
    # Every byte costs: only the critical lane goes there, the others wait.
    metered: bool = False
    mss_max: Annotated[int, whole(0, 9000)] = 0


def _each_once(paths: tuple[PathOut, ...]) -> tuple[PathOut, ...]:
    if len({path.name for path in paths}) < len(paths):
        raise ValueError("must not name a path twice")
    return paths


class Gateway(Table):
    """Where the records go. Without this table the link is off, and the node keeps what it takes."""

    url: GatewayUrl
    name: Name
    # A path over MPLS, LTE or VSAT answers a SYN within 3 s, its third repetition comes after 7 s.
    connect_s_max: Annotated[int, whole(1, 300)] = 10
    # The largest batch on the slowest path, plus the gateway's commit; shorter doubles traffic where it hurts most.
    answer_s_max: Annotated[int, whole(1, 3600)] = 60
    dscp: Dscp = Dscp()
    # 0 = as the interface says. Each MPLS label takes 4 bytes of a packet: where large ones vanish, `wasl doctor` names the value.
    mss_max: Annotated[int, whole(0, 9000)] = 0
    paths: Annotated[tuple[PathOut, ...], AfterValidator(_each_once)] = ()
    # With it, what is carried by hand is readable at the gateway alone; without it, for whoever holds the stick.
    seal_certificate: FilePath | None = None


class Outbox(Table):
    """How much may wait here. What the gateway has not receipted is never dropped: at the limit sources get a no."""

    # A clinic sends 50 to 200 MB a day: weeks of outage, and a quarter of the smallest card (16 GB).
    quota_mb: Annotated[int, whole(16, 16 * MIB)] = 4096
    # The page, the logs and SQLite's WAL need room while the outbox drains.
    free_mb_min: Annotated[int, whole(16, MIB)] = 256
    # Percent of the quota, or of what the partition has for it. The order of refusal is the lanes'; these are where it begins.
    # At 70 a full outbox is days away, time for a person to come; at 85 an old copy is worth less than a new message.
    warn_percent: Annotated[int, whole(1, 100)] = 70
    trim_percent: Annotated[int, whole(1, 100)] = 85
    # What is left after these is for the lanes above: 3 and 2 per cent of 4 GB are days of routine and of critical messages.
    refuse_bulk_percent: Annotated[int, whole(1, 100)] = 95
    refuse_routine_percent: Annotated[int, whole(1, 100)] = 98
    # After the receipt: a week covers the holiday in which nobody asked the centre for a replay.
    body_retention_days: Annotated[int, whole(0, 3650)] = 7
    # Between listeners and writer: at 16 MiB a frame more would be memory, at 1,000 records/s it is 4 s of fsync.
    queue_records_max: Annotated[int, whole(1, MIB)] = 4096
    # Per stream: a source repeats what was not acknowledged within minutes, 16,384 is hours of the busiest feed.
    dedupe_records: Annotated[int, whole(0, MIB)] = 16384

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        stages = (self.warn_percent, self.trim_percent, self.refuse_bulk_percent, self.refuse_routine_percent)
        if list(stages) != sorted(stages):
            names = "warn_percent, trim_percent, refuse_bulk_percent, refuse_routine_percent"
            raise ValueError(f"must not descend in the order {names}")
        return self

    @property
    def quota_bytes(self) -> int:
        """Give the quota in bytes."""
        return self.quota_mb * MIB

    @property
    def free_bytes_min(self) -> int:
        """Give the free space that must remain, in bytes."""
        return self.free_mb_min * MIB


class Web(Table):
    """The technician's page. Loopback until the page has accounts."""

    listen: Listen = Address("127.0.0.1", 8480)
    # The line monitor's letters and digits: of patients. The page has no accounts, so who reaches it sees what is shown there.
    line_values: Literal["hidden", "on-request"] = "hidden"


class Log(Table):
    """What goes to the journal. Never message content, at any level."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Stream(Table):
    """A unit of order, and its class on the link."""

    name: Name
    lane: Literal["critical", "routine", "bulk"] = "routine"
    # Of test messages alone: shown and receipted like any other, and no outflow takes of it.
    test: bool = False


class OfNoKind(Feed):
    """A feed whose kind is none of ours: never valid, and every other mistake in it is told at the same time."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    # all kinds there are, for the list of what is allowed
    kind: Literal["mllp", "fhir", "soap", "astm", "mqtt", "modbus", "poct1a", "folder", "line"]


if TYPE_CHECKING:
    AnyFeed = Mllp | Fhir | Soap | Astm | Mqtt | Modbus | Poct1a | Folder | Lines
else:
    AnyFeed = by_kind(
        OfNoKind, mllp=Mllp, fhir=Fhir, soap=Soap, astm=Astm, mqtt=Mqtt, modbus=Modbus, poct1a=Poct1a, folder=Folder, line=Lines,
    )  # fmt: skip


class Config(Table):
    """The whole file. `load` adds to `streams` those that only a feed names, in lane routine."""

    node: Node
    keys: Keys
    gateway: Gateway | None = None
    outbox: Outbox = Outbox()
    web: Web = Web()
    log: Log = Log()
    civil_number: Civil | None = None
    signatures: Signatures | None = None
    streams: tuple[Stream, ...] = ()
    feeds: tuple[AnyFeed, ...] = ()
    destinations: tuple[AnyDestination, ...] = ()
    devices: Devices = Devices()

    @property
    def outlets(self) -> tuple[AnyDestination | RepliesOut, ...]:
        """All that the outbox is carried to: the destinations, and the listeners of senders whose application replies go there."""
        return (*self.destinations, *replies_of(self.feeds))


# ---- reading ----------------------------------------------------------------------------------------------------------
def load(path: Path) -> Config:
    """Read and judge the file; ConfigError holds every problem of it. The files it names are not opened."""
    config, _ = _read(path)
    return config


def check(path: Path) -> list[Problem]:
    """Find everything that would stop a start, including named files that cannot be read; empty = it may start."""
    try:
        config, source = _read(path)
    except ConfigError as refusal:
        return refusal.problems
    unread = [
        source.problem(place, f'"{file}" cannot be read')
        for place, file in _named_files(config)
        if not (file.is_file() and os.access(file, os.R_OK))
    ]
    return [*unread, *profile_problems(config.devices, config.feeds, source)]


def _read(path: Path) -> tuple[Config, Source]:
    source = _read_toml(path)
    try:
        config = Config.model_validate(source.values, context={"folder": path.absolute().parent})
    except ValidationError as refusal:
        raise ConfigError(problems_of(refusal, Config, source)) from None
    if problems := [
        *_repeated_names(config, source),
        *_listen_clashes(config, source),
        *_mixed_streams(config, source),
        *_of_destinations(config, source),
        *_unknown_signers(config, source),
        *contradictions_of_replies(config.feeds, config.destinations, source),
    ]:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line))
    return config.model_copy(update={"streams": _all_streams(config)}), source


def _all_streams(config: Config) -> tuple[Stream, ...]:
    """Those of the file, and those that only feeds name: in lane routine, test streams in lane bulk."""
    declared = {stream.name for stream in config.streams}
    named = dict.fromkeys(name for feed in config.feeds for name in _streams_of(feed) if name not in declared)
    tests = dict.fromkeys(name for feed in config.feeds if (name := _test_stream(feed)) and name not in declared)
    return (
        *config.streams,
        *(Stream(name=name) for name in named),
        *(Stream(name=name, lane="bulk", test=True) for name in tests),
    )


def _streams_of(feed: AnyFeed) -> list[str]:
    """Where a feed's production messages go."""
    return [feed.stream, *feed.further_streams]


def _test_stream(feed: AnyFeed) -> str:
    """Where a feed's tests go, if they go elsewhere."""
    return feed.test_stream if isinstance(feed, Mllp) else ""


def patient_feeds(config: Config) -> frozenset[str]:
    """The feeds that are paused while the disk fills: they can wait, and all that they bring goes to streams in lane bulk."""
    lanes = {stream.name: stream.lane for stream in config.streams}
    return frozenset(
        feed.name for feed in config.feeds
        if feed.can_wait and {lanes.get(name) for name in (*_streams_of(feed), _test_stream(feed)) if name} == {"bulk"}
    )  # fmt: skip


def _mixed_streams(config: Config, source: Source) -> Iterator[Problem]:
    production = {name for feed in config.feeds for name in _streams_of(feed)}
    marked = {stream.name: stream.test for stream in config.streams}
    for position, feed in enumerate(config.feeds):
        place: Place = ("feeds", position, "test_stream")
        name = _test_stream(feed)
        if name and name in production:
            yield source.problem(place, f'"{name}" is a stream of production messages')
        elif name and not marked.get(name, True):
            yield source.problem(place, f'the stream "{name}" is not marked test = true')
    for position, stream in enumerate(config.streams):
        if stream.test and stream.name in production:
            yield source.problem(("streams", position, "test"), f'"{stream.name}" is a stream of production messages')


def _unknown_signers(config: Config, source: Source) -> Iterator[Problem]:
    for position, feed in enumerate(config.feeds):
        if feed.signatures != "carried" and config.signatures is None:
            yield source.problem(("feeds", position, "signatures"), "needs [signatures] with a folder of authorities")


def _read_toml(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
        if len(raw) > CONFIG_BYTES_MAX:
            raise ConfigError([_of_file(path, 0, f"is larger than {CONFIG_BYTES_MAX} bytes")])
        text = raw.decode().replace("\r\n", "\n")
        return Source(file=path, values=tomllib.loads(text), lines=read_lines(text))
    except OSError as error:
        raise ConfigError([_of_file(path, 0, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([_of_file(path, raw.count(b"\n", 0, error.start) + 1, "is not UTF-8")]) from error
    except RecursionError as error:
        raise ConfigError([_of_file(path, 0, "is nested too deeply")]) from error
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX_ERROR_LINE.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1  # "(at end of document)"
        raise ConfigError([_of_file(path, line, f"is not TOML: {_SYNTAX_ERROR_LINE.sub('', str(error))}")]) from error


def _of_file(path: Path, line: int, message: str) -> Problem:
    return Problem(file=str(path), line=line, key="", message=message)


def _repeated_names(config: Config, source: Source) -> Iterator[Problem]:
    tables: tuple[tuple[str, tuple[Stream | AnyFeed | AnyDestination, ...]], ...] = (
        ("streams", config.streams), ("feeds", config.feeds), ("destinations", config.destinations),
    )  # fmt: skip
    for table, entries in tables:
        first: dict[str, int] = {}
        for position, entry in enumerate(entries):
            if entry.name in first:
                line = source.lines.find((table, first[entry.name], "name"))
                yield source.problem((table, position, "name"), f'"{entry.name}" is taken already, on line {line}')
            first.setdefault(entry.name, position)


def _listen_clashes(config: Config, source: Source) -> Iterator[Problem]:
    listeners: list[tuple[Place, Address]] = [(("web", "listen"), config.web.listen)]
    for position, feed in enumerate(config.feeds):
        listeners += [(("feeds", position, "listen"), address) for address in feed.listen]
        trials = feed.trial_listen if isinstance(feed, Mllp) else ()
        listeners += [(("feeds", position, "trial_listen"), address) for address in trials]
    for (place, address), (other_place, other) in itertools.combinations(listeners, 2):
        if address.clashes(other):
            line = source.lines.find(place)
            yield source.problem(other_place, f'"{other}" is listened on already: "{address}", line {line}')


def _of_destinations(config: Config, source: Source) -> Iterator[Problem]:
    known = {stream.name for stream in config.streams} | {name for feed in config.feeds for name in _streams_of(feed)}
    return contradictions(config.destinations, known, source)


def _named_files(config: Config) -> Iterator[tuple[Place, Path]]:
    for key in Keys.model_fields:
        if key != "previous":
            yield ("keys", key), getattr(config.keys, key)
    for position, earlier in enumerate(config.keys.previous):
        for key in EarlierKey.model_fields:
            yield ("keys", "previous", position, key), getattr(earlier, key)
    if config.gateway is not None and config.gateway.seal_certificate is not None:
        yield ("gateway", "seal_certificate"), config.gateway.seal_certificate
    for position, feed in enumerate(config.feeds):
        for place, file in feed.files():
            yield ("feeds", position, *place), file
    yield from files_of_feeds(config.feeds)
    yield from files_of(config.destinations)
