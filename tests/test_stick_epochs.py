"""Further epochs by hand: a restored or copied node is carried too, in any order of its sticks, and what both sides hold is said home."""

import shutil
from contextlib import closing
from dataclasses import replace
from random import Random

import apsw
import pytest
from click.testing import CliRunner

from gateway.config import load as load_gateway
from gateway.stick import folders, import_folder, open_desk
from node.cli.main import main as node_main
from sync.checkpoint import sign_text
from sync.errors import BadStick
from sync.keys import FileSigner
from sync.opening import read_opening
from sync.outbox_view import OutboxView
from sync.stick import RECEIPTS_NAME, read_receipts
from tests.gateway_rig import Realm, running
from tests.node_rig import NAME, Feed, Node, wait_until
from tests.node_rig import message as hl7
from tests.node_rig import running as node_running
from tests.sim_realm import ed25519
from tests.stick_rig import Site, keep, named, use


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def site(realm, tmp_path):
    made = Site(realm, tmp_path / "site")
    yield made
    made.close()


# --- a stream that is in a further epoch


def test_restored_node_is_carried_under_its_further_epoch_and_held(site):
    site.add("a", "b")
    site.open_epoch()
    site.add("c")
    _, done, home = site.round()
    assert done.refused == {}
    assert [[r.body for r in rows] for rows in site.epochs().values()] == [named("a", "b"), named("c")]
    assert (site.held(), site.alarms()) == (1, {"GWY-17"})
    assert {(each.origin.epoch, each.size) for each in home.taken} == {(1, 2), (2, 1)}


def test_third_epoch_follows_the_second_on_one_stick(site):
    for name in "abc":
        site.add(name)
        if name != "c":
            site.open_epoch()
    assert site.round()[1].refused == {}
    assert list(site.epochs()) == [1, 2, 3]
    assert site.bodies() == named("a", "b", "c")
    site.add("d")
    written, done, _ = site.round()
    assert (written.records, done.refused) == (1, {})
    assert site.bodies() == named("a", "b", "c", "d")


def test_epoch_without_a_record_is_opened_too(site):
    site.add("a")
    site.open_epoch()
    assert site.round()[1].refused == {}
    assert list(site.epochs()) == [1, 2]
    assert site.alarms() == {"GWY-17"}


def test_stick_of_a_further_epoch_twice_opens_it_once_and_holds_each_record_once(site):
    site.add("a")
    site.open_epoch()
    site.add("b")
    site.export()
    site.bring()
    first = read_receipts((site.folder / RECEIPTS_NAME).read_bytes()).notes
    (done,) = site.bring()
    assert (done.refused, site.bodies(), site.held()) == ({}, named("a", "b"), 1)
    assert read_receipts((site.folder / RECEIPTS_NAME).read_bytes()).notes == first


def test_old_stick_after_a_newer_one_stores_nothing_and_is_not_refused(site, tmp_path):
    site.add("a")
    site.export()
    one = keep(site, tmp_path / "one")
    site.open_epoch()
    site.add("b")
    site.export()
    two = keep(site, tmp_path / "two")
    site.open_epoch()
    site.add("c")
    site.export()
    assert site.bring()[0].refused == {}
    for old in (one, two, one):
        use(site, old)
        assert site.bring()[0].refused == {}
    assert site.bodies() == named("a", "b", "c")


def test_what_only_a_lost_disks_stick_holds_is_taken_after_the_restored_nodes_and_held(site, tmp_path):
    site.add("a")
    image = site.image(tmp_path / "image")
    site.add("only on the stick")
    site.export()
    old = keep(site, tmp_path / "old")
    site.restore(image)
    site.open_epoch()
    site.add("b")
    site.export()
    assert site.bring()[0].refused == {}
    site.take()
    new = keep(site, tmp_path / "new")
    use(site, old)
    assert site.bring()[0].refused == {}
    assert [[r.body for r in rows] for rows in site.epochs().values()] == [named("a", "only on the stick"), named("b")]
    assert (site.held(), "GWY-18" in site.alarms()) == (2, True)
    # its receipt speaks of more than this disk has, and the answer says the same: no forgery, and nothing to do
    assert site.take().opened == ()
    use(site, new)
    assert site.bring()[0].refused == {}
    assert len(site.bodies()) == 3


