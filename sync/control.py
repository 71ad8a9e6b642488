"""Control records: what a log says of itself, beside the messages in it (docs/wire.md, section 3.1)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from sync.errors import NotAName, NotARecord
from sync.header import Header, common_start, encode_particulars
from sync.log import SIZE_MAX
from sync.names import EPOCH_MAX, check_name
from sync.record import Draft, Kind, Verdict

CONTENT_TYPE: Final = "application/vnd.wasl.control+json"
FEED: Final = "wasl"  # no source said this: the node itself did
HOLE: Final = "hole"
LOST: Final = ("body", "header", "all")
WORD = re.compile(r"[a-z][a-z-]{0,31}")  # kinds and reasons are words of ours, never text of somebody else's
BODY_BYTES_MAX = 64 * 1024  # a statement names positions and roots: hundreds of bytes

Members = Mapping[str, Any]  # JSON without floats: their shortest form is nobody's agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a statement was made, by the node's clock and how far that is to be trusted."""

    received_us: int
    clock_state: int
    clock_error_us: int


def draft(kind: str, members: Members, *, stream: str, facility: str, at: Moment) -> Draft:
    """A control record of this kind, before it has its position. ValueError for a kind or members that cannot be written."""
    if not WORD.fullmatch(kind):
        raise ValueError(f"{kind!r} is no kind of control record")
    common = common_start(kind=Kind.CONTROL, facility=facility, feed=FEED, content_type=CONTENT_TYPE)
    return Draft(
        stream=stream, common=common, message_type=kind, received_us=at.received_us, clock_state=at.clock_state,
        clock_error_us=at.clock_error_us, verdict=int(Verdict.ACCEPTED), particulars=encode_particulars(()), body=encode(members),
    )  # fmt: skip


def encode(members: Members) -> bytes:
    """The one form of a statement: JSON with sorted keys, no spaces, UTF-8. ValueError for a float or what JSON does not have."""
    _check(members)
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode(header: Header, body: bytes) -> tuple[str, dict[str, Any]]:
    """Kind and members of a control record. Raises NotARecord where it is none, or not in its one form."""
    if (
        header.kind is not Kind.CONTROL
        or header.content_type != CONTENT_TYPE
        or not WORD.fullmatch(header.message_type)
    ):
        raise NotARecord("not a control record")
    if len(body) > BODY_BYTES_MAX:
        raise NotARecord("a control record is too long")
    try:
        members = json.loads(body)
        again = encode(members) if isinstance(members, dict) else b""
    except (ValueError, TypeError, RecursionError) as error:
        raise NotARecord("a control record is not JSON") from error
    if again != body:
        raise NotARecord("a control record is not in its one form")
    return header.message_type, members


def _check(value: object) -> None:
    match value:
        case bool() | str() | None:
            return
        case int() if -SIZE_MAX <= value <= SIZE_MAX:
            return
        case Mapping() if all(isinstance(key, str) for key in value):
            for each in value.values():
                _check(each)
            return
        case list() | tuple():
            for each in value:
                _check(each)
            return
    raise ValueError(f"a statement holds no {type(value).__name__}")


# -- holes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Positions first..last of which something is lost: the body, the header too, or all of them; `why` is a word of ours."""

    stream: str
    epoch: int
    first: int
    last: int
    lost: Literal["body", "header", "all"]
    why: str

    def members(self) -> Members:
        """What the record's body says."""
        return {
            "epoch": self.epoch,
            "first": self.first,
            "last": self.last,
            "lost": self.lost,
            "stream": self.stream,
            "why": self.why,
        }

    def draft(self, *, facility: str, at: Moment) -> Draft:
        """The record that explains it, for its own stream."""
        return draft(HOLE, self.members(), stream=self.stream, facility=facility, at=at)


def read_hole(members: Members) -> Hole:
    """The hole that a control record of kind `hole` names; members that are not known are left alone. Raises NotARecord."""
    stream, epoch, first, last = (members.get(name) for name in ("stream", "epoch", "first", "last"))
    lost, why = members.get("lost"), members.get("why")
    if type(epoch) is not int or type(first) is not int or type(last) is not int or not 0 < epoch <= EPOCH_MAX:
        raise NotARecord("a hole without its place")
    if not 0 <= first <= last <= SIZE_MAX or lost not in LOST or not isinstance(why, str) or not WORD.fullmatch(why):
        raise NotARecord("a hole that names nothing")
    try:
        named = check_name(stream if isinstance(stream, str) else "")
    except NotAName as error:
        raise NotARecord("a hole of no stream") from error
    return Hole(
        stream=named, epoch=epoch, first=first, last=last, lost=cast('Literal["body", "header", "all"]', lost), why=why
    )  # fmt: skip
