"""The catalogue speaks both languages."""

import pytest

from node.catalogue import entries
from node.web.speech import speech


@pytest.mark.parametrize("code", sorted(entries()))
def test_every_hint_has_an_arabic_sentence(code):
    hint = entries()[code].hint
    arabic = speech("ar").say(hint)
    assert arabic != hint
    assert any("\u0600" <= letter <= "\u06ff" for letter in arabic)
    assert speech("en").say(hint) == hint
