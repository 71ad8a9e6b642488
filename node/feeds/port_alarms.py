"""The alarms of a feed's serial port: why it is away, that its device takes nothing, that its bytes look like a wrong rate or parity."""

from typing import Final

from hl7.devices.line_doctor import Condition
from node.alarms import Alarms
from node.lines.serial_errors import AWAY, CANNOT, NOISE, STALLED, TAKEN, code_of

WHILE_AWAY: Final = (AWAY, TAKEN, CANNOT)


class PortAlarms:
    """Raises them for one feed, and clears what is no longer so."""

    def __init__(self, alarms: Alarms, feed: str) -> None:
        self._alarms, self._feed = alarms, feed

    def opened(self) -> None:
        """The port is there and ours."""
        self._alarms.all_cleared((*WHILE_AWAY, STALLED), self._feed)

    def gone(self, error: OSError) -> str:
        """It is away; the code that says why."""
        code = code_of(error)
        self._alarms.all_cleared((each for each in (*WHILE_AWAY, STALLED) if each != code), self._feed)
        self._alarms.raised(code, self._feed)
        return code

    def stalled(self) -> None:
        """The device does not take what is sent to it."""
        self._alarms.raised(STALLED, self._feed)

    def flowing(self) -> None:
        """It takes it again."""
        self._alarms.cleared(STALLED, self._feed)

    def heard(self, condition: Condition) -> None:
        """What its bytes say of the settings."""
        match condition:
            case "wrong-rate" | "wrong-parity":
                self._alarms.raised(NOISE, self._feed)
            case "clear":
                self._alarms.cleared(NOISE, self._feed)
