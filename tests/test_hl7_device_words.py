"""Field words of profiles: a slip is refused by name, and what a profile takes stands in FHIR or in the findings."""

import json

import pytest

from hl7.convert.result import CannotConvert
from hl7.devices.field_words import OF_PATTERNS, TAKEN
from hl7.devices.from_segments import NOT_MAPPED
from hl7.devices.from_text import NO_COLUMN, NO_PATTERN
from hl7.devices.profile import RULE_TEXT_CHARACTERS_MAX, Profile, read_profile
from hl7.devices.profile_errors import ProfileProblem
from hl7.devices.to_fhir import convert
from tests.device_captures import ORIGIN, SETTINGS, astm, hl7, resources

LINES = r"""patterns = ['S (?P<sample>\S+)', '(?P<code>K) (?P<value>\S+)(?: (?P<flags>\S+))?']"""
CSV = '[fields]\nsample = "S"\ncode = "C"\nvalue = "V"\n'
JSON = '[fields]\nsample = "/s"\n[implied_units]\nK = "mmol/L"\n'


def profile(kind: str, top: str = "", tables: str = "") -> Profile:
    return read_profile(
        "x",
        f'title = "t"\nsource = "s"\nkind = "{kind}"\nstatus_default = "F"\n{top}\n[device]\nmanufacturer = "m"\nmodel = "m"\n{tables}',
    )


def rule(where: str, key: str = "quality") -> str:
    return f'[[{key}]]\nwhere = "{where}"\nis = "QC"\n'


@pytest.mark.parametrize(
    ("kind", "top", "tables", "key", "allowed"),
    [
        *(("line", LINES, rule(where), "quality.where", "sample") for where in ("level", "quality", "line 1", "code", "patient_id")),
        ("line", LINES, rule("sampel", "ignored"), "ignored.where", "value"),
        ("line", LINES, '[fields]\nsample = "S"\n', "fields.sample", r"\(\?P<sample>"),
        ("line", "patterns = ['(?P<code>K) (?P<batch>.*)']", "", "patterns", "'batch' is no field word; known are at, birth_date"),
        ("line", "patterns = ['(?P<code>K) (?P<sent_on>.*)']", "", "patterns", "sent_at"),
        *(("folder", "", CSV + rule(where), "quality.where", "sample") for where in ("S", "level", "value")),
        ("folder", 'columns = ["S", "C", "V"]', CSV + 'at = "Time"\n', "fields.at", "S, C, V"),
        ("folder", "", CSV + 'value_type = "T"\n', "fields.value_type", "sample"),
        ("folder", "", CSV + 'control = "T"\n', "fields.control", "quality"),
        *(("mqtt", "", JSON + rule(where), "quality.where", "sample") for where in ("s", "level", "line 1")),
        ("mqtt", "", JSON + rule("sample", "ignored"), "ignored.where", "json"),
        *(("astm", "", rule(where), "quality.where", "R-3") for where in ("level", "quality", "PID-3", "action")),
        ("astm", "", '[fields]\ncode = "OBX-3"\n', "fields.code", "R-3"),
        ("mllp", "", '[fields]\ncode = "R-3"\n', "fields.code", "OBX-3"),
        ("mllp", "", rule("O-12"), "quality.where", "OBX-3"),
        ("astm", "", '[fields]\nresults = "R-3"\n', "fields.results", "sample"),
        ("poct1a", "", rule("level"), "quality.where", "patient_id"),
        ("poct1a", "", '[fields]\nsample = "x"\n', "fields.sample", "poct1a"),
        ("modbus", "", rule("sample"), "quality.where", "modbus"),
    ],
)  # fmt: skip
def test_a_slip_in_a_rule_or_a_word_is_refused_with_what_is_allowed(kind, top, tables, key, allowed):
    with pytest.raises(ProfileProblem, match=allowed) as caught:
        profile(kind, top, tables)
    assert caught.value.key == key, str(caught.value)


def test_what_a_rule_can_look_at_is_read_in_every_language():
    profile("line", LINES, rule("sample") + rule("flags", "ignored"))
    profile("folder", "", CSV + rule("sample") + rule("code", "ignored"))
    profile("mqtt", "", JSON + rule("sample") + rule("/mode"))
    profile("astm", "", rule("sample") + rule("O-3.2") + rule("code", "ignored"))
    profile("mllp", "", rule("SPM-11") + rule("code", "ignored"))
    profile("poct1a", "", rule("sample") + rule("patient_id"))


