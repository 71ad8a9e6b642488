"""A stick that somebody prepared: nothing beside it is read or written, and nothing on it holds up the import."""

import os

import pytest

from sync.errors import BadStick
from sync.stick import MANIFEST_NAME, RECEIPTS_NAME
from tests.gateway_rig import message
from tests.stick_rig import Site


@pytest.fixture
def site(realm, tmp_path):
    made = Site(realm, tmp_path)
    made.node.add([message(n) for n in range(5)])
    made.export()
    yield made
    made.close()


@pytest.mark.parametrize("name", [RECEIPTS_NAME, "receipts.new"])
def test_receipts_are_never_written_through_a_link_on_the_stick(site, tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("of this machine")
    (site.folder / name).symlink_to(precious)
    (done,) = site.bring()
    assert done.records == 5
    assert precious.read_text() == "of this machine"
    assert not (site.folder / RECEIPTS_NAME).is_symlink()


def test_a_batch_that_is_a_link_is_refused_though_what_it_points_at_is_good(site, tmp_path):
    (batch,) = site.folder.glob("*.wbt")
    batch.rename(tmp_path / "elsewhere")
    batch.symlink_to(tmp_path / "elsewhere")
    (done,) = site.bring()
    assert done.refused == {"his": "bad-batch"}
    assert site.ledger() == []


def test_a_pipe_in_a_batchs_place_is_refused_and_not_waited_for(site):
    (batch,) = site.folder.glob("*.wbt")
    batch.unlink()
    os.mkfifo(batch)
    (done,) = site.bring()
    assert done.refused == {"his": "bad-batch"}


@pytest.mark.parametrize("how", ["folder", "manifest", "pipe"])
def test_a_folder_or_manifest_that_is_none_is_refused_whole(site, tmp_path, how):
    manifest = site.folder / MANIFEST_NAME
    if how == "folder":
        site.folder.rename(tmp_path / "elsewhere")
        site.folder.symlink_to(tmp_path / "elsewhere")
    elif how == "manifest":
        manifest.rename(tmp_path / "elsewhere")
        manifest.symlink_to(tmp_path / "elsewhere")
    else:
        manifest.unlink()
        os.mkfifo(manifest)
    with pytest.raises(BadStick):
        site.bring()
    assert site.ledger() == []
