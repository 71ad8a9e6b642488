"""A printer's capture and its stored reports: cut and checked by the feed's own machine, and nobody's result becomes another's."""

from typing import get_args

import pytest
from click.testing import CliRunner

from hl7.convert.result import CannotConvert
from hl7.devices.capture import cut
from hl7.devices.link_keys import LINK_KEYS
from hl7.devices.profile import Profile, read_profile
from hl7.devices.profile_errors import ProfileProblem
from hl7.devices.read import read
from hl7.devices.readings import NoReadings
from hl7.devices.to_fhir import convert
from node.cli.main import main
from node.config import astm as config_astm
from node.config import line as config_line
from node.config.line import Lines
from node.config.mqtt import Topic
from sync.evidence import Evidence
from sync.header import encode_pairs, encode_particulars
from sync.record import Kind

TEXT = r"""
title = "Invented C-1"
source = "invented"
kind = "line"
charset = "cp1256"
patterns = [
    'P\|(?P<at>[^|]*)\|SID (?P<sample>[^|]*)\|(?P<patient_id>\S+) +(?P<patient_name>.*)',
    'Q\|(?P<at>[^|]*)\|(?P<sample>LOT [^|]*)\|(?P<panel_text>.*)',
    '(?P<code>\S+) +(?P<value>\S+) (?P<unit>\S+)(?: +(?P<flags>[HL]))?',
]
[device]
manufacturer = "Invented"
model = "C-1"
[identity]
patient_system = "CLINIC"
[[quality]]
where = "sample"
matches = 'LOT .*'
[link]
"""
BLOCK = 'ends = "block"\ncheck = "xor-hex"\ncovers = "text-and-end"\n'


def by(link: str = BLOCK) -> Profile:
    return read_profile("c-1", TEXT + link)


def printed(head: str, *rows: str, check: str = "xor") -> bytes:
    covered = "".join(line + "\r" for line in (head, *rows)).encode("cp1256") + b"\x03"
    value = 0
    for octet in covered:
        value = value ^ octet if check == "xor" else (value + octet) % 256
    return b"\x02" + covered + b"%02X" % value


def patient(number: int, glucose: str = "5.40") -> bytes:
    return printed(
        f"P|23.11.2026 02:10|SID 47{number:04}|PAT-{number} فاطمة التجريبية",
        f"GLU   {glucose} mmol/l",
        "K      4.1 mmol/l",
    )


CONTROL = printed("Q|23.11.2026 02:11|LOT 880030|CTRL-H", "GLU   8.44 mmol/l", "K      ---- mmol/l")


def tried(tmp_path, data: bytes, link: str = BLOCK, command: str = "test") -> tuple[int, str]:
    (tmp_path / "c-1.toml").write_text(TEXT + link, encoding="utf-8")
    (tmp_path / "line.cap").write_bytes(data)
    profile, capture = str(tmp_path / "c-1.toml"), str(tmp_path / "line.cap")
    words = (
        ["devices", "test", profile, "--capture", capture]
        if command == "test"
        else ["convert", capture, "--profile", profile]
    )
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.output


def test_each_report_of_a_capture_is_a_message_and_a_control_is_no_patients(tmp_path):
    code, text = tried(tmp_path, patient(1) + b"\r\n" + CONTROL + b"\r\n" + patient(2) + b"\r\n")
    assert code == 0, text
    first, second, third = text.split("\nmessage ")[1:]
    assert "patient PAT-1 فاطمة التجريبية" in first
    assert "sample LOT 880030 (line 1): QUALITY CONTROL" in second
    assert "PAT-" not in second
    assert "1 Device, 2 Observation\n" in second
    assert "patient PAT-2" in third
    assert "report 2: " in text
    assert "6 line ends and blanks between reports" in text


def test_a_capture_gives_the_bodies_that_a_feed_stores(tmp_path):
    reports = [patient(1), CONTROL, patient(2)]
    assert cut(b"\r\n".join(reports), by()).bodies == reports
    lines = by('line_end = "crlf"\n')
    assert cut(b"GLU 5 mmol/l\r\nK 4 mmol/l\r\n", lines).bodies == [b"GLU 5 mmol/l\r\n", b"K 4 mmol/l\r\n"]
    fixed = by('ends = "fixed"\nlength = 5\nstart = "="\n')
    assert cut(b"xx=1234=5678", fixed).bodies == [b"=1234", b"=5678"]