def test_late_records_are_held_even_where_a_person_has_released_the_node(site, tmp_path):
    site.add("a")
    image = site.image(tmp_path / "image")
    site.add("late")
    site.export()
    old = keep(site, tmp_path / "old")
    site.restore(image)
    site.open_epoch()
    site.add("b")
    site.round()
    with closing(apsw.Connection(str(site.gateway.data / "ledger.sqlite"))) as ledger:  # as a release leaves it
        ledger.execute("DELETE FROM hold; UPDATE node SET held = 0; DELETE FROM alarm")
    use(site, old)
    assert site.bring()[0].refused == {}
    assert (site.held(), site.alarms()) == (1, {"GWY-18"})


def test_stick_of_another_epoch_order_than_written_is_refused(site):
    site.add("a")
    site.open_epoch()
    site.add("b")
    site.open_epoch()
    site.export()
    openings = site.manifest().openings
    site.forge(openings=tuple(reversed(openings)))
    with pytest.raises(BadStick, match="out of order"):
        site.bring()


# --- statements that lie


def statement(site, change, signer=None):
    """The stick with its statement changed and signed again."""
    site.add("a")
    site.open_epoch()
    site.add("b")
    site.export()
    (text,) = site.manifest().openings
    said = change(read_opening(text.encode()))
    site.forge(openings=(sign_text(said.text(), signer or site.keystore.signer).decode(),))
    return site.bring()[0].refused


@pytest.mark.parametrize(
    ("change", "signer", "code"),
    [
        (lambda o: o, FileSigner(NAME, ed25519("a stranger")), "bad-key"),
        (lambda o: replace(o, common=replace(o.common, root=bytes(32))), None, "fork"),
        (lambda o: replace(o, common=replace(o.common, size=9)), None, "rewind"),
        (lambda o: replace(o, opened=replace(o.opened, tag="00000000")), None, "rewind"),
    ],
)
def test_statement_that_is_forged_or_untrue_opens_nothing(site, change, signer, code):
    refused = statement(site, change, signer)
    assert refused == {"his": code}
    assert sum(map(len, site.epochs().values())) == 1


def test_empty_fence_opens_no_epoch_over_the_link(site):
    site.add("a")
    site.export()
    site.bring()
    site.open_epoch()
    opening = site.node.outbox.heads["his"].opening
    with running(site.gateway.realm, site.gateway.data) as live:
        site.node.gateway = live
        site.node.pool = site.node.open_pool()
        assert post(site, opening, fence="").status == 403
    assert list(site.epochs()) == [1]


def post(site, opening, *, fence=None):
    headers = {"Content-Type": "text/plain; charset=utf-8", "Wasl-Fence": site.node.fence if fence is None else fence}
    return site.node.pool.request("POST", "/v1/streams/his/epochs", body=opening, headers=headers)


# --- beside the link


def test_epoch_opened_by_hand_goes_on_over_the_link_and_one_of_the_link_by_hand(site):
    site.add("a")
    site.open_epoch()
    site.add("b")
    site.export()
    with running(site.gateway.realm, site.gateway.data) as live:
        site.node.gateway = live
        site.node.pool = site.node.open_pool()
        assert site.node.session().status == 200
        assert site.bring()[0].refused == {}  # beside the running gateway
        opening = site.node.outbox.heads["his"].opening
        assert post(site, opening).status == 200  # known already
        site.add("c")
        site.export()
        (each,) = [each for each in site.manifest().batches if (each.epoch, each.first) == (2, 1)]
        assert site.node.put_to("/v1/streams/his/2/1", (site.folder / each.file).read_bytes()).status == 200
        site.open_epoch()
        assert post(site, site.node.outbox.heads["his"].opening).status == 200
        site.add("d")
        site.export()
        assert site.bring()[0].refused == {}
    assert site.bodies() == named("a", "b", "c", "d")
    assert list(site.epochs()) == [1, 2, 3]


