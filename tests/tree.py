"""The tree that the tests of style read: its rooms, files, imports and functions."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {  # of ours; each room also itself
    "native": set(),
    "hl7": {"native"},
    "sync": {"native"},
    "node": {"hl7", "sync"},
    "gateway": {"hl7", "sync"},
}
ROOMS = tuple(MAY_IMPORT)
PURE = ("hl7", "native", "sync")
# at the node's top, of the whole box: these import the rooms, and no room but the command line imports them
WHOLE_BOX = {"app", "doctor", "metrics", "proofreader", "record", "repair", "selfcheck", "status", "web_process"}


def ours(*rooms: str) -> list[Path]:
    return [file for room in rooms or ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def short(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(file: Path) -> bool:
    """Migrations (0001_start.py) are run by name, never imported."""
    return all(part.isidentifier() for part in module_of(file).split("."))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@cache
def imports(file: Path) -> list[tuple[int, str, tuple[str, ...]]]:
    """(line, module, names) of every import, inside functions and TYPE_CHECKING too; a relative one begins with a dot."""
    found = []
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found.append((node.lineno, "." * node.level + (node.module or ""), names))
    return found


def top(module: str) -> str:
    return module.partition(".")[0]


def functions(
    tree: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Every function and class with its dotted name, nested ones too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def none(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)