def test_bytes_that_belong_to_no_report_are_told(tmp_path):
    data = b"noise" + patient(1) + b"\r\n" + CONTROL[:40]
    for command in ("test", "convert"):
        code, text = tried(tmp_path, data, command=command)
        assert "5 bytes that belong to no report" in text
        assert "40 bytes, cut off before its end by the next one or by the end of the capture [LIN-03]" in text
        assert code == (0 if command == "test" else 1)
    assert "; two for each report: a check value" in tried(tmp_path, patient(1), 'ends = "block"\n')[1]


def test_what_a_line_set_wrong_has_of_broken_reports_is_told_in_few_lines():
    found = cut(b"\x02a" * 5000, by())
    assert not found.bodies
    assert len(found.told) < 110
    assert "4900 more" in found.told[-1]


@pytest.mark.parametrize(
    ("data", "link", "said"),
    [
        (patient(1).replace(b"5.40", b"9.40"), BLOCK, "stands there"),
        (patient(1), BLOCK.replace("xor", "sum"), "it is right by check = xor-hex, covers = text-and-end"),
        (patient(1), BLOCK.replace("text-and-end", "all"), "it is right by check = xor-hex, covers = text-and-end"),
    ],
    ids=["a changed digit", "another check", "another cover"],
)
def test_a_report_whose_check_value_does_not_fit_is_told_and_gives_no_result(tmp_path, data, link, said):
    code, text = tried(tmp_path, data, link)
    assert code == 0
    assert "check value wrong [LIN-02]" in text
    assert said in text
    assert "message 1" not in text
    assert tried(tmp_path, data, link, "convert")[0] == 1
    with pytest.raises(CannotConvert, match="not one whole report"):
        convert(data, by(link))


def test_two_reports_in_one_body_of_a_block_give_no_result():
    with pytest.raises(NoReadings, match="but 2"):
        read(patient(1) + CONTROL, by())


@pytest.mark.parametrize("link", [BLOCK, 'ends = "pause"\n'])
def test_start_end_and_check_value_are_in_no_reading_and_no_finding(link):
    body = patient(1) if link == BLOCK else patient(1)[1:-3]
    found = read(body, by(link))
    assert not found.left
    assert [(each.code, each.value) for each in found.each()] == [("GLU", "5.40"), ("K", "4.1")]
    assert found.samples[0].person.number == "PAT-1"


def test_a_printable_start_and_a_lines_own_check_value_are_told_apart():
    line = b"GLU 5.40 mmol/l"
    checked = by('line_end = "crlf"\ncheck = "sum-hex"\n')
    found = read(line + b"%02X\r\n" % (sum(line) % 256), checked)
    assert [(each.value, each.unit) for each in found.each()] == [("5.40", "mmol/l")]
    printable = by('ends = "block"\nstart = "G"\nend = "CR"\n')
    assert [each.code for each in read(line + b"\r", printable).each()] == ["GLU"]


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        (patient(1), CONTROL, "sample"),
        (CONTROL, patient(1), "sample"),
        (patient(1), patient(1).replace(b"PAT-1", b"PAT-2"), "patient_id"),
        (patient(1), patient(1).replace("فاطمة".encode("cp1256"), "مريم".encode("cp1256")), "patient_name"),
    ],
    ids=["control", "patient after control", "patient", "name"],
)
def test_a_second_person_or_sample_in_one_report_gives_no_result_to_the_first(tmp_path, first, second, word):
    body = first[1:-3] + second[1:-3]
    pause = 'ends = "pause"\n'
    with pytest.raises(NoReadings, match=rf"line 4 names another {word}\b"):
        read(body, by(pause))
    text = tried(tmp_path, body, pause)[1]
    assert "a capture holds no pauses" in text
    assert "no results: line 4 names another" in text
    code, text = tried(tmp_path, body, pause, "convert")
    assert code == 1
    assert "resourceType" not in text