# --- the answer home


def test_second_copys_stick_is_a_fork_and_its_next_export_carries_what_is_its_own_once(site, tmp_path):
    site.add("a")
    site.round()
    site.add("shared")  # not receipted when the disk was copied
    twin = site.copy(tmp_path / "twin")
    site.add("x")
    twin.add("y")
    assert site.round()[1].refused == {}
    _, done, home = twin.round()
    assert (done.refused, home.opened) == ({"his": "fork"}, ("his",))
    assert "GWY-12" in site.alarms()
    written, done, home = twin.round()
    assert (written.records, done.refused, home.opened) == (1, {}, ())
    assert site.bodies() == named("a", "shared", "x", "y")
    # the first copy goes on in the epoch that is no longer the newest: nothing of it is lost either, and it is held
    site.add("x2")
    _, done, home = site.round()
    assert (done.refused, home.opened) == ({}, ())
    assert sorted(site.bodies()) == sorted(named("a", "shared", "x", "x2", "y"))
    assert {each.origin.epoch for each in home.taken} == {1}
    twin.close()


def test_node_whose_gateway_has_more_of_its_log_is_told_and_goes_on_under_a_further_epoch(site, tmp_path):
    site.add("a", "b")
    image = site.image(tmp_path / "image")
    site.add("c", "d")
    site.round()
    site.restore(image)
    _, done, home = site.round()
    assert (done.refused, home.opened) == ({}, ("his",))
    site.add("e")
    assert site.round()[1].refused == {}
    assert site.bodies() == named("a", "b", "c", "d", "e")
    assert read_opening(site.node.outbox.heads["his"].opening).hole == (2, 4)


def test_records_that_a_forgotten_epoch_carried_are_not_carried_again(site, tmp_path):
    site.add("a")
    twin = site.copy(tmp_path / "twin")
    site.add("x")
    site.round()
    twin.add("y1", "y2")
    image = twin.image(tmp_path / "image")  # knows of no second epoch
    twin.round()
    assert twin.round()[1].refused == {}
    twin.restore(image)
    twin.add("y3")
    _, done, home = twin.round()
    assert (done.refused, home.opened) == ({"his": "fork"}, ("his",))
    assert twin.round()[1].refused == {}
    assert [[r.body for r in rows] for rows in site.epochs().values()] == [named("a", "x"), named("y1", "y2"), named("y3")]  # fmt: skip
    twin.close()


def test_gateway_that_was_set_back_is_sent_again_what_it_forgot(site, tmp_path):
    site.add("a")
    site.round()
    shutil.copytree(site.gateway.data, tmp_path / "ledger")
    site.add("b", "c")
    site.round()
    shutil.rmtree(site.gateway.data)
    shutil.copytree(tmp_path / "ledger", site.gateway.data)
    site.add("d")
    _, done, home = site.round()
    assert (done.refused, home.refused, home.opened) == ({"his": "rewind"}, {"his": "rewind"}, ())
    written, done, _ = site.round()
    assert (written.records, done.refused) == (3, {})
    assert site.bodies() == named("a", "b", "c", "d")


def test_answer_is_obeyed_by_an_export_onto_another_stick_too(site, tmp_path):
    site.add("a")
    site.round()
    shutil.copytree(site.gateway.data, tmp_path / "ledger")
    site.add("b")
    site.round()
    shutil.rmtree(site.gateway.data)
    shutil.copytree(tmp_path / "ledger", site.gateway.data)
    site.add("c")
    site.round()
    shutil.rmtree(site.folder)
    assert site.export().records == 2
    assert site.bring()[0].refused == {}
    assert site.bodies() == named("a", "b", "c")


