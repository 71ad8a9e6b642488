"""Sealed sticks: what is lost on the way tells nobody anything, and what was done to it on the way is noticed."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import cbor2
import pytest
from backports import zstd
from click.testing import CliRunner

from gateway.__main__ import main as gateway_main
from gateway.errors import BadSetup
from gateway.stick import load_seal_keys
from node.cli.main import main as node_main
from node.config.config import check
from node.config.config import load as load_node
from node.errors import SealCertificateBad
from node.stick import legs as stick_legs
from node.tools.pki import issue_gateway, issue_seal, make_authority
from sync.header import CONTROL_ID, PEER, encode_pairs
from sync.stick import MANIFEST_NAME
from tests.gateway_rig import Realm, draft, message
from tests.stick_rig import Site

CANARIES = [b"CANARY-BODY-", b"CANARY-CONTROL-", b"CANARY-PEER-", b"CANARY-TYPE-"]


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def site(realm, tmp_path):
    made = Site(realm, tmp_path, sealed=True)
    yield made
    made.close()


def fill(site, count=40):
    """Records each of whose parts can be looked for; a body of every second is such that zstd leaves it as it is."""
    for n in range(count):
        noise = sha256(str(n).encode()).digest() * 40 if n % 2 else b""
        body = message(n) + f"NTE|CANARY-BODY-{n:04}|".encode() + noise
        particulars = encode_pairs({CONTROL_ID: f"CANARY-CONTROL-{n:04}", PEER: f"CANARY-PEER-{n:04}"})
        made = draft("his", body, n)._replace(particulars=particulars, message_type=f"CANARY-TYPE-{n % 3}")
        site.node.outbox.append([made])


def everything(folder):
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def readable(data):
    """The bytes, and all that a finder makes of them: whatever in them is a zstd frame, unpacked."""
    found, at = [data], -1
    while (at := data.find(b"\x28\xb5\x2f\xfd", at + 1)) >= 0:
        try:
            found.append(zstd.ZstdDecompressor().decompress(data[at:], 2**25))
        except zstd.ZstdError:
            continue
    return b"\n".join(found)


def test_no_byte_of_a_sealed_stick_tells_a_body_a_particular_or_a_control_id(site):
    fill(site)
    site.node.outbox.open_epoch("his", epoch=2, tag=site.node.boot[:8], place=40, theirs=None)
    fill(site, 3)
    assert site.export().sealed
    assert site.bring()[0].refused == {}
    found = readable(everything(site.stick))
    records = [record for rows in site.epochs().values() for record in rows]
    assert len(records) == 43
    wanted = [*CANARIES, "مريض".encode(), b"PID|1", b"MSH|"]
    secrets = [each for record in records for each in (record.salt, record.header, record.particulars)]
    assert [each for each in [*wanted, *secrets] if each in found] == []


def test_the_search_for_plaintext_finds_it_on_a_plain_stick(realm, tmp_path):
    plain = Site(realm, tmp_path)
    fill(plain)
    assert not plain.export().sealed
    found = readable(everything(plain.stick))
    assert all(each in found for each in [*CANARIES, b"PID|1"])
    plain.close()


def test_sealed_stick_is_imported_and_its_receipts_come_home(site):
    fill(site)
    _, done, home = site.round()
    assert (done.records, done.refused) == (40, {})
    assert site.same()
    assert site.receipted()["his"] == 40
    assert [each.size for each in home.taken] == [40]


def test_sealed_stick_twice_stores_nothing_more(site):
    fill(site, 5)
    site.export()
    first = site.bring()
    assert site.bring() == first
    assert site.same()


def test_second_export_goes_on_after_what_is_sealed_already(site):
    fill(site, 5)
    site.export()
    fill(site, 2)
    assert site.export().fresh == 1
    assert site.bring()[0].refused == {}
    assert site.same()


def test_plain_batches_of_an_earlier_export_are_taken_off_the_stick_when_it_is_sealed(realm, tmp_path, site):
    fill(site, 5)
    config = site.config
    site.config = config.model_copy(update={"gateway": config.gateway.model_copy(update={"seal_certificate": None})})
    assert not site.export().sealed
    site.config = config
    written = site.export()
    assert (written.fresh, written.batches, written.sealed) == (1, 1, True)
    assert b"CANARY" not in readable(everything(site.stick))


# --- keys


def test_old_and_new_key_are_both_opened_and_the_next_export_is_sealed_to_the_new_one(site, realm, tmp_path):
    old, new = realm.folder / "gateway", tmp_path / "new"
    issue_seal(realm.folder / "ca", new, "centre")
    fill(site, 4)
    site.export()
    site.hold_keys(new / "seal.key", old / "seal.key")
    assert site.bring()[0].refused == {}
    node = (site.rig.folder / "node.toml").read_text().replace(str(old / "seal.pem"), str(new / "seal.pem"))
    (site.rig.folder / "node.toml").write_text(node)
    site.config = load_node(site.rig.folder / "node.toml")
    assert site.export().fresh == 1  # what is on the stick is sealed anew
    site.hold_keys(new / "seal.key")
    assert site.bring()[0].refused == {}
    assert site.same()


def test_gateway_without_the_key_says_so_with_a_hint_and_takes_nothing(site, realm):
    fill(site, 4)
    site.export()
    site.hold_keys()
    assert site.bring()[0].refused == {"his": "unknown-key"}
    assert site.ledger() == []
    done = CliRunner().invoke(gateway_main, ["import", "--config", str(site.gateway_file), str(site.stick)])
    assert (done.exit_code, "unknown-key (centre). This gateway lacks the key" in done.output) == (1, True)


def test_stick_sealed_to_another_key_under_the_right_name_does_not_open(site, realm, tmp_path):
    issue_seal(realm.folder / "ca", tmp_path / "other", "centre")
    fill(site, 4)
    site.export()
    keys = load_seal_keys([realm.folder / "gateway/seal.key", tmp_path / "other/seal.key"])
    (other,) = set(keys) - {site.manifest().sealed_to}
    site.hold_keys(realm.folder / "gateway/seal.key", tmp_path / "other/seal.key")
    site.forge(sealed_to=other)
    assert site.bring()[0].refused == {"his": "bad-seal"}


def other_authority(tmp_path):
    make_authority(tmp_path / "ca", "Somebody Else")
    issue_gateway(tmp_path / "ca", tmp_path / "theirs", "centre", ["127.0.0.1"])
    return tmp_path / "theirs/seal.pem"


def expired(realm, tmp_path):
    issue_seal(realm.folder / "ca", tmp_path / "old", "centre", now=datetime.now(UTC) - timedelta(days=3 * 365))
    return tmp_path / "old/seal.pem"


def elsewhere(realm, tmp_path):
    issue_seal(realm.folder / "ca", tmp_path / "elsewhere", "elsewhere")
    return tmp_path / "elsewhere/seal.pem"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda realm, tmp: other_authority(tmp), "not issued"), (expired, "not valid"), (elsewhere, "is elsewhere's"),
        (lambda realm, tmp: realm.folder / "gateway/cosign.pem", "does not name"), (lambda realm, tmp: tmp / "nothing", "No such file"),
    ],
)  # fmt: skip
def test_seal_certificate_that_is_not_good_stops_the_export_and_nothing_goes_out_plain(
    site, realm, tmp_path, make, why
):
    fill(site, 2)
    path = make(realm, tmp_path)
    gateway = site.config.gateway.model_copy(update={"seal_certificate": path})
    site.config = site.config.model_copy(update={"gateway": gateway})
    with pytest.raises(SealCertificateBad, match=why):
        site.export()
    assert list(site.stick.iterdir()) == []


def test_check_config_names_a_seal_certificate_that_is_not_there(site):
    file = site.rig.folder / "node.toml"
    text = file.read_text()
    file.write_text(text.replace("seal.pem", "nothing.pem"))
    assert [problem.key for problem in check(file)] == ["gateway.seal_certificate"]


@pytest.mark.parametrize("name", ["cosign.key", "nothing.key", "seal.pem"])
def test_gateway_refuses_a_seal_key_that_is_none(realm, name):
    with pytest.raises(BadSetup, match="seal key"):
        load_seal_keys([realm.folder / "gateway" / name])


def test_command_line_says_whether_the_stick_is_sealed(site):
    fill(site, 2)
    said = CliRunner().invoke(node_main, ["export", "--config", str(site.rig.folder / "node.toml"), str(site.stick)])
    assert (said.exit_code, said.output.splitlines()[-1]) == (0, "sealed: only the gateway can read them")


# --- what may happen to a stick on its way: each with a manifest that agrees with it


def tampered(site, change, *, honest=False):
    """The stick's first two files of `his` changed; unless `honest`, the manifest is made to agree. What the import refuses."""
    fill(site, 120)
    site.export()
    rows = list(site.manifest().batches)
    files = [bytearray((site.folder / each.file).read_bytes()) for each in rows[:2]]
    changed = change(*files)
    for n, data in enumerate(changed):
        (site.folder / rows[n].file).write_bytes(data)
        if not honest:
            rows[n] = replace(rows[n], bytes=len(data), sha256=sha256(data).hexdigest())
    site.forge(batches=tuple(rows))
    return site.bring()[0].refused


