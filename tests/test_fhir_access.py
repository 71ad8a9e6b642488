"""Tokens of a FHIR feed and SMART backend services: who gets in, and every way of not getting in."""

import hashlib
import json
import time
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from hl7.fhir_errors import BadAssertion, NoAccess
from node.clock import SYNCHRONISED, UNSURE, Trust
from node.config.fhir import Fhir
from node.errors import ClientKeysBad
from node.feeds import http_access
from node.feeds.http_access import ASSERTION_S_MAX, ASSERTION_TYPE, TOKEN_S, Access
from tests.fhir_rig import OBSERVATION, PATIENT, bundle, connect, dumped, fhir_node
from tests.gateway_rig import Realm

AUDIENCE = "https://clinic-7.example/fhir/auth/token"
EC, RSA = ECKey.generate_key("P-384", {"kid": "e1"}), RSAKey.generate_key(2048, {"kid": "r1"})
STRANGER = ECKey.generate_key("P-384", {"kid": "e1"})
NOW_S = 1_900_000_000
TOKEN = "a-token-of-the-test"
UNSYNCED = "import node.clock as c; c.SystemClock.trust = lambda self: c.Trust(c.UNSURE, c.ERROR_US_MAX)"


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    seconds: float = 100.0
    state: int = SYNCHRONISED

    def now_us(self):
        return int((NOW_S + self.seconds - 100.0) * 1_000_000)

    def monotonic(self):
        return self.seconds

    def trust(self):
        return Trust(self.state, 0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def access(tmp_path, clock):
    return make_access(tmp_path, clock)


def make_access(folder, clock):
    file = folder / "lab.jwks.json"
    file.write_text(json.dumps(KeySet([EC, RSA]).as_dict(private=False)))
    feed = Fhir(
        name="app", kind="fhir", listen=("127.0.0.1:0",), clients=({"id": "lab", "jwks": str(file)},),
        tokens=({"name": "triage", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()},),
    )  # fmt: skip
    return Access(feed, audience=AUDIENCE, clock=clock)


def claims(**changes):
    found = {
        "iss": "lab",
        "sub": "lab",
        "aud": AUDIENCE,
        "exp": NOW_S + 240,
        "iat": NOW_S,
        "jti": f"j-{time.monotonic_ns()}",
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def assertion(key=EC, *, alg="ES384", header=None, **changes):
    return jwt.encode(
        {"alg": alg, "kid": key.kid, "typ": "JWT", **(header or {})}, claims(**changes), key, algorithms=[alg]
    )


def form(signed=None, *, scope="system/*.cu", **changes):
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "scope": scope,
        "client_assertion": signed or assertion(),
    }
    return urlencode({**fields, **changes}).encode()


def bearer(answer):
    return f"Bearer {answer['access_token']}"


# ---- tokens ---------------------------------------------------------------------------------------------------------------
def test_a_token_of_the_configuration_gets_in_and_no_other(access):
    assert access.grant(f"Bearer {TOKEN}").name == "triage"
    assert access.grant(f"bearer {TOKEN}").name == "triage"
    for wrong in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer é"):
        with pytest.raises(NoAccess):
            access.grant(wrong)


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES384"), (RSA, "RS384")])
def test_a_client_that_signs_gets_a_token_that_lives_five_minutes(access, clock, key, alg):
    answer = access.issue(form(assertion(key, alg=alg)))
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("bearer", TOKEN_S, "system/*.cu")
    assert access.grant(bearer(answer)).name == "lab"
    clock.seconds += TOKEN_S + 1
    with pytest.raises(NoAccess):
        access.grant(bearer(answer))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: assertion(STRANGER), "signature"),
        (lambda: assertion(OctKey.generate_key(256, {"kid": "e1"}), alg="HS256"), "signature"),
        (lambda: assertion(RSA, alg="RS256"), "signature"),
        (lambda: assertion(header={"kid": "other"}), "signature"),
        (lambda: assertion()[:-4] + "AAAA", "signature"),
        (lambda: assertion().rsplit(".", 1)[0] + ".", "signature"),
        (lambda: assertion(iss="other"), "not known"),
        (lambda: assertion(sub="other"), "iss and sub"),
        (lambda: assertion(aud="https://elsewhere.example/token"), "aud"),
        (lambda: assertion(aud=None), "aud"),
        (lambda: assertion(exp=NOW_S - 60), "expired"),
        (lambda: assertion(exp=NOW_S + 3600), "300 seconds"),
        (lambda: assertion(exp=None), "exp"),
        (lambda: assertion(exp="soon"), "signature|exp"),
        (lambda: assertion(iat=NOW_S + 200), "future"),
        (lambda: assertion(jti=None), "jti"),
        (lambda: assertion(jti=""), "jti"),
        (lambda: assertion(jti=7), "signature|jti"),
        (lambda: "a.b", "signed"),
        (lambda: "a.b.c", "signed"),
        (lambda: "a." + "W10" + ".c", "not known"),
    ],
)
def test_an_assertion_that_is_not_good_is_refused_with_its_reason(access, make, says):
    with pytest.raises(BadAssertion, match=says):
        access.issue(form(make()))


def test_an_alg_of_none_is_refused(access):
    import base64

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    with pytest.raises(BadAssertion, match="signature"):
        access.issue(form(f"{part({'alg': 'none', 'kid': 'e1'})}.{part(claims())}."))


def test_an_assertion_is_good_once(access, clock):
    signed = assertion()
    access.issue(form(signed))
    with pytest.raises(BadAssertion, match="came before"):
        access.issue(form(signed))
    clock.seconds += ASSERTION_S_MAX
    with pytest.raises(BadAssertion):
        access.issue(form(signed))