@pytest.mark.parametrize("sealed", [False, True])
def test_batches_that_a_set_back_disk_no_longer_holds_are_not_kept_on_its_stick(realm, tmp_path, sealed):
    site = Site(realm, tmp_path / "site", sealed=sealed)
    site.add("a")
    image = site.image(tmp_path / "image")
    site.add("b of the life before")
    site.export()
    site.restore(image)
    site.add("b", "c")
    assert (site.export().records, len(site.manifest().batches)) == (3, 1)
    assert site.bring()[0].refused == {}
    assert site.bodies() == named("a", "b", "c")
    site.close()


def test_receipt_that_is_younger_than_the_answer_knows_better(site, tmp_path):
    site.add("a")
    site.round()
    shutil.copytree(site.gateway.data, tmp_path / "ledger")
    site.add("b")
    _, _, home = site.round()
    shutil.rmtree(site.gateway.data)
    shutil.copytree(tmp_path / "ledger", site.gateway.data)
    site.add("c")
    site.round()
    assert site.export().records == 2
    with closing(OutboxView(site.rig.store, NAME)) as view:
        ledger = (view.fact("ledger") or b"").decode()
    # the link came back, and the gateway has receipted all but the last
    site.node.outbox.keep_receipt(
        ledger=ledger, origin=site.node.origin(), size=2, receipt=home.taken[0].note, at=2**40
    )
    shutil.rmtree(site.folder)
    assert site.export().records == 1


def test_stick_for_a_new_ledger_is_refused_and_its_answer_is_not_taken_for_the_old_ones(site):
    site.add("a")
    site.round()
    (site.gateway.data / "ledger.sqlite").unlink()
    site.add("b")
    site.export()
    assert site.bring()[0].refused == {"his": "rewind"}
    with pytest.raises(BadStick, match="another ledger"):
        site.take()


def test_running_core_opens_the_further_epoch_at_its_next_start(realm, tmp_path):
    first = Site(realm, tmp_path / "first")
    node = Node(realm, tmp_path / "node", feeds=[Feed("his"), Feed("lab")], gateway=first.gateway)
    wasl = ["export", "--config", str(node.config())]
    stick = str(first.stick)
    with node_running(node) as core:
        core.send(hl7("A1"))
        core.stop()
        twin = tmp_path / "twin"
        shutil.copytree(node.data, twin)
        core.start()
        core.send(hl7("X1"))
        assert CliRunner().invoke(node_main, [*wasl, stick]).exit_code == 0
        first.bring()
        core.kill()
        shutil.rmtree(node.data)
        shutil.copytree(twin, node.data)
        (node.data / "highwater.json").unlink()  # lost with the disk: nothing tells this start that it is restored
        core.start()
        core.send(hl7("Y1"))
        shutil.rmtree(first.folder)
        assert CliRunner().invoke(node_main, [*wasl, stick]).exit_code == 0
        assert first.bring()[0].refused == {"his": "fork"}
        said = CliRunner().invoke(node_main, [*wasl, stick]).output
        assert "Start the node's core anew" in said
        core.restart()
        assert ("SYN-20", "his") in core.alarms()
        assert wait_until("epoch 2", lambda: core.stream().origin.epoch == 2)
        assert CliRunner().invoke(node_main, [*wasl, stick]).exit_code == 0
        assert first.bring()[0].refused == {}
        assert first.bodies() == [hl7("A1"), hl7("X1"), hl7("Y1")]
        first.close()


def answered(site, **changes):
    site.add("a")
    site.export()
    site.bring()
    path = site.folder / RECEIPTS_NAME
    path.write_bytes(replace(read_receipts(path.read_bytes()), **changes).encode())


