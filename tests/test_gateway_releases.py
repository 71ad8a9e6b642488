"""What is held goes on only on the fresh, signed word of a person of this authority who has seen all that is there."""

import http.client
import json
import time
from contextlib import closing

import pytest
import urllib3
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node.cli.main import main
from node.tools.pki import issue_operator, make_authority
from sync.checkpoint import sign_text
from sync.errors import BadRelease
from sync.keys import FileSigner, Verifier
from sync.names import Origin
from sync.release import Release, open_release, sign_release
from sync.session import STREAMS_MAX
from tests.gateway_rig import GATEWAY, PLAIN_TOKEN, TOKEN, Realm, TinyNode, running
from tests.sim_realm import LOG_SIGNER


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    made = Realm.make(tmp_path_factory.mktemp("realm"))
    issue_operator(made.folder / "ca", made.folder / "amal", "amal")
    return made


@pytest.fixture
def held(realm, tmp_path):
    """A gateway that holds three records of a node that came back from a backup."""
    with running(realm, tmp_path / "centre") as gateway:
        node = TinyNode(realm, gateway, "clinic-7", tmp_path / "outbox.db")
        node.session()
        node.session(fence="", boot="f" * 32)  # a copy knows neither the fence nor the start before
        node.add([b"one", b"two", b"three"])
        send(node, 0)
        yield gateway, node
        node.close()


def send(node: TinyNode, first: int) -> None:
    """Send what is not yet there."""
    assert node.put(first, node.size()).status == 200


def signed(
    realm,
    node: TinyNode,
    *,
    who: str = "amal",
    at: int | None = None,
    gateway: str = GATEWAY,
    name: str = "clinic-7",
    **changes,
) -> dict:
    """What the operator's machine sends."""
    key = load_pem_private_key((realm.folder / who / "operator.key").read_bytes(), None)
    logs = changes.get("logs", (Origin(name, "his", 1, node.origin().tag),))
    release = Release(gateway=gateway, node=name, at=int(time.time()) if at is None else at, logs=logs)
    statement = sign_release(release, FileSigner(changes.get("signer", who), key)).decode()
    return {"statement": statement, "certificate": (realm.folder / who / "operator.pem").read_text()}


def post(gateway, body: dict, *, node: str = "clinic-7", token: str = TOKEN) -> tuple[int, dict]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib3.PoolManager(retries=False, timeout=30) as pool:
        answer = pool.request("POST", f"{gateway.api}/v1/nodes/{node}/release", body=json.dumps(body), headers=headers)
    return answer.status, json.loads(answer.data)


def shown(gateway) -> int:
    """How many records a consumer without the right to release is given."""
    return len(gateway.records("clinic-7", "his", token=PLAIN_TOKEN))


def test_held_records_reach_consumers_only_after_an_operators_signed_release(realm, held):
    gateway, node = held
    assert shown(gateway) == 0
    assert post(gateway, signed(realm, node)) == (200, {"released": 3, "operator": "amal"})
    assert shown(gateway) == 3
    node.add([b"four"])
    send(node, 3)
    assert shown(gateway) == 4
    assert json.loads(gateway.get("/v1/nodes").data)["nodes"][0]["held"] is False
    assert "released" in gateway.log
    assert "amal" in gateway.log


