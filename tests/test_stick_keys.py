"""A change of the log key and further epochs, carried by hand: each statement and batch under the keys of its own place, in any order of the sticks."""

import os
import shutil
from contextlib import closing

import apsw
import pytest
from click.testing import CliRunner

from node.cli.main import main as node_main
from node.clock import SystemClock
from node.config.config import load as load_node
from node.key_change import hand_over
from node.keystore import load as load_keys
from node.tools.pki import issue_log_key
from sync.checkpoint import parse_note
from sync.errors import LogBroken
from sync.key_ring import id_of
from sync.opening import read_opening
from sync.outbox import Outbox
from sync.outbox_view import OutboxView
from tests.gateway_rig import Realm
from tests.node_rig import NAME
from tests.stick_rig import Site, keep, named, use


class Keyed(Site):
    """A site whose node may change its log key."""

    def reopen(self) -> None:
        super().reopen()
        self.node.outbox.close()
        self.node.outbox = Outbox(self.rig.store, signer=self.keystore.signer, random=os.urandom)

    def change(self, folder, *, with_old: bool = True, tell: bool = True) -> None:
        """Configure a new log key; `tell`: write into every stream that it signs from here on, as a start does."""
        old = self.rig.keys or self.gateway.realm.node(NAME)
        issue_log_key(self.gateway.realm.folder / "ca", folder, NAME)
        for part in ("link.key", "link.pem"):
            shutil.copy(old / part, folder / part)
        self.rig.keys = folder
        if with_old:
            self.rig.more += f'[[keys.previous]]\nlog_key = "{old}/log.key"\nlog_certificate = "{old}/log.pem"\n'
        self.config = load_node(self.rig.config())
        self.keystore = load_keys(self.config)
        self.reopen()
        if tell:
            hand_over(self.node.outbox, self.keystore, SystemClock(), facility="test")

    def texts(self) -> list[bytes]:
        """The messages at the gateway, without the records of changes."""
        return [body for body in self.bodies() if body.startswith(b"MSH")]

    def statement_signers(self) -> list[list[bytes]]:
        with closing(OutboxView(self.rig.store, NAME)) as view:
            notes = [parse_note(each.opening) for each in view.streams() if each.opening]
        return [[line.key_id for line in note.signatures] for note in notes]


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def site(realm, tmp_path):
    made = Keyed(realm, tmp_path / "site")
    yield made
    made.close()


def test_statement_of_both_keys_opens_its_epoch_by_hand_without_an_alarm_of_the_key(site, tmp_path):
    site.add("a")
    assert site.round()[1].refused == {}
    old = id_of(site.keystore.signer)
    site.change(tmp_path / "new", tell=False)
    site.open_epoch()
    hand_over(site.node.outbox, site.keystore, SystemClock(), facility="test")
    site.add("b")
    assert site.statement_signers() == [[old, id_of(site.keystore.signer)]]
    assert site.round()[1].refused == {}
    assert (site.texts(), site.alarms()) == (named("a", "b"), {"GWY-17"})


def test_statement_without_the_old_keys_word_is_taken_by_hand_held_and_alarmed(site, tmp_path):
    site.add("a")
    assert site.round()[1].refused == {}
    site.change(tmp_path / "new", with_old=False, tell=False)
    site.open_epoch()
    assert site.round()[1].refused == {}
    assert site.alarms() == {"GWY-17", "GWY-23"}


def fill_with_changes(site, folder):
    """Two epochs, of which the second was opened under the first key and changes to another."""
    site.add("a")
    site.open_epoch()
    site.add("b")
    site.change(folder)
    site.add("c")
    site.export()


def test_empty_ledger_takes_statements_of_an_earlier_key_whose_certificate_is_on_the_stick(site, tmp_path):
    fill_with_changes(site, tmp_path / "new")
    assert [len(signers) for signers in site.statement_signers()] == [1]
    assert len(site.manifest().earlier_certificates) == 1
    (done,) = site.bring()
    assert (done.refused, site.texts(), site.alarms()) == ({}, named("a", "b", "c"), {"GWY-17"})
    assert {(each.origin.epoch, each.size) for each in site.take().taken} == {(1, 1), (2, 3)}


def test_statement_of_an_earlier_key_is_refused_where_the_stick_lacks_its_certificate(site, tmp_path):
    fill_with_changes(site, tmp_path / "new")
    site.forge(earlier_certificates=())
    (done,) = site.bring()
    assert (done.refused, site.texts(), site.alarms()) == ({"his": "bad-key"}, [], {"GWY-22"})
    site.export()
    assert site.bring()[0].refused == {}
    assert site.texts() == named("a", "b", "c")


