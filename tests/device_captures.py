"""What each shipped profile's device would send: made here, with invented people, after the shapes that its profile describes."""

import json
from datetime import timedelta, timezone

from hl7.convert.result import Converted, Origin, Settings
from hl7.devices.astm_frames import encode_all
from hl7.devices.to_fhir import convert
from node.devices.profiles import find

RIYADH = timezone(timedelta(hours=3))
SETTINGS = Settings(zone=RIYADH, facility="clinic-7")
ORIGIN = Origin(
    facility="clinic-7", stream="clinic-7/xn", epoch=1, seq=7, leaf="cd" * 32, received_at="2026-11-22T07:30:00.123456Z"
)
NAME = "الحربي^مريم^عبدالله"


def astm(*records: str, charset: str = "utf-8") -> bytes:
    """Records as a body: what a record in the outbox holds."""
    return "".join(f"{each}\r" for each in records).encode(charset)


def framed(body: bytes, *, size: int = 240) -> bytes:
    """A body as a transfer on the line, with the host's answers between its frames as a line capture has them."""
    records = [record + b"\r" for record in body.split(b"\r") if record]
    return b"\x05\x06" + b"".join(frame + b"\x06" for frame in encode_all(records, text_bytes_max=size)) + b"\x04"


def hl7(*segments: str) -> bytes:
    return "".join(f"{each}\r" for each in segments).encode()


