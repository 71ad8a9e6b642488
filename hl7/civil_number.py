"""The civil number: the country's own key of a patient, among the identifiers of PID-3, and whether it can be one."""

import re
from dataclasses import dataclass
from dataclasses import field as _field
from typing import Final, Literal

from hl7.message import Message, Path
from hl7.routing import values_at

CheckRule = Literal["none", "luhn", "weighted"]
_IDENTIFIERS: Final = Path.parse("PID-3")
_IDENTIFIERS_MAX: Final = 32  # looked at in one message; a person has a handful


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B: as Saudi national identities and Emirates identities have it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def weighted(digits: str, weights: tuple[int, ...], modulus: int) -> bool:
    """The last digit is `modulus` less the weighted sum of the others, modulo `modulus`: Kuwait has 2 1 6 3 7 9 10 5 8 4 2 and 11."""
    if len(digits) != len(weights) + 1:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(weights, digits, strict=False))
    return modulus - total % modulus == int(digits[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class CivilNumber:
    """How a country writes its civil number. ValueError where pattern or weights cannot be.

    `authorities`: values of PID-3.4 (any of its subcomponents) that give it out; `types`: values of PID-3.5 that name it, such as NI.
    An identifier is the civil number if either names it. `pattern`: a regular expression over all of it, ASCII digits as `[0-9]`.
    """

    authorities: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    pattern: str = "[0-9]{6,15}"
    check: CheckRule = "none"
    weights: tuple[int, ...] = ()
    modulus: int = 11
    _compiled: re.Pattern[str] = _field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.authorities or self.types):
            raise ValueError("names neither an authority nor a type of identifier")
        if self.check == "weighted" and not (self.weights and 2 <= self.modulus <= 97):
            raise ValueError("needs weights, and a modulus from 2 to 97")
        try:
            object.__setattr__(self, "_compiled", re.compile(self.pattern))
        except re.error as error:
            msg = f"is no regular expression: {error}"
            raise ValueError(msg) from error

    def find(self, message: Message) -> str | None:
        """Give the patient's civil number as it stands in PID-3; None where there is none. What is no ASCII is shown escaped."""
        for number, identifier in enumerate(values_at(message, _IDENTIFIERS)):
            if number >= _IDENTIFIERS_MAX:
                return None
            parts = _parts(identifier, message.separators.component)
            authority = set(_parts(parts[3], message.separators.subcomponent)) if len(parts) > 3 else set()
            kind = parts[4] if len(parts) > 4 else b""
            if parts[0] and (self._names(authority) or kind.decode("utf-8", "replace") in self.types):
                return parts[0].decode("ascii", "backslashreplace")
        return None

    def _names(self, authority: set[bytes]) -> bool:
        return any(part.decode("utf-8", "replace") in self.authorities for part in authority)

    def is_valid(self, number: str) -> bool:
        """Tell whether it has the form, and the check digit where there is a rule."""
        if not number.isascii() or not self._compiled.fullmatch(number):
            return False
        if self.check == "none":
            return True
        if not number.isdecimal():
            return False
        return luhn(number) if self.check == "luhn" else weighted(number, self.weights, self.modulus)


def _parts(value: bytes, mark: int | None) -> list[bytes]:
    return [value] if mark is None else value.split(bytes([mark]))
