"""Files of one noun, functions of a screen, words that say what a thing is. A failure names file and line."""

import ast
import re
from collections.abc import Iterator

from tests.tree import (
    ROOMS,
    ROOT,
    functions,
    is_module,
    module_of,
    none,
    ours,
    short,
    tree_of,
)

FILE_LINES_MAX = 400  # ten screens, and one noun
TEST_LINES_MAX = 700  # tables of cases are long and read line by line
PYX_LINES_MAX = 500  # C says less in a line
FUNCTION_LINES_MAX = 60  # a screen, without the docstring
BANNED_EVERYWHERE = {"manager", "managers", "helper", "helpers", "util", "utils"}
BANNED_FOR_MODULES = BANNED_EVERYWHERE | {"misc", "common"}  # "common" may stand in a function: the last common size


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From `def` to the end, without the docstring."""
    first = node.body[0]
    has_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if has_docstring else 0)


def _sizes() -> dict[str, list[int]]:
    return {
        room: sorted(
            _lines(node)
            for file in ours(room)
            for _, node in functions(tree_of(file))
            if not isinstance(node, ast.ClassDef)
        )
        for room in ROOMS
    }


def test_sizes_are_reported(capsys):
    rows = [
        "",
        f"{'room':8} {'files':>5} {'lines':>6} {'longest file':>34} {'functions':>9} {'median':>6} {'p90':>4} {'longest':>7}",
    ]
    for room, sizes in _sizes().items():
        assert sizes, f"nothing is looked at in {room}"  # then none of these tests says anything of it
        lines = {short(file): file.read_text(encoding="utf-8").count("\n") for file in ours(room)}
        longest = max(lines, key=lines.__getitem__)
        spread = f"{sizes[len(sizes) // 2]:6} {sizes[len(sizes) * 9 // 10]:4} {sizes[-1]:7}"
        rows.append(
            f"{room:8} {len(lines):5} {sum(lines.values()):6} {longest:>30} {lines[longest]:3} {len(sizes):9} {spread}"
        )
    with capsys.disabled():
        print("\n".join(rows))


def test_no_file_is_too_long():
    limits = [(file, FILE_LINES_MAX) for file in ours()]
    limits += [(file, PYX_LINES_MAX) for file in (ROOT / "native").glob("*.p[xy][xi]")]
    limits += [(file, TEST_LINES_MAX) for file in (ROOT / "tests").rglob("*.py")]
    counted = [(file, file.read_text(encoding="utf-8").count("\n"), limit) for file, limit in limits]
    none([f"{short(file)}: {lines} lines, {limit} allowed" for file, lines, limit in counted if lines > limit])


def test_no_function_is_longer_than_a_screen():
    none(
        [
            f"{short(file)}:{node.lineno} {name}: {_lines(node)} lines, {FUNCTION_LINES_MAX} allowed"
            for file in ours()
            for name, node in functions(tree_of(file))
            if not isinstance(node, ast.ClassDef) and _lines(node) > FUNCTION_LINES_MAX
        ]
    )


def _words(name: str) -> set[str]:
    """`HTTPHelperPool_util` -> {http, helper, pool, util}."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_names_say_what_a_thing_is():
    findings = []
    for file in ours():
        findings += [f"{short(file)}: {word}" for word in _words(module_of(file)) & BANNED_FOR_MODULES]
        for name, node in functions(tree_of(file)):
            banned = BANNED_FOR_MODULES if isinstance(node, ast.ClassDef) else BANNED_EVERYWHERE
            findings += [f"{short(file)}:{node.lineno} {name}: {word}" for word in _words(node.name) & banned]
    none(findings)


def _public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not any(ast.unparse(decorator).endswith((".setter", "overload")) for decorator in node.decorator_list):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node, f"{node.name}.")


def test_everything_public_has_a_contract():
    public = [(file, name, node) for file in ours() if is_module(file) for name, node in _public(tree_of(file))]
    none([f"{short(file)}:{node.lineno} {name}" for file, name, node in public if not ast.get_docstring(node)])
