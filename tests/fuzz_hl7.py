"""Mutated messages against everything that reads HL7: no exception but the documented one, and what must hold of any bytes holds.

`python tests/fuzz_hl7.py --messages 10000000` is part of `make sim`; tests/test_hl7_fuzz.py runs a slice. A message is made from (seed, number) alone:
`--seed S --first N --messages 1` gives the same one again. Each message goes to one target, in turn.
"""

import argparse
import csv
import itertools
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path as File

sys.path.insert(0, str(File(__file__).resolve().parents[1]))

from hl7.ack import acknowledge, refuse
from hl7.asked import asked, reply_codes
from hl7.batch import check_batch, divide, is_single, reply_to_batch
from hl7.charsets import twin
from hl7.check import NO_RULES, Outcome, Rules, check
from hl7.errors import NotEr7
from hl7.message import Message, Path, facts, header
from hl7.mllp import Decoder, Frame, encode
from hl7.routing import Rule, choose
from hl7.salvage import salvage
from hl7.separators import read_separators
from hl7.sequence import Last, Link, Mood, Step, hear, number_of, receive
from hl7.text import State, Text
from tests.byte_mutations import Mutations

CORPUS = File(__file__).resolve().parents[2] / "shared" / "corpus"
SIZE_MAX = 400  # of most messages to mutate: small ones reach more code in the same time
LARGE_MAX = 4000  # of one in sixteen
BLOCK = 2000  # messages between two reports of a process

NOW = b"20260101120000+0400"
RULES = Rules(
    senders=("HIS*|*", "[!a-z]*"), types=("ADT^A0?", "ORU", "VXU"), versions=("2.5", "2.5.1", "2.3"), processing_ids=("P", "T"), required=("PID-3.1", "MSH-7"),
    routes=(Rule(types=("ORU^R01",), when=(("OBX-8", ("HH", "LL")),), stream="critical"), Rule(when=(("PID-3[2].4.1", ("GOV",)), ("MSH-2", ("^~\\&",))), stream=""), Rule(senders=("X*",), stream="")),
)  # fmt: skip
PATHS = (
    "MSH-0",
    "MSH-1",
    "MSH-2",
    "MSH-9.2",
    "MSH-10",
    "MSH-18",
    "PID-3[2].4.1",
    "PID-5.1",
    "OBX[2]-5",
    "OBX-5[1]",
    "NTE-3",
    "FHS-2",
    "ZLB-1",
)
CODECS = ("", "", "", "utf-8", "cp1256", "iso8859_6", "gb18030", "big5", "shift_jis", "iso2022_jp", "euc_kr", "ascii")
MARKS = (b"|", b"^", b"~", b"\\", b"&", b"#", b"\r", b"\n", b"\r\n", b"\x0b", b"\x1c", b"\x1c\r", b"$", b"\0")
WORDS = (
    b"MSH", b"FHS|^~\\&|", b"BHS|^~\\&|A", b"BTS|1\r", b"FTS|1", b"PID|1||7", b"\rMSH|^~\\&|", b"ADD|", b"DSC|7\r", b'""', b"\\F\\", b"\\X0D\\", b"\\XZZ\\", b"\\C2D47\\\xd3\xcc", b"\\M2442\\;3",
    b"\\.br\\", b"\\.in+4\\", b"\\Zq\\", b"\\", b"\x1b$B;3ED\x1b(B", b"\xd3\xcc\xe4", "سجل".encode(), b"\xff\xfe", b"\x81|", b"8859/6", b"~ISO IR87", b"UNICODE UTF-8", b"GB 18030-2000",
    b"0", b"-1", b"123", b"AL", b"NE", b"2.9", b"2.3", b"HH", b"msh", b"\xef\xbb\xbf", b"A" * 300,
)  # fmt: skip


# ---- messages -----------------------------------------------------------------------------------------------------
@cache
def stock() -> list[bytes]:
    """What is mutated: messages of ours, and those of the corpus where it is there, cut."""
    from tests.test_hl7_corpus import generated

    ours = [raw for _, raw in generated()]
    ours += [b"FHS|^~\\&|LAB\rBHS|^~\\&|LAB|C|H|M|||||B1\r" + b"".join(ours[:3]) + b"BTS|3\rFTS|1\r"]
    if not (CORPUS / "INDEX.tsv").is_file():
        return ours
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        others = [(CORPUS / row["path"]).read_bytes() for row in csv.DictReader(index, delimiter="\t")]
    return ours * 8 + [raw[: LARGE_MAX if number % 16 == 0 else SIZE_MAX] for number, raw in enumerate(others)]


def mutated(seed: int, number: int) -> tuple[bytes, random.Random]:
    """One message, and dice for what is done with it."""
    dice = random.Random(seed << 40 | number)
    raw = dice.choice(stock())
    for _ in range(dice.choice((0, 1, 1, 2, 3, 8))):
        raw = dice.choice(MUTATORS)(raw, dice)
    return raw[: 2 * LARGE_MAX], dice


