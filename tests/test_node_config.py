"""The node's configuration: each refusal says where, what, what is allowed and what was probably meant."""

from importlib import import_module
from pathlib import Path

import pytest

from node.config.addresses import Address
from node.config.config import Config, ConfigError, Problem, check, load, parse_listen, patient_feeds
from node.config.kinds import check_url
from node.config.mqtt import Mqtt
from node.config.serial import Serial
from sync.session import EARLIER_KEYS_MAX

EXAMPLES = Path(__file__).parents[1] / "docs/examples"
SMALLEST = """\
[node]
name = "clinic-7"
facility = "BH-DEMO-0007"
site = { en = "Demo Health Centre", ar = "مركز صحي تجريبي" }
data_dir = "data"
[keys]
link_key = "link.key"
link_certificate = "link.pem"
log_key = "log.key"
log_certificate = "log.pem"
ca = "ca.pem"
"""
GATEWAY = '[gateway]\nurl = "https://gateway.example"\nname = "central"\n'
FEED = '[[feeds]]\nname = "his"\nkind = "mllp"\nlisten = ["127.0.0.1:2575"]\n'
LINES = SMALLEST.count("\n")


@pytest.fixture
def loaded(tmp_path):
    def load_text(text: str) -> Config:
        file = tmp_path / "node.toml"
        file.write_text(text, encoding="utf-8")
        return load(file)

    return load_text


@pytest.fixture
def problems(tmp_path):
    def problems_of(text: str | bytes) -> list[Problem]:
        file = tmp_path / "node.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError) as refusal:
            load(file)
        return refusal.value.problems

    return problems_of


def test_the_example_loads():
    config = load(EXAMPLES / "node.toml")
    assert [(feed.name, feed.kind) for feed in config.feeds] == [
        ("his", "mllp"),
        ("laboratory", "mllp"),
        ("app", "fhir"),
        ("documents", "soap"),
        ("urine-strips", "line"),
    ]
    assert config.keys.ca == EXAMPLES / "pki/ca.pem"
    assert config.feeds[1].check.required == ("PID-3", "OBR-4.1")


def test_every_key_that_exists_is_in_the_example_or_told_on_a_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in EXAMPLES.parent.glob("*.md"))
    text = (EXAMPLES / "node.toml").read_text(encoding="utf-8")

    def keys(model):
        for name, field in model.model_fields.items():
            yield name
            for inner in str(field.annotation).replace("[", " ").replace("]", " ").replace(",", " ").split():
                module, _, table = inner.rpartition(".")
                if module.startswith("node.config."):
                    table = getattr(import_module(module), table)
                    yield from keys(table) if hasattr(table, "model_fields") else ()
            if hasattr(field.annotation, "model_fields"):
                yield from keys(field.annotation)

    told = {key for key in keys(Config) if f"`{key}" in pages or f"{key} =" in pages}
    assert [key for key in keys(Config) if key not in text and key not in told] == []


def test_the_smallest_configuration_has_the_link_off_and_defaults(loaded):
    config = loaded(SMALLEST)
    assert config.gateway is None
    assert config.outbox.quota_bytes == 4096 * 1024 * 1024
    assert config.web.listen == ("127.0.0.1", 8480)
    assert config.streams == ()


def test_a_feed_has_its_own_stream_in_lane_routine_and_serves_loopback_only(loaded):
    config = loaded(SMALLEST + FEED)
    (feed,) = config.feeds
    assert feed.stream == "his"
    assert [(stream.name, stream.lane) for stream in config.streams] == [("his", "routine")]
    assert [str(network) for network in feed.allow] == ["127.0.0.0/8", "::1/128"]
    assert feed.frame_bytes_max == 16 * 1024 * 1024


def test_a_declared_stream_keeps_its_lane_and_stands_once(loaded):
    config = loaded(SMALLEST + '[[streams]]\nname = "his"\nlane = "critical"\n' + FEED)
    assert [(stream.name, stream.lane) for stream in config.streams] == [("his", "critical")]


def test_a_value_cannot_be_changed(loaded):
    with pytest.raises(ValueError, match="frozen"):
        loaded(SMALLEST).node.name = "other"


def test_relative_paths_start_at_the_files_folder(loaded, tmp_path):
    config = loaded(SMALLEST.replace('"log.pem"', '"/etc/wasl/log.pem"'))
    assert config.node.data_dir == tmp_path / "data"
    assert config.keys.log_certificate == Path("/etc/wasl/log.pem")


