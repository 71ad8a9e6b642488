"""A destination that is a FHIR server: each record a request, as it came, HL7 v2 converted. A redirection is not followed, an answer's body not kept."""

import hashlib
import re
import ssl
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import urllib3

from hl7.convert.json_text import dumps
from hl7.convert.result import CannotConvert, Converted
from node.config.destinations import FhirOut
from node.destinations.conversion import BODY_BYTES_MAX, ToFhir, as_message, as_transaction
from node.destinations.errors import HTTP, LATER, NO_ANSWER, NOT_CONVERTED, NOT_SENDABLE, REFUSED, TOO_LONG, UNREACHABLE
from node.destinations.errors import TLS as NO_TLS
from node.destinations.fhir_known import GONE, NOT_THERE, THERE, Known
from node.destinations.fhir_newer import is_newer
from node.destinations.plug import ER7, FHIR_JSON, TAKEN, End, Outcome, Outgoing
from node.destinations.tls import client_context

WAIT_S_MAX = 3600.0  # a Retry-After beyond this is not meant for a hospital
ANSWER_BYTES_MAX = 64 * 1024  # read so that the connection can be kept; more of an answer and it is closed
# Of a resource that a replay would write: read whole, to see who wrote it. What we wrote of a message is no longer than a message may be (its
# documents are base64 in both), and no more is in memory than for its conversion.
RESOURCE_BYTES_MAX = BODY_BYTES_MAX
TOKEN_BYTES_MAX = 16 * 1024
BUSY = frozenset({408, 425, 429})
NOT_OURS = frozenset({401, 403, 407})  # no message can be at fault: the right to send is
MENTIONED_MAX = (
    1000  # each may cost a request: a message that names more people and places than that is none of a patient's
)
RACE = "412"  # somebody made a mentioned resource after we asked for it
PATH = re.compile(r"(\$process-message|[A-Z][A-Za-z]{0,63}(/[A-Za-z0-9.-]{1,64})?)(\?[\x21-\x7e]{0,8192})?")
HEADERS = urllib3.HTTPHeaderDict({"Content-Type": FHIR_JSON})
CONDITIONS = frozenset({"if-none-exist", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})


class Answer(NamedTuple):
    """The body of an answer. `is_long`: it had more than is read; `is_whole`: it came to its end."""

    body: bytes = b""
    is_long: bool = False
    is_whole: bool = False


