"""The demo as a newcomer runs it: real processes, real sockets, real kills. The tests run in the order of the story."""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import urllib3
from click.testing import CliRunner
from paho.mqtt import publish
from playwright.sync_api import sync_playwright

from node.cli.main import main
from node.devices.evidence import unpacked
from node.tools.demo_devices import DEVICES
from node.tools.demo_ports import RANGE, PortTaken, reserve
from node.tools.demo_words import WORDS
from node.tools.hospital import Hospital
from node.tools.mllp_client import MllpClient, parse_address
from tests import fhir_oracle
from tests.ports import DEMO_PORTS, share

CHROMIUM = "/usr/bin/chromium"
TARGET_PX = 44
PATIENCE_S = 90  # for a busy machine; nothing here asserts how fast anything is
FEEDS = {"his": "ADT", "laboratory": "ORU", "orders": "ORM"}

PROFILES = {
    "analyzer": "sysmex-xn", "haematology": "horiba-micros60", "monitors": "monitor-pcd01", "meters": "abbott-istat", "urine": "urine-strip-lines",
    "fridges": "fridge-modbus", "files": "qpcr-csv", "vitals": "vitals-mqtt",
}  # fmt: skip

KINDS = {"fhir": "fhir", **{device.name: device.kind for device in DEVICES}}


def until(true, what: str):
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