def test_old_sticks_after_a_change_store_nothing_are_not_refused_and_raise_no_alarm(site, tmp_path):
    site.add("a")
    site.export()
    one = keep(site, tmp_path / "one")
    site.open_epoch()
    site.add("b")
    site.export()
    two = keep(site, tmp_path / "two")
    site.change(tmp_path / "new")
    site.add("c")
    site.export()
    three = keep(site, tmp_path / "three")
    for old in (one, two, three, one, two):
        use(site, old)
        assert site.bring()[0].refused == {}
    assert (site.texts(), site.alarms()) == (named("a", "b", "c"), {"GWY-17"})


def test_stick_that_lacks_the_certificate_of_the_key_in_force_adds_nothing(site, tmp_path):
    site.add("a")
    first = site.keystore.log_certificate_pem()
    site.change(tmp_path / "new")
    site.add("b")
    assert site.round()[1].refused == {}
    site.add("c")
    site.export()
    # as whoever has the new key would, after it was revoked: the older certificate is public, and good
    site.forge(log_certificate=first, earlier_certificates=())
    assert site.bring()[0].refused == {"his": "bad-key"}
    assert (site.texts(), site.alarms()) == (named("a", "b"), {"GWY-22"})


def test_old_statement_under_a_key_that_was_followed_is_a_rewind_and_no_alarm(site, tmp_path):
    site.add("a")
    site.export()
    site.bring()
    image = site.image(tmp_path / "image")
    site.open_epoch()
    site.add("b")
    site.export()
    old = keep(site, tmp_path / "old")
    opened = read_opening(site.manifest().openings[0].encode()).opened
    site.restore(image)
    site.change(tmp_path / "new", tell=False)
    site.open_epoch()
    hand_over(site.node.outbox, site.keystore, SystemClock(), facility="test")
    site.add("c")
    site.export()
    assert site.bring()[0].refused == {}
    use(site, old)
    assert site.bring()[0].refused == {opened.stream: "rewind"}
    assert site.alarms() == {"GWY-17"}


def test_log_that_grows_late_by_hand_may_change_to_the_key_that_a_later_epoch_has_already(site, tmp_path):
    site.add("a")
    assert site.round()[1].refused == {}
    image = site.image(tmp_path / "image")
    site.add("only on the stick")
    site.change(tmp_path / "new")
    site.add("late")
    site.export()
    old = keep(site, tmp_path / "old")
    site.restore(image)
    site.open_epoch()
    site.export()
    assert site.bring()[0].refused == {}
    use(site, old)
    assert site.bring()[0].refused == {}
    assert site.texts() == named("a", "only on the stick", "late")
    assert (site.held(), site.alarms()) == (3, {"GWY-17", "GWY-18"})
    use(site, old)
    assert site.bring()[0].refused == {}
    assert site.texts() == named("a", "only on the stick", "late")


def test_stream_of_which_an_earlier_key_is_not_configured_is_named_and_the_others_are_carried(site, tmp_path):
    site.add("a")
    site.change(tmp_path / "new")
    site.node.add(named("result"), stream="lab")
    previous, site.rig.more = site.rig.more, ""
    done = CliRunner().invoke(node_main, ["export", "--config", str(site.rig.config()), str(site.stick)])
    assert done.exit_code == 1
    assert "NOT WHOLE [SYN-15]: his goes no further" in done.output
    assert site.bring()[0].refused == {}
    assert (site.texts(), site.bodies("lab")) == ([], named("result"))
    site.rig.more = previous
    done = CliRunner().invoke(node_main, ["export", "--config", str(site.rig.config()), str(site.stick)])
    assert (done.exit_code, "NOT WHOLE" in done.output) == (0, False)
    assert site.bring()[0].refused == {}
    assert site.texts() == named("a")


def test_receipts_open_no_epoch_under_another_key_than_the_one_that_is_lacking(site, tmp_path):
    site.add("a")
    image = site.image(tmp_path / "image")
    site.add("x")
    site.round()
    site.restore(image)
    site.add("y")
    site.node.add(named("result"), stream="lab")
    site.export()
    assert site.bring()[0].refused == {"his": "fork"}
    site.change(tmp_path / "new", with_old=False, tell=False)
    home = site.take()
    assert (home.opened, home.waiting) == ((), ("his",))
    with closing(OutboxView(site.rig.store, NAME)) as view:
        assert {each.origin.epoch for each in view.streams()} == {1}
    assert site.receipted()["lab"] == 1


def test_receipts_are_not_stored_in_an_outbox_that_no_start_would_take(site):
    site.add("a")
    site.export()
    site.bring()
    site.node.add(named("result"), stream="lab")
    with closing(apsw.Connection(str(site.rig.store))) as store:
        store.execute("UPDATE header SET leaf = zeroblob(32) WHERE id = (SELECT max(id) FROM header)")
    with pytest.raises(LogBroken):
        site.take()
    assert site.receipted()["his"] == 0