class FhirSink:
    """One connection to one server. `convert`: for HL7 v2 records; without it they are refused. `monotonic`: seconds, for how long an answer's body takes."""

    def __init__(
        self, destination: FhirOut, *, monotonic: Callable[[], float], convert: ToFhir | None = None
    ) -> None:  # fmt: skip
        self._to, self._convert, self._monotonic = destination, convert, monotonic
        self._known = Known()
        self._base = urlsplit(destination.url).path.rstrip("/")
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._answer = Answer()  # the last

    def deliver(self, outgoing: Outgoing) -> Outcome:
        """Make the request and read its status."""
        try:
            if outgoing.content_type == ER7 and self._convert is not None:
                return self._deliver_converted(outgoing, self._convert)
            if outgoing.content_type != FHIR_JSON:
                return Outcome(End.REFUSED, NOT_CONVERTED, "off" if outgoing.content_type == ER7 else "content")
            aim = _aim(outgoing)
            if aim is None:
                return Outcome(End.REFUSED, NOT_SENDABLE)
            return _outcome_of(*self._ask(*aim, outgoing.body, self._headers(outgoing)))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self.close()
            return _failure(error)

    # -- HL7 v2 ---------------------------------------------------------------------------------------------------

    def _deliver_converted(self, outgoing: Outgoing, convert: ToFhir) -> Outcome:
        """Convert a message and send it. Refused by a server that has lost what it was known to have, it is asked and sent once more."""
        try:
            made = convert(outgoing)
        except CannotConvert as error:
            return Outcome(End.REFUSED, NOT_CONVERTED, error.code)
        remembered = any(name in self._known for name in made.mentioned)
        outcome = self._send(made, outgoing, convert.kind)
        if outcome.end is End.REFUSED and (remembered or outcome.detail.startswith(RACE)):
            self._known.forget()
            outcome = self._send(made, outgoing, convert.kind)
        if outcome.end is End.TAKEN:
            convert.count(made)
        return outcome

    def _send(self, made: Converted, outgoing: Outgoing, kind: str) -> Outcome:
        if kind == "message":
            body = dumps(as_message(made)).encode()
            return _outcome_of(*self._ask("POST", "$process-message", body, self._headers(outgoing, body)))
        if len(made.mentioned) > MENTIONED_MAX:
            return Outcome(End.REFUSED, NOT_CONVERTED, "too-large")
        found = self._known.of(sorted(made.mentioned), lambda name: self._ask("GET", name, b"", HEADERS)[0])
        if found.status:
            return _not_told(found.status)
        newer = self._newer(made, outgoing) if outgoing.is_replay else frozenset[str]()
        if isinstance(newer, Outcome):
            return newer
        bundle = as_transaction(made, found.there | found.gone | newer)
        body = dumps(bundle).encode()
        outcome = _outcome_of(*self._ask("POST", "", body, self._headers(outgoing, body)))
        if outcome.end is End.TAKEN:
            self._known.add(entry["request"]["url"] for entry in bundle["entry"])
        if (
            outcome.end is End.REFUSED and found.gone
        ):  # it may well be refused for that; a person restores it there, and replays
            return outcome._replace(detail=f"{outcome.detail}, {min(found.gone).partition('/')[0]} {GONE}")
        return outcome

    def _newer(self, made: Converted, outgoing: Outgoing) -> frozenset[str] | Outcome:
        """Of a replay: what it would write that a later message has written already; or the outcome, where the server does not tell."""
        newer = set()
        for entry in made.bundle["entry"]:
            name = entry["request"]["url"]
            if name in made.mentioned or outgoing.origin is None:
                continue
            status, _ = self._ask("GET", name, b"", HEADERS, answer_bytes_max=RESOURCE_BYTES_MAX)
            if status in {NOT_THERE, GONE}:
                continue
            if status not in THERE:
                return _not_told(status)
            if self._answer.is_long:
                return Outcome(End.REFUSED, TOO_LONG, name.partition("/")[0])
            if not self._answer.is_whole:
                return Outcome(End.LATER, NO_ANSWER, str(status))
            if is_newer(self._answer.body, outgoing.origin):
                newer.add(name)
        return frozenset(newer)

    # -- the connection -------------------------------------------------------------------------------------------

    def _ask(
        self, method: str, path: str, body: bytes, headers: urllib3.HTTPHeaderDict, *, answer_bytes_max: int = ANSWER_BYTES_MAX
    ) -> tuple[int, float]:  # fmt: skip
        """Make a request; its status, and how long the server wants us to wait. Raises HTTPError, OSError."""
        if self._pool is None:
            self._pool = self._opened()
        response = self._pool.urlopen(
            method, f"{self._base}/{path}" if path else self._base or "/", body=body or None, headers={**self._pool.headers, **headers},
            redirect=False, retries=False, preload_content=False, decode_content=False,
        )  # fmt: skip
        # from its status line on: a server that drips what follows would hold the stream for ever
        until = self._monotonic() + self._to.answer_s_max
        self._answer = _finish(response, answer_bytes_max, lambda: self._monotonic() > until)
        if response.status in NOT_OURS or 300 <= response.status < 400:
            self.close()  # the token may have been renewed meanwhile
        return response.status, _wait_s(response)

    def rest(self) -> None:
        """Nothing is to be sent for a while: the connection stays."""

    def close(self) -> None:
        """Close the connection; files and token are read again with the next."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _opened(self) -> urllib3.HTTPConnectionPool:
        parts, to = urlsplit(self._to.url), self._to
        limits = urllib3.Timeout(connect=to.connect_s_max, read=to.answer_s_max)
        headers = urllib3.HTTPHeaderDict({"Accept": FHIR_JSON, "Prefer": "return=minimal", "User-Agent": "wasl"})
        if to.bearer_token is not None:
            headers["Authorization"] = f"Bearer {_token(to.bearer_token.read_bytes())}"
        if parts.scheme == "http":
            return urllib3.HTTPConnectionPool(
                parts.hostname or "", parts.port or 80, maxsize=1, block=True, timeout=limits, headers=headers
            )
        context = ssl.create_default_context() if to.tls is None else client_context(to.tls)
        server_name = to.tls.server_name or None if to.tls else None
        return urllib3.HTTPSConnectionPool(
            parts.hostname or "", parts.port or 443, maxsize=1, block=True, timeout=limits, headers=headers, ssl_context=context,
            server_hostname=server_name, assert_hostname=server_name,
        )  # fmt: skip

    def _headers(self, outgoing: Outgoing, made: bytes = b"") -> urllib3.HTTPHeaderDict:
        headers = urllib3.HTTPHeaderDict(HEADERS)
        # the same for each repetition of one request and for no other: a server that keeps it knows a repeat. What is made of a message may
        # be another request the next time (the server has more, the tables know more): it is no repeat then, and no old answer is its
        digest = f".{hashlib.sha256(made).hexdigest()[:12]}" if made else ""
        headers["X-Request-Id"] = f"{outgoing.node}.{outgoing.stream}.{outgoing.place}.{outgoing.part}{digest}"
        if outgoing.content_type == FHIR_JSON:
            for line in outgoing.conditions.splitlines():
                name, _, value = line.partition(":")
                if name.strip().lower() in CONDITIONS and value.isprintable():
                    headers[name.strip()] = value.strip()
        return headers


def _aim(outgoing: Outgoing) -> tuple[str, str] | None:
    """Method and path below the base: as the record came, and by its type where it did not come over HTTP; None where that names nothing."""
    path = outgoing.path.strip("/")
    if not outgoing.method:
        kind, _, use = outgoing.message_type.partition("^")
        path = "$process-message" if use == "message" else "" if use in {"transaction", "batch"} else kind
        if kind == "":
            return None
    if outgoing.method not in {"", "POST", "PUT"} or (path and not PATH.fullmatch(path)):
        return None
    return outgoing.method or "POST", path


def _token(held: bytes) -> str:
    text = held[:TOKEN_BYTES_MAX].decode("ascii", "replace").strip()
    if not text.isprintable() or " " in text or not text.isascii():
        raise OSError("the file of the bearer token holds something else")
    return text


def _outcome_of(status: int, wait_s: float) -> Outcome:
    if 200 <= status < 300:
        return TAKEN
    if status >= 500 or status in BUSY or status in NOT_OURS:
        return Outcome(End.LATER if status not in NOT_OURS else End.BROKEN, LATER, str(status), wait_s)
    if status >= 400:
        return Outcome(End.REFUSED, REFUSED, str(status))
    return Outcome(End.BROKEN, HTTP, str(status))


def _not_told(status: int) -> Outcome:
    """The server does not say whether it has a resource. Whatever it means by that, the message is not at fault."""
    outcome = _outcome_of(status, 0.0)
    return outcome if outcome.end in {End.LATER, End.BROKEN} else Outcome(End.BROKEN, HTTP, str(status))


def _wait_s(response: urllib3.BaseHTTPResponse) -> float:
    asked = response.headers.get("Retry-After", "")
    return min(WAIT_S_MAX, float(asked)) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0.0


def _finish(response: urllib3.BaseHTTPResponse, bytes_max: int, is_late: Callable[[], bool]) -> Answer:
    """Read the rest of a short answer, so that its connection can be used again; what is longer, or breaks off, takes the connection with it."""
    try:
        body = bytearray()
        while len(body) <= bytes_max and (more := response.read1(bytes_max + 1 - len(body))):
            body += more
            if is_late():
                raise TimeoutError
    except (urllib3.exceptions.HTTPError, OSError):
        answer = Answer()  # the status line came: the verdict stands
    else:
        is_long = len(body) > bytes_max
        # urllib3 gives what came before a connection ended as if it were all, where it is asked for so many bytes
        is_whole = not is_long and not response.length_remaining
        answer = Answer(b"" if is_long else bytes(body), is_long, is_whole=is_whole)
    if not answer.is_whole:
        response.close()
    response.release_conn()
    return answer


def _failure(error: Exception) -> Outcome:
    """Which rung of the way broke."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__ or getattr(chain[-1], "reason", None)) is not None:
        if not isinstance(cause, BaseException) or cause in chain:
            break
        chain.append(cause)
    if any(isinstance(each, ssl.SSLError | urllib3.exceptions.SSLError) for each in chain):
        return Outcome(
            End.BROKEN,
            NO_TLS,
            next((getattr(each, "reason", None) or "" for each in chain if isinstance(each, ssl.SSLError)), ""),
        )
    refused = (
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.NameResolutionError,
    )
    if any(isinstance(each, refused) for each in chain):
        return Outcome(End.BROKEN, UNREACHABLE, type(error).__name__)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):  # a file of ours
        return Outcome(End.BROKEN, NO_TLS, type(error).__name__)
    return Outcome(End.LATER, NO_ANSWER, type(error).__name__)
