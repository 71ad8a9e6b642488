"""Sentences in both languages, and a catalogue in which nothing is missing."""

import re
import string
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from node.catalogue import entries as catalogue
from node.web import words
from node.web.speech import DIRECTION, LOCALE, Speech, choose, speech
from node.web.verdict import STATE_OF, decide, room_days, unreadable
from tests.sim_status import GB, NOW, alarm, facts, status, waiting

ROOM = Path(words.__file__).parent
KEYWORDS = {"_": None, "say": None, "ngettext": (1, 2), "plural": (1, 2)}
PARAMS = {
    "since": NOW,
    "waiting": 3,
    "receipted": 9,
    "room_bytes": 5 * GB,
    "room_days": 4,
    "feed": "his",
    "feeds": 2,
    "stream": "his",
    "cause": "SYN-07",
    "subject": "his",
    "restored": False,
    "hint": "Messages arrive faster than the disk can store them. The senders repeat by themselves; if it goes on, look at the disk.",
}
ARABIC = re.compile(r"[\u0600-\u06ff]")


def written():
    found = extract_from_dir(
        ROOM, [("**.py", "python"), ("templates/**.html", "jinja2.ext:babel_extract")], keywords=KEYWORDS
    )
    return {message for _, _, message, _, _ in found}


def entries(lang):
    with (LOCALE / f"{lang}.po").open("rb") as source:
        catalogue = read_po(source, locale=lang, abort_invalid=True)
    return {entry.id: entry for entry in catalogue if entry.id}


def fields(text):
    named = {name for _, name, _, _ in string.Formatter().parse(text) if name}
    return named | set(re.findall(r"%\((\w+)\)s", text))


@pytest.mark.parametrize("lang", DIRECTION)
def test_a_catalogue_holds_exactly_the_sentences_of_the_page(lang):
    assert set(entries(lang)) == written()


def test_no_arabic_sentence_is_missing_or_unsure():
    for entry in entries("ar").values():
        forms = entry.string if isinstance(entry.string, tuple) else (entry.string,)
        assert all(forms), entry.id
        assert not entry.fuzzy, entry.id
        assert len(forms) == (6 if entry.pluralizable else 1), entry.id


def test_translations_use_the_same_fields():
    for entry in entries("ar").values():
        source = entry.id[1] if entry.pluralizable else entry.id
        forms = entry.string if entry.pluralizable else (entry.string,)
        for index, form in enumerate(forms):
            may_omit = entry.pluralizable and index < 3  # "one day" and "two days" are words, not figures
            assert fields(form) <= fields(source) if may_omit else fields(form) == fields(source), form


@pytest.mark.parametrize("code", STATE_OF)
@pytest.mark.parametrize("lang", DIRECTION)
def test_every_verdict_has_a_sentence_in_every_language(code, lang):
    text = words.sentence(code, PARAMS, NOW, speech(lang))
    assert bool(ARABIC.search(text)) == (lang == "ar")
    assert "{" not in text


@pytest.mark.parametrize("code", [code for code in STATE_OF if code != "VRD-00"])
def test_every_verdict_that_is_not_ok_says_what_to_do(code):
    assert words.advice(code, speech("en"))
    assert ARABIC.search(words.advice(code, speech("ar")))


def test_the_verdict_reads_as_one_sentence():
    assert words.verdict(waiting(), speech("en")) == "Link down 12 min, 1,204 records safe here, room for 8 days"
    assert (
        words.verdict(waiting(), speech("ar"))
        == "الوصلة منقطعة منذ 12 دقيقة، 1,204 سجلات محفوظة هنا بأمان، المساحة تكفي 8 أيام"
    )
    assert words.verdict(status(), speech("en")) == "Link up, 12,424 records receipted, nothing waits"


def headline(lang, *standing):
    document = status([alarm(code, subject) for code, subject in standing])
    return words.verdict(document, speech(lang)), words.verdict_advice(document, speech(lang))


