"""What is installed, locked and vendored is what was tested and reviewed."""

import hashlib
import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from tests.tree import ROOMS, ROOT, none


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
    none([entry.split("\n")[0] for entry in entries if "--hash=sha256:" not in entry or "==" not in entry])


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
    none(
        [
            f"{file.name}: minified, so not ours, but not listed"
            for file in listing.parent.glob("*.min.*")
            if file.name not in named
        ]
    )
