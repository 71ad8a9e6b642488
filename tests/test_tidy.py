"""The style of the tree as a test: arrows between rooms, door signs, sizes, names, locks. A failure names file and line."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

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

FILE_LINES_MAX = 400  # ten screens, and one noun
TEST_LINES_MAX = 700  # tables of cases are long and read line by line
PYX_LINES_MAX = 500  # C says less in a line
FUNCTION_LINES_MAX = 60  # a screen, without the docstring
BANNED_EVERYWHERE = {"manager", "managers", "helper", "helpers", "util", "utils"}
BANNED_FOR_MODULES = BANNED_EVERYWHERE | {"misc", "common"}  # "common" may stand in a function: the last common size


# ---- the tree -----------------------------------------------------------------------------------------------------
def _ours(*rooms: str) -> list[Path]:
    return [file for room in rooms or ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def _short(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _room(file: Path) -> str:
    return file.relative_to(ROOT).parts[0]


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _is_module(file: Path) -> bool:
    """Migrations (0001_start.py) are run by name, never imported."""
    return all(part.isidentifier() for part in _module(file).split("."))


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@cache
def _imports(file: Path) -> list[tuple[int, str, tuple[str, ...]]]:
    """(line, module, names) of every import, inside functions and TYPE_CHECKING too; a relative one begins with a dot."""
    found = []
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found.append((node.lineno, "." * node.level + (node.module or ""), names))
    return found


def _top(module: str) -> str:
    return module.partition(".")[0]


def _functions(
    tree: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Every function and class with its dotted name, nested ones too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name, node
            yield from _functions(node, f"{prefix}{node.name}.")
        else:
            yield from _functions(node, prefix)


def _none(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


# ---- arrows -------------------------------------------------------------------------------------------------------
def test_arrows_only_point_down():
    _none(
        [
            f"{_short(file)}:{line} {_room(file)} imports {module}"
            for file in _ours()
            for line, module, _ in _imports(file)
            if _top(module) in set(ROOMS) - MAY_IMPORT[_room(file)] - {_room(file)}
            and not (_room(file) in {"node", "gateway"} and _top(module) == "native")  # has its own test
        ]
    )


def test_node_and_gateway_know_of_native_only_its_implementation():
    findings = []
    for file in _ours("node", "gateway"):
        for line, module, names in _imports(file):
            if _top(module) == "native" and (module != "native" or set(names) - {"IMPLEMENTATION"}):
                findings.append(f"{_short(file)}:{line} imports {module} {', '.join(names)}")
        uses = [
            node
            for node in ast.walk(_tree(file))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "native"
        ]
        findings += [
            f"{_short(file)}:{node.lineno} native.{node.attr}" for node in uses if node.attr != "IMPLEMENTATION"
        ]
    _none(findings)


def test_imports_are_absolute():
    _none(
        [
            f"{_short(file)}:{line} {module}"
            for file in _ours()
            for line, module, _ in _imports(file)
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
                findings.append(f"{_short(file)}:{number} {line.strip()}")
    _none(findings)


def test_pure_rooms_open_nothing_wait_for_nothing_and_throw_no_dice():
    findings = []
    for file in _ours(*PURE):
        if STORE.fullmatch(_short(file)):
            continue
        banned = (IMPURE | STORE_ONLY) - ENVIRONMENT.get(_short(file), set())
        findings += [
            f"{_short(file)}:{line} imports {module}" for line, module, _ in _imports(file) if _top(module) in banned
        ]
        for node in ast.walk(_tree(file)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"open", "print", "input"}
            ):
                findings.append(f"{_short(file)}:{node.lineno} {node.func.id}()")
    _none(findings)


def test_syncs_store_has_files_but_no_clock_thread_or_dice():
    banned = IMPURE - {"os", "pathlib"}
    stores = [file for file in _ours("sync") if STORE.fullmatch(_short(file))]
    findings = [
        f"{_short(file)}:{line} imports {module}"
        for file in stores
        for line, module, _ in _imports(file)
        if _top(module) in banned
    ]
    findings += [f"{_short(file)}: os.urandom" for file in stores if "urandom" in file.read_text(encoding="utf-8")]
    _none(findings)


def test_pure_rooms_are_told_the_time():
    clock = re.compile(r"(\w+\.)*(datetime|date)\.(now|utcnow|today)")
    calls = [(file, node) for file in _ours(*PURE) for node in ast.walk(_tree(file)) if isinstance(node, ast.Call)]
    _none(
        [
            f"{_short(file)}:{node.lineno} {ast.unparse(node)}"
            for file, node in calls
            if clock.fullmatch(ast.unparse(node.func))
        ]
    )


def test_nobody_uses_the_other_sqlite():
    # two SQLite libraries on one file in one process drop each other's locks
    _none(
        [
            f"{_short(file)}:{line}"
            for file in _ours()
            for line, module, _ in _imports(file)
            if _top(module) == "sqlite3"
        ]
    )


def test_the_appliance_imports_nothing():
    assert not [
        file
        for file in ROOT.glob("firmware_image/**/*.py")
        if {_top(module) for _, module, _ in _imports(file)} & set(ROOMS)
    ]


def test_tests_never_import_the_package_that_would_overwrite_ours():
    for lock in ("requirements.lock", "requirements-dev.lock"):
        assert not re.search(r"^hl7==", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE)


# ---- modules ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("init", [file for file in _ours() if file.name == "__init__.py"], ids=_module)
def test_every_package_has_a_door_sign(init):
    """Two sentences or more: what lives here, what it may import, what it must never do."""
    sign = ast.get_docstring(_tree(init)) or ""
    assert len(re.findall(r"[.!:](?=\s|$)", sign)) >= 2, f"{_short(init)}: at least two sentences: {sign!r}"
    assert re.search(r"\bmay import\b|\bimports? (only|nothing)\b", sign, re.IGNORECASE), (
        f"{_short(init)}: what may it import? {sign!r}"
    )
    assert re.search(r"\b(never|nothing|no|nor|must not)\b", sign, re.IGNORECASE), (
        f"{_short(init)}: what must it never do? {sign!r}"
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
    modules = {_module(file): file for file in _ours() if _is_module(file) and file.name != "__main__.py"}
    imported = {_top(module) for file in modules.values() for _, module, _ in _imports(file)}
    others = sorted(name for name in imported - {"", *ROOMS} if importlib.util.find_spec(name))
    command = [sys.executable, "-c", IMPORT_EACH_ALONE]
    names = json.dumps([others, sorted(modules)])
    done = subprocess.run(command, cwd=ROOT, input=names, capture_output=True, text=True, timeout=300)
    assert done.stdout == "done\n", done.stdout + done.stderr


def _mentions(file: Path) -> set[str]:
    """What a file imports, and each text in it that could name a module: for `-m`, or "node.web.app:app" for a server."""
    imported = {
        name for _, module, names in _imports(file) for name in (module, *(f"{module}.{each}" for each in names))
    }
    texts = {
        node.value for node in ast.walk(_tree(file)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return imported | {text.partition(":")[0] for text in texts}


def test_no_module_is_dead():
    """Each can be reached from a console script or a `python -m`; what only tests use belongs to the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = {_module(file): file for file in _ours() if _is_module(file)}
    waiting = {script.partition(":")[0] for script in project["scripts"].values()}
    waiting |= {module for module, file in files.items() if file.name in {"__init__.py", "__main__.py"}}
    alive = set()
    while waiting:
        module = waiting.pop()
        alive.add(module)
        if module in files:
            waiting |= (_mentions(files[module]) & files.keys()) - alive
    _none([f"{_short(files[module])}: nothing that runs imports it" for module in sorted(files.keys() - alive)])


