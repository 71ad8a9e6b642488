"""The HTTP side of a SOAP feed: a request becomes a record, whole as it came, and is answered after its commit. Every refusal is a fault."""

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from hl7 import mtom
from hl7.check import Outcome as Verdict
from hl7.fhir_errors import BodyOversized, BodySlow, ClosedInsideBody, FhirError, NoAccess, UnknownPath
from hl7.signatures import Mark, in_xml
from hl7.soap import ITI_41, SOAP11, SOAP12, Envelope, Refused, media, read_request, version_of
from hl7.soap import Request as Read
from hl7.soap_answers import fault, taken
from hl7.soap_errors import NotAPost, SignatureDemanded, SoapError
from node.errors import QueueFull
from node.feeds import soap_wsdl
from node.feeds.fhir_answer import BUSY_S, FULL_S, Answer, Header
from node.feeds.http_body import Body, announced
from node.feeds.http_call import Call
from node.intake import Counted, Refusal, Request
from node.signatures.check import Finding, is_good, reason, told
from sync.errors import NoRoom
from sync.outbox import Stored
from sync.record import Kind

if TYPE_CHECKING:
    from node.feeds.soap import SoapFeed
    from node.writer import Outcome

THREAD_BYTES_MIN = 128 * 1024  # a longer body is read in a thread: 10 ms, in which the loop serves the other feeds
HEADER_CHARACTERS_MAX = 2048  # of Content-Type and SOAPAction, in the particulars
MESSAGE_ID_CHARACTERS_MAX = 512  # a longer one names nothing: half of it would be another's
HTTP_ALONE = frozenset((401, 404, 405, 408, 413, 415))  # HTTP's own refusals: they keep their status in SOAP 1.1 too

log = structlog.get_logger()


class _Judged(NamedTuple):
    """What was made of a body: the request, or the refusal and what of its envelope was read."""

    heard: Envelope
    request: Read | None = None
    error: SoapError | None = None
    marks: tuple[Mark, ...] = ()


class SoapApp:
    """An ASGI application over one feed."""

    def __init__(self, feed: "SoapFeed") -> None:
        self._feed = feed

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        call = Call(scope)
        heard = Envelope(SOAP12 if "soap+xml" in call.headers.get("content-type", "") else SOAP11)
        try:
            answer = await self._serve(call, receive)
        except (SoapError, FhirError) as error:
            self._tell(error, call)
            answer = _refused(error, heard)
        except Exception as error:  # noqa: BLE001  # ours: the client keeps what it sent, and the feed goes on
            log.error("soap.failed", feed=self._feed.feed.name, error=type(error).__name__)  # noqa: TRY400  # a traceback may hold content
            answer = _fault(500, heard, "SOP-00", "The node could not serve this request; not stored, send again")
        if answer is not None:
            await call.answer(send, answer)

    def _tell(self, error: SoapError | FhirError, call: Call) -> None:
        feed = self._feed
        log.info("soap.refused", code=error.code, feed=feed.feed.name, peer=call.peer, status=error.reply)
        feed.door.counts.last_error = (error.code, feed.clock.now_us())

    async def _serve(self, call: Call, receive: Any) -> Answer | None:
        """The answer; None where nobody waits for one any more. Raises SoapError, FhirError for what is refused without a record."""
        feed = self._feed
        if call.below(feed.feed.path) not in {"", "/"}:
            raise UnknownPath
        if call.method == "GET" and call.query in soap_wsdl.QUERIES and ITI_41 in feed.actions:
            return Answer(200, ((b"content-type", soap_wsdl.MEDIA),), feed.described(call.headers.get("host", "")))
        if call.method != "POST":
            raise NotAPost
        feed.access.grant(call.headers.get("authorization", ""))
        content_type = call.headers.get("content-type", "")
        of, action = media(content_type[: HEADER_CHARACTERS_MAX + 1]), call.headers.get("soapaction", "")
        lines = [f"content-type: {content_type[:HEADER_CHARACTERS_MAX]}"]
        lines += [f"soapaction: {action[:HEADER_CHARACTERS_MAX]}"] if action else []
        request = Request(call.method, call.raw_below(feed.feed.path)[:HEADER_CHARACTERS_MAX], "\n".join(lines))
        with Body(feed.workshop.frames, feed.feed.body_bytes_max) as body:
            try:
                if (error := announced(call.headers, feed.feed.body_bytes_max)) is not None:
                    raise error
                call.is_read = True
                raw = await body.read(receive)
            except (BodyOversized, BodySlow, ClosedInsideBody) as error:
                return await self._broken(error, body, call, Envelope(version_of(of)))
            return await self._take(raw, of, call, request)

    async def _take(self, raw: bytes, of: mtom.Medium, call: Call, request: Request) -> Answer:
        """A message that is whole: judged, stored, answered."""
        feed = self._feed
        is_long = len(raw) >= THREAD_BYTES_MIN
        judged = await feed.workshop.run(
            is_long, _judge, raw, of, call.headers.get("soapaction", ""), feed.actions, feed.understood
        )
        marks, content_type = judged.marks, call.headers.get("content-type", "")
        findings: list[Finding] | None = None
        if feed.feed.signatures == "required" and feed.workshop.checker is not None and judged.error is None:
            findings = await feed.workshop.checker.check(raw, content_type)
            if not is_good(findings):
                judged = judged._replace(error=SignatureDemanded(reason(findings)))
        if judged.error is not None:
            self._tell(judged.error, call)
        found = await self._store(raw, of, call, request, judged, told(marks, findings))
        if isinstance(found, NoRoom | QueueFull):
            return _no_room(found, judged.heard)
        if judged.error is not None or judged.request is None or not isinstance(found, Stored):
            return _refused(judged.error or SoapError(), judged.heard)
        if feed.feed.signatures == "verified" and feed.workshop.checker is not None and marks and not found.repeated:
            feed.workshop.checker.check_later(raw, content_type, feed.signed, feed.feed.name)
        media_type, body = taken(judged.request, own_id=str(uuid.uuid4()))
        position = f"{found.stream}/{found.epoch}/{found.seq}"
        return Answer(200, ((b"content-type", media_type.encode()), (b"wasl-record", position.encode())), body)

    async def _store(
        self,
        raw: bytes,
        of: mtom.Medium,
        call: Call,
        request: Request,
        judged: _Judged,
        signatures: list[tuple[str, str, str]],
    ) -> "Outcome | QueueFull | Counted":
        """Hand it to the doorway; what became of it, once that is durable."""
        feed, error = self._feed, judged.error
        answered: asyncio.Future[Outcome | QueueFull | Counted] = asyncio.get_running_loop().create_future()
        message_id = judged.heard.message_id
        feed.intake.store_typed(
            feed.door, common=feed.door.common(Kind.MESSAGE, of.name), body=raw, message_type=judged.request.action if judged.request else "",
            control_id=message_id if len(message_id) <= MESSAGE_ID_CHARACTERS_MAX else "", peer=call.peer, request=request,
            verdict=int(Verdict.ACCEPTED if error is None else Verdict.REJECTED),
            refusal=None if error is None else Refusal(code=error.code, location=error.detail[:256]),
            signatures=signatures,
            answer=lambda outcome: None if answered.done() else answered.set_result(outcome),
        )  # fmt: skip
        return await answered

    async def _broken(self, error: FhirError, body: Body, call: Call, heard: Envelope) -> Answer | None:
        """Record what never was whole, as far as it came, and refuse it where somebody still waits."""
        self._tell(error, call)
        await self._feed.record_broken(body, call, error.code)
        return None if isinstance(error, ClosedInsideBody) else _refused(error, heard)


