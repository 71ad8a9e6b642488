"""What can be wrong with a file that was dropped."""

from typing import Final

from hl7.devices.errors import DeviceError
from hl7.errors import Fault


class FileTooLong(DeviceError):
    """It is longer than the feed takes: its length and hash are recorded, and it lies in `refused`."""

    code = "FOL-03"
    hint = "A dropped file is larger than `file_mb_max`. It lies in the folder `refused`; raise the limit and drop it again, or ask who wrote it."


class FileEmpty(DeviceError):
    """It has held nothing for an hour."""

    code = "FOL-04"
    hint = "A dropped file has been empty for an hour and lies in the folder `refused`. Look at the program that writes it."


class FileGrew(DeviceError):
    """It was taken, and then its writer went on: it was taken again, whole, as a further record."""

    code = "FOL-05"
    hint = "A file was still being written when it was taken, and was taken again. Raise `settle_s`, or let its writer rename it when it is whole."


ALARMS: Final[dict[str, tuple[Fault, str]]] = {
    "FOL-01": (
        "site",
        "The folder of this feed cannot be read. Is the stick or the share there, and may the node's user read it?",
    ),
    "FOL-02": (
        "site",
        "Files cannot be moved out of this feed's folder, so none is taken. Give the node's user the right to write there.",
    ),
}
