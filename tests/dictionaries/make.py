"""Make the dictionaries of sync/dictionaries: `python -m tests.dictionaries.make`. The same data and the same zstd give the same bytes.

A dictionary that was shipped is never changed: a new training is a new version, beside the old one.
"""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from backports import zstd

from node.tools.hospital import Kind
from tests.dictionaries.invented import ADT, MORE_ADT, MORE_ORDER, MORE_ORU, fhir, hl7, order

FOLDER = Path(__file__).parents[2] / "sync/dictionaries"
VERSION = 1
BYTES = 64 * 1024  # decision 0015: half as much costs 3 %, twice as much gains 1 %
ER7, FHIR = "application/hl7-v2+er7", "application/fhir+json"

FAMILIES: dict[str, tuple[str, list[str], Callable[[], list[bytes]]]] = {
    "adt": (ER7, ["ADT", "BAR", "DFT", "MFN", "SIU"], lambda: hl7(ADT, MORE_ADT)),
    "fhir": (FHIR, [], fhir),
    "order": (ER7, ["OM", "ORL", "ORM", "ORR", "RDE"], lambda: hl7((Kind.ORM_O01,), MORE_ORDER, order)),
    "oru": (ER7, ["MDM", "ORU", "OUL", "VXU"], lambda: hl7((Kind.ORU_R01,), MORE_ORU)),
}


def train(family: str) -> bytes:
    """The dictionary of a family."""
    return zstd.train_dict(FAMILIES[family][2](), BYTES).dict_content


def rows(made: dict[str, bytes]) -> list[dict[str, Any]]:
    """The index."""
    return [
        {"family": family, "version": VERSION, "content_type": FAMILIES[family][0], "prefixes": FAMILIES[family][1], "sha256": sha256(content).hexdigest()}
        for family, content in made.items()
    ]  # fmt: skip


if __name__ == "__main__":
    made = {family: train(family) for family in FAMILIES}
    for family, content in made.items():
        (FOLDER / f"{family}-{VERSION}.zdict").write_bytes(content)
    (FOLDER / "index.json").write_text(json.dumps(rows(made), indent=1) + "\n")
