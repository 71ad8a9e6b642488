"""The catalogue speaks both languages."""

import pytest

from node.catalogue import entries
from node.web.speech import speech
from tests.tree import ROOT

LOCALE = ROOT / "node/web/locale"


@pytest.mark.parametrize("code", sorted(entries()))
def test_every_hint_has_an_arabic_sentence(code):
    hint = entries()[code].hint
    arabic = speech("ar").say(hint)
    assert arabic != hint
    assert any("\u0600" <= letter <= "\u06ff" for letter in arabic)
    assert speech("en").say(hint) == hint


def test_no_sentence_is_translated_twice():
    for file in LOCALE.glob("*.po"):
        said = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("msgid ")]
        assert sorted(said) == sorted(set(said)), file.name
