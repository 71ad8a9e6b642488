"""The kill loop: hospitals send to a real node with a real gateway while one of the two is killed again and again.

A sender repeats, byte for byte, what was not acknowledged, as every interface engine does. At the end the gateway must hold exactly the
acknowledged messages: per connection in order, each once, every byte the same.

    python tests/sim_kill.py --kills 2000 [--seed N] [--cold]

SIGKILL proves recovery of the process, not of the disk: what a power cut leaves is the matter of the outbox's own tests.
"""

import argparse
import random
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.kill_loop import Loop
from tests.kill_rig import LoopError, rows_of
from tests.node_rig import END, START, Centre, Feed, Node

STREAM = "his"
SENDERS = 4
WINDOW_MAX = 8  # messages under way on one connection: standard senders have one, some pipeline
WORK_MAX = 60  # messages acknowledged between two kills, at most
NAMES = ("سلمى الشمري", "خالد بن فيصل", "Test Patient", "مريم", "Zoë Probe")


def message(sender: int, number: int, dice: random.Random) -> bytes:
    """One message; its id says which connection and which number."""
    text = "نتيجة " * dice.randrange(60) if dice.random() < 0.9 else "R" * dice.randrange(200_000)
    return (
        f"MSH|^~\\&|HIS{sender}|TEST|WASL|HUB|20300101||ORU^R01|K{sender}-{number}|P|2.5\r"
        f"PID|1||9001010{sender:02}||{dice.choice(NAMES)}\rOBX|1|TX|||{text}\r"
    ).encode()


def number_of(control_id: str) -> tuple[int, int]:
    """Connection and number of a control id."""
    sender, _, number = control_id[1:].partition("-")
    return int(sender), int(number)


@dataclass(eq=False)
class Sender(threading.Thread):
    """One hospital system: sends, waits for the acknowledgement, repeats over a new connection until it has come."""

    number: int
    address: tuple[str, int]
    dice: random.Random
    acknowledged: list[bytes] = field(default_factory=list)
    repeats: int = 0
    finishing: bool = False
    fault: str = ""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._sent = 0
        self._waiting: list[bytes] = []

    def run(self) -> None:
        """Send until told to finish, and then until nothing waits for its acknowledgement."""
        while not self.fault and (self._waiting or not self.finishing):
            try:
                with socket.create_connection(self.address, 5) as peer:
                    self._talk(peer)
            except OSError:
                time.sleep(0.02)

    def _talk(self, peer: socket.socket) -> None:
        read = b""
        self.repeats += len(self._waiting)
        peer.sendall(_frames(self._waiting))
        while not self.fault:
            while len(self._waiting) < self.dice.randint(1, WINDOW_MAX) and not self.finishing:
                self._waiting.append(message(self.number, self._sent, self.dice))
                self._sent += 1
                peer.sendall(_frames(self._waiting[-1:]))
            if not self._waiting:
                return
            while END not in read:
                data = peer.recv(65536)
                if not data:
                    raise OSError("closed")
                read += data
            frame, _, read = read.partition(END)
            self._settle(frame)

    def _settle(self, reply: bytes) -> None:
        msa = next(row for row in reply.split(b"\r") if row.startswith(b"MSA|"))
        wanted = self._waiting[0].split(b"|", 10)[9]
        if msa.split(b"|")[2] != wanted:
            self.fault = f"connection {self.number}: waited for {wanted!r}, got {msa!r}"
        elif msa.startswith(b"MSA|AA|"):
            self.acknowledged.append(self._waiting.pop(0))
        else:
            self.fault = f"connection {self.number}: {msa!r}"


def _frames(payloads: list[bytes]) -> bytes:
    return b"".join(START + payload + END for payload in payloads)


