"""The kill loop of ASTM: instruments send to a real node with a real gateway while the node is killed again and again.

An instrument repeats a whole transfer whose last ACK it did not read. At the end the gateway must hold each acknowledged message once, in
the order of its instrument, every byte the same; and each frame that was acknowledged, in a message or in a record marked incomplete.

    python tests/sim_astm_kill.py --kills 1000 [--seed N]
"""

import argparse
import base64
import json
import random
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hl7.devices.astm_frames import encode_all
from tests.astm_rig import ACK, ENQ, EOT, STREAM, AstmFeed, records, result
from tests.node_rig import Centre, Node, Realm, wait_until
from tests.sim_kill import START_S_MAX, KillLoop, LoopError

INSTRUMENTS = 4
WORK_MAX = 8  # messages acknowledged between two kills, at most: a transfer is some ten commits
NAMES = ("سلمى^تجريبية", "Test^Patient", "خالد^تجريبي")


@dataclass(eq=False)
class Analyzer(threading.Thread):
    """One instrument, from an address of its own. `cuts`: message and acknowledged bytes of each transfer that did not end."""

    number: int
    address: tuple[str, int]
    dice: random.Random
    acknowledged: list[bytes] = field(default_factory=list)
    cuts: list[tuple[bytes, int, bool]] = field(default_factory=list)
    repeats: int = 0
    finishing: bool = False
    fault: str = ""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        """Send one message after the other, each until it is acknowledged."""
        while not self.finishing:
            number = self.number * 100_000 + len(self.acknowledged)
            message = result(number, name=self.dice.choice(NAMES), tests=self.dice.randint(1, 8))
            while not self._transfer(message):
                self.repeats += 1
                time.sleep(0.02)
            self.acknowledged.append(message)

    def _transfer(self, message: bytes) -> bool:
        """Whether its last frame was acknowledged."""
        parts = records(message)
        frames = encode_all(parts, text_bytes_max=self.dice.choice((60, 240)))
        at = 0
        try:
            with socket.create_connection(self.address, 5, (f"127.0.0.{10 + self.number}", 0)) as peer:
                peer.settimeout(40)
                self._exchange(peer, ENQ)
                for at, frame in enumerate(frames):  # noqa: B007  # read after a cut
                    self._exchange(peer, frame)
                at = len(frames)
                if self.dice.random() < 0.8:  # some are switched off: what comes next may be a repetition, and is not
                    peer.sendall(EOT)
        except OSError:
            if at < len(frames):
                self.cuts.append((message, _acknowledged(frames[:at]), at == len(frames) - 1))
                return False
        return True

    def _exchange(self, peer: socket.socket, data: bytes) -> None:
        peer.sendall(data)
        answer = peer.recv(1)
        if not answer:
            raise ConnectionResetError("closed")
        if answer != ACK:
            self.fault = f"instrument {self.number}: {answer!r}"


def _acknowledged(frames: list[bytes]) -> int:
    """The bytes of text in frames: each has STX, number, end, sum, CR, LF around it."""
    return sum(len(frame) - 7 for frame in frames)


