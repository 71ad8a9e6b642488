"""The style of the tree as a test: arrows between rooms, door signs, what nothing uses. A failure names file and line."""

import ast
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tree import (
    MAY_IMPORT,
    PURE,
    ROOMS,
    ROOT,
    WHOLE_BOX,
    imports,
    is_module,
    module_of,
    none,
    ours,
    room_of,
    short,
    top,
    tree_of,
)

# What opens, waits, throws dice or reads the clock has no place in a pure room.
IMPURE = {
    *("asyncio", "concurrent", "multiprocessing", "select", "selectors", "signal", "subprocess", "threading", "uvloop"),
    *("http", "serial", "socket", "ssl", "urllib", "urllib3"),
    *("os", "pathlib", "sqlite3", "tempfile"),
    *("random", "secrets", "uuid"),
    *("logging", "structlog", "time"),
}
STORE_ONLY = {"apsw", "peewee", "playhouse"}
STORE = re.compile(r"sync/(outbox\w*|store|group|transaction)(\.py|/.*)")  # the one exception of the pure rooms
ENVIRONMENT = {"native/__init__.py": {"os"}}  # WASL_KERNELS


# ---- arrows ----------------------------------------------------------------------------------------------------------
def test_arrows_only_point_down():
    none(
        [
            f"{short(file)}:{line} {room_of(file)} imports {module}"
            for file in ours()
            for line, module, _ in imports(file)
            if top(module) in set(ROOMS) - MAY_IMPORT[room_of(file)] - {room_of(file)}
            and not (room_of(file) in {"node", "gateway"} and top(module) == "native")  # has its own test
        ]
    )


def _sign(init: Path) -> tuple[set[str], set[str]]:
    """What a door sign inside the node allows: of the rooms above, and of the node's own."""
    sign = " ".join(ast.get_docstring(tree_of(init)).split())
    if "may import nothing of ours" in sign:
        return set(), set()
    above, rooms = re.search(r"May import: ([\w, ]+); of the node: ([\w, ]+)", sign).groups()
    return set(above.split(", ")), {each.strip() for each in rooms.split(",")}


@pytest.mark.parametrize("init", sorted((ROOT / "node").glob("*/__init__.py")), ids=module_of)
def test_a_room_of_the_node_imports_what_its_door_sign_says_and_nothing_else(init):
    room = init.parent.name
    above, rooms = _sign(init)
    have = {file.parent.name for file in (ROOT / "node").glob("*/__init__.py")}
    findings, used = [], set()
    for file in sorted(init.parent.rglob("*.py")):
        for line, module, names in imports(file):
            for full in [f"{module}.{each}" for each in names] or [module]:
                place = full.split(".")
                if place[0] in {"hl7", "sync"} - above:
                    findings.append(f"{short(file)}:{line} {full}")
                if place[0] != "node" or room == "cli":
                    continue
                used |= {place[1]} & have - {room}
                if place[1] in have - rooms - {room} or place[1] in WHOLE_BOX or (place[1] not in have and not above):
                    findings.append(f"{short(file)}:{line} {full}")
    none(findings)
    assert room == "cli" or used == rooms & have, f"{short(init)} also names {rooms & have - used}"


def test_what_the_nodes_rooms_stand_on_imports_no_room_but_the_configuration():
    have = {file.parent.name for file in (ROOT / "node").glob("*/__init__.py")}
    none(
        [
            f"{short(file)}:{line} {module}"
            for file in sorted((ROOT / "node").glob("*.py"))
            for line, module, _ in imports(file)
            if module.startswith("node.") and module.split(".")[1] in have
            if module.split(".")[1] in {"cli", "tools"}
            or (file.stem not in WHOLE_BOX and module.split(".")[1] != "config" and not module.endswith("errors"))
        ]
    )


def test_node_and_gateway_know_of_native_only_its_implementation():
    findings = []
    for file in ours("node", "gateway"):
        for line, module, names in imports(file):
            if top(module) == "native" and (module != "native" or set(names) - {"IMPLEMENTATION"}):
                findings.append(f"{short(file)}:{line} imports {module} {', '.join(names)}")
        uses = [
            node
            for node in ast.walk(tree_of(file))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "native"
        ]
        findings += [
            f"{short(file)}:{node.lineno} native.{node.attr}" for node in uses if node.attr != "IMPLEMENTATION"
        ]
    none(findings)


def test_imports_are_absolute():
    none(
        [
            f"{short(file)}:{line} {module}"
            for file in ours()
            for line, module, _ in imports(file)
            if module.startswith(".")
        ]
    )


