"""How long to wait before the next try: from history and a die that is passed in, never from a clock of its own."""

from collections.abc import Callable

WAIT_S_MIN = 0.5  # a restarted gateway is back within a second or two
WAIT_S_MAX = 60.0  # a link that was down for a day is found up again within a minute
GROWTH = 2.0
# with nothing to send and no session for so long, one is asked for: a gateway that was set back, a copy that was admitted, a line that is
# dead would else be noticed with the next message only, and the centre would not hear what waits in lanes that may not use the path.
# A hundred calls a day, some 2 kB each
SESSION_S_MAX = 900.0
REVOKED_WAIT_S = 300.0  # a revoked certificate is replaced by people; asking more often only fills logs
KEY_WAIT_S = 300.0  # as long as for a certificate: a key is changed by people too
# a stream of `routine` or `bulk` that called so shortly before waits for more to go with its few: a call costs signatures, a receipt and a commit at
# either end, as much as some dozens of records. A first record after a pause goes at once, and `critical` ones always do
LINGER_S = 1.0
BUSY_S_MIN = 0.1  # a gateway that says "busy, come back in 0 s" is not asked in a tight loop


class Backoff:
    """Doubling waits with full jitter on the upper half, so that a thousand nodes do not come back in step."""

    __slots__ = ("_dice", "_failures")

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def failed(self) -> float:
        """Count one failure and give the wait, in seconds."""
        wait = min(WAIT_S_MAX, WAIT_S_MIN * GROWTH ** min(self._failures, 16))
        self._failures += 1
        return wait * (0.5 + self._dice() / 2)

    def succeeded(self) -> None:
        """Start again from the shortest wait."""
        self._failures = 0


def pause_s(told_s: float) -> float:
    """How long a gateway that is busy is left alone. This order of max() also turns a NaN into the shortest wait."""
    return min(max(BUSY_S_MIN, told_s), WAIT_S_MAX)
