"""What the ledger's tests share: a ledger's file, a ledger at it, makers of what nodes send, and views."""

import pytest

from tests.gateway_rig import Gateway, maker
from tests.ledger_rig import bench_at, views_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def bench(realm, path):
    with bench_at(realm, path) as found:
        yield found


@pytest.fixture
def made(realm, tmp_path):
    with maker(realm, Gateway(realm, tmp_path), tmp_path, "clinic-17") as make:
        yield make


@pytest.fixture
def view(path):
    with views_of(path) as opens:
        yield opens
