"""What travels to the browser: its weight, its origin, its colours."""

import hashlib
import re
from pathlib import Path

import pytest
import urllib3

from node.web import assets
from tests.sim_status import Node, served, waiting

ROOM = Path(assets.__file__).parent
SHEET = (ROOM / "static/page.css").read_text()
BYTES_MAX = 60_000  # operations, section 3: the first load, compressed
TONES = ("ok", "unproven", "waiting", "attention", "failed", "unknown")
PAIRS = [
    *((text, ground) for text in ("ink", "soft") for ground in ("ground", "paper", "sunk")),
    *((tone, f"{tone}-tint") for tone in TONES),
    *((tone, "paper") for tone in TONES),
    *(("ink", f"{tone}-tint") for tone in TONES),
    ("brand", "paper"),
    ("ground", "ink"),
]


@pytest.fixture
def ask():
    with urllib3.PoolManager(retries=False, timeout=20) as pool, served(Node(waiting())) as (url, _):
        yield lambda path, **headers: pool.request("GET", url + path, headers=headers)


def test_the_first_load_fits_its_weight(ask):
    page = ask("/?lang=ar").data.decode()
    paths = ["/?lang=ar", *re.findall(r'(?:src|href)="(/static/[^"]+)"', page)]
    weights = {path: int(ask(path, **{"Accept-Encoding": "gzip"}).headers["Content-Length"]) for path in paths}
    print("page weight, gzipped:", weights, sum(weights.values()))
    assert len(paths) == 6
    assert sum(weights.values()) <= BYTES_MAX


def test_a_file_is_kept_for_ever_only_under_its_own_tag(ask):
    tagged = re.search(r'"(/static/page\.css\?v=[^"]+)"', ask("/").data.decode())[1]
    assert "immutable" in ask(tagged).headers["Cache-Control"]
    assert ask("/static/page.css").headers["Cache-Control"] == "no-cache"
    assert ask("/static/VENDORED.md").status == ask("/static/..%2Fapp.py").status == 404


def test_vendored_files_are_those_that_were_noted():
    noted = re.findall(
        r"^\| `([\w.-]+)` .*`([0-9a-f]{64})` \|$", (ROOM / "static/VENDORED.md").read_text(), re.MULTILINE
    )
    assert {name for name, _ in noted} == {path.name for path in (ROOM / "static").glob("*.min.js")}
    for name, digest in noted:
        assert hashlib.sha256((ROOM / "static" / name).read_bytes()).hexdigest() == digest


def test_nothing_in_a_template_is_inline_or_from_outside():
    found = list((ROOM / "templates").rglob("*.html"))
    assert ROOM / "templates/page.html" in found
    for path in found:
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son\w+=|<style|https?://|hx-on|\bjs:|\|\s*safe", text), path.name
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path.name


def test_the_style_sheet_knows_no_left_or_right():
    rules = re.sub(r"@media[^{]*", "", SHEET)
    side = r"(?<![\w-])(?:(?:margin|padding|border|inset)-)?(?:left|right|top|bottom)(?:-\w+)*\s*:"
    assert not re.findall(rf"{side}|text-align:\s*(?:left|right)|(?<![\w-])(?:min-|max-)?(?:width|height)\s*:", rules)


def luminance(digits):
    six = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = (int(six[at : at + 2], 16) / 255 for at in (0, 2, 4))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_at_least_4_5_to_1(theme):
    blocks = re.findall(r":root \{(.*?)\}", SHEET, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]+);", blocks[theme == "dark"]))
    for text, ground in PAIRS:
        low, high = sorted((luminance(colours[text]), luminance(colours[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (theme, text, ground)
