"""What the bytes of a line say of its settings: a wrong rate, a wrong parity, nothing at all. Counts only; no byte is kept."""

import re
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

# Counts are halved at this: the verdict is of the last half a minute at 9600 baud under load, or the last few prints.
FORGOTTEN_AT: Final = 8192
ENOUGH: Final = 16  # of fewer bytes nothing can be told
MARKS_SHARE_MAX: Final = (
    0.02  # a good line of 15 m has none in a day; at a wrong rate every third byte lacks its stop bit
)
NOISE_SHARE_MAX: Final = (
    0.25  # 0x00, 0xFF and their kin: what long bits look like to a fast receiver, and short ones to a slow one
)
PRINTABLE_SHARE: Final = 0.85
TEXT_SHARE: Final = 0.95  # of marked bytes, were only their parity wrong

PLAIN: Final = bytes(range(0x20, 0x7F)) + b"\t\n\f\r"
FRAMING: Final = (
    b"\x01\x02\x03\x04\x05\x06\x0b\x15\x17\x1c"  # SOH to ACK, VT, NAK, ETB, FS: of the languages that devices speak
)
EVEN: Final = bytes(byte for byte in range(256) if byte.bit_count() % 2 == 0)
READABLE_7: Final = bytes(byte for byte in range(256) if byte & 0x7F in PLAIN + FRAMING)
# Letters of a code page are runs of high bytes beside plain text: names, units. Nobody writes a word of more; noise does.
LETTERS_MAX: Final = 40
_LETTERS: Final = re.compile(rb"(?<=t)h{1,%d}(?=t)" % LETTERS_MAX)
_KINDS: Final = bytes(ord("h") if byte >= 0x80 else ord("t") if byte in PLAIN else ord("x") for byte in range(256))
SMEARED: Final = b"\x00\xff\x80\xc0\xe0\xf0\xf8\xfc\xfe"

Condition = Literal["silent", "clear", "binary", "wrong-rate", "wrong-parity"]


@dataclass(slots=True)
class Heard:
    """Counts of a line's bytes. `marks`: those with a wrong parity or stop bit."""

    total: int = 0
    marks: int = 0
    zeros: int = 0
    ones: int = 0
    smeared: int = 0
    readable: int = 0
    readable_7: int = 0  # were the highest bit a parity
    high: int = 0
    letters: int = 0  # high bytes that may be letters of a code page such as Windows-1256
    even: int = 0
    enquiries: int = 0
    flow: int = 0  # XON and XOFF
    _open: bytes = field(default=b"", repr=False)  # the kinds, not the values, of the bytes of a run that goes on

    def take(self, data: bytes, marks: int = 0) -> None:
        """Count these."""
        if self.total >= FORGOTTEN_AT:
            for each in fields(self):
                if each.name != "_open":
                    setattr(self, each.name, getattr(self, each.name) // 2)
        self.total += len(data)
        self.marks += marks
        self.zeros += data.count(0)
        self.ones += data.count(0xFF)
        self.enquiries += data.count(5)
        self.flow += data.count(0x11) + data.count(0x13)
        self.smeared += _of(data, SMEARED)
        self.readable += _of(data, PLAIN + FRAMING)
        self.readable_7 += _of(data, READABLE_7)
        self.high += len(data) - len(data.translate(None, bytes(range(0x80, 0x100))))
        self.even += _of(data, EVEN)
        self.letters += self._letters(data)

    def _letters(self, data: bytes) -> int:
        """High bytes in runs that end within these bytes, with plain text before and behind."""
        kinds = self._open + data.translate(_KINDS)
        run = len(kinds) - len(kinds.rstrip(b"h"))
        self._open = kinds[-run - 1 :] if run <= LETTERS_MAX else b"x"
        return sum(len(found) for found in _LETTERS.findall(kinds))

    @property
    def text(self) -> int:
        """Bytes that may be text: readable in any code page, and letters of one."""
        return self.readable + self.letters

    def share(self, count: int) -> float:
        """A count as a share of all bytes."""
        return count / self.total if self.total else 0.0

    @property
    def has_parity_as_data(self) -> bool:
        """Whether the highest bit is the parity of the others: 7E1 or 7O1 read as 8N1."""
        is_one = self.even in {0, self.total}
        return self.share(self.high) > 0.2 and is_one and self.share(self.readable_7) > PRINTABLE_SHARE

    @property
    def condition(self) -> Condition:
        """What the counts say. Text in another alphabet, and binary, are no fault: only marks and smeared bytes are."""
        if self.total < ENOUGH:
            return "silent"
        if self.share(self.marks) > MARKS_SHARE_MAX:
            return "wrong-parity" if self.share(self.readable_7) > TEXT_SHARE else "wrong-rate"
        if self.has_parity_as_data:
            return "wrong-parity"
        is_noisy = self.share(self.smeared) > NOISE_SHARE_MAX
        if self.share(self.readable) > PRINTABLE_SHARE or (self.share(self.text) > PRINTABLE_SHARE and not is_noisy):
            return "clear"
        return "wrong-rate" if is_noisy else "binary"

    def document(self) -> dict[str, Any]:
        """For the status document."""
        return {
            "condition": self.condition, "heard": self.total, "marks": self.marks, "zeros": self.zeros, "ones": self.ones,
            "readable": round(self.share(self.readable), 3), "letters": round(self.share(self.letters), 3), "enquiries": self.enquiries, "xon_xoff": self.flow,
        }  # fmt: skip


def _of(data: bytes, some: bytes) -> int:
    return len(data) - len(data.translate(None, some))
