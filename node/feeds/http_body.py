"""A request's body, read in pieces: its limit is kept before memory fills, and long ones share one allowance over all connections."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from hl7.fhir_errors import BodyOversized, BodySlow, ClosedInsideBody, FhirError
from node.feeds.open_frames import TURN_S_MAX, OpenFrames

Receive = Callable[[], Awaitable[Any]]

PIECE_S_MAX = 60.0  # a body that grows no further is a dead sender, as in MLLP
BODY_BYTES_FREE = 64 * 1024  # an open body below this is not counted: nearly all are
HEAD_BYTES = 4096  # of a body that never was whole, kept so that it can be named


class Body:
    """One body that is coming. Its memory is accounted until the block ends, since it lives until its record is durable."""

    def __init__(self, frames: OpenFrames, octets_max: int) -> None:
        self._frames = frames
        self._octets_max = octets_max
        self._data = bytearray()  # not a list of pieces: of one byte each they would take forty times their length
        self._turn = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._frames.release(self)

    @property
    def head(self) -> bytes:
        """The first bytes of what came."""
        return bytes(self._data[:HEAD_BYTES])

    @property
    def octets(self) -> int:
        """How much came."""
        return len(self._data)

    def sha256(self) -> bytes:
        """The hash of what came."""
        return hashlib.sha256(self._data).digest()

    async def read(self, receive: Receive) -> bytes:
        """All of it. Raises BodyOversized, BodySlow, ClosedInsideBody."""
        while True:
            message = await self._next(receive)
            if message["type"] != "http.request":
                raise ClosedInsideBody
            self._data += message["body"]
            if len(self._data) > self._octets_max:
                raise BodyOversized(detail=f"{self._octets_max} bytes are the limit")
            if not message["more_body"]:
                whole, self._data = bytes(self._data), bytearray()
                return whole
            if len(self._data) >= BODY_BYTES_FREE and not self._frames.hold(self, len(self._data)):
                await self._wait_for_turn()

    async def _next(self, receive: Receive) -> Any:
        try:
            async with asyncio.timeout(PIECE_S_MAX) as self._deadline:
                return await receive()
        except TimeoutError:
            raise BodySlow from None
        finally:
            self._deadline = None

    async def _wait_for_turn(self) -> None:
        """Read no further until there is room; one that keeps the others waiting for too long is given up."""
        self._turn.clear()
        while True:
            try:
                async with asyncio.timeout(TURN_S_MAX):
                    await self._turn.wait()
                    return
            except TimeoutError:
                self._frames.end_turn()

    # -- as a holder of open_frames -------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """There is room again."""
        self._turn.set()

    def give_up_turn(self) -> None:
        """Others have waited for the end of this body as long as they may; one that is whole ends by itself."""
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time())


def announced(headers: dict[str, str], octets_max: int) -> FhirError | None:
    """Whether a body says itself that it is too long: then not one byte of it is read."""
    length = headers.get("content-length", "")
    is_long = length.isdecimal() and int(length[:20]) > octets_max
    return BodyOversized(detail=f"{octets_max} bytes are the limit") if is_long else None
