"""Sends every corpus message, and a simulated hospital's, with a client we did not write (python-hl7's mllp_send) and writes docs/corpus.md.

Run: PYTHONPATH=. python tests/corpus_run.py    (needs ../shared/corpus and peers/py)
"""

import base64
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from node.tools.hospital import Hospital
from node.tools.mllp_client import control_id_of
from tests.gateway_rig import Gateway, Realm
from tests.gateway_rig import running as gateway_running
from tests.node_rig import NAME, Feed, Node, message, running

ROOT = Path(__file__).parent.parent
CORPUS = ROOT.parent / "shared/corpus"
MLLP_SEND = ROOT / "peers/py/bin/mllp_send"
HOSPITAL_MESSAGES = 500
ORIGINAL = (
    'acknowledgement = "original"'  # mllp_send waits for a reply to each message, also where MSH-15 asks for none
)
STRICT = 'types = ["ADT^*", "ORU^R01"]\nversions = ["2.3", "2.5", "2.5.1"]\nrequired = ["PID-3"]\n'


def corpus() -> list[bytes]:
    """Every message of the index, as it lies in its file."""
    rows = [line.split("\t") for line in (CORPUS / "INDEX.tsv").read_text().splitlines()[1:]]
    return [(CORPUS / row[0]).read_bytes() for row in rows]


def hospital(count: int) -> list[bytes]:
    """A simulated hospital's first messages."""
    source = Hospital(7)
    return [source.next_message(now=datetime(2026, 1, 1, tzinfo=UTC)).raw for _ in range(count)]


def send(messages: list[bytes], port: int, folder: Path) -> Counter[str]:
    """Send them with python-hl7's mllp_send, from one framed file over one connection; count MSA-1 of its output."""
    framed = folder / "framed.bin"
    framed.write_bytes(b"".join(b"\x0b" + raw + b"\x1c\r" for raw in messages))
    done = subprocess.run(
        [MLLP_SEND, "-f", framed, "-p", str(port), "127.0.0.1"],
        capture_output=True,
        check=True,
        cwd=folder,
        timeout=600,
    )
    codes: Counter[str] = Counter()
    for line in done.stdout.replace(b"\r", b"\n").split(b"\n"):
        if line[:3] == b"MSA":
            codes[line.split(line[3:4])[1].decode()] += 1
    return codes


def send_pipelined(messages: list[bytes], node: Node, feed: str) -> Counter[str]:
    """Send them without waiting, and one more message whose reply always comes; count MSA-1 of all replies but that one."""
    last, codes = message("LAST-OF-ALL"), Counter[str]()
    with node.mllp(feed) as mllp:
        threading.Thread(target=mllp.send, args=(*messages, last), daemon=True).start()
        while True:
            for line in mllp.reply().split(b"\r"):  # of a batch the reply holds several
                if line[:3] == b"MSA":
                    code, said = line.split(line[3:4])[1:3]
                    if said == b"LAST-OF-ALL":
                        return codes
                    codes[code.decode()] += 1


def as_sent(raw: bytes) -> bytes:
    """What mllp_send puts on the wire: it strips VT and CR from both ends of what it reads."""
    return raw.strip(b"\x0b\r")


def without_repeats(messages: list[bytes]) -> list[bytes]:
    """What must be stored: an identical message under the same, non-empty control id is a repeat."""
    seen: set[bytes] = set()
    kept = []
    for raw in messages:
        if control_id_of(raw) and raw in seen:
            continue
        seen.add(raw)
        kept.append(raw)
    return kept


def compare(gateway: Gateway, stream: str, sent: list[bytes]) -> tuple[Counter[str], int, int]:
    """Verdicts at the gateway; how many of the sent bodies stand there in order, byte for byte; how many records."""
    rows = gateway.records(NAME, stream)
    bodies = [base64.b64decode(row["body"]) for row in rows]
    at = 0
    for raw in sent:
        if at < len(bodies) and bodies[at] == raw:
            at += 1
    assert [row["seq"] for row in rows] == list(range(len(rows)))
    return Counter(row["verdict"] for row in rows), at, len(rows)