@pytest.mark.parametrize("what", ["changed", "a stranger's", "garbage"])
def test_answer_that_the_gateway_did_not_sign_is_not_heeded(site, what):
    answered(site)
    (text,) = read_receipts((site.folder / RECEIPTS_NAME).read_bytes()).answers
    body = text.partition("\n\n")[0] + "\n"
    forged = {
        "changed": text.replace("refused -", "refused fork"),
        "a stranger's": sign_text(body, FileSigner("centre", ed25519("a stranger"))).decode(),
        "garbage": "wasl-answer/1\n",
    }[what]
    answered(site, answers=(forged,))
    with pytest.raises(BadStick, match="answer does not verify"):
        site.take()
    assert site.receipted() == {"his": 0, "lab": 0}


# --- any order


@pytest.mark.parametrize("seed", range(8))
def test_copies_and_restores_carried_in_any_order_lose_nothing_and_store_nothing_twice(realm, tmp_path, seed):
    """Two copies of a node that live, are restored and are carried at random; then each is carried until it has nothing to say any more."""
    dice, count = Random(seed), 0
    first = Site(realm, tmp_path / "a")
    first.add("origin")
    sites = [first, first.copy(tmp_path / "b")]
    sticks, images = [], [[], []]
    for n in range(14):
        who = dice.randrange(2)
        site = sites[who]
        match dice.choice(["add", "add", "export", "bring", "round", "image", "restore"]):
            case "add":
                count += 1
                site.add(f"n{count} of {who}")
            case "export":
                site.export()
                sticks.append((who, keep(site, tmp_path / f"stick{n}")))
            case "bring" if sticks:
                who, old = dice.choice(sticks)
                use(sites[who], old)
                sites[who].bring()
                sites[who].take()
                sites[who].reopen()
            case "round":
                site.round()
            case "image":
                images[who].append(site.image(tmp_path / f"image{n}"))
            case "restore" if images[who]:
                site.round()  # what the lost disk had is at the centre, or on no stick at all
                site.restore(dice.choice(images[who]))
                if dice.random() < 0.5:  # else the mark was lost too, and only the centre can tell
                    site.open_epoch()
    for _ in range(6):
        rounds = [site.round() for site in sites]
    assert all(done.refused == {} and not home.opened for _, done, home in rounds), f"seed {seed}"
    found = first.bodies()
    assert len(found) == len(set(found)), f"seed {seed}"
    for site in sites:
        assert set(site.own()) <= set(found), f"seed {seed}"
        with closing(OutboxView(site.rig.store, NAME)) as view:
            assert [each.receipted for each in view.streams() if each.origin.stream == "his"][-1] == site.node.size()
        site.close()


def bring_at(site, seconds):
    """The import of a gateway whose clock is so far ahead: answers tell seconds, a test takes less."""
    with open_desk(load_gateway(site.gateway_file)) as desk:
        later = replace(desk, now_s=lambda: desk.now_s() + seconds)
        return [import_folder(later, folder) for folder in folders(site.stick)]


def test_old_sticks_answers_do_not_replace_those_of_a_newer_one(site, tmp_path):
    site.add("zero")
    site.round()
    ledger = tmp_path / "ledger"
    shutil.copytree(site.gateway.data, ledger)
    site.add("a", "b")
    site.export()
    assert bring_at(site, 100)[0].refused == {}
    old = keep(site, tmp_path / "old")
    assert [each.size for each in site.take().taken] == [3]
    shutil.rmtree(site.gateway.data)  # set back: it holds one record again, and the next stick says so
    shutil.copytree(ledger, site.gateway.data)
    site.add("c")
    site.export()
    assert bring_at(site, 200)[0].refused == {"his": "rewind"}
    site.take()
    use(site, old)
    site.take()
    site.export()
    assert min(each.first for each in site.manifest().batches) == 1
    assert site.bring()[0].refused == {}
    assert site.bodies() == named("zero", "a", "b", "c")
