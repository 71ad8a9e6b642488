"""FHIR clients that we did not write, in an environment of their own: fhirclient and fhirpy send, PyJWT signs for a token."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from node.tools.pki import issue_gateway
from sync.record import Verdict
from tests.fhir_rig import connect, fhir_node
from tests.gateway_rig import Realm

ROOT = Path(__file__).parents[1]
PEER = ROOT / "peers/py/bin/python"

FHIRCLIENT = """
import sys
from fhirclient import client
from fhirclient.models.bundle import Bundle, BundleEntry, BundleEntryRequest
from fhirclient.models.humanname import HumanName
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRServer
smart = client.FHIRClient(settings={"app_id": "test", "api_base": sys.argv[1]})
smart.prepare()
assert smart.server.capabilityStatement.fhirVersion == "4.0.1"
patient = Patient({"name": [{"text": "مريض تجريبي", "family": "Test"}], "gender": "female"})
patient.create(smart.server)
patient.id = "client-1"
patient.update(smart.server)
request = BundleEntryRequest({"method": "POST", "url": "Patient"})
entry = BundleEntry(); entry.resource = patient; entry.request = request
bundle = Bundle({"type": "transaction"}); bundle.entry = [entry]
answer = smart.server.post_json("", bundle.as_json()).json()
print(Bundle(answer).entry[0].response.status)
try:
    Patient.read("client-1", smart.server)
except Exception as error:
    print(type(error).__name__, error.response.status_code)
"""

FHIRPY = """
import asyncio, sys
from fhirpy import AsyncFHIRClient, SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome
client = SyncFHIRClient(sys.argv[1], authorization=sys.argv[2] or None)
observation = client.resource("Observation", status="final", code={"text": "تجربة"}, valueQuantity={"value": 7})
observation.create()
patient = client.resource("Patient", id="peer-1", name=[{"text": "مريض تجريبي"}])
patient.save()
bundle = client.resource("Bundle", type="batch", entry=[{"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}])
answer = client.execute("", method="post", data=bundle.serialize())
print(answer["type"], answer["entry"][0]["response"]["status"])
try:
    client.execute("Patient", method="post", data={"resourceType": "Observation"})
except OperationOutcome as error:
    print(error.resource["issue"][0]["diagnostics"])
async def many():
    client = AsyncFHIRClient(sys.argv[1], authorization=sys.argv[2] or None)
    await asyncio.gather(*(client.execute("Observation", method="post", data={"resourceType": "Observation", "id": f"many-{n}", "status": "final", "code": {"text": "x"}}) for n in range(50)))
asyncio.run(many())
"""

PYJWT = """
import json, sys, time, uuid
import jwt, requests
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP384R1())
if sys.argv[1] == "keys":
    from cryptography.hazmat.primitives import serialization as s
    pem = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    print(json.dumps({"pem": pem.decode(), "jwks": {"keys": [{**public, "kid": "k", "alg": "ES384", "use": "sig"}]}}))
    sys.exit()
base, ca, pem = sys.argv[2:5]
smart = requests.get(base + "/.well-known/smart-configuration", verify=ca).json()
now = int(time.time())
claims = {"iss": "lab", "sub": "lab", "aud": smart["token_endpoint"], "exp": now + 240, "jti": str(uuid.uuid4())}
signed = jwt.encode(claims, open(pem).read(), algorithm="ES384", headers={"kid": "k"})
form = {"grant_type": "client_credentials", "scope": "system/*.cu", "client_assertion": signed,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
token = requests.post(smart["token_endpoint"], data=form, verify=ca).json()["access_token"]
post = lambda headers: requests.post(base + "/Patient", json={"resourceType": "Patient"}, headers=headers, verify=ca).status_code
print(post({}), post({"Authorization": "Bearer " + token}), requests.post(smart["token_endpoint"], data=form, verify=ca).status_code)
"""


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    if not (ROOT / "peers/py/.wasl-locked").exists():
        assert not os.environ.get("CI"), "peers/py is missing: .ci/setup test"
        pytest.skip("peers/py is missing: .ci/setup test")
    return Realm.make(tmp_path_factory.mktemp("realm"))


def peer(code: str, *arguments: str) -> list[str]:
    """What a program of theirs prints."""
    done = subprocess.run(
        [PEER, "-W", "ignore", "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_fhirclient_creates_updates_and_sends_a_transaction(realm, tmp_path):
    with fhir_node(realm, tmp_path) as node:
        assert peer(FHIRCLIENT, node.feeds[0].base) == ["201 Created", "HTTPError 405"]
        records = node.records("app")
    assert [seen.header.message_type for seen in records] == ["Patient", "Patient", "Bundle^transaction"]
    assert json.loads(records[0].body)["name"][0]["text"] == "مريض تجريبي"


def test_fhirpy_creates_saves_sends_a_batch_and_understands_a_refusal(realm, tmp_path):
    with fhir_node(realm, tmp_path) as node:
        assert peer(FHIRPY, node.feeds[0].base, "") == ["batch-response 201 Created", "FHR-06"]
        records = node.records("app")
    assert [seen.header.message_type for seen in records[:3]] == ["Observation", "Patient", "Bundle^batch"]
    assert records[3].header.verdict is Verdict.REJECTED
    many = {json.loads(seen.body)["id"] for seen in records[4:]}
    assert many == {f"many-{n}" for n in range(50)}
    assert len(records) == 54


def test_pyjwt_signs_for_a_token_over_tls(realm, tmp_path):
    keys = json.loads(peer(PYJWT, "keys")[0])
    (tmp_path / "key.pem").write_text(keys["pem"])
    (tmp_path / "lab.json").write_text(json.dumps(keys["jwks"]))
    ca = realm.folder / "ca"
    issue_gateway(ca, tmp_path / "feed", "feed", ["127.0.0.1"])
    tls = f'certificate = "{tmp_path}/feed/server.pem"\nkey = "{tmp_path}/feed/server.key"'
    lines = f'clients = [{{ id = "lab", jwks = "{tmp_path}/lab.json" }}]'
    with fhir_node(realm, tmp_path / "n", lines=lines, tls=tls) as node:
        base = node.feeds[0].base.replace("http:", "https:")
        assert peer(PYJWT, "send", base, ca / "ca.pem", tmp_path / "key.pem") == ["401 201 400"]
        assert node.stream("app").size == 1
        with pytest.raises(ConnectionError), connect(node) as http:
            http.call("GET", "/metadata")
