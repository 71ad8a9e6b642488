"""What happens on an ASTM line, what is to be done about it, and the times of E1381-95 and LIS01-A2."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from hl7.devices.astm_frames import TEXT_E1381, TEXT_LIS01, Frame, FrameEnd

REPLY_S: Final = 15.0  # 6.5.2.2: a sender waits so long for the answer to ENQ or to a frame
FRAME_S: Final = 30.0  # 6.5.2.3: a receiver waits so long for a frame or EOT; bytes that come begin it anew, as 64 kB at 9,600 baud take 67 s
LINES_S: Final = 60.0  # plain lines without handshake: analyzers that print pause while they measure
AGAIN_S: Final = 10.0  # 6.2.6: after a NAK to ENQ
HOST_YIELDS_S: Final = 20.0  # 6.2.7.2: contention; the host waits so long
INSTRUMENT_YIELDS_S: Final = 1.0  # 6.2.7.1: the instrument so long, so it wins
SENDS_MAX: Final = 6  # 6.5.1.2: of one frame
BIDS_MAX: Final = 6  # of one transfer; the standard names no number, the caller has its own later
# Transfers that wait for the line: a rack's answers. What an instrument asked before has been asked again or given up, and orders change meanwhile.
OUTGOING_MAX: Final = 16
QUIET_S: Final = 1.0  # a byte takes 8 ms at 1,200 baud: after a second nothing of the same burst follows
PART_S: Final = (
    10.0  # a frame that stopped short is refused after so long; its sender repeats it before its own 15 s are over
)
ANSWER_S: Final = 14.0  # an answer later than this may find its sender in the next session: none is given
HEARD_S: Final = 10.0  # EOT sooner than this after our ACK: the sender heard it, for without it 15 s pass first


class State(Enum):
    """What the line is about."""

    IDLE = auto()
    RECEIVING = auto()
    LINES = auto()
    BIDDING = auto()
    SENDING = auto()


class End(Enum):
    """Why a transfer ended: EOT, silence, ENQ in its midst, the line gone."""

    EOT = auto()
    SILENT = auto()
    RESTARTED = auto()
    LOST = auto()


# ---- events -----------------------------------------------------------------------------------------------------------
class Received(NamedTuple):
    """Bytes came."""

    data: bytes


class Kept(NamedTuple):
    """The frame given out last is durable, or there was no room for it."""

    is_stored: bool


class Send(NamedTuple):
    """Records, each with its CR, to be sent as one transfer. `token` comes back in `Sent` or `NotSent`."""

    token: int
    records: tuple[bytes, ...]


class Tick(NamedTuple):
    """The deadline is reached."""


class Closed(NamedTuple):
    """The line is gone."""


Event = Received | Kept | Send | Tick | Closed


# ---- effects ----------------------------------------------------------------------------------------------------------
class Write(NamedTuple):
    """Bytes for the line."""

    data: bytes


class Begun(NamedTuple):
    """A transfer began."""


class Arrived(NamedTuple):
    """A frame's text, to be kept; nothing goes on until `Kept` says that it is, or is not. `is_end`: a record ends with it."""

    text: bytes
    is_end: bool


class Ended(NamedTuple):
    """The transfer is over. `is_heard`: its sender surely heard the last ACK, so what comes next is no repetition of it."""

    why: End
    is_heard: bool


class Sent(NamedTuple):
    """A transfer was accepted to its last frame."""

    token: int


class NotSent(NamedTuple):
    """A transfer was not accepted: "busy", "silent", "refused", "late" or "lost"."""

    token: int
    why: str


Effect = Write | Begun | Arrived | Ended | Sent | NotSent


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """How this line differs from the standard, as a profile or a feed says."""

    frame_text_bytes_max: int = TEXT_LIS01
    send_text_bytes_max: int = TEXT_E1381
    frame_end: FrameEnd = "crlf"
    without_enq: bool = False
    is_instrument: bool = False


@dataclass(slots=True)
class Counts:
    """The line's story since it was opened."""

    frames: int = 0
    repeats: int = 0
    damaged: int = 0
    too_long: int = 0
    noise_bytes: int = 0
    keep_alives: int = 0
    contentions: int = 0
    interrupts: int = 0


# ---- what the machine holds -----------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Outgoing:
    """One transfer that goes out: its frames, how often it was bid for, the frame that is next, how often that was sent."""

    token: int
    frames: list[bytes]
    bids: int = 0
    at: int = 0
    sends: int = 0


@dataclass(slots=True)
class Incoming:
    """One transfer that comes in. `last`: the frame that was acknowledged last; `waits`: since when a frame waits for `Kept`."""

    expected: int = 1
    last: Frame | None = None
    pending: Frame | None = None
    waits: float = 0.0
    answered: float = 0.0
    is_repeated: bool = False