def _place(raw: bytes, dice: random.Random) -> int:
    """A place in a message, every other time in its header."""
    return dice.randrange(min(len(raw), 120 if dice.random() < 0.5 else len(raw)) + 1)


def splice(raw: bytes, dice: random.Random) -> bytes:
    other = dice.choice(stock())
    return raw[: _place(raw, dice)] + other[_place(other, dice) :][:SIZE_MAX]


def field(raw: bytes, dice: random.Random) -> bytes:
    parts = raw.split(b"|")
    parts[dice.randrange(min(len(parts), 25))] = dice.choice(WORDS)
    return b"|".join(parts)


def lines(raw: bytes, dice: random.Random) -> bytes:
    parts = raw.replace(b"\n", b"\r").split(b"\r")
    dice.shuffle(parts)
    return dice.choice((b"\r", b"\n", b"\r\n", b"\r\r")).join(parts)


AT = Mutations(marks=MARKS, words=WORDS, drops=(1, 1, 3, 20), doubles=(1, 4, 40), place=_place)
MUTATORS = (
    *(AT.flip, AT.drop, AT.double, AT.mark, AT.mark, AT.word, AT.word, AT.other_mark, AT.cut), splice, field, lines,
)  # fmt: skip


# ---- targets ------------------------------------------------------------------------------------------------------
def decoder(raw: bytes, dice: random.Random) -> None:
    """Any chunks give the same frames; a payload without VT and FS is one frame, itself."""
    wire = dice.choice((b"", b"noise", b"\x0b")) + encode(raw)
    whole = Decoder(payload_bytes_max=dice.choice((64, 10_000)))
    pieces = Decoder(payload_bytes_max=whole._payload_bytes_max)
    events, found, at = [*whole.receive(wire), *whole.finish()], [], 0
    while at < len(wire):
        size = dice.choice((1, 7, 100, 1460))
        found += pieces.receive(wire[at : at + size])
        at += size
    assert [*found, *pieces.finish()] == events
    assert (whole.noise_bytes, whole.bare_ends) == (pieces.noise_bytes, pieces.bare_ends)
    if not {0x0B, 0x1C} & set(raw) and wire[:1] != b"\x0b" and len(raw) <= whole._payload_bytes_max and raw:
        assert events == [Frame(raw)]


def view(raw: bytes, dice: random.Random) -> None:
    """Values are the bytes of their spans, segments follow one another, and nothing is written."""
    message = Message(raw)
    values = message.read(PATHS)
    for path, value in zip(PATHS, values, strict=True):
        span = message.span(path)
        assert value == (None if span is None else raw[slice(*span)])
    spans = [span for _, span in message.segments()]
    assert len(spans) == message.count
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert message.raw is raw


def text(raw: bytes, dice: random.Random) -> None:
    """The text view finds what the view of bytes finds, and every value is text."""
    found = Text(raw, charset=dice.choice(CODECS), charset_default=dice.choice(("utf-8", "cp1256")))
    body = Message(twin(raw, found.charset))
    for path in PATHS:
        assert found.bytes_at(Path.parse(path)) == body.get(path)
        value = found.get(path, is_formatted=True)
        assert (value.state is State.ABSENT) == (body.get(path) is None)
        value.text.encode()  # no half of a pair, no mark of ours
    for _, value in found.values():
        value.text.encode()
    if dice.random() < 0.1:
        assert [path for path, _ in found.flagged()] == [path for path, value in found.values() if value.flags]


def judged(raw: bytes, dice: random.Random) -> None:
    """No facts means HL7-01 and nothing else; facts are what the view says of the header."""
    for rules in (NO_RULES, RULES, Rules(charset="cp1256")):
        verdict = check(raw, rules)
        assert (verdict.facts is None) == (verdict.code == NotEr7.code)
        if verdict.facts is not None and rules is NO_RULES:
            head = Message(header(raw))
            assert (head.get("MSH-10") or b"", head.get("MSH-18") or b"") == (
                verdict.facts.control_id,
                verdict.facts.route.character_set,
            )


def answered(raw: bytes, dice: random.Random) -> None:
    """A reply is MSH, MSA and perhaps ERR, without a byte that ends a frame; MSA-2 is MSH-10 where that can be read."""
    verdict = check(raw, dice.choice((NO_RULES, RULES)))
    expected = dice.choice((b"", b"7"))
    replies = [
        acknowledge(raw, verdict, control_id=b"N1", now=NOW, expected=expected, is_application=dice.random() < 0.2)
    ]
    replies.append(
        refuse(
            raw[: dice.choice((60, 6000))], ack_code="AR", error_code="207", text="No room", control_id=b"N1", now=NOW
        )
    )
    for reply in replies:
        assert not {0x0B, 0x1C, 0x0A} & set(reply)
        assert [segment[:3] for segment in reply.split(b"\r")] in ([b"MSH", b"MSA", b""], [b"MSH", b"MSA", b"ERR", b""])
        assert Message(reply).get("MSH-10") == b"N1"
        assert Message(reply).get("MSH-19") is None
    wanted = (verdict.facts or salvage(raw)).control_id
    foreign = verdict.facts is None or Message(replies[0]).separators.field != read_separators(header(raw)).field
    wanted = wanted.replace(b"|", b"\\F\\") if foreign else wanted
    assert Message(replies[0]).read(("MSA-1", "MSA-2")) == [
        verdict.ack_code.encode(),
        wanted.translate(None, b"\r\n\x0b\x1c")[:4096],
    ]
    if verdict.facts is not None:
        assert all(
            len(code) in {0, 2}
            for code in reply_codes(asked(verdict.facts.route, "enhanced"), verdict, answers_application=True)
        )


