"""A capture of a device that just prints, cut into the reports that a feed would store, by the feed's own machine; what is none is told."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, get_args

from hl7.devices.line_errors import CheckWrong, CutOff, LineError, ReportTooLong
from hl7.devices.line_framing import framing_of
from hl7.devices.lines import CHECK_BYTES, Check, Covers, LineReader, Report, check_values
from hl7.devices.profile import Profile

TOLD_MAX: Final = (
    100  # of reports that are not whole: more of them are only counted, as a line set wrong has one in each byte
)
PIECE_BYTES: Final = 64 * 1024  # read at once, so that a capture of many reports is not in memory twice
NO_PAUSES: Final = (
    'ends = "pause": a capture holds no pauses, so all of it is shown as one report; capture one printout at a time'
)
KEPT: Final = "a feed keeps it as incomplete, and no result is made of it"


class LineCapture:
    """A capture under way. `told`: what somebody must know who sees the bodies alone."""

    def __init__(self, data: bytes, profile: Profile) -> None:
        self._data = data
        self._framing = framing_of(profile.link)
        self.told: list[str] = [NO_PAUSES] if self._framing.ends == "pause" else []
        self.frames: list[str] = list(self.told)
        self._reports = self._broken = self._messages = 0
        if "ends" not in profile.link:
            self.frames.append(
                "[link] of the profile says no `ends`: each line is a report, as in a feed that says none"
            )

    def bodies(self) -> Iterator[bytes]:
        """Yield the bodies of whole reports; tell of each report, and at the end of what belongs to none."""
        reader = LineReader(self._framing)
        for at in range(0, len(self._data), PIECE_BYTES):
            yield from self._whole(reader.receive(self._data[at : at + PIECE_BYTES], 0.0))
        # a pause ends a printout, and the end of the capture is one
        yield from self._whole(reader.tick(self._framing.quiet_s) if self._framing.ends == "pause" else reader.cut())
        if self._broken > TOLD_MAX:
            self._tell(f"and {self._broken - TOLD_MAX} more reports that are not whole")
        if reader.noise_bytes:
            self._tell(
                f"{reader.noise_bytes} bytes that belong to no report: left out{self._behind(reader.noise_bytes)}"
            )
        if reader.blank_bytes:
            self.frames.append(f"{reader.blank_bytes} line ends and blanks between reports: left out")

    def _whole(self, reports: list[Report]) -> Iterator[bytes]:
        for report in reports:
            self._reports += 1
            said = f"report {self._reports}: {report.length} bytes"
            if report.fault is not None:
                self._broken += 1
                if self._broken <= TOLD_MAX:
                    self._tell(f"{said}, {self._why(report, report.fault)}: {KEPT}")
                continue
            self._messages += 1
            is_checked = self._framing.check != "none"
            self.frames.append(f"{said}{', check value right' if is_checked else ''}: message {self._messages}")
            yield report.head

    def _tell(self, text: str) -> None:
        self.told.append(text)
        self.frames.append(text)

    def _why(self, report: Report, fault: type[LineError]) -> str:
        if fault is CheckWrong:
            given, wanted = check_values(self._framing, report.head)
            said = f"{_shown(given)} stands there, {_shown(wanted)} would fit by check = {self._framing.check}"
            return f"check value wrong [{fault.code}] ({said}{self._other(report.head)})"
        words = {
            CutOff: "cut off before its end by the next one or by the end of the capture",
            ReportTooLong: f"longer than the {self._framing.report_bytes_max} that a report may have",
        }
        return f"{words.get(fault, 'not whole')} [{fault.code}]"

    def _other(self, body: bytes) -> str:
        """Name a check by which the value would be right: a leaflet may be misread."""
        length = CHECK_BYTES[self._framing.check]
        for check in (each for each in get_args(Check) if CHECK_BYTES[each] == length):
            for covers in get_args(Covers) if self._framing.ends == "block" else (self._framing.covers,):
                given, wanted = check_values(replace(self._framing, check=check, covers=covers), body)
                if given == wanted:
                    over = f", covers = {covers}" if self._framing.ends == "block" else ""
                    return f"; it is right by check = {check}{over}"
        return ""

    def _behind(self, count: int) -> str:
        """A check value that the profile does not know of stands between the reports."""
        is_likely = self._framing.check == "none" and self._framing.ends == "block" and count == 2 * self._reports > 0
        return "; two for each report: a check value (check)?" if is_likely else ""


def _shown(value: bytes) -> str:
    """A check value as text where it is digits, else as its number: it says nothing of a patient."""
    return value.decode("ascii") if value.isalnum() and len(value) > 1 else "0x" + value.hex().upper()
