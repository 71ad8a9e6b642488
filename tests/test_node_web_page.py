"""The technician's page over HTTP: languages, headers, sources that fail, hostile strings."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import pytest
import urllib3

from node.web import source
from node.web.headers import HEADERS
from node.web.page import PANELS
from node.web.verdict import decide
from tests.sim_status import FACTS, Clock, Node, alarm, served, status, stream_of, waiting

PATHS = [
    "/",
    "/api/status",
    "/healthz",
    "/readyz",
    "/metrics",
    "/static/page.css",
    "/static/none.js",
    "/nowhere",
    "/openapi.json",
]


@pytest.fixture
def node():
    return Node(status())


@pytest.fixture
def ask():
    with urllib3.PoolManager(retries=False, timeout=20) as pool:

        def get(url, **headers):
            return pool.request("GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()})

        yield get


def test_the_page_says_its_verdict_in_the_language_asked_for(node, ask):
    node.document = waiting()
    with served(node) as (url, _):
        english, arabic = ask(f"{url}/?lang=en").data.decode(), ask(f"{url}/?lang=ar").data.decode()
    assert '<html lang="en" dir="ltr">' in english
    assert "Link down 12 min, 1,204 records safe here, room for 8 days" in english
    assert '<html lang="ar" dir="rtl">' in arabic
    assert "الوصلة منقطعة منذ 12 دقيقة" in arabic
    for page in (english, arabic):
        assert "Wadi Test Health Centre" in page
        assert "مركز وادي الاختبار الصحي" in page
        assert "dhofar-clinic-07" in page


def test_a_chosen_language_is_remembered_and_an_unknown_one_falls_back(node, ask):
    with served(node) as (url, _):
        chosen = ask(f"{url}/?lang=ar").headers["Set-Cookie"]
        remembered = ask(url, Cookie=chosen.partition(";")[0]).headers["Content-Language"]
        unknown = ask(f"{url}/?lang=%3Cscript%3E", Accept_Language="ar-OM")
        none = ask(url).headers["Content-Language"]
    assert (remembered, unknown.headers["Content-Language"], none) == ("ar", "ar", "en")
    assert "Set-Cookie" not in unknown.headers


def test_without_script_the_page_refreshes_itself(node, ask):
    with served(node) as (url, _):
        page = ask(url).data.decode()
    assert '<noscript><meta http-equiv="refresh" content="15"></noscript>' in page
    for panel in PANELS:
        assert page.count(f'id="panel-{panel}"') == 1


def test_every_answer_has_the_security_headers(node, ask):
    with served(node) as (url, _):
        for path in PATHS:
            answer = ask(url + path)
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path


def test_a_fault_of_the_page_answers_500_with_the_security_headers(node, ask):
    node.document = {"now": "not a time"}
    with served(node) as (url, _):
        answer = ask(url)
    assert (answer.status, b"node itself goes on" in answer.data) == (500, True)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_a_panel_that_fails_leaves_the_others(node, ask):
    node.document["feeds"] = [{"name": "half a feed"}]
    with served(node) as (url, _):
        page = ask(url).data.decode()
    assert "This part cannot be shown" in page
    assert "11,219" in page


def test_at_most_five_other_items_are_listed(node, ask):
    silent = [{**FACTS["feeds"][0], "name": f"ward-{n}", "last_seen": "2026-11-01T00:00:00.000Z"} for n in range(9)]
    node.document = status(feeds=silent)
    with served(node) as (url, _):
        page = ask(url).data.decode()
    assert page.count('<p class="what">') == 5
    assert "and 3 more" in page


def panel(page, name):
    return re.search(rf'<section id="panel-{name}".*?</section>', page, re.DOTALL)[0]


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_alarms_of_one_code_are_told_apart_by_what_they_are_of(node, ask, lang):
    node.document = status([alarm("NOD-31", "his"), alarm("NOD-31", "lab"), alarm("SYN-23")])
    with served(node) as (url, _):
        page = ask(f"{url}/?lang={lang}").data.decode()
    assert re.findall('class="subject">(.*?)<', panel(page, "attention")) == ["his", "lab"]
    assert "VRD-38" in panel(page, "verdict")
    assert "SYN-23" in panel(page, "verdict")
    assert 'class="verdict is-attention"' in page


def test_the_alarm_that_the_headline_names_is_not_listed_once_more(node, ask):
    node.document = status([alarm("MQT-10", "vitals"), alarm("MQT-10", "fridges")])
    with served(node) as (url, _):
        page = ask(url).data.decode()
    assert "Something needs attention (vitals): The MQTT broker is not reached" in panel(page, "verdict")
    assert "Check its machine, its port and the cable" in panel(page, "verdict")
    assert re.findall('class="subject">(.*?)<', panel(page, "attention")) == ["fridges"]


def test_a_source_that_gives_no_values_is_shown_with_its_feed_until_it_gives_some_again(node, ask):
    document = status()
    gap = {"code": "MOD-01", "subject": "fridge-1", "since": document["now"], "until": None, "count": 3}
    pages = {}
    for until in (None, document["now"]):
        document["feeds"][0]["gap"] = {**gap, "until": until}
        node.document = document
        with served(node) as (url, _):
            pages[until] = ask(f"{url}/?lang=en").data.decode() + ask(f"{url}/?lang=ar").data.decode()
    assert "no values from fridge-1" in pages[None]
    assert "لا قيم من fridge-1" in pages[None]
    assert "fridge-1" not in pages[document["now"]]


def test_codes_are_explained_by_the_catalogue_that_is_passed_in(node, ask):
    with served(node, describe=lambda code, lang: f"{code} explained in {lang}") as (url, _):
        assert "HL7-04 explained in ar" in ask(f"{url}/?lang=ar").data.decode()


def test_old_data_is_never_shown_as_the_present(node, ask):
    clock = Clock()
    with served(node, now=clock) as (url, _):
        fresh = ask(url).data.decode()
        node.error, clock.seconds = OSError("disk"), 11.0
        old, document = ask(url).data.decode(), ask(f"{url}/api/status")
    assert "data-stale" not in re.search("<html.*?>", fresh)[0]
    assert "data-stale" in re.search("<html.*?>", old)[0]
    assert "Updated 11 s ago" in old
    assert document.status == 503


def test_the_status_document_is_passed_on_unchanged(node, ask):
    with served(node) as (url, _):
        assert ask(f"{url}/api/status").json() == node.document


def test_many_viewers_cost_one_reading(node, ask):
    with served(node, now=Clock()) as (url, _), ThreadPoolExecutor(16) as crowd:
        assert {answer.status for answer in crowd.map(ask, [url] * 40)} == {200}
    assert node.reads == 1


def test_the_page_works_where_no_status_was_ever_read(node, ask):
    node.error = OSError("no outbox")
    with served(node) as (url, _):
        page = ask(url)
        assert (page.status, ask(f"{url}/healthz").data, ask(f"{url}/api/status").status) == (200, b"ok\n", 503)
    assert "VRD-49" in page.data.decode()
    assert "data-stale" in page.data.decode()


def test_a_source_that_hangs_holds_up_nobody(node, ask, monkeypatch):
    monkeypatch.setattr(source, "WAIT_SECONDS", 0.05)
    release = threading.Event()
    node.status = lambda: release.wait(20) and status()
    with served(node) as (url, _):
        try:
            assert "VRD-49" in ask(url).data.decode()
            assert ask(f"{url}/healthz").status == 200
        finally:
            release.set()


def test_ready_means_that_core_says_it_can_commit_and_sign(node, ask):
    clock = Clock()
    with served(node, now=clock) as (url, _):
        yes = ask(f"{url}/readyz")
        node.ready, clock.seconds = (False, "signing key missing"), 5.0
        no = ask(f"{url}/readyz")
    assert (yes.status, yes.json()) == (200, {"ready": True, "reason": ""})
    assert (no.status, no.json()) == (503, {"ready": False, "reason": "signing key missing"})


def test_a_core_that_no_longer_answers_is_not_ready_though_it_was(node, ask):
    clock = Clock()
    with served(node, now=clock) as (url, _):
        assert ask(f"{url}/readyz").status == 200
        node.probe_error, clock.seconds = ConnectionRefusedError("control socket"), 5.0
        answer = ask(f"{url}/readyz")
    assert (answer.status, answer.json()["reason"]) == (503, "core does not answer")


def test_metrics_are_prometheus_text(node, ask):
    with served(node) as (url, _):
        answer = ask(f"{url}/metrics")
    assert answer.data == b"wasl_records_total 12424\n"
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


PAYLOAD = "\"><img src=x id=hostile onerror=alert(1)><script>alert(1)</script><b hx-get=/x hx-trigger=load>'{{7*7}}"


def poisoned(value):
    """Every string that a peer or a file may choose, replaced."""
    if isinstance(value, dict):
        return {key: poisoned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    is_ours = not isinstance(value, str) or re.match(r"\d{4}-\d\d-\d\dT|down$", value)
    return value if is_ours else PAYLOAD


def hostile_status():
    document = poisoned(waiting())
    document["streams"][0]["halted"] = {"code": PAYLOAD}
    document |= decide(document).document()
    document["alarms"].append({"code": PAYLOAD, "since": None, "params": {"feed": PAYLOAD, "subject": PAYLOAD}})
    return document


def hostile_alarm():
    """A node that is well but for an alarm, of which every word is hostile."""
    document = status([alarm("MQT-10", PAYLOAD), alarm("MQT-10", PAYLOAD[:-1])])
    document["verdict"]["params"] |= {"cause": PAYLOAD, "hint": PAYLOAD}
    return document


class Tags(HTMLParser):
    """The elements and attribute names of a document."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attrs):
        self.seen |= {tag, *(f"{tag}[{name}]" for name, _ in attrs)}


@pytest.mark.parametrize(("made", "places"), [(hostile_status, 20), (hostile_alarm, 4)])
def test_a_hostile_string_stays_text(node, ask, made, places):
    node.document = made()
    with served(node) as (url, _), stream_of(url) as events:
        page, fragments = ask(url).data.decode(), next(events)[1]
    assert page.count("&lt;img") > places
    for html in (page, fragments):
        tags = Tags()
        tags.feed(html)
        assert not {"img", "b", "img[onerror]", "b[hx-get]"} & tags.seen
        assert "{{7*7}}" in html