def main() -> None:
    if not CORPUS.exists() or not MLLP_SEND.exists():
        sys.exit("needs ../shared/corpus and peers/py (made by .ci/setup test)")
    lines = []
    with tempfile.TemporaryDirectory(dir=ROOT) as name:
        folder = Path(name)
        realm = Realm.make(folder)
        with gateway_running(realm, folder / "gateway-data") as gateway:
            node = Node(
                realm,
                folder / "node-data",
                feeds=[
                    Feed("open", lines=ORIGINAL),
                    Feed("strict", lines=ORIGINAL, check=STRICT),
                    Feed("as-asked"),
                    Feed("hospital"),
                ],
                gateway=gateway,
            )
            with running(node):
                for feed, messages in (
                    ("open", corpus()),
                    ("strict", corpus()),
                    ("as-asked", corpus()),
                    ("hospital", hospital(HOSPITAL_MESSAGES)),
                ):
                    if feed == "as-asked":
                        codes, sent = send_pipelined(messages, node, feed), messages
                    else:
                        codes = send(messages, node.feed(feed).address[1], folder)
                        sent = [as_sent(raw) for raw in messages]
                    stored = without_repeats(sent)
                    node.wait_receipted(feed, len(stored))
                    verdicts, equal, count = compare(gateway, feed, stored)
                    row = {"feed": feed, "sent": len(messages), "replies": dict(codes), "repeats": len(messages) - len(stored),
                           "records": count, "equal": equal, "verdicts": dict(verdicts)}  # fmt: skip
                    print(json.dumps(row), flush=True)
                    lines.append(row)
                    if equal != len(stored):
                        sys.exit(f"{feed}: {len(stored) - equal} messages are not at the gateway as they were sent")
    write_page(lines)


def write_page(rows: list[dict[str, object]]) -> None:
    def cell(value: object) -> str:
        return ", ".join(f"{key} {count:,}" for key, count in sorted(value.items())) if isinstance(value, dict) else f"{value:,}" if isinstance(value, int) else str(value)  # fmt: skip

    heads = ("feed", "sent", "replies", "repeats", "records", "equal", "verdicts")
    table = "\n".join("| " + " | ".join(cell(row[head]) for head in heads) + " |" for row in rows)
    (ROOT / "docs/corpus.md").write_text(
        "# Other people's messages\n\n"
        "Every message of the corpus (1,798 HL7 v2 messages published by other projects, noisy ones among them) and a simulated hospital, sent\n"
        "through a running node to a running gateway with python-hl7's `mllp_send`, which we did not write. Each stands at the gateway byte for byte\n"
        "and in order, or is refused with a reason and stands there as a refusal. Written by `PYTHONPATH=. .venv/bin/python tests/corpus_run.py`.\n\n"
        f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n{table}\n\n"
        "- `open` has no rules: what cannot be parsed is stored, answered AA with a warning, and forwarded.\n"
        "- `strict` takes ADT and ORU^R01 of versions 2.3, 2.5 and 2.5.1 with a PID-3; the rest gets AR (type, version) or AE (field missing).\n"
        "- `as-asked` is the default (`acknowledgement`): enhanced mode for messages that ask for it, CA, or no reply where MSH-15 wants none. It gets the\n"
        "  messages from a sender that does not wait, and one more at the end.\n"
        '- `open` and `strict` answer in original mode whatever MSH-15 says (`acknowledgement = "original"`): `mllp_send` waits for a reply to each\n'
        "  message and stands still for ever where its message asks for none.\n"
        "- `mllp_send` strips VT and CR from both ends of a message before it sends it; compared is what it put on the wire.\n"
        "- `repeats`: byte-identical messages under the same control id within the corpus itself are answered again and stored once.\n"
        "- `equal`: bodies at the gateway that are the sent bytes, in the sent order. It is `sent` less `repeats`.\n"
    )


if __name__ == "__main__":
    main()
