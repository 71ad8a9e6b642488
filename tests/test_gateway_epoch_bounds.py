"""How many further epochs of a stream one key may open, and how far ahead: whoever has an earlier one uses up his own, and what a person revokes or releases is given back."""

from functools import partial

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.ledger import EpochCall, ReleaseCall, RootCall, SessionCall
from gateway.ledger_keys import Brought
from node.tools.pki import issue_log_key
from sync.certificates import der, read
from sync.keys import FileSigner
from sync.log import EMPTY_ROOT
from sync.names import EPOCH_MAX, EPOCHS_AHEAD_MAX, Origin
from sync.opening import End, Opening, sign_opening
from sync.receiver import Refuse, Taken
from sync.release import Release, sign_release
from sync.session import OwnStream, SessionRequest
from tests.gateway_rig import GATEWAY, Gateway, maker
from tests.ledger_rig import WAIT_S, Bench

MOST = 3


class Site:
    """A node at a ledger, and somebody who has an earlier key of it."""

    def __init__(self, bench, node, folder) -> None:
        self.bench, self.node, self.epoch = bench, node, 1
        issue_log_key(node.realm.folder / "ca", folder, node.name)
        key = load_pem_private_key((folder / "log.key").read_bytes(), None)
        self.mine, self.stolen = node.signer, FileSigner(node.name, key)
        self.stolen_certificate = read((folder / "log.pem").read_bytes())
        request = SessionRequest(
            boot=node.boot, boots=(), fence="", log_certificate="",
            streams=(OwnStream(stream="his", epoch=1, tag=node.origin().tag, lane="routine"),),
        )  # fmt: skip
        call = SessionCall(
            node=node.name, request=request, log_certificate=der(read((node.keys / "log.pem").read_bytes())), connected_at=0.0,
            earlier=(Brought(der(self.stolen_certificate), current=True),),
        )  # fmt: skip
        node.fence = bench.ledger.session(call).result(WAIT_S).fence

    def opens(self, signer, *, ahead=1, revoked=frozenset()):
        """Whether a statement of the next epoch under this key is taken."""
        opened = Origin(self.node.name, "his", self.epoch + ahead, "0badcafe")
        common = End(self.node.origin(), 0, EMPTY_ROOT)
        statement = sign_opening(Opening(opened=opened, theirs=None, own=common, common=common, carried=0), signer)
        call = EpochCall(node=self.node.name, stream="his", fence=self.node.fence, statement=statement, revoked=revoked)
        answer = self.bench.ledger.epoch(call).result(WAIT_S)
        assert isinstance(answer, Taken) or (isinstance(answer, Refuse) and answer.code == "bad-opening"), answer
        if isinstance(answer, Taken):
            self.epoch, self.statement = opened.epoch, statement
        return isinstance(answer, Taken)

    def release(self, at):
        """A person lets go on what is held."""
        logs = (Origin(self.node.name, "his", self.epoch, "0badcafe"),)
        statement = sign_release(Release(gateway=GATEWAY, node=self.node.name, at=at, logs=logs), self.mine)
        call = ReleaseCall(node=self.node.name, operator="amal", statement=statement, logs=logs, at=at)
        assert isinstance(self.bench.ledger.release(call).result(WAIT_S), int)


@pytest.fixture
def site(realm, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.ledger_keys.KEY_EPOCHS_MAX", MOST)
    bench = Bench(realm, tmp_path / "ledger.sqlite")
    bench.ledger.start()
    with maker(realm, Gateway(realm, tmp_path), tmp_path, "clinic-17") as make:
        yield Site(bench, make(), tmp_path / "stolen")
    bench.ledger.stop()
    assert not bench.died


def test_whoever_has_an_earlier_key_uses_up_his_own_epochs_and_the_nodes_key_finds_room(site):
    jump = partial(site.opens, site.stolen, ahead=EPOCHS_AHEAD_MAX)
    assert [jump() for _ in range(MOST + 2)] == [True] * MOST + [False] * 2
    assert site.epoch == 1 + MOST * EPOCHS_AHEAD_MAX
    assert [site.opens(site.mine) for _ in range(MOST + 1)] == [True] * MOST + [False]


@pytest.mark.parametrize(("steps", "more", "left"), [(1, 0, 2), (0, 1, 2), (1, 1, 1), (2, 0, 1), (2, 1, 0), (3, 0, 0)])
def test_a_statement_far_ahead_is_as_many_openings_of_its_key_as_it_takes_steps(site, steps, more, left):
    # the log before it has no key yet: what lies between counts all the same
    assert site.opens(site.mine, ahead=steps * EPOCHS_AHEAD_MAX + more)
    assert [site.opens(site.mine) for _ in range(left + 1)] == [True] * left + [False]


def test_no_key_reaches_farther_at_once_than_step_by_step(site):
    assert site.opens(site.stolen)
    for beyond in (1, EPOCHS_AHEAD_MAX, EPOCH_MAX - site.epoch - MOST * EPOCHS_AHEAD_MAX):
        assert not site.opens(site.mine, ahead=MOST * EPOCHS_AHEAD_MAX + beyond)
        assert not site.opens(site.stolen, ahead=(MOST - 1) * EPOCHS_AHEAD_MAX + beyond)
    assert site.opens(site.mine, ahead=MOST * EPOCHS_AHEAD_MAX)


def test_of_an_answer_far_ahead_one_opening_is_given_back_when_the_key_before_it_is_revoked(site):
    assert site.opens(site.stolen)
    assert site.opens(site.mine, ahead=MOST * EPOCHS_AHEAD_MAX)
    revoked = frozenset({site.stolen_certificate.serial_number})
    assert [site.opens(site.mine, revoked=revoked) for _ in range(2)] == [True, False]


def test_a_release_gives_back_what_lay_far_ahead_and_what_is_beyond_it_counts_from_there(site):
    assert site.opens(site.mine, ahead=MOST * EPOCHS_AHEAD_MAX)
    site.release(at=1)
    assert site.opens(site.mine, ahead=2 * EPOCHS_AHEAD_MAX)
    assert [site.opens(site.mine) for _ in range(2)] == [True, False]


def test_what_answered_a_key_is_given_back_when_that_is_revoked(site):
    for _ in range(MOST):
        assert site.opens(site.stolen)
        assert site.opens(site.mine)
    assert not site.opens(site.mine)
    revoked = frozenset({site.stolen_certificate.serial_number})
    # no answer to anybody counts as ever
    assert [site.opens(site.mine, revoked=revoked) for _ in range(MOST + 1)] == [True] * MOST + [False]


def test_a_release_gives_back_what_was_opened_until_then(site):
    assert [site.opens(site.mine) for _ in range(MOST + 1)] == [True] * MOST + [False]
    site.release(at=1)
    assert [site.opens(site.mine) for _ in range(MOST + 1)] == [True] * MOST + [False]


def test_a_question_for_a_root_tells_the_statement_that_opened_the_log(site):
    assert site.opens(site.stolen, ahead=EPOCHS_AHEAD_MAX)

    def told(epoch):
        call = RootCall(node=site.node.name, stream="his", epoch=epoch, size=1)
        return site.bench.ledger.root(call).result(WAIT_S).opening

    assert (told(site.epoch), told(1), told(2)) == (site.statement, b"", b"")
