"""Messages to convert: the corpus where it is, the simulated hospital's always."""

import csv
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from hl7.convert.result import Converted, Origin, Settings
from hl7.convert.to_fhir import convert
from node.tools.hospital import Hospital

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
RIYADH = timezone(timedelta(hours=3))
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
LEAF = "ab" * 32
ORIGIN = Origin(
    facility="clinic-7", stream="clinic-7/his", epoch=1, seq=41, leaf=LEAF, received_at="2026-11-22T09:30:00.123456Z"
)
MSH = "MSH|^~\\&|HIS|CLINIC|WASL|MOH|20260102030405+0300||{}|C1|P|2.5.1\r"


def message(kind: str, *lines: str) -> bytes:
    return (MSH.format(kind) + "".join(f"{line}\r" for line in lines)).encode()


def hospital(count: int, *, seed: int = 7) -> list[bytes]:
    """The simulated hospital's messages, in UTF-8."""
    made = Hospital(seed)
    return [made.next_message(now=NOW + timedelta(minutes=at)).raw for at in range(count)]


def corpus() -> list[tuple[dict[str, str], bytes]]:
    if not (CORPUS / "INDEX.tsv").exists():
        return []
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row, (CORPUS / row["path"]).read_bytes()) for row in rows if (CORPUS / row["path"]).is_file()]


def of_type(found: Converted, kind: str) -> list[dict]:
    """Resources of a type, as another JSON reader sees them."""
    bundle = json.loads(found.json())
    return [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == kind]


def converted(kind: str, *lines: str, **settings: object) -> Converted:
    return convert(message(kind, *lines), Settings(**{"zone": RIYADH, "facility": "F"} | settings))


PID = "PID|1||1001^^^CLINIC^MR||الحربي^مريم^عبدالله||19900102|F"
