"""Checks a technician can run before leaving: each says what it looked at, whether it is good, and what to do."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import native
from node.catalogue import entries, hint
from node.clock import SYNCHRONISED, Clock, iso
from node.config.config import Config, Gateway
from node.control import ask
from node.data_folder import STORE_NAME
from node.errors import CoreSilent, LinkError, NodeError
from node.keystore import Keystore, load
from node.room import Stage, measure, stage_of
from node.selfcheck import check_owners
from node.sockets import HEADERS_BYTES, Way
from node.uplink.gateway_client import GatewayClient, Problem
from node.web.verdict import LINK_OF, NOTICES
from sync.outbox_view import OutboxView
from sync.transaction import Pages

DAYS_LEFT_MIN = 30  # a certificate's renewal needs people
CONNECT_S_MAX = 5.0  # somebody stands and waits
PACKET_BYTES = (1500, 1472, 1400)  # Ethernet; less some MPLS labels or PPPoE; less a tunnel
PADDING_BYTES = 4096  # blanks in the question, so that it fills packets of the size that is tried
CODE_NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: good, or a catalogue code and what was seen."""

    check: str
    good: bool
    code: str = CODE_NONE
    seen: str = ""

    @property
    def hint(self) -> str:
        """What to do about it."""
        return hint(self.code) if self.code else ""


def examine(config: Config, clock: Clock) -> list[Finding]:
    """Run every check; none stops another."""
    near = (*_installation(), *_keys(config, clock), *_store(config), *_core(config), *_clock(clock))
    return [*near, *_link(config), *_session(config)]


def _installation() -> Iterator[Finding]:
    yield _tried("installation", check_owners)
    yield Finding(check="kernels", good=native.IMPLEMENTATION == "cython", seen=native.IMPLEMENTATION)


def _keys(config: Config, clock: Clock) -> Iterator[Finding]:
    from datetime import UTC, datetime  # noqa: PLC0415

    try:
        keystore = load(config)
    except NodeError as error:
        yield Finding(check="keys", good=False, code=error.code, seen=str(error))
        return
    yield Finding(check="keys", good=True, seen=config.node.name)
    now = datetime.fromtimestamp(clock.now_us() / 1_000_000, UTC)
    for name, days in keystore.days_left(now).items():
        yield Finding(
            check=f"certificate {name}",
            good=days >= DAYS_LEFT_MIN,
            code="" if days >= DAYS_LEFT_MIN else "SYN-04",
            seen=f"{days} days left",
        )


def _store(config: Config) -> Iterator[Finding]:
    folder = config.node.data_dir
    store = folder / STORE_NAME
    if not store.exists():
        yield Finding(check="outbox", good=False, code="NOD-05", seen="the core has never run on this data folder")
        return
    pages = Pages(0, 0, 0)
    try:
        view = OutboxView(store, config.node.name)
        pages = view.pages()
        for stream in view.streams():
            last = max(0, stream.size - 256)
            broken = [f"{record.seq} {what}" for record, what in view.damaged(stream.log, last, stream.size - last)]
            yield Finding(
                check=f"stream {stream.origin.stream}", good=not broken, code="SYN-30" if broken else "",
                seen=", ".join(broken) or f"{stream.size} records, {stream.receipted} receipted",
            )  # fmt: skip
        view.close()
    except Exception as error:  # noqa: BLE001  # whatever a broken file makes SQLite say, the other checks go on
        yield Finding(check="outbox", good=False, code="SYN-06", seen=type(error).__name__)
    yield _room(config, pages)


def _room(config: Config, pages: Pages) -> Finding:
    space = measure(config.node.data_dir / STORE_NAME, pages)
    stage = stage_of(space, config.outbox)
    code = "NOD-10" if stage >= Stage.NO_BULK else "NOD-30" if stage >= Stage.FILLING else CODE_NONE
    seen = f"{stage.word}: room for {space.room(config.outbox) // 2**20} MiB of records, {space.free // 2**20} MiB free"
    return Finding(check="room", good=not code, code=code, seen=seen)


def _core(config: Config) -> Iterator[Finding]:
    try:
        seen = str(ask(config.node.data_dir, "probe"))
        yield Finding(check="core", good=True, seen=seen)
    except (CoreSilent, OSError) as error:
        yield Finding(check="core", good=False, code=CoreSilent.code, seen=str(error))


