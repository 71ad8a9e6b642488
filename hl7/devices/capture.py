"""A capture of a line, a file or a topic cut into what a feed would store: the bodies, and what was seen on the way to them."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple, cast

from hl7.devices.astm_errors import MessageTooLong
from hl7.devices.astm_frames import EOT, STX, TEXT_LIS01, FrameEnd, FrameReader
from hl7.devices.astm_messages import Assembly, Part
from hl7.devices.line_capture import LineCapture
from hl7.devices.profile import Profile

BYTES_MAX: Final = 16 * 1024 * 1024  # a day's capture of a busy line at 115,200 baud is larger; one result is enough
BODIES_MAX: Final = 10_000  # an hour of a topic at 1 Hz, twice

# How terminal programs and manuals write what cannot be printed
_NAMED: Final = {
    b"NUL": 0, b"SOH": 1, b"STX": 2, b"ETX": 3, b"EOT": 4, b"ENQ": 5, b"ACK": 6, b"LF": 10, b"VT": 11, b"SB": 11, b"CR": 13, b"NAK": 21,
    b"ETB": 23, b"FS": 28, b"EB": 28,
}  # fmt: skip
_NAME: Final = re.compile(rb"[<\[](" + b"|".join(_NAMED) + rb")[>\]]")
_MESSAGE: Final = re.compile(rb"[\r\n]+(?=MSH.)")
_HEADER: Final = re.compile(rb"[\r\n]+(?=H[^A-Za-z0-9\s][^A-Za-z0-9\s])")
_JSON: Final = re.compile(rb"[\[{]")
_ROOT_END: Final = re.compile(rb"</([A-Z]{3}\.R\d\d)\s*>")


class Capture(NamedTuple):
    """The bodies, each as a record would hold it, and the story of the frames around them. `told`: of it, what is in no body, and must be known."""

    bodies: list[bytes]
    frames: list[str]
    told: tuple[str, ...] = ()


def cut(data: bytes, profile: Profile) -> Capture:
    """Cut a capture as the profile's language wants it. Raises ValueError where it is too large."""
    if len(data) > BYTES_MAX:
        raise ValueError(f"{len(data)} bytes, {BYTES_MAX} at most: a capture of a few results is enough")
    frames: list[str] = []
    if profile.kind == "line":
        line = LineCapture(_unnamed(data, frames), profile)
        found = _few(line.bodies())
        return Capture(found, frames + line.frames, tuple(line.told))
    return Capture(_few(_bodies(data, profile, frames)), frames)


def _few(bodies: Iterator[bytes]) -> list[bytes]:
    found = list(islice(bodies, BODIES_MAX + 1))
    if len(found) > BODIES_MAX:
        raise ValueError(f"more than {BODIES_MAX} messages: a capture of a few results is enough")
    return found


def _bodies(data: bytes, profile: Profile, frames: list[str]) -> Iterator[bytes]:
    match profile.language:
        case "astm":
            yield from _astm(_unnamed(data, frames), profile, frames)
        case "hl7":
            yield from _hl7(_unnamed(data, frames), frames)
        case "poct1a":
            yield from _xml(data, frames)
        case "json" | "senml" | "sparkplug" | "modbus":
            yield from _json(data, frames)
        case "lines":
            bare = _unnamed(data, frames)
            frames.append(f"a report of {len(bare)} bytes")
            yield bare
        case _:
            frames.append(f"a file of {len(data)} bytes")
            yield data


def _unnamed(data: bytes, frames: list[str]) -> bytes:
    """Turn <STX> and [CR] of a terminal's log into bytes; such a log's own line ends are then none of the device's."""
    if not _NAME.search(data):
        return data
    frames.append("a log with names for control characters: read as the bytes they name, its own line ends left out")
    return _NAME.sub(lambda match: bytes([_NAMED[match[1]]]), data.replace(b"\r", b"").replace(b"\n", b""))


# ---- ASTM -------------------------------------------------------------------------------------------------------------
def _astm(data: bytes, profile: Profile, frames: list[str]) -> Iterator[bytes]:
    if STX not in data:
        for body in _HEADER.split(data.strip(b"\r\n")):
            frames.append(f"records without frames, {len(body)} bytes")
            yield body.replace(b"\r\n", b"\r").replace(b"\n", b"\r")
        return
    reader = FrameReader(
        int(profile.link.get("frame_text_bytes_max", TEXT_LIS01)),
        frame_end=cast("FrameEnd", profile.link.get("frame_end", "crlf")),
    )
    for transfer in re.split(rb"[\x04\x05]", data):
        yield from _transfer(transfer, reader, frames)
    if not data.rstrip(b"\r\n\x06").endswith(bytes([EOT])):
        frames.append("the capture does not end with EOT")