@pytest.fixture
def small(monkeypatch):
    """Batches of few records, so that there are some."""
    monkeypatch.setattr(stick_legs, "RECORDS_MAX", 50)


def flip(data, at):
    data[at] ^= 1
    return data


@pytest.mark.parametrize(
    "change",
    [
        lambda one, two: (two, one),  # swapped
        lambda one, two: (one[:-1],), lambda one, two: (one[:92],), lambda one, two: (one[:40],), lambda one, two: (b"x",),  # cut short
        lambda one, two: (flip(one, 3),), lambda one, two: (flip(one, 20),), lambda one, two: (flip(one, 60),), lambda one, two: (flip(one, 200),),
        lambda one, two: (flip(one, -1),), lambda one, two: (one + b"\0",), lambda one, two: (two,),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("small")
def test_file_that_was_cut_changed_or_swapped_is_refused_and_the_ledger_has_none_of_it(site, change):
    assert tampered(site, change) == {"his": "bad-seal"}
    assert site.ledger() == []


@pytest.mark.usefixtures("small")
def test_file_that_is_worn_is_told_from_one_that_was_forged(site):
    assert tampered(site, lambda one, _: (flip(one, 100),), honest=True) == {"his": "damaged"}


def test_batch_that_a_stranger_sealed_is_refused_for_its_signature(site, realm, tmp_path):
    """Anybody may seal to the gateway: who wrote it, the checkpoint says."""
    stranger = Site(Realm.make(tmp_path / "realm"), tmp_path / "stranger", sealed=True)
    stranger.config = site.config  # seals to the true gateway
    stranger.keystore = replace(stranger.keystore, anchor=site.keystore.anchor)
    fill(stranger, 3)
    fill(site, 3)
    gateway = site.config.gateway
    stranger.config = stranger.config.model_copy(
        update={"node": site.config.node.model_copy(update={"data_dir": stranger.rig.data}), "gateway": gateway}
    )
    stranger.export()
    shutil.rmtree(site.folder, ignore_errors=True)
    shutil.copytree(stranger.folder, site.folder)
    site.forge(log_certificate=site.keystore.log_certificate_pem())
    assert site.bring()[0].refused == {"his": "bad-key"}
    assert site.ledger() == []
    stranger.close()


@pytest.mark.usefixtures("small")
def test_plain_batch_on_a_stick_that_says_it_is_sealed_is_refused(site):
    def unpacked(one, _):
        return (zstd.compress(cbor2.dumps({1: 2})),)

    assert tampered(site, unpacked) == {"his": "bad-seal"}


def test_manifest_of_a_sealed_stick_names_its_key_and_no_message(site):
    fill(site, 3)
    site.export()
    text = (site.folder / MANIFEST_NAME).read_text()
    assert site.manifest().sealed_to in text
    assert "CANARY" not in text
