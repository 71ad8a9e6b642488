"""The consumers' listener: bearer tokens, records as a stream of lines, evidence files, health, and the page of arriving records."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from gateway.board import Board
from gateway.config import Config, Token
from gateway.consumers import Consumers, Span
from gateway.errors import Busy, GatewayFull, NoEvidence
from gateway.health import METRICS_TYPE, Health
from gateway.ledger_sqlite import SqliteLedger
from gateway.page import serve_page
from gateway.problems import Problem, busy, on_fault, on_http, on_problem
from gateway.releases import Releases
from gateway.request_body import content_length, read_body
from sync.log import SIZE_MAX
from sync.names import EPOCH_MAX
from sync.receiver import Refuse
from sync.release import RELEASE_BYTES_MAX

# Who names no limit is given all there is: an answer that ended before would look whole. It ends at the size that the log had when it was asked for,
# and holds a page in memory however long it is.
LIMIT_MAX = SIZE_MAX
READERS = 4  # threads and connections that read for consumers
LISTINGS_MAX = 32  # open listings: each holds a page of records in memory
BUSY_WAIT_S = 5
CERTIFICATE_CHARS_MAX = 8192  # ours are 900
NDJSON = "application/x-ndjson"
EVIDENCE = "application/cbor"
NO_STORE = {"Cache-Control": "no-store"}

log = structlog.get_logger()
T = TypeVar("T")
Epoch = Annotated[int, Query(ge=1, le=EPOCH_MAX)]


def make_public(
    config: Config,
    *,
    consumers: Consumers,
    board: Board,
    health: Health,
    ledger: SqliteLedger,
    releases: Releases,
    stopping: asyncio.Event,
) -> FastAPI:
    """The ASGI application of the consumers' listener."""
    app = FastAPI(
        title="Wasl gateway", docs_url=None, redoc_url=None
    )  # FastAPI's documentation page loads from outside
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(Exception, on_fault)
    readers = Readers()

    def bearer(request: Request) -> Token:
        return authorized(request.headers.get("authorization", ""), config.tokens)

    _serve_lists(app, consumers, readers, bearer)
    _serve_records(app, consumers, readers, bearer)
    _serve_releases(app, releases, ledger, bearer)
    _serve_machines(app, health, ledger)
    serve_page(app, board, readers.run, stopping, None if config.api.open_page else bearer)
    return app


class Readers:
    """The threads that read for consumers: nothing blocks the loop, and each thread has its own connection."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="reader")

    async def run(self, read: Callable[[], T]) -> T:
        """Run a read in a thread. Raises Problem 404 for a LookupError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except LookupError as error:
            raise Problem(404, "not-found", str(error)) from error


