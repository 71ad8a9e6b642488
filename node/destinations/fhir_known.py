"""Which resources a FHIR server has already: asked before something that a message only mentions is written, and remembered."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

KNOWN_MAX: Final = 20_000  # names of 50 bytes: a hospital's staff, wards and a week's patients
THERE: Final = frozenset({200, 204, 304})
NOT_THERE: Final = frozenset({404, 410})


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

    def of(self, names: Iterable[str], ask: Callable[[str], int]) -> tuple[frozenset[str], int]:
        """Which of these are there, and 0; or none, and the first status that is no answer to that. `ask` gives the status of a read."""
        there = set()
        for name in names:
            if name not in self:
                status = ask(name)
                if status in NOT_THERE:
                    continue
                if status not in THERE:
                    return frozenset(), status
                self.add((name,))
            there.add(name)
        return frozenset(there), 0
