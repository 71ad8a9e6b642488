"""What can be wrong with a profile, or between a profile and what it is asked to read."""

from typing import ClassVar

from hl7.devices.errors import DeviceError
from hl7.errors import Fault


class ProfileProblem(DeviceError):
    """A profile's key is unknown, missing, or holds what it may not: `key` names it, the text says what is allowed."""

    code = "PRF-01"
    fault: ClassVar[Fault] = "site"
    hint = "A device profile cannot be read. The message names its key and what may stand there; `wasl devices show` prints a good one to start from."

    def __init__(self, key: str, allowed: str) -> None:
        super().__init__(f"{key}: {allowed}" if key else allowed)
        self.key = key
