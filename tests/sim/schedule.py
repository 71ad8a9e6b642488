"""What a seed means: the shape of a world and the faults that come over it. Values, so that a failing one can be cut down."""

from dataclasses import dataclass, replace
from random import Random

FAULTS_S = 36.0  # virtual: within this time all faults begin and end
OPS_MIN, OPS_MAX = 2, 9

# kind: (weight, longest span in virtual seconds)
KINDS: dict[str, tuple[int, float]] = {
    "lose": (6, 20.0), "double": (5, 20.0), "delay": (5, 20.0), "cut-up": (4, 20.0), "cut-down": (5, 15.0), "truncate": (3, 10.0),
    "junk": (2, 10.0), "stale": (4, 15.0), "forge": (3, 10.0),
    "crash-node": (14, 0.0), "crash-centre": (12, 0.0), "full-node": (4, 10.0), "full-centre": (4, 10.0), "nearly-full": (1, 8.0), "busy": (3, 8.0),
    "restore-node": (5, 20.0), "restore-centre": (4, 20.0), "clone": (6, 20.0), "new-ledger": (2, 0.0),
    "clock-node": (3, 20.0), "clock-centre": (3, 20.0), "renew-log": (2, 0.0), "renew-cosign": (4, 0.0), "deaf": (6, 10.0),
    "path-gone": (0, 20.0), "change-key": (0, 40.0), "keys-out": (0, 0.0), "resign": (0, 10.0),
}  # fmt: skip
SILENT = (
    "restore-centre",
    "new-ledger",
)  # an idle node would never learn of it, nor of a copy: it calls only when it has something to send
PARTING = {"restore-node", "clone"}  # a disk of the node is rolled back or copied: a further epoch may follow
CALM = ("deaf", "cut-down", "crash-node", "crash-centre", "double", "stale", "lose", "delay", "busy")
KEYS_SHARE = 0.2
FULL_SHARE = 0.12  # of worlds to which nothing else that is rare happens: one in twenty of all
QUOTA_BYTES, OCTETS_BIG = 128 * 4096, 6000  # a queue of minutes fills it
FORGETS_SHARE = 0.25  # of a thief's worlds in which no disk is rolled back, copied or replaced already: one in ten
PASTS = (2**31, 2**32, 2**63 - 2**12)  # the last leaves room below SQLite's largest integer


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One fault: what, when, how long, and a number from 0 to 1 that says how exactly."""

    kind: str
    at: float
    span: float
    much: float

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:.3f} s for {self.span:.3f} s, {self.much:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A world and its faults. `past`: the size at which every log begins; `wrap`: after how many messages control ids repeat (0: never);
    `after`: how many messages each source sends when the faults are over; `ways`: see tests/sim/ways.py; `gone`: the first of them never comes
    back; `mark`: there is a high-water mark; `parts`: the link is thin, some bodies are larger than a call may be; `keys`: the log key changes.
    """

    seed: int
    streams: int
    feeds: int
    past: int
    every_s: float
    octets: int
    wrap: int
    after: int
    quota_bytes: int
    answer_s_max: float
    retention_s: float
    real_keys: bool
    files: bool
    ops: tuple[Op, ...]
    ways: int = 1
    gone: bool = False
    mark: bool = False
    parts: bool = False
    keys: bool = False


def schedule_of(seed: int, *, wild: bool = False) -> Schedule:
    """The schedule of a seed. A tenth has real keys, one in fifty real files. `wild`: any number of rolled back and copied disks."""
    dice = Random(f"schedule {seed}")
    kinds = dice.choices(list(KINDS), [weight for weight, _ in KINDS.values()], k=dice.randint(OPS_MIN, OPS_MAX))
    if not wild:
        kinds = _tamed(kinds)
    past = dice.choice(PASTS) - dice.randrange(1, 40) if dice.random() < 0.15 else 0
    if past:  # what came before lies nowhere: another ledger could never be told
        kinds = ["cut-down" if kind == "new-ledger" else kind for kind in kinds]
    big = dice.random() < 0.25
    plain = Schedule(
        seed=seed, streams=dice.randint(1, 4), feeds=dice.randint(1, 3), past=past, every_s=dice.choice((0.2, 0.4, 0.8)),
        octets=OCTETS_BIG if big else 200, wrap=dice.choice((0, 0, 0, 5)),
        after=3 if any(kind in SILENT for kind in kinds) else max(dice.choice((0, 3)), 3 * bool(PARTING & set(kinds))), quota_bytes=QUOTA_BYTES if big else 0, answer_s_max=dice.choice((2.0, 5.0)),
        retention_s=dice.choice((0.0, 5.0, 1000.0)), real_keys=seed % 10 == 9, files=seed % 50 == 25,
        ops=tuple(sorted((_op(kind, dice) for kind in kinds), key=lambda op: op.at)),
    )  # fmt: skip
    plain = _with_keys(_with_more(plain, Random(f"more {seed}")), Random(f"the log key changes {seed}"))
    return _with_full(plain, Random(f"a full disk comes back {seed}"))


