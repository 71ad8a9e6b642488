"""The technician's page in a real browser: both languages, both themes, narrow and wide, with the node coming and going."""

import os
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.sim_status import FACTS, Node, ago, served, status, stream, wait_until, waiting
from tests.test_node_web_page import hostile_status

CHROMIUM = "/usr/bin/chromium"
SHOTS = os.environ.get("WASL_SHOTS")  # a folder: where given, each page that is looked at is also kept as a picture
BYTES_MAX = 60_000
TARGET_PX = 44
WIDTHS_PX = (320, 360, 800, 1280)
BANNER_MS = 30_000  # the banner comes after 10 s; a busy machine may be late

BUSY = {
    "feeds": [FACTS["feeds"][0], {**FACTS["feeds"][1], "running": False}, {**FACTS["feeds"][2], "last_seen": ago(days=2)}],
    "streams": [stream("his", 12_423, receipted=11_219, waiting=1_204, waiting_bytes=16_700_000, oldest_waiting_at=ago(minutes=12)),
                stream("a-stream-with-a-very-long-name-that-must-not-widen-the-page", 9, halted={"code": "SYN-07"})],
}  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing")
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser, url, *, lang="en", **options):
    """A page, closed to all but its own server, and the list of what must not happen."""
    context = browser.new_context(**options)
    page, wrongs = context.new_page(), []
    own = re.compile(rf"{re.escape(url)}/")
    context.route(
        lambda address: not own.match(address), lambda route: (wrongs.append(route.request.url), route.abort())
    )
    page.on("console", lambda message: wrongs.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrongs.append(str(error)))
    page.on("dialog", lambda dialog: (wrongs.append(dialog.message), dialog.dismiss()))
    page.goto(f"{url}/?lang={lang}")
    try:
        yield page, wrongs
    finally:
        context.close()


def live(page):
    """Wait until the stream has brought something."""
    wait_until(
        lambda: page.evaluate("!!document.getElementById('live')._htmx?.sse?.lastEventId")
    )  # never eval in the page: its policy forbids it


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("lang", ["en", "ar"])
def test_the_page_fits_every_width_and_is_silent(browser, lang, theme):
    with (
        served(Node(waiting(**BUSY))) as (url, _),
        opened(browser, url, lang=lang, color_scheme=theme) as (page, wrongs),
    ):
        live(page)
        assert page.evaluate("document.documentElement.dir") == {"en": "ltr", "ar": "rtl"}[lang]
        for width in WIDTHS_PX:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for target in page.locator("a:visible:not(.skip), button:visible").all():
                box = target.bounding_box()
                assert min(box["width"], box["height"]) >= TARGET_PX
            if SHOTS:
                page.screenshot(path=f"{SHOTS}/page-{lang}-{theme}-{width}.png", full_page=True)
        assert wrongs == []


def test_a_change_at_the_node_reaches_the_open_page(browser):
    node = Node(status())
    with served(node) as (url, _), opened(browser, url) as (page, wrongs):
        live(page)
        expect(page).to_have_title("OK · Wadi Test Health Centre")
        node.document = waiting()
        expect(page.locator("#verdict-text")).to_have_text("Link down 12 min, 1,204 records safe here, room for 8 days")
        expect(page.locator("#panel-state")).to_have_text("State of the node: Waiting")
        expect(page).to_have_title("Waiting · Wadi Test Health Centre")
        expect(page.locator(".verdict")).to_have_class("verdict is-waiting")
        expect(page.locator("#stale")).to_be_hidden()
        assert wrongs == []


@pytest.mark.parametrize("late", ["htmx.min.js", "hx-sse.min.js", "page.js"])
def test_the_stream_opens_whichever_script_comes_late(browser, late):
    with served(Node(status())) as (url, _):
        context = browser.new_context()
        page = context.new_page()
        context.route(re.compile(re.escape(late)), lambda route: (time.sleep(0.5), route.continue_()))
        page.goto(f"{url}/?lang=en")
        live(page)
        context.close()


def test_a_page_whose_first_stream_was_refused_asks_again(browser):
    with served(Node(status())) as (url, _):
        context = browser.new_context()
        page, refused = context.new_page(), []
        page.route(
            re.compile("/events"),
            lambda route: route.fallback() if refused else (refused.append(1), route.fulfill(status=503)),
        )
        page.goto(f"{url}/?lang=en")
        # only while Playwright waits are routes served, so the wait is Playwright's; only the second request can make it live
        wait_until(lambda: page.wait_for_timeout(20) or refused)
        live(page)
        context.close()