# ---- sizes and names ----------------------------------------------------------------------------------------------
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
            for file in _ours(room)
            for _, node in _functions(_tree(file))
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
        lines = {_short(file): file.read_text(encoding="utf-8").count("\n") for file in _ours(room)}
        longest = max(lines, key=lines.__getitem__)
        spread = f"{sizes[len(sizes) // 2]:6} {sizes[len(sizes) * 9 // 10]:4} {sizes[-1]:7}"
        rows.append(
            f"{room:8} {len(lines):5} {sum(lines.values()):6} {longest:>30} {lines[longest]:3} {len(sizes):9} {spread}"
        )
    with capsys.disabled():
        print("\n".join(rows))


def test_no_file_is_too_long():
    limits = [(file, FILE_LINES_MAX) for file in _ours()]
    limits += [(file, PYX_LINES_MAX) for file in (ROOT / "native").glob("*.p[xy][xi]")]
    limits += [(file, TEST_LINES_MAX) for file in (ROOT / "tests").rglob("*.py")]
    counted = [(file, file.read_text(encoding="utf-8").count("\n"), limit) for file, limit in limits]
    _none([f"{_short(file)}: {lines} lines, {limit} allowed" for file, lines, limit in counted if lines > limit])


def test_no_function_is_longer_than_a_screen():
    _none(
        [
            f"{_short(file)}:{node.lineno} {name}: {_lines(node)} lines, {FUNCTION_LINES_MAX} allowed"
            for file in _ours()
            for name, node in _functions(_tree(file))
            if not isinstance(node, ast.ClassDef) and _lines(node) > FUNCTION_LINES_MAX
        ]
    )


