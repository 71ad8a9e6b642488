"""What a line, a broken device or an attacker makes of bytes, whatever language they are in: each of a kind of fuzzing, with its own marks and words.

The dice are thrown in an order that is part of a seed's meaning: a campaign's failure is brought back by its number alone.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

Mutator = Callable[[bytes, random.Random], bytes]
Place = Callable[[bytes, random.Random], int]


def anywhere(raw: bytes, dice: random.Random) -> int:
    """A place in it, its end too."""
    return dice.randrange(len(raw) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutations:
    """`place` says where; `drops` and `doubles`: how many bytes; `skips`: how many a word takes the place of, none of them without a throw."""

    marks: tuple[bytes, ...]
    words: tuple[bytes, ...]
    drops: tuple[int, ...]
    doubles: tuple[int, ...]
    skips: tuple[int, ...] = ()
    place: Place = anywhere

    def flip(self, raw: bytes, dice: random.Random) -> bytes:
        """Another byte."""
        at = self.place(raw, dice)
        return raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :]

    def drop(self, raw: bytes, dice: random.Random) -> bytes:
        """Some bytes are gone."""
        at = self.place(raw, dice)
        return raw[:at] + raw[at + dice.choice(self.drops) :]

    def double(self, raw: bytes, dice: random.Random) -> bytes:
        """Some bytes come twice."""
        at, many = self.place(raw, dice), dice.choice(self.doubles)
        return raw[: at + many] + raw[at:]

    def mark(self, raw: bytes, dice: random.Random) -> bytes:
        """A mark, or many, more or instead of a byte."""
        at = self.place(raw, dice)
        return raw[:at] + dice.choice(self.marks) * dice.choice((1, 1, 1, 2, 30)) + raw[at + dice.choice((0, 1)) :]

    def word(self, raw: bytes, dice: random.Random) -> bytes:
        """A word that means something in the language."""
        at = self.place(raw, dice)
        return raw[:at] + dice.choice(self.words) + raw[at + (dice.choice(self.skips) if self.skips else 0) :]

    def other_mark(self, raw: bytes, dice: random.Random) -> bytes:
        """One mark becomes another, once or everywhere."""
        return raw.replace(dice.choice(self.marks), dice.choice(self.marks), dice.choice((-1, 1, 5)))

    def cut(self, raw: bytes, dice: random.Random) -> bytes:
        """Its end, or its beginning, is gone."""
        at = self.place(raw, dice)
        return raw[at:] if dice.random() < 0.3 else raw[:at]
