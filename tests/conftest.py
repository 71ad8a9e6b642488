"""Fixtures that many files share: a realm, a folder in memory; and how hypothesis runs here: no verdict depends on how busy the machine is, and a failure prints what brings it back."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("wasl", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wasl")

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    """An authority, a gateway's certificates, and nodes' as they are asked for: one for each file of tests."""
    from tests.gateway_rig import Realm  # most files need neither its libraries nor the half second that they take

    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def in_memory(tmp_path):
    """A folder in memory where there is such a place: thousands of states of a disk are laid out in it, a tenth of a millisecond each."""
    if not SHARED_MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as made:
        yield Path(made)
