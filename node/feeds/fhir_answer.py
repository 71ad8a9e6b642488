"""Answers of a FHIR feed as HTTP has them: status, headers and body, from what became of a message."""

from typing import NamedTuple

from hl7.fhir import Judgement
from hl7.fhir_answers import KEPT, RESPONSE, Issue, bundle_response, encode, issue_of, outcome, resource_id
from hl7.fhir_errors import FhirError, NoAccess, NotARepository
from hl7.fhir_request import Asked, Wanted, What
from node.errors import QueueFull
from sync.errors import NoRoom
from sync.outbox import Stored

Header = tuple[bytes, bytes]
MEDIA = {"json": b"application/fhir+json; charset=utf-8", "xml": b"application/fhir+xml; charset=utf-8"}
BUSY_S, FULL_S = b"2", b"60"  # Retry-After: a queue empties in seconds, a disk when the link is back


class Answer(NamedTuple):
    """One answer."""

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes = b""


def told(status: int, issues: list[Issue], want: Wanted, *headers: Header) -> Answer:
    """An OperationOutcome."""
    return Answer(status, (_type(want), *headers), encode(outcome(issues), want.form, pretty=want.pretty))


def refused(error: FhirError, want: Wanted, *more: FhirError) -> Answer:
    """What is not taken, with each reason; the first decides about the status."""
    headers: list[Header] = []
    if isinstance(error, NotARepository):
        headers.append((b"allow", error.allow.encode()))
    if isinstance(error, NoAccess):
        headers.append((b"www-authenticate", b'Bearer realm="fhir"'))
    return told(error.status, [issue_of(each) for each in (error, *more)], want, *headers)


def no_room(found: NoRoom | QueueFull, want: Wanted) -> Answer:
    """Not stored: the client keeps it and comes again. 429 while the disk is only slow, 507 while there is no room (RFC 4918 11.5)."""
    if isinstance(found, QueueFull):
        issue = Issue(
            "error", "throttled", "More arrives than the disk stores; not stored, send again.", code=found.code
        )
        return told(429, [issue], want, (b"retry-after", BUSY_S))
    issue = Issue("error", "no-store", "There is no room; not stored, send again.", code=found.code)
    return told(507, [issue], want, (b"retry-after", FULL_S))


def kept(
    found: Stored, asked: Asked, judged: Judgement, issues: list[Issue], want: Wanted, *, base: str, sent: bytes | None
) -> Answer:
    """The record is durable. `sent`: the body where it is of the form that is wanted, to give back to who asks for a representation."""
    facts = judged.facts
    position: Header = (b"wasl-record", f"{found.stream}/{found.epoch}/{found.seq}".encode())
    if facts.bundle in RESPONSE and asked.what is What.BUNDLE:
        response = bundle_response(
            facts, judged.refused, base=base, epoch=found.epoch, seq=found.seq, is_async=want.is_async
        )
        if issues and "entry" in response:
            response["entry"][0]["response"].setdefault("outcome", outcome(issues))
        body = encode(response, want.form, pretty=want.pretty)
        return Answer(202 if want.is_async else 200, (_type(want), position), body)
    if not facts.kind or (facts.bundle == "message" and asked.what is not What.CREATE):
        return told(202, issues or [KEPT], want, position)
    status, headers = 200, [position]
    if asked.what is not What.UPDATE:
        status = 201
        headers.append((b"location", f"{base}/{facts.kind}/{resource_id(found.epoch, found.seq)}".encode()))
    if want.is_async:
        status = 202
    if want.returns == "OperationOutcome" or (issues and want.returns != "minimal"):
        return told(status, issues or [KEPT], want, *headers)
    if want.returns == "representation" and sent is not None:
        return Answer(status, (_type(want), *headers), sent)
    return Answer(status, tuple(headers))


def _type(want: Wanted) -> Header:
    return (b"content-type", MEDIA[want.form])
