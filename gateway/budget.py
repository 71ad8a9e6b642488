"""How much of the nodes' batches the gateway holds in memory at once; beyond it, a node is told to come again."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.problems import busy
from sync.batch import WIRE_BYTES_MAX

HELD_BYTES_MAX = 192 * 1024 * 1024  # wire and decoded bytes together: eight of the largest batches
HELD_PER_NODE_BYTES_MAX = (
    3 * WIRE_BYTES_MAX
)  # three lanes' largest: a node that announces much and sends nothing leaves room for others
PUTS_MAX = 64  # each holds a task and a socket's buffer
PUTS_PER_NODE_MAX = 8  # three lanes, and as many again after a reconnect: one node cannot take all seats
WINDOW_BYTES_MIN = 16 * 1024  # what is offered while full: a batch of some small records


class Share:
    """One PUT's part of the budget."""

    __slots__ = ("_budget", "_node", "octets")

    def __init__(self, budget: "Budget", node: str) -> None:
        self._budget, self._node = budget, node
        self.octets = 0

    def resize(self, octets: int) -> None:
        """Hold so many bytes from now on. Raises Problem `busy` where that is too much."""
        self._budget.move(self._node, octets - self.octets)
        self.octets = octets


class Budget:
    """The sum over all PUTs; used on the event loop only."""

    def __init__(
        self, *, octets_max: int = HELD_BYTES_MAX, octets_per_node_max: int = HELD_PER_NODE_BYTES_MAX,
        puts_max: int = PUTS_MAX, puts_per_node_max: int = PUTS_PER_NODE_MAX,
    ) -> None:  # fmt: skip
        self._free, self._seats = octets_max, puts_max
        self._octets_per_node, self._seats_per_node = octets_per_node_max, puts_per_node_max
        self._nodes: Counter[str] = Counter()
        self._octets: Counter[str] = Counter()

    @property
    def window(self) -> int:
        """Bytes a busy node may come again with."""
        return max(WINDOW_BYTES_MIN, self._free // 4)

    @contextmanager
    def share(self, node: str, octets: int) -> Iterator[Share]:
        """A seat and so many bytes for the time of the block. Raises Problem `busy`."""
        if self._nodes.total() >= self._seats or self._nodes[node] >= self._seats_per_node:
            raise busy("too many batches at once", window=self.window)
        share = Share(self, node)
        share.resize(octets)
        self._nodes[node] += 1
        try:
            yield share
        finally:
            self._nodes[node] -= 1
            if not self._nodes[node]:
                del self._nodes[node]
            share.resize(0)

    def move(self, node: str, octets: int) -> None:
        """Take bytes (or give them back, negative). Raises Problem `busy`."""
        its_own = self._octets_per_node - self._octets[node]
        if octets > min(self._free, its_own):
            raise busy("too many bytes at once", window=max(WINDOW_BYTES_MIN, min(self._free, its_own) // 4))
        self._free -= octets
        self._octets[node] += octets
        if not self._octets[node]:
            del self._octets[node]
