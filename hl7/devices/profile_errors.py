"""What can be wrong with a profile, or between a profile and what it is asked to read."""

from typing import ClassVar

from hl7.devices.errors import DeviceError
from hl7.errors import Fault


class FramingDiffers(DeviceError):
    """A feed's own keys cut or check its reports otherwise than the `[link]` of its profile, by which alone a stored report is read."""

    code = "PRF-02"
    fault: ClassVar[Fault] = "site"
    hint = "A feed's own keys cut reports otherwise than its profile, by which they are read later: results may be misread. Put them into the profile's [link]."


class ProfileProblem(DeviceError):
    """A profile's key is unknown, missing, or holds what it may not: `key` names it, the text says what is allowed."""

    code = "PRF-01"
    fault: ClassVar[Fault] = "site"
    hint = "A device profile cannot be read. The message names its key and what may stand there; `wasl devices show` prints a good one to start from."

    def __init__(self, key: str, allowed: str) -> None:
        super().__init__(f"{key}: {allowed}" if key else allowed)
        self.key = key
