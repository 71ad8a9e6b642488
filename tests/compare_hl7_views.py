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

    for field in _until(lambda at: value(at)):
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


if __name__ == "__main__":
    sys.exit(0)
