"""`wasl convert` of an evidence file: by the profile that its record names, by its own tables, or a sentence that says why not."""

import json

import pytest
from click.testing import CliRunner

from hl7.devices.files import ER7
from hl7.devices.poct1a import CONTENT_TYPE as POCT1A
from node.cli.main import main
from node.devices.profiles import mark_of, text_of
from sync.evidence import Evidence
from sync.header import PROFILE, encode_pairs, encode_particulars
from sync.record import Kind
from tests.device_captures import BODIES
from tests.node_rig import message
from tests.poct1a_rig import HELLO

ASTM, CSV = "application/astm-e1394", "text/csv"
ADT = message("A-1", kind="ADT^A01")
PATIENT = '{"resourceType":"Patient","name":[{"text":"مريض تجريبي"}]}'.encode()


@pytest.fixture
def convert(tmp_path):
    """The exit code, standard output and standard error of converting such a record."""

    def run(
        body: bytes | None, content_type: str, *options: str, profile: str = "", kind: Kind = Kind.MESSAGE, message_type: str = "", mark: bytes | None = None
    ) -> tuple[int, str, str]:  # fmt: skip
        header = encode_pairs(
            {1: 1, 2: int(kind), 3: "BH-TEST-0007", 4: "lab", 5: content_type, 6: message_type, 7: 1_900_000_000_000_000, 8: 1, 9: 0, 10: 0, 11: len(body or b""), 12: 0, 13: bytes(32)}
        )  # fmt: skip
        named = [(PROFILE, (profile, mark_of(text_of(profile)) if mark is None else mark))] if profile else []
        whole = body is not None
        made = Evidence(
            header=header, salt=bytes(16) if whole else None, particulars=encode_particulars(named) if whole else None, body=body, seq=0, proof=(),
            note=b"n", log_certificate=b"c", cosign_certificate=b"c", chain=(), validity=b"v", anchor=b"a",
        )  # fmt: skip
        file = tmp_path / "one.evidence"
        file.write_bytes(made.encode())
        done = CliRunner().invoke(main, ["convert", str(file), *options])
        return done.exit_code, done.stdout, done.stderr

    return run


def kinds(text: str) -> set[str]:
    return {each["resource"]["resourceType"] for each in json.loads(text)["entry"]}


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("sysmex-xn", ASTM), ("vitals-mqtt", "application/json"), ("qpcr-csv", CSV), ("abbott-istat", POCT1A), ("urine-strip-lines", "text/plain")],
)  # fmt: skip
def test_a_record_is_read_by_the_profile_that_it_names(convert, name, content_type):
    code, shown, said = convert(BODIES[name], content_type, profile=name)
    assert (code, "Observation" in kinds(shown), "changed" in said) == (0, True, False)


def test_a_profile_that_was_changed_since_is_told(convert):
    code, _, said = convert(BODIES["vitals-mqtt"], "application/json", profile="vitals-mqtt", mark=bytes(8))
    assert code == 0
    assert "the profile vitals-mqtt has been changed since the record came" in said


def test_a_profile_given_by_hand_goes_before_the_one_that_the_record_names(convert):
    code, shown, said = convert(BODIES["sysmex-xn"], ASTM, "--profile", "sysmex-xn", profile="qpcr-csv", mark=bytes(8))
    assert (code, "Observation" in kinds(shown), "changed" in said) == (0, True, False)


@pytest.mark.parametrize("content_type", [ASTM, POCT1A, "text/plain", CSV, "application/vnd.wasl.modbus+json"])
def test_a_record_that_names_no_profile_asks_for_one(convert, content_type):
    code, shown, said = convert(BODIES["sysmex-xn"], content_type)
    assert (code, shown) == (1, "")
    assert said.startswith(f"{content_type}: its record names no profile; give one with --profile")


