"""Messages out of the texts of frames: a message runs from its header record to its terminator record, however frames divide it."""

from typing import Final, NamedTuple

from hl7.devices.astm_errors import MessageTooLong

CR: Final = b"\r"
_BLANK: Final = b"\r\n\0 "


class Part(NamedTuple):
    """A message, or what there is of one. `end`: of it, in bytes from the transfer's beginning."""

    body: bytes
    end: int
    is_whole: bool


class Assembly:
    """One transfer's text. What `take` adds is settled by `keep`, or taken back by `undo`."""

    def __init__(self, *, message_bytes_max: int, needs_terminator: bool) -> None:
        self._most = message_bytes_max
        self._needs_terminator = needs_terminator
        self._text = bytearray()  # of the message that is open
        self._before = 0  # bytes of the transfer before it
        self._looked = 0  # the records before this are known
        self._undo = (0, 0)
        self._cut = 0

    @property
    def end(self) -> int:
        """How many bytes the transfer has so far."""
        return self._before + len(self._text)

    @property
    def held(self) -> int:
        """How many bytes of it are in memory."""
        return len(self._text)

    @property
    def is_blank(self) -> bool:
        """Nothing is open behind the parts that `take` gave out."""
        return not self._text[self._cut :].strip(_BLANK)

    def take(self, text: bytes, *, is_end: bool) -> tuple[bytes, list[Part]]:
        """Add a frame's text: the bytes as they were added, and the messages that end with them. Raises MessageTooLong.

        A record ends with its frame, so a CR that its sender left out (LIS2-A2 5.3) is put there.
        """
        if is_end and not text.endswith(CR) and (text or (self._text and not self._text.endswith(CR))):
            text += CR
        if len(self._text) + len(text) > self._most:
            raise MessageTooLong(f"{len(self._text) + len(text)} bytes")
        self._undo = len(self._text), self._looked
        self._text += text
        return text, self._parts()

    def keep(self) -> None:
        """What was added is stored."""
        del self._text[: self._cut]
        self._before += self._cut
        self._looked = max(0, self._looked - self._cut)
        self._cut = 0

    def undo(self) -> None:
        """What was added is not stored: it will come again."""
        size, self._looked = self._undo
        del self._text[size:]
        self._cut = 0

    def finish(self, *, is_over: bool) -> Part | None:
        """The transfer ended; what is left of it. `is_over`: its sender said so, and a terminator may be left out."""
        left = bytes(self._text)
        if not left.strip(_BLANK):
            return None
        return Part(left, self.end, is_over and not self._needs_terminator and _is_header(left.lstrip(_BLANK)))

    def _parts(self) -> list[Part]:
        text, parts, start = self._text, list[Part](), 0
        while (end := text.find(CR, self._looked)) >= 0:
            record = bytes(text[self._looked : end]).lstrip(_BLANK)
            if _is_header(record) and text[start : self._looked].strip(_BLANK):
                parts.append(
                    Part(bytes(text[start : self._looked]), self._before + self._looked, not self._needs_terminator)
                )
                start = self._looked
            self._looked = end + 1
            if record[:1] in {b"L", b"l"} and not record[1:2].isalnum():
                parts.append(Part(bytes(text[start : end + 1]), self._before + end + 1, True))
                start = end + 1
        self._cut = start
        return parts


def _is_header(record: bytes) -> bool:
    return record[:1] in {b"H", b"h"} and len(record) >= 5 and not record[1:2].isalnum()
