"""What can be wrong with a report of a device that just prints: the device is told nothing unless the feed has an answer for it, and never repeats."""

from typing import ClassVar

from hl7.devices.errors import DeviceError, DeviceReply


class LineError(DeviceError):
    """A report that is not whole. What came of it is kept as an incomplete record."""

    code = "LIN-00"
    hint = "A report of a device on a line is not whole. What came of it is kept; print it again at the device."


class ReportTooLong(LineError):
    """More bytes than a report may have, without its end."""

    code = "LIN-01"
    hint = "A device sent more than a report may have without an end. Look at the line monitor: the end of a report may be set wrong."


class CheckWrong(LineError):
    """The report's own check value does not fit its bytes."""

    code = "LIN-02"
    reply: ClassVar[DeviceReply] = "NAK"
    hint = "A report's check value does not fit its bytes: noise on the cable, or the check is set wrong. Print it again at the device."


class CutOff(LineError):
    """The line went away, the node stopped, or another report began before this one had ended."""

    code = "LIN-03"
    hint = "A report broke off: the cable was pulled, the node restarted, or the device began anew. Print it again at the device."


class NoEnd(LineError):
    """The device fell silent inside a report."""

    code = "LIN-04"
    hint = "A device fell silent inside a report. Look at the line monitor: the end of a report may be set wrong, or the device lost power."
