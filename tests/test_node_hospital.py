"""The synthetic hospital: what it sends is repeatable, unique, consistent, and plainly invented."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from node.tools.hospital import ALL_KINDS, BEDS, Fault, Hospital, Kind, Sent, kinds_named
from node.tools.hospital_laboratory import flag, measure
from node.tools.hospital_panels import PANELS
from node.tools.hospital_segments import dtm

MORNING = datetime(2026, 3, 1, 8, 0, 0, 250_000, tzinfo=UTC)


def play(hospital: Hospital, count: int) -> list[Sent]:
    return [hospital.next_message(now=MORNING + timedelta(seconds=n)) for n in range(count)]


def segments(raw: bytes) -> list[list[str]]:
    return [line.split("|") for line in raw.decode().split("\r") if line]


def first(raw: bytes, name: str) -> list[str]:
    return next(segment for segment in segments(raw) if segment[0] == name)


def test_same_seed_and_run_give_the_same_bytes():
    assert [m.raw for m in play(Hospital(7, run=3), 300)] == [m.raw for m in play(Hospital(7, run=3), 300)]
    assert play(Hospital(7), 1)[0].raw != play(Hospital(8), 1)[0].raw


def test_control_ids_are_unique_over_seeds_and_runs_and_fit_msh_10():
    ids = [
        m.control_id
        for seed, run in ((1, 0), (1, 1), (11, 0), (999_999, 9_999))
        for m in play(Hospital(seed, run=run), 200)
    ]
    assert len(set(ids)) == len(ids)
    assert max(map(len, ids)) <= 20
    assert ids[0].startswith("1-0-")


def test_msh_says_what_the_message_is():
    for message in play(Hospital(1), 200):
        msh = message.raw.decode().split("\r")[0].split("|")
        assert msh[:2] == ["MSH", "^~\\&"]
        assert msh[8].startswith(f"{message.kind}^")
        assert msh[9] == message.control_id
        assert msh[10:12] == ["T", "2.5.1"]
        assert msh[14:16] == ["", ""]  # original acknowledgement mode
        assert msh[17] == "UNICODE UTF-8"
        assert message.raw.endswith(b"\r")


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind is not Kind.ORM_O01])
def test_other_peoples_strict_validator_finds_no_fault(kind):
    # Not for ORM: hl7apy takes the choice of OBR, RQD, RXO … in its order group for a list of required segments.
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.parser import parse_message

    message = Hospital(1).next_message(kind, now=MORNING)
    assert parse_message(message.raw.decode(), validation_level=VALIDATION_LEVEL.STRICT, find_groups=True).validate()


def test_a_day_in_the_hospital_holds_every_kind():
    assert {m.kind for m in play(Hospital(1), 300)} == set(ALL_KINDS)


def test_patient_name_stands_in_arabic_and_in_latin_script():
    for message in play(Hospital(2), 100):
        arabic, latin = (name.split("^") for name in first(message.raw, "PID")[5].split("~"))
        assert arabic[6:8] == ["L", "I"]
        assert latin[6:8] == ["L", "A"]
        assert all("\u0600" <= letter <= "\u06ff" for letter in arabic[0] + arabic[1])
        assert (latin[0] + latin[1]).isascii()


def test_civil_number_can_belong_to_nobody():
    for message in play(Hospital(3, run=42), 100):
        record, civil = first(message.raw, "PID")[3].split("~")
        number = civil.split("^")[0]
        assert len(number) == 12
        assert number.startswith("90000")  # century 9, month 00
        assert number[5:9] == "0042"
        assert record.split("^")[4] == "MR"
        assert civil.split("^")[4] == "NI"


def test_an_order_is_for_a_patient_in_the_house():
    inside: set[str] = set()
    for message in play(Hospital(4), 2_000):
        visit = first(message.raw, "PV1")[19]
        if message.kind in {Kind.ADT_A01, Kind.ADT_A04}:
            assert visit not in inside
            inside.add(visit)
        elif message.kind is Kind.ADT_A03:
            inside.remove(visit)
        elif message.kind is not Kind.ORU_R01:  # a result may come after the patient has left
            assert visit in inside


def test_a_result_answers_one_order_once():
    waiting: dict[str, tuple[str, str]] = {}
    for message in play(Hospital(5), 2_000):
        if message.kind is Kind.ORM_O01:
            assert first(message.raw, "ORC")[1] == "NW"
            obr = first(message.raw, "OBR")
            waiting[obr[2]] = (first(message.raw, "PID")[3], obr[4])
        elif message.kind is Kind.ORU_R01:
            orc, obr = first(message.raw, "ORC"), first(message.raw, "OBR")
            assert orc[1:4] == ["RE", obr[2], obr[3]]
            assert waiting.pop(obr[2]) == (first(message.raw, "PID")[3], obr[4])


def test_no_more_visits_than_beds():
    hospital = Hospital(6)
    inside = 0
    for message in play(hospital, 3_000):
        inside += {Kind.ADT_A01: 1, Kind.ADT_A04: 1, Kind.ADT_A03: -1}.get(message.kind, 0)
        assert 0 <= inside <= BEDS


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_hospital_of_one_kind_never_runs_dry(kind):
    hospital = Hospital(8, kinds=(kind,))
    assert {m.kind for m in play(hospital, 1_500)} == {kind}
    assert Hospital(8).next_message(kind, now=MORNING).kind is kind


def test_every_segment_is_free_of_stray_delimiters():
    # An unescaped delimiter in a text would shift fields: the count of the segment's fields would give it away.
    longest = {"EVN": 7, "PID": 19, "NK1": 6, "PV1": 46, "ORC": 13, "OBR": 26, "OBX": 15, "NTE": 4, "AL1": 6, "DG1": 7}
    for message in play(Hospital(9), 1_000):
        for segment in segments(message.raw)[1:]:
            assert len(segment) <= longest[segment[0]], segment
            assert "\n" not in "".join(segment)


def test_results_carry_loinc_ucum_range_and_the_flag_that_follows_from_them():
    flags = set()
    for message in play(Hospital(10), 1_500):
        for obx in (s for s in segments(message.raw) if s[0] == "OBX"):
            code, _, system = obx[3].split("^")
            assert system == "LN"
            assert obx[6].endswith("^^UCUM")
            assert code.partition("-")[0].isdecimal()
            low, _, high = obx[7].partition("-")
            value = float(obx[5])
            outside = (
                value > float(obx[7][2:])
                if obx[7].startswith("<=")
                else value < float(obx[7][2:])
                if obx[7].startswith(">=")
                else not float(low) <= value <= float(high)
            )
            assert (obx[8] != "N") == outside, obx
            flags.add(obx[8])
    assert {"N", "L", "H"} <= flags


def test_every_loinc_code_has_its_check_digit():
    for panel in PANELS:
        for code in (panel.loinc, *(analyte.loinc for analyte in panel.analytes)):
            number, _, check = code.partition("-")
            doubled = [int(d) * (2 if place % 2 == 0 else 1) for place, d in enumerate(reversed(number))]
            assert (10 - sum(d // 10 + d % 10 for d in doubled)) % 10 == int(check), code


def test_most_values_are_normal_and_none_is_impossible():
    dice = Random(1)
    results = [r for n in range(2_000) for p in PANELS for r in measure(p, female=n % 2 == 0, age_years=50, dice=dice)]
    assert all(float(r.value) > 0 for r in results)
    assert 0.75 < sum(r.flag == "N" for r in results) / len(results) < 0.95
    assert sum(r.flag in {"LL", "HH"} for r in results) / len(results) < 0.02


def test_red_cell_indices_agree_with_each_other_as_printed():
    dice = Random(2)
    for _ in range(200):
        value = {r.analyte.loinc: float(r.value) for r in measure(PANELS[0], female=True, age_years=30, dice=dice)}
        assert value["4544-3"] * 10 / value["789-8"] == pytest.approx(value["787-2"], rel=0.02)
        assert value["718-7"] / value["789-8"] == pytest.approx(value["785-6"], rel=0.02)


def test_critical_flag_goes_before_the_ordinary_one():
    assert [flag(v, (3.5, 5.1), (2.8, 6.2)) for v in (2.7, 3.0, 3.5, 5.1, 5.2, 6.3)] == ["LL", "L", "N", "N", "H", "HH"]
    assert flag(9.0, (None, None), (None, None)) == "N"


def test_a_clock_without_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        Hospital(1).next_message(now=datetime(2026, 3, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="zone"):
        dtm(datetime(2026, 3, 1))  # noqa: DTZ001
    assert dtm(MORNING) == "20260301080000.250+0000"


@pytest.mark.parametrize(("seed", "run"), [(-1, 0), (1_000_000, 0), (1, -1), (1, 10_000)])
def test_a_seed_or_run_that_would_not_fit_the_control_id_is_refused(seed, run):
    with pytest.raises(ValueError, match="seed must be"):
        Hospital(seed, run=run)


def test_kinds_can_be_named_by_message_code_or_whole():
    assert kinds_named("ORU") == (Kind.ORU_R01,)
    assert kinds_named("adt^a03, orm,ADT^A03") == (Kind.ADT_A03, Kind.ORM_O01)
    assert len(kinds_named("ADT")) == 4
    for text in ("", " , ", "ACK", "ADT^A99"):
        with pytest.raises(ValueError, match="kind"):
            kinds_named(text)
    with pytest.raises(ValueError, match="kind"):
        Hospital(1, kinds=())


def test_each_fault_spoils_what_it_names_and_nothing_breaks_the_framing():
    hospital = Hospital(11)
    play(hospital, 50)
    broken = {fault: hospital.broken_message(fault, now=MORNING) for fault in Fault}
    assert not broken[Fault.NO_MSH].raw.startswith(b"MSH")
    assert b"PID|" in broken[Fault.NO_MSH].raw
    assert broken[Fault.NO_CONTROL_ID].raw.split(b"|")[9] == b""
    assert b"\rPID|" not in broken[Fault.NO_PATIENT].raw
    with pytest.raises(UnicodeDecodeError):
        broken[Fault.WRONG_CHARSET].raw.decode()
    assert "وادي نور" in broken[Fault.WRONG_CHARSET].raw.decode("cp1256")
    assert broken[Fault.WRONG_VERSION].raw.split(b"|")[11] == b"9.9"
    assert not broken[Fault.CUT_SHORT].raw.endswith(b"\r")
    for fault, message in broken.items():
        assert message.fault is fault
        assert not {0x0B, 0x1C} & set(message.raw)
        assert message.control_id == "" or f"|{message.control_id}|".encode() in message.raw


def test_the_dice_choose_every_fault():
    hospital = Hospital(12)
    assert {hospital.broken_message(now=MORNING).fault for _ in range(200)} == set(Fault)
