"""Validation of FHIR resources in a process of its own, `fhir_worker.py`: one of a node, shared by all feeds over HTTP."""

import sys

from hl7.fhir_answers import Issue
from node.worker import Worker

VALIDATE_S_MAX = 5.0  # a Bundle of 100 takes 50 ms here and a quarter of a second on the smallest box
BODY_BYTES_MAX = 4 * 1024 * 1024  # more takes longer than the time there is


class Validator(Worker):
    """The models' worker. A strict feed starts it before it is needed."""

    def __init__(self, command: tuple[str, ...] = (sys.executable, "-m", "node.feeds.fhir_worker")) -> None:
        super().__init__(
            command, name="fhir.validator", code="FHR-12", octets_max=BODY_BYTES_MAX, answer_s_max=VALIDATE_S_MAX
        )

    async def validate(self, body: bytes) -> list[Issue] | None:
        """What the models say of a JSON body; None where there is no answer in time, and nothing is known."""
        rows = await self.ask(body)
        return None if rows is None else [Issue(*(str(each) for each in row[:4])) for row in rows]
