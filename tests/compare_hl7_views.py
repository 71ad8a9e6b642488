"""Every value of every message of the corpus, as our view finds it and as python-hl7 and hl7apy do; writes docs/hl7-view.md.

`PYTHONPATH=. .venv/bin/python tests/compare_hl7_views.py` takes some minutes: hl7apy reads fifteen messages a second. Each difference falls under one of
the rules below, which say who is right and why; one that falls under none ends the run with 1.
"""

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path as File

from hl7.errors import NotEr7
from hl7.message import Message, Path

ROOT = File(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "corpus"
PAGE = ROOT / "docs" / "hl7-view.md"
PEERS = ("hl7", "hl7apy")

Leaves = dict[tuple[int, int, int, int], str]
Rows = list[tuple[str, Leaves]]


def messages() -> dict[str, bytes]:
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        return {row["path"]: (CORPUS / row["path"]).read_bytes() for row in csv.DictReader(index, delimiter="\t")}


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def given(raw: bytes) -> str:
    """The text that a peer gets: a file's line ends made CR, as each of them wants it."""
    text = text_of(raw)
    return text.replace("\r\n", "\r") if "\r" in text else text.replace("\n", "\r")


def told_by(peer: str, corpus: dict[str, bytes]) -> dict[str, dict]:
    lines = "".join(json.dumps({"path": path, "text": given(raw)}) + "\n" for path, raw in corpus.items())
    command = [str(ROOT / "peers" / "py" / "bin" / "python"), "-I", str(ROOT / "tests" / "peer_views.py"), peer]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, cwd="/")
    return {told["path"]: told for told in map(json.loads, done.stdout.splitlines())}


# ---- ours ---------------------------------------------------------------------------------------------------------
def ours(raw: bytes) -> Rows:
    """Every leaf of every segment, asked for path by path until the view says that there is no more."""
    message = Message(raw)
    rows: Rows = []
    counted: Counter[bytes] = Counter()
    for name, _ in message.segments():
        counted[name] += 1
        rows.append((text_of(name), dict(_leaves(message, name, counted[name]))))
    return rows


def _leaves(message: Message, name: bytes, occurrence: int) -> Iterator[tuple[tuple[int, int, int, int], str]]:
    def value(*numbers: int) -> bytes | None:
        field, repetition, component, subcomponent = (*numbers, 0, 0, 0)[:4]
        return message.get(
            Path(
                segment=name,
                occurrence=occurrence,
                field=field,
                repetition=repetition,
                component=component,
                subcomponent=subcomponent,
            )
        )

    for field in _until(value):
        if Path(segment=name, field=field).is_undivided:
            yield (field, 1, 1, 1), text_of(value(field) or b"")
            continue
        for repetition in _until(lambda at, field=field: value(field, at)):
            for component in _until(lambda at, field=field, repetition=repetition: value(field, repetition, at)):
                for below in _until(
                    lambda at, *above, field=field, repetition=repetition, component=component: value(
                        field, repetition, component, at
                    )
                ):
                    yield (
                        (field, repetition, component, below),
                        text_of(value(field, repetition, component, below) or b""),
                    )


def _until(value) -> Iterator[int]:
    at = 1
    while value(at) is not None:
        yield at
        at += 1


# ---- differences --------------------------------------------------------------------------------------------------
RULES = {
    # name: (who is right, why)
    "hl7: a LF among CRs joins two segments": (
        "ours",
        "The file has both line ends. python-hl7 knows CR alone, so the next segment's name and fields become values of the one before.",
    ),
    "hl7: an empty field behind MSH-2 is absent": ("ours", "`MSH|^~\\&|` has a third field, which is empty."),
    "hl7: a blank line is a segment": (
        "ours",
        "It has no name and no field.",
    ),
    "hl7: blanks at the message's end are stripped": (
        "ours",
        "They stand in the last field. Whether they mean anything is its reader's to say.",
    ),
    "hl7: a character that MSH-2 holds twice has its last meaning": (
        "neither",
        "`^~\\\\&`: a program escaped the escape. For python-hl7 `\\` then divides subcomponents; here it stays the escape character, and nothing divides them.",
    ),
    "hl7apy: the truncation character is written anew": (
        "ours",
        "`#` at a value's end says that the sender had more; `\\L` says nothing.",
    ),
    "hl7apy: refuses the encoding characters": (
        "ours",
        "MSH-2 is short, has a character twice, or has five before version 2.7. The message can be read as declared.",
    ),
    "hl7apy: refuses the version": (
        "ours",
        "MSH-12 is none that hl7apy has tables for, or a LF among CRs ends the header. A view needs no tables.",
    ),
    "hl7apy: refuses a segment's or field's name": (
        "ours",
        "The version's table does not hold it. Every segment and field may stand in a message.",
    ),
    "hl7apy: refuses a batch": ("ours", "FHS and BHS are not read."),
    "hl7apy: a LF among CRs joins two segments": ("ours", "As python-hl7."),
    "hl7apy: a segment's name is cut to three letters": (
        "ours, though the name is wrong",
        "ZPAS, ZWCC: the sender's mistake is shown as it is.",
    ),
    "hl7apy: what the version's table does not hold has no number": (
        "ours",
        "A field or component that is withdrawn or unknown in the version of MSH-12 is moved to the end without its place, and can no longer be told from others.",
    ),
    "hl7apy: components stand where the table has them": (
        "ours",
        "A component that is unknown or of another type in that version is moved: XTN-1 to XTN-18, XCN-12 to the end.",
    ),
    "hl7apy: a number or a text is written anew": (
        "ours",
        "0010 becomes 10, blanks at the ends go. The sender's bytes are what was said.",
    ),
    "hl7apy: escapes are doubled": ("ours", "`\\.br\\` becomes `\\E\\.br\\E\\` where a value is written again."),
}
ERRORS = {
    "InvalidEncodingChars": "hl7apy: refuses the encoding characters",
    "UnsupportedVersion": "hl7apy: refuses the version",
    "InvalidName": "hl7apy: refuses a segment's or field's name",
    "ParserError": "hl7apy: refuses a batch",
}


