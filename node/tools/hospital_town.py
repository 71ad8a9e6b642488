"""The people of Wadi Noor, of whom the synthetic hospital admits some: every one invented, and adult."""

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from node.tools import hospital_names as names

RESIDENTS = 600  # enough for a full hospital and its clinics; finite, so a run of millions of messages stays small
RUN_MAX = 9_999  # four digits of the civil number
# Civil numbers of the Gulf have 12 digits: century, YYMMDD of birth, serial, check digit. The century digit is 2 or 3;
# ours is 9, with month 00, so no registry can have issued one. Then 4 digits of the run and 3 of the resident.
CIVIL_NUMBER_PREFIX = "90000"
ENGLISH_SHARE = 0.15  # of the residents came from abroad

_FIRST_BORN = date(1938, 1, 1)
_LAST_BORN = date(2006, 12, 31)  # reference ranges and eGFR here are those of adults


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonName:
    """A name in one script."""

    family: str
    given: str
    father: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """One invented person, with name and address in Arabic and Latin script; the spouse in Arabic only."""

    record_number: str
    civil_number: str
    arabic: PersonName
    latin: PersonName
    spouse: PersonName
    female: bool
    born: date
    street: names.Pair
    house: int
    phone: str

    def age_years(self, today: date) -> int:
        """Completed years on that day."""
        return today.year - self.born.year - ((today.month, today.day) < (self.born.month, self.born.day))


def resident(index: int, *, run: int, dice: Random) -> Resident:
    """Invent the person with this index; everything but the two numbers is thrown with `dice`."""
    female = dice.random() < 0.5
    community = names.ENGLISH if dice.random() < ENGLISH_SHARE else names.ARAB
    given, wed = (dice.choice(group) for group in _by_sex(community, female=female))
    father, father_in_law = dice.choice(community.men), dice.choice(community.men)
    family = dice.choice(community.families)
    days = (_LAST_BORN - _FIRST_BORN).days
    return Resident(
        record_number=f"WN{run:04d}{index:03d}",
        civil_number=f"{CIVIL_NUMBER_PREFIX}{run:04d}{index:03d}",
        arabic=PersonName(family=family[0], given=given[0], father=father[0]),
        latin=PersonName(family=family[1], given=given[1], father=father[1]),
        spouse=PersonName(family=family[0], given=wed[0], father=father_in_law[0]),
        female=female,
        born=_FIRST_BORN + timedelta(days=dice.randrange(days + 1)),
        street=dice.choice(names.STREETS),
        house=dice.randrange(1, 200),
        phone=phone(dice),
    )


def _by_sex(community: names.Community, *, female: bool) -> tuple[tuple[names.Pair, ...], tuple[names.Pair, ...]]:
    """Given names for the person and for the spouse."""
    return (community.women, community.men) if female else (community.men, community.women)


def phone(dice: Random) -> str:
    """Invent a local number; the country code 999 beside it in the message is assigned to no country."""
    return f"5550{dice.randrange(10_000):04d}"
