"""What dictionaries are trained on: the simulated hospital's messages in several dialects, and as FHIR. No word of it was ever a patient's."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from node.tools.hospital import Hospital, Kind
from tests.bench.fhir_peer import bundle

SEEDS = range(40, 52)  # none that a benchmark uses: a dictionary is judged on messages that it has not seen
BEGIN = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
STEP = timedelta(seconds=47, milliseconds=317)
TIME = re.compile(r"(\d{14})\.\d{3}[+-]\d{4}")
ADT = (Kind.ADT_A01, Kind.ADT_A04, Kind.ADT_A08, Kind.ADT_A03)

# segments that other systems add, with tables of the standard and names that nobody bears
MORE_ADT = (
    "PD1||||D9001^Al-Ghaithi^Noura^^^DR", "PV2|||^Routine admission^L", "ROL|1|AD|AT|D9002^Al-Saqri^Yousef^^^DR",
    "IN1|1|TEST-PLAN^Invented Plan|TEST-INS|Invented Insurance|||||GROUP-TEST||||||||TESTOVA^AMAL|SEL^Self^HL70063|19800101",
    "GT1|1||TESTOVA^AMAL^^^^^L||1 Palm Street^^Wadi Noor^^^ZZZ^H|^PRN^PH^^999^^0000000||19800101|F||SEL^Self^HL70063",
    "OBX|1|NM|8302-2^Body height^LN||170|cm^^UCUM|||||F", "OBX|2|NM|29463-7^Body weight^LN||70|kg^^UCUM|||||F",
    "PR1|1||44950^Appendectomy^C4||20260105063000", "MRG|R90001^^^WADI-NOOR^MR", "ACC|20260105063000|^Fall",
)  # fmt: skip
MORE_ORDER = (
    "TQ1|1||||||20260105063000||R^Routine^HL70485", "SPM|1|P1&HIS^L1&LAB||BLD^Whole blood^HL70487|||||||P^Patient^HL70369",
    "SPM|1|P1&HIS^L1&LAB||UR^Urine^HL70487", "NTE|1|P|Fasting since midnight", "DG1|1||E11.9^Type 2 diabetes mellitus without complications^I10||20260105063000|W",
    "RXO|00000^Paracetamol 500 mg tablet^L|1|2|TAB^Tablet^UCUM", "RXR|PO^Oral^HL70162", "OBX|1|ST|8661-1^Chief complaint^LN||Invented complaint||||||F",
)  # fmt: skip
MORE_ORU = (
    "OBX|1|TX|18782-3^Radiology Study observation^LN||No acute finding in this invented report.||||||F",
    "OBX|1|FT|11502-2^Laboratory report^LN||Growth of no organism after 48 hours.\\.br\\Invented report.||||||F",
    "OBX|2|CWE|600-7^Bacteria identified in Blood by Culture^LN||112283007^Escherichia coli^SCT||||||F",
    "OBX|3|ST|6932-8^Penicillin [Susceptibility]^LN||R||||||F", "NTE|1|L|Reported by telephone to the ward.", "SPM|1|||BLD^Whole blood^HL70487|||||||||||||20260105063000|20260105064500",
    "OBX|1|ED|PDF^Report^L||^application^pdf^Base64^JVBERi0xLjQKJQ==||||||F", "OBX|4|DT|8665-2^Last menstrual period start date^LN||20260105||||||F",
)  # fmt: skip
SENDERS = (
    ("HIS-SIM", "WADI-NOOR"), ("LIS-SIM", "WADI-NOOR"), ("ADT1", "GENHOSP"), ("LAB", "TESTFAC"), ("EHR", "CLINIC-A"), ("RIS", "HOSPITAL"),
)  # fmt: skip


def dialects(raw: bytes, more: tuple[str, ...], dice: Random) -> str:
    """The message as one of several systems would write it."""
    text = raw.decode()
    style = dice.randrange(4)
    if style:
        text = TIME.sub(r"\1", text)
    if style > 1:
        application, facility = dice.choice(SENDERS)
        head, _, rest = text.partition("\r")
        fields = head.split("|")
        fields[2:4] = application, facility
        fields[11] = dice.choice(("2.3", "2.3.1", "2.4", "2.5", "2.5.1"))
        fields[10] = "P" if style == 3 else "T"
        text = "|".join(fields) + "\r" + rest
    if style == 3:
        text += "".join(f"{line}\r" for line in dice.sample(more, 2))
    return text


def hl7(kinds: tuple[Kind, ...], more: tuple[str, ...], rename: Callable[[str, Random], str] = lambda text, _: text) -> list[bytes]:  # fmt: skip
    """Samples of these kinds, with the messages of the other kinds between them in time."""
    found: list[bytes] = []
    for seed in SEEDS:
        hospital, dice, now = Hospital(seed), Random(seed), BEGIN + timedelta(days=seed)
        for _ in range(900):
            now += STEP
            sent = hospital.next_message(now=now)
            if sent.kind in kinds:
                found.append(rename(dialects(sent.raw, more, dice), dice).encode())
    return found


def order(text: str, dice: Random) -> str:
    """Half of the orders as the later message types."""
    kind = dice.choice(("ORM^O01^ORM_O01", "ORM^O01", "OML^O21^OML_O21", "OMG^O19^OMG_O19"))
    return text.replace("ORM^O01^ORM_O01", kind, 1)


def fhir() -> list[bytes]:
    """Single resources and whole bundles."""
    found: list[bytes] = []
    for seed in SEEDS:
        hospital, now = Hospital(seed), BEGIN + timedelta(days=seed)
        for _ in range(300):
            now += STEP
            found.append(bundle(hospital.next_message(now=now).raw))
    return found