def test_release_from_the_command_line_shows_what_is_held_and_signs_for_it(realm, held, tmp_path):
    gateway, _ = held
    (tmp_path / "token").write_text(TOKEN + "\n")
    arguments = [
        "release",
        "clinic-7",
        "--api",
        gateway.api,
        "--gateway",
        GATEWAY,
        "--token",
        str(tmp_path / "token"),
        "--identity",
        str(realm.folder / "amal"),
    ]
    refused = CliRunner().invoke(main, arguments, input="n\n")
    assert refused.exit_code == 1
    assert shown(gateway) == 0
    done = CliRunner().invoke(main, arguments, input="y\n")
    assert done.exit_code == 0, done.output
    assert "his epoch 1: 3 records, 3 held" in done.output
    assert "released: 3 records" in done.output
    assert shown(gateway) == 3


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        pytest.param({"at": 1}, 422, "bad-release", id="of long ago"),
        pytest.param({"gateway": "elsewhere"}, 422, "bad-release", id="for another gateway"),
        pytest.param({"name": "clinic-8"}, 422, "bad-release", id="of another node"),
        pytest.param({"logs": (Origin("clinic-7", "his", 2, "00000000"),)}, 409, "changed", id="of other logs"),
        pytest.param({"signer": "badr"}, 422, "bad-release", id="under another name"),
    ],
)
def test_nothing_is_released_on_a_word_that_is(realm, held, change, status, code):
    gateway, node = held
    found = post(gateway, signed(realm, node, **change))
    assert (found[0], found[1]["code"]) == (status, code)
    assert shown(gateway) == 0


def test_release_of_a_node_with_as_many_streams_as_it_may_have_can_be_signed_and_read():
    logs = tuple(Origin("n" * 63, f"{n:063}", 2**31 - 1, "0badcafe") for n in range(STREAMS_MAX))
    release = Release(gateway=GATEWAY, node="n" * 63, at=1, logs=logs)
    assert open_release(sign_release(release, LOG_SIGNER), Verifier(LOG_SIGNER.name, LOG_SIGNER.public)) == release


def test_nothing_is_released_by_a_node_a_stranger_or_a_token_without_the_right(realm, held, tmp_path):
    gateway, node = held
    good = signed(realm, node)
    assert post(gateway, good, token=PLAIN_TOKEN)[0] == 403
    assert post(gateway, {**good, "certificate": (node.keys / "log.pem").read_text()})[0] == 422
    make_authority(tmp_path / "ca", "Another")
    issue_operator(tmp_path / "ca", tmp_path / "amal", "amal")
    assert post(gateway, {**good, "certificate": (tmp_path / "amal/operator.pem").read_text()})[0] == 422
    assert post(gateway, {**good, "statement": good["statement"].replace("1", "2", 1)})[0] == 422
    assert shown(gateway) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Content-Length": "1000000000"}, 401, id="of a stranger"),
        pytest.param({"Content-Length": "1000000000", "Authorization": f"Bearer {TOKEN}"}, 413, id="too long"),
        pytest.param({"Transfer-Encoding": "chunked", "Authorization": f"Bearer {TOKEN}"}, 411, id="without end"),
    ],
)
def test_body_of_a_release_is_refused_before_it_is_read(realm, held, headers, status):
    gateway, _ = held
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.api_port, timeout=30)) as connection:
        connection.putrequest("POST", "/v1/nodes/clinic-7/release")
        for name, value in {"Content-Type": "application/json", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()  # and no byte of the body, so an answer owes nothing to it
        assert connection.getresponse().status == status


@pytest.mark.parametrize(
    "body", [{}, {"statement": 1, "certificate": ""}, [], {"statement": "\ud800", "certificate": "\ud800"}]
)
def test_a_body_that_is_no_release_is_400_as_a_problem(realm, held, body):
    gateway, _ = held
    status, found = post(gateway, body)
    assert (status, found["code"]) == (400, "bad-request")


def test_release_is_good_once_and_never_frees_what_is_held_later(realm, held):
    gateway, node = held
    body = signed(realm, node)
    assert post(gateway, body)[0] == 200
    node.session(fence="", boot="e" * 32)
    node.add([b"four"])
    send(node, 3)
    assert post(gateway, body)[1]["code"] == "changed"
    assert shown(gateway) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wasl-release/1\n",
        "wasl-release/1\na\nb\n01\nb/his/1-00000000\n",
        "wasl-release/1\na\nb\n5\nc/his/1-00000000\n",
    ],
)
def test_what_is_no_release_is_refused(text):
    with pytest.raises(BadRelease):
        open_release(sign_text(text, LOG_SIGNER), Verifier(LOG_SIGNER.name, LOG_SIGNER.public))