def _words(name: str) -> set[str]:
    """`HTTPHelperPool_util` -> {http, helper, pool, util}."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_names_say_what_a_thing_is():
    findings = []
    for file in _ours():
        findings += [f"{_short(file)}: {word}" for word in _words(_module(file)) & BANNED_FOR_MODULES]
        for name, node in _functions(_tree(file)):
            banned = BANNED_FOR_MODULES if isinstance(node, ast.ClassDef) else BANNED_EVERYWHERE
            findings += [f"{_short(file)}:{node.lineno} {name}: {word}" for word in _words(node.name) & banned]
    _none(findings)


def _public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not any(ast.unparse(decorator).endswith((".setter", "overload")) for decorator in node.decorator_list):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node, f"{node.name}.")


def test_everything_public_has_a_contract():
    public = [(file, name, node) for file in _ours() if _is_module(file) for name, node in _public(_tree(file))]
    _none([f"{_short(file)}:{node.lineno} {name}" for file, name, node in public if not ast.get_docstring(node)])


# ---- what is installed, locked and vendored -------------------------------------------------------------------------
def test_our_package_names_have_one_owner():
    # python-hl7 installed beside us would overwrite hl7/, and removing it would delete our package
    owners = importlib.metadata.packages_distributions()
    assert {room: set(owners.get(room, [])) for room in ROOMS} == {room: {"wasl-node"} for room in ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_the_installed_room_is_this_folder(room):
    assert Path(importlib.util.find_spec(room).origin) == ROOT / room / "__init__.py"


def _pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))


LOCKS = ("requirements.lock", "requirements-dev.lock", "tests/peers.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_and_no_address(lock):
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index|--extra|--find|--trusted)", text, re.MULTILINE)
    entries = [entry for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if entry and not entry.startswith("#")]
    assert entries
    _none([entry.split("\n")[0] for entry in entries if "--hash=sha256:" not in entry or "==" not in entry])


def test_the_locks_hold_what_pyproject_pins():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    assert sorted(extras["build"]) == sorted(pyproject["build-system"]["requires"])
    wanted = {
        "requirements.lock": pyproject["project"]["dependencies"] + extras["build"],
        "requirements-dev.lock": pyproject["project"]["dependencies"] + extras["build"] + extras["dev"],
    }
    for lock, requirements in wanted.items():
        pins = _pins(lock)
        assert [each for each in requirements if pins.get(each.split("==")[0].lower()) != each.split("==")[1]] == [], (
            lock
        )


def test_what_runs_is_what_was_tested():
    assert _pins("requirements.lock").items() <= _pins("requirements-dev.lock").items()


def test_vendored_files_are_the_ones_that_were_reviewed():
    """VENDORED.md has a line for each script and style that is not ours: its name, version, licence and SHA-256."""
    listing = ROOT / "node/web/static/VENDORED.md"
    if not listing.exists():
        pytest.skip("nothing is vendored")
    named = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        digest = re.search(r"\b[0-9a-f]{64}\b", line)
        name = re.search(r"[\w.-]+\.(?:js|css|svg)\b", line)
        if digest and name:
            named[name[0]] = digest[0]
    assert named
    actual = {name: hashlib.sha256((listing.parent / name).read_bytes()).hexdigest() for name in named}
    assert actual == named
    _none(
        [
            f"{file.name}: minified, so not ours, but not listed"
            for file in listing.parent.glob("*.min.*")
            if file.name not in named
        ]
    )


# ---- pages --------------------------------------------------------------------------------------------------------
def test_every_test_that_a_page_names_exists():
    files = list((ROOT / "tests").rglob("*.py"))
    have = {file.stem for file in files}
    for file in files:
        have |= set(re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    named = {(page.name, name) for page in pages for name in re.findall(r"`(?:test_\w+::)?(test_\w+)`", page.read_text(encoding="utf-8"))}  # fmt: skip
    assert len(named) > 200
    assert not sorted((page, name) for page, name in named if name not in have)