def _with_more(plain: Schedule, dice: Random) -> Schedule:
    """A share of the worlds has a high-water mark, several ways out, or bodies in parts; the others are as they are without these."""
    mark, share = dice.random() < 0.4, dice.random()
    if share < 0.06:
        return replace(plain, mark=mark, parts=True, quota_bytes=0, answer_s_max=20.0)
    if share < 0.22:
        ways = dice.choice((2, 2, 3, 4))
        at = dice.uniform(0.5, FAULTS_S - 21.0)
        gone = Op(kind="path-gone", at=at, span=dice.uniform(12.0, 20.0), much=dice.random())
        ops = tuple(sorted((*plain.ops, gone), key=lambda op: op.at))
        return replace(plain, mark=mark, ways=ways, gone=ways == 2 and dice.random() < 0.5, answer_s_max=2.0, ops=ops)
    return replace(plain, mark=mark)


def _with_full(plain: Schedule, dice: Random) -> Schedule:
    """A share of the plain worlds fills its disk while the node is cut off; then a backup of just that is put back, after all of it was sent, and more."""
    special = plain.parts or plain.keys or plain.past or plain.ways > 1
    if dice.random() >= FULL_SHARE or special or any(op.kind in PARTING or op.kind in SILENT for op in plain.ops):
        return plain
    at = dice.uniform(9.0, 14.0)
    cut = Op(kind="cut-up", at=0.5, span=at, much=dice.random())
    back = Op(kind="restore-node", at=at, span=dice.uniform(6.0, 20.0), much=dice.random())
    return replace(
        plain, quota_bytes=QUOTA_BYTES, octets=OCTETS_BIG, every_s=0.2, retention_s=dice.choice((0.0, 5.0)), after=3,
        ops=tuple(sorted((cut, back, *plain.ops[:2]), key=lambda op: op.at)),
    )  # fmt: skip


def with_thief(plain: Schedule) -> Schedule:
    """The same world, cut off while its log key changes twice, once more perhaps later, and with a thief on its way from the beginning on."""
    dice = Random(f"a thief {plain.seed}")
    changes = [Op(kind="change-key", at=dice.uniform(0.0, 6.0), span=0.0, much=dice.random()) for _ in range(2)]
    until = max(op.at for op in changes) + dice.uniform(0.0, 6.0)
    # on either of two ways: which it is comes of the number's thousandths
    numbers = (0.9, 0.901)
    cut = [Op(kind="cut-up", at=0.0, span=until, much=much) for much in numbers]
    thief = [Op(kind="resign", at=0.0, span=FAULTS_S, much=much) for much in numbers]
    # not all of its own: a node holds four earlier keys at most
    later = [op for op in plain.ops if op.kind == "change-key" and op.at > until][:1]
    others = [op for op in plain.ops if op.kind != "change-key"]
    forgets = _forgets(plain, until, Random(f"the centre forgets a thief {plain.seed}"))
    return replace(plain, ops=tuple(sorted((*others, *later, *changes, *cut, *thief, *forgets), key=lambda op: op.at)))


def _forgets(plain: Schedule, until: float, dice: Random) -> list[Op]:
    """In a share of a thief's worlds the gateway's disk of before his first statement is put back after it, so that it has forgotten what he opened."""
    if dice.random() >= FORGETS_SHARE or plain.past or any(op.kind in PARTING or op.kind in SILENT for op in plain.ops):
        return []
    at = dice.uniform(0.0, until)
    back = dice.uniform(until + 2.0, FAULTS_S - 6.0)
    return [Op(kind="restore-centre", at=at, span=back - at, much=dice.random())]


def _with_keys(plain: Schedule, dice: Random) -> Schedule:
    """A fifth of the worlds changes its log key, often between a copy or backup and its use, often with a queue; the others are as they are without."""
    if dice.random() >= KEYS_SHARE:
        return plain
    rare = [op for op in plain.ops if op.kind in PARTING or op.kind in SILENT]
    ops = [_change(rare, dice) for _ in range(dice.choice((1, 1, 2, 2, 3)))]
    more = [kind for kind, share in (("keys-out", 0.35), ("resign", 0.3), ("cut-up", 0.3)) if dice.random() < share]
    ops += [_op(kind, dice) for kind in more]
    ops = [replace(op, at=dice.uniform(10.0, FAULTS_S)) if op.kind == "keys-out" else op for op in ops]
    return replace(
        plain, keys=True, after=max(plain.after, 3), ops=tuple(sorted((*plain.ops, *ops), key=lambda op: op.at))
    )


def _change(rare: list[Op], dice: Random) -> Op:
    """A change of the log key. Its span: how long the new certificate is not good yet."""
    made = _op("change-key", dice)
    at = made.at
    if rare and dice.random() < 0.6:
        at = dice.uniform(rare[0].at, rare[0].at + max(1.0, rare[0].span))
    return replace(made, at=at, span=made.span if dice.random() < 0.35 else 0.0)


def _tamed(kinds: list[str]) -> list[str]:
    """At most one disk that is rolled back, copied or replaced: what several do together is not yet right (docs/reliability-simulation.md)."""
    spare, seen = iter(CALM), False
    tamed = []
    for kind in kinds:
        rare = kind in PARTING or kind in SILENT
        tamed.append(next(spare) if rare and seen else kind)
        seen = seen or rare
    return tamed


def _op(kind: str, dice: Random) -> Op:
    at = dice.uniform(0.5, FAULTS_S - 21.0)
    return Op(kind=kind, at=at, span=dice.uniform(0.2, max(0.2, KINDS[kind][1])), much=dice.random())
