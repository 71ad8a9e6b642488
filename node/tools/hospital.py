"""A synthetic hospital's HL7 v2.5.1 traffic: admissions, orders and laboratory results, the same for the same seed.

Orders refer to patients who are in the house, results refer to orders. Where a caller insists on a kind for which
nobody is there yet, the patient came, or the order was placed, before the run began and no message of it tells so.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from random import Random

from node.tools import hospital_names as names
from node.tools import hospital_segments as segments
from node.tools.hospital_laboratory import measure
from node.tools.hospital_panels import PANELS
from node.tools.hospital_segments import Order, Visit
from node.tools.hospital_town import RESIDENTS, RUN_MAX, Resident, phone, resident

# MSH-10 holds 20 characters in HL7 2.5.1: seed, run and number with two dashes between them fit into it.
SEED_MAX = 999_999
MESSAGES_MAX = 99_999_999
BEDS = 150  # admissions wait when so many are in; well below the town, so somebody is always there to be admitted
ORDERS_WAITING_MAX = 200  # an older order never gets its result, as when a sample is lost; bounds a run of orders only
NOISE_BYTES = 200  # one network packet, as a misdirected client would send
NOTE_SHARE = 0.15  # of the reports carry a remark, with escapes and Arabic in it

_NOTES = (
    "Sample slightly haemolysed \\T\\ repeated.",
    "العينة متحللة جزئياً، يرجى الإعادة.",
    "Fasting \\F\\ 12 h.\\.br\\Verified.",
)


class Kind(StrEnum):
    """What the hospital sends, as message code and trigger event."""

    ADT_A01 = "ADT^A01"
    ADT_A04 = "ADT^A04"
    ADT_A08 = "ADT^A08"
    ADT_A03 = "ADT^A03"
    ORM_O01 = "ORM^O01"
    ORU_R01 = "ORU^R01"


# How often each is chosen where all are possible; fewer leave than come until the beds are full.
_WEIGHTS = {
    Kind.ADT_A01: 7,
    Kind.ADT_A04: 7,
    Kind.ADT_A08: 9,
    Kind.ADT_A03: 11,
    Kind.ORM_O01: 33,
    Kind.ORU_R01: 33,
}
ALL_KINDS: tuple[Kind, ...] = tuple(Kind)

# MSH-9-3 where it is not the code and the event themselves: table 0354.
_STRUCTURES = {Kind.ADT_A04: "ADT_A01", Kind.ADT_A08: "ADT_A01"}


class Fault(StrEnum):
    """What is wrong with a broken message."""

    NO_MSH = "no-msh"
    NO_CONTROL_ID = "no-control-id"
    NO_PATIENT = "no-patient"
    WRONG_CHARSET = "wrong-charset"
    WRONG_VERSION = "wrong-version"
    CUT_SHORT = "cut-short"
    NOISE = "noise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message as it goes on the wire, without MLLP framing."""

    kind: Kind
    control_id: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenMessage:
    """A message with one fault. control_id: empty where a receiver cannot find one."""

    fault: Fault
    control_id: str
    raw: bytes


def kinds_named(text: str) -> tuple[Kind, ...]:
    """`ADT,ORU^R01` -> kinds: a whole kind, or a message code for all its events. ValueError: no such kind."""
    chosen: list[Kind] = []
    for name in filter(None, (part.strip().upper() for part in text.split(","))):
        found = [kind for kind in Kind if name in (kind.value, kind.value.partition("^")[0])]
        if not found:
            raise ValueError(f"no message kind {name!r}; known are {', '.join(Kind)}")
        chosen += [kind for kind in found if kind not in chosen]
    if not chosen:
        raise ValueError("name at least one message kind")
    return tuple(chosen)


