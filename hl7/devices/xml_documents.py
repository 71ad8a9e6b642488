"""XML documents that follow one another on a stream without frames: where each ends, for any cut of the bytes into pieces.

Only boundaries are looked for; whether a document is good XML is its reader's matter. Of encodings those that leave ASCII as it is.
"""

import re
from enum import Enum, auto
from typing import Final, NamedTuple

DEPTH_MAX: Final = 64  # POCT1-A nests ten deep
_SPACE: Final = b" \t\r\n"
_CDATA: Final = b"<![CDATA["
_TAG_MARK: Final = re.compile(rb"[>'\"]")


class Document(NamedTuple):
    """One document, from its first `<` to the end of its root element."""

    raw: bytes


class Flaw(Enum):
    """Why a stream can be read no further."""

    TOO_LONG = auto()
    DECLARATION = auto()  # <!DOCTYPE …: no entity is the sender's to define
    UNBALANCED = auto()
    CUT_OFF = auto()


class Broken(NamedTuple):
    """What came of a document that cannot be divided from what follows: all that was read, in reads of whatever size."""

    flaw: Flaw
    raw: bytes


class _State(Enum):
    CONTENT = auto()
    OPENED = auto()  # a "<", and not yet known of what
    TAG = auto()
    SINGLE = auto()  # inside '…'
    DOUBLE = auto()
    COMMENT = auto()
    CDATA = auto()
    INSTRUCTION = auto()


_ENDS: Final = {
    _State.COMMENT: b"-->",
    _State.CDATA: b"]]>",
    _State.INSTRUCTION: b"?>",
    _State.SINGLE: b"'",
    _State.DOUBLE: b'"',
}


class Divider:
    """Feed bytes, get documents. After a Broken it gives nothing more. Holds at most `octets_max` and one piece."""

    def __init__(self, octets_max: int) -> None:
        self._octets_max = octets_max
        self._held = bytearray()
        self._at = 0  # all before it is settled
        self._depth = 0
        self._state = _State.CONTENT
        self._tag_start = 0
        self._is_done = False
        self.noise_bytes = 0

    @property
    def held(self) -> int:
        """How many bytes of the document that is coming are in memory."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Document | Broken]:
        """Take a piece; what it completes."""
        if self._is_done:
            return []
        self._held += data
        events: list[Document | Broken] = []
        while not self._is_done and (end := self._step()):
            if isinstance(end, Flaw):
                events.append(self._break(end if self._at <= self._octets_max else Flaw.TOO_LONG))
            elif end > self._octets_max:
                events.append(self._break(Flaw.TOO_LONG))
            elif end > 0:
                events.append(Document(bytes(self._held[:end])))
                del self._held[:end]
                self._at = 0
        if not self._is_done and len(self._held) > self._octets_max:
            events.append(self._break(Flaw.TOO_LONG))
        return events

    def end(self) -> Broken | None:
        """There are no more bytes: what was cut off, if anything was."""
        if self._is_done or not self._held.strip(_SPACE):
            return None
        return self._break(Flaw.CUT_OFF)

    def _break(self, flaw: Flaw) -> Broken:
        self._is_done = True
        raw, self._held = bytes(self._held), bytearray()
        return Broken(flaw, raw)

    def _step(self) -> int | Flaw:
        """Settle one thing more: where a document ends, -1 for another thing, 0 where more bytes are needed."""
        state = self._state
        if state is _State.CONTENT:
            return self._content()
        if state is _State.OPENED:
            return self._opened()
        if state is _State.TAG:
            return self._tag()
        return self._until(state)

    def _content(self) -> int:
        held = self._held
        if not self._depth and not self._at:  # between documents: whatever is no "<" belongs to none
            found = held.find(b"<")
            skipped = len(held) if found < 0 else found
            self.noise_bytes += len(held[:skipped].translate(None, _SPACE))
            del held[:skipped]
            if not held:
                return 0
        found = held.find(b"<", self._at)
        if found < 0:
            self._at = len(held)
            return 0
        self._tag_start, self._state = found, _State.OPENED
        return -1

    def _opened(self) -> int | Flaw:
        head = bytes(self._held[self._tag_start : self._tag_start + len(_CDATA)])
        if head[1:2] == b"!":
            if head.startswith(b"<!--"):
                return self._go(_State.COMMENT, 4)
            if head == _CDATA:
                return self._go(_State.CDATA, len(_CDATA))
            known = next((n for n in range(2, len(head) + 1) if not _is_open(head[:n])), 0)
            self._at = self._tag_start + known  # up to here it had to be read: beyond the bound it was too long before
            return Flaw.DECLARATION if known else 0
        if head[1:2] == b"?":
            return self._go(_State.INSTRUCTION, 2)
        return self._go(_State.TAG, 1) if len(head) > 1 else 0

    def _go(self, state: _State, length: int) -> int:
        self._state, self._at = state, self._tag_start + length
        return -1

    def _until(self, state: _State) -> int:
        mark = _ENDS[state]
        found = self._held.find(mark, self._at)
        if found < 0:  # its first bytes may be the last that are here
            self._at = max(self._at, len(self._held) - len(mark) + 1)
            return 0
        self._at = found + len(mark)
        self._state = _State.TAG if len(mark) == 1 else _State.CONTENT
        return -1

    def _tag(self) -> int | Flaw:
        held = self._held
        match = _TAG_MARK.search(held, self._at)
        if match is None:
            self._at = len(held)
            return 0
        found, self._at = match.start(), match.end()
        del match  # it would hold on to the buffer, which is shortened
        if held[found] != 0x3E:
            self._state = _State.SINGLE if held[found] == 0x27 else _State.DOUBLE
            return -1
        self._state = _State.CONTENT
        if held[self._tag_start + 1] == 0x2F:  # </
            self._depth -= 1
        elif held[found - 1] != 0x2F:  # not />
            self._depth += 1
        if not -1 < self._depth <= DEPTH_MAX:
            return Flaw.UNBALANCED
        return self._at if not self._depth else -1


def _is_open(head: bytes) -> bool:
    """Whether `<!` and what follows it may still become a comment or CDATA."""
    return _CDATA.startswith(head) or head == b"<!-"