@dataclass
class KillLoop(Loop):
    """Hospitals at one node; node and gateway are killed in turn. `cold` starts the unmodified commands, a second each."""

    cold: bool = False

    start_s_max = 0.6
    rest_s_max = 0.01  # somewhere inside a group, a batch or a reply

    def make(self) -> Node:
        """A node with one feed."""
        node = Node(self._realm, self.folder / "node", feeds=[Feed(STREAM)], gateway=self._centre)
        address = node.feeds[0].address
        self._senders = [Sender(n, address, random.Random(f"{self.seed}-{n}")) for n in range(SENDERS)]
        return node

    def work(self) -> str:
        self._start_centre()
        self._start_node()
        for sender in self._senders:
            sender.start()
        for at in range(self.kills):
            self._kill(at)
        return self._finish()

    def abandon(self) -> None:
        for sender in self._senders:
            sender.finishing, sender.fault = True, sender.fault or "over"

    def faults(self) -> list[str]:
        return [sender.fault for sender in self._senders if sender.fault]

    # -- killing -------------------------------------------------------------------------------------------------

    def _start_node(self) -> None:
        self._node.launch(cold=self.cold)

    def _start_centre(self) -> None:
        self._centre.launch(cold=self.cold)

    def _kill(self, at: int) -> None:
        """Let some work be done, or the victim just start; kill it; start it again."""
        node = at % 2 == 0
        self.let_work(
            [self._node.is_listening, *([] if node else [self._centre.is_up])], self._acknowledged, WORK_MAX, STREAM
        )
        if node:
            self._node.kill()
            self._start_node()
        else:
            self._centre.kill()
            self._start_centre()
        if at % 100 == 99:
            self.report(f"{at + 1} kills, {self._acknowledged()} acknowledged")

    def _acknowledged(self) -> int:
        return sum(len(sender.acknowledged) for sender in self._senders)

    # -- the reckoning -------------------------------------------------------------------------------------------

    def _finish(self) -> str:
        self.wait("a gateway that is up", self._centre.is_up)
        self.wait("a node that listens", self._node.is_listening)
        for sender in self._senders:
            sender.finishing = True
        for sender in self._senders:
            sender.join(120)
        self.check_faults()
        self._node.ask("retry")
        self.wait("everything receipted", self._is_receipted)
        sent = [sender.acknowledged for sender in self._senders]
        if not all(len(acknowledged) > self.kills // 10 for acknowledged in sent):
            raise LoopError(f"connections that were acknowledged {[len(each) for each in sent]} messages prove nothing")
        found = check(self._centre, self._node.name, sent)
        repeats = sum(sender.repeats for sender in self._senders)
        return f"{self.kills} kills: {found} acknowledged, {found} at the gateway, in order, each once; {repeats} sent again (seed {self.seed})"

    def _is_receipted(self) -> bool:
        stream = self._node.stream(STREAM)
        return stream.size == stream.receipted


def check(centre: Centre, node: str, acknowledged: list[list[bytes]]) -> int:
    """Compare what the gateway gives a consumer with what was acknowledged on each connection; how many. Raises LoopError."""
    got: list[list[bytes]] = [[] for _ in acknowledged]
    position = 0
    for position, row in enumerate(rows_of(centre, node, STREAM), 1):  # noqa: B007  # their number
        if row.verdict != "accepted":
            raise LoopError(f"position {row.seq}: {row.verdict}")
        got[number_of(row.control_id)[0]].append(row.body)
    for number, (mine, theirs) in enumerate(zip(acknowledged, got, strict=True)):
        if mine != theirs:
            at = next(
                (n for n, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]),
                min(len(mine), len(theirs)),
            )
            raise LoopError(
                f"connection {number}: {len(mine)} acknowledged, {len(theirs)} at the gateway; they differ at {at}: "
                f"{mine[at : at + 1]!r:.120} against {theirs[at : at + 1]!r:.120}"
            )
    return position


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument(
        "--cold", action="store_true", help="start the unmodified commands: a second more for each kill"
    )
    parser.add_argument("--keep", type=Path, help="use and keep this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loop = KillLoop(options.keep or Path(folder), options.kills, options.seed, cold=options.cold)
        began = time.monotonic()
        try:
            print(loop.run(), f"in {time.monotonic() - began:.0f} s")
        except (LoopError, RuntimeError) as error:
            sys.exit(f"FAILED with seed {options.seed}: {error}")


if __name__ == "__main__":
    main()
