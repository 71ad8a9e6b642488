"""The gateway's log keys: which is in force, who may follow, what an older ledger brings along, and evidence under a head of two keys."""

import os
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from playhouse.migrations import Runner

from gateway.ledger_keys import LOG, Brought, KeyRows
from gateway.ledger_sqlite import SCHEMA
from node.tools import pki
from node.tools.pki import issue_log_key
from sync.batch import encode
from sync.certificates import der, read, verifier_of
from sync.checkpoint import Checkpoint, Note, parse_checkpoint, parse_note, sign_checkpoint
from sync.control import Moment
from sync.errors import BadEvidence
from sync.evidence import parse, verify
from sync.key_change import KeyChange
from sync.key_ring import KeyRing, id_of
from sync.keys import FileSigner
from sync.names import Origin
from sync.opening import End
from sync.outbox import Outbox
from sync.release import Release, sign_release
from sync.session import OwnStream, SessionRequest
from sync.store import SafeDatabase, create
from tests.gateway_rig import TOKEN, TinyNode, message, running
from tests.independent_verifier import verify as verify_independently

P = 6  # where the key changes
AT = Moment(received_us=1_800_000_000_000_000, clock_state=0, clock_error_us=0)


@pytest.fixture(scope="module")
def gateway(realm, tmp_path_factory):
    with running(realm, tmp_path_factory.mktemp("gateway")) as found:
        yield found


class Changed(TinyNode):
    """A tiny node of twelve records, of which number 6 changes its key."""

    def change(self, folder: Path) -> None:
        issue_log_key(self.realm.folder / "ca", folder, self.name)
        self.old, self.old_pem = self.signer, (self.keys / "log.pem").read_text()
        self.new_pem = (folder / "log.pem").read_text()
        self.new = FileSigner(self.name, load_pem_private_key((folder / "log.key").read_bytes(), None))
        self.add([message(n) for n in range(P)])
        self.outbox.close()
        self.outbox = Outbox(self.path, signer=KeyRing(self.new, (self.old,)), random=os.urandom)
        self.outbox.change_key(self.said)
        self.add([message(n) for n in range(P + 1, 12)])

    def said(self, origin, before, after):
        given = der(read(self.new_pem.encode()))
        change = KeyChange(
            stream=origin.stream, epoch=origin.epoch, before=before.public, after=after.public, certificate=given
        )
        return change.draft(facility="test", at=AT)

    def signed(self, first: int, end: int, *signers: FileSigner):
        """The answer to these positions under just these keys."""
        batch = self.batch(first, end)
        said = parse_checkpoint(parse_note(batch.checkpoint).text)
        return self.put(first, end, data=encode(replace(batch, checkpoint=sign_checkpoint(said, *signers))))

    def head(self, end: int, *signers: FileSigner) -> bytes:
        return sign_checkpoint(Checkpoint(self.origin(), end, self.root(end)), *signers)

    def open(self, log: str, *earlier: str, heads: tuple[bytes, ...] = ()):
        request = SessionRequest(
            boot=self.boot, boots=(), fence=self.fence, log_certificate=log, earlier_certificates=earlier, heads=heads,
            streams=(OwnStream(stream="his", epoch=1, tag=self.origin().tag, lane="routine"),),
        )  # fmt: skip
        headers = {"Content-Type": "application/json"}
        answer = self.pool.request("POST", "/v1/session", body=request.encode(), headers=headers)
        assert answer.status == 200, answer.data
        self.fence = answer.json()["fence"]
        return answer.json()["streams"]


@pytest.fixture
def node(realm, gateway, tmp_path):
    made = Changed(realm, gateway, f"clinic-{os.urandom(4).hex()}", tmp_path / "outbox.db")
    made.change(tmp_path / "new")
    made.open(made.new_pem, made.old_pem)
    yield made
    made.close()


def refused(answer) -> str:
    assert answer.status != 200
    return answer.json()["code"]


def size(node) -> int:
    return len(node.gateway.records(node.name, "his"))


def test_batches_before_at_and_after_the_change_are_taken_under_their_own_keys_only(node):
    stranger = FileSigner(
        node.name, load_pem_private_key((node.realm.node("clinic-other") / "log.key").read_bytes(), None)
    )
    old, new = node.old, node.new
    for first, end, right in ((0, 4, (old,)), (4, 9, (old, new)), (9, 12, (new,))):
        for wrong in ((old,), (new,), (old, new), (new, old), (stranger,), (old, stranger), (new, stranger)):
            # of a log that has no key yet, each certified one may make the beginning
            if wrong != right and (first or wrong != (new,)):
                assert refused(node.signed(first, end, *wrong)) == "bad-key", (first, wrong)
        assert size(node) == first
        assert node.signed(first, end, *right).status == 200
    assert refused(node.signed(9, 12, old)) == "bad-key"
    assert size(node) == 12


