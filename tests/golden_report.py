"""Another converter's bundles beside ours: what stands here, there, in both, and why. Writes docs/convert-golden.md.

    .venv/bin/python -m tests.golden_report

Compared are sets of (resource type, path, value): ids and references are left out, since each converter makes its own.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hl7.convert.result import CannotConvert, Settings
from hl7.convert.to_fhir import convert
from tests.convert_rig import CORPUS, corpus

REPORT = Path(__file__).resolve().parents[1] / "docs/convert-golden.md"
GOLDEN = CORPUS / "golden/microsoft+FHIR-Converter"
DAY = re.compile(r"\d{4}-\d\d-\d\d")
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
    ("there", r"Patient\.contact", "choice: NK1 as Patient.contact too; here RelatedPerson alone says it"),
    (
        "there",
        r"[Tt]iming\.code",
        "open here: timing beyond interval, BID, TID, QID is text or listed (docs/convert.md, limits)",
    ),
    (
        "there",
        r"Specimen\.identifier",
        "theirs: the order's numbers as a specimen's, in messages that name no specimen",
    ),
    ("there", r"Encounter\.length", "choice: another word for the unit of days"),
    ("here", r"\.meta\.source$", "the record's position, which only ours knows"),
    ("here", r"Provenance\.", "record, leaf and converter"),
    ("here", r"\.assigner\.", "the assigning authority's name"),
    ("here", r"\.system$", "systems of local codes and identifiers, which it leaves out or names otherwise"),
    ("here", r"\.coding\.", "codes of HL7's tables with their system beside the mapped ones"),
    (
        "there",
        r"\.address\.line$",
        "choice: street and number of XAD.1 as two lines there, as the one line they are on paper here",
    ),
    (
        "there",
        r"communication\.language",
        "choice: the later codings of one CWE mapped too; here only the first, the others as sent",
    ),
    (
        "there",
        r"Encounter\.priority\.coding",
        "choice: table 0217 guessed into v3-ActPriority; the codes are the site's own, so here as sent",
    ),
    (
        "there",
        r"telecom\.use$",
        "choice: PID-13 as home whatever it says; here XTN.2 and a cellular telephone (XTN.3) as mobile come first",
    ),
    (
        "there",
        r"identifier\.type\.",
        "choice: types made up for fields of which the standard names none; here the field's own type or none",
    ),
    (
        "there",
        r"repeat\.|Period\.denominator\.|Interval\.",
        "open here: timing beyond interval, BID, TID, QID is text or listed (docs/convert.md, limits)",
    ),
    (
        "there",
        r"Observation\.component",
        "choice: several values of an OBX as components; here one Observation has one value, the others are listed",
    ),
    ("there", r"Encounter\.diagnosis\.use", "theirs: a discharge diagnosis although DG1-6 does not say so"),
    (
        "there",
        r"^(Consent|ClaimResponse|Substance|Linkage|NutritionOrder|Medication)\.",
        "open here: no such resource is made; its fields are listed",
    ),
    (
        "there",
        r"ServiceRequest\.locationCode|Immunization\.reportOrigin|MedicationRequest\.priority",
        "open here: the field is listed, or stands in another element",
    ),
    ("there", r"relationship\.coding\.code$|Coverage\.class", "theirs: a code of another table than the one sent"),
    (
        "there",
        r"\.contentType$|meta\.security|valueString$",
        "choice: text of several OBX in one attachment, labels of the whole Bundle; ours by OBX",
    ),
)

# What the values themselves show where no pattern above says more; the first that holds.
EVIDENCE = {
    "zone": "the same day: the message names no zone, so ours keeps the day and lists the rest; the other writes UTC",
    "elsewhere": "choice: the other side says the same value at another path, see below",
    "listed": "open or a choice of the tables: ours lists the value with its place in the message and why",
    "made": "not in the message: a constant, a display or an address of the converter's own",
    "dropped": "theirs: a value of the message that the other one leaves out",
}
WEAK_CHARS = 3  # a shorter value stands somewhere by chance


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


class Pair(NamedTuple):
    """One message, and what both converters made of it."""

    name: str
    message: set[str]  # its values
    listed: set[str]  # those that ours says stand in no resource
    here: set[tuple[str, str]]
    there: set[tuple[str, str]]


def pairs() -> Iterator[Pair]:
    """Yield every message that has a golden bundle."""
    for row, raw in corpus():
        name = Path(row["source_path"]).stem
        golden = GOLDEN / f"{name}-expected.json"
        if row["repo"] == "microsoft/FHIR-Converter" and golden.exists():
            try:
                ours = convert(raw, Settings())
            except CannotConvert:
                continue
            listed = {_bare(part) for each in ours.unmapped for part in (each.text, *re.split(r"[\^&~]", each.text))}
            message = {_bare(part) for part in re.split(r"[|^&~\r\n]", raw.decode("utf-8", "replace"))}
            theirs = json.loads(golden.read_text(encoding="utf-8-sig"))
            yield Pair(name, message, listed, set(facts(json.loads(ours.json()))), set(facts(theirs)))


def _bare(value: str) -> str:
    return re.sub(r"[^0-9a-z\u0080-\uffff]", "", value.lower())


def _why(side: str, path: str) -> str:
    return next((why for where, pattern, why in WHY if where == side and re.search(pattern, path)), "")


def judged(pair: Pair) -> Iterator[tuple[str, str, str, str]]:
    """Yield (side, path, reason, the path where the other side has the value) of all that only one side has."""
    for side, mine, others in (("here", pair.here, pair.there), ("there", pair.there, pair.here)):
        paths: dict[str, set[str]] = {}
        days = {value[:10] for _, value in others if DAY.match(value)}
        for path, value in others:
            paths.setdefault(_bare(value), set()).add(path)
        for path, value in mine - others:
            bare = _bare(value)
            known = sorted(paths.get(bare, ())) if len(bare) >= WEAK_CHARS else []
            reason = _why(side, path)
            if not reason and DAY.match(value) and value[:10] in days:
                reason = EVIDENCE["zone"]
            elif not reason and known:
                yield (
                    side,
                    path,
                    EVIDENCE["elsewhere"],
                    min(known, key=lambda each: (each.split(".")[0] != path.split(".")[0], each)),
                )
                continue
            yield side, path, reason or _evidence(side, value, pair), ""


def _evidence(side: str, value: str, pair: Pair) -> str:
    """What the message shows of a value that only one side has."""
    bare = _bare(value)
    if side == "there" and (
        bare in pair.listed or (DAY.match(value) and any(bare[:8] == each[:8] for each in pair.listed))
    ):
        return EVIDENCE["listed"]
    if bare not in pair.message:
        return EVIDENCE["made"]
    return EVIDENCE["dropped"] if side == "here" else ""


def _table(title: str, side: str, rows: list[tuple[str, str, str, str]]) -> list[str]:
    mine = [(path, why) for where, path, why, _ in rows if where == side]
    counted = Counter(path for path, _ in mine)
    reasons: dict[str, Counter[str]] = {}
    for path, why in mine:
        reasons.setdefault(path, Counter())[why] += 1
    lines = [f"## {title}", "", "By reason:", "", "| reason | values |", "|---|---|"]
    lines += [
        f"| {why or '**nobody has judged it**'} | {count} |"
        for why, count in Counter(why for _, why in mine).most_common()
    ]
    lines += ["", "By path, with its most frequent reason:", "", "| path | values | why |", "|---|---|---|"]
    lines += [
        f"| `{path}` | {count} | {reasons[path].most_common(1)[0][0]} |"
        for path, count in counted.most_common(ROWS_MAX)
    ]
    beyond = sum(counted.values()) - sum(count for _, count in counted.most_common(ROWS_MAX))
    return [
        *lines,
        "",
        f"{beyond} more values at other paths. {sum(bool(why) for _, why in mine)} of {len(mine)} values have a reason.",
        "",
    ]


def _elsewhere(rows: list[tuple[str, str, str, str]]) -> list[str]:
    moved = Counter((path, other) for side, path, _, other in rows if side == "there" and other)
    return [
        "## The same value at another path",
        "",
        "| there | here | values |",
        "|---|---|---|",
        *(f"| `{path}` | `{other}` | {count} |" for (path, other), count in moved.most_common(ROWS_MAX)),
        "",
    ]


def main() -> None:
    both, names = 0, []
    rows: list[tuple[str, str, str, str]] = []
    differs: Counter[str] = Counter()
    for pair in pairs():
        names.append(pair.name)
        both += len(pair.here & pair.there)
        found = list(judged(pair))
        rows += found
        differs.update(
            {path for side, path, _, _ in found if side == "here"}
            & {path for side, path, _, _ in found if side == "there"}
        )
    here, there = (sum(row[0] == side for row in rows) for side in ("here", "there"))
    open_there = sum(row[0] == "there" and not row[2] for row in rows)
    assert names, "no corpus beside the project"
    lines = [
        "# Another converter's bundles beside ours",
        "",
        f"Made by `python -m tests.golden_report` from {len(names)} messages of microsoft/FHIR-Converter (MIT) and the bundles its tests expect.",
        "Compared are sets of (type, path, value) in each bundle, without ids and references, lists without their order. A golden bundle is one",
        "converter's opinion; where the two differ the guide's table decides. A reason is given by a pattern over the path where a person has judged",
        "the family, else by what the values show: whether the message holds the value at all, whether ours lists it, whether the other side says it",
        "at another path. The second kind says what happened to a value, not that each was looked at.",
        "",
        "| | values |",
        "|---|---|",
        f"| in both | {both} |",
        f"| only here | {here} |",
        f"| only there | {there}, of which {open_there} without a reason |",
        f"| share of theirs that ours has at the same path | {100 * both / (both + there):.0f} % |",
        "",
        *_table("Only there", "there", rows),
        *_elsewhere(rows),
        *_table("Only here", "here", rows),
        "## At the same path with another value",
        "",
        "| path | messages |",
        "|---|---|",
        *(f"| `{path}` | {count} |" for path, count in differs.most_common(ROWS_MAX)),
        "",
    ]
    REPORT.write_text("\n".join(lines), encoding="utf-8")
    print(
        f"{len(names)} messages: both {both}, here {here}, there {there}; without a reason there {open_there}, here {sum(row[0] == 'here' and not row[2] for row in rows)}"
    )
    for (path, side), count in Counter((row[1], row[0]) for row in rows if not row[2]).most_common(60):
        print(count, side, path)


if __name__ == "__main__":
    main()