XN = astm(
    "H|\\^&|||XN-10^00-22^11001^^^^12345678||||||||E1394-97",
    f"P|1|||1001|{NAME}||19900102|F",
    "C|1||fasting",
    "O|1||^^             S-4711^B|^^^^WBC\\^^^^RBC|||||||N||||||||||||||F",
    "R|1|^^^^WBC^1|6.80|10*3/uL||N||F||||20261122101530",
    "R|2|^^^^RBC^1|<0.01|10*6/uL|4.00-5.50|L||C||admin||20261122101530",
    "R|3|^^^^PLT^1|----|10*3/uL||A||F||||20261122101530",
    "R|4|^^^^HCT^1|40.0|furlong||N||P||||20261122101530",
    "R|5|^^^^SCAT_WDF|PNG&R&20261122&R&101530.PNG|||N||F||||20261122101530",
    "L|1|N",
)
MINDRAY = hl7(
    "MSH|^~\\&|Mindray|BC-5390|||20261122101530||ORU^R01|7|P|2.3.1||||||UNICODE",
    f"PID|1||1001^^^CLINIC^MR||{NAME}||19900102|F",
    "OBR|1||S-4712|00001^Automated Count^99MRC||20261122100000|20261122100500||||||||||||||||HM||||||||admin",
    "OBX|1|IS|08001^Take Mode^99MRC||O||||||F",
    "OBX|2|NM|6690-2^WBC^LN||9.55|10*9/L|4.00-10.00|N|||F",
    "OBX|3|NM|10002^P-LCC^99MRC||62|10^9/L|30-90|N|||F",
    "OBX|4|ED|15000^WBC Histogram. Binary^99MRC||^Application^Octet-stream^Base64^AAAA||||||F",
)
MICROS = astm(
    "H|\\^&|||ABX|||||||P|E1394-97|20261122101530",
    "P|1||1002||Al Qahtani^Fahd||19850615|M",
    "O|1|S-4713||^^^DIF|R||||||||||||||||||||F",
    "R|1|^^^WBC^6690-2|7,1|10E3/uL||||F||||20261122101530",
    "R|2|^^^HGB^718-7|13.2|g/dL||||F||||20261122101530",
    "R|3|^^^PLT^777-3|--.--|10E3/uL||||X||||20261122101530",
    "L|1|N",
)
COBAS = astm(
    "H|\\^&|||c111^Roche^c111^4.2.2.1730^1^13147|||||host|RSUPL^REAL|P|1|20261122101530",
    "P|1||1003",
    "O|1|S-4714|^1^6|^^^GLU|R||||||N||||||||||||||F",
    "R|1|^^^GLU|5.60|mmol/L||N||F||admin||20261122101200|13147",
    "R|2|^^^CREA|0.90|umol-ish||N||F||admin||20261122101200|13147",
    "O|2|QC-1|^2^6|^^^GLU|R||||||Q||||||||||||||F",
    "R|1|^^^GLU|5.10|mmol/L||N||F||admin||20261122101300|13147",
    "L|1|N",
)
XPERT = astm(
    "H|@^\\|b4a88d9a||GeneXpert PC^GeneXpert^6.2|||||LIS||P|1394-97|20261122101530",
    "P|1||1004||Al Anzi^Noura",
    "O|1|S-4715||^^^COV2|R|20261122090000|||||||||ORH||||||||||F",
    "R|1|^COV2^^Xpert Xpress^2^^^|DETECTED^|||||F||admin|20261122093000|20261122101000|Cepheid-1^820345^722@0@1",
    "R|2|^COV2^^Xpert Xpress^2^^E^Ct|^31.4|||||F||admin|20261122093000|20261122101000",
    "C|1|I|Notes^^probe check passed|N",
    "L|1|N",
)
ISTAT = """<?xml version="1.0" encoding="utf-8"?>
<OBS.R01><HDR><HDR.control_id V="12"/><HDR.version_id V="POCT1"/><HDR.creation_dttm V="2026-11-22T10:15:30+03:00"/></HDR>
<SVC><SVC.role_cd V="OBS"/><SVC.observation_dttm V="2026-11-22T10:12:00+03:00"/><SVC.reason_cd V="NEW"/>
<PT><PT.patient_id V="1005"/><PT.name><GIV V="مريم"/><FAM V="الحربي"/></PT.name><PT.gender_cd V="F"/>
<OBS><OBS.observation_id V="Na" DN="Sodium"/><OBS.value V="140" U="mmol/L"/><OBS.method_cd V="M"/><OBS.status_cd V="A"/>
<OBS.interpretation_cd V="N"/><OBS.normal_lo-hi_limit V="[138;146]"/></OBS>
<OBS><OBS.observation_id V="PO2"/><OBS.value V="***" U="mmHg"/><OBS.status_cd V="A"/><NTE><NTE.text V="air bubble"/></NTE></OBS>
<OBS><OBS.observation_id V="2947-0" SN="LN" DN="Sodium"/><OBS.value V="139.5" U="mmol/L"/></OBS></PT>
<OPR><OPR.operator_id V="op7"/></OPR><ORD><ORD.order_id V="A-99"/></ORD><SPC><SPC.type_cd V="ART"/></SPC></SVC>
<SVC><SVC.role_cd V="LQC"/><SVC.observation_dttm V="2026-11-22T08:00:00+03:00"/><CTC><CTC.lot_number V="L1"/>
<OBS><OBS.observation_id V="Na"/><OBS.value V="120" U="mmol/L"/></OBS></CTC></SVC></OBS.R01>""".encode()
STRIP = """
2026-11-22 10:15
ID: U-17
GLU   NEGATIVE
*PRO   30 mg/dL
 LEU   ca 70 ?
 SG    >=1.030
 KET   ++
 URO   0.2 E.U./dL
""".replace("\n", "\r\n").encode("latin-1")
MAGLUMI = astm(
    "H|\\^&||PSWD|Maglumi 800|||||Lis||P|E1394-97|20261122",
    "P|1",
    "O|1|S-4716||^^^TSH\\^^^FT4",
    "R|1|^^^TSH|2.350|uIU/mL|0.30 to 4.50|N||||||20261122101530",
    "R|2|^^^FT4|15.1|pmol/L|12 to 22|N||||||20261122101530",
    "L|1|N",
)
ACCESS = astm(
    "H|\\^&|||ACCESS^500001|||||LIS||P|1|20261122101530",
    "P|1|1006",
    "O|1|S-4717|^7^1|^^^TSH^1|||||||||||Serum||||||||||F",
    "R|1|^^^TSH^1|>100|uIU/mL||>^H||F||||20261122101530",
    "R|2|^^^CEA2^1|NaN|ng/mL||N||F||||20261122101530",
    "L|1|F",
)
QPCR = "\ufeffSample Name,Target Name,CT,Well,Comments\r\nS-4718,N1,24.51,A1,\r\nS-4718,RP,Undetermined,A2,pipetted twice\r\nNTC,N1,38.0,H12,\r\n".encode()
PCD01 = hl7(
    "MSH|^~\\&|GW^080019FFFE3ED02D^EUI-64|CLINIC|||20261122101530+0300||ORU^R01^ORU_R01|9|P|2.6|||NE|AL|||||IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO",
    f"PID|||1001^^^CLINIC^MR||{NAME}||19900102|F",
    "PV1||I|ICU^^7",
    "OBR|1|AB12^GW|CD12^GW|182777000^monitoring of patient^SCT|||20261122101500+0300",
    "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||R|||||||0012AB^^0012AB^EUI-64",
    "OBX|2|NM|147842^MDC_ECG_HEART_RATE^MDC|1.6.1.147842|72|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||20261122101500+0300",
    "OBX|3|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.3.1.150456|97|262688^MDC_DIM_PERCENT^MDC|||||R",
    "OBX|4|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.9.150021|118|266016^MDC_DIM_MMHG^MDC|||||R",
    "OBX|5|NM|150022^MDC_PRESS_BLD_NONINV_DIA^MDC|1.1.9.150022|76|266016^MDC_DIM_MMHG^MDC|||||R",
    "OBX|6|NM|150023^MDC_PRESS_BLD_NONINV_MEAN^MDC|1.1.9.150023|90|266016^MDC_DIM_MMHG^MDC|||||R",
    "OBX|7|NM|150364^MDC_TEMP_BODY^MDC|1.5.1.150364|36.80|268192^MDC_DIM_DEGC^MDC|||||R",
    "OBX|8|NM|151562^MDC_RESP_RATE^MDC|1.7.1.151562||264928^MDC_DIM_RESP_PER_MIN^MDC|||||X",
)
VITALS = json.dumps(
    {
        "device": "VG-07", "seq": 41, "ts": 1795342530500, "fw": "2.1", "patient": {"id": "1001", "name": "مريم الحربي"},
        "vitals": {"hr": 72, "spo2": 97, "sys": 118, "dia": 76, "map": 90, "temp": None, "rr": {"value": "--", "unit": "rpm"}},
    },
    ensure_ascii=False,
).replace("97", "97.0").encode()  # fmt: skip
FRIDGE = json.dumps(
    {
        "v": 1, "point": "cabinet", "unit": 1, "function": "holding", "address": 0, "registers": [42, 65351, 850], "boot": "ab", "sequence": 3,
        "wall_us": 1795342530500000, "monotonic_us": 5, "took_us": 900, "late_us": 0, "quality": "good",
    }
).encode()  # fmt: skip
LOGGER = b"Time,Serial,Temperature (C),Humidity (%),Alarm\r\n2026-11-22 10:00:00,L-5,4.20,55,\r\n2026-11-22 10:10:00,L-5,--.-,56,door\r\n"

