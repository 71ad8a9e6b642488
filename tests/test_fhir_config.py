"""The table of a FHIR feed: each refusal says where, what, and what is allowed; the example shows every key."""

from pathlib import Path

import pytest

from hl7.fhir import Strictness
from node.config.config import ConfigError, check, load
from node.config.fhir import Client, Fhir
from node.config.http import Token
from tests.test_node_config import SMALLEST

EXAMPLE = Path(__file__).parents[1] / "docs/examples/node.toml"
FEED = '[[feeds]]\nname = "app"\nkind = "fhir"\nlisten = ["127.0.0.1:8090"]\n'
SHA256 = "0" * 64


@pytest.fixture
def file(tmp_path):
    return tmp_path / "node.toml"


def loaded(file, more=""):
    file.write_text(SMALLEST + FEED + more, encoding="utf-8")
    return load(file).feeds[0]


def refused(file, more):
    with pytest.raises(ConfigError) as refusal:
        loaded(file, more)
    (problem,) = refusal.value.problems
    return problem


def test_the_smallest_feed_is_normal_open_on_loopback_and_known_under_fhir(file):
    feed = loaded(file)
    assert isinstance(feed, Fhir)
    assert (feed.stream, feed.how_strict, feed.base_path, feed.body_bytes_max) == (
        "app",
        Strictness.NORMAL,
        "/fhir",
        16 * 1024 * 1024,
    )
    assert (feed.tokens, feed.clients, feed.types, feed.validate_one_in) == ((), (), (), 0)


def test_the_example_shows_every_key_of_a_fhir_feed():
    text = EXAMPLE.read_text(encoding="utf-8").partition('kind = "fhir"')[2]
    assert [key for table in (Fhir, Token, Client) for key in table.model_fields if f"{key} =" not in text and key not in {
        "name", "kind", "stream", "tls", "tokens", "clients"}] == []  # fmt: skip
    feed = load(EXAMPLE).feeds[2]
    assert (feed.base_path, feed.tokens[0].name, feed.clients[0].id) == ("/fhir", "triage-app", "laboratory-system")


@pytest.mark.parametrize(
    ("more", "key", "says"),
    [
        ("body_mb = 3\n", "feeds[app].body_mb", "unknown key; allowed: name, stream, listen, allow, tls"),
        ("frame_mb_max = 3\n", "feeds[app].frame_mb_max", "unknown key"),
        ('strictness = "very"\n', "feeds[app].strictness", 'does not take "very"; allowed: lenient, normal, strict'),
        ('types = ["Patent"]\n', "feeds[app].types[#1]", "resource type of FHIR R4"),
        ('url = "fhir.example"\n', "feeds[app].url", "https://"),
        ('url = "https://a/b?c=d"\n', "feeds[app].url", "plain path"),
        ('url = "https://a:x/"\n', "feeds[app].url", "must be a URL"),
        ("body_mb_max = 0\n", "feeds[app].body_mb_max", "from 1 to 512"),
        ('tokens = [{ name = "t", sha256 = "secret" }]\n', "feeds[app].tokens[t].sha256", "never the token itself"),
        ('tokens = [{ name = "t", sha = "x" }]\n', None, None),
    ],
)
def test_a_wrong_value_is_told_with_its_key(file, more, key, says):
    if key is None:
        with pytest.raises(ConfigError) as refusal:
            loaded(file, more)
        assert {problem.key for problem in refusal.value.problems} == {
            "feeds[app].tokens[t].sha",
            "feeds[app].tokens[t].sha256",
        }
        return
    problem = refused(file, more)
    assert problem.key == key
    assert says in str(problem)


@pytest.mark.parametrize(
    "listen", ['"0.0.0.0:8090"', '"127.0.0.1:8090", "[::]:8090"', '"192.0.2.7:8090"', '"clinic.example:8090"']
)
def test_tokens_cross_a_network_over_tls_only(file, listen):
    text = FEED.replace('"127.0.0.1:8090"', listen) + f'tokens = [{{ name = "t", sha256 = "{SHA256}" }}]\n'
    file.write_text(SMALLEST + text, encoding="utf-8")
    with pytest.raises(ConfigError, match="must have TLS where tokens cross a network"):
        load(file)
    file.write_text(SMALLEST + text + '[feeds.tls]\ncertificate = "c"\nkey = "k"\n', encoding="utf-8")
    assert load(file).feeds[0].tls is not None


def test_check_names_a_clients_keys_that_are_not_there(file):
    loaded(file, 'clients = [{ id = "lab", jwks = "lab.json" }]\n')
    assert "feeds[app].clients[#1].jwks" in {problem.key for problem in check(file)}


def test_the_path_of_the_url_is_the_base(file):
    assert loaded(file, 'url = "https://clinic.example/a/r4/"\n').base_path == "/a/r4"
    assert loaded(file, 'url = "https://clinic.example"\n').base_path == ""