def test_new_key_without_the_change_record_is_refused_though_its_certificate_is_good(node):
    assert node.signed(0, 4, node.old).status == 200
    for signers in ((node.new,), (node.old, node.new)):
        assert refused(node.signed(4, 6, *signers)) == "bad-key"
    assert size(node) == 4


def test_session_that_leaves_the_key_in_force_out_may_not_go_on_with_it(node):
    assert node.signed(0, 4, node.old).status == 200
    node.open(node.new_pem)
    for signers in ((node.old,), (node.new,)):
        assert refused(node.signed(4, 6, *signers)) == "bad-key"
    node.open(node.new_pem, node.old_pem)
    assert node.signed(4, 6, node.old).status == 200


def test_change_is_taken_where_the_session_still_brings_the_old_certificate_alone(node):
    node.open(node.old_pem)
    assert node.signed(0, 7, node.old, node.new).status == 200
    assert node.signed(7, 12, node.new).status == 200


def test_evidence_under_a_head_of_both_keys_bears_the_new_ones_signature(node, realm):
    head = node.signed(0, 7, node.old, node.new)
    assert head.status == 200
    ca = (realm.folder / "ca/ca.pem").read_bytes()
    for seq in (0, 5, 6):
        file = node.gateway.get(f"/v1/nodes/{node.name}/streams/his/records/1/{seq}/evidence", token=TOKEN).data
        assert verify(file, anchor=ca).seq == seq
        assert verify_independently(file, ca)
        assert parse_note(parse(file).note).signatures[0].key_id == id_of(node.new)
        crowded = replace(parse(file), note=head.data).encode()
        for refuse in (lambda: verify(crowded, anchor=ca), lambda: verify_independently(crowded, ca)):  # noqa: B023
            with pytest.raises((BadEvidence, ValueError)):
                refuse()


def test_certificate_renewed_on_the_same_key_goes_on(node, realm):
    assert node.signed(0, 4, node.old).status == 200
    key = load_pem_private_key((node.keys / "log.key").read_bytes(), None)
    leaf = replace(pki._log_leaf(node.name), key=key)
    renewed = pki._certificate(pki._authority(realm.folder / "ca"), leaf, now=datetime.now(UTC))
    node.open(node.new_pem, renewed.public_bytes(Encoding.PEM).decode())
    assert node.signed(4, 6, node.old).status == 200


def test_garbage_among_the_earlier_certificates_counts_for_nothing(node):
    stranger = (node.realm.node("clinic-other") / "log.pem").read_text()
    node.open(node.new_pem, "no certificate", stranger, (node.keys / "link.pem").read_text())
    assert refused(node.signed(0, 4, node.old)) == "bad-key"


def test_announced_heads_count_under_each_log_key_that_the_session_brings_and_under_no_other(node):
    def at_node() -> int:
        return node.gateway.get(f"/v1/nodes/{node.name}/streams", token=TOKEN).json()["streams"][0]["at_node"]

    for end, signers in ((4, (node.old,)), (7, (node.old, node.new)), (9, (node.new,))):
        node.open(node.new_pem, node.old_pem, heads=(node.head(end, *signers),))
        assert at_node() == end
    stranger = FileSigner(
        node.name, load_pem_private_key((node.realm.node("clinic-other") / "log.key").read_bytes(), None)
    )
    node.open(node.new_pem, node.old_pem, heads=(node.head(10, stranger),))
    node.open(node.new_pem, heads=(node.head(11, node.old),))
    assert at_node() == 9


# --- rows


def test_ledger_of_before_keeps_each_nodes_key_in_force(tmp_path, realm):
    path = tmp_path / "ledger.sqlite"
    database = SafeDatabase(path)
    steps = sorted(step.stem for step in SCHEMA.glob("0*.py"))
    runner = Runner(database, str(SCHEMA))
    runner.up(steps[1])
    connection = database.raw()
    given = der(read((realm.node("clinic-before") / "log.pem").read_bytes()))
    found = id_of(verifier_of(read(given), "clinic-before"))
    connection.execute(
        "INSERT INTO certificate VALUES (7, 'clinic-before', 'log', ?, ?, 1);"
        "INSERT INTO node VALUES ('clinic-before', 'b', 'f', 0, 7, 1)",
        (found, given),
    )
    for log, stream, count in ((1, "his", 5), (2, "lab", 0)):
        connection.execute(
            "INSERT INTO log (id, node, stream, epoch, tag, lane, fence, size, peaks, octets, note, receipt_at)"
            " VALUES (?, 'clinic-before', ?, 1, '0badcafe', 'bulk', 'f', ?, x'', 0, x'', 0)",
            (log, stream, count),
        )
    database.close()
    with closing(create(path, SCHEMA)) as opened:
        keys = KeyRows(opened.raw())
        held, empty = keys.of_log("clinic-before", 1), keys.of_log("clinic-before", 2)
        assert id_of(held.in_force) == found
        assert (held.lapsed, held.changes, held.retired) == (False, (), frozenset())
        assert empty.in_force is None
        assert [id_of(each) for each in empty.certified] == [found]