BODIES: dict[str, bytes] = {
    "astm-analyzer": MAGLUMI, "hl7-analyzer": MINDRAY,
    "abbott-istat": ISTAT, "beckman-access": ACCESS, "cepheid-genexpert": XPERT, "fridge-logger-csv": LOGGER, "fridge-modbus": FRIDGE,
    "horiba-micros60": MICROS, "mindray-bc": MINDRAY, "monitor-pcd01": PCD01, "qpcr-csv": QPCR, "roche-cobas-c111": COBAS,
    "snibe-maglumi": MAGLUMI, "sysmex-xn": XN, "urine-strip-lines": STRIP, "vitals-mqtt": VITALS,
}  # fmt: skip


def converted(name: str, body: bytes | None = None, *, origin: Origin | None = ORIGIN, **settings: object) -> Converted:
    """A body by a shipped profile, as the node would convert it."""
    from dataclasses import replace

    return convert(BODIES[name] if body is None else body, find(name), replace(SETTINGS, **settings), origin)


def resources(found: Converted, kind: str) -> list[dict]:
    """Resources of a type, as another JSON reader sees them."""
    entries = json.loads(found.json())["entry"]
    return [each["resource"] for each in entries if each["resource"]["resourceType"] == kind]


def observations(found: Converted) -> dict[str, dict]:
    """Observations by the device's own code."""
    made = {}
    for each in resources(found, "Observation"):
        codings = each["code"].get("coding", [{"code": each["code"]["text"]}])
        made[codings[-1]["code"]] = each
    return made
