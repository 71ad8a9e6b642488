"""One catalogue: whatever the code names is in it, and docs/errors.md says what it says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gateway.errors
from node.alarms import Alarms
from node.catalogue import Entry, entries, hint, page
from node.web.verdict import STATE_OF

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"(HL7|MLP|FHR|SOP|SYN|NOD|LNK|DST|DEV|AST|SER|MQT|MOD|POC|FOL|LIN|LAW|PRF|GWY|VRD|WEB)-\d\d")
SOURCES = [file for room in ("hl7", "sync", "node") for file in sorted((ROOT / room).rglob("*.py"))]


HTTP_STATUSES = {"201", "400", "401", "404", "405", "406", "408", "413", "415", "422", "500"}


def codes_in(source):
    """Every catalogue code that stands in a piece of source as a text of its own, with its line."""
    return [
        (node.value, node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value)
    ]


def unknown(source):
    known = {*entries(), *STATE_OF, *gateway.errors.ALARMS}
    return [f"{code} in line {line}" for code, line in codes_in(source) if code not in known]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_code_that_is_logged_raised_or_answered_is_catalogued(file):
    assert unknown(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ['alarms.raised("NOD-99")', 'log.warning("x", code="SYN-77")', 'class A(NodeError):\n    code = "LNK-42"', 'f(Alarm("SYN-99", s))'],
)  # fmt: skip
def test_the_search_for_uncatalogued_codes_bites(source):
    assert unknown(source)


def subclasses(base):
    return {base, *(found for each in base.__subclasses__() for found in subclasses(each))}


def our_errors():
    """Every exception class of the rooms that carries a code."""
    for file in SOURCES:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if all(part.isidentifier() for part in module.split(".")) and "tools" not in module:
            __import__(module.removesuffix(".__init__"))
    rooms = [each for each in subclasses(Exception) if each.__module__.split(".")[0] in {"hl7", "sync", "node"}]
    return [
        each for each in rooms if not each.__module__.startswith("node.tools")
    ]  # which another test may have imported


def test_every_exception_of_ours_that_can_reach_a_log_has_an_entry():
    coded = [each for each in our_errors() if hasattr(each, "code")]
    assert len(coded) > 30
    for each in coded:
        entry = entries()[each.code]
        assert (entry.fault, entry.reply, entry.hint, entry.retryable) == (
            each.fault,
            each.reply,
            each.hint,
            each.retryable,
        )
    # only what never leaves its own function or is told in full (a configuration's problems, a command's result) goes without a code
    without = {each.__name__ for each in our_errors() if not hasattr(each, "code")}
    assert without <= {
        "BadSetting",
        *("BrokenReply", "Declined", "LineAway", "NoAnswer", "PollError"),  # of one poll: each names the gap's code
        "NotOneReport",  # becomes NoReadings
        "NoReadings",  # becomes CannotConvert, or a line of `wasl devices test`
        "CannotBeWritten",
        "CannotConvert",
        "CannotSet",
        "ConfigError",
        "LockTaken",
        "PortTaken",
        "Refused",
        "Stop",
        "XmlTrouble",
        "_Bad",
        "_Unknown",
        "BadJws",
        "BadProperties",
        "StrangeKey",
    }, without


def test_no_two_classes_share_a_code():
    codes = [each.code for each in our_errors() if hasattr(each, "code")]
    assert sorted(codes) == sorted(set(codes))


def test_the_gateways_codes_are_its_own():
    theirs = {each.code for each in subclasses(gateway.errors.GatewayError)} | set(gateway.errors.ALARMS)
    assert not theirs & set(entries())
    assert all(CODE.fullmatch(code) for code in theirs)


@pytest.mark.parametrize("code", sorted(entries()))
def test_every_entry_says_whose_fault_it_is_what_is_answered_and_what_to_do(code):
    entry = entries()[code]
    assert CODE.fullmatch(entry.code)
    assert entry.fault in {"source", "site", "node", "centre", "link"}
    assert entry.reply in {"none", "AA", "AE", "AR", "NAK", "no PUBACK"} or entry.reply in HTTP_STATUSES
    assert entry.hint[0].isupper()
    assert entry.hint.endswith((".", "?", "`"))
    assert len(entry.hint) > 20


def test_an_unknown_code_has_itself_as_hint():
    assert hint("NOD-99") == "NOD-99"


def test_an_alarm_under_an_unknown_code_is_refused():
    alarms = Alarms(lambda: 0)
    with pytest.raises(ValueError, match="NOD-99"):
        alarms.raised("NOD-99")
    assert alarms.standing() == []
    alarms.raised("NOD-10")
    assert len(alarms.standing()) == 1


def test_the_page_of_errors_is_the_one_the_catalogue_writes():
    """Written by `python -m node.catalogue > docs/errors.md`."""
    written = subprocess.run(
        [sys.executable, "-m", "node.catalogue"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert written == page() == (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    for code in entries():
        assert f"| {code} |" in written


def test_a_hint_with_a_bar_does_not_break_the_table():
    assert "a \\| b" in Entry(code="NOD-98", fault="node", reply="none", hint="a | b", retryable=False).row()
