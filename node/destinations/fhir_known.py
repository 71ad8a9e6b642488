"""Which resources a FHIR server has already: asked before something that a message only mentions is written, and remembered."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

KNOWN_MAX: Final = 20_000  # names of 50 bytes: a hospital's staff, wards and a week's patients
THERE: Final = frozenset({200, 204, 304})
NOT_THERE: Final = 404
GONE: Final = 410
# What is about a patient and was deleted at the server, a person deleted there: a mention is no reason to bring back the little that it
# says. Wards, staff and devices are no more than that little: they come back, rather than park a night's results.
OF_A_PATIENT: Final = frozenset(
    {"Account", "Coverage", "Encounter", "MedicationRequest", "Patient", "RelatedPerson", "ServiceRequest", "Specimen"}
)


class Found(NamedTuple):
    """Which names are there, which were deleted and stay so; or the first status that says neither (0: all did)."""

    there: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    status: int = 0


class Known:
    """Names ("Patient/…") that one server was seen to have. It may lose them behind our back: `forget` then."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, names: Iterable[str]) -> None:
        """These are there."""
        for name in names:
            self._names[name] = None
            self._names.move_to_end(name)
        while len(self._names) > KNOWN_MAX:
            self._names.popitem(last=False)

    def forget(self) -> None:
        """Nothing is sure any more."""
        self._names.clear()

    def of(self, names: Iterable[str], ask: Callable[[str], int]) -> Found:
        """What the server has of these. `ask` gives the status of a read."""
        there, gone = set(), set()
        for name in names:
            if name not in self:
                status = ask(name)
                if status == GONE and name.partition("/")[0] in OF_A_PATIENT:
                    gone.add(name)
                    continue
                if status in {NOT_THERE, GONE}:
                    continue
                if status not in THERE:
                    return Found(status=status)
                self.add((name,))
            there.add(name)
        return Found(frozenset(there), frozenset(gone))
