"""What node and gateway say to each other when a session opens: the JSON of POST /v1/session (docs/wire.md, section 5)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync.agreement import Told
from sync.announced import HEADS_MAX
from sync.checkpoint import NOTE_BYTES_MAX
from sync.errors import BadBatch
from sync.keys import KEY_ID_BYTES
from sync.log import HASH_BYTES, SIZE_MAX
from sync.names import EPOCH_MAX, NAME, TAG

BOOT = re.compile(r"[0-9a-f]{32}")
TOKEN = re.compile(r"[!-~]{1,128}")  # fences and ledger ids: they travel in HTTP headers and lie in text columns
SESSION_BYTES_MAX = 256 * 1024  # a thousand streams and as many boots; the rest is somebody else's
BOOTS_MAX = 1024  # starts without reaching a gateway: the outbox lists the first and the newest
STREAMS_MAX = 1024  # feeds of the largest hospital, ten times over
EARLIER_KEYS_MAX = (
    4  # log keys that may still have to sign part of a queue: changes of one outage, and a note bears eight lines
)
LANES = ("critical", "routine", "bulk")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnStream:
    """A log as the node declares it."""

    stream: str
    epoch: int
    tag: str
    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """A start, and what it wants to send. `boot` and `boots` are 32 hex digits; `fence` the one last held, or empty; `log_certificate` PEM.

    `heads`: signed checkpoints of the logs that wait (see `sync.announced`). `earlier_certificates`: those of log keys that still sign what
    stands before a change of the key.
    """

    boot: str
    boots: tuple[str, ...]
    fence: str
    log_certificate: str
    streams: tuple[OwnStream, ...]
    heads: tuple[bytes, ...] = ()
    earlier_certificates: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The request's JSON."""
        earlier = {"earlier_certificates": list(self.earlier_certificates)} if self.earlier_certificates else {}
        streams = [{"stream": s.stream, "epoch": s.epoch, "tag": s.tag, "lane": s.lane} for s in self.streams]
        heads = {"heads": [head.decode() for head in self.heads]} if self.heads else {}
        return json.dumps(
            {"boot": self.boot, "boots": list(self.boots), "fence": self.fence, "log_certificate": self.log_certificate, "streams": streams, **earlier} | heads,
            ensure_ascii=False,
        ).encode()  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirStream:
    """A log as the gateway holds it. `key`: the id of the log key in force at its end; empty where there is none yet, or it is not told."""

    stream: str
    epoch: int
    tag: str
    size: int
    root: bytes
    key: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAnswer:
    """The fence for this start, which ledger this is, and what it holds. `cosign_certificate` is PEM; `held`: outflows wait for a person.

    `context`: bytes of records already sent that a batch may be compressed with; a gateway from before that says nothing, and takes none.
    """

    fence: str
    ledger: str
    cosign_certificate: str
    held: bool
    streams: tuple[TheirStream, ...]
    context: int = 0

    def encode(self) -> bytes:
        """The answer's JSON."""
        streams = [
            {"stream": s.stream, "epoch": s.epoch, "tag": s.tag, "size": s.size, "root": s.root.hex()}
            | ({"key": s.key.hex()} if s.key else {})
            for s in self.streams
        ]
        more = {"context": self.context} if self.context else {}
        return json.dumps(
            {"fence": self.fence, "ledger": self.ledger, "cosign_certificate": self.cosign_certificate, "held": self.held, **more, "streams": streams}
        ).encode()  # fmt: skip