def batch(raw: bytes, dice: random.Random) -> None:
    """Messages of a batch stand one after the other, each is judged, and the reply to all of them divides into as many."""
    found = divide(raw)
    if found is None:
        return
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(found.messages))
    assert all(raw[start : start + 3] == b"MSH" for start, _ in found.messages)
    if is_single(raw):
        assert len(found.messages) < 2
    whole, verdicts = check_batch(raw, found, RULES)
    assert len(verdicts) == len(found.messages)
    assert isinstance(whole.outcome, Outcome)
    replies = [
        acknowledge(raw[slice(*span)], verdict, control_id=b"N1", now=NOW)
        for span, verdict in zip(found.messages, verdicts, strict=True)
    ]
    reply = reply_to_batch(found, replies, control_id=b"B1", now=NOW)
    assert not {0x0B, 0x1C, 0x0A} & set(reply)
    again = divide(reply)
    if again is not None and all(each[3:4] == reply[3:4] for each in replies):
        assert len(again.messages) == len(replies)


def routing(raw: bytes, dice: random.Random) -> None:
    """A rule is one of ours or none."""
    found = facts(raw)
    assert choose(raw, found.route, read_separators(header(raw)), RULES.routes) in (None, *RULES.routes)


def sequence(raw: bytes, dice: random.Random) -> None:
    """Whatever MSH-13 holds is a number of the protocol or none; each number has its step, each answer its move."""
    fields = [facts(raw).route.sequence_number, raw[:20], *raw.split(b"|")[:14]]
    for number in {number_of(each) for each in fields} - {None}:
        last = dice.choice((None, Last(dice.randrange(5), b"\1" * 32, dice.random() < 0.5)))
        step = receive(last, number, b"\1" * 32, is_refused=dice.random() < 0.5)
        assert isinstance(step, Step)
        assert step.last is None or Last.read(step.last.encode()) == step.last
        move = hear(
            Link(dice.choice(list(Mood)), dice.randrange(1, 5)),
            number,
            dice.randrange(4),
            is_positive=dice.random() < 0.5,
        )
        assert move.stored >= 0


TARGETS: dict[str, Callable[[bytes, random.Random], None]] = {
    each.__name__: each for each in (decoder, view, text, judged, answered, batch, routing, sequence)
}


# ---- campaign -----------------------------------------------------------------------------------------------------
class Broken(Exception):
    """A target failed: which, on what."""


def run(seed: int, first: int, messages: int, targets: tuple[str, ...] = tuple(TARGETS)) -> dict[str, int]:
    """Put each message through one of the targets; how many of its messages each took for HL7. Raises Broken."""
    understood = dict.fromkeys(targets, 0)
    for number in range(first, first + messages):
        raw, dice = mutated(seed, number)
        name = targets[number % len(targets)]
        try:
            TARGETS[name](raw, dice)
            understood[name] += 1
        except NotEr7:
            continue
        except Exception as error:
            message = f"target {name}, --target {name} --seed {seed} --first {number} --messages 1: {error!r}\n{raw!r}"
            raise Broken(message) from error
    return understood


def _block(job: tuple[int, int, int, tuple[str, ...]]) -> dict[str, int]:
    return run(*job)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--target", action="append", choices=tuple(TARGETS), help="only these; all without")
    chosen = parser.parse_args()
    targets = tuple(chosen.target or TARGETS)
    end, started = chosen.first + chosen.messages, time.monotonic()
    jobs = [(chosen.seed, at, min(BLOCK, end - at), targets) for at in range(chosen.first, end, BLOCK)]
    total, done = dict.fromkeys(targets, 0), 0
    with multiprocessing.Pool(chosen.jobs) as pool:
        for number, understood in enumerate(pool.imap(_block, jobs)):
            done += jobs[number][2]
            for name, many in understood.items():
                total[name] += many
            if number % 200 == 199 or done == chosen.messages:
                rate = done / (time.monotonic() - started)
                print(f"{done:,} messages, {rate:,.0f} a second", flush=True)
    print(
        f"{len(stock())} messages mutated {done:,} times (seed {chosen.seed}), each to one of {len(targets)} targets; no failure"
    )
    print("taken for HL7: " + ", ".join(f"{name} {many:,}" for name, many in total.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
