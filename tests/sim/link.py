"""The way between nodes and gateway: it loses, doubles, delays, cuts short and answers with old news, as the weather says."""

from dataclasses import replace
from random import Random
from typing import Any

from sync.checkpoint import parse_checkpoint, parse_note, sign_checkpoint
from sync.receipt import cosign, shorten
from tests.sim.agenda import Agenda
from tests.sim.centre import Asked
from tests.sim.keys import HashSigner
from tests.sim.machine import broken
from tests.sim.parts import CALL_S_MAX

TRIP_S = 0.02  # one way, on a good day
UPLOADS = "/v1/uploads/"
LATE_S_MAX = 12.0  # a late request arrives after its sender gave up


class Weather:
    """Rates from 0 to 1, and until when each holds."""

    KINDS = ("lose", "double", "delay", "cut-up", "cut-down", "truncate", "junk", "stale", "forge", "resign")

    def __init__(self) -> None:
        self.until = dict.fromkeys(self.KINDS, 0.0)
        self.rate = dict.fromkeys(self.KINDS, 0.0)

    def set(self, kind: str, until: float, rate: float) -> None:
        self.until[kind], self.rate[kind] = until, rate

    def clear(self) -> None:
        self.until = dict.fromkeys(self.KINDS, 0.0)


class Link:
    """All nodes' way to one gateway."""

    def __init__(
        self, agenda: Agenda, dice: Random, counts: dict[str, int], *, ways: int = 1, width: float = 0.0
    ) -> None:
        self.agenda, self.dice, self.counts = agenda, dice, counts
        self.weathers = [Weather() for _ in range(ways)]
        self.gone_until = 0.0  # the first way
        self.width = width
        self.free_at = 0.0
        self.centre: Any = None
        self.calm = True
        self.thief: Any = bytes  # signs what passes with a key that is not in force
        self.jumps: Any = lambda _: ()  # statements that he sends of his own, when this passes
        self.old: list[bytes] = []  # receipts given before, to be given again by a broken box in between

    def _is(self, kind: str, way: int) -> bool:
        weather = self.weathers[way]
        if weather.until[kind] <= self.agenda.now or self.dice.random() >= weather.rate[kind]:
            return False
        self.counts[kind] += 1
        return True

    def _trip_s(self, way: int) -> float:
        return LATE_S_MAX * self.dice.random() if self._is("delay", way) else TRIP_S * (0.5 + self.dice.random())

    def _sending_s(self, octets: int) -> float:
        """Until all bytes of a call are through a thin link, behind those of the other lanes."""
        if not self.width:
            return 0.0
        if octets > self.width * CALL_S_MAX:
            broken(f"a call of {octets} bytes holds the link for {octets / self.width:.1f} s")
        self.free_at = max(self.free_at, self.agenda.now) + octets / self.width
        return self.free_at - self.agenda.now

    def ask(
        self, box: Any, strand: Any, method: str, path: str, body: bytes, headers: dict[str, str], connected_at: float, way: int = 0
    ) -> None:  # fmt: skip
        """A request leaves."""
        ticket, life = strand.ticket + 1, box.life  # the wait that follows takes this ticket
        sending_s = self._sending_s(len(body))
        if (way == 0 and self.gone_until > self.agenda.now) or self._is("cut-up", way) or self._is("lose", way):
            return
        is_receipt = method == "PUT" and not path.startswith(UPLOADS)

        def reply(answer: Any) -> None:
            self._answer(box, strand, life, ticket, answer, way, sent=asked.sent if is_receipt else None)

        cut = len(body) > 1 and self._is("truncate", way)
        sent = body[: self.dice.randrange(1, len(body))] if cut else body
        if (is_receipt or path.endswith("/epochs")) and not cut and self._is("resign", way):
            for statement in self.jumps(sent):
                theirs = f"{path.rsplit('/', 2)[0]}/epochs"
                forged = Asked(box.node, "POST", theirs, statement, headers, connected_at, True, lambda _: None)
                self.agenda.after(TRIP_S, self._arrive, forged)
            sent = self.thief(sent)
        asked = Asked(box.node, method, path, sent, headers, connected_at, not cut, reply)
        for _ in range(2 if self._is("double", way) else 1):
            self.agenda.after(sending_s + self._trip_s(way), self._arrive, asked)

    def _arrive(self, asked: Asked) -> None:
        self.centre.guarded(self.centre.life, self.centre.arrive, asked)

    def _answer(
        self, box: Any, strand: Any, life: int, ticket: int, answer: Any, way: int, *, sent: bytes | None
    ) -> None:  # fmt: skip
        """An answer leaves the gateway; `sent`: to a PUT, and what its sender wants not to be told again."""
        if (way == 0 and self.gone_until > self.agenda.now) or self._is("cut-down", way) or self._is("lose", way):
            return
        if isinstance(answer, bytes) and sent is not None:
            if self.old and self._is("stale", way):
                answer = self.dice.choice(self.old)
            else:
                self.old = [*self.old[-7:], answer]
            if self._is("forge", way):
                answer = self._forged(answer)
            answer = shorten(answer, sent) if sent else answer
        if self._is("junk", way):
            answer = "junk"
        self.agenda.after(self._trip_s(way), box.guarded, life, strand.resume, ticket, answer)

    def _forged(self, note: bytes) -> bytes:
        """A receipt that a faulty or false centre could give: of another root, of more than there is, or by another key."""
        found = parse_checkpoint(parse_note(note).text)
        kind, signer = self.dice.randrange(3), self.centre.cosign.signer
        if kind == 0:
            found = replace(found, root=self.dice.randbytes(32))
        elif kind == 1:
            found = replace(found, size=found.size + 1)
        else:
            signer = HashSigner(signer.name, self.dice.randbytes(32))
        return cosign(sign_checkpoint(found, HashSigner("stranger", bytes(32))), time=1, signer=signer)