class Hospital:
    """One hospital: the same seed, run, kinds and clock give the same bytes. Another run has other ids throughout."""

    def __init__(
        self, seed: int, *, run: int = 0, kinds: Collection[Kind] = ALL_KINDS, processing_id: str = segments.TRAINING
    ) -> None:  # fmt: skip
        """Open the doors. ValueError: seed or run outside 0..SEED_MAX, 0..RUN_MAX, or no kind at all."""
        if not 0 <= seed <= SEED_MAX or not 0 <= run <= RUN_MAX:
            raise ValueError(f"seed must be 0..{SEED_MAX} and run 0..{RUN_MAX}")
        if not kinds:
            raise ValueError("a hospital sends at least one kind of message")
        self._seed, self._run = seed, run
        self._processing_id = processing_id
        self._kinds = tuple(kind for kind in Kind if kind in kinds)
        self._dice = Random(f"{seed}/{run}")
        self._town: list[Resident] = [resident(index, run=run, dice=self._dice) for index in range(RESIDENTS)]
        self._outside = list(range(RESIDENTS))
        self._visits: list[Visit] = []
        self._orders: deque[Order] = deque(maxlen=ORDERS_WAITING_MAX)
        self._messages = self._visits_begun = self._orders_placed = 0

    def next_message(self, kind: Kind | None = None, *, now: datetime) -> Sent:
        """Write the next message, of a kind that the state of the house allows, or of `kind`.

        now: with time zone, else ValueError. OverflowError after MESSAGES_MAX messages of one run.
        """
        if now.tzinfo is None:
            raise ValueError("the hospital's clock needs a time zone")
        chosen = kind or self._choose()
        if chosen is Kind.ORM_O01:
            application, body = "HIS-SIM", self._order(now)
        elif chosen is Kind.ORU_R01:
            application, body = "LIS-SIM", self._report(now)
        else:
            application, body = "HIS-SIM", self._movement(chosen, now)
        control_id = self._control_id()
        structure = _STRUCTURES.get(chosen, chosen.replace("^", "_"))
        head = segments.header(
            application=application,
            message_type=f"{chosen}^{structure}",
            control_id=control_id,
            now=now,
            processing_id=self._processing_id,
        )
        return Sent(kind=chosen, control_id=control_id, raw="".join(f"{line}\r" for line in (head, *body)).encode())

    def broken_message(self, fault: Fault | None = None, *, now: datetime) -> BrokenMessage:
        """Write a message and spoil it: with `fault`, or with one that the dice choose."""
        chosen = fault or self._dice.choice(tuple(Fault))
        whole = self.next_message(now=now)
        has_id = chosen not in {Fault.NO_MSH, Fault.NO_CONTROL_ID, Fault.NOISE}
        raw = _spoil(whole, chosen, self._dice)
        return BrokenMessage(fault=chosen, control_id=whole.control_id if has_id else "", raw=raw)

    def _choose(self) -> Kind:
        """One of this hospital's kinds, among those possible now; any of them where none is."""
        room = len(self._visits) < BEDS
        allowed = {
            Kind.ADT_A01: room,
            Kind.ADT_A04: room,
            Kind.ADT_A08: bool(self._visits),
            Kind.ADT_A03: bool(self._visits),
            Kind.ORM_O01: bool(self._visits),
            Kind.ORU_R01: bool(self._orders),
        }
        possible = [kind for kind in self._kinds if allowed[kind]] or self._kinds
        return self._dice.choices(possible, [_WEIGHTS[kind] for kind in possible])[0]

    def _control_id(self) -> str:
        if self._messages >= MESSAGES_MAX:
            raise OverflowError("this run's control ids are used up: begin another run")
        self._messages += 1
        return f"{self._seed}-{self._run}-{self._messages:06d}"

    def _movement(self, kind: Kind, now: datetime) -> list[str]:
        """ADT: somebody comes, goes, or gives a new address and phone."""
        trigger = kind.partition("^")[2]
        arrives = kind in {Kind.ADT_A01, Kind.ADT_A04}
        visit = self._admit(now, inpatient=kind is Kind.ADT_A01) if arrives else self._someone_inside(now)
        if kind is Kind.ADT_A03:
            self._visits.remove(visit)
            self._outside.append(visit.resident)
        if kind is Kind.ADT_A08:
            self._move_house(visit.resident)
        person = self._town[visit.resident]
        ended = now if kind is Kind.ADT_A03 else None
        lines = [segments.evn(trigger, now), segments.pid(person, visit)]
        if kind is Kind.ADT_A01:
            lines.append(segments.nk1(person.spouse, person.phone))
        lines.append(segments.pv1(visit, ended=ended))
        if kind is Kind.ADT_A01:
            if self._dice.random() < 0.3:
                lines.append(segments.al1(self._dice.choice(names.ALLERGIES)))
            lines.append(segments.dg1(self._dice.choice(names.DIAGNOSES), now))
        return lines

    def _admit(self, now: datetime, *, inpatient: bool) -> Visit:
        if not self._outside:  # only where a caller insists on admissions: the first to come goes home unannounced
            self._outside.append(self._visits.pop(0).resident)
        who = self._outside.pop(self._dice.randrange(len(self._outside)))
        place, service = self._dice.choice(names.WARDS if inpatient else names.CLINICS)
        bed = f"{self._dice.randrange(1, 13):02d}^{self._dice.choice('AB')}" if inpatient else "^"
        self._visits_begun += 1
        visit = Visit(
            number=f"V{self._run:04d}{self._visits_begun:06d}",
            resident=who,
            patient_class="I" if inpatient else "O",
            place=f"{place}^{bed}",
            service=service,
            doctor=self._dice.choice(names.DOCTORS),
            began=now,
        )
        self._visits.append(visit)
        return visit

    def _someone_inside(self, now: datetime) -> Visit:
        return self._dice.choice(self._visits) if self._visits else self._admit(now, inpatient=True)

    def _move_house(self, who: int) -> None:
        moved = replace(
            self._town[who],
            street=self._dice.choice(names.STREETS),
            house=self._dice.randrange(1, 200),
            phone=phone(self._dice),
        )
        self._town[who] = moved

    def _place_order(self, now: datetime) -> Order:
        self._orders_placed += 1
        number = f"{self._run:04d}{self._orders_placed:07d}"
        order = Order(
            placer=f"P{number}",
            filler=f"L{number}",
            visit=self._someone_inside(now),
            panel=self._dice.choice(PANELS),
            ordered=now,
        )
        self._orders.append(order)
        return order

    def _order(self, now: datetime) -> list[str]:
        """ORM: a panel is ordered for somebody in the house."""
        order = self._place_order(now)
        return [
            segments.pid(self._town[order.visit.resident], order.visit),
            segments.pv1(order.visit),
            segments.orc(order, control="NW", status="SC", now=now),
            segments.obr(order),
        ]

    def _report(self, now: datetime) -> list[str]:
        """ORU: the laboratory answers one of the waiting orders, not always the oldest."""
        if not self._orders:
            self._place_order(now)
        at = self._dice.randrange(min(len(self._orders), 5))
        order = self._orders[at]
        del self._orders[at]
        person = self._town[order.visit.resident]
        results = measure(order.panel, female=person.female, age_years=person.age_years(now.date()), dice=self._dice)
        lines = [
            segments.pid(person, order.visit),
            segments.pv1(order.visit),
            segments.orc(order, control="RE", status="CM", now=now),
            segments.obr(order, reported=now),
        ]
        if self._dice.random() < NOTE_SHARE:
            lines.append(segments.nte(self._dice.choice(_NOTES)))
        return lines + [segments.obx(number, one, taken=order.ordered) for number, one in enumerate(results, 1)]


def _spoil(whole: Sent, fault: Fault, dice: Random) -> bytes:
    """Put one thing wrong into the bytes of a good message."""
    head, _, rest = whole.raw.partition(b"\r")
    match fault:
        case Fault.NO_MSH:
            spoiled = rest
        case Fault.NO_CONTROL_ID:
            spoiled = whole.raw.replace(b"|" + whole.control_id.encode() + b"|", b"||", 1)
        case Fault.NO_PATIENT:
            spoiled = b"".join(line + b"\r" for line in whole.raw.split(b"\r") if line and line[:4] != b"PID|")
        case Fault.WRONG_CHARSET:  # MSH-18 says UTF-8, the text comes as many old systems in the Gulf send it
            spoiled = whole.raw.decode().encode("cp1256", "replace")
        case Fault.WRONG_VERSION:
            spoiled = whole.raw.replace(b"|2.5.1|", b"|9.9|", 1)
        case Fault.CUT_SHORT:
            spoiled = whole.raw[: len(head) + 1 + len(rest) // 3]
        case Fault.NOISE:  # bytes of no language, but none that MLLP would take for its own frame marks
            spoiled = bytes(dice.randrange(0x20, 0x100) for _ in range(NOISE_BYTES))
    return spoiled