def read_request(data: bytes) -> SessionRequest:
    """Read a session request. Raises BadBatch."""
    found = _object(data)
    try:
        request = SessionRequest(
            boot=found["boot"], boots=tuple(found["boots"]), fence=found["fence"], log_certificate=found["log_certificate"],
            streams=tuple(
                OwnStream(stream=s["stream"], epoch=s["epoch"], tag=s["tag"], lane=s["lane"]) for s in found["streams"]
            ),
            heads=_heads(found.get("heads", [])),
            earlier_certificates=tuple(found.get("earlier_certificates", ())),
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise BadBatch("session request fields are missing") from error
    boots = (request.boot, *request.boots)
    if len(boots) > BOOTS_MAX or not all(isinstance(boot, str) and BOOT.fullmatch(boot) for boot in boots):
        raise BadBatch("boot ids are 32 hex digits")
    certificates = (request.log_certificate, *request.earlier_certificates)
    if not (request.fence == "" or _token(request.fence)) or not all(map(_ascii, certificates)):
        raise BadBatch("fence and certificate are ASCII text")
    if len(certificates) > 1 + EARLIER_KEYS_MAX:
        raise BadBatch("too many certificates of earlier log keys")
    if len(request.streams) > STREAMS_MAX or not all(
        _good(s.stream, s.epoch, s.tag) and s.lane in LANES for s in request.streams
    ):
        raise BadBatch("a stream's name, epoch, tag or lane is out of range")
    if len({s.stream for s in request.streams}) != len(request.streams):
        raise BadBatch("a stream is named twice")
    return request


def read_answer(data: bytes) -> SessionAnswer:
    """Read a session answer. Raises BadBatch."""
    found = _object(data)
    try:
        answer = SessionAnswer(
            fence=found["fence"], ledger=found["ledger"], cosign_certificate=found["cosign_certificate"], held=found["held"],
            streams=tuple(read_their(s) for s in found["streams"]), context=found.get("context", 0),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise BadBatch("session answer fields are missing") from error
    if not (_token(answer.fence) and _token(answer.ledger) and _ascii(answer.cosign_certificate)):
        raise BadBatch("fence, ledger and certificate are ASCII text")
    if type(answer.held) is not bool or len({s.stream for s in answer.streams}) != len(answer.streams):
        raise BadBatch("held is no truth value, or a stream is named twice")
    if type(answer.context) is not int or not 0 <= answer.context <= SIZE_MAX:
        raise BadBatch("context is no number of bytes")
    return answer


def read_told(data: bytes) -> Told:
    """Read the answer to a question for a root. Raises BadBatch."""
    found = _object(data)
    try:
        opening = found.get("opening", "").encode()
        told = Told(tag=found["tag"], size=found["size"], root=bytes.fromhex(found["root"]), opening=opening)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadBatch("a root is not told") from error
    if (
        type(told.size) is not int
        or not 0 <= told.size <= SIZE_MAX
        or len(told.root) not in {0, HASH_BYTES}
        or not isinstance(told.tag, str)
        or len(opening) > NOTE_BYTES_MAX
    ):
        raise BadBatch("what is told of a log is out of range")
    return told


def read_taken(data: bytes, stream: str) -> TheirStream:
    """Read the answer to an opening statement. Raises BadBatch."""
    return read_their({**_object(data), "stream": stream})


def read_receipt(data: bytes) -> bytes:
    """The receipt in the answer to an opening statement; empty where a gateway gives none. Nothing of it is believed before it verifies."""
    found = _object(data).get("receipt", "")
    return found.encode("utf-8", "replace") if isinstance(found, str) else b""


def read_their(found: Mapping[str, Any]) -> TheirStream:
    """Read where a log ends, of a session's answer or (with the stream's name added) of a rewind. Raises BadBatch."""
    try:
        stream = TheirStream(
            stream=found["stream"],
            epoch=found["epoch"],
            tag=found["tag"],
            size=found["size"],
            root=bytes.fromhex(found["root"]),
            key=bytes.fromhex(found.get("key", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadBatch("where the log ends is not said") from error
    in_range = (
        type(stream.size) is int
        and 0 <= stream.size <= SIZE_MAX
        and len(stream.root) == HASH_BYTES
        and len(stream.key) in {0, KEY_ID_BYTES}
    )
    if not in_range or not _good(stream.stream, stream.epoch, stream.tag):
        raise BadBatch("a stream of the answer is out of range")
    return stream


def _heads(found: object) -> tuple[bytes, ...]:
    if not isinstance(found, list) or len(found) > HEADS_MAX:
        raise BadBatch("the heads are no list, or too many")
    try:
        heads = tuple(note.encode() for note in found)
    except (AttributeError, UnicodeEncodeError) as error:
        raise BadBatch("a head is no text") from error
    if any(len(head) > NOTE_BYTES_MAX for head in heads):
        raise BadBatch("a head is too long")
    return heads


def _token(text: object) -> bool:
    return isinstance(text, str) and TOKEN.fullmatch(text) is not None


def _ascii(text: object) -> bool:
    # PEM is ASCII; and JSON may carry lone surrogates, which no later step could encode
    return isinstance(text, str) and text.isascii()


def _good(stream: object, epoch: object, tag: object) -> bool:
    return (
        isinstance(stream, str) and NAME.fullmatch(stream) is not None
        and type(epoch) is int and 1 <= epoch <= EPOCH_MAX
        and isinstance(tag, str) and TAG.fullmatch(tag) is not None
    )  # fmt: skip


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > SESSION_BYTES_MAX:
        raise BadBatch("session message too long")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadBatch("session message is not JSON") from error
    if not isinstance(found, dict):
        raise BadBatch("session message is not an object")
    return found
