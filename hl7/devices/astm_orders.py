"""Orders: out of HL7 OML and ORM messages, and as the records that answer an instrument's query (LIS2-A2 6.5, 10)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Final

from hl7.devices.astm_records import Field, Record, read, unescape, write, write_header
from hl7.message import Message, facts
from hl7.text import Text

TYPES: Final = ("OML^", "ORM^")
SPECIMEN_FIRST: Final = frozenset(
    {b"O33", b"O35"}
)  # HL7 2.9 4.4.8, 4.4.10: SPM stands before its orders; elsewhere behind them
CANCELLED: Final = frozenset({"CA", "DC", "OC", "OD", "CR", "DR"})  # HL7 table 0119
TESTS_MAX: Final = 200  # of one sample: a chemistry line offers some 400, no sample is asked for half of them
CONTAINERS_MAX: Final = 20  # of one sample: a primary tube and its aliquots
# of one sample: its own number, its containers', and two of each test's order
KEYS_MAX: Final = 1 + CONTAINERS_MAX + 2 * TESTS_MAX
ITEMS_MAX: Final = 10_000  # tests that are read of one message: fifty full samples; each costs some 50 µs
PRIORITIES: Final = {"S": b"S", "A": b"A", "STAT": b"S", "ASAP": b"A", "T": b"S"}
ASKED_MAX: Final = 50  # samples of one query that are answered: as many as a rack holds
NUMBERS_MAX: Final = 12  # parts of one range's beginning: rack, place, sample and what it is are four to nine with the vendors; each is looked up


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked of one sample. `keys`: every number by which an instrument may ask for it, the sample's own first. `containers`: each SAC-3.

    `placers`: the placer's number of each test, in their order; () where all have `placer`.
    """

    keys: tuple[str, ...]
    placer: str = ""
    patient: str = ""
    family: str = ""
    given: str = ""
    birth: str = ""
    sex: str = ""
    tests: tuple[str, ...] = ()
    priority: str = ""
    collected: str = ""
    specimen: str = ""
    is_cancelled: bool = False
    containers: tuple[str, ...] = ()
    placers: tuple[str, ...] = ()

    @property
    def placed(self) -> tuple[tuple[str, str], ...]:
        """Each test, with the placer's number of its order."""
        return tuple(zip(self.tests, self.placers or [self.placer] * len(self.tests), strict=True))

    @property
    def sample(self) -> str:
        """The sample's number."""
        return self.keys[0]


@dataclass(slots=True)
class _Specimen:
    """What SPM and SAC say; the tests of one specimen share it."""

    number: str = ""
    kind: str = ""
    collected: str = ""
    containers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Item:
    """One OBR on its way: what its ORC and its specimen say."""

    placer: str
    filler: str
    test: str
    priority: str
    is_cancelled: bool
    specimen: _Specimen


def read_orders(raw: bytes, *, charset_default: str = "utf-8") -> list[Order]:
    """The orders of a message, one for each sample. Raises NotEr7; ValueError where it is not text."""
    text = Text(raw, charset_default=charset_default)
    items = _items(text, Message(raw), is_specimen_first=facts(raw).route.trigger_event in SPECIMEN_FIRST)

    def of(path: str) -> str:
        return text.get(path).text

    person = Order(
        keys=("",), patient=of("PID-3[1].1"), family=of("PID-5[1].1.1") or of("PID-5[1].1"), given=of("PID-5[1].2"), birth=of("PID-7.1"), sex=of("PID-8"),
    )  # fmt: skip
    orders: dict[tuple[str, bool, bool], Order] = {}
    for item in items:
        specimen = item.specimen
        keys = tuple(dict.fromkeys(filter(None, (specimen.number, *specimen.containers, item.filler, item.placer))))
        if not keys:
            continue
        which = keys[0], item.is_cancelled, bool(item.test)  # one that was called off as a whole names no test
        known = orders.get(which)
        if known is None:
            known = replace(
                person, keys=keys, placer=item.placer, priority=item.priority, collected=specimen.collected, specimen=specimen.kind,
                is_cancelled=item.is_cancelled, containers=tuple(specimen.containers),
            )  # fmt: skip
        if len(known.tests) < TESTS_MAX:
            known = replace(known, keys=tuple(dict.fromkeys((*known.keys, *keys)))[:KEYS_MAX])
            if item.test and item.test not in known.tests:
                known = replace(known, tests=(*known.tests, item.test), placers=(*known.placers, item.placer))
        orders[which] = known
    return list(orders.values())


