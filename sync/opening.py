"""Opening statements: how a node says, signed, that a stream goes on under a further epoch, and from where (docs/wire.md, section 5.2)."""

import base64
import binascii
from dataclasses import dataclass

from sync.checkpoint import SIZE, Note, parse_note, sign_text, text_of_one
from sync.errors import BadOpening, NotAName, NotANote
from sync.keys import Signer, Verifier
from sync.log import HASH_BYTES, SIZE_MAX
from sync.names import Origin

FORM = "wasl-opening/1"


@dataclass(frozen=True, slots=True)
class End:
    """Where a log ends, or where two agree: its size and root there."""

    origin: Origin
    size: int
    root: bytes

    def line(self, word: str) -> str:
        """The line as it stands in the statement."""
        return f"{word} {self.origin} {self.size} {base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """`opened` is the new log. `theirs`: the newest that the gateway has, as the node was told (None: opened without a link).

    `own`: the node's newest before. `common`: up to where the gateway holds what the node has; the node's records from there on, `carried`
    of them, are the first of the new log. What the gateway holds beyond `common` and the node does not is the hole.
    """

    opened: Origin
    theirs: End | None
    own: End
    common: End
    carried: int

    @property
    def hole(self) -> tuple[int, int]:
        """Positions (first, end) of the gateway's log that the node no longer holds; equal where there are none, or it cannot know."""
        if self.theirs is None or self.theirs.origin != self.common.origin:
            return (0, 0)
        return (self.common.size, self.theirs.size)

    def text(self) -> str:
        """The signed text, a fact a line."""
        theirs = "gateway unknown\n" if self.theirs is None else self.theirs.line("gateway")
        own, common, (first, end) = self.own.line("node"), self.common.line("common"), self.hole
        return f"{FORM}\n{self.opened}\n{theirs}{own}{common}carried {self.carried}\nhole {first} {end}\n"


def sign_opening(opening: Opening, *signers: Signer) -> bytes:
    """The statement as a note signed by the log key; at a change of it by the one before, too, which comes first."""
    return sign_text(opening.text(), *signers)


def read_opening(data: bytes) -> Opening:
    """Read a statement without verifying it: the node's own, of which the store is trusted no more than a gateway trusts it. Raises BadOpening."""
    try:
        return parse_opening(parse_note(data))
    except NotANote as error:
        raise BadOpening(str(error)) from error


def parse_opening(note: Note) -> Opening:
    """Read a statement of which the note's form is known to be good, its signatures not yet. Raises BadOpening."""
    return _parse(note.text)


def open_opening(data: bytes, verifier: Verifier) -> Opening:
    """Read and verify a statement that one key alone signed. Raises BadOpening, BadSignature."""
    try:
        return _parse(text_of_one(data, verifier))
    except NotANote as error:
        raise BadOpening(str(error)) from error


def _parse(text: str) -> Opening:
    lines = text.split("\n")
    if len(lines) != 8 or lines[0] != FORM:
        raise BadOpening("not an opening statement")
    try:
        opened = Origin.parse(lines[1])
        theirs = None if lines[2] == "gateway unknown" else read_end(lines[2], "gateway")
        opening = Opening(
            opened=opened, theirs=theirs, own=read_end(lines[3], "node"), common=read_end(lines[4], "common"),
            carried=_number(lines[5].removeprefix("carried ")),
        )  # fmt: skip
    except NotAName as error:
        raise BadOpening(str(error)) from error
    if opening.text() != text:
        raise BadOpening("the statement is not in its form")
    named = [end.origin for end in (opening.theirs, opening.own, opening.common) if end is not None]
    if any(
        (origin.node, origin.stream) != (opened.node, opened.stream) or origin.epoch >= opened.epoch for origin in named
    ):
        raise BadOpening("the statement names another stream, or an epoch that is not before the one it opens")
    return opening


def read_end(line: str, word: str) -> End:
    """Read such a line. Raises BadOpening, NotAName."""
    parts = line.split(" ")
    if len(parts) != 4 or parts[0] != word:
        raise BadOpening(f"no line of the statement says {word}")
    try:
        root = base64.b64decode(parts[3], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadOpening("a root is not base64") from error
    if len(root) != HASH_BYTES:
        raise BadOpening("a root is not a hash")
    return End(Origin.parse(parts[1]), _number(parts[2]), root)


def _number(text: str) -> int:
    if not SIZE.fullmatch(text) or int(text) > SIZE_MAX:
        raise BadOpening("not a size")
    return int(text)
