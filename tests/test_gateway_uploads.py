"""Uploads at the gateway: durable parts, resumed where they ended, within a quota, for a week; and what a node may try."""

import os
from hashlib import sha256

import pytest

from gateway.errors import GatewayFull, UploadGap, UploadQuota
from gateway.uploads import KEPT_S, Uploads
from sync.batch import encode
from sync.errors import BadUpload
from sync.upload import PART_BYTES_MAX, UPLOAD_BYTES_MAX, pack
from tests.gateway_rig import Gateway, TinyNode, running
from tests.node_rig import wait_until

NAME, OTHER = "ab" * 32, "cd" * 32
BODY = b"".join(
    sha256(bytes([n % 256, n // 256])).digest() for n in range(2000)
)  # looks like an image: does not compress
NOW = 2_000_000_000.0


class Clock:
    """Hand-turned."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def uploads(tmp_path, clock):
    return Uploads(tmp_path / "uploads", clock, quota_bytes=1000)


def test_parts_make_the_whole_and_a_restart_goes_on_where_it_ended(tmp_path, clock):
    made = pack(bytes(32), BODY)
    half = len(made.packed) // 2
    assert Uploads(tmp_path, clock).write("n", NAME, 0, made.packed[:half]) == half
    again = Uploads(tmp_path, clock)
    assert again.size("n", NAME) == half
    assert again.write("n", NAME, half, made.packed[half:]) == len(made.packed)
    assert again.body("n", NAME, made.digest, len(BODY)) == BODY


def test_the_same_part_again_changes_nothing(uploads):
    uploads.write("n", NAME, 0, b"abc")
    uploads.write("n", NAME, 3, b"def")
    assert uploads.write("n", NAME, 0, b"abc") == 6
    assert uploads._bytes("n", NAME) == b"abcdef"


@pytest.mark.parametrize(("offset", "part"), [(4, b"x"), (0, b"abX"), (1, b"bcd"), (2, b"x")])
def test_a_part_that_does_not_continue_is_a_gap_and_changes_nothing(uploads, offset, part):
    uploads.write("n", NAME, 0, b"abc")
    with pytest.raises(UploadGap) as gap:
        uploads.write("n", NAME, offset, part)
    assert gap.value.size == 3
    assert uploads._bytes("n", NAME) == b"abc"


def test_one_node_cannot_see_or_fill_anothers_upload(uploads):
    uploads.write("n", NAME, 0, b"x" * 900)
    assert uploads.size("m", NAME) == 0
    assert uploads.write("m", NAME, 0, b"y" * 900) == 900


def test_beyond_the_quota_is_refused_and_what_is_here_stays(uploads):
    uploads.write("n", NAME, 0, b"x" * 900)
    with pytest.raises(UploadQuota):
        uploads.write("n", OTHER, 0, b"y" * 101)
    assert (uploads.size("n", NAME), uploads.size("n", OTHER)) == (900, 0)
    assert uploads.write("n", OTHER, 0, b"y" * 100) == 100


def test_a_node_has_at_most_so_many_uploads_and_those_that_were_used_go_first(uploads, monkeypatch):
    monkeypatch.setattr("gateway.uploads.UPLOADS_MAX", 2)
    uploads.write("n", NAME, 0, b"x")
    uploads.write("n", OTHER, 0, b"y")
    with pytest.raises(UploadQuota):
        uploads.write("n", "ef" * 32, 0, b"z")
    assert uploads.write("n", NAME, 1, b"more") == 5, "what is under way goes on"
    assert uploads.write("other", NAME, 0, b"x") == 1, "and other nodes do not feel it"
    uploads.used("n", OTHER)
    assert uploads.write("n", "ef" * 32, 0, b"z") == 1
    assert (uploads.size("n", NAME), uploads.size("n", OTHER)) == (5, 0)


def test_no_upload_is_longer_than_the_longest_body(tmp_path, clock):
    found = Uploads(tmp_path, clock, quota_bytes=UPLOAD_BYTES_MAX * 3)
    found.write("n", NAME, 0, bytes(UPLOAD_BYTES_MAX))
    with pytest.raises(UploadQuota):
        found.write("n", NAME, UPLOAD_BYTES_MAX, b"x")


def test_a_used_upload_makes_room_and_until_then_answers_for_a_lost_answer(uploads):
    made = pack(bytes(32), BODY[:800])
    uploads.write("n", NAME, 0, made.packed)
    uploads.used("n", NAME)
    assert uploads.size("n", NAME) == len(made.packed)
    assert uploads.body("n", NAME, made.digest, 800) == BODY[:800]
    uploads.write("n", OTHER, 0, b"y" * 400)
    assert uploads.size("n", NAME) == 0


def test_an_upload_is_kept_for_a_week_and_not_longer(uploads, clock):
    uploads.write("n", NAME, 0, b"abc")
    clock.now = NOW + KEPT_S - 1
    assert uploads.sweep() == 0
    assert uploads.size("n", NAME) == 3
    clock.now = NOW + KEPT_S + 1
    assert uploads.sweep() == 1
    assert uploads.size("n", NAME) == 0


def test_what_is_too_old_makes_room_for_a_new_one(uploads, clock):
    uploads.write("n", NAME, 0, b"x" * 900)
    clock.now = NOW + KEPT_S + 1
    assert uploads.write("n", OTHER, 0, b"y" * 900) == 900
    assert uploads.size("n", NAME) == 0


def test_an_upload_that_goes_while_another_is_written_disturbs_nobody(uploads, tmp_path):
    uploads.write("n", NAME, 0, b"abc")
    # listed, and not there when it is looked at: as a file is that another thread takes away in between
    (tmp_path / "uploads/n" / ("ef" * 32)).symlink_to("gone")
    assert uploads.write("n", OTHER, 0, b"def") == 3
    assert uploads.sweep() == 0


def test_a_disk_that_is_nearly_full_takes_no_part_and_what_is_here_stays(tmp_path, clock):
    free = [6]
    uploads = Uploads(tmp_path, clock, free_bytes=lambda: free[0])
    uploads.write("n", NAME, 0, b"abcdef")
    free[0] = 2
    with pytest.raises(GatewayFull):
        uploads.write("n", NAME, 6, b"ghi")
    assert uploads.size("n", NAME) == 6


def test_other_bytes_than_the_batch_names_are_refused_and_forgotten(uploads):
    made = pack(bytes(32), BODY[:100])
    uploads.write("n", NAME, 0, made.packed[:-1] + b"\x00")
    with pytest.raises(BadUpload):
        uploads.body("n", NAME, made.digest, 100)
    assert uploads.size("n", NAME) == 0


# -- over the wire -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def gateway(realm, tmp_path_factory):
    with running(realm, tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
def node(realm, gateway, tmp_path, request):
    made = TinyNode(realm, gateway, "n" + str(abs(hash(request.node.name)) % 10**9), tmp_path / "outbox.sqlite")
    made.add([BODY])
    made.session()
    yield made
    made.close()


def upload_of(node):
    from sync.header import decode

    (record,) = node.records(0, 1)
    return pack(decode(record.header).commitment, record.body)


def send(node, made, *, step=20_000, start=0):
    for at in range(start, len(made.packed), step):
        answer = node.pool.request("PUT", f"/v1/uploads/{made.id}/{at}", body=made.packed[at : at + step])
        assert (answer.status, answer.json()["size"]) == (200, min(at + step, len(made.packed)))


def size(node, made):
    answer = node.pool.request("HEAD", f"/v1/uploads/{made.id}/0")
    assert answer.status == 200
    return int(answer.headers["wasl-upload-size"])


def test_a_batch_that_names_a_whole_upload_is_receipted_and_its_record_is_the_body(node, gateway):
    made = upload_of(node)
    assert size(node, made) == 0
    send(node, made)
    assert size(node, made) == len(made.packed)
    data = encode(node.batch(0, 1), uploaded={0: made.digest})
    assert len(data) < 2000
    first = node.put(0, 1, data=data)
    assert first.status == 200
    import base64

    (row,) = gateway.records(node.name, "his")
    assert base64.b64decode(row["body"]) == BODY
    assert node.put(0, 1, data=data).data == first.data  # the answer was lost: the same again


@pytest.mark.parametrize("what", ["missing", "half", "spoilt"])
def test_a_batch_whose_upload_is_not_whole_is_bad_upload_and_the_node_starts_over(node, gateway, what):
    made = upload_of(node)
    if what != "missing":
        wrong = made.packed[:30_000] if what == "half" else made.packed[:-1] + b"\x00"
        send(node, type(made)(made.commitment, made.digest, wrong))
    data = encode(node.batch(0, 1), uploaded={0: made.digest})
    answer = node.put(0, 1, data=data)
    assert (answer.status, answer.json()["code"]) == (422, "bad-upload")
    assert gateway.records(node.name, "his") == []
    assert size(node, made) == 0
    send(node, made)
    assert node.put(0, 1, data=data).status == 200


def test_a_part_that_does_not_continue_is_rewind_and_says_where_to(node):
    made = upload_of(node)
    send(node, made, step=len(made.packed))
    answer = node.pool.request("PUT", f"/v1/uploads/{made.id}/{len(made.packed) + 5}", body=b"x")
    assert (answer.status, answer.json()["code"], answer.json()["size"]) == (409, "rewind", len(made.packed))


@pytest.mark.parametrize("name", ["..%2f..%2fledger.sqlite", "AB" * 32, "ab" * 31, "x", "ab" * 32 + "%0a"])
def test_a_name_that_is_no_commitment_touches_no_file(node, name):
    answer = node.pool.request("PUT", f"/v1/uploads/{name}/0", body=b"x")
    assert (answer.status, answer.json()["code"]) in {(422, "bad-upload"), (404, "not-found")}


def test_a_part_above_the_limit_is_refused_unread(node):
    answer = node.pool.request("PUT", f"/v1/uploads/{NAME}/0", body=bytes(PART_BYTES_MAX + 1))
    assert (answer.status, answer.json()["code"]) == (413, "too-large")


def test_a_running_gateway_sweeps_what_no_part_came_to_for_too_long(realm, tmp_path):
    centre = Gateway(realm, tmp_path / "centre")
    centre.start(before="import gateway.app; gateway.app.SWEEP_S = 0.05")
    node = TinyNode(realm, centre, "clinic-17", tmp_path / "outbox.sqlite")
    try:
        for name in (NAME, OTHER):
            assert node.pool.request("PUT", f"/v1/uploads/{name}/0", body=b"x").status == 200
        path = centre.data / "uploads/clinic-17" / NAME
        os.utime(path, (0, 0))
        wait_until("the old one is gone", lambda: not path.exists())
        assert path.with_name(OTHER).exists()
    finally:
        node.close()
        centre.kill()


def test_without_a_client_certificate_nothing_is_taken(realm, gateway):
    import urllib3

    from tests.gateway_rig import https_pool

    with https_pool(realm, gateway.sync_port, None) as pool, pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("PUT", f"/v1/uploads/{NAME}/0", body=b"x")
