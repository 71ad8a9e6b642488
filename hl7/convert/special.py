"""All special rules by the names that the tables call them by."""

from typing import Final

from hl7.convert.special_message import MESSAGE
from hl7.convert.special_orders import ORDERS
from hl7.convert.special_values import OBSERVATIONS, Special

SPECIAL: Final[dict[str, Special]] = MESSAGE | OBSERVATIONS | ORDERS
