"""What a refusal of a stick means, whose fault it is, and what to do: for the person who imports it."""

from typing import Final

from gateway.errors import GatewayFull, TooManyStreams
from sync.errors import BadSeal, Fault, UnknownSealKey

REFUSALS: Final[dict[str, tuple[Fault, str]]] = {
    "damaged": ("site", "A file is worn or missing. The receipts tell the node what was taken: bring the stick back, and export again."),
    "bad-seal": (BadSeal.fault, BadSeal.hint),
    "unknown-key": (UnknownSealKey.fault, UnknownSealKey.hint),
    "rewind": ("site", "What comes before is not here: import the earlier stick first. Else bring this one back: the next export obeys the answer on it."),
    "fork": ("centre", "The ledger holds other records there: a copy or a restored backup (GWY-12). Bring it back: the node goes on under a further epoch."),
    "bad-batch": ("node", "A batch is not this node's, or was forged. Keep the stick, and find out where it has been."),
    "bad-opening": ("node", "The statement of a further epoch is not this node's, or was forged. Keep the stick, and find out where it has been."),
    "bad-key": ("node", "Another log key signed than the one in force: forged, or its certificate is not good (GWY-22). Keep the stick, and ask the site."),
    "unknown-dictionary": ("centre", "A batch needs a dictionary that is not held here. Bring the gateway up to date, and import again."),
    "full": (GatewayFull.fault, f"{GatewayFull.hint} Then import again."),
    "too-many-streams": (TooManyStreams.fault, TooManyStreams.hint),
    "busy": ("centre", "The ledger was busy for too long. Nothing was lost: import again."),
}  # fmt: skip
"""By the code of the answer: docs/wire.md, section 7.4."""


def explained(code: str) -> str:
    """The code with whose fault it is and what to do."""
    fault, hint = REFUSALS.get(code, ("centre", "Look at the gateway's log."))
    return f"{code} ({fault}). {hint}"
