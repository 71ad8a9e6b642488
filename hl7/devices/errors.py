"""What can be wrong with what a device sends. Each language has its own classes beside its machine; they all derive from DeviceError."""

from typing import ClassVar, Literal

from hl7.errors import Fault

DeviceReply = Literal["NAK", "AE", "no PUBACK", "none"]


class DeviceError(Exception):
    """An error of a device's language: whose fault it is, and what the device is told.

    `code`: stable name. `fault`: who has to act. `reply`: what the device gets, or none where it waits for nothing.
    `hint`: for a technician. `retryable`: the same bytes may pass later.
    """

    code: ClassVar[str] = "DEV-00"
    fault: ClassVar[Fault] = "source"
    reply: ClassVar[DeviceReply] = "none"
    hint: ClassVar[str] = "An error of a device's language without an entry of its own."
    retryable: ClassVar[bool] = False