def authorized(header: str, tokens: tuple[Token, ...]) -> Token:
    """The token that this Authorization header carries. Raises Problem 401."""
    scheme, _, value = header.partition(" ")
    # every token is compared, so that time does not tell which one was near
    found = [token for token in tokens if token.admits(value.strip())]
    if scheme.lower() != "bearer" or not found:
        raise Problem(401, "unauthorized", "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})
    return found[0]


def _serve_lists(app: FastAPI, consumers: Consumers, readers: Readers, bearer: Callable[[Request], Token]) -> None:
    """GET /v1/nodes, GET /v1/nodes/{node}/streams."""

    @app.get("/v1/nodes", dependencies=[Depends(bearer)])
    async def nodes() -> JSONResponse:
        return JSONResponse({"nodes": await readers.run(consumers.nodes)}, headers=NO_STORE)

    @app.get("/v1/nodes/{node}/streams", dependencies=[Depends(bearer)])
    async def streams(node: str) -> JSONResponse:
        return JSONResponse({"streams": await readers.run(lambda: consumers.streams(node))}, headers=NO_STORE)


def _serve_records(app: FastAPI, consumers: Consumers, readers: Readers, bearer: Callable[[Request], Token]) -> None:
    """GET …/records as lines of JSON, GET …/evidence as CBOR."""
    seats = asyncio.Semaphore(LISTINGS_MAX)

    @app.get("/v1/nodes/{node}/streams/{stream}/records")
    async def records(
        node: str, stream: str, token: Annotated[Token, Depends(bearer)], epoch: Epoch | None = None,
        first: Annotated[int, Query(alias="from", ge=0, le=SIZE_MAX)] = 0, limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_MAX,
    ) -> StreamingResponse:  # fmt: skip
        spans = await readers.run(lambda: consumers.spans(node, stream, epoch=epoch, first=first))
        if seats.locked():
            raise busy("too many listings at once", window=0, wait_s=BUSY_WAIT_S)
        lines = _listing(consumers, readers, seats, spans, limit, release=token.release)
        return StreamingResponse(lines, media_type=NDJSON, headers=NO_STORE)

    @app.get("/v1/nodes/{node}/streams/{stream}/records/{epoch}/{seq}/evidence")
    async def evidence(
        node: str, stream: str, epoch: int, seq: int, token: Annotated[Token, Depends(bearer)]
    ) -> Response:
        if not 1 <= epoch <= EPOCH_MAX or not 0 <= seq <= SIZE_MAX:
            raise Problem(404, "not-found", "no such record")
        try:
            data = await readers.run(
                lambda: consumers.evidence(node, stream, epoch=epoch, seq=seq, release=token.release)
            )
        except NoEvidence as error:
            raise Problem(409, "no-evidence", str(error)) from error
        name = f'attachment; filename="{node}-{stream}-{epoch}-{seq}.evidence"'
        return Response(data, media_type=EVIDENCE, headers={**NO_STORE, "Content-Disposition": name})


class Signed(BaseModel):
    """What an operator sends: the signed note, and the certificate of its key (PEM)."""

    statement: Annotated[str, Field(max_length=RELEASE_BYTES_MAX)]
    certificate: Annotated[str, Field(max_length=CERTIFICATE_CHARS_MAX)]


SIGNED_BYTES_MAX = 2 * (RELEASE_BYTES_MAX + CERTIFICATE_CHARS_MAX)  # JSON writes a line's end as two characters
SIGNED_OPENAPI = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": Signed.model_json_schema()}}}
}


async def _signed(request: Request) -> Signed:
    body = await read_body(request, content_length(request, SIGNED_BYTES_MAX))
    try:
        return Signed.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error


def _serve_releases(app: FastAPI, releases: Releases, ledger: SqliteLedger, bearer: Callable[[Request], Token]) -> None:
    """POST …/release."""

    # the body is read here: FastAPI would take all of it, however long, before it asks for the token
    @app.post("/v1/nodes/{node}/release", openapi_extra=SIGNED_OPENAPI)
    async def release(node: str, request: Request, token: Annotated[Token, Depends(bearer)]) -> JSONResponse:
        if not token.release:
            raise Problem(403, "forbidden", "this token has no right to release")
        signed = await _signed(request)
        call = releases.judge(node, signed.statement.encode(), signed.certificate)
        try:
            answer = await asyncio.wrap_future(ledger.release(call))
        except (Busy, GatewayFull) as error:
            raise busy(str(error), window=0, wait_s=BUSY_WAIT_S) from error
        if isinstance(answer, Refuse):
            raise Problem(answer.status, answer.code, answer.detail)
        log.warning("released", node=node, operator=call.operator, records=answer)
        return JSONResponse({"released": answer, "operator": call.operator}, headers=NO_STORE)


async def _listing(
    consumers: Consumers, readers: Readers, seats: asyncio.Semaphore, spans: list[Span], limit: int, *, release: bool
) -> AsyncIterator[bytes]:
    """Page after page; a slow consumer is waited for with one page in hand."""
    async with seats:
        for span in spans:
            first = span.first
            while first < span.end and limit:
                rest = Span(log=span.log, epoch=span.epoch, first=first, end=span.end)
                read = partial(consumers.lines, rest, most=limit, release=release)
                lines, first = await readers.run(read)
                limit -= len(lines)
                if lines:
                    yield b"".join(lines)


def _serve_machines(app: FastAPI, health: Health, ledger: SqliteLedger) -> None:
    """What monitors read."""

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        alive = ledger.alive
        return PlainTextResponse(
            "ok\n" if alive else "the ledger's writer does not run\n", 200 if alive else 503, NO_STORE
        )

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(health.metrics(), headers=NO_STORE, media_type=METRICS_TYPE)


async def _on_bad_request(_request: Request, error: Exception) -> Response:
    """Answer 400 and say which parameter is out of range."""
    found: Any = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    where = ".".join(str(step) for step in found.get("loc", ()))
    return Problem(400, "bad-request", f"{where}: {found.get('msg', 'not understood')}").response()
