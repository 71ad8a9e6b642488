"""Another converter's bundles beside ours: what stands here, there, in both, and why. Writes docs/convert-golden.md.

    .venv/bin/python -m tests.golden_report

Compared are sets of (resource type, path, value): ids and references are left out, since each converter makes its own.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hl7.convert.result import CannotConvert, Settings
from hl7.convert.to_fhir import convert
from tests.convert_rig import CORPUS, corpus

REPORT = Path(__file__).resolve().parents[1] / "docs/convert-golden.md"
GOLDEN = CORPUS / "golden/microsoft+FHIR-Converter"
ROWS_MAX = 45  # of a table: a page to read; the command shows more with another number

WHY = (  # of what only one side has: type and path by pattern, reason; the first that fits
    ("there", r"\.status$|\.intent$", "a status the other sets without a field that says it, or by another field"),
    ("there", r"Provenance\.", "its Provenances are one for each agent; ours is one for the record"),
    ("there", r"Device\.|MessageHeader\.", "receiver and software as resources; ours as names in MessageHeader"),
    (
        "there",
        r"PractitionerRole\.|Practitioner\.",
        "a role for each mention; ours is one Practitioner for each number",
    ),
    (
        "there",
        r"Organization\.",
        "an Organization for each assigning authority; ours is Identifier.system and assigner",
    ),
    ("there", r"Location\.", "a Location for each level of each place; ours share equal ones"),
    (
        "there",
        r"EpisodeOfCare|Account|ResearchStudy|ChargeItem|MedicationDispense",
        "fields that our tables list as unmapped",
    ),
    ("there", r"\.extension", "extensions for what R4 has no element for; ours lists the value"),
    ("there", r"\.text$|\.display$", "text it derives from a code"),
    ("here", r"\.meta\.source$", "the record's position, which only ours knows"),
    ("here", r"Provenance\.", "record, leaf and converter"),
    ("here", r"\.assigner\.", "the assigning authority's name"),
    ("here", r"\.system$", "systems of local codes and identifiers, which it leaves out or names otherwise"),
    ("here", r"\.coding\.", "codes of HL7's tables with their system beside the mapped ones"),
)


def facts(bundle: dict) -> Iterator[tuple[str, str]]:
    """Yield (path, value) of what a bundle says; lists lose their order, numbers their digits."""
    for entry in bundle.get("entry", []):
        resource = entry["resource"]
        for path, value in _leaves(resource, resource["resourceType"]):
            if not re.search(r"\.(id|reference|resourceType)$", path):
                yield path, value


def _leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{name}")
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, path)
    elif value is not None:
        yield path, str(value)


def pairs() -> Iterator[tuple[str, dict, dict]]:
    """Yield (name, our bundle, theirs) of every message that has a golden one."""
    for row, raw in corpus():
        name = Path(row["source_path"]).stem
        golden = GOLDEN / f"{name}-expected.json"
        if row["repo"] == "microsoft/FHIR-Converter" and golden.exists():
            try:
                ours = convert(raw, Settings())
            except CannotConvert:
                continue
            yield name, json.loads(ours.json()), json.loads(golden.read_text(encoding="utf-8-sig"))


def _why(side: str, path: str) -> str:
    return next((why for where, pattern, why in WHY if where == side and re.search(pattern, path)), "")


def _table(title: str, side: str, counted: Counter[str]) -> list[str]:
    lines = [f"## {title}", "", "| path | values | why |", "|---|---|---|"]
    lines += [f"| `{path}` | {count} | {_why(side, path)} |" for path, count in counted.most_common(ROWS_MAX)]
    unread = sum(counted.values()) - sum(count for _, count in counted.most_common(ROWS_MAX))
    explained = sum(count for path, count in counted.items() if _why(side, path))
    return [
        *lines,
        "",
        f"{unread} more values at other paths. {explained} of {sum(counted.values())} values have a reason above.",
        "",
    ]


def main() -> None:
    both: Counter[str] = Counter()
    here: Counter[str] = Counter()
    there: Counter[str] = Counter()
    names = []
    differs: Counter[str] = Counter()
    for name, ours, theirs in pairs():
        names.append(name)
        one, two = set(facts(ours)), set(facts(theirs))
        both.update(path for path, _ in one & two)
        here.update(path for path, _ in one - two)
        there.update(path for path, _ in two - one)
        paths_here, paths_there = {path for path, _ in one - two}, {path for path, _ in two - one}
        differs.update(paths_here & paths_there)
    total = [sum(each.values()) for each in (both, here, there)]
    assert names, "no corpus beside the project"
    share = 100 * total[0] / (total[0] + total[2])
    lines = [
        "# Another converter's bundles beside ours",
        "",
        f"Made by `python -m tests.golden_report` from {len(names)} messages of microsoft/FHIR-Converter (MIT) and the bundles its tests expect.",
        "Compared are sets of (type, path, value) in each bundle, without ids and references, lists without their order. A golden bundle is one",
        "converter's opinion; where the two differ the guide's table decides, and the last column says on what ground, where there is one.",
        "Paths without a reason are open: nobody has judged them yet.",
        "",
        "| | values |",
        "|---|---|",
        f"| in both | {total[0]} |",
        f"| only here | {total[1]} |",
        f"| only there | {total[2]} |",
        f"| share of theirs that ours has | {share:.0f} % |",
        "",
        *_table("Only there", "there", there),
        *_table("Only here", "here", here),
        "## At the same path with another value",
        "",
        "| path | messages |",
        "|---|---|",
        *(f"| `{path}` | {count} |" for path, count in differs.most_common(ROWS_MAX)),
        "",
        "Times of day are the largest part: their messages name no zone, so ours keeps the day and lists the rest; the other writes UTC.",
        "",
    ]
    REPORT.write_text("\n".join(lines), encoding="utf-8")
    print(f"{len(names)} messages: both {total[0]}, here {total[1]}, there {total[2]}")


if __name__ == "__main__":
    main()