# ---- nothing that is taken vanishes -----------------------------------------------------------------------------------
OF_HEAD = ("sender", "serial_number", "software", "sent_at")
OF_PERSON = ("patient_id", "patient_name", "birth_date", "sex")
OF_SAMPLE = (
    *("sample", "order", "panel", "panel_text", "panel_system", "specimen", "collected_at", "received_at", "at"),
    *("report_status", "requester", "lot", "level"),
)
OF_RESULT = (
    *("code", "code_text", "code_system", "sub_id", "value", "unit", "range", "status", "operator", "instrument"),
    *("flags", "comment"),
)


def marker(word: str) -> str:
    return f"m.{word.replace('_', '.')}.q"


def lines_of(words: set[str]) -> tuple[bytes, str, str]:
    results = [word for word in OF_RESULT if word in words]
    patterns = [f"{word} (?P<{word}>.*)" for word in sorted(words - set(results))]
    patterns.append(";".join(["R", *(f"(?P<{word}>[^;]*)" for word in results)]))
    lines = [f"{word} {marker(word)}" for word in sorted(words - set(results))]
    lines.append(";".join(["R", *map(marker, results)]))
    return "\r\n".join(lines).encode(), f"patterns = {patterns!r}", ""


def csv_of(words: set[str]) -> tuple[bytes, str, str]:
    named = sorted(words)
    body = ",".join(named) + "\n" + ",".join(map(marker, named)) + "\n"
    return body.encode(), "", "[fields]\n" + "".join(f'{word} = "{word}"\n' for word in named)


def json_of(words: set[str]) -> tuple[bytes, str, str]:
    results = {word for word in OF_RESULT if word in words}
    body = {word: marker(word) for word in words - results - {"results"}}
    body["r"] = [{word: marker(word) for word in results}]
    fields = [f'{word} = "{"" if word in results else "/"}{word}"' for word in sorted(words - {"results"})]
    return json.dumps(body).encode(), "", "\n".join(["[fields]", 'results = "/r"', *fields, ""])


def records_of(words: set[str], names: tuple[str, str, str, str, str]) -> tuple[list[str], str]:
    """Records with each word in a field of its own from the twentieth on, and the [fields] that say so."""
    levels = (OF_HEAD, OF_PERSON, [word for word in OF_SAMPLE if word != "at"], [*OF_RESULT[:-1], "at", "value_type"])
    records, fields = [], ["[fields]"]
    for name, level in zip(names, levels, strict=False):
        taken = [word for word in level if word in words]
        fields += [f'{word} = "{name}-{20 + at}"' for at, word in enumerate(taken)]
        before = 19 if len(name) == 3 and name != "MSH" else 18  # ASTM counts the letter, HL7 in MSH the separator
        records.append("|".join([name, *([""] * before), *map(marker, taken)]))
    return [*records, f"{names[4]}|1||{marker('comment')}"], "\n".join([*fields, ""])


def astm_of(words: set[str]) -> tuple[bytes, str, str]:
    (head, *rest), fields = records_of(words, ("H", "P", "O", "R", "C"))
    return astm("H|\\^&" + head[2:], *rest), "", fields


def hl7_of(words: set[str]) -> tuple[bytes, str, str]:
    (head, *rest), fields = records_of(words, ("MSH", "PID", "OBR", "OBX", "NTE"))
    return hl7("MSH|^~\\&" + head[4:], *rest), "", fields