def free_base() -> int:
    ports = share(DEMO_PORTS)
    first = os.getpid() % (len(ports) // RANGE)
    for place in range(len(ports) // RANGE):
        base = ports[(first + place) % (len(ports) // RANGE) * RANGE]
        with contextlib.suppress(PortTaken):
            _, page = reserve(base)
            page.close()
            return base
    raise AssertionError("no free ports")


class Demo:
    """One `wasl demo` process."""

    def __init__(self, folder: Path, base: int, http: urllib3.PoolManager, **environment: str) -> None:
        self.folder, self.http = folder, http
        self.printed = folder.with_name(f"{folder.name}.out")
        with self.printed.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node.cli", "demo", "--port-base", str(base)],
                env={**os.environ, "WASL_DEMO_DIR": str(folder), "WASL_DEMO_FEEDS": "", **environment},
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        until(self.is_announced, "demo.json")
        self.page = f"http://127.0.0.1:{base}"

    def is_announced(self) -> bool:
        assert self.process.poll() is None, self.printed.read_text()
        return (self.folder / "demo.json").exists()

    @property
    def document(self) -> dict:
        return json.loads((self.folder / "demo.json").read_text())

    def get(self, url: str, **headers: str) -> urllib3.BaseHTTPResponse:
        return self.http.request("GET", url, headers=headers)

    def facts(self) -> dict:
        return self.get(f"{self.page}/api/demo").json()

    def press(self, button: str) -> None:
        answer = self.http.request("POST", f"{self.page}/do/{button}", headers={"Origin": self.page})
        assert answer.status == 204

    def status(self) -> dict:
        answer = self.get(f"{self.document['node']['web']}/api/status")
        return answer.json() if answer.status == 200 else {"link": {}, "totals": {"waiting": 0}}

    def records(self, stream: str) -> list[dict]:
        gateway, node = self.document["gateway"], self.document["node"]["name"]
        url = f"{gateway['api']}/v1/nodes/{node}/streams/{stream}/records"
        answer = self.get(url, Authorization=f"Bearer {gateway['token']}")
        return [json.loads(line) for line in answer.data.splitlines()] if answer.status == 200 else []

    def evidence(self, stream: str, record: dict) -> bytes:
        gateway, node = self.document["gateway"], self.document["node"]["name"]
        url = f"{gateway['api']}/v1/nodes/{node}/streams/{stream}/records/{record['epoch']}/{record['seq']}/evidence"
        answer = self.get(url, Authorization=f"Bearer {gateway['token']}")
        assert answer.status == 200
        return answer.data

    def settled(self, more: int = 0) -> dict:
        """The facts once `more` were sent from now on and all are confirmed."""
        wanted = self.facts()["sent"] + more

        def is_settled() -> dict | None:
            facts = self.facts()
            return facts if facts["sent"] >= wanted and facts["sent"] == facts["confirmed"] else None

        return until(is_settled, f"{wanted} messages confirmed")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def http():
    with urllib3.PoolManager(retries=3, timeout=10) as pool:
        yield pool


@pytest.fixture(scope="module")
def demo(tmp_path_factory, http):
    running = Demo(tmp_path_factory.mktemp("demo") / "data", free_base(), http)
    yield running
    running.end()


def assert_each_once(demo: Demo) -> None:
    """In each stream positions have no gap, and the hospital's numbers only rise."""
    for stream in FEEDS:
        found = demo.records(stream)
        assert [record["seq"] for record in found] == list(range(len(found)))
        sent = [int(record["control_id"].rpartition("-")[2]) for record in found if record["control_id"]]
        assert sent
        assert sent == sorted(set(sent)), f"{stream} is out of order or doubled"
    facts = demo.facts()
    assert (facts["lost"], facts["doubled"]) == (0, 0)


def test_demo_json_is_there_when_all_is_ready_and_has_its_shape(demo):
    document = demo.document
    assert demo.get(f"{document['node']['web']}/readyz").status == 200
    assert demo.get(f"{document['gateway']['api']}/healthz").status == 200
    assert (demo.folder / "demo.json").stat().st_mode & 0o777 == 0o600
    assert set(document) == {"data_dir", "node", "gateway"}
    assert document["data_dir"] == str(demo.folder)
    assert set(document["node"]) == {"name", "pid", "web", "feeds"}
    assert set(document["gateway"]) == {"pid", "api", "token"}
    for name, feed in document["node"]["feeds"].items():
        kind = KINDS.get(name, "mllp")
        assert feed == {"kind": kind, "stream": name, "address": feed["address"]}
        starts = {
            "fhir": "http://127.0.0.1:",
            "files": str(demo.folder),
            "haematology": str(demo.folder),
            "vitals": "mqtt://127.0.0.1:",
        }
        start = starts.get(name, "127.0.0.1:")
        assert feed["address"].startswith(start)
    assert set(document["node"]["feeds"]) == {*FEEDS, "fhir", *(device.name for device in DEVICES)}
    assert demo.status()["core"]["pid"] == document["node"]["pid"]
    assert (demo.folder / "token").stat().st_mode & 0o777 == 0o600
    assert document["gateway"]["token"] not in (demo.folder / "gateway.toml").read_text()


def test_one_link_is_printed(demo):
    printed = until(lambda: "http" in demo.printed.read_text() and demo.printed.read_text(), "the link")
    assert re.findall(r"https?://\S+", printed) == [f"{demo.page}/"]


def test_traffic_is_confirmed_in_order_each_kind_on_its_stream(demo):
    until(lambda: all(demo.records(stream) for stream in FEEDS), "a record of each stream")
    facts = demo.settled(more=6)
    assert facts["sent"] == facts["confirmed"] > 5
    for stream, code in FEEDS.items():
        assert {record["type"].partition("^")[0] for record in demo.records(stream)} == {code}
    assert_each_once(demo)


@pytest.mark.parametrize("name", [device.name for device in DEVICES])
def test_what_each_device_says_is_at_the_centre_as_it_was_said(demo, name):
    first = until(lambda: demo.records(name), f"a record of {name}")[0]
    assert base64.b64decode(first["body"])
    assert first["verdict"] in {"accepted", "accepted-with-warning"}


@pytest.mark.parametrize(("name", "profile"), [(device.name, PROFILES[device.name]) for device in DEVICES])
def test_the_evidence_of_what_each_device_says_becomes_fhir_by_the_profile_that_its_record_names(demo, tmp_path, name, profile):  # fmt: skip
    def results() -> list[dict]:
        return [each for each in demo.records(name) if each["kind"] == "message" and not each["type"].startswith(("HEL", "DST"))]  # fmt: skip

    evidence = demo.evidence(name, until(results, f"a result of {name}")[0])
    file = tmp_path / "record.evidence"
    file.write_bytes(evidence)
    assert unpacked(evidence).profile == profile
    done = CliRunner().invoke(main, ["convert", str(file)])
    assert done.exit_code == 0, done.output
    bundle = json.loads(done.stdout)
    assert bundle["resourceType"] == "Bundle"
    resources = [entry["resource"] for entry in bundle["entry"]]
    assert "Observation" in {each["resourceType"] for each in resources}
    fhir_oracle.need()
    assert [each for each in fhir_oracle.errors_of([json.dumps(each) for each in resources]) if each] == []


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_page_speaks_both_languages_and_loads_nothing_from_outside(demo, lang):
    answer = demo.get(f"{demo.page}/?lang={lang}")
    text = answer.data.decode()
    assert f'<html lang="{lang}" dir="{"rtl" if lang == "ar" else "ltr"}"' in text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; frame-src http://127.0.0.1:")
    addresses = re.findall(r"\s(?:src|href|action)=\"([^\"]*)", text)
    assert addresses
    assert [found for found in addresses if not found.startswith(("/", "?", "#", "http://127.0.0.1:"))] == []
    assert demo.document["gateway"]["token"] not in text


def test_buttons_obey_the_demos_own_page_only(demo):
    url = f"{demo.page}/do/cut"
    for headers in ({}, {"Origin": "http://elsewhere.example"}, {"Origin": demo.document["node"]["web"]}):
        assert demo.http.request("POST", url, headers=headers).status == 403
    assert demo.http.request("POST", url, headers={"Host": "x.example", "Origin": "http://x.example"}).status == 421
    assert demo.http.request("POST", f"{demo.page}/do/nothing", headers={"Origin": demo.page}).status == 404
    for other in (demo.document["node"]["web"], demo.document["gateway"]["api"]):
        assert demo.http.request("POST", f"{other}/do/cut", headers={"Origin": other}).status in {404, 405}
    assert demo.facts()["linked"]


@pytest.mark.parametrize(("lang", "theme", "width"), [("en", "light", 1280), ("ar", "dark", 360)])
def test_page_fits_is_silent_and_its_buttons_work(demo, lang, theme, width):
    if not Path(CHROMIUM).exists():
        assert not os.environ.get("CI"), f"{CHROMIUM} is missing"
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    wrongs = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        page.on(
            "console", lambda message: wrongs.append(message.text) if message.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: wrongs.append(str(error)))
        page.goto(f"{demo.page}/?lang={lang}")
        page.wait_for_selector("html[data-live]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for target in page.locator("a:visible:not(.skip), button:visible").all():
            assert min(target.bounding_box()["width"], target.bounding_box()["height"]) >= TARGET_PX
        lines = page.locator("#events li").count()
        page.click("[data-action=cut] button")
        page.wait_for_selector("html[data-link=cut][data-box=holds]")
        page.click("[data-action=restore] button")
        page.wait_for_selector("html[data-link=up][data-box=empty]")
        page.wait_for_selector("li.is-done")
        assert page.locator("#events li").count() == lines + 3  # cut, restored, drained
        chromium.close()
    assert wrongs == []


def test_cut_link_fills_the_box_and_a_restored_one_drains_it(demo):
    demo.press("cut")
    until(lambda: demo.status()["link"].get("state") == "down", "the node to see the link down")
    until(lambda: demo.status()["totals"]["waiting"] >= 10, "the box to fill")
    facts = demo.facts()
    assert not facts["linked"]
    assert facts["sent"] == facts["confirmed"] + facts["waiting"]
    demo.press("restore")
    facts = demo.settled()
    assert facts["sent"] == facts["confirmed"]
    assert_each_once(demo)


@pytest.mark.parametrize("victim", ["node", "gateway"])
def test_killed_process_is_started_again_and_nothing_acknowledged_is_missing_or_doubled(demo, victim):
    demo.press("faster")
    demo.settled(more=5)
    before = demo.document[victim]["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: demo.document[victim]["pid"] not in {before, 0}, "the new process in demo.json")
    assert psutil.pid_exists(demo.document[victim]["pid"])
    demo.settled(more=20)
    assert_each_once(demo)
    demo.press("slower")


def test_message_without_msh_is_acknowledged_kept_and_holds_up_nobody(demo):
    demo.press("headless")

    def kept() -> list[dict]:
        return [record for record in demo.records("his") if not record["control_id"]]

    (record,) = until(kept, "the message without MSH at the centre")
    assert record["verdict"] == "accepted-with-warning"
    demo.settled(more=5)


def test_a_resource_that_is_posted_to_the_demo_is_at_the_centre_and_its_evidence_converts_to_itself(demo, tmp_path):
    body = json.dumps({"resourceType": "Patient", "name": [{"text": "مريض تجريبي"}]}, ensure_ascii=False).encode()
    url = f"{demo.document['node']['feeds']['fhir']['address']}/Patient"
    answer = demo.http.request("POST", url, body=body, headers={"Content-Type": "application/fhir+json"})
    assert answer.status == 201
    (record,) = until(lambda: demo.records("fhir"), "the resource at the centre")
    assert (record["content_type"], record["type"]) == ("application/fhir+json", "Patient")
    assert base64.b64decode(record["body"]) == body
    file = tmp_path / "record.evidence"
    file.write_bytes(demo.evidence("fhir", record))
    done = CliRunner().invoke(main, ["convert", str(file)])
    assert (done.exit_code, done.stdout.encode()) == (0, body + b"\n")


def test_demo_leaves_no_process_when_it_is_stopped_and_its_state_survives(demo, http):
    settled, family = demo.settled(), demo.family()
    assert len(family) == 3 + len(DEVICES) + sum(bool(device.broker) for device in DEVICES)
    held = {stream: demo.records(stream) for stream in FEEDS}
    token, base = demo.document["gateway"]["token"], int(demo.page.rpartition(":")[2])
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(PATIENCE_S) == 0
    assert psutil.wait_procs(family, timeout=0)[1] == []
    assert not (demo.folder / "demo.json").exists()

    again = Demo(demo.folder, base, http, WASL_DEMO_FEEDS="none")
    try:
        assert again.document["gateway"]["token"] == token
        until(lambda: not again.status()["totals"]["waiting"], "what the stop had left")
        before = {stream: again.records(stream) for stream in FEEDS}
        for stream, records in held.items():
            assert before[stream][: len(records)] == records
        with MllpClient(parse_address(again.document["node"]["feeds"]["his"]["address"])) as client:
            assert client.send(Hospital(1).next_message(now=datetime.now(UTC)).raw) == "AA"
        until(lambda: len(again.records("his")) > len(before["his"]), "our own message")
        after = {stream: len(again.records(stream)) - len(before[stream]) for stream in FEEDS}
        assert after == {"his": 1, "laboratory": 0, "orders": 0}  # silent: nothing but ours
        assert again.facts()["sent"] == 0
        vitals = again.document["node"]["feeds"].get("vitals")  # silent, and yet somebody else can publish there
        if vitals is not None:
            host, port = parse_address(vitals["address"].removeprefix("mqtt://"))
            publish.single("ward/1", b"{}", qos=1, hostname=host, port=port)
            until(lambda: [each for each in again.records("vitals") if each["body"] == "e30="], "what was published")
        assert settled["sent"] > 0

        family = again.family()
        again.process.kill()
        assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []  # they die with the supervisor
    finally:
        again.end()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WASL_DEMO_FEEDS": "some"}, "WASL_DEMO_FEEDS"),
        ({"WASL_DEMO_PORT_BASE": "high"}, "WASL_DEMO_PORT_BASE"),
        ({"WASL_DEMO_PORT_BASE": "80"}, "port base"),
    ],
)
def test_what_is_not_understood_is_refused_before_anything_starts(tmp_path, environment, said):
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", "demo"], env={**os.environ, "WASL_DEMO_DIR": str(tmp_path / "d"), **environment},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 64
    assert said in done.stderr
    assert not (tmp_path / "d" / "demo.json").exists()


def test_taken_port_is_said_and_nobody_is_moved_aside(tmp_path):
    base = free_base()
    _, page = reserve(base)
    with page:
        done = subprocess.run(
            [sys.executable, "-m", "node.cli", "demo", "--port-base", str(base)],
            env={**os.environ, "WASL_DEMO_DIR": str(tmp_path / "d")},
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S,
        )  # fmt: skip
    assert done.returncode == 69
    assert f"port {base} is taken" in done.stderr


def test_range_in_use_leads_to_the_next_one(monkeypatch):
    monkeypatch.setattr("node.tools.demo_ports.BASE_DEFAULT", free_base())
    first, page = reserve(None)
    with page:
        second, other = reserve(None)
        other.close()
    assert second.base >= first.base + RANGE


def test_every_sentence_has_the_same_places_in_both_languages():
    places = re.compile(r"\{(\w+)\}")
    for key, (english, arabic) in WORDS.items():
        assert set(places.findall(english)) == set(places.findall(arabic)), key


def test_every_happening_that_is_told_has_its_sentence():
    stage = (Path(__file__).parents[1] / "node/tools/demo_stage.py").read_text()
    told = set(re.findall(r'tell\("\w+", "([\w-]+)"', stage))
    told |= {f"{name}-{what}" for name in ("node", "web", "gateway") for what in ("gone", "again", "back")}
    assert len(told) > 15
    assert {f"event-{key}" for key in told} - set(WORDS) == set()