@pytest.mark.parametrize("profile", ["", "vitals-mqtt"])
def test_fhir_is_shown_as_it_came(convert, profile):
    code, shown, said = convert(PATIENT, "application/fhir+json", profile=profile)
    assert (code, shown.encode()) == (0, PATIENT + b"\n")
    assert "FHIR already" in said


@pytest.mark.parametrize("profile", ["", "qpcr-csv", "mindray-bc"])
def test_hl7_that_is_no_result_of_the_profiles_device_is_converted_by_its_own_tables(convert, profile):
    code, shown, _ = convert(ADT, ER7, profile=profile, message_type="ADT^A01")
    assert (code, "Patient" in kinds(shown)) == (0, True)


def test_a_result_in_hl7_is_read_by_the_profile_that_its_record_names(convert):
    of_profile = convert(BODIES["monitor-pcd01"], ER7, profile="monitor-pcd01", message_type="ORU^R01^ORU_R01")
    of_tables = convert(BODIES["monitor-pcd01"], ER7, message_type="ORU^R01^ORU_R01")
    assert [each[0] for each in (of_profile, of_tables)] == [0, 0]
    assert ["8867-4" in each[1] for each in (of_profile, of_tables)] == [True, False]  # LOINC: the profile's


@pytest.mark.parametrize("content_type", ["application/pdf", "image/png"])
def test_a_file_that_no_profile_reads_stays_raw_whatever_its_feed_names(convert, content_type):
    code, shown, said = convert(b"%PDF-1.7\n", content_type, profile="qpcr-csv")
    assert (code, shown, said) == (1, "", f"{content_type}: no profile reads that; the record stays as it came\n")


@pytest.mark.parametrize(
    ("body", "content_type", "profile", "words"),
    [
        (HELLO, POCT1A, "abbott-istat", "HEL.R01"),
        (b"H|\\^&\rQ|1|^S-1||ALL\rL|1|N\r", ASTM, "sysmex-xn", "query"),
        (b"Sample Name,Target Name,CT\r\n", CSV, "qpcr-csv", "no row of it has a value"),
    ],
)
def test_a_record_without_results_says_so_in_words(convert, body, content_type, profile, words):
    code, shown, said = convert(body, content_type, profile=profile)
    assert (code, shown) == (1, "")
    assert words in said


@pytest.mark.parametrize("by_hand", [(), ("--profile", "sysmex-xn")])
@pytest.mark.parametrize(("kind", "words"), [(Kind.INCOMPLETE, "incomplete"), (Kind.GAP, "gap"), (Kind.CONTROL, "log")])
def test_of_what_broke_off_and_of_what_is_no_message_no_result_is_made(convert, by_hand, kind, words):
    """A transfer cut off has whole result records in it: by the profile alone they would be a patient's."""
    code, shown, said = convert(BODIES["sysmex-xn"], ASTM, *by_hand, profile="sysmex-xn", kind=kind)
    assert (code, shown) == (1, "")
    assert words in said


def test_a_test_is_converted_and_called_one(convert):
    code, shown, said = convert(BODIES["sysmex-xn"], ASTM, profile="sysmex-xn", kind=Kind.TEST)
    assert (code, "Observation" in kinds(shown), "marked as a test" in said) == (0, True, True)


def test_a_body_that_was_erased_is_told_as_that(convert):
    code, shown, said = convert(None, ASTM)
    assert (code, shown) == (1, "")
    assert "erased or trimmed" in said


def test_a_record_cannot_have_a_file_of_ours_read_as_its_profile(convert, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(text_of("sysmex-xn"), encoding="utf-8")
    code, shown, said = convert(BODIES["sysmex-xn"], ASTM, profile=str(own), mark=bytes(8))
    assert (code, shown) == (1, "")
    assert "is no name of a profile" in said


def test_a_profile_that_is_not_here_is_named_and_asked_for(convert):
    code, shown, said = convert(BODIES["sysmex-xn"], ASTM, profile="our-xn", mark=bytes(8))
    assert (code, shown) == (1, "")
    assert "the record names the profile our-xn" in said
    assert "--profiles" in said