BODY_OF = {
    "line": (lines_of, OF_PATTERNS), "folder": (csv_of, TAKEN["csv"]), "mqtt": (json_of, TAKEN["json"]), "astm": (astm_of, TAKEN["astm"]),
    "mllp": (hl7_of, TAKEN["hl7"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BODY_OF))
@pytest.mark.parametrize("is_control", [False, True])
@pytest.mark.parametrize("about", ["", 'category = "vital-signs"\n', 'category = "cold-chain"\nsubject = "device"\n'])
def test_every_text_that_a_profile_takes_stands_in_fhir_or_in_the_findings(kind, is_control, about):
    make, taken = BODY_OF[kind]
    assert set(taken) <= {*OF_HEAD, *OF_PERSON, *OF_SAMPLE, *OF_RESULT, "control", "results", "sequence", "value_type"}
    # by its own group a line says that it is a control; elsewhere a rule says so
    words = set(taken) - (set() if is_control or kind in {"folder", "mqtt"} else {"control"})
    body, top, tables = make(words)
    by_rule = "control" if "control" in words and kind != "line" else "sample"
    text = marker(by_rule) if is_control else "QC"
    rules = "" if kind == "line" else f'[[quality]]\nwhere = "{by_rule}"\nis = "{text}"\n'
    assert [word for word in words - {"results"} if marker(word).encode() not in body] == []
    for origin in (None, ORIGIN):
        found = convert(body, profile(kind, top, about + tables + rules), SETTINGS, origin)
        said = found.json() + "".join(f"{each.text} {each.path} {each.reason} " for each in found.unmapped)
        said += " ".join(found.notes)
        assert [word for word in sorted(words - {"results"}) if marker(word) not in said] == []
        # what is listed is so for a reason of its own: it was taken
        untaken = [each.path for each in found.unmapped if each.reason in {NOT_MAPPED, NO_PATTERN, NO_COLUMN}]
        assert untaken == (["/control"] if kind == "mqtt" and not is_control else [])  # there the rule alone takes it
        assert bool(resources(found, "Patient")) == (not is_control and "device" not in about)


# ---- controls ---------------------------------------------------------------------------------------------------------
CHEMLAB = r"""patterns = [
    '[0-9A-F]{2}',
    'P\|(?P<at>[^|]*)\|SID (?P<sample>[^|]*)\|(?P<patient_id>\S+) +(?P<patient_name>.*)',
    '(?P<control>Q)\|(?P<at>[^|]*)\|LOT (?P<lot>[^|]*)\|(?P<level>.*)',
    '(?P<code>\S+) +(?P<value>\S+) (?P<unit>\S+)(?: +(?P<flags>[HL]))?',
]
charset = "cp1256"
time_format = "%d.%m.%y %H:%M"
"""


def test_a_line_that_is_a_controls_by_its_kind_says_so_with_lot_and_level():
    by = profile("line", CHEMLAB)
    found = convert("Q|23.11.26 02:10|LOT 4471|LEVEL 2\rGLU 5.6 mmol/L\r3F\r".encode("cp1256"), by, SETTINGS)
    (one,) = resources(found, "Observation")
    assert one["effectiveDateTime"] == "2026-11-23T02:10:00+03:00"
    assert [(each["url"], each["valueString"]) for each in one["extension"]] == [
        ("urn:wasl:device:control-lot", "4471"), ("urn:wasl:device:control-level", "LEVEL 2"),
    ]  # fmt: skip
    assert one["meta"]["tag"][0]["code"] == "quality-control"
    assert not any(resources(found, kind) for kind in ("Patient", "Specimen", "DiagnosticReport"))
    body = "P|23.11.26 02:10|SID 12|1001 مريم الحربي\rGLU 5.6 mmol/L\r3F\r".encode("cp1256")
    (person,) = resources(convert(body, by, SETTINGS), "Patient")
    assert person["name"] == [{"text": "مريم الحربي"}]


def test_two_levels_of_one_lot_at_one_time_are_two_results():
    body = "Q|23.11.26 02:10|LOT 4471|LEVEL {}\rGLU 5.6 mmol/L\r"
    made = [convert(body.format(level).encode(), profile("line", CHEMLAB), SETTINGS) for level in (1, 2)]
    assert len({resources(each, "Observation")[0]["id"] for each in made}) == 2


def test_a_control_behind_a_patient_in_one_report_leaves_nothing_to_the_patient():
    body = "P|23.11.26 02:10|SID 12|1001 مريم الحربي\rGLU 5.6 mmol/L\rQ|23.11.26 02:11|LOT 4471|1\rGLU 9.9 mmol/L\r"
    found = convert(body.encode("cp1256"), profile("line", CHEMLAB), SETTINGS)
    assert not resources(found, "Patient")
    assert {"1001", "مريم الحربي", "23.11.26 02:11"} <= {each.text for each in found.unmapped}
    by = profile("line", LINES, rule("sample"))
    with pytest.raises(
        CannotConvert, match="another sample"
    ):  # two numbers: not even whether it is a control can be told
        convert(b"S 12\rK 4.1\rS QC\rK 9.9\r", by, SETTINGS)


def test_an_ignored_line_and_a_second_column_of_a_word_are_listed():
    found = convert(b"S 12\rK 4.1\rK 9.9 QC\r", profile("line", LINES, rule("flags", "ignored")), SETTINGS)
    assert ("line 3", "K 9.9 QC") in [(each.path, each.text) for each in found.unmapped]
    tables = '[fields]\nsample = ["A", "B"]\ncode = "C"\nvalue = "V"\n'
    found = convert(b"B,A,C,V\nsecond,first,K,4.1\n", profile("folder", "", tables), SETTINGS)
    assert resources(found, "Specimen")[0]["identifier"][0]["value"] == "first"
    assert ("row 2, B", "second") in [(each.path, each.text) for each in found.unmapped]


def test_each_line_of_a_report_keeps_its_own_time():
    by = profile("line", r"""patterns = ['(?P<code>K) (?P<value>\S+) (?P<at>.*)']""")
    found = convert(b"K 4.1 202611230210\rK 4.2 202611230310\r", by, SETTINGS)
    times = [each["effectiveDateTime"][11:16] for each in resources(found, "Observation")]
    assert times == ["02:10", "03:10"]


def test_a_rule_that_holds_for_no_text_is_asked_once_of_the_report_and_not_of_each_line():
    by = profile("line", LINES, '[[quality]]\nwhere = "sample"\nmatches = "(QC.*)?"\n')
    assert not any("quality control" in note for note in convert(b"S 12\rK 4.1\r", by, SETTINGS).notes)
    assert any("quality control" in note for note in convert(b"K 4.1\r", by, SETTINGS).notes)


def test_two_rows_that_hold_one_text_under_two_words_are_two_samples():
    by = profile(
        "folder",
        "",
        '[fields]\nsample = "Sample"\ncontrol = "QC"\ncode = "C"\nvalue = "V"\n[[quality]]\nwhere = "control"\nis = "1"\n',
    )
    for rows in (("1,,GLU,5", ",1,GLU,20"), (",1,GLU,20", "1,,GLU,5")):
        found = convert("\n".join(("Sample,QC,C,V", *rows, "")).encode(), by, SETTINGS)
        told = {
            json.dumps(each["valueQuantity"]["value"]): "tag" in each["meta"]
            for each in resources(found, "Observation")
        }
        assert told == {"5": False, "20": True}, rows
    by = profile("folder", "", '[fields]\nsample = "S"\npatient_id = "P"\ncode = "C"\nvalue = "V"\n')
    found = convert(b"S,P,C,V\n1001,,GLU,5\n,1001,GLU,20\n", by, SETTINGS)
    assert len(resources(found, "Observation")) == 2
    assert (
        len({each["subject"]["reference"] if "subject" in each else "" for each in resources(found, "Observation")})
        == 2
    )


@pytest.mark.parametrize("body", [b"ID: 111\rK 5.0\rID:\rK 9.9\r", b"ID:\rK 9.9\rID: 111\rK 5.0\r"])
def test_a_number_left_blank_is_another_than_one_that_is_named(body):
    by = profile("line", r"""patterns = ['ID: *(?P<patient_id>\d*)', '(?P<code>K) (?P<value>\S+)']""")
    with pytest.raises(CannotConvert, match="another patient_id"):
        convert(body, by, SETTINGS)


@pytest.mark.parametrize("control", [0, 1])
@pytest.mark.parametrize("where", ["operator", "R-10.1", "comment"])
def test_a_rule_on_what_a_result_says_is_asked_at_each_result(control, where):
    records = ["H|\\^&", "P|1||1001", "O|1|S-1||^^^GLU"]
    for number in range(2):
        said = "QC" if number == control else ""
        records += [f"R|{number + 1}|^^^GLU|5.{number}|mmol/L||N||F|{said if where != 'comment' else ''}"]
        records += [f"C|1|I|{said}"] if where == "comment" else []
    place = '[fields]\noperator = "R-10"\n' if where == "operator" else ""
    found = convert(astm(*records, "L|1|N"), profile("astm", "", place + rule(where)), SETTINGS)
    assert not resources(found, "Patient")
    assert len(resources(found, "Observation")) == 2


def test_a_rule_for_what_is_left_out_holds_in_every_language():
    nobody = '[[quality]]\nwhere = "patient_id"\nis = ""\n'
    body = astm("H|\\^&", "P|1||", "O|1|S-1||^^^GLU", "R|1|^^^GLU|5.0|mmol/L||N||F", "L|1|N")
    assert "tag" in resources(convert(body, profile("astm", "", nobody), SETTINGS), "Observation")[0]["meta"]
    named = body.replace(b"P|1||", b"P|1||1001")
    assert "tag" not in resources(convert(named, profile("astm", "", nobody), SETTINGS), "Observation")[0]["meta"]


@pytest.mark.parametrize(
    ("heading", "said"),
    [(b"Sample,type,C,V", "no column of control"), (b"Sample,Type,C,V,V", "columns of one name: V")],
)
def test_a_heading_that_hides_a_value_or_what_tells_a_control_is_refused(heading, said):
    by = profile(
        "folder", "", '[fields]\nsample = "Sample"\ncontrol = "Type"\ncode = "C"\nvalue = "V"\n' + rule("control")
    )
    row = b"1,QC,GLU,5" + b",6" * (heading.count(b"V") - 1)
    with pytest.raises(CannotConvert, match=said):
        convert(heading + b"\n" + row + b"\n", by, SETTINGS)


def test_the_text_of_a_control_that_no_rule_took_is_listed_whatever_another_rule_says():
    table = '[fields]\nsample = "S"\ncontrol = "T"\ncode = "C"\nvalue = "V"\n' + rule("control") + rule("sample")
    found = convert(b"S,T,C,V\nQC,e,GLU,5\n", profile("folder", "", table), SETTINGS)
    assert "e" in {each.text for each in found.unmapped}


def by_pattern(where: str, key: str = "quality") -> str:
    return f"[[{key}]]\nwhere = \"{where}\"\nmatches = 'QC.*'\n"


FIELDS = '[fields]\nsample = "S"\ncode = "C"\nvalue = "V"\n'
NUMBERED = "[identity]\nnobody = 'ERR.*'\n"


@pytest.mark.parametrize(
    ("kind", "top", "tables", "body", "place"),
    [
        ("astm", "", by_pattern("sample"), "H|\\^&\rP|1||1\rO|1|{}||^^^GLU\rR|1|^^^GLU|5|mmol/L||N||F\rL|1|N\r", "rule on sample"),
        ("astm", "", by_pattern("code", "ignored"), "H|\\^&\rP|1||1\rO|1|1||^^^GLU\rR|1|^^^{}|5|mmol/L||N||F\rL|1|N\r", "rule on code"),
        ("mllp", "", by_pattern("comment"), "MSH|^~\\&|A|B|C|D|1||ORU^R01|1|P|2.5\rPID|1||1\rOBR|1||S|G\rOBX|1|NM|G||5|||||F\rNTE|1||{}\r", "on comment"),
        ("folder", "", FIELDS + by_pattern("sample"), "S,C,V\n{},GLU,5\n", "rule on sample"),
        ("mqtt", "", JSON + by_pattern("sample"), '{{"s": "{}", "K": 4.1}}', "rule on sample"),
        ("line", LINES, by_pattern("sample"), "S {}\nK 4.1\n", "rule on sample"),
        ("astm", "", NUMBERED, "H|\\^&\rP|1||{}\rO|1|1||^^^GLU\rR|1|^^^GLU|5|mmol/L||N||F\rL|1|N\r", "identity.nobody"),
        ("astm", "", NUMBERED, "H|\\^&\rP|1||1\rO|1|{}||^^^GLU\rR|1|^^^GLU|5|mmol/L||N||F\rL|1|N\r", "identity.nobody"),
    ],
)  # fmt: skip
def test_a_text_too_long_for_a_rules_pattern_is_refused_by_name_and_shown_to_nobody(kind, top, tables, body, place):
    by = profile(kind, top, tables)
    convert(body.format("x" * RULE_TEXT_CHARACTERS_MAX).encode(), by, SETTINGS)
    with pytest.raises(CannotConvert, match=f"{place}.*: a text of 201 characters.*200 at most") as caught:
        convert(body.format("x" * 201).encode(), by, SETTINGS)
    assert (caught.value.code, "xx" in str(caught.value)) == ("content", False)


def test_a_long_text_that_no_pattern_looks_at_is_read_as_before():
    body = astm("H|\\^&", "P|1||1", f"O|1|{'x' * 300}||^^^GLU", "R|1|^^^GLU|5|mmol/L||N||F", "L|1|N")
    (found,) = resources(convert(body, profile("astm", "", rule("sample")), SETTINGS), "Specimen")
    assert found["identifier"][0]["value"] == "x" * 300