def test_a_standing_alarm_is_said_in_plain_words_with_its_subject_and_what_to_do():
    assert headline("en", ("MQT-10", "vitals")) == (
        "Something needs attention (vitals): The MQTT broker is not reached",
        "Check its machine, its port and the cable; what devices send meanwhile waits in the broker, if it runs.",
    )
    assert headline("ar", ("MQT-10", "vitals"))[0] == (
        "هناك ما يحتاج إلى انتباه (\u2066vitals\u2069): لا يمكن الوصول إلى وسيط MQTT"
    )
    assert headline("en", ("NOD-11", ""))[1] == "Messages are still taken in. Call the centre and quote the code."


def test_what_the_centre_holds_is_said_with_whether_this_node_was_restored():
    assert (
        headline("en", ("SYN-23", ""))[0] == "The centre holds this node's records until a person there releases them"
    )
    restored, advice = headline("en", ("NOD-31", "his"), ("SYN-23", ""))
    assert restored.startswith("This node was restored from an older backup")
    assert advice == words.advice("VRD-38", speech("en"))
    assert headline("ar", ("NOD-31", "his"))[0].startswith("استُعيدت هذه العقدة")


@pytest.mark.parametrize("code", sorted(catalogue()))
@pytest.mark.parametrize("lang", DIRECTION)
def test_every_code_of_the_catalogue_can_stand_in_the_headline(code, lang):
    text, advice = headline(lang, (code, "his"))
    assert text
    assert "{" not in text + advice


def test_room_is_named_in_bytes_where_no_rate_is_known():
    down = facts(link={"state": "down", "since": None})
    assert room_days(down) is None
    text = words.verdict({**down, **decide(down).document()}, speech("en"))
    assert text == "Link down, nothing waits, room for 18.0 GB"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "يوم"),
        (2, "يومين"),
        (3, "3 أيام"),
        (11, "11 يومًا"),
        (99, "99 يومًا"),
        (100, "100 يوم"),
        (102, "102 يوم"),
        (1_203, "1,203 أيام"),
    ],
)
def test_arabic_counts_in_six_forms(count, text):
    assert speech("ar").days(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (11_100, "3 h 5 min"),
        (86_400, "1 day"),
        (792_000, "9 days 4 h"),
        (-5, "0 s"),
    ],
)
def test_a_span_is_said_in_its_two_largest_units(seconds, text):
    assert speech("en").span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (16_700_000, "16.7 MB"), (3 * 10**12, "3.0 TB")]
)
def test_a_size_is_decimal(count, text):
    assert speech("en").size(count) == text


def test_a_name_keeps_its_direction_inside_an_arabic_sentence():
    assert "\u2066his\u2069" in words.sentence("VRD-30", {"feed": "his"}, NOW, speech("ar"))


def test_a_moment_of_another_day_brings_its_date():
    voice = Speech("en")
    assert "10:15:30" in voice.moment(NOW, NOW, tz("UTC"))
    assert "2026-11-20 14:15" in voice.moment("2026-11-20T10:15:30.000Z", NOW, tz("Asia/Muscat"))


def tz(name):
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


@pytest.mark.parametrize(
    ("asked", "cookie", "accept", "lang"),
    [
        (None, None, None, "en"),
        ("ar", "en", "en", "ar"),
        ("xx", "ar", "en", "ar"),
        (None, "zz", "fr-FR, ar-OM;q=0.8, en;q=0.7", "ar"),
        (None, None, "en-GB, ar;q=0.9", "en"),
        (None, None, "ar;q=0, en;q=0.1", "en"),
        (None, None, "ar;q=often", "en"),
        (None, None, ";;;,,," * 500, "en"),
    ],
)
def test_the_language_is_asked_for_then_remembered_then_the_browsers_then_english(asked, cookie, accept, lang):
    assert choose(asked, cookie, accept) == lang


@pytest.mark.parametrize("lang", DIRECTION)
def test_a_page_without_status_still_has_a_sentence(lang):
    document = {"now": NOW, **unreadable().document()}
    assert words.verdict(document, speech(lang))


def test_a_code_that_is_not_ours_gets_no_sentence():
    assert words.sentence("LNK-03", {}, NOW, speech("en")) == words.advice("LNK-03", speech("en")) == ""


def test_words_for_lanes_and_links_fall_back_to_themselves():
    assert words.lane("express", speech("ar")) == "express"
    assert words.link("sideways", speech("ar")) == "sideways"
