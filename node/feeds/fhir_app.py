"""The HTTP side of a FHIR feed: a request becomes a record, and is answered after its commit. Every refusal is an OperationOutcome."""

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

import structlog

from hl7.check import Outcome as Verdict
from hl7.fhir import JSON, XML, Judgement, Rules, Strictness, judge, sniff
from hl7.fhir_answers import Issue, issue_of
from hl7.fhir_errors import (
    BadAssertion,
    BodyOversized,
    BodySlow,
    ClosedInsideBody,
    FhirError,
    Invalid,
    NotThisMedium,
    NotValidated,
    SignatureDemanded,
    UnknownPath,
    Unreadable,
)
from hl7.fhir_request import PUBLIC, Asked, Wanted, What, conditions, medium, parse, wanted
from hl7.signatures import in_json, in_xml
from node.errors import QueueFull
from node.feeds.fhir_answer import Answer, kept, no_room, refused, told
from node.feeds.http_access import FORM_BYTES_MAX, Grant
from node.feeds.http_body import Body, announced
from node.feeds.http_call import Call
from node.intake import Counted, Refusal, Request
from node.signatures.check import is_good, reason
from node.signatures.check import told as told_of
from sync.errors import NoRoom
from sync.outbox import Stored

if TYPE_CHECKING:
    from node.feeds.fhir import FhirFeed
    from node.writer import Outcome

THREAD_BYTES_MIN = 128 * 1024  # a longer body is judged in a thread: 10 ms, in which the loop serves the other feeds
LOCATION_CHARACTERS_MAX = 256  # of a refusal's place, in the particulars
FORMS = {"json": JSON, "xml": XML}
OAUTH = {"scope": "invalid_scope", "grant_type": "unsupported_grant_type", "": "invalid_request"}  # RFC 6749 5.2
FAILED = Issue(
    "error",
    "exception",
    "The node failed at this request. Whether it was stored is not known: send it again.",
    code="NOD-00",
)
NOT_VALIDATED_XML = Issue(
    "information", "incomplete", "Not validated: the models read JSON. The structure was checked."
)

log = structlog.get_logger()