def test_certificate_that_is_not_current_may_go_on_but_not_begin(tmp_path, realm):
    name = "clinic-rows"
    given = der(read((realm.node(name) / "log.pem").read_bytes()))
    with closing(create(tmp_path / "ledger.sqlite", SCHEMA)) as opened:
        connection = opened.raw()
        keys = KeyRows(connection)
        row = keys.keep_certificate(name, LOG, given, 1)
        connection.execute(
            "INSERT INTO log (id, node, stream, epoch, tag, lane, fence, size, peaks, octets, note, receipt_at, certificate)"
            " VALUES (1, ?, 'his', 1, '0badcafe', 'bulk', 'f', 5, x'', 0, x'', 0, ?)",
            (name, row),
        )
        keys.use(name, [Brought(given, current=False)], 1)
        assert keys.of_log(name, 1).lapsed is False
        assert keys.of_log(name, 1).certified == ()
        assert keys.of_log(name, 0).certified == ()
        keys.use(name, [], 1)
        assert keys.of_log(name, 1).lapsed is True
        assert keys.of_log(name, 1, carried=[Brought(given, current=True)]).lapsed is False


def test_no_statement_takes_a_key_out_but_a_change_record_and_a_release_do(tmp_path, realm):
    """Whoever has an earlier key may leave lines of a statement out, or add his: of several claims a person decides."""
    name, folders = "clinic-claims", [tmp_path / str(n) for n in range(3)]
    with closing(create(tmp_path / "ledger.sqlite", SCHEMA)) as opened:
        connection, found = opened.raw(), []
        keys = KeyRows(connection)
        for folder in folders:
            issue_log_key(realm.folder / "ca", folder, name)
            given = der(read((folder / "log.pem").read_bytes()))
            found.append((keys.keep_certificate(name, LOG, given, 1), verifier_of(read(given), name).public))
        (first, public), (thief, theirs), (other, _) = found

        def log(epoch: int, row: int) -> None:
            connection.execute(
                "INSERT INTO log (id, node, stream, epoch, tag, lane, fence, size, peaks, octets, note, receipt_at, certificate, opening)"
                " VALUES (?, ?, 'his', ?, '0badcafe', 'bulk', 'f', 5, x'', 0, x'', 0, ?, x'01')",
                (epoch, name, epoch, row),
            )

        def release(epoch: int, at: int) -> None:
            said = Release(gateway="ministry", node=name, at=at, logs=(Origin(name, "his", epoch, "0badcafe"),))
            connection.execute("INSERT INTO release VALUES (NULL, ?, 'amal', ?, ?, 1)", (name, sign_release(said, FileSigner("amal", Ed25519PrivateKey.generate())), at))  # fmt: skip

        def retired(epoch: int) -> frozenset[bytes]:
            return keys.for_statement(name, "his", epoch, ()).retired

        log(1, first)
        log(2, thief)
        assert retired(2) == frozenset(), "the node's own key may open the next"
        log(3, first)
        release(2, 100)
        assert retired(3) == frozenset(), "in force is the one that a person let go on afterwards"
        release(3, 200)
        assert retired(3) == {theirs}, "a person's release says who the node is"
        log(4, other)
        assert retired(4) == {theirs}, "another claim after it is nobody's word yet"
        connection.execute("INSERT INTO key_change VALUES (3, 4, ?, ?)", (first, other))
        assert retired(4) == {public, theirs}, "a change record is the key's own word"


def test_session_and_statement_are_answered_with_the_key_in_force_so_that_a_node_sees_what_is_not_its_own(node):
    def told() -> list[str | None]:
        return [each.get("key") for each in node.open(node.new_pem, node.old_pem)]

    assert told() == [None], "nothing was signed yet"
    assert (
        node.signed(0, 4, node.new).status == 200
    )  # by whoever has the other key: the node signs these with the old one
    assert told() == [id_of(node.new).hex()]
    theirs = End(node.origin(), 4, node.root(4))
    made = node.outbox.open_epoch("his", epoch=2, tag=node.boot[:8], place=4, theirs=theirs)[-1]
    note = parse_note(made.opening)
    assert [line.key_id for line in note.signatures] == [id_of(node.old), id_of(node.new)]
    # somebody on the way leaves the last line out: the new log is under the old key
    answer = node.pool.request(
        "POST", "/v1/streams/his/epochs", body=Note(note.text, note.signatures[:1]).encode(), headers={"Wasl-Fence": node.fence}
    )  # fmt: skip
    assert (answer.status, answer.json()["key"]) == (200, id_of(node.old).hex())
    assert told() == [id_of(node.old).hex()]