class Tally:
    """What was compared: values that are the same, differences by rule and the messages they stand in, and what no rule explains."""

    def __init__(self) -> None:
        self.same: Counter[str] = Counter()
        self.differences: Counter[str] = Counter()
        self.messages: dict[str, set[str]] = {}
        self.unexplained: list[tuple] = []

    def differ(self, rule: str | None, path: str, *what) -> None:
        if rule is None:
            self.unexplained.append((path, *what))
            return
        self.differences[rule] += 1
        self.messages.setdefault(rule, set()).add(path)


def has_mixed_ends(raw: bytes) -> bool:
    return b"\n" in raw.replace(b"\r\n", b"\r").rstrip(b"\r\n") and b"\r" in raw


def compare_hl7(path: str, raw: bytes, mine: Rows, told: dict, tally: Tally) -> None:
    """python-hl7, leaf by leaf, empty ones too."""
    theirs = [(name, {tuple(leaf[:4]): leaf[4] for leaf in leaves}) for name, leaves in told["rows"]]
    if told["error"] or [name for name, _ in mine] != [name for name, _ in theirs]:
        blank = (
            "hl7: a blank line is a segment"
            if [name for name, _ in theirs if name] == [name for name, _ in mine]
            else None
        )
        tally.differ("hl7: a LF among CRs joins two segments" if has_mixed_ends(raw) else blank, path, told["error"])
        return
    declared = Message(raw).separators
    for (name, our), (_, their) in zip(mine, theirs, strict=True):
        for place in our.keys() | their.keys():
            a, b = our.get(place), their.get(place)
            if a == b or (a is not None and b is not None and a == b.rstrip("\n") and has_mixed_ends(raw + b"\n")):
                tally.same["hl7"] += 1
            elif raw[4:8].count(b"\\") > 1 and declared.subcomponent is None:
                tally.differ("hl7: a character that MSH-2 holds twice has its last meaning", path)
            elif a is not None and our is mine[-1][1] and a.strip() == b:
                tally.differ("hl7: blanks at the message's end are stripped", path)
            elif (name, place, a, b) == ("MSH", (3, 1, 1, 1), "", None):
                tally.differ("hl7: an empty field behind MSH-2 is absent", path)
            else:
                tally.differ(None, path, name, place, a, b)


def repetitions(leaves: Leaves, component: str, subcomponent: str) -> dict[tuple[int, int], list[str]]:
    """(field, repetition) -> its components."""
    found: dict[tuple[int, int], dict[int, list[str]]] = {}
    for (field, repetition, number, _), text in sorted(leaves.items()):
        found.setdefault((field, repetition), {}).setdefault(number, []).append(text)
    return {place: [subcomponent.join(parts) for parts in components.values()] for place, components in found.items()}


