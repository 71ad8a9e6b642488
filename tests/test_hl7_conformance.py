"""docs/hl7.md and the tests that it names: a clause that is kept has a test that exists, and one that is not has a reason."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "hl7.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(test_\w+)::(test_\w+)`")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not re.match(r"\|(-|\s*(clause|segment|what it asks)\b)", line)
]


@cache
def named_in(module: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0] + " " + row[1][:30])
def test_a_clause_that_is_kept_names_a_test_and_one_that_is_not_a_reason(row):
    answer, why = row[-2:]
    assert answer in {"yes", "no", "in part"}
    if answer == "no":
        assert re.search(r"[a-z]{3}", why)
    else:
        assert NAMED.search(why)


def test_every_test_that_the_page_or_that_of_peers_names_exists():
    pages = PAGE + (ROOT / "docs" / "hl7-peers.md").read_text(encoding="utf-8")
    assert not [f"{module}::{name}" for module, name in NAMED.findall(pages) if name not in named_in(module)]


def test_the_page_speaks_of_every_part_of_the_chapter():
    assert len(ROWS) > 90
    for clause in ("2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9", "2.10", "2.11", "2.12", "2.13"):
        assert any(row[0].startswith(clause) for row in ROWS), clause
