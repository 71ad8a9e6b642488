"""How the country writes its civil number: the table of the configuration that says so."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hl7.civil_number import CivilNumber
from node.config.kinds import Table, Text


class Civil(Table):
    """How the country writes its civil number, the patient's key among the identifiers of PID-3. Counted where missing or wrong, never refused."""

    # Values of PID-3.4 that give it out, and of PID-3.5 that name it: either makes an identifier the civil number.
    authorities: tuple[Text, ...] = ()
    types: tuple[Text, ...] = ()
    pattern: Annotated[str, Field(max_length=200)] = "[0-9]{6,15}"
    check: Literal["none", "luhn", "weighted"] = "none"
    # Of `weighted`: the last digit is the modulus less the weighted sum of the others.
    weights: Annotated[tuple[int, ...], Field(max_length=32)] = ()
    modulus: int = 11

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.rule()
        return self

    def rule(self) -> CivilNumber:
        """Give it as the messages are looked at. ValueError where it cannot be."""
        return CivilNumber(
            authorities=self.authorities, types=self.types, pattern=self.pattern, check=self.check, weights=self.weights, modulus=self.modulus
        )  # fmt: skip
