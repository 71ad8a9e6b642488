"""Mutations of bytes: what a line, a broken device or an attacker makes of a session."""

import itertools
import random
from collections.abc import Sequence

from tests.byte_mutations import Mutations, Mutator, anywhere

SIZE_MAX = 6000  # of a mutant: an unmutated conversation has 3,000

MARKS = (
    *(b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\x15", b"\x17", b"\x0b", b"\x1c", b"\x1c\r", b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"\xff\0"),
    *(b"|", b"^", b"\\", b"&", b"~", b"<", b">", b"'", b'"', b"{", b"}", b"[", b"]", b",", b";", b":", b"=", b"/", b"-", b".", b" ", b"\t"),
)  # fmt: skip
WORDS = (
    *(b"H|\\^&|", b"H|@^\\|", b"\rL|1|N\r", b"\rR|1|^^^WBC|5\r", b"Q|1|^S\\^T&F&\r", b"O|2|S-2", b"C|1|I|x", b"&X0D&", b"&F&", b"&", b"\x0211", b"\x027"),
    *(b"MSH|^~\\&|", b"\rOBX|1|NM|", b"\\X0D\\", b"\\.br\\", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<!DOCTYPE x", b"<?x ", b"?>", b"</", b"/>", b"<a b='"),
    *(b'V="', b"&#0;", b"&x;", b"null", b"true", b"NaN", b"-0", b"1e999", b"1E-400", b"-", b"0x8000", b"----", b"<0.01", b">=5", b"9" * 20, b"9" * 400, b"1,5"),
    *(b"\\u0000", b"\\ud800", "مريم".encode(), b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xef\xbf\xbd", b"2026-13-45", b"99999999999999", b"00000000"),
    *(b"[" * 60, b'{"a":' * 60, b"<a>" * 70, b"x" * 300, b'""', b"#", b"+", b"$share/g/", b"a/b/#", b"\n[[quality]]\n", b"\n[codes]\n", b"(?P<", b"{99999999999}"),
    *(b"(a+)", b"(", b"'''", b'"""', b"\\", b"1979-05-27", b"0xFF", b"= [", b"inf", b"\nseparator = 1", b"code = 5", b"scale = 99", "٣".encode(), "²".encode()),
)  # fmt: skip

AT = Mutations(marks=MARKS, words=WORDS, drops=(1, 1, 3, 20, 200), doubles=(1, 4, 40, 250), skips=(0, 0, 1, 5))


def value(raw: bytes, dice: random.Random) -> bytes:
    """Another value between two marks."""
    at, mark = anywhere(raw, dice), dice.choice((b"|", b"^", b'"', b",", b" ", b"=", b"\r", b"\n", b":"))
    start = raw.find(mark, at) + 1
    end = raw.find(mark, start) if start else -1
    return raw[:start] + dice.choice(WORDS) + raw[end:] if end > 0 else raw


def lines(raw: bytes, dice: random.Random) -> bytes:
    end = dice.choice((b"\r", b"\n", b">", b","))
    parts = raw.split(end)
    at, other = dice.randrange(len(parts)), dice.randrange(len(parts))
    parts[at], parts[other] = parts[other], parts[at]
    return end.join(parts)


MUTATORS: tuple[Mutator, ...] = (
    *(AT.flip, AT.flip, AT.drop, AT.double, AT.mark, AT.mark, AT.word, AT.word, AT.other_mark, AT.cut), value, value, lines,
)  # fmt: skip


def mutated(raw: bytes, dice: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """A mutant; one in six is left as it is, one in twelve ends as another one does."""
    for _ in range(dice.choice((0, 1, 1, 2, 3, 8))):
        raw = dice.choice(MUTATORS)(raw, dice)
    if others and dice.random() < 0.08:
        other = dice.choice(others)
        raw = raw[: anywhere(raw, dice)] + other[anywhere(other, dice) :]
    return raw[:SIZE_MAX]


def pieces(raw: bytes, dice: random.Random) -> list[bytes]:
    """A cut of it into pieces, as reads give them; now and then single bytes where one of them matters."""
    many = dice.choice((1, 1, 1, 2, 4, 16))
    cuts = {dice.randrange(len(raw) + 1) for _ in range(many)}
    if many == 2:
        start = dice.randrange(len(raw) + 1)
        cuts |= set(range(start, min(start + 12, len(raw))))
    places = [0, *sorted(cuts), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(places) if end > start]
