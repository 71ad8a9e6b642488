"""The faults of a schedule, one method to a kind, and the healing at the end: what a person does included."""

from typing import Any

from tests.sim.mark import Place, older, places
from tests.sim.schedule import Op

YEARS_US = 20 * 365 * 86_400 * 1_000_000
WEATHER = ("lose", "double", "delay", "cut-up", "cut-down", "truncate", "junk", "stale", "forge", "resign")
WHOLE_CARD = 0.5  # of backups where keys change: with the keys of then; else of the disk alone
POINTS_MAX = 40  # a crash comes within so many statements and effects


class Faults:
    """What comes over a world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.copies: list[Any] = []  # of the node's disk, with what its sources had sent

    def apply(self, op: Op) -> None:
        """Let a fault begin; its end comes by itself."""
        if op.kind in WEATHER:
            rate = 1.0 if op.kind.startswith("cut") else 0.1 + 0.6 * op.much
            weathers = self.world.link.weathers
            weathers[int(op.much * 1000) % len(weathers)].set(op.kind, self.world.agenda.now + op.span, rate)
        else:
            getattr(self, "_" + op.kind.replace("-", "_"))(op)

    def heal(self) -> None:
        """No more faults; a person looks after what machines may not decide."""
        world = self.world
        for weather in world.link.weathers:
            weather.clear()
        for machine in (*world.boxes, world.centre):
            machine.fuse, machine.full_until, machine.shift_us = -1, 0.0, 0
        for box in world.boxes:
            box.next_fuse = -1
        world.centre.busy_until = world.centre.nearly_full_until = 0.0
        for source in world.feeds.values():
            source.deaf_until = 0.0
        live = [box for box in world.boxes if not box.retired]
        if len(live) > 1:  # two copies: one of them is stopped
            gone = world.dice.choice(live)
            gone.retired = True
            gone.fall()
            world.say(f"a person stops copy {world.boxes.index(gone)}")
        self._mind()

    def _mind(self) -> None:
        """A person restarts a node that says it is fenced, and releases what is held: once a minute somebody looks."""
        world = self.world
        if world.centre.up and world.truth.held:
            world.counts["released"] += 1
            world.centre.guarded(world.centre.life, world.centre.release)
        for box in world.boxes:
            if box.up and any(alarm["code"] == "SYN-27" for alarm in box.alarms.standing()):
                world.say("a person restarts a fenced node")
                world.counts["fenced"] += 1
                box.fall()
            if world.schedule.keys and not box.retired:
                world.changes.mind(box)
        world.agenda.after(60.0, self._mind)

    def _path_gone(self, op: Op) -> None:
        """The first way out is dead for a while, or for good."""
        world = self.world
        world.link.gone_until = float("inf") if world.schedule.gone else world.agenda.now + op.span

    def _box(self, op: Op) -> Any:
        live = [box for box in self.world.boxes if not box.retired]
        return live[int(op.much * 1000) % len(live)]

    # -- processes and disks ---------------------------------------------------------------------------------------

    def crash(self, machine: Any, much: float) -> None:
        """Let a process die at one of its next points."""
        if machine.up:
            machine.arm(int(much * POINTS_MAX))
            machine.after(1.0, self._end_of_fuse, machine)

    @staticmethod
    def _end_of_fuse(machine: Any) -> None:
        if machine.fuse >= 0:
            machine.fall()

    def _crash_node(self, op: Op) -> None:
        self.crash(self._box(op), op.much)

    def _crash_centre(self, op: Op) -> None:
        self.crash(self.world.centre, op.much)

    def _full_node(self, op: Op) -> None:
        self._box(op).fill(self.world.agenda.now + op.span, int(op.much * 12))

    def _full_centre(self, op: Op) -> None:
        self.world.centre.fill(self.world.agenda.now + op.span, int(op.much * 12))

    def _nearly_full(self, op: Op) -> None:
        self.world.centre.nearly_full_until = self.world.agenda.now + op.span

    def _busy(self, op: Op) -> None:
        self.world.centre.busy_until = self.world.agenda.now + op.span

    # -- backups and copies ----------------------------------------------------------------------------------------

    def _restore_node(self, op: Op) -> None:
        """A backup is taken now, and put back when the span is over."""
        box = self._box(op)
        copied, sent = box.disk.copy(), self._sent(box)
        whole = self.world.schedule.keys and op.much < WHOLE_CARD
        keys = (box.log, box.earlier) if whole else None
        self.world.agenda.after(op.span, self._put_back, box, copied, sent, places(box.disk), keys)

    @staticmethod
    def _sent(box: Any) -> dict[str, int]:
        return {source.name: source.next for source in box.sources}

    def _put_back(self, box: Any, copied: Any, sent: dict[str, int], ends: dict[str, Place], keys: Any) -> None:
        world = self.world
        if box.retired:
            return
        world.say("the node's backup is put back")
        world.copied = True
        box.fall()
        box.disk.restore(copied)
        if keys is not None:
            box.log, box.earlier = keys
        box.must_part = older(box.mark_file.data, ends)
        for source in box.sources:
            world.truth.lost |= {(source.name, n) for n in range(sent[source.name], source.next + 1)}
            world.truth.twice.add((source.name, source.next))

    def _restore_centre(self, op: Op) -> None:
        centre = self.world.centre
        copied = centre.disk.copy()
        self.world.agenda.after(op.span, self._put_back_centre, copied)

    def _put_back_centre(self, copied: Any) -> None:
        world = self.world
        world.say("the centre's backup is put back")
        world.centre_rolled_back = True
        world.centre.fall()
        world.centre.disk.restore(copied)
        world.truth.forget()

    def _new_ledger(self, _op: Op) -> None:
        self._put_back_centre(None if not self.world.schedule.files else {})

    def _clone(self, op: Op) -> None:
        """A second machine with the disk as it is now; both run."""
        world, box = self.world, self._box(op)
        if len(world.boxes) > 2 or not box.up:
            return
        disk = world.new_disk(f"/sim/copy{len(world.boxes)}")
        disk.restore(box.disk.copy())
        world.copied = True
        made = world.box(disk)
        made.log, made.earlier = box.log, box.earlier
        if op.much < 0.5:  # of the whole card; else of the disk alone
            made.mark_file.data = box.mark_file.data
        for source in box.sources:
            world.truth.twice.add((source.name, source.next))
        world.agenda.after(op.span * 0.3, made.start)

    # -- clocks, keys, ears ----------------------------------------------------------------------------------------

    def _jump(self, machine: Any, op: Op) -> None:
        machine.shift_us = int((op.much * 2 - 1) * YEARS_US)
        self.world.agenda.after(op.span, self._right, machine)

    @staticmethod
    def _right(machine: Any) -> None:
        machine.shift_us = 0

    def _clock_node(self, op: Op) -> None:
        self._jump(self._box(op), op)

    def _clock_centre(self, op: Op) -> None:
        self._jump(self.world.centre, op)

    def _renew_log(self, op: Op) -> None:
        """A new certificate for the log key: with the next start."""
        self.world.renewed["log"] += 1
        self.world.changes.renew(self._box(op))
        self._crash_node(op)

    def _change_key(self, op: Op) -> None:
        self.world.changes.change(self._box(op), op.span, str(op))

    def _keys_out(self, op: Op) -> None:
        self.world.changes.take_out(self._box(op), str(op))

    def _renew_cosign(self, op: Op) -> None:
        """A new cosigning key: with the gateway's next start."""
        self.world.renewed["cosign"] += 1
        self.world.centre.cosign = self.world.identity("cosign")
        self._crash_centre(op)

    def _deaf(self, op: Op) -> None:
        sources = list(self.world.feeds.values())
        for source in sources[int(op.much * 3) :: 2] or sources:
            source.deaf_until = self.world.agenda.now + op.span