def _items(text: Text, message: Message, *, is_specimen_first: bool) -> list[_Item]:  # one branch for each segment
    items: list[_Item] = []
    seen: dict[bytes, int] = {}
    control, placer, specimen = "", "", _Specimen()
    whole: _Item | None = None

    def of(path: str) -> str:
        name, field = path.split("-", 1)
        return text.get(f"{name}[{seen[name.encode()]}]-{field}").text

    for name, _ in takewhile(lambda _: len(items) < ITEMS_MAX, message.segments()):
        seen[name] = seen.get(name, 0) + 1
        if name == b"ORC":
            control, placer = of("ORC-1"), of("ORC-2.1")
            if control in CANCELLED:  # the order as a whole, unless an OBR follows that says which test of it
                whole = _Item(placer, of("ORC-3.1"), "", "", True, specimen if is_specimen_first else _Specimen())
                items.append(whole)
        elif name == b"OBR":
            if items and items[-1] is whole:
                items.pop()
            if not is_specimen_first and specimen.number:  # the one behind it is another
                specimen = _Specimen()
            items.append(
                _Item(
                    of("OBR-2.1") or placer, of("OBR-3.1"), of("OBR-4.1"), of("OBR-5") or of("OBR-27.6"), control in CANCELLED, specimen
                )
            )  # fmt: skip
        elif name == b"SPM":
            specimen = _Specimen() if is_specimen_first else specimen
            specimen.number, specimen.kind, specimen.collected = (
                of("SPM-2.1.1") or of("SPM-2.2.1"),
                of("SPM-4.1"),
                of("SPM-17.1"),
            )
        elif name == b"SAC" and len(specimen.containers) < CONTAINERS_MAX:
            specimen.containers += [number] if (number := of("SAC-3.1")) else []
    return items


# ---- queries ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Asked:
    """Whose orders a query wants: those of the sample with this number, or with the one of several that is known; or a `patient`'s, if it names no sample."""

    samples: tuple[bytes, ...]
    patient: bytes = b""


EVERYTHING: Final = Asked((b"ALL",))


def asked_for(body: bytes, *, sample_component: int = 0) -> list[Asked] | None:
    """What a query's records ask for, ASKED_MAX at most, EVERYTHING being one; None where they only call an earlier query off (Q-13 A).

    `sample_component`: where the sample's number stands in Q-3, from 1, if it has so many parts; 0 where nobody has said it.
    """
    queries = read(body).of("Q")
    wanted = (each for query in queries if query.get(13) != b"A" for each in _asked(query, sample_component))
    found = list(islice(wanted, ASKED_MAX))
    return found if found or any(query.get(13) != b"A" for query in queries) else None


def _asked(query: Record, sample_component: int) -> Iterator[Asked]:
    """Q-3, the beginning of a range: patient ^ specimen by the standard (10.3); many vendors give the specimen alone, or behind rack and place.

    A number of a sample is never looked for among patients: it may be another patient's, and the tube would be measured by that one's orders.
    """
    marks = query.delimiters
    # divided once, and only so far: a field may be as long as a message, and other instruments wait for this one
    for one in query.field(3).split(marks.repeat, ASKED_MAX)[:ASKED_MAX]:
        parts = [unescape(part, marks).strip() for part in one.split(marks.component, NUMBERS_MAX)[:NUMBERS_MAX]]
        if len(parts) >= sample_component > 0:
            if number := parts[sample_component - 1]:
                yield Asked((number,))
        elif len(parts) == 2 and parts[0]:
            yield Asked((parts[1] or parts[0],), b"" if parts[1] else parts[0])
        elif found := tuple(dict.fromkeys(filter(None, parts))):
            yield Asked(found)


# ---- records ----------------------------------------------------------------------------------------------------------
def order_records(
    orders: Sequence[Order],
    *,
    now: bytes,
    charset: str = "utf-8",
    local: Callable[[str], str] = lambda code: code,
    is_answer: bool = True,
) -> tuple[bytes, ...]:
    """H, P, O .., L of these orders; H and L|1|I where there is none (LIS2-A2 12.3). `local`: the instrument's code of a test."""

    def out(value: str) -> bytes:
        return value.encode(charset, "replace")

    records = [write_header(b"", b"", b"Wasl", b"", b"", b"", b"", b"", b"", b"P", b"LIS2-A2", now)]
    for number, (patient, theirs) in enumerate(_by_patient(orders), 1):
        first = theirs[0]
        records.append(
            write(
                "P",
                b"%d" % number,
                out(patient),
                b"",
                b"",
                [out(first.family), out(first.given)],
                b"",
                out(first.birth),
                out(first.sex),
            )
        )
        for place, order in enumerate(theirs, 1):
            tests = [[b"", b"", b"", out(local(test))] for test in order.tests]
            fields: list[Field] = [
                b"%d" % place,
                out(order.sample),
                b"",
                tests,
                PRIORITIES.get(order.priority, b"R"),
                b"",
                out(order.collected),
                b"",
                b"",
                b"",
            ]
            action = b"C" if order.is_cancelled else b"N"
            rest: list[Field] = [action, b"", b"", b"", out(order.specimen), *[b""] * 9, b"Q" if is_answer else b"O"]
            records.append(write("O", *fields, *rest))
    records.append(write("L", b"1", b"N" if orders else b"I"))
    return tuple(records)


def _by_patient(orders: Iterable[Order]) -> list[tuple[str, list[Order]]]:
    """Of whom each is. What names no patient, or calls one otherwise, has a record of its own: else a tube would bear another's name."""
    found: dict[tuple[str, ...], list[Order]] = {}
    for order in orders:
        whose = (order.patient or f"\0{order.sample}", order.family, order.given, order.birth, order.sex)
        found.setdefault(whose, []).append(order)
    return [(theirs[0].patient, theirs) for theirs in found.values()]
