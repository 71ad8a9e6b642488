"""What a gateway says home by hand of a stream it was brought, signed; and what the node does on that word (docs/wire.md, section 7.4).

A stick has no session in which roots are asked for: so the gateway compares the leaves that it was brought with those that it holds, and says
where the two part. The node compares each root with its own before it does anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sync.checkpoint import SIZE, sign_text, text_of_one
from sync.errors import BadAnswer, BadOpening, NotAName, NotANote
from sync.keys import Signer, Verifier
from sync.log import SIZE_MAX
from sync.names import NAME, check_name
from sync.opening import End, read_end, read_opening
from sync.sender_events import OwnLog
from sync.session import TOKEN

FORM = "wasl-answer/1"
HELD_MAX = 64  # as many foreign epochs as a node looks into over the link (sync.agreement)
ANSWER_BYTES_MAX = 32 * 1024  # HELD_MAX lines of the longest names
PARTED = frozenset({"fork", "rewind"})  # refusals which say that the two hold something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`newest`: the stream's newest log at the gateway (None: it holds none), at `time` (POSIX seconds, UTC). `refused`: a code, or empty.

    `common`: up to where one of the node's logs is held as it was brought; `held`: the gateway's other logs whose first records are those
    that follow from there, one after the other: carried there by a start that the node has forgotten. `differs`: what was brought goes on with something else
    there; else it only ends there.
    """

    node: str
    stream: str
    ledger: str
    time: int
    refused: str
    newest: End | None
    common: End | None
    held: tuple[End, ...] = ()
    differs: bool = False

    def text(self) -> str:
        """The signed text, a fact a line."""
        ends = (("newest", self.newest), ("common", self.common), *(("held", each) for each in self.held))
        differs = "yes" if self.differs else "no"
        lines = "".join(f"{word} none\n" if end is None else end.line(word) for word, end in ends)
        return f"{FORM}\n{self.node}/{self.stream}\n{self.ledger}\n{self.time}\nrefused {self.refused or '-'}\ndiffers {differs}\n{lines}"


def sign_answer(answer: Answer, signer: Signer) -> bytes:
    """The answer as a note signed by the receipt key."""
    return sign_text(answer.text(), signer)


def open_answer(data: bytes, verifier: Verifier) -> Answer:
    """Read and verify an answer. Raises BadAnswer, BadSignature."""
    try:
        return _parse(text_of_one(data, verifier, most=ANSWER_BYTES_MAX))
    except (NotANote, NotAName, BadOpening) as error:
        raise BadAnswer(str(error)) from error


def _parse(text: str) -> Answer:
    lines = text.split("\n")
    if not 9 <= len(lines) <= 9 + HELD_MAX or lines[0] != FORM or not TOKEN.fullmatch(lines[2]):
        raise BadAnswer("not an answer")
    node, _, stream = lines[1].partition("/")
    refused = lines[4].removeprefix("refused ")
    if not SIZE.fullmatch(lines[3]) or int(lines[3]) > SIZE_MAX or not (refused == "-" or NAME.fullmatch(refused)):
        raise BadAnswer("no time, or no code")
    answer = Answer(
        node=check_name(node), stream=check_name(stream), ledger=lines[2], time=int(lines[3]), refused=refused.removeprefix("-"),
        differs=lines[5] == "differs yes", newest=_end(lines[6], "newest"), common=_end(lines[7], "common"),
        held=tuple(read_end(line, "held") for line in lines[8:-1]),
    )  # fmt: skip
    if answer.text() != text:
        raise BadAnswer("the answer is not in its form")
    named = [end.origin for end in (answer.newest, answer.common, *answer.held) if end is not None]
    if any((origin.node, origin.stream) != (node, stream) for origin in named):
        raise BadAnswer("the answer names another stream")
    return answer


def _end(line: str, word: str) -> End | None:
    return None if line == f"{word} none" else read_end(line, word)


# -- what the node does --------------------------------------------------------------------------------------------------


class Resume(NamedTuple):
    """Go on in this one of the stream's logs, from the gateway's size."""

    at: int
    size: int


@dataclass(frozen=True, slots=True)
class Further:
    """A further epoch is needed. `place`, `own`: see sync.agreement.Agreed; `theirs`: the gateway's newest log; `code`: the alarm."""

    epoch: int
    place: int
    own: int
    theirs: End
    code: str


RootAt = Callable[[OwnLog, int], bytes]
RootOf = Callable[[int, int], bytes]


def next_step(
    answer: Answer, logs: Sequence[OwnLog], root_at: RootAt, root_of: RootOf, *, unfit: bool = False
) -> Resume | Further | None:
    """What an answer of the stream whose logs these are, oldest first, asks for; None: nothing, go on from the receipts.

    `root_at(log, size)`: our root; `root_of(start, size)`: that over rows of the stream's run; `unfit`: a receipt came with it that is of other
    records than ours. Judged as a session's word is by the sender.
    """
    newest = answer.newest
    if newest is None:
        return Resume(0, 0)
    at = next((n for n, log in enumerate(logs) if log.origin == newest.origin), None)
    if at is None:
        # taken all the same, beside a later epoch of a copy of us; or we have gone on under a further epoch already
        if not (unfit or answer.refused in PARTED) or _is_foretold(logs[-1], newest):
            return None
        code = "SYN-22"
    elif newest.size > logs[at].size:
        if at < len(logs) - 1 and not _is_parted(answer, logs, root_at):
            return Resume(at + 1, 0)  # what a backup has made us forget: the next one's statement says so
        code = "SYN-21"
    elif root_at(logs[at], newest.size) == newest.root:
        return Resume(at, newest.size)
    else:
        code = "SYN-20"
    own, is_told = _common(answer, logs, root_at)
    end = logs[-1].start + logs[-1].size
    place = _held(answer, own, end, root_of)
    if not (answer.differs or (is_told and place == end)):
        return None  # what was brought ended before the two part: the next export brings all, and its answer says where
    return Further(max(newest.origin.epoch, logs[-1].origin.epoch) + 1, place, own, newest, code)


def _is_foretold(log: OwnLog, newest: End) -> bool:
    """Whether our newest log was opened because of just that log of the gateway's."""
    theirs = read_opening(log.opening).theirs if log.opening else None
    return theirs is not None and theirs.origin == newest.origin


def _is_parted(answer: Answer, logs: Sequence[OwnLog], root_at: RootAt) -> bool:
    """Whether the two part within one of our logs as it is now: one that was cut there has a later one that says so."""
    log = _log_of_common(answer, logs, root_at)
    return answer.refused in PARTED and log is not None and answer.common is not None and answer.common.size < log.size


def _log_of_common(answer: Answer, logs: Sequence[OwnLog], root_at: RootAt) -> OwnLog | None:
    """Our log in which the gateway says that the two part, where its root there is ours."""
    end = answer.common
    found = next((log for log in logs if end is not None and log.origin == end.origin and end.size <= log.size), None)
    return found if found is not None and end is not None and root_at(found, end.size) == end.root else None


def _common(answer: Answer, logs: Sequence[OwnLog], root_at: RootAt) -> tuple[int, bool]:
    """The row of our run from which on the gateway does not hold ours, and whether it said so; where it could not, from our last receipt on."""
    found = _log_of_common(answer, logs, root_at)
    if found is not None and answer.common is not None:
        return found.start + answer.common.size, True
    return max((log.start + log.receipted for log in logs if log.receipted), default=logs[0].start), False


def _held(answer: Answer, place: int, end: int, root_of: RootOf) -> int:
    for each in answer.held:
        if place + each.size > end or root_of(place, each.size) != each.root:
            break
        place += each.size
    return place