def test_the_same_header_on_two_pages_of_one_report_is_one_patient():
    page = patient(1)[1:-3]
    assert len(list(read(page + page.replace(b"GLU", b"NA"), by('ends = "pause"\n')).each())) == 4


def test_one_record_of_a_line_is_not_cut_again(tmp_path):
    (tmp_path / "c-1.toml").write_text(TEXT + 'ends = "lines"\n', encoding="utf-8")
    body = patient(1)[1:-3]  # of a feed whose own keys say that a pause ends a report
    header = encode_pairs(
        {1: 1, 2: int(Kind.MESSAGE), 3: "BH-TEST-0007", 4: "lab", 5: "text/plain", 6: "", 7: 1_900_000_000_000_000, 8: 1, 9: 0, 10: 0, 11: len(body), 12: 0, 13: bytes(32)}
    )  # fmt: skip
    made = Evidence(
        header=header, salt=bytes(16), particulars=encode_particulars([]), body=body, seq=0, proof=(), note=b"n", log_certificate=b"c",
        cosign_certificate=b"c", chain=(), validity=b"v", anchor=b"a",
    )  # fmt: skip
    (tmp_path / "one.evidence").write_bytes(made.encode())
    done = CliRunner().invoke(
        main, ["convert", str(tmp_path / "one.evidence"), "--profile", str(tmp_path / "c-1.toml")]
    )
    assert done.exit_code == 0, done.output
    assert "PAT-1" in done.stdout
    assert "message 2" not in done.output


# ---- [link] of a profile ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "link", "said"),
    [
        ("line", 'ends = "blok"', "link.ends: 'blok' is not known here; one of lines, block, fixed, pause"),
        ("line", 'check = "crc"', "link.check: 'crc' is not known here; one of none, xor-byte, "),
        ("line", 'start = "SOHO"', 'a name such as "STX"'),
        ("line", 'end = "blok"\nends = "block"', "link.end: "),
        ("line", "quiet_ms = true", "link.quiet_ms: True is not known here; a whole number from 0 to 3600000"),
        ("line", 'end_s = "block"', "link.end_s: unknown key; a feed of kind line takes ends, "),
        ("line", 'ends = "fixed"', "link.length: "),
        ("line", 'ends = "fixed"\nlength = 2\ncheck = "xor-hex"', "link.length: "),
        ("line", 'ends = "pause"\ncheck = "xor-hex"', "link.check: "),
        ("astm", 'frame_end = "lf"', "link.frame_end: 'lf' is not known here; one of crlf, cr"),
        ("astm", "without_enq = 1", "link.without_enq: 1 is not known here; true or false"),
        ("astm", "frame_text_bytes_max = 0", "link.frame_text_bytes_max: "),
        ("mqtt", 'content_type = "text/html"', "link.content_type: "),
        ("mqtt", 'identity = "a b c d e"', "link.identity: "),
        ("mllp", 'ends = "block"', "link.ends: unknown key; a feed of kind mllp takes no switches"),
    ],
)
def test_what_no_feed_would_take_in_link_is_refused_by_name_with_what_is_allowed(kind, link, said):
    text = f'title = "t"\nsource = "s"\nkind = "{kind}"\n[device]\nmanufacturer = "m"\nmodel = "m"\n[link]\n{link}\n'
    with pytest.raises(ProfileProblem) as refused:
        read_profile("x", text)
    assert said in str(refused.value)


def test_a_profile_takes_every_switch_that_its_feed_takes_and_no_other():
    assert tuple(LINK_KEYS["line"]) == config_line.OF_PROFILE
    assert tuple(LINK_KEYS["astm"]) == config_astm.OF_PROFILE
    for model, kind in ((Lines, "line"), (config_astm.Astm, "astm"), (Topic, "mqtt")):
        for key, allowed in LINK_KEYS[kind].items():
            for word in get_args(model.model_fields[key].annotation):
                assert not isinstance(word, str) or allowed.holds(word), (key, word)
