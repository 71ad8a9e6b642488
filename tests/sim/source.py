"""A hospital system that stops and waits: one message, its answer, the next; without an answer the same message again."""

from random import Random
from typing import Any

from sync.errors import NoRoom
from sync.header import CONTROL_ID, common_start, encode_particulars
from sync.outbox import Stored
from sync.outbox_arrivals import repeat_key
from sync.record import Draft, Kind
from tests.sim.machine import broken

ANSWER_S_MAX = 2.0  # then it sends again
REFUSED_S = 1.0
LARGE_SHARE, LARGE_OCTETS = 0.08, (13_000, 60_000)  # images: they do not compress, and take two to five parts


class Source:
    """One feed of a box into one stream. `deaf_until`: replies sent before then are lost."""

    def __init__(
        self, world: Any, box: Any, *, name: str, stream: str, dice: Random, every_s: float, octets: int, wrap: int, large: bool = False
    ) -> None:  # fmt: skip
        self.world, self.box, self.name, self.stream, self.dice = world, box, name, stream, dice
        self.every_s, self.octets, self.wrap, self.large = every_s, octets, wrap, large
        self.next = 0  # the message that waits for its answer, or will be sent next
        self.tries = 0
        self.goal = -1  # where it stops, once the faults are over
        self.bodies: list[bytes] = []
        self.deaf_until = 0.0
        self.busy = False
        self.common = common_start(
            kind=Kind.MESSAGE, facility="simulated", feed=name, content_type="application/hl7-v2+er7"
        )

    def body(self, n: int) -> bytes:
        """The n-th message; made when it is first sent."""
        while len(self.bodies) <= n:
            filler = b"Sample^Simulated " * (self.dice.randrange(1, self.octets) // 17)
            if self.large and self.dice.random() < LARGE_SHARE:
                filler = self.dice.randbytes(self.dice.randrange(*LARGE_OCTETS))
            self.bodies.append(f"MSH|^~\\&|SIM|{self.name}|{len(self.bodies)}|".encode() + filler + b"\r")
        return self.bodies[n]

    def connected(self) -> None:
        """The box is up."""
        self.busy = False
        self._later(self.dice.random() * self.every_s)

    def lost(self) -> None:
        """The box went down: whatever was under way has no answer."""
        self.busy = False

    def _later(self, seconds: float) -> None:
        self.world.agenda.after(seconds, self._send, self.box.life, self.next, self.tries)

    def _send(self, life: int, n: int, tries: int) -> None:
        box = self.box
        if not box.up or box.life != life or n != self.next or tries != self.tries or self.busy:
            return
        if self.world.sated(self):
            self._later(1.0)
            return
        self.busy = True
        self.tries += 1
        mine = self.tries
        control = f"{self.name}-{n % self.wrap if self.wrap else n}"
        draft = Draft(
            stream=self.stream, common=self.common, message_type="ADT^A01", received_us=box.now_us(), clock_state=1, clock_error_us=5000, verdict=0,
            particulars=encode_particulars([(CONTROL_ID, control)]), body=self.body(n), repeat_key=repeat_key(self.name, control),
        )  # fmt: skip
        if not box.writer.submit(draft, lambda outcome: self._answered(n, mine, outcome)):
            self._refused()
            return
        self.world.agenda.after(ANSWER_S_MAX, self._no_answer, mine)

    def _no_answer(self, tries: int) -> None:
        if tries == self.tries and self.busy:
            self.busy = False
            self.world.counts["unanswered"] += 1
            self._later(0.0)

    def _refused(self) -> None:
        self.world.counts["refused"] += 1
        self.busy = False
        self._later(REFUSED_S)

    def _answered(self, n: int, tries: int, outcome: Stored | NoRoom) -> None:
        """The reply leaves the box. What it says must be true now."""
        if isinstance(outcome, NoRoom):
            if tries == self.tries:
                self._refused()
            return
        self.world.truth.acknowledged(self.box, self, n, outcome)
        if self.deaf_until > self.world.agenda.now:
            return
        if n == self.next and tries == self.tries:
            self.busy = False
            self.next = n + 1
            self._later(self.every_s * (0.5 + self.dice.random()))
        elif n > self.next:
            broken(f"{self.name} was answered for {n}, it waits for {self.next}")
