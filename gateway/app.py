"""Builds everything once; starts and stops it in order: ledger, nodes' listener, consumers' listener, and back."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop
from cryptography import x509
from starlette.types import ASGIApp

from gateway.api import Centre, SyncApi
from gateway.board import Board
from gateway.budget import Budget
from gateway.config import Address, Config
from gateway.consumers import Consumers
from gateway.cosigner import load_cosigner
from gateway.dictionaries import keep_dictionaries
from gateway.errors import BadSetup
from gateway.health import Health
from gateway.identity import PeerProtocol, ValidityList
from gateway.ledger_sqlite import FREE_BYTES_MIN, Dice, SqliteLedger
from gateway.ledger_view import LedgerView
from gateway.marks import save_marks
from gateway.public import make_public
from gateway.releases import Releases
from gateway.uploads import Uploads
from sync.certificates import gateway_of, read
from sync.errors import BadCertificate

LEDGER_FILE = "ledger.sqlite"
DICTIONARIES_FOLDER = "dictionaries"
UPLOADS_FOLDER = "uploads"
KEEP_ALIVE_S = 120  # above the node's longest wait of 60 s: a handshake costs half a second at 64 kbit/s
GRACE_S_MAX = 10  # a batch under way is committed and answered; a slow body is cut, the node sends it again
CONNECTIONS_MAX = 4096  # three lanes of a thousand nodes, and their reconnects; a socket is some 50 kB with TLS
STALE_CHECK_S = 60.0  # how often somebody looks whether the validity list is out of date
SWEEP_S = 3600.0  # how often uploads are looked through for those that nodes gave up: a week is kept to the hour
EXIT_DEAD = 70  # sysexits EX_SOFTWARE: the supervisor starts it again
log = structlog.get_logger()


class Listener(uvicorn.Server):
    """A uvicorn server among others in one loop: signals are the process's, not its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Everything that runs."""

    ledger: SqliteLedger
    health: Health
    validity: ValidityList
    sync: SyncApi
    stopping: asyncio.Event
    listeners: tuple[tuple[str, Listener, socket.socket], ...]


