"""What can be wrong with a serial port. Each is an alarm while it lasts, and the cause that a gap record names; and what its opening raises."""

from typing import Final

from node.errors import Fault

AWAY, TAKEN, CANNOT, NOISE, STALLED, NO_ROOM, NOT_RUNNING = (
    "SER-01",
    "SER-02",
    "SER-03",
    "SER-04",
    "SER-05",
    "SER-06",
    "SER-07",
)

ALARMS: Final[dict[str, tuple[Fault, str]]] = {
    AWAY: (
        "site",
        "A device's port is not there: cable or adapter unplugged, or the device server off. Plug it in; what was printed meanwhile, print again.",
    ),
    TAKEN: (
        "site",
        "Another program has this device's serial port open. Stop it: two programs on one port take each other's bytes.",
    ),
    CANNOT: (
        "site",
        "This serial adapter cannot do the configured rate, bits or parity. Compare with the device's manual, or use another adapter.",
    ),
    NOISE: (
        "site",
        "What comes on a serial line looks like a wrong baud rate or parity. `wasl devices line` finds the right ones while the device sends.",
    ),
    STALLED: (
        "site",
        "A device does not take what is sent to it: its flow control holds the line, or the cable lacks a wire. Set flow to none, or change the cable.",
    ),
    NO_ROOM: (
        "site",
        "A report came while there was no room to store it, and its device cannot be asked again. Make room, then print it again.",
    ),
    NOT_RUNNING: (
        "node",
        "The node did not run for a while, so what devices printed then is not here. The time is recorded as a gap; print again what is missing.",
    ),
}
"""Raised without an exception: code, whose fault, what to do."""


class PortTaken(OSError):
    """Another program has the port."""


class CannotSet(OSError):
    """The adapter or its driver does not do this rate, these bits or this parity."""


def code_of(error: OSError) -> str:
    """Why a port is away."""
    return TAKEN if isinstance(error, PortTaken) else CANNOT if isinstance(error, CannotSet) else AWAY