class AstmKillLoop(KillLoop):
    """One run over a folder; the node is killed, the gateway stays."""

    def run(self) -> str:
        """Kill, restart, finish, compare; a summary. Raises LoopError."""
        self.report(f"seed {self.seed}")
        self._dice = random.Random(self.seed)
        realm = Realm.make(self.folder / "realm")
        self._centre = Centre(realm, self.folder / "centre")
        self._node = Node(realm, self.folder / "node", feeds=[AstmFeed(STREAM)], gateway=self._centre)
        address = self._node.feeds[0].address
        self._senders = [Analyzer(n, address, random.Random(f"{self.seed}-{n}")) for n in range(INSTRUMENTS)]  # type: ignore[misc]
        try:
            self._start_centre()
            self._start_node()
            for sender in self._senders:
                sender.start()
            for at in range(self.kills):
                self._kill(at)
            return self._finish()
        finally:
            for sender in self._senders:
                sender.finishing, sender.fault = True, sender.fault or "over"
            self._node.kill()
            self._centre.kill()

    def _kill(self, at: int) -> None:
        if self._dice.random() < 0.2:
            time.sleep(self._dice.random() * START_S_MAX)
        else:
            wait_until("a node that listens", self._node.is_listening)
            goal = self._acknowledged() + self._dice.randint(1, WORK_MAX)
            wait_until("acknowledgements", lambda: self._acknowledged() >= goal or any(s.fault for s in self._senders))
            time.sleep(self._dice.random() * 0.01)
        self._check_faults()
        self._node.kill()
        self._start_node()
        if at % 100 == 99:
            self.report(f"{at + 1} kills, {self._acknowledged()} acknowledged")

    def _is_receipted(self) -> bool:
        stream = self._node.stream(STREAM)
        return stream.size == stream.receipted

    def _finish(self) -> str:
        wait_until("a node that listens", self._node.is_listening)
        for sender in self._senders:
            sender.finishing = True
        for sender in self._senders:
            sender.join(120)
        self._check_faults()
        wait_until("every line gone", lambda: self._node.ask("status")["feeds"][STREAM]["connections"] == 0)
        self._node.ask("retry")
        wait_until("everything receipted", self._is_receipted, s_max=300)
        messages, cut = _fetch(self._centre, self._node.name)
        for sender in self._senders:
            _compare(sender, messages, cut)  # type: ignore[arg-type]
        if len(messages) != self._acknowledged():
            raise LoopError(f"{len(messages)} messages at the gateway, {self._acknowledged()} acknowledged")
        cuts = sum(len(sender.cuts) for sender in self._senders)  # type: ignore[attr-defined]
        return (
            f"{self.kills} kills: {len(messages)} acknowledged, {len(messages)} at the gateway, in order, each once;"
            f" {cuts} transfers cut off, {len(cut)} incomplete records (seed {self.seed})"
        )


def _fetch(centre: Centre, node: str) -> tuple[list[bytes], set[bytes]]:
    messages, cut, position = [], set(), 0
    while lines := centre.get(
        f"/v1/nodes/{node}/streams/{STREAM}/records?from={position}&limit=2000"
    ).data.splitlines():
        for row in map(json.loads, lines):
            if row["seq"] != position or row["epoch"] != 1:
                raise LoopError(f"position {position}: {row['epoch']}/{row['seq']}")
            position += 1
            body = base64.b64decode(row["body"])
            if row["kind"] == "message":
                messages.append(body)
            else:
                cut.add(body)
    return messages, cut


def _compare(analyzer: Analyzer, messages: list[bytes], cut: set[bytes]) -> None:
    mine = [body for body in messages if _number(body) == analyzer.number]
    if mine != analyzer.acknowledged:
        at = next(
            (n for n, pair in enumerate(zip(mine, analyzer.acknowledged, strict=False)) if pair[0] != pair[1]), -1
        )
        raise LoopError(
            f"instrument {analyzer.number}: {len(analyzer.acknowledged)} acknowledged, {len(mine)} at the gateway; first at {at}"
        )
    for message, size, may_be_whole in analyzer.cuts:
        if size and not may_be_whole and not any(body.startswith(message[:size]) for body in cut):
            raise LoopError(
                f"instrument {analyzer.number}: {size} acknowledged bytes of a cut transfer are in no record"
            )


def _number(body: bytes) -> int:
    return int(body.split(b"|T", 1)[1][:6]) // 100_000


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loop, began = AstmKillLoop(Path(folder), options.kills, options.seed), time.monotonic()
        try:
            print(loop.run(), f"in {time.monotonic() - began:.0f} s")
        except (LoopError, RuntimeError) as error:
            sys.exit(f"FAILED with seed {options.seed}: {error}")


if __name__ == "__main__":
    main()
