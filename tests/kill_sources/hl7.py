"""PCD-01 over MLLP: monitors' gateways, each on one connection."""

from datetime import UTC, datetime

from node.tools.simulate_pcd01 import report
from tests.kill_rig import Address, Caller, LoopError, Row, Source
from tests.node_rig import Feed, Mllp, Reply


class MonitorGateway(Caller):
    """PCD-01 over one MLLP connection; CA is the acknowledgement."""

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed, address)
        self._mllp: Mllp | None = None

    def make(self, number: int) -> bytes:
        return report(number, bed=self.number, now=datetime.now(UTC), dice=self.dice, run=self.number)

    def hand_over(self, data: bytes) -> bool:
        try:
            self._mllp = self._mllp or Mllp(self.address)
            reply: Reply = self._mllp.exchange(data)
        except OSError:
            self.close()
            raise
        if (reply.code, reply.control_id) != ("CA", data.split(b"|")[9]):
            raise LoopError(f"{reply}")
        return True

    def close(self) -> None:
        if self._mllp is not None:
            self._mllp.socket.close()
            self._mllp = None


class Pcd(Source):
    name = "pcd"

    def __init__(self, seed: str) -> None:
        feed = Feed(self.name)
        super().__init__(feed, [MonitorGateway(n, seed, feed.address) for n in range(3)])

    def whose(self, row: Row) -> int:
        return int(row.control_id[3:].partition("-")[0])