def test_native_imports_the_standard_library_only():
    cython = {"cpython", "cython", "libc", "native"}
    findings = []
    for file in sorted((ROOT / "native").glob("*.p[xy]*")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            found = re.match(r"\s*(?:from|c?import)\s+(\w+)[\w.]*(?:\s+c?import\b|\s*(?:#|$|,|as\b))", line)
            if found and found[1] not in sys.stdlib_module_names | cython:
                findings.append(f"{short(file)}:{number} {line.strip()}")
    none(findings)


def test_pure_rooms_open_nothing_wait_for_nothing_and_throw_no_dice():
    findings = []
    for file in ours(*PURE):
        if STORE.fullmatch(short(file)):
            continue
        banned = (IMPURE | STORE_ONLY) - ENVIRONMENT.get(short(file), set())
        findings += [
            f"{short(file)}:{line} imports {module}" for line, module, _ in imports(file) if top(module) in banned
        ]
        for node in ast.walk(tree_of(file)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"open", "print", "input"}
            ):
                findings.append(f"{short(file)}:{node.lineno} {node.func.id}()")
    none(findings)


def test_syncs_store_has_files_but_no_clock_thread_or_dice():
    banned = IMPURE - {"os", "pathlib"}
    stores = [file for file in ours("sync") if STORE.fullmatch(short(file))]
    findings = [
        f"{short(file)}:{line} imports {module}"
        for file in stores
        for line, module, _ in imports(file)
        if top(module) in banned
    ]
    findings += [f"{short(file)}: os.urandom" for file in stores if "urandom" in file.read_text(encoding="utf-8")]
    none(findings)


def test_pure_rooms_are_told_the_time():
    clock = re.compile(r"(\w+\.)*(datetime|date)\.(now|utcnow|today)")
    calls = [(file, node) for file in ours(*PURE) for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)]
    none(
        [
            f"{short(file)}:{node.lineno} {ast.unparse(node)}"
            for file, node in calls
            if clock.fullmatch(ast.unparse(node.func))
        ]
    )


def test_nobody_uses_the_other_sqlite():
    # two SQLite libraries on one file in one process drop each other's locks
    none([f"{short(file)}:{line}" for file in ours() for line, module, _ in imports(file) if top(module) == "sqlite3"])


def test_the_appliance_imports_nothing():
    assert not [
        file
        for file in ROOT.glob("firmware_image/**/*.py")
        if {top(module) for _, module, _ in imports(file)} & set(ROOMS)
    ]


def test_tests_never_import_the_package_that_would_overwrite_ours():
    for lock in ("requirements.lock", "requirements-dev.lock"):
        assert not re.search(r"^hl7==", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE)


# ---- modules ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("init", [file for file in ours() if file.name == "__init__.py"], ids=module_of)
def test_every_package_has_a_door_sign(init):
    """Two sentences or more: what lives here, what it may import, what it must never do."""
    sign = ast.get_docstring(tree_of(init)) or ""
    assert len(re.findall(r"[.!:](?=\s|$)", sign)) >= 2, f"{short(init)}: at least two sentences: {sign!r}"
    assert re.search(r"\bmay import\b|\bimports? (only|nothing)\b", sign, re.IGNORECASE), (
        f"{short(init)}: what may it import? {sign!r}"
    )
    assert re.search(r"\b(never|nothing|no|nor|must not)\b", sign, re.IGNORECASE), (
        f"{short(init)}: what must it never do? {sign!r}"
    )


IMPORT_EACH_ALONE = """
import importlib, json, os, sys
others, ours = json.load(sys.stdin)
for name in others:  # other people's packages once, for all
    importlib.import_module(name)
for name in ours:  # each in a child that holds nothing of ours
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {error!r}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print("done")
"""


def test_every_module_imports_alone_in_a_fresh_process():
    modules = {module_of(file): file for file in ours() if is_module(file) and file.name != "__main__.py"}
    imported = {top(module) for file in modules.values() for _, module, _ in imports(file)}
    others = sorted(name for name in imported - {"", *ROOMS} if importlib.util.find_spec(name))
    command = [sys.executable, "-c", IMPORT_EACH_ALONE]
    names = json.dumps([others, sorted(modules)])
    done = subprocess.run(command, cwd=ROOT, input=names, capture_output=True, text=True, timeout=300)
    assert done.stdout == "done\n", done.stdout + done.stderr


def _mentions(file: Path) -> set[str]:
    """What a file imports, and each text in it that could name a module: for `-m`, or "node.web.app:app" for a server."""
    imported = {
        name for _, module, names in imports(file) for name in (module, *(f"{module}.{each}" for each in names))
    }
    texts = {
        node.value for node in ast.walk(tree_of(file)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return imported | {text.partition(":")[0] for text in texts}


def test_no_module_is_dead():
    """Each can be reached from a console script or a `python -m`; what only tests use belongs to the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = {module_of(file): file for file in ours() if is_module(file)}
    waiting = {script.partition(":")[0] for script in project["scripts"].values()}
    waiting |= {module for module, file in files.items() if file.name in {"__init__.py", "__main__.py"}}
    alive = set()
    while waiting:
        module = waiting.pop()
        alive.add(module)
        if module in files:
            waiting |= (_mentions(files[module]) & files.keys()) - alive
    none([f"{short(files[module])}: nothing that runs imports it" for module in sorted(files.keys() - alive)])
