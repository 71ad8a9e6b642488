"""The gateway's configuration: read whole or refused with every problem."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, Token, load, parse_listen

EXAMPLE = Path(__file__).parents[1] / "docs/examples/gateway.toml"


@pytest.fixture
def refusal(tmp_path):
    def refusal_of(text: str) -> str:
        file = tmp_path / "gateway.toml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as refused:
            load(file)
        return str(refused.value)

    return refusal_of


def test_the_example_loads():
    config = load(EXAMPLE)
    assert config.sync.listen == ("0.0.0.0", 8443)
    assert config.cosign.key == EXAMPLE.parent / "pki/cosign.key"
    assert config.tokens[0].release is False


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("data_dir", "data_folder", "gateway.data_folder: Extra inputs are not permitted"),
        ("data_dir", "data_folder", "gateway.data_dir: Field required"),
        ('"central"', '"Central"', "gateway.name:"),
        ('"0.0.0.0:8443"', '"::8443"', "sync.listen:"),
        ('"pki/ca.pem"', "5", "sync.ca:"),
        ("release = false", 'release = "no"', "tokens[0].release:"),
        ('sha256 = "0', 'sha256 = "X', "tokens[0].sha256:"),
        ("[cosign]", "[cosign", "gateway.toml: "),
    ],
)
def test_what_is_wrong_is_refused_with_its_key(refusal, old, new, says):
    assert says in refusal(EXAMPLE.read_text(encoding="utf-8").replace(old, new, 1))


@pytest.mark.parametrize(
    "second", ['name="health-record"\nsha256="' + "1" * 64 + '"', 'name="b"\nsha256="' + "0" * 64 + '"']
)
def test_two_consumers_never_share_a_name_or_a_token(refusal, second):
    assert "must differ" in refusal(EXAMPLE.read_text(encoding="utf-8") + f"[[tokens]]\n{second}\n")


def test_an_absent_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")


def test_only_the_token_itself_is_admitted():
    token = Token(name="a", sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
    assert token.admits("test")
    assert not token.admits("Test")
    assert not token.admits(token.sha256)


@pytest.mark.parametrize("text", ["", "a", "a:65536", "[::x]:1", "[12]:1", "::1:1"])
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_listen(text)
