"""A serial port of the configuration: which one, by a name that stays, and how its line is set.

What the file does not say comes from the feed's device profile, then from what most devices use: 9600 8N1, no flow control.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from node.config.addresses import check_host
from node.config.kinds import Table, from_text

BY_ID: Final = Path("/dev/serial/by-id")
BY_PATH: Final = Path("/dev/serial/by-path")
NAMES_MAX = 8  # of a hint: more ports than a small box has

# Numbers are given in the order in which the kernel finds the adapters: after a restart ttyUSB0 is another analyzer.
_NUMBERED: Final = re.compile(r"/dev/tty(USB|ACM|XRUSB|CH343USB)\d+")
RATES: Final = (300, 600, 1200, 2400, 4800, 9600, 14400, 19200, 28800, 38400, 57600, 115200, 230400, 460800, 921600)

Parity = Literal["none", "even", "odd", "mark", "space"]
# xonxoff takes 0x11 and 0x13 out of what the device sends: right for plain text alone, never for binary or checked frames.
Flow = Literal["none", "rtscts", "dsrdtr", "xonxoff"]


def present_names() -> tuple[str, ...]:
    """The stable names of the ports that are here now: by-id, and by-path where an adapter has no serial number of its own."""
    found = []
    for folder in (BY_ID, BY_PATH):
        try:
            found += sorted(str(each) for each in folder.iterdir())
        except OSError:  # udev makes the folder with the first adapter
            continue
    return tuple(found)


def _port(text: str) -> str:
    if text.startswith("socket://"):
        return _url(text)
    if not text.startswith("/") or not text.isprintable():
        raise ValueError('must be the path of a port such as "/dev/serial/by-id/usb-…", or "socket://HOST:PORT"')
    if _NUMBERED.fullmatch(text):
        names = ", ".join(f'"{name}"' for name in present_names()[:NAMES_MAX])
        here = f"here now: {names}" if names else "none is plugged in now"
        raise ValueError(f"is a number that another adapter may have after a restart: use a name of {BY_ID} ({here})")
    return text


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        check_host(url.hostname or "")
        good = url.hostname and url.port and not (url.path or url.query or url.fragment or url.username)
    except ValueError:
        good = False
    if not good:
        raise ValueError('must be "socket://HOST:PORT", the raw TCP port of a serial device server')
    return text


def _rate(value: object) -> object:
    if value is not None and (type(value) is not int or value not in RATES):
        raise ValueError(f"must be one of {', '.join(map(str, RATES))}")
    return value


def _stop(value: object) -> object:
    if value is not None and (isinstance(value, bool) or value not in {1, 1.5, 2}):
        raise ValueError("must be 1, 1.5 or 2")
    return value


Port = Annotated[str, from_text(str, _port)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How a line is set, nothing left open. `port` is as configured: a path or socket://."""

    port: str
    baud: int = 9600
    bits: int = 8
    parity: Parity = "none"
    stop: float = 1
    flow: Flow = "none"

    @property
    def shorthand(self) -> str:
        """As devices' manuals write it: 9600 8N1."""
        return f"{self.baud} {self.bits}{self.parity[0].upper()}{self.stop:g}"


class Serial(Table):
    """Which port, and how its line is set. A key that is not given is the profile's."""

    port: Port
    baud: Annotated[int | None, BeforeValidator(_rate)] = None
    bits: Literal[5, 6, 7, 8] | None = None
    parity: Parity | None = None
    stop: Annotated[float | None, BeforeValidator(_stop)] = None
    flow: Flow | None = None

    def line(self, profile: Mapping[str, Any] | None = None) -> Line:
        """Settle every key: the file's own wins over the profile's, and that over 9600 8N1. Raises ValueError for a profile's bad value."""
        own = {key: value for key, value in self.model_dump().items() if value is not None}
        whole = Serial.model_validate({**(profile or {}), **own})
        return Line(**{key: value for key, value in whole.model_dump().items() if value is not None})