def run(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code. Raises BadSetup, BadCertificate, OSError before anything is served."""
    start_logs()
    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    gateway = build(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stopping.set)
    gateway.ledger.start()
    servers = [asyncio.create_task(listener._serve([bound])) for _, listener, bound in gateway.listeners]  # noqa: SLF001  # serve() would take the signals
    watches = [asyncio.create_task(_watch_validity(gateway)), asyncio.create_task(_watch_uploads(gateway))]
    for name, _, bound in gateway.listeners:
        log.info("listening", listener=name, address=bound.getsockname()[0], port=bound.getsockname()[1])
    stop = asyncio.create_task(gateway.stopping.wait())
    await asyncio.wait([stop, *servers], return_when=asyncio.FIRST_COMPLETED)
    gateway.stopping.set()
    for _, listener, _ in gateway.listeners:
        listener.should_exit = True
    failed = [found for found in await asyncio.gather(*servers, return_exceptions=True) if found is not None]
    for watch in watches:
        watch.cancel()
    # nobody can ask any more: the writer finishes what waits
    await asyncio.to_thread(gateway.ledger.stop)
    log.info("stopped", failed=len(failed))
    return EXIT_DEAD if failed else 0


def build(config: Config) -> Gateway:
    """Make everything, start nothing. Raises BadSetup where keys, certificates and names do not belong together."""
    anchor = _read_anchor(config.sync.ca)
    _check_server_name(config)
    health = Health()
    validity = ValidityList(config.sync.crl, anchor, health.alarm)
    cosigner = load_cosigner(
        config.gateway.name, config.cosign.key, config.cosign.certificate, anchor, lambda: int(time.time())
    )
    config.gateway.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = config.gateway.data_dir / LEDGER_FILE
    dice = Dice(
        now_us=lambda: time.time_ns() // 1000, monotonic=time.monotonic, random=os.urandom, free_bytes=lambda: shutil.disk_usage(path.parent).free
    )  # fmt: skip
    ledger = SqliteLedger(
        path, cosigner=cosigner.signer, cosign_certificate=cosigner.der, dice=dice, meter=health, on_death=die
    )
    health.watch(lambda: ledger.waiting)
    shelf = keep_dictionaries(config.gateway.data_dir / DICTIONARIES_FOLDER)
    uploads = Uploads(
        config.gateway.data_dir / UPLOADS_FOLDER, time.time, free_bytes=lambda: dice.free_bytes() - FREE_BYTES_MIN
    )
    view = LedgerView(path)
    centre = Centre(
        ledger=ledger,
        anchor=anchor,
        validity=validity,
        cosign_pem=cosigner.pem,
        health=health,
        uploads=uploads,
        shelf=shelf,
        view=view,
    )
    sync, stopping = SyncApi(centre, Budget()), asyncio.Event()
    public = make_public(
        config, consumers=Consumers(view, anchor=anchor, validity=validity), board=Board(view, health, config.gateway.name), health=health,
        ledger=ledger, stopping=stopping, releases=Releases(gateway=config.gateway.name, anchor=anchor, validity=validity, now=time.time),
    )  # fmt: skip
    return Gateway(
        ledger=ledger, health=health, validity=validity, sync=sync, stopping=stopping,
        listeners=(
            ("sync", _listener(sync.app(), sync_context(config)), bind(config.sync.listen)),
            ("api", _listener(public, api_context(config)), bind(config.api.listen)),
        ),
    )  # fmt: skip


def die(error: BaseException) -> None:
    """End the process at once: what the ledger stored is unknown, so nobody may be answered any more."""
    log.critical("ledger died", error=repr(error))
    sys.stderr.flush()
    os._exit(EXIT_DEAD)


async def _watch_validity(gateway: Gateway) -> None:
    stale = False
    while True:
        found = gateway.validity.is_stale(time.time())
        if found and not stale:
            gateway.health.alarm("GWY-13")
        stale = found
        await asyncio.sleep(STALE_CHECK_S)


async def _watch_uploads(gateway: Gateway) -> None:
    while True:
        try:
            if swept := await gateway.sync.sweep_uploads():
                log.info("uploads swept", files=swept)
        except OSError as error:
            log.error("uploads not swept", error=str(error))  # noqa: TRY400  # the text says it
        await asyncio.sleep(SWEEP_S)


# -- listeners ---------------------------------------------------------------------------------------------------------


def sync_context(config: Config) -> ssl.SSLContext:
    """TLS 1.3 only, with a client certificate of our authority or no connection at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(config.sync.ca)
    context.load_cert_chain(config.sync.certificate, config.sync.key)
    return context


def api_context(config: Config) -> ssl.SSLContext | None:
    """TLS for consumers where a certificate is configured."""
    if config.api.certificate is None or config.api.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.api.certificate, config.api.key)
    return context


def bind(address: Address) -> socket.socket:
    """A bound socket; "::" takes IPv4 as well."""
    family, _, _, _, where = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    dual = family == socket.AF_INET6 and where[0] == "::" and socket.has_dualstack_ipv6()
    bound = socket.create_server(where[:2], family=family, dualstack_ipv6=dual, backlog=1024)
    save_marks(bound)
    return bound


def _listener(app: ASGIApp, context: ssl.SSLContext | None) -> Listener:
    # uvicorn makes its own context without a floor on the version: ours is handed over as it is
    config = uvicorn.Config(
        app, http=PeerProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=GRACE_S_MAX,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )  # fmt: skip
    return Listener(config)


def _read_anchor(path: Path) -> x509.Certificate:
    try:
        return read(path.read_bytes())
    except (OSError, BadCertificate) as error:
        raise BadSetup(f"authority {path}: {error}") from error


def _check_server_name(config: Config) -> None:
    try:
        named = gateway_of(read(config.sync.certificate.read_bytes()))
    except (OSError, BadCertificate) as error:
        raise BadSetup(f"server certificate {config.sync.certificate}: {error}") from error
    if named != config.gateway.name:
        raise BadSetup(f"the server certificate is for {named}, this gateway is {config.gateway.name}")


# -- logs --------------------------------------------------------------------------------------------------------------


def start_logs() -> None:
    """One JSON object a line on stderr, from us and from uvicorn."""
    stamp: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*stamp, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamp,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