def _clock(clock: Clock) -> Iterator[Finding]:
    trust = clock.trust()
    yield Finding(
        check="clock",
        good=trust.state == SYNCHRONISED,
        code=CODE_NONE if trust.state == SYNCHRONISED else "NOD-07",
        seen=f"error at most {trust.error_us} µs" if trust.state else "not synchronised",
    )


def _link(config: Config) -> Iterator[Finding]:
    """The rungs of the way to the gateway; what a lower one breaks, a higher one is not tried."""
    if config.gateway is None:
        yield Finding(check="link", good=True, seen="switched off")
        return
    parts = urlsplit(config.gateway.url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        socket.getaddrinfo(host, port)
        yield Finding(check="link name", good=True, seen=host)
        socket.create_connection((host, port), CONNECT_S_MAX).close()
        yield Finding(check="link connection", good=True, seen=f"{host}:{port}")
        keystore = load(config)
        yield _identity(config, keystore)
        yield _packets(config.gateway, keystore)
    except socket.gaierror:
        yield Finding(check="link name", good=False, code="LNK-02", seen=host)
    except OSError as error:
        yield Finding(check="link connection", good=False, code="LNK-01", seen=error.strerror or type(error).__name__)
    except NodeError as error:
        yield Finding(check="link identity", good=False, code=error.code, seen=str(error))


def _identity(config: Config, keystore: Keystore) -> Finding:
    if config.gateway is None:
        return Finding(check="link identity", good=True)
    client = GatewayClient(
        config.gateway.url,
        config.gateway.name,
        keystore.tls(),
        connect_s_max=CONNECT_S_MAX,
        answer_s_max=config.gateway.answer_s_max,
    )
    try:
        # a session without a boot is no session: the gateway's refusal proves who it is and that it knows us
        found = client.session(b"{}")
    except LinkError as error:
        return Finding(check="link identity", good=False, code=error.code, seen=str(error))
    finally:
        client.close()
    revoked = isinstance(found, Problem) and found.code == "revoked"
    return Finding(check="link identity", good=not revoked, code="SYN-28" if revoked else "", seen=config.gateway.name)


def _session(config: Config) -> Iterator[Finding]:
    """What the core knows of its session with the gateway: the centre may have revoked or fenced it, or take nothing, on a link that is good."""
    try:
        core = ask(config.node.data_dir, "status")
    except (CoreSilent, OSError):
        return  # told already
    if (link := core["link"]) is None:
        return
    codes = [alarm["code"] for alarm in core["alarms"]]
    since, code = iso(link["since_us"]), next((each for each in LINK_OF if each in codes), CODE_NONE)
    if not code and link["state"] == "down" and link["last_error"] is not None:
        code = link["last_error"][0]
    refusals = [each for each in codes if entries()[each].fault == "centre" and each not in NOTICES]
    code = code or next(iter(refusals), CODE_NONE)
    yield Finding(check="link session", good=not code, code=code, seen=f"{link['state']} since {since}")


def _packets(gateway: Gateway, keystore: Keystore) -> Finding:
    """The largest packet of those that lines are known for that reaches the gateway whole. A line that swallows large ones looks like a dead gateway."""
    for size in PACKET_BYTES:
        client = GatewayClient(
            gateway.url, gateway.name, keystore.tls(), connect_s_max=CONNECT_S_MAX, answer_s_max=CONNECT_S_MAX, way=Way(mss=size - HEADERS_BYTES)
        )  # fmt: skip
        try:
            client.session(b"{" + b" " * PADDING_BYTES + b"}")
        except LinkError:
            continue
        finally:
            mtu = client.path_mtu()
            client.close()
        good = size == PACKET_BYTES[0]
        seen = f"{size} bytes pass" + (f", the system reckons with {mtu}" if mtu else "")
        return Finding(check="link packets", good=good, code="" if good else "LNK-11", seen=seen)
    return Finding(check="link packets", good=False, code="LNK-05", seen="no packet size was answered")


def _tried(check: str, look: Callable[[], None]) -> Finding:
    try:
        look()
    except NodeError as error:
        return Finding(check=check, good=False, code=error.code, seen=str(error))
    return Finding(check=check, good=True)
