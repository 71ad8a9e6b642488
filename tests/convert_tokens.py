"""Messages in which every component of every field holds a word of its own: what becomes of each can be looked up."""

import re
from collections.abc import Iterator

HEAD = "MSH|^~\\&|APP|FAC|RAPP|RFAC|20240102030405+0300||{code}^{event}|C1|P|2.5.1"
FIELDS = {"MSH": 0, "PID": 40, "PV1": 54, "PV2": 50, "OBR": 53, "ORC": 38, "OBX": 30, "TXA": 28, "RXA": 28, "IN1": 53}
SKELETONS = {  # of each family a message that has its segments; the words are put into one segment at a time
    "ADT^A08": "PID PV1 PV2 PD1 NK1 AL1 IAM DG1 PR1 GT1 IN1 IN2 ROL PRT OBX NTE SFT EVN UAC",
    "ADT^A40": "PID MRG",
    "ADT^A45": "PID MRG PV1",
    "ORU^R01": "PID PV1 ORC OBR NTE OBX NTE SPM OBX SAC TQ1",
    "OML^O21": "PID PV1 ORC TQ1 OBR NTE DG1 OBX SPM SAC",
    "VXU^V04": "PID PV1 ORC RXA RXR OBX NTE",
    "RDE^O11": "PID PV1 ORC RXE NTE TQ1 RXR RXC OBX",
    "OMP^O09": "PID ORC TQ1 RXO NTE RXR RXC",
    "RDS^O13": "PID ORC RXE RXD RXR",
    "RAS^O17": "PID ORC RXA RXR OBX",
    "RGV^O15": "PID ORC RXE RXG RXR",
    "MDM^T02": "PID PV1 TXA OBX OBX",
    "SIU^S12": "SCH TQ1 NTE PID PV1 RGS AIS AIG AIL AIP",
    "DFT^P03": "PID PV1 FT1 DG1 IN1",
    "PPR^PC1": "PID PV1 PRB OBX NTE GOL",
    "REF^I12": "RF1 PRD PID DG1 OBR OBX",
}
COMPONENTS = 14
KINDS = ("NM", "ST", "CWE", "SN", "ED", "RP", "DTM", "TX", "")


def words(segment: str) -> tuple[str, list[str]]:
    """A segment all of whose components hold words, and the words."""
    made: list[str] = []

    def word() -> str:
        made.append(f"W{segment}{len(made)}x")
        return made[-1]

    fields = []
    for at in range(1, FIELDS.get(segment, 40) + 1):
        repetitions = []
        for _ in range(2):
            parts = [word() if part % 3 else f"{word()}&{word()}&{word()}" for part in range(1, COMPONENTS + 1)]
            repetitions.append("^".join(parts))
        fields.append("~".join(repetitions))
        if segment == "OBX" and at == 2:
            fields[-1] = "{kind}"
    return f"{segment}|" + "|".join(fields), made


def messages() -> Iterator[tuple[str, str, list[str]]]:
    """Each family's message with words in one segment and little in the others: (name, message, words)."""
    for kind, names in SKELETONS.items():
        code, event = kind.split("^")
        listed = names.split()
        for at, name in enumerate(listed):
            body, made = words(name)
            kinds = KINDS if name == "OBX" else ("",)
            for value in kinds:
                lines = [HEAD.format(code=code, event=event)]
                for other, each in enumerate(listed):
                    lines.append(body.replace("{kind}", value) if other == at else _plain(each))
                text = "\r".join(lines) + "\r"
                there = set(re.findall(rf"W{name}\d+x", text))
                yield f"{kind} {name} {value}", text, [word for word in made if word in there]


def _plain(name: str) -> str:
    plain = {
        "PID": "PID|1||77^^^FAC^MR||Roe^Jane",
        "PV1": "PV1|1|I|W^1^2||||||||||||||||V1^^^FAC",
        "ORC": "ORC|NW|P1^FAC|F1^LAB",
        "OBR": "OBR|1|P1^FAC|F1^LAB|C^Code^L|||20240102030405",
        "OBX": "OBX|1|NM|C1^Code^L||5|mg|||||F",
        "TXA": "TXA|1|PN|TX||||||||||D1^FAC",
        "SCH": "SCH|A1^FAC|A2^FAC",
    }
    return plain.get(name, f"{name}|1")