class FhirApp:
    """An ASGI application over one feed."""

    def __init__(self, feed: "FhirFeed") -> None:
        self._feed = feed

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        call, want = Call(scope), Wanted()
        try:
            want = wanted(call.headers, call.query)
            answer = await self._serve(call, receive, want)
        except FhirError as error:
            self._tell(error, call)
            answer = refused(error, want)
        except Exception as error:  # noqa: BLE001  # ours: the client keeps what it sent, and the feed goes on
            log.error("fhir.failed", feed=self._feed.feed.name, error=type(error).__name__)  # noqa: TRY400  # a traceback may hold content
            answer = told(500, [FAILED], want)
        if answer is not None:
            await call.answer(send, answer)

    async def _serve(self, call: Call, receive: Any, want: Wanted) -> Answer | None:
        """The answer; None where nobody waits for one any more. Raises FhirError for what is refused without a record."""
        feed = self._feed
        asked = parse(call.method, call.below(feed.base_path), call.query)
        if asked.what is What.TOKEN:
            if not feed.access.has_clients:
                raise UnknownPath
            return await self._issue(call, receive)
        if asked.what in PUBLIC:
            return feed.library.page(asked.what, call, want)
        grant = feed.access.grant(call.headers.get("authorization", ""))
        if asked.what is What.VALIDATE:
            return await self._validate(call, asked, receive, want)
        return await self._take(call, asked, grant, receive, want)

    def _tell(self, error: FhirError, call: Call) -> None:
        feed = self._feed
        log.info("fhir.refused", code=error.code, feed=feed.feed.name, peer=call.peer, status=error.reply)
        feed.door.counts.last_error = (error.code, feed.clock.now_us())

    # -- what becomes a record ------------------------------------------------------------------------------------------

    async def _take(self, call: Call, asked: Asked, grant: Grant, receive: Any, want: Wanted) -> Answer | None:
        """A message: its body is read, judged, stored, and then answered."""
        feed = self._feed
        form, told_conditions = self._medium(call), conditions(call.headers)
        request = Request(call.method, call.raw_below(feed.base_path), told_conditions)
        with Body(feed.workshop.frames, feed.feed.body_bytes_max) as body:
            try:
                if (error := announced(call.headers, feed.feed.body_bytes_max)) is not None:
                    raise error
                call.is_read = True
                raw = await body.read(receive)
            except (BodyOversized, BodySlow, ClosedInsideBody) as error:
                return await self._broken(error, body, call, want)
            content_type = FORMS[form] if form else _sniffed(raw)
            judged, issues = await self._judge(raw, content_type, asked, self._rules(grant))
            marks, findings = in_json(raw) if content_type == JSON else in_xml(raw), None
            checker, mode = feed.workshop.checker, feed.feed.signatures
            if checker is not None and mode == "required" and judged.outcome is not Verdict.REJECTED:
                findings = await checker.check(raw, content_type)
                if not is_good(findings):
                    demanded = SignatureDemanded(detail=reason(findings))
                    judged, issues = judged._replace(outcome=Verdict.REJECTED, errors=(demanded,)), []
            found = await self._store(raw, content_type, call, asked, judged, request, told_of(marks, findings))
            if isinstance(found, NoRoom | QueueFull):
                return no_room(found, want)
            if judged.outcome is Verdict.REJECTED or not isinstance(found, Stored):
                first, *more = judged.errors
                return refused(first, want, *more)
            if not found.repeated:
                feed.sample(raw, content_type)
                if checker is not None and mode == "verified" and marks:
                    checker.check_later(raw, content_type, feed.signed, feed.feed.name)
            sent = raw if content_type == FORMS[want.form] else None
            return kept(found, asked, judged, issues, want, base=feed.base, sent=sent)

    def _medium(self, call: Call) -> str:
        strictness = self._feed.feed.how_strict
        if call.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
            raise NotThisMedium(detail="A compressed body is not taken: what is kept are the bytes that were meant")
        try:
            form = medium(call.headers.get("content-type", ""))
        except NotThisMedium:
            if strictness > Strictness.LENIENT:
                raise
            return ""
        if not form and strictness is Strictness.STRICT:
            raise NotThisMedium
        return form

    def _rules(self, grant: Grant) -> Rules:
        """The feed's rules; a token may be good for fewer types."""
        mine, theirs = frozenset(self._feed.feed.types), grant.types
        types = mine & theirs or frozenset(("none",)) if mine and theirs else mine or theirs
        return Rules(self._feed.feed.how_strict, types)

    async def _judge(self, raw: bytes, content_type: str, asked: Asked, rules: Rules) -> tuple[Judgement, list[Issue]]:
        """What the feed says of it, and what is to be told though it is taken."""
        judged = await self._feed.workshop.run(len(raw) >= THREAD_BYTES_MIN, judge, raw, content_type, asked, rules)
        issues = [issue_of(error, "warning") for error in judged.errors]
        if rules.strictness is not Strictness.STRICT or judged.outcome is Verdict.REJECTED:
            return judged, issues
        found = await self._feed.workshop.validator.validate(raw) if content_type == JSON else None
        if found is None:
            # the validator's outage stops no intake, and what makes it hang must not hold up its source for ever
            missing = NotValidated()
            judged = judged._replace(outcome=Verdict.ACCEPTED_WITH_WARNING, errors=(*judged.errors, missing))
            return judged, [*issues, issue_of(missing, "warning")]
        wrong = tuple(Invalid(each.expression, each.text) for each in found if each.severity == "error")
        if wrong:
            return judged._replace(outcome=Verdict.REJECTED, errors=wrong), []
        return judged, [*issues, *found]

    async def _store(
        self,
        raw: bytes,
        content_type: str,
        call: Call,
        asked: Asked,
        judged: Judgement,
        request: Request,
        signatures: list[tuple[str, str, str]],
    ) -> "Outcome | QueueFull | Counted":
        """Hand it to the doorway; what became of it, once that is durable."""
        feed, error = self._feed, judged.error
        refusal = None
        if error is not None:
            refusal = Refusal(code=error.code, location=error.expression[:LOCATION_CHARACTERS_MAX])
            self._tell(error, call)
        answered: asyncio.Future[Outcome | QueueFull | Counted] = asyncio.get_running_loop().create_future()
        feed.intake.store_typed(
            feed.door, common=feed.commons[content_type], body=raw, message_type=judged.facts.message_type, signatures=signatures,
            control_id=_control_id(call, asked, judged, request), peer=call.peer, request=request, verdict=int(judged.outcome),
            refusal=refusal, answer=lambda outcome: None if answered.done() else answered.set_result(outcome),
        )  # fmt: skip
        return await answered

    async def _broken(self, error: FhirError, body: Body, call: Call, want: Wanted) -> Answer | None:
        """Record what never was whole, as far as it came, and refuse it where somebody still waits."""
        self._tell(error, call)
        await self._feed.record_broken(body, call, error.code)
        return None if isinstance(error, ClosedInsideBody) else refused(error, want)

    # -- what becomes none ----------------------------------------------------------------------------------------------

    async def _validate(self, call: Call, asked: Asked, receive: Any, want: Wanted) -> Answer:
        """$validate: what structure and models say. Nothing is kept."""
        form = self._medium(call)
        with Body(self._feed.workshop.frames, self._feed.feed.body_bytes_max) as body:
            if (error := announced(call.headers, self._feed.feed.body_bytes_max)) is not None:
                raise error
            call.is_read = True
            raw = await body.read(receive)
            content_type = FORMS[form] if form else _sniffed(raw)
            judged = await self._feed.workshop.run(
                len(raw) >= THREAD_BYTES_MIN, judge, raw, content_type, asked, Rules()
            )
            issues = [issue_of(error) for error in judged.errors]
            if content_type == XML:
                return told(200, [*issues, NOT_VALIDATED_XML], want)
            found = (
                None
                if any(isinstance(each, Unreadable) for each in judged.errors)
                else await self._feed.workshop.validator.validate(raw)
            )
        if found is None and not issues:
            issues = [issue_of(NotValidated(), "warning")]
        return told(200, [*issues, *(found or [])], want)

    async def _issue(self, call: Call, receive: Any) -> Answer:
        """An access token for a client that signs (SMART backend services), or OAuth's own refusal (RFC 6749 5.2)."""
        headers = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
        call.is_read = True
        try:
            with Body(self._feed.workshop.frames, FORM_BYTES_MAX) as body:
                document = self._feed.access.issue(await body.read(receive))
        except BadAssertion as error:
            self._tell(error, call)
            code = OAUTH.get(error.expression, "invalid_client")
            told_it = {"error": code, "error_description": error.detail or error.text}
            return Answer(400, headers, json.dumps(told_it).encode())
        return Answer(200, headers, json.dumps(document).encode())


def _sniffed(raw: bytes) -> str:
    try:
        return sniff(raw)
    except Unreadable:
        return JSON  # judged as such, and refused or kept with that reason


def _control_id(call: Call, asked: Asked, judged: Judgement, request: Request) -> str:
    """By what a repeat is known, with the same bytes (docs/decisions/0021): the name of a message or document, or a key of the client."""
    key = call.key()
    if judged.facts.identity or not key:
        return judged.facts.identity
    if asked.what is What.BUNDLE and not request.conditions and request.path in {"", "/"}:
        return key
    # the same key at another address, or under another condition, is another request
    rest = f"{request.method}\n{request.path}\n{request.conditions}"
    return f"{key} {hashlib.sha256(rest.encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"