def _judge(
    raw: bytes, of: mtom.Medium, soap_action: str, actions: frozenset[str], understood: frozenset[str]
) -> _Judged:
    """Read a body, whatever its bytes. Never raises."""
    try:
        request = read_request(raw, of, soap_action, actions=actions, understood=understood)
    except Refused as refused:
        return _Judged(refused.envelope, None, refused.error)
    except SoapError as error:
        return _Judged(Envelope(version_of(of)), None, error)
    return _Judged(request.envelope, request, None, in_xml(raw))


# ---- answers ------------------------------------------------------------------------------------------------------------------------
def fault_before_envelope(text: str) -> tuple[str, bytes]:
    """The fault for what is no HTTP: Content-Type and body."""
    return fault(Envelope(SOAP11), side="Sender", subcode="", code="SOP-00", text=text, own_id=str(uuid.uuid4()))


def _refused(error: SoapError | FhirError, heard: Envelope) -> Answer:
    text = f"{error.text}: {error.detail}" if error.detail else error.text
    is_soap = isinstance(error, SoapError)
    side, subcode = (error.side, error.subcode) if isinstance(error, SoapError) else ("Sender", "")
    status = int(error.reply)
    if is_soap and heard.version == SOAP11 and status not in HTTP_ALONE:
        status = 500  # SOAP 1.1, 6.2
    headers: tuple[Header, ...] = ()
    if isinstance(error, NotAPost):
        headers = ((b"allow", b"POST"),)
    if isinstance(error, NoAccess):
        headers = ((b"www-authenticate", b'Bearer realm="soap"'),)
    return _fault(status, heard, error.code, text, *headers, side=side, subcode=subcode)


def _no_room(found: NoRoom | QueueFull, heard: Envelope) -> Answer:
    """Not stored: the client keeps it and comes again. 503 while the disk is only slow, 507 while there is no room (RFC 4918 11.5)."""
    if isinstance(found, QueueFull):
        text = "More arrives than the disk stores; not stored, send again"
        return _fault(503, heard, found.code, text, (b"retry-after", BUSY_S), side="Receiver")
    text = "There is no room; not stored, send again"
    return _fault(507, heard, found.code, text, (b"retry-after", FULL_S), side="Receiver")


def _fault(
    status: int, heard: Envelope, code: str, text: str, *headers: Header, side: str = "Receiver", subcode: str = ""
) -> Answer:
    media_type, body = fault(heard, side=side, subcode=subcode, code=code, text=text, own_id=str(uuid.uuid4()))
    return Answer(status, ((b"content-type", media_type.encode()), *headers), body)