def test_a_hostile_string_creates_no_node_and_runs_nothing(browser):
    node = Node(status())
    with served(node) as (url, _), opened(browser, url) as (page, wrongs):
        live(page)
        node.document = hostile_status()  # by the stream first, then in a whole page
        expect(page.locator("h1")).to_have_text("Wadi Test Health Centre")
        expect(page.locator("#panel-feeds .name").first).to_contain_text("<img src=x id=hostile")
        for _ in ("stream", "page"):
            assert page.locator("#hostile, img, b, [hx-get], main script").count() == 0
            page.reload()
            live(page)
        assert wrongs == []


def test_data_that_grows_old_under_an_open_stream_is_marked_until_it_is_fresh(browser):
    node = Node(status())
    with served(node) as (url, _), opened(browser, url) as (page, wrongs):
        live(page)
        page.evaluate("window.mark = 'not reloaded'")
        node.error = OSError("outbox gone")  # the stream lives, the data does not
        expect(page.locator("#stale")).to_be_visible(timeout=BANNER_MS)
        expect(page.locator(".state")).to_contain_text("Last known: OK")
        node.error, node.document = None, waiting()
        expect(page.locator("#stale")).to_be_hidden(timeout=BANNER_MS)
        expect(page.locator("#verdict-text")).to_contain_text("1,204 records safe here")
        assert page.evaluate("window.mark") == "not reloaded"
        assert wrongs == []


def test_a_page_outlives_a_restart_of_its_server(browser):
    node = Node(status())
    with served(node) as (url, port):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/?lang=en")
        live(page)
        page.evaluate("window.mark = 'not reloaded'")
    expect(page.locator("#stale")).to_be_visible(timeout=BANNER_MS)
    node.document = waiting()
    with served(node, port):
        expect(page.locator("#stale")).to_be_hidden(timeout=BANNER_MS)
        expect(page.locator("#verdict-text")).to_contain_text("1,204 records safe here")
        assert page.evaluate("window.mark") == "not reloaded"
        context.close()


def test_paused_updates_wait_for_the_reader(browser):
    node = Node(status())
    with served(node) as (url, _), opened(browser, url) as (page, wrongs):
        live(page)
        page.get_by_role("button", name="Pause updates").click()
        expect(page.locator("#stale")).to_contain_text("Updates are paused.")
        node.document = waiting()
        page.wait_for_timeout(2500)
        expect(page.locator("#verdict-text")).to_contain_text("12,424 records receipted")
        page.get_by_role("button", name="Pause updates").click()
        expect(page.locator("#verdict-text")).to_contain_text("1,204 records safe here")
        expect(page.locator("#stale")).to_be_hidden()
        assert wrongs == []


def test_the_page_is_complete_without_script(browser):
    with (
        served(Node(waiting())) as (url, _),
        opened(browser, url, lang="ar", java_script_enabled=False) as (page, wrongs),
    ):
        expect(page.locator("#verdict-text")).to_contain_text("الوصلة منقطعة")
        expect(page.locator("#panel-feeds tbody tr")).to_have_count(3)
        expect(page.locator("#pause")).to_be_hidden()
        assert wrongs == []


def test_the_language_is_one_tap_away_and_stays(browser):
    with served(Node(status())) as (url, _), opened(browser, url) as (page, wrongs):
        page.get_by_role("link", name="العربية").click()
        expect(page.locator("html")).to_have_attribute("dir", "rtl")
        page.goto(url)
        expect(page.locator("html")).to_have_attribute("lang", "ar")
        assert wrongs == []


@contextmanager
def framing(url):
    """Another server of the loopback address, whose page shows ours in a frame."""

    class Demo(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<iframe src="{url}/?lang=en"></iframe>'.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Demo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_the_demo_may_show_the_page_in_a_frame(browser):
    with served(Node(status())) as (url, _), framing(url) as demo:
        context = browser.new_context()
        page = context.new_page()
        page.goto(demo)
        expect(page.frame_locator("iframe").locator("#verdict-text")).to_contain_text("Link up")
        context.close()


def test_the_first_load_in_a_browser_fits_its_weight(browser):
    with served(Node(waiting())) as (url, _):
        context = browser.new_context()
        page, sizes, names = context.new_page(), {}, {}
        wire = context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.on("Network.requestWillBeSent", lambda event: names.update({event["requestId"]: event["request"]["url"]}))
        wire.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
        page.goto(f"{url}/?lang=ar")
        live(page)
        context.close()
    assert len(sizes) >= 5
    assert sum(sizes.values()) <= BYTES_MAX, {names[key]: size for key, size in sizes.items()}