def test_memory_of_assertions_and_tokens_is_bounded(access, clock, monkeypatch):
    monkeypatch.setattr(http_access, "USED_MAX", 3)
    monkeypatch.setattr(http_access, "TOKENS_MAX", 2)
    answers = [access.issue(form()) for _ in range(3)]
    with pytest.raises(NoAccess):
        access.grant(bearer(answers[0]))  # the oldest went
    assert access.grant(bearer(answers[2])).name == "lab"
    with pytest.raises(BadAssertion, match="Too many"):
        access.issue(form())
    clock.seconds += 1000
    access.issue(form(assertion(exp=NOW_S + 1100, iat=NOW_S + 1000)))


def test_a_clock_that_is_not_kept_stops_no_client(tmp_path):
    clock = Clock(state=UNSURE)
    access = make_access(tmp_path, clock)
    access.issue(form(assertion(exp=NOW_S - 10**8, iat=NOW_S - 10**8)))
    with pytest.raises(BadAssertion, match="signature"):
        access.issue(form(assertion(STRANGER)))


@pytest.mark.parametrize(
    ("scope", "granted", "types"),
    [
        ("system/*.write", "system/*.write", set()),
        ("system/*.*", "system/*.cu", set()),
        ("system/*.cruds", "system/*.cu", set()),
        (
            "system/Patient.cu system/Observation.write",
            "system/Patient.cu system/Observation.write",
            {"Patient", "Observation"},
        ),
        ("system/*.read system/Patient.cu openid", "system/Patient.cu", {"Patient"}),
        ("system/*.read", None, None),
        ("system/*.c", None, None),
        ("user/*.write", None, None),
        ("", None, None),
        ("system/Patent.write", None, None),
    ],
)
def test_only_what_lets_a_client_write_is_granted(access, scope, granted, types):
    if granted is None:
        with pytest.raises(BadAssertion, match="scope"):
            access.issue(form(scope=scope))
        return
    answer = access.issue(form(scope=scope))
    assert answer["scope"] == granted
    assert access.grant(bearer(answer)).types == types


@pytest.mark.parametrize("changes", [{"grant_type": "password"}, {"client_assertion_type": "x"}])
def test_another_grant_is_refused(access, changes):
    with pytest.raises(BadAssertion):
        access.issue(form(**changes))
    with pytest.raises(BadAssertion):
        access.issue(b"\xff")
    with pytest.raises(BadAssertion):
        access.issue(b"a=1&" * 100)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys":[]}', '{"keys":[{"kty":"EC"}]}', "\xff"])
def test_a_file_that_holds_no_keys_stops_the_start(tmp_path, clock, text):
    (tmp_path / "lab.jwks.json").write_text(text, encoding="latin-1")
    feed = Fhir(
        name="app",
        kind="fhir",
        listen=("127.0.0.1:0",),
        clients=({"id": "lab", "jwks": str(tmp_path / "lab.jwks.json")},),
    )
    with pytest.raises(ClientKeysBad):
        Access(feed, audience=AUDIENCE, clock=clock)


# ---- over HTTP --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


def test_without_a_token_nothing_gets_in_but_what_a_client_needs_to_get_one(realm, tmp_path):
    (tmp_path / "lab.json").write_text(json.dumps(KeySet([EC]).as_dict(private=False)))
    lines = (
        f'url = "{AUDIENCE.removesuffix("/auth/token")}"\ntokens = [{{ name = "t", sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}" }}]\n'
        f'clients = [{{ id = "lab", jwks = "{tmp_path}/lab.json" }}]'
    )
    with fhir_node(realm, tmp_path / "n", lines=lines, before=UNSYNCED) as node, connect(node) as http:
        answer = http.call("POST", "/Patient", dumped(PATIENT))
        assert (answer.status, answer.codes, answer.headers["www-authenticate"]) == (
            401,
            ["FHR-16"],
            'Bearer realm="fhir"',
        )
        assert http.call("POST", "/Patient/$validate", dumped(PATIENT)).status == 401
        assert http.call("POST", "/Patient", dumped(PATIENT), Authorization=f"Bearer {TOKEN}").status == 201
        smart = http.call("GET", "/.well-known/smart-configuration").json
        assert (
            smart["token_endpoint"]
            == http.call("GET", "/metadata").json["rest"][0]["security"]["extension"][0]["extension"][0]["valueUri"]
            == AUDIENCE
        )
        assert {"ES384", "RS384"} <= set(smart["token_endpoint_auth_signing_alg_values_supported"])
        form_type = "application/x-www-form-urlencoded"
        refused = http.call("POST", "/auth/token", form(assertion(STRANGER)), content_type=form_type)
        assert (refused.status, refused.json["error"]) == (400, "invalid_client")
        issued = http.call("POST", "/auth/token", form(scope="system/Patient.cu"), content_type=form_type)
        assert (issued.status, issued.headers["cache-control"]) == (200, "no-store")
        mine = {"Authorization": bearer(issued.json)}
        assert http.call("PUT", "/Patient/test-1", dumped(PATIENT), **mine).status == 200
        assert http.call("POST", "/Observation", dumped(OBSERVATION), **mine).codes == ["FHR-09"]
        assert http.call("POST", "", dumped(bundle(("POST", "Observation", OBSERVATION))), **mine).codes == ["FHR-09"]
        assert http.call("POST", "/auth/token", b"a" * 20_000, content_type=form_type).status == 413
        text = node.text()
        assert TOKEN not in text
        assert issued.json["access_token"] not in text


def test_an_open_feed_has_no_token_endpoint(realm, tmp_path):
    with fhir_node(realm, tmp_path) as node, connect(node) as http:
        assert http.call("GET", "/.well-known/smart-configuration").status == 404
        assert http.call("POST", "/auth/token", form(), content_type="application/x-www-form-urlencoded").status in {
            400,
            404,
        }