@pytest.mark.parametrize(
    ("text", "line", "key", "nearest"),
    [
        ("[ouutbox]\n" + SMALLEST, 1, "ouutbox", "outbox"),
        (SMALLEST.replace("facility =", "faclity ="), 3, "node.faclity", "facility"),
        (SMALLEST.replace("en =", "eng ="), 4, "node.site.eng", "en"),
        (SMALLEST + 'log_keys = "x"\n', LINES + 1, "keys.log_keys", "log_key"),
        (SMALLEST + GATEWAY + "conect_s_max = 3\n", LINES + 4, "gateway.conect_s_max", "connect_s_max"),
        (SMALLEST + "[outbox]\n\n# none\nqouta_mb = 4\n", LINES + 4, "outbox.qouta_mb", "quota_mb"),
        (SMALLEST + 'outbox.quota_gb = "4"\n', LINES + 1, "keys.outbox", ""),
        (SMALLEST + '[web]\nlisten_on = "[::]:80"\n', LINES + 2, "web.listen_on", "listen"),
        (SMALLEST + "[log]\nlevels = 1\n", LINES + 2, "log.levels", "level"),
        (SMALLEST + '[[streams]]\nname = "a"\nlanes = "bulk"\n', LINES + 3, "streams[a].lanes", "lane"),
        (SMALLEST + FEED + "idle_s = 3\n", LINES + 5, "feeds[his].idle_s", "idle_s_max"),
        (SMALLEST + FEED + '[feeds.tls]\ncertificate="c"\nkey="k"\nca="a"\n', LINES + 8, "feeds[his].tls.ca", "client_ca"),
        (SMALLEST + FEED + FEED.replace("his", "b").replace("75", "76") + "[feeds.check]\ntype = []\n", LINES + 10, "feeds[b].check.type", "types"),
        (SMALLEST + FEED + 'allow = [\n  "::1/128", # [\n]\n"kinds" = """\n[x]\n"""\n', LINES + 8, "feeds[his].kinds", "kind"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_key(problems, text, line, key, nearest):
    (problem,) = [each for each in problems(text) if each.message == "unknown key"]
    assert (problem.line, problem.key, problem.nearest) == (line, key, nearest)
    assert problem.file.endswith("node.toml")
    assert not nearest or nearest in problem.allowed


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        (SMALLEST.replace("clinic-7", "Clinic 7"), 2, "node.name", "must be a name"),
        (SMALLEST + FEED.replace("his", "wasl"), LINES + 2, "feeds[wasl].name", "must not be"),
        (SMALLEST.replace("BH-DEMO-0007", "x" * 65), 3, "node.facility", "1 to 64"),
        (SMALLEST.replace(', ar = "مركز صحي تجريبي"', ""), 4, "node.site.ar", "is missing"),
        (SMALLEST.replace('"link.key"', '"""-----BEGIN KEY-----\nabc"""'), 7, "keys.link_key", "never what the file holds"),
        (SMALLEST + GATEWAY.replace("https", "http"), LINES + 2, "gateway.url", "https://"),
        (SMALLEST + GATEWAY.replace("//gate", "//user:secret@gate"), LINES + 2, "gateway.url", "no user"),
        (SMALLEST + "[outbox]\nquota_mb = 1.5\n", LINES + 2, "outbox.quota_mb", "whole number from 16"),
        (SMALLEST + "[outbox]\nquota_mb = true\n", LINES + 2, "outbox.quota_mb", "whole number"),
        (SMALLEST + '[outbox]\nquota_mb = "64"\n', LINES + 2, "outbox.quota_mb", "whole number"),
        (SMALLEST + "[outbox]\nquota_mb = 15\n", LINES + 2, "outbox.quota_mb", "whole number from 16"),
        (SMALLEST + '[web]\nlisten = "::1:80"\n', LINES + 2, "web.listen", "in brackets"),
        (SMALLEST + FEED.replace("mllp", "fhirr"), LINES + 3, "feeds[his].kind", "did you mean fhir?"),
        (SMALLEST + '[log]\nlevel = "warn"\n', LINES + 2, "log.level", "did you mean warning?"),
        (SMALLEST + '[[streams]]\nname = "a"\nlane = "urgent"\n', LINES + 3, "streams[a].lane", "critical, routine, bulk"),
        (SMALLEST + FEED.replace('["127.0.0.1:2575"]', "[]"), LINES + 4, "feeds[his].listen", "must not be empty"),
        (SMALLEST + FEED.replace('["127.0.0.1:2575"]', '"x:1"'), LINES + 4, "feeds[his].listen", "must be a list"),
        (SMALLEST + FEED.replace("2575", "65536"), LINES + 4, "feeds[his].listen[#1]", "port from 0 to 65535"),
        (SMALLEST + FEED + 'allow = ["10.1.2.3/8"]\n', LINES + 5, "feeds[his].allow[#1]", 'write "10.0.0.0/8"'),
        (SMALLEST + FEED + 'allow = ["everyone"]\n', LINES + 5, "feeds[his].allow[#1]", "must be a network"),
        (SMALLEST + FEED + "frame_mb_max = 0\n", LINES + 5, "feeds[his].frame_mb_max", "from 1 to 512"),
        (SMALLEST + FEED + "check = 5\n", LINES + 5, "feeds[his].check", "must be a table; allowed: senders"),
        (SMALLEST + FEED + '[feeds.check]\nsenders = ["LAB"]\n', LINES + 6, "feeds[his].check.senders[#1]", "APPLICATION|FACILITY"),
        (SMALLEST + FEED + '[feeds.check]\ntypes = ["ADT_A01"]\n', LINES + 6, "feeds[his].check.types[#1]", "ADT^A01"),
        (SMALLEST + FEED + '[feeds.check]\nversions = ["v2"]\n', LINES + 6, "feeds[his].check.versions[#1]", "2.5.1"),
        (SMALLEST + FEED + '[feeds.check]\nprocessing_ids = [""]\n', LINES + 6, "feeds[his].check.processing_ids[#1]", "0103"),
        (SMALLEST + FEED + '[feeds.check]\nrequired = ["PID3"]\n', LINES + 6, "feeds[his].check.required[#1]", "PID-3"),
        (SMALLEST + FEED + FEED.replace("2575", "2576"), LINES + 6, "feeds[his].name", f"already, on line {LINES + 2}"),
        (SMALLEST + '[[streams]]\nname = "a"\n' * 2, LINES + 4, "streams[a].name", f"already, on line {LINES + 2}"),
        (SMALLEST + FEED + FEED.replace("his", "b"), LINES + 8, "feeds[b].listen", f"line {LINES + 4}"),
        (SMALLEST + FEED + FEED.replace("his", "b").replace("127.0.0.1", "0.0.0.0"), LINES + 8, "feeds[b].listen", "on already"),
        (SMALLEST + '[web]\nlisten = "[::]:2575"\n' + FEED.replace("127.0.0.1", "[::1]"), LINES + 6, "feeds[his].listen", "on already"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_line_and_what_is_right(problems, text, line, key, says):
    (problem,) = problems(text)
    assert (problem.line, problem.key) == (line, key)
    assert says in str(problem)


def test_ipv4_and_ipv6_listeners_may_share_a_port(loaded):
    config = loaded(
        SMALLEST + FEED.replace('"127.0.0.1:2575"', '"0.0.0.0:2575", "[::]:2575", "127.0.0.1:0", "127.0.0.1:0"')
    )
    assert len(config.feeds[0].listen) == 4


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (b"[node]\nname = \n", 2, "not TOML"),
        (b"[node]\n\nname = 'x'\n[node]\n", 4, "not TOML"),
        (b"[node]\nname = 'x", 2, "not TOML"),
        (b"[node]\r\nname = 'x'\r\n\xff\r\n", 3, "not UTF-8"),
        (b"x = " + b"[" * 100_000, 0, "nested too deeply"),
        (b"#" * (1024 * 1024 + 1), 0, "is larger than"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_line(problems, text, line, says):
    (problem,) = problems(text)
    assert problem.line == line
    assert says in problem.message


def test_an_absent_file_is_one_problem_without_a_line(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_all_problems_are_told_at_once_in_the_order_of_the_lines(problems):
    found = problems(SMALLEST.replace("clinic-7", "C 7") + "[[feeds]]\nkind = 'telex'\n[log]\nlevel = 'loud'\n")
    assert [(problem.line, problem.key) for problem in found] == [
        (2, "node.name"),
        (LINES + 1, "feeds[#1].name"),
        (LINES + 2, "feeds[#1].kind"),
        (LINES + 4, "log.level"),
    ]


def test_a_pasted_secret_is_not_repeated(problems):
    (problem,) = problems(SMALLEST.replace('"log.key"', '"""-----BEGIN PRIVATE KEY-----\nSECRET"""'))
    assert "SECRET" not in str(problem)


def test_a_problem_prints_as_file_line_key_message():
    problem = Problem(file="a.toml", line=3, key="log.level", message="bad", allowed=("x", "y"), nearest="x")
    assert str(ConfigError([problem])) == "a.toml:3 log.level: bad; allowed: x, y; did you mean x?"


def test_check_names_the_files_that_cannot_be_read(tmp_path):
    file = tmp_path / "node.toml"
    file.write_text(SMALLEST, encoding="utf-8")
    for name in ("link.key", "link.pem", "log.key", "ca.pem"):
        (tmp_path / name).touch()
    assert [(problem.line, problem.key) for problem in check(file)] == [(10, "keys.log_certificate")]
    (tmp_path / "log.pem").touch()
    assert check(file) == []


EARLIER = '[[keys.previous]]\nlog_key = "old.key"\nlog_certificate = "old.pem"\n'


def test_earlier_log_key_is_two_files_that_check_opens(tmp_path, loaded):
    config = loaded(SMALLEST + EARLIER)
    assert [each.log_key for each in config.keys.previous] == [tmp_path / "old.key"]
    for name in ("link.key", "link.pem", "log.key", "log.pem", "ca.pem", "old.pem"):
        (tmp_path / name).touch()
    (problem,) = check(tmp_path / "node.toml")
    assert (problem.line, problem.key) == (LINES + 2, "keys.previous[#1].log_key")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[[keys.previous]]\nlog_key = "old.key"\n', "keys.previous[#1].log_certificate"), (EARLIER + 'ca = "x"\n', "keys.previous[#1].ca"),
        (EARLIER * (EARLIER_KEYS_MAX + 1), "keys.previous"),
    ],
    ids=["without its certificate", "with more", "too many"],
)  # fmt: skip
def test_earlier_log_key_in_another_form_is_refused(problems, text, key):
    assert [problem.key for problem in problems(SMALLEST + text)] == [key]


def test_check_returns_the_problems_that_load_raises(tmp_path):
    file = tmp_path / "node.toml"
    file.write_text(SMALLEST + "[logs]\n", encoding="utf-8")
    assert [problem.nearest for problem in check(file)] == ["log"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:2575", "127.0.0.1", 2575), ("[::1]:0", "::1", 0), ("[0:0::0]:1", "::", 1), ("localhost:8080", "localhost", 8080)],
)  # fmt: skip
def test_an_address_is_read(text, host, port):
    assert parse_listen(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a",
        "a:",
        "a:b",
        "a:-1",
        "a:٣",
        "a:99999999999",
        "[::1]",
        "[x]:1",
        "::1:1",
        "a b:1",
        "[::1:1",
        "a..b:1",
        f"{64 * 'a'}:1",
    ],
)
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="must"):
        parse_listen(text)


@pytest.mark.parametrize("host", ["analyzer..clinic", f"{64 * 'a'}.clinic", ".clinic"])
def test_a_host_that_no_name_can_be_is_refused_wherever_it_stands_and_ends_no_thread_that_looks_it_up(host):
    for made in (
        lambda: Serial(port=f"socket://{host}:4001"),
        lambda: Mqtt.model_validate(
            {"name": "ward", "kind": "mqtt", "broker": f"mqtt://{host}", "client_id": "a", "topics": [{"filter": "a"}]}
        ),
        lambda: check_url(f"https://{host}/x", "https"),
        lambda: parse_listen(f"{host}:1"),
    ):
        with pytest.raises(ValueError, match=r"host|HOST"):
            made()


def test_an_address_is_written_as_it_is_read():
    for text in ("[::1]:2575", "127.0.0.1:2575"):
        assert str(parse_listen(text)) == text
    assert not Address("::", 1).clashes(Address("0.0.0.0", 1))


def test_only_a_feed_that_can_wait_and_brings_nothing_but_bulk_is_paused_while_the_disk_fills(loaded):
    feeds = {
        "scans": "", "stays": "can_wait = false\n", "mixed": '[[feeds.routes]]\ntypes = ["ADT^*"]\nstream = "his"\n', "his": "",
        "tested": 'test_stream = "tried"\n',
    }  # fmt: skip
    text = "".join(f'[[streams]]\nname = "{name}"\nlane = "bulk"\n' for name in feeds if name != "his")
    for port, (name, lines) in enumerate(feeds.items(), 2600):
        text += f'[[feeds]]\nname = "{name}"\nkind = "mllp"\nlisten = ["127.0.0.1:{port}"]\n{lines}'
    assert patient_feeds(loaded(SMALLEST + text)) == {"scans", "tested"}