def _transfer(data: bytes, reader: FrameReader, frames: list[str]) -> Iterator[bytes]:
    """Yield the messages of the frames between ENQ and EOT."""
    buffer = bytearray(data)
    assembly = Assembly(message_bytes_max=BYTES_MAX, needs_terminator=False)
    last = b""
    while (at := buffer.find(STX)) >= 0:
        del buffer[:at]
        taken = reader.take(buffer, is_quiet=True)
        if taken is None:
            frames.append(f"a frame without its end, {len(buffer)} bytes: left out")
            break
        raw, frame = bytes(buffer[: taken.size]), taken.frame
        del buffer[: taken.size]
        if frame is None:
            frames.append(f"a damaged frame, {len(raw)} bytes: its sum, number or end is wrong; left out")
        elif raw == last:
            frames.append(f"frame {frame.number} once more: left out")
        else:
            last = raw
            frames.append(
                f"frame {frame.number}, {len(frame.text)} bytes, sum right" + ("" if frame.is_end else ", goes on")
            )
            yield from _taken(assembly, frame.text, frames, is_end=frame.is_end)
    left = assembly.finish(is_over=True)
    if left is not None:
        yield from _whole([left], frames)


def _taken(assembly: Assembly, text: bytes, frames: list[str], *, is_end: bool) -> Iterator[bytes]:
    try:
        _, parts = assembly.take(text, is_end=is_end)
    except MessageTooLong as error:
        frames.append(f"a message that is too long: {error}")
        return
    assembly.keep()
    yield from _whole(parts, frames)


def _whole(parts: list[Part], frames: list[str]) -> Iterator[bytes]:
    for part in parts:
        frames.append(
            f"a message of {len(part.body)} bytes"
            + ("" if part.is_whole else ", cut off: a feed keeps it as incomplete")
        )
        yield part.body


# ---- others -----------------------------------------------------------------------------------------------------------
def _hl7(data: bytes, frames: list[str]) -> Iterator[bytes]:
    blocks = data.count(b"\x0b")
    frames.append(f"{blocks} MLLP blocks" if blocks else "no MLLP blocks: bare messages")
    bare = data.replace(b"\x0b", b"").replace(b"\x1c\r", b"\r").replace(b"\x1c", b"\r").replace(b"\r\n", b"\r")
    if b"\r" not in bare:
        bare = bare.replace(b"\n", b"\r")
    for body in _MESSAGE.split(bare.lstrip(b"\r\n \t")):
        if body.startswith(b"MSH") and b"MSA|" not in body[:400]:  # what the host answered is no result
            yield body.rstrip(b"\r\n") + b"\r"


def _xml(data: bytes, frames: list[str]) -> Iterator[bytes]:
    start = 0
    for match in _ROOT_END.finditer(data):
        body = data[start : match.end()].lstrip()
        start = match.end()
        name = match[1].decode("ascii")
        frames.append(
            f"{name}, {len(body)} bytes" + ("" if name.startswith("OBS") else ": part of the conversation, no result")
        )
        if name.startswith("OBS"):
            yield body
    if data[start:].strip():
        frames.append(f"{len(data[start:])} bytes behind the last document")


def _json(data: bytes, frames: list[str]) -> Iterator[bytes]:
    """One document, or one in each line, as `mosquitto_sub` writes them; a topic before it (-v) is left away."""
    lines = [line for line in data.splitlines() if line.strip()]
    starts = [found.start() if (found := _JSON.search(line)) else -1 for line in lines]
    if len(lines) > 1 and all(
        at >= 0 and line.rstrip().endswith((b"}", b"]")) for line, at in zip(lines, starts, strict=True)
    ):
        frames.append(f"{len(lines)} payloads, one a line")
        yield from (line[at:] for line, at in zip(lines, starts, strict=True))
    else:
        frames.append(f"a payload of {len(data)} bytes")
        at = starts[0] if lines and starts[0] > 0 else 0
        yield data.lstrip()[at:]
