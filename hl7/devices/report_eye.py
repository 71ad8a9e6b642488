"""Tells a line feed's reports apart for the line monitor, by the feed's own framing and check: the page must not call wrong what the feed accepts."""

from typing import Protocol

from hl7.devices.line_errors import CheckWrong
from hl7.devices.line_view import NAMES, Seen
from hl7.devices.lines import STX, Framing, LineReader, Report


class Watcher(Protocol):
    """What sees frames in one direction of a line. `at` is seconds of the caller."""

    @property
    def is_amid(self) -> bool:
        """Whether something has begun and not ended."""

    def see(self, data: bytes, at: float, /) -> list[tuple[int, Seen]]:
        """What ended with how many of these bytes; with none of them: before they came."""

    def tick(self, at: float, /) -> list[Seen]:
        """What a pause has ended."""

    def cut(self) -> list[Seen]:
        """What the line's end has cut off."""


class ReportEye:
    """Sees the reports of a framing. `is_late`: the first bytes it is given may stand in the midst of a report."""

    def __init__(self, framing: Framing, *, is_late: bool = False) -> None:
        self._is, self._reader = framing, LineReader(framing)
        self._passed = 0
        self._last_at: float | None = None
        # With a first byte of its own, a report's beginning is found again by itself.
        self._is_lost = is_late and framing.start is None and framing.ends != "block"

    @property
    def is_amid(self) -> bool:
        """Whether a report has begun and not ended."""
        return self._reader.is_amid

    def see(self, data: bytes, at: float, /) -> list[tuple[int, Seen]]:
        """What ended with how many of these bytes; with none of them: before they came."""
        if self._is_lost and self._is.ends != "lines":
            if self._last_at is None or at - self._last_at < self._is.quiet_s:
                self._last_at = at
                return []
            self._is_lost = False
        reports, before = self._reader.receive(data, at), self._passed
        self._passed += len(data)
        if self._is_lost and reports:  # the first line, whose beginning was not seen
            del reports[0]
            self._is_lost = False
        return [(max(0, report.ends_at - before), self._seen(report)) for report in reports]

    def tick(self, at: float, /) -> list[Seen]:
        """What a pause has ended."""
        return [self._seen(report) for report in self._reader.tick(at)]

    def cut(self) -> list[Seen]:
        """What the line's end has cut off."""
        return [self._seen(report) for report in self._reader.cut()]

    def _seen(self, report: Report) -> Seen:
        if report.fault is None:
            verdict = "unchecked" if self._is.check == "none" else "good"
        else:
            verdict = "wrong" if issubclass(report.fault, CheckWrong) else "broken"
        return Seen(self._name(report), report.length, verdict)

    def _name(self, report: Report) -> str:
        if self._is.ends == "block":
            return f"{_mark(STX if self._is.start is None else self._is.start)} … {_mark(self._is.end)}"
        if self._is.ends == "lines":
            return "CR LF" if report.head.endswith(b"\r\n") else "LF" if report.head.endswith(b"\n") else "CR"
        return self._is.ends


def _mark(byte: int) -> str:
    return NAMES[byte] if byte < len(NAMES) else chr(byte) if byte < 0x7F else f"{byte:02X}"
