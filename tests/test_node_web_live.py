"""The stream of changes: what a viewer gets, when, and how many may watch."""

import re
from pathlib import Path

import pytest
import urllib3

from node.web import app as web_app
from node.web import live, source
from node.web.page import PANELS, STALE_SECONDS
from tests.sim_status import Clock, Node, served, status, stream_of, wait_until

PAGE_JS = Path(live.__file__).parent / "static/page.js"


@pytest.fixture
def node():
    return Node(status())


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(live, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(live, "PULSE_SECONDS", 0.0)
    monkeypatch.setattr(source, "FRESH_SECONDS", 0.01)


def parts(data):
    return re.findall(r'hx-target="#panel-(\w+)"', data)


def first_change(events):
    return next(data for _, data in events if parts(data) != ["pulse"])


def knock(url):
    with urllib3.PoolManager(retries=False, timeout=20) as pool:
        answer = pool.request("GET", f"{url}/events", preload_content=False)
        answer.close()
    return answer


@pytest.mark.usefixtures("quick")
def test_the_stream_sends_all_panels_once_then_only_what_changed(node):
    with served(node) as (url, _), stream_of(url) as events:
        first, second = next(events)[1], next(events)[1]
        node.document = status(disk={"used_bytes": 3 * 10**9})
        changed = first_change(events)
    assert parts(first) == [*PANELS, "pulse"]
    assert parts(second) == ["pulse"]
    assert parts(changed) == ["storage", "pulse"]


@pytest.mark.usefixtures("quick")
def test_a_returning_viewer_gets_only_what_it_missed(node):
    with served(node) as (url, _):
        with stream_of(url) as events:
            seen = next(events)[0]
        node.document = status(disk={"used_bytes": 3 * 10**9})
        with stream_of(url, **{"Last-Event-ID": seen}) as events:
            missed = first_change(events)
        with stream_of(url, **{"Last-Event-ID": "another-life"}) as events:
            stranger = next(events)[1]
    assert parts(missed) == ["storage", "pulse"]
    assert parts(stranger) == [*PANELS, "pulse"]


@pytest.mark.usefixtures("quick")
def test_a_stream_speaks_the_language_of_its_page(node):
    with served(node) as (url, _), stream_of(url, "?lang=ar") as events:
        assert "المستلَمة" in next(events)[1]


@pytest.mark.usefixtures("quick")
def test_a_silent_source_gives_comments_and_no_pulse(node, monkeypatch):
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    node.error = OSError("no outbox")
    with served(node) as (url, _), stream_of(url) as events:
        assert [next(events) for _ in range(3)] == [(None, ": ping")] * 3


@pytest.mark.usefixtures("quick")
def test_a_stream_ends_after_ten_minutes(node):
    clock = Clock()
    with served(node, now=clock) as (url, _), stream_of(url) as events:
        next(events)
        clock.seconds = live.STREAM_SECONDS
        assert len(list(events)) <= 1
    assert live.STREAM_SECONDS == 600


def test_a_pulse_comes_well_before_data_counts_as_old():
    assert live.PULSE_SECONDS + live.TICK_SECONDS + source.FRESH_SECONDS + source.WAIT_SECONDS < STALE_SECONDS
    assert f"STALE_SECONDS = {STALE_SECONDS};" in PAGE_JS.read_text()


def test_one_viewer_too_many_is_told_to_come_later(node, monkeypatch):
    monkeypatch.setattr(web_app, "VIEWERS_MAX", 1)
    with served(node) as (url, _), stream_of(url) as events:
        next(events)
        answer = knock(url)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "30")


@pytest.mark.usefixtures("quick")
def test_a_viewer_that_leaves_frees_its_place(node, monkeypatch):
    monkeypatch.setattr(web_app, "VIEWERS_MAX", 1)
    with served(node) as (url, _):
        with stream_of(url) as events:
            next(events)
        wait_until(lambda: knock(url).status == 200)
