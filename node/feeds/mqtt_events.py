"""What a broker's thread tells the event loop."""

from typing import NamedTuple


class Arrival(NamedTuple):
    """One message. `connection` and `number` name it towards the thread; `mid` is the broker's packet identifier, 0 with QoS 0."""

    connection: int
    number: int
    mid: int
    qos: int
    dup: bool
    retained: bool
    topic: str
    payload: bytes
    content_type: str


class Joined(NamedTuple):
    """A connection is open; `present`: the broker still has our session."""

    at_us: int
    present: bool


class Subscribed(NamedTuple):
    """The broker answered what was asked for; what was published before this, and to no session of ours, it keeps for nobody."""

    is_granted: bool


class Left(NamedTuple):
    """The connection is gone."""

    at_us: int
    reason: str


class Held(NamedTuple):
    """Nothing more comes while this one is held: note that it may be acknowledged, then release it.

    `is_stuck`: what waits behind it is not stored, and goes with it.
    """

    connection: int
    number: int
    is_stuck: bool


class Trouble(NamedTuple):
    """Something a person must look at, or the end of it."""

    code: str
    is_over: bool = False


Event = Arrival | Held | Joined | Left | Subscribed | Trouble
