"""A change of the log key as it comes over a world: the operator who makes it, at a bad moment, and sets right what only a person can; and a thief."""

from collections.abc import Iterator
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from node.key_status import Change, state_of_change
from sync.checkpoint import Note, parse_note, sign_text
from sync.log import EMPTY_ROOT
from sync.names import EPOCHS_AHEAD_MAX, Origin
from sync.opening import End, Opening, sign_opening
from sync.outbox_view import OutboxView
from sync.session import EARLIER_KEYS_MAX
from tests.sim.disk import unseen
from tests.sim.keys import HashSigner, Identity
from tests.sim.machine import EPOCH_US
from tests.sim.parcel import Parcel

DIES_AGAIN, POINTS_MAX = 0.5, 60  # of starts under a new key: so many points into it, which is past its hand-over
IMPATIENT = 0.3  # takes the earlier keys out without looking whether they are still needed
STATEMENT = b"wasl-opening/"
JUMPS_SHARE, JUMPS = 0.35, 3  # of the worlds with a thief; of his statements in each stream
STEPS = (1, 1, 80)  # that each of these takes at once; all three leave a key with openings for what comes after
KEY_ALARMS = {"SYN-15", "SYN-32"}


class KeyChanges:
    """Of one world: the keys that were ever made, in their order, and what is done with them."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.made: list[Identity] = [world.log_identity(0)]
        self.good_from = [0]  # POSIX seconds, by the key's number
        self.certificates = {self.made[0].der}
        self.fresh = b""  # of these the one that a person made where another's was refused
        self.altered: set[bytes] = set()  # notes as a thief left them
        self.jumped: set[str] = set()  # streams in which a thief opened epochs of his own
        self.hasty = False  # somebody took keys out that may still be needed

    # -- what comes over a world -----------------------------------------------------------------------------------

    def change(self, box: Any, late_s: float, seed: str) -> None:
        """A new key from the next start on, which comes now, in the middle of whatever is under way; half of those starts die, too."""
        dice, world = Random(seed), self.world
        since = (EPOCH_US // 1_000_000 + int(world.agenda.now + late_s)) if late_s else 0
        self._give(box, self._make(since), (box.log, *box.earlier))
        if dice.random() < DIES_AGAIN:
            box.next_fuse = dice.randrange(POINTS_MAX)
        world.faults.crash(box, dice.random())

    def _make(self, since: int) -> Identity:
        made = self.world.log_identity(len(self.made), since)
        self.made.append(made)
        self.good_from.append(since)
        self.certificates.add(made.der)
        return made

    def renew(self, box: Any) -> None:
        """A new certificate for the key that a box has, good at once."""
        number = self.number(box.log.signer.public)
        box.log = self.made[number] = self.world.log_identity(number)
        self.good_from[number] = 0
        self.certificates.add(box.log.der)

    def number(self, public: bytes) -> int:
        """Which key this is; -1 for one that was never made."""
        return next((n for n, each in enumerate(self.made) if each.signer.public == public), -1)

    def take_out(self, box: Any, seed: str) -> None:
        """The earlier keys go, once `wasl status` says that they may; an impatient person does not look."""
        dice, world = Random(seed), self.world
        if not box.up or not box.earlier:
            return
        impatient = dice.random() < IMPATIENT
        if not impatient and self._state(box) != Change.DONE.word:
            return
        self.hasty = self.hasty or impatient
        world.say(f"the earlier keys of box {world.boxes.index(box)} are taken out{' too early, perhaps' * impatient}")
        self._give(box, box.log, ())
        world.counts["keys taken out"] += 1
        world.faults.crash(box, dice.random())

    def _give(self, box: Any, present: Identity, earlier: tuple[Identity, ...]) -> None:
        box.log, box.earlier = present, earlier[:EARLIER_KEYS_MAX]

    def _state(self, box: Any) -> str:
        """As `wasl status` says it."""
        pem = SimpleNamespace(read_bytes=lambda: box.log.pem.encode())
        keys = SimpleNamespace(log_certificate=pem, previous=box.earlier)
        config = SimpleNamespace(keys=keys, node=SimpleNamespace(name=box.node))
        with unseen(box.disk.connection):
            found = state_of_change(cast("Any", config), OutboxView(box.path, box.node).streams())
        return str(found["state"])

    # -- what a person does ----------------------------------------------------------------------------------------

    def mind(self, box: Any) -> None:
        """Whoever reads SYN-15 or SYN-32, or after a thief SYN-31, gives the node the newest key, and the ones before under `[[keys.previous]]`, and restarts it.

        Where there were two copies that may be the other's, which this one's may have followed: the change to it is refused for ever. Then it
        is a fresh one, and the order for a further epoch.
        """
        codes = {alarm["code"] for alarm in box.alarms.standing()}
        robbed = self.world.truth.keys.stolen and "SYN-31" in codes
        if not (box.lacks_key or robbed or codes & KEY_ALARMS):
            return
        world, newest = self.world, self.made[-1].signer.public
        if box.log.signer.public == newest and len(box.earlier) == min(len(self.made) - 1, EARLIER_KEYS_MAX):
            if robbed:  # a thief has used up what the node opens by itself
                self._order_epoch(box, "SYN-31")
            if len(world.boxes) == 1 and not self.fresh and not self._is_gone(box):
                return  # all it can have: it asks again by itself, when the certificate is good
            if newest == self.fresh:
                self._part(box)
                return
            self.fresh = self._make(0).signer.public
        world.say(f"a person gives box {world.boxes.index(box)} key {len(self.made) - 1} and those before it")
        world.counts["keys put right"] += 1
        present, *earlier = reversed(self.made)
        self._give(box, present, tuple(earlier))
        box.fall()

    def _is_gone(self, box: Any) -> bool:
        """Whether a thief's log, released by a person who did not look, has put the key of a stream that stands still behind it."""
        truth, centre = self.world.truth.keys, self.world.centre
        number = self.number(box.log.signer.public)
        return centre.up and any(
            truth.is_gone(alarm["subject"], number, centre)
            for alarm in box.alarms.standing()
            if alarm["code"] == "SYN-32"
        )

    def _part(self, box: Any) -> None:
        """`wasl epoch open` for each stream whose change of key is refused."""
        self._order_epoch(box, "SYN-32")

    def _order_epoch(self, box: Any, code: str) -> None:
        for alarm in box.alarms.standing():
            if box.up and alarm["code"] == code:
                self.world.say(f"a person orders a further epoch of {alarm['subject']}")
                self.world.counts["epochs ordered"] += 1
                box.lanes_up.part(alarm["subject"])

    # -- a thief ---------------------------------------------------------------------------------------------------

    def resigned(self, body: bytes) -> bytes:
        """A batch or statement that somebody on the way has signed: with a key from before, with a stranger's, with one signature less or more."""
        if not isinstance(body, Parcel) and not body.startswith(STATEMENT):
            return body
        note, dice = parse_note(body.batch.checkpoint if isinstance(body, Parcel) else body), self.world.dice
        stolen = [each.signer for each in self.made[:-1]] or [self._stranger()]
        kind, thief = dice.randrange(4), dice.choice(stolen)
        lines = note.signatures
        if kind < 2:
            lines = parse_note(sign_text(note.text, self._stranger() if kind else thief)).signatures
        elif kind == 2 and len(lines) > 1:
            lines = lines[1:] if dice.random() < 0.5 else lines[:1]
        else:
            lines = (*lines, *parse_note(sign_text(note.text, thief)).signatures)
        made = Note(note.text, lines).encode()
        if lines != note.signatures:
            self.altered.add(made)
        return body.signed(made) if isinstance(body, Parcel) else made

    def jumps(self, body: bytes) -> Iterator[bytes]:
        """In a third of the worlds, once a stream: statements of further epochs under an earlier key, each far ahead, of some worlds by many steps at once."""
        world, dice = self.world, Random(f"jumps {self.world.schedule.seed}")
        if not isinstance(body, Parcel) or len(self.made) < 2 or dice.random() >= JUMPS_SHARE:
            return
        ahead = dice.choice(STEPS) * EPOCHS_AHEAD_MAX
        batch, signer = body.batch, self.made[-2].signer
        if batch.stream in self.jumped:
            return
        self.jumped.add(batch.stream)
        common = End(Origin(world.node, batch.stream, batch.epoch, batch.tag), 0, EMPTY_ROOT)
        for number in range(1, JUMPS + 1):
            opened = Origin(world.node, batch.stream, batch.epoch + number * ahead, "0badcafe")
            made = sign_opening(Opening(opened=opened, theirs=None, own=common, common=common, carried=0), signer)
            self.altered.add(made)
            world.counts["jumps"] += 1
            yield made

    def _stranger(self) -> HashSigner:
        return HashSigner(self.world.node, self.world.dice.randbytes(32))