def compare_hl7apy(path: str, raw: bytes, mine: Rows, told: dict, tally: Tally) -> None:
    """hl7apy, repetition by repetition, as it writes each; trailing separators apart, and empty ones."""
    if told["error"]:
        tally.differ(ERRORS.get(told["error"]), path, told["error"])
        return
    names, their_names = [name for name, _ in mine], [name for name, _ in told["rows"]]
    if names != their_names:
        cut = [name[:3] for name in names] == their_names
        rule = (
            "hl7apy: a segment's name is cut to three letters"
            if cut
            else "hl7apy: a LF among CRs joins two segments"
            if has_mixed_ends(raw)
            else None
        )
        tally.differ(rule, path, names, their_names)
        return
    declared = Message(raw).separators
    marks = "".join(chr(byte) for byte in declared.declared if byte is not None)
    component, subcomponent = (
        chr(byte) if byte is not None else "\0" for byte in (declared.component, declared.subcomponent)
    )
    for (name, our), (_, leaves) in zip(mine, told["rows"], strict=True):
        ours_here = {
            place: each
            for place, each in repetitions(our, component, subcomponent).items()
            if place[0] > 2 or name not in {"MSH", "FHS", "BHS"}
        }
        theirs_here = {(leaf[0], leaf[1]): leaf[4].rstrip(marks) for leaf in leaves if not leaf[2]}
        astray = [text for place, text in theirs_here.items() if not place[0]]
        for place, parts in ours_here.items():
            a, b = component.join(parts).rstrip(marks), theirs_here.get(place, "")
            if a == b:
                tally.same["hl7apy"] += bool(a)
            else:
                tally.differ(_why(a, b, astray, component, chr(declared.escape or 0)), path, name, place, a, b)


def _why(a: str, b: str, astray: list[str], component: str, escape: str) -> str | None:
    """The rule for a repetition that hl7apy writes in another way."""
    doubled = f"{escape}E{escape}"
    parts, others = ([each for each in text.split(component) if each.strip()] for text in (a, b))
    if not b and (a in astray or a.strip() in astray):
        return "hl7apy: what the version's table does not hold has no number"
    if a.endswith("#") or b.endswith(f"{escape}L"):
        return "hl7apy: the truncation character is written anew"
    if doubled in b and b.replace(doubled, escape) == a.replace(doubled, escape):
        return "hl7apy: escapes are doubled"
    if not a.strip() and not b:
        return "hl7apy: a number or a text is written anew"
    if sorted(parts) == sorted(others):
        return "hl7apy: components stand where the table has them"
    if sorted(map(_bare, parts)) == sorted(map(_bare, others)):
        return "hl7apy: a number or a text is written anew"
    return None


def _bare(text: str) -> str:
    """A value as a number is, or without blanks at its ends."""
    try:
        return str(float(text))
    except ValueError:
        return text.strip()


# ---- the page -----------------------------------------------------------------------------------------------------
HEAD = """# The view of a message, beside other people's

Every value of every message of the corpus, read by `hl7.message`, by python-hl7 0.4.5 and by hl7apy 1.3.5 (tolerant, `find_groups=False`, twenty seconds a
message). Written by `PYTHONPATH=. .venv/bin/python tests/compare_hl7_views.py`; it fails where a difference falls under none of the rules below.
Peers get the message with its line ends made CR, ours gets the file as it is.

| | messages | values compared | the same | differences | unexplained |
|---|---|---|---|---|---|
"""


def page(tally: dict[str, Tally], messages_read: int, leaves: int) -> str:
    lines = [HEAD.rstrip()]
    for peer, name in zip(
        PEERS,
        (
            "python-hl7, subcomponent by subcomponent, empty ones too",
            "hl7apy, repetition by repetition, empty ones left out",
        ),
        strict=True,
    ):
        found = tally[peer]
        many = sum(found.differences.values())
        compared = found.same[peer] + many + len(found.unexplained)
        lines.append(
            f"| {name} | {messages_read:,} | {compared:,} | {found.same[peer]:,} | {many:,} | {len(found.unexplained)} |"
        )
    lines += [
        "", f"Our view finds {leaves:,} values in {messages_read:,} messages. A message that a peer refuses, or divides into other segments, counts as one difference.",
        "", "| difference | values | messages | right | why |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for rule, (right, why) in RULES.items():
        found = tally[rule.partition(":")[0]]
        if found.differences[rule]:
            lines.append(f"| {rule} | {found.differences[rule]:,} | {len(found.messages[rule])} | {right} | {why} |")
    return "\n".join([*lines, ""])


def main(told=told_by) -> int:
    corpus = messages()
    views: dict[str, Rows] = {}
    for path, raw in corpus.items():
        try:
            views[path] = ours(raw)
        except NotEr7:
            print(f"not read by us: {path}")
    tally = {}
    for peer, compare in zip(PEERS, (compare_hl7, compare_hl7apy), strict=True):
        tally[peer] = Tally()
        answers = told(peer, {path: corpus[path] for path in views})
        for path, mine in views.items():
            compare(path, corpus[path], mine, answers[path], tally[peer])
        for each in tally[peer].unexplained[:50]:
            print(peer, *each)
    leaves = sum(len(each) for rows in views.values() for _, each in rows)
    PAGE.write_text(page(tally, len(views), leaves), encoding="utf-8")
    return 1 if any(each.unexplained for each in tally.values()) or len(views) < len(corpus) else 0


if __name__ == "__main__":
    sys.exit(main())
