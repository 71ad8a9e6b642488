"""The sync's endpoints for nodes: sessions and batches, over the ledger. Only what needs no judgement of order is refused here."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apsw
import structlog
from cryptography import x509
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.budget import Budget
from gateway.errors import Busy, GatewayFull, SwapLost
from gateway.health import Health
from gateway.identity import ValidityList, caller
from gateway.ledger import EpochCall, Ledger, PutCall, RootCall, SessionCall
from gateway.ledger_view import LedgerView
from gateway.log_certificates import AnothersCertificate, LogCertificates, Revoked
from gateway.marks import DSCP_HEADER
from gateway.problems import Problem, busy, on_fault, on_http, on_problem
from gateway.request_body import content_length, read_body
from gateway.upload_api import UploadApi, spoilt
from gateway.uploads import Uploads
from sync.batch import CONTENT_TYPE, WIRE_BYTES_MAX, Batch, decode
from sync.checkpoint import NOTE_BYTES_MAX, SIZE
from sync.context import CONTEXT_BYTES_MAX
from sync.dictionary import EMPTY, Recall, Shelf
from sync.errors import BadBatch, BadCertificate, BadUpload, NotAName, UnknownDictionary
from sync.held import rewind_members
from sync.log import SIZE_MAX
from sync.names import EPOCH_MAX, check_name
from sync.receipt import SHORT_QUERY, shorten
from sync.receiver import Receipt, Refuse
from sync.session import SESSION_BYTES_MAX, SessionAnswer, TheirStream, read_request
from sync.upload import PART_BYTES_MAX, Fetch

FENCE_HEADER = "wasl-fence"
DECODERS = 2  # each may hold the largest batch three times over while it decodes
FULL_WAIT_S = 60  # a full disk is made room on by people
JSON = "application/json"
NOTE = "text/plain; charset=utf-8"
NO_STORE = {"Cache-Control": "no-store"}
log = structlog.get_logger()


class Number(IntegerConvertor):
    """A number in an address. One without end cannot even be converted (Python refuses above 4,300 digits): it is no address of ours."""

    regex = "[0-9]{1,20}"


register_url_convertor("number", Number())


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """What the endpoints need to know of this gateway. `now` is POSIX seconds, UTC."""

    ledger: Ledger
    anchor: x509.Certificate
    validity: ValidityList
    cosign_pem: str
    health: Health
    uploads: Uploads
    view: LedgerView
    shelf: Shelf = EMPTY
    now: Callable[[], float] = time.time


class SyncApi:
    """The calls of docs/wire.md, sections 5 to 7."""

    def __init__(self, centre: Centre, budget: Budget) -> None:
        self._centre, self._budget = centre, budget
        self._uploads = UploadApi(centre.uploads, budget)
        self._judge = LogCertificates(centre.anchor, centre.validity, centre.now)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")

    def app(self) -> Starlette:
        """The ASGI application of the nodes' listener."""
        return Starlette(
            routes=[
                Route("/v1/session", self._counted(self.session), methods=["POST"]),
                Route("/v1/streams/{stream}/epochs", self._counted(self.epoch), methods=["POST"]),
                Route("/v1/streams/{stream}/{epoch:number}", self._counted(self.root), methods=["GET"]),
                Route("/v1/streams/{stream}/{epoch:number}/{first:number}", self._counted(self.put), methods=["PUT"]),
                Route("/v1/uploads/{id}/{offset:number}", self._counted(self.upload), methods=["PUT", "HEAD"]),
            ],
            exception_handlers={Problem: on_problem, HTTPException: on_http, Exception: on_fault},
        )

    async def sweep_uploads(self) -> int:
        """Delete the uploads that nodes gave up; how many."""
        return await self._uploads.sweep()

    def _counted(self, endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def counted(request: Request) -> Response:
            try:
                answer: Response = await endpoint(request)
            except Problem as problem:
                self._centre.health.refused(problem.code)
                # what was wrong, never what was in it
                log.info(
                    "refused", call=request.method, path=request.url.path, code=problem.code, detail=problem.detail
                )
                raise
            if (seen := request.state.peer.dscp) is not None:
                answer.headers[DSCP_HEADER] = str(seen)
            return answer

        return counted

    # -- POST /v1/session -----------------------------------------------------------------------------------------

    async def session(self, request: Request) -> Response:
        """Admit a start: 200 with its fence and what the ledger holds."""
        node, connected_at = caller(request.state, self._centre.validity, self._centre.now())
        body = await read_body(request, content_length(request, SESSION_BYTES_MAX))
        try:
            asked = read_request(body)
        except BadBatch as error:
            raise Problem(422, "bad-batch", str(error)) from error
        certificate = self._log_certificate(asked.log_certificate, node)
        call = SessionCall(
            node=node, request=asked, log_certificate=certificate, connected_at=connected_at, earlier=self._judge.earlier(asked.earlier_certificates, node)
        )  # fmt: skip
        # its heads are verified before it waits: beside the loop, which serves the others
        opened = await self._answered(lambda: self._centre.ledger.session(call), aside=True)
        if isinstance(opened, Refuse):
            raise _refused(opened)
        log.info("session", node=node, boot=asked.boot[:8], held=opened.held, streams=len(opened.logs))
        answer = SessionAnswer(
            fence=opened.fence, ledger=self._centre.ledger.id, cosign_certificate=self._centre.cosign_pem, held=opened.held,
            context=CONTEXT_BYTES_MAX,
            streams=tuple(
                TheirStream(
                    stream=held.origin.stream, epoch=held.origin.epoch, tag=held.origin.tag, size=held.frontier.size, root=held.frontier.root, key=held.key
                )
                for held in opened.logs
            ),
        )  # fmt: skip
        return Response(answer.encode(), 200, NO_STORE, JSON)

    def _log_certificate(self, pem: str, node: str) -> bytes:
        """The session's log certificate, DER. Raises Problem unless the authority gave it to this node for its log."""
        try:
            return self._judge.current(pem.encode(), node)
        except Revoked as error:
            raise Problem(403, "revoked", str(error)) from error
        except AnothersCertificate as error:
            raise Problem(403, "bad-certificate", str(error)) from error
        except BadCertificate as error:
            raise Problem(422, "bad-certificate", f"log certificate: {error}") from error

    # -- POST /v1/streams/{stream}/epochs, GET /v1/streams/{stream}/{epoch}?size= -----------------------------------

    async def epoch(self, request: Request) -> Response:
        """Take the statement that opens a further epoch: 200 with where that log ends."""
        node, _ = caller(request.state, self._centre.validity, self._centre.now())
        stream = _stream(request)
        body = await read_body(request, content_length(request, NOTE_BYTES_MAX))
        fence, revoked = request.headers.get(FENCE_HEADER, ""), self._centre.validity.serials
        call = EpochCall(node=node, stream=stream, fence=fence, statement=body, revoked=revoked)
        answer = await self._answered(lambda: self._centre.ledger.epoch(call))
        if isinstance(answer, Refuse):
            raise _refused(answer)
        log.info("epoch opened", node=node, stream=stream, epoch=answer.held.origin.epoch)
        return JSONResponse({**rewind_members(answer.held), "receipt": answer.receipt.decode()}, 200, NO_STORE)

    async def root(self, request: Request) -> Response:
        """Tell tag and size of a log of the caller's, and its root at the size that is asked (empty where it is shorter)."""
        node, _ = caller(request.state, self._centre.validity, self._centre.now())
        stream, epoch, size = _stream(request), request.path_params["epoch"], request.query_params.get("size", "")
        if not SIZE.fullmatch(size) or int(size) > SIZE_MAX or not 1 <= epoch <= EPOCH_MAX:
            raise Problem(422, "bad-request", "no such epoch or size")
        call = RootCall(node=node, stream=stream, epoch=epoch, size=int(size))
        told = await self._answered(lambda: self._centre.ledger.root(call))
        found = {"epoch": epoch, "tag": told.tag, "size": told.size, "root": told.root.hex()}
        return JSONResponse({**found, "opening": told.opening.decode()} if told.opening else found, 200, NO_STORE)

    # -- PUT /v1/streams/{stream}/{epoch}/{first} ------------------------------------------------------------------

    async def put(self, request: Request) -> Response:
        """Take a batch: 200 with the head's cosigned checkpoint."""
        node, _ = caller(request.state, self._centre.validity, self._centre.now())
        stream, epoch, first = _address(request)
        if request.headers.get("content-type") != CONTENT_TYPE:
            raise Problem(422, "bad-batch", f"a batch is {CONTENT_TYPE}")
        length = content_length(request, WIRE_BYTES_MAX)
        with self._budget.share(node, length) as share:
            body = await read_body(request, length)
            fetch = self._uploads.fetch(node)
            batch, vouched = await self._decode(body, fetch, self._recall(node, stream, epoch, first))
            del body
            share.resize(_octets(batch))
            fence = request.headers.get(FENCE_HEADER, "")
            call = PutCall(
                node=node, stream=stream, epoch=epoch, first=first, fence=fence, batch=batch, vouched=vouched
            )  # fmt: skip
            answer = await self._answered(lambda: self._centre.ledger.put(call))
        if isinstance(answer, Receipt):
            fetch.used()
            note = answer.note
            if request.url.query == SHORT_QUERY:
                note = shorten(note, batch.checkpoint)
            return Response(
                note, 200, media_type=NOTE
            )  # what answers a PUT is not stored by caches: RFC 9110 section 9.3.4
        raise _refused(answer)

    async def upload(self, request: Request) -> Response:
        """Take a part of a body that goes ahead of its batch, or tell how much of it is here."""
        node, _ = caller(request.state, self._centre.validity, self._centre.now())
        if request.method == "HEAD":
            return await self._uploads.size(request, node)
        length = content_length(request, PART_BYTES_MAX)
        with self._budget.share(node, length):
            return await self._uploads.put(node, request, await read_body(request, length))

    def _recall(self, node: str, stream: str, epoch: int, first: int) -> Recall:
        """The context of a batch at this address, read where it is decoded."""

        def recall(count: int) -> bytes:
            try:
                return self._centre.view.context(node, stream, epoch, first, count)
            except (
                apsw.Error
            ) as error:  # pages that cannot be read: the node can do without, and the ledger's writer will say it
                raise UnknownDictionary(f"the records before {first} cannot be read") from error

        return recall

    async def _decode(self, body: bytes, fetch: Fetch, recall: Recall) -> tuple[Batch, tuple[bytes, ...]]:
        """The batch, and which certificates of its change records are good: both take their time, so beside the loop."""

        def work() -> tuple[Batch, tuple[bytes, ...]]:
            batch = decode(body, self._centre.shelf, fetch, recall)
            return batch, self._judge.vouched(batch)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, work)
        except UnknownDictionary as error:
            raise Problem(422, "unknown-dictionary", str(error)) from error
        except BadUpload as error:
            raise spoilt(error) from error
        except BadBatch as error:
            raise Problem(422, "bad-batch", str(error)) from error

    async def _answered(self, ask: Callable[[], Any], *, aside: bool = False) -> Any:
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wrap_future(await loop.run_in_executor(self._decoders, ask) if aside else ask())
        except (Busy, SwapLost) as error:
            raise busy(str(error), window=self._budget.window) from error
        except GatewayFull as error:
            raise busy(str(error), window=self._budget.window, wait_s=FULL_WAIT_S) from error


def _stream(request: Request) -> str:
    try:
        return check_name(request.path_params["stream"])
    except NotAName as error:
        raise Problem(422, "bad-batch", str(error)) from error


def _address(request: Request) -> tuple[str, int, int]:
    path, stream = request.path_params, _stream(request)
    if not 1 <= path["epoch"] <= EPOCH_MAX or path["first"] > SIZE_MAX:
        raise Problem(422, "bad-batch", "no such epoch or position")
    return stream, path["epoch"], path["first"]


def _octets(batch: Batch) -> int:
    return sum(len(r.header) + len(r.particulars) + len(r.body) for r in batch.records)


def _refused(refuse: Refuse) -> Problem:
    members = rewind_members(refuse.held) if refuse.code == "rewind" else None
    return Problem(refuse.status, refuse.code, refuse.detail, members=members)
